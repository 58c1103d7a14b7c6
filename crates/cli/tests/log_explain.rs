//! `handover log` and `handover explain` as a user runs them, over logs whose decisions are real sessions'.

#[path = "../../gateway/tests/log/rows.rs"]
#[allow(dead_code, reason = "shared by tests and benchmarks, each of which uses its part")]
mod rows;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use handover_core::{
    Action, Facts, Failure, Fault, Outcome, Policy, PolicyParts, Record, Replay, Session, Stage, StatusSet, Unlimited,
};
use handover_gateway::log::{Door, LogSettings, RequestId, RequestLog, Row};
use rows::{NEW_YEAR, answered, broke, failed_over, ok, policy, record, refused, row};
use tempfile::TempDir;

/// Long enough for a loaded machine.
const LIMIT: Duration = Duration::from_secs(30);

/// The id of the `n`-th millisecond of the year.
fn at(n: u64) -> RequestId {
    RequestId::first_at(NEW_YEAR + n * 1_000_000)
}

fn start(dir: &Path) -> RequestLog {
    let settings = LogSettings { retention_age: Duration::MAX, ..LogSettings::default() };
    RequestLog::start(dir, settings).expect("the directory is writable")
}

/// A log with these rows, closed.
fn written(rows: impl IntoIterator<Item = Row>) -> TempDir {
    let dir = tempfile::tempdir().expect("there is a temporary directory");
    let mut log = start(dir.path());
    let mut sender = log.sender();
    rows.into_iter().for_each(|row| sender.push(row));
    drop(sender);
    log.shutdown(LIMIT);
    dir
}

/// Three requests: one that was answered, one that failed over, one that no node could take.
fn three() -> TempDir {
    let policy = policy();
    let mut first = ok(at(1).0, &policy);
    first.door = Door::Reverse;
    let mut last = row(at(3), &policy, record(&policy, Facts::default(), 9, &[refused(), refused(), refused()]));
    (last.door, last.target_host, last.target_url) = (Door::Connect, "example.com:443".into(), "".into());
    last.http_method = http::Method::CONNECT;
    last.account = "Tom\x1b[2J".into();
    written([first, failed_over(at(2).0, &policy), last])
}

fn handover(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_handover"));
    command.args(arguments).arg("--data-dir").arg(dir);
    command.env("LC_ALL", "C.UTF-8").env_remove("COLUMNS").env_remove("NO_COLOR");
    command
}

/// Exit code, stdout, stderr.
fn run(dir: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = handover(dir, arguments).output().expect("the program can be started");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// What stdout shows of a command that succeeds.
fn shown(dir: &Path, arguments: &[&str]) -> String {
    let (code, stdout, stderr) = run(dir, arguments);
    assert_eq!((code, &*stderr), (Some(0), ""), "{stdout}");
    stdout
}

#[test]
fn the_table_shows_each_request_with_its_attempts_newest_last() {
    let dir = three();
    let table = shown(dir.path(), &["log"]);
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 4, "{table}");
    assert!(lines[0].starts_with("TIME (UTC)") && lines[0].ends_with("ATTEMPTS"), "{table}");
    assert!(lines[1].starts_with("2026-01-01 00:00:00.000  ") && lines[1].contains("  reverse  GET "), "{table}");
    let failed_over = lines[2].split("  ").last().expect("attempts");
    let words: Vec<_> = failed_over.split(' ').collect();
    assert_eq!(words[1..4], ["✗", "refused", "→"], "{table}");
    assert_eq!((words[5], words.len()), ("✓", 6), "{table}");
    assert!(lines[3].contains("  connect  CONNECT  example.com:443 "), "{table}");
    assert_eq!(lines[3].matches("✗ refused").count(), 3, "{table}");
    assert!(!table.contains('\x1b'), "colours are for terminals");
    let column = |line: &str| line.chars().take_while(|c| *c != 'h' && *c != 'e').count();
    assert_eq!(
        column(lines[1].split_once("GET").expect("method").1),
        column(lines[2].split_once("GET").expect("method").1)
    );
}

/// What stdout shows of a command that succeeds on a terminal of this width.
fn shown_within(columns: usize, dir: &Path, arguments: &[&str]) -> String {
    let output = handover(dir, arguments).env("COLUMNS", columns.to_string()).output().expect("it can be started");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(output.status.success(), "{text}");
    let width = text.lines().map(|line| line.chars().count()).max().unwrap_or_default();
    assert!(width <= columns, "{width} of {columns}:\n{text}");
    text
}

#[test]
fn the_table_fits_the_terminal_and_never_cuts_an_id_or_how_it_ended() {
    let dir = three();
    for columns in [60, 80, 100, 120, 200] {
        let table = shown_within(columns, dir.path(), &["log"]);
        let row = |n| table.lines().find(|line| line.contains(&at(n).to_string())).expect("a row with the whole id");
        assert!(row(1).contains(" 200  ") && row(1).contains(" ms  "), "{table}");
        assert!(row(1).ends_with(" ✓") && row(2).ends_with(" ✓"), "{table}");
        assert!(row(2).contains('✗') || columns == 60, "{table}");
        assert!(row(3).ends_with(if columns == 60 { " ✗" } else { " ✗ refused" }), "{table}");
        assert!(columns == 60 || row(3).contains("example"), "{table}");
        assert!(columns < 100 || row(3).contains("CONNECT"), "{table}");
    }
    let table = shown_within(80, dir.path(), &["log"]);
    assert_eq!(table.lines().nth(1), Some("2026-01-01"), "{table}");
    assert!(table.lines().nth(2).is_some_and(|row| row.starts_with("00:00:00.000  ")), "{table}");
    assert_eq!(table.lines().count(), 5, "{table}");
}

#[test]
fn the_day_stands_above_its_rows_where_a_row_has_no_room_for_it() {
    let policy = policy();
    let day = 86_400_000;
    let dir = written([1, 2, day, day + 1].map(|n| ok(at(n).0, &policy)));
    let table = shown_within(80, dir.path(), &["log"]);
    let days: Vec<_> = table.lines().map(|line| line.starts_with("2026-01-0")).collect();
    assert_eq!(days, [false, true, false, false, true, false, false], "{table}");
    assert!(table.contains("METHOD") && !table.contains("DOOR"), "{table}");
}

#[test]
fn the_story_is_broken_between_words() {
    let dir = three();
    let whole = shown(dir.path(), &["explain", &at(2).to_string()]);
    let words = |text: &str| -> Vec<String> {
        text.split_once("\n1. ").expect("the first attempt").1.split_whitespace().map(Into::into).collect()
    };
    for columns in [60, 80] {
        let story = shown_within(columns, dir.path(), &["explain", &at(2).to_string()]);
        assert_eq!(words(&story), words(&whole), "{story}");
    }
    let story = shown_within(80, dir.path(), &["explain", &at(2).to_string()]);
    assert!(story.contains("so another\n     endpoint may have it\n"), "{story}");
}

#[test]
fn an_answer_that_is_no_success_has_no_sign_of_one() {
    let parts = PolicyParts {
        dial_stagger: None,
        replay: Replay::Always,
        retry_statuses: StatusSet::from_iter([500]),
        max_attempts: 2,
        ..PolicyParts::default()
    };
    let policy = Arc::new(Policy::try_new(parts).expect("valid"));
    let of = |n: u64, script: &[Outcome]| row(at(n), &policy, record(&policy, Facts::default(), at(n).0, script));
    let dir = written([of(1, &[answered(500), answered(500)]), of(2, &[answered(404)]), of(3, &[answered(304)])]);
    let table = shown(dir.path(), &["log"]);
    let attempts: Vec<_> = table.lines().skip(1).map(|line| line.rsplit("  ").next().expect("attempts")).collect();
    let is_like = |shown: &str, parts: [&str; 2]| shown.contains(parts[0]) && shown.ends_with(parts[1]);
    assert!(is_like(attempts[0], [" ✗ 500 → eu-", " 500"]) && !attempts[0].contains('✓'), "{table}");
    assert_eq!(attempts[0].matches('✗').count(), 1, "the second answer is the client's: {table}");
    assert!(is_like(attempts[1], ["eu-", " 404"]) && is_like(attempts[2], ["eu-", " ✓"]), "{table}");
    let story = shown(dir.path(), &["explain", &at(1).to_string()]);
    assert!(story.contains("✗ 500") && story.contains("ms  500\n") && !story.contains('✓'), "{story}");
}

#[test]
fn filters_select_and_say_when_nothing_passes() {
    let dir = three();
    let ids = |arguments: &[&str]| -> Vec<u64> {
        let lines = shown(dir.path(), &[&["log", "--json"], arguments].concat());
        let values = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
        let id = |value: serde_json::Value| value["id"].as_str().expect("text").parse::<RequestId>().expect("an id");
        values.map(|value| (id(value).0 - at(0).0).div_ceil(1_000_000)).collect()
    };
    assert_eq!(ids(&[]), [1, 2, 3]);
    assert_eq!(ids(&["--failed"]), [3]);
    assert_eq!(ids(&["--retried"]), [2, 3]);
    assert_eq!(ids(&["--limit", "1"]), [3]);
    assert_eq!(ids(&["--status", "502"]), [3]);
    assert_eq!(ids(&["--target", "EXAMPLE.com:", "--fuzzy"]), [3]);
    assert_eq!(ids(&["--account", "tom", "--fuzzy"]), [3]);
    assert_eq!(ids(&["--since", "2026-01-01T00:00:00.0015Z", "--until", "2026-01-01T00:00:00.0025Z"]), [2]);
    assert_eq!(ids(&["--since", "2026-01-01", "--until", "2026-01-02"]), [1, 2, 3]);
    assert_eq!(ids(&["--since", "2026-01-02"]), [0; 0]);
    assert_eq!(ids(&["--status", "0"]), [0; 0]);
    assert_eq!(ids(&["--platform", "nobody"]), [0; 0]);
    assert!(shown(dir.path(), &["log", "--since", "1m"]).contains("no request passes"));
    let (code, _, stderr) = run(dir.path(), &["log", "--since", "tomorrow"]);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("10m"), "{stderr}");
    let (code, _, stderr) = run(dir.path(), &["log", "--status", "99"]);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("0 for no response"), "{stderr}");
}

#[test]
fn status_0_lists_the_requests_that_got_no_response() {
    let policy = policy();
    let mut left = ok(at(2).0, &policy);
    left.http_status = 0;
    let dir = written([ok(at(1).0, &policy), left]);
    let lines = shown(dir.path(), &["log", "--json", "--status", "0"]);
    assert_eq!(lines.lines().count(), 1, "{lines}");
    assert!(lines.contains(&at(2).to_string()), "{lines}");
    let help = shown(dir.path(), &["log", "--help"]);
    assert!(help.contains("0 for those that got no response") && help.contains("2026-01-02"), "{help}");
}

#[test]
fn a_log_without_requests_and_a_directory_without_a_log_say_what_to_do() {
    let dir = written([]);
    assert!(shown(dir.path(), &["log"]).contains("curl -x"));
    assert_eq!(shown(dir.path(), &["log", "--json"]), "");
    assert_eq!(run(dir.path(), &["explain", "last"]).0, Some(2));
    let empty = tempfile::tempdir().expect("there is a temporary directory");
    for arguments in [&["log"][..], &["explain", "last"]] {
        let (code, stdout, stderr) = run(empty.path(), arguments);
        assert_eq!((code, &*stdout), (Some(4), ""));
        assert!(stderr.contains("start a gateway"), "{stderr}");
    }
}

#[test]
fn following_prints_what_is_written_while_it_runs() {
    let dir = tempfile::tempdir().expect("there is a temporary directory");
    let log = start(dir.path());
    let mut sender = log.sender();
    let policy = policy();
    sender.push(ok(at(1).0, &policy));
    sender.flush();
    assert!(log.settle(LIMIT));
    let mut child =
        handover(dir.path(), &["log", "--follow", "--json"]).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let mut next = || lines.next().expect("it goes on");
    assert!(next().contains(&at(1).to_string()));
    sender.push(failed_over(at(2).0, &policy));
    sender.flush();
    assert!(next().contains(&at(2).to_string()));
    child.kill().expect("it runs");
    child.wait().expect("it was started");
}

#[test]
fn explain_tells_the_failover_and_replays_it() {
    let dir = three();
    let story = shown(dir.path(), &["explain", &at(2).to_string()]);
    for part in [
        &*format!("request {} at 2026-01-01 00:00:00.001 UTC", at(2)),
        "GET http://api.example.com/v1/things?page=2",
        "status 200 after 1.6 ms",
        "✗ refused",
        "✓ 200",
        "failed in stage dial: refused (ECONNREFUSED: connect to 127.0.0.1: connection refused)",
        "sent: no, 0 bytes written",
        "try_next (not_sent): not one byte of the request had left, so another endpoint may have it",
        "done (answered): ",
        "\nreplayed: the same decisions follow from this record\n",
    ] {
        assert!(story.contains(part), "{part}\n{story}");
    }
    // The second bar begins where the first one ends, and each is within the axis.
    let bars: Vec<_> = story.lines().filter(|line| line.contains('░') && line.contains("ms")).collect();
    assert_eq!(bars.len(), 2, "{story}");
    let blank = |line: &str, from: usize| line.chars().skip(from).take_while(|c| *c == ' ').count();
    assert!(blank(bars[1], 10) > 20 && blank(bars[0], 10) == 0, "{story}");
    assert!(story.lines().all(|line| !line.contains("ms") || line.chars().count() <= 100), "{story}");
}

#[test]
fn explain_last_is_the_newest_and_shows_nothing_that_a_terminal_would_obey() {
    let dir = three();
    let story = shown(dir.path(), &["explain", "last"]);
    assert!(story.contains(&at(3).to_string()) && story.contains("UPSTREAM_CONNECT_FAILED"), "{story}");
    assert!(story.contains("account Tom\\u{1b}[2J"), "{story}");
    assert!(!story.contains('\x1b'));
    assert!(story.contains("stop (attempts_exhausted)"), "{story}");
    let mut plain = handover(dir.path(), &["explain", "last"]);
    let plain = plain.env("LC_ALL", "C").output().expect("the program can be started");
    assert!(plain.status.success() && plain.stdout.is_ascii());
}

#[test]
fn a_hedged_dial_is_told_as_a_race_and_not_as_a_failure() {
    let policy = Arc::new(Policy::default());
    let mut session = Session::new(&policy, Facts::default(), at(1).0);
    let (budget, ms) = (&mut Unlimited, Duration::from_millis);
    let first = session.poll(ms(0), &3, budget);
    let beside = session.poll(ms(250), &3, budget);
    assert!(matches!((first, beside), (Action::Try { attempt: 1, .. }, Action::Dial { attempt: 2, .. })));
    session.connected(ms(262), 2);
    let lost = Outcome::Failed(Failure::before_send(Stage::Dial, Fault::LostRace));
    session.finished(ms(262), 1, lost, budget);
    session.finished(ms(300), 2, answered(200), budget);
    let dir = written([row(at(1), &policy, session.into_record())]);
    let story = shown(dir.path(), &["explain", "last"]);
    for part in [
        "– lost_race",
        "given up in stage dial: another one connected first",
        "begun at 250 ms, beside the attempts",
        "✓ 200",
    ] {
        assert!(story.contains(part), "{part}\n{story}");
    }
    assert!(!story.contains('✗'), "{story}");
    let table = shown(dir.path(), &["log"]);
    assert!(table.contains(" – lost_race → ") && !table.contains('✗'), "{table}");
}

#[test]
fn a_request_without_an_attempt_is_told_with_what_ended_it() {
    let policy = policy();
    let mut refused = row(at(1), &policy, Record::new(at(1).0, Facts::default()));
    refused.error = Some("PLATFORM_NOT_FOUND");
    let mut session = Session::new(&policy, Facts::default(), at(2).0);
    session.poll(Duration::ZERO, &0, &mut Unlimited);
    let mut nobody = row(at(2), &policy, session.into_record());
    nobody.error = Some("NO_AVAILABLE_NODES");
    let mut left = row(at(3), &policy, Record::new(at(3).0, Facts::default()));
    (left.error, left.http_status) = (None, 0);
    let dir = written([refused, nobody, left]);
    let story = shown(dir.path(), &["explain", &at(1).to_string()]);
    assert!(story.contains("no attempt was made") && story.contains("nothing to replay"), "{story}");
    for table in [shown(dir.path(), &["log"]), shown_within(80, dir.path(), &["log"])] {
        let ends = ["PLATFORM_NOT_FOUND", "NO_AVAILABLE_NODES", "no attempt"];
        let rows = table.lines().skip_while(|line| !line.contains(&at(1).to_string()));
        assert!(rows.zip(ends).all(|(row, end)| row.ends_with(&format!("  {end}"))), "{table}");
    }
    let story = shown(dir.path(), &["explain", &at(2).to_string()]);
    assert!(story.contains("stop (no_endpoints): there is no endpoint"), "{story}");
}

#[test]
fn a_changed_record_is_told_and_ends_with_1() {
    let policy = policy();
    let id = at(1);
    let dir = written([row(id, &policy, record(&policy, Facts::default(), id.0, &[broke()]))]);
    let database = rusqlite::Connection::open(dir.path().join("requests.db")).expect("it is there");
    let changed = "UPDATE requests SET attempts = replace(attempts, '\"maybe_sent\"', '\"opted_out\"')";
    assert_eq!(database.execute(changed, []).expect("writable"), 1);
    let (code, story, _) = run(dir.path(), &["explain", &id.to_string()]);
    assert_eq!(code, Some(1));
    assert!(story.contains("another decision follows") && story.contains("MaybeSent"), "{story}");
    let (code, json, _) = run(dir.path(), &["explain", "last", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((code, &json["replayed"]["is_same"]), (Some(1), &false.into()));
    assert_eq!(json["attempts"][0]["sentence"], "the caller asked for one attempt only");
}

#[test]
fn an_unknown_id_and_a_text_that_is_none_end_with_2() {
    let dir = three();
    let (code, stdout, stderr) = run(dir.path(), &["explain", &at(77).to_string()]);
    assert_eq!((code, &*stdout), (Some(2), ""));
    assert!(stderr.contains("there is no request") && stderr.contains("handover log"), "{stderr}");
    let (code, _, stderr) = run(dir.path(), &["explain", "newest"]);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("13 characters"), "{stderr}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let policy = policy();
    let dir = written((1..5000).map(|n| ok(at(n).0, &policy)));
    let mut child =
        handover(dir.path(), &["log", "--json", "-n", "5000"]).stdout(Stdio::piped()).spawn().expect("starts");
    drop(child.stdout.take());
    assert!(child.wait().expect("it was started").success());
}
