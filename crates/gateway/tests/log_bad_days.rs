//! The request log on bad days: the process is killed while it writes, the disk is full.
//!
//! Both need a process of their own, so each test starts itself once more with a variable in the environment that says
//! where to write; killed by its own process id, limited by its own file size limit.

#[path = "log/rows.rs"]
#[allow(dead_code, reason = "shared by tests and benchmarks, each of which uses its part")]
mod rows;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use handover_gateway::log::{Filter, IdSource, LogReader, LogSettings, RequestLog};
use rows::{failed_over, ok, policy};

/// Says where the child writes.
const CHILD: &str = "HANDOVER_LOG_TEST_CHILD";
/// Long enough for a loaded machine; nothing waits that long when all is well.
const LIMIT: Duration = Duration::from_secs(60);
/// The worker's tick.
const TICK: Duration = Duration::from_millis(100);

fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64
}

/// Where to write, in the child.
fn child_dir() -> Option<PathBuf> {
    std::env::var_os(CHILD).map(PathBuf::from)
}

/// Starts this test once more as the child.
fn spawn(test: &str, dir: &Path) -> Child {
    let program = std::env::current_exe().expect("this program has a path");
    let mut command = Command::new(program);
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(CHILD, dir).stdout(Stdio::piped());
    command.spawn().expect("this program can be started")
}

/// Says something to the parent.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "child: {text}").and_then(|()| out.flush()).expect("the parent listens");
}

/// What the child says, line by line.
fn heard(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
    // The harness does not end its own line before the test's first.
    lines.filter_map(|line| line.split_once("child: ").map(|(_, text)| text.to_owned()))
}

/// Pushes numbered rows until it is killed, one each `pace`, and says at each tick how many there are.
fn write_until_killed(dir: &Path, pace: Option<Duration>) -> ! {
    let log = RequestLog::start(dir, LogSettings::default()).expect("the directory is writable");
    let (mut sender, mut ids, policy) = (log.sender(), IdSource::new(0), policy());
    let first = LogReader::open(dir).and_then(|reader| reader.newest()).expect("readable");
    let mut number = first.map_or(0, |entry| entry.account.parse::<u64>().expect("a number") + 1);
    let mut ticked = Instant::now();
    loop {
        let mut row = failed_over(ids.next(now_ns()).0, &policy);
        row.account = number.to_string().into();
        sender.push(row);
        number += 1;
        if ticked.elapsed() >= TICK {
            ticked = Instant::now();
            sender.flush();
            say(&number.to_string());
        }
        // Numbers must be without a gap, so nothing may be dropped.
        if log.stats().queue_rows > LogSettings::default().queue_rows_max / 2 {
            log.settle(LIMIT);
        }
        // Not to wait for anything: to leave the other processor to the writer.
        pace.inspect(|pace| thread::park_timeout(*pace));
    }
}

/// Opens what the killed child left, and checks that the rows are whole and without a gap. Returns when the newest of
/// them started.
fn intact_until(dir: &Path) -> u64 {
    let reader = LogReader::open(dir).expect("it opens");
    let newest = reader.newest().expect("readable").expect("some rows were written");
    assert_eq!(newest.replay().expect("whole"), Ok(()));
    let database = rusqlite::Connection::open(dir.join("requests.db")).expect("it opens");
    let count = "SELECT count(*), count(DISTINCT account), min(json_array_length(attempts)) FROM requests";
    let found: (u32, u32, u32) =
        database.query_row(count, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).expect("readable");
    let numbers = newest.account.parse::<u32>().expect("a number") + 1;
    assert_eq!(found, (numbers, numbers, 2), "rows, numbers, attempts of each");
    let check: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("readable");
    assert_eq!(check, "ok");
    newest.id.started_ns()
}

#[test]
fn a_kill_while_writing_costs_at_most_the_last_second() {
    if let Some(dir) = child_dir() {
        write_until_killed(&dir, Some(Duration::from_micros(200)));
    }
    let dir = tempfile::tempdir().expect("there is a temporary directory");
    let mut child = spawn("a_kill_while_writing_costs_at_most_the_last_second", dir.path());
    // Twelve ticks: more than a second, so that there is something that must not be missing.
    assert_eq!(heard(&mut child).take(12).count(), 12);
    let killed = now_ns();
    child.kill().expect("it runs");
    child.wait().expect("it was started");
    let until = intact_until(dir.path());
    let missing = Duration::from_nanos(killed.saturating_sub(until));
    assert!(missing < Duration::from_secs(1), "the last {missing:?} are missing");
}

#[test]
fn a_log_that_was_killed_again_and_again_opens_and_goes_on() {
    if let Some(dir) = child_dir() {
        write_until_killed(&dir, None);
    }
    let dir = tempfile::tempdir().expect("there is a temporary directory");
    for round in 0..4 {
        let mut child = spawn("a_log_that_was_killed_again_and_again_opens_and_goes_on", dir.path());
        // Each round is killed at another point of its flush.
        let said = heard(&mut child).take(4 + round).last();
        child.kill().expect("it runs");
        child.wait().expect("it was started");
        assert!(said.is_some(), "the child of round {round} wrote");
        intact_until(dir.path());
    }
}

/// The child: fills the disk as far as its file size limit goes, then lifts the limit.
fn write_into_a_limit(dir: &Path) {
    // Beyond the limit the system sends a signal that kills, unless it is caught; then writes fail with EFBIG.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
    let _context = runtime.enter();
    let signal = tokio::signal::unix::SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
    let _caught = tokio::signal::unix::signal(signal).expect("it can be caught");
    let settings = LogSettings { retention_age: Duration::MAX, ..LogSettings::default() };
    let log = RequestLog::start(dir, settings).expect("the directory is writable");
    let (mut sender, mut ids, policy) = (log.sender(), IdSource::new(0), policy());
    let mut push = |rows: u64| {
        (0..rows).for_each(|_| sender.push(ok(ids.next(now_ns()).0, &policy)));
        sender.flush();
        assert!(log.settle(LIMIT));
        log.stats()
    };
    assert_eq!(push(100).written, 100);

    let unlimited = rustix::process::getrlimit(rustix::process::Resource::Fsize);
    let written = std::fs::metadata(dir.join("requests.db-wal")).expect("it is there").len();
    let limit = rustix::process::Rlimit { current: Some(written + 100_000), ..unlimited };
    rustix::process::setrlimit(rustix::process::Resource::Fsize, limit).expect("lowering is allowed");
    let full = push(5000);
    assert_eq!((full.written, full.dropped_disk, full.queue_rows), (100, 5000, 0), "{full:?}");
    assert!(full.last_error.is_some());

    rustix::process::setrlimit(rustix::process::Resource::Fsize, unlimited).expect("up to the hard limit");
    let before = log.stats().written;
    let resumed = push(1000);
    assert_eq!((resumed.written - before, resumed.last_error), (1000, None));
    assert_eq!(resumed.dropped_queue_full, 0);
    let all = LogReader::open(dir).and_then(|reader| reader.list(&Filter { limit: 100_000, ..Filter::default() }));
    assert_eq!(all.expect("readable").items.len() as u64, resumed.written);
    say("resumed");
}

#[test]
fn a_full_disk_costs_rows_that_are_counted_and_logging_resumes() {
    if let Some(dir) = child_dir() {
        return write_into_a_limit(&dir);
    }
    let dir = tempfile::tempdir().expect("there is a temporary directory");
    let mut child = spawn("a_full_disk_costs_rows_that_are_counted_and_logging_resumes", dir.path());
    assert_eq!(heard(&mut child).collect::<Vec<_>>(), ["resumed"]);
    assert!(child.wait().expect("it was started").success());
    let database = rusqlite::Connection::open(dir.path().join("requests.db")).expect("it opens");
    let check: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("readable");
    assert_eq!(check, "ok");
}
