//! The request log by its public face: what is pushed is listed, found, followed and replayed; limits hold; a bad disk
//! costs rows and nothing else.

#[path = "log/rows.rs"]
#[allow(dead_code, reason = "shared by tests and benchmarks, each of which uses its part")]
mod rows;

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use handover_core::Facts;
use handover_gateway::log::{Door, Filter, LogError, LogReader, LogSettings, ReadError, RequestId, RequestLog};
use rows::{NEW_YEAR, answered, broke, failed_over, ok, policy, record, refused, row};

/// Long enough for a loaded machine; nothing waits that long when all is well.
const LIMIT: Duration = Duration::from_secs(30);

/// Keeps rows of any age: the tests' rows are of one New Year.
fn settings() -> LogSettings {
    LogSettings { retention_age: Duration::MAX, flush_interval: Duration::from_millis(1), ..LogSettings::default() }
}

fn start(dir: &Path) -> RequestLog {
    RequestLog::start(dir, settings()).expect("the directory is writable")
}

fn reader(dir: &Path) -> LogReader {
    LogReader::open(dir).expect("the log was started")
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("there is a temporary directory")
}

/// The id of the `n`-th millisecond of the year.
fn at(n: u64) -> u64 {
    RequestId::first_at(NEW_YEAR + n * 1_000_000).0
}

#[test]
fn a_row_reads_back_with_every_column() {
    let dir = directory();
    let log = start(dir.path());
    let mut sender = log.sender();
    let policy = policy();
    let mut pushed = failed_over(at(1), &policy);
    pushed.account = "Tom \"T\" \u{1b}[31m\n".into();
    pushed.door = Door::Reverse;
    sender.push(pushed.clone());
    sender.flush();
    assert!(log.settle(LIMIT));

    let entry = reader(dir.path()).get(pushed.id).expect("readable").expect("written");
    assert_eq!(entry.account, &*pushed.account);
    assert_eq!(entry.record().expect("readable"), pushed.record);
    assert_eq!(entry.replay().expect("readable"), Ok(()));
    let json = serde_json::to_value(&entry).expect("serializable");
    let nodes: Vec<_> = pushed.attempts.iter().map(|attempt| attempt.node_tag.clone()).collect();
    let expected = serde_json::json!({
        "id": pushed.id.to_string(), "ts": "2026-01-01T00:00:00.000999936Z", "proxy_type": 2, "door": "reverse",
        "client_ip": "127.0.0.1", "platform_id": "Default", "platform_name": "Default", "account": &*pushed.account,
        "target_host": "api.example.com", "target_url": "http://api.example.com/v1/things?page=2",
        "node_hash": &*pushed.attempts.at(1).expect("two").node_hash, "node_tag": &*nodes[1], "egress_ip": "",
        "duration_ms": 1.65, "net_ok": true, "http_method": "GET", "http_status": 200, "handover_error": "",
        "upstream_stage": "", "upstream_err_kind": "", "upstream_errno": "", "upstream_err_msg": "",
        "ingress_bytes": 312, "egress_bytes": 214, "retry_attempts": 1,
        "retry_details": [{
            "node_hash": &*pushed.attempts.at(0).expect("two").node_hash, "node_tag": &*nodes[0],
            "err_kind": "refused", "err_msg": "connect to 127.0.0.1: connection refused",
        }],
    });
    for (name, value) in expected.as_object().expect("an object") {
        assert_eq!(json.get(name), Some(value), "{name}");
    }
    let first = &json["attempts"][0];
    assert_eq!(
        (&first["attempt"], &first["fault"], &first["errno"], &first["sent"], &first["verdict"], &first["reason"]),
        (&1.into(), &"refused".into(), &"ECONNREFUSED".into(), &"no".into(), &"try_next".into(), &"not_sent".into())
    );
    assert_eq!(first["stage"], "dial");
    let second = &json["attempts"][1];
    assert_eq!((&second["started_ns"], &second["written_bytes"]), (&800_000.into(), &214.into()));
    assert_eq!(
        (&second["address"], &second["status"]),
        (&format!("127.0.0.1:900{}", &nodes[1][3..]).into(), &200.into())
    );
}

#[test]
fn every_kind_of_record_replays_from_its_row_and_a_changed_one_does_not() {
    let dir = directory();
    let log = start(dir.path());
    let mut sender = log.sender();
    let policy = policy();
    let idempotent = Facts { idempotent: true, preferred: Some(2), ..Facts::default() };
    let scripts: [&[_]; 6] = [
        &[answered(200)],
        &[answered(503)],
        &[refused(), refused(), refused()],
        &[broke()],
        &[refused(), broke()],
        &[],
    ];
    let mut id = 0;
    for facts in [Facts::default(), idempotent] {
        for script in scripts {
            id += 1;
            sender.push(row(RequestId(at(id)), &policy, record(&policy, facts, u64::MAX - id, script)));
        }
    }
    sender.flush();
    assert!(log.settle(LIMIT));
    let page = reader(dir.path()).list(&Filter::default()).expect("readable");
    assert_eq!(page.items.len(), 12);
    for entry in page.items.iter().filter(|entry| !entry.attempts.is_empty()) {
        assert_eq!(entry.replay().expect("readable"), Ok(()), "{entry:?}");
    }

    let database = rusqlite::Connection::open(dir.path().join("requests.db")).expect("it is there");
    let changed = "UPDATE requests SET attempts = replace(attempts, '\"maybe_sent\"', '\"not_sent\"')";
    database.execute(changed, []).expect("writable");
    let different = reader(dir.path()).list(&Filter::default()).expect("readable");
    let differences = different.items.iter().filter(|entry| entry.replay().expect("readable").is_err()).count();
    assert_eq!(differences, 4, "two scripts end with a broken connection, each under two facts");
}

#[test]
fn filters_cursor_and_bounds_select_newest_first() {
    let dir = directory();
    let log = start(dir.path());
    let mut sender = log.sender();
    let policy = policy();
    for n in 0..10 {
        let mut row = if n % 2 == 0 { ok(at(n), &policy) } else { failed_over(at(n), &policy) };
        row.account = if n < 5 { "Tom".into() } else { "Ann".into() };
        row.net_ok = n != 7;
        row.http_status = if n == 7 { 502 } else { 200 };
        sender.push(row);
    }
    sender.flush();
    assert!(log.settle(LIMIT));
    let reader = reader(dir.path());
    let list = |filter: Filter| -> Vec<u64> {
        let page = reader.list(&filter).expect("readable");
        page.items.iter().map(|entry| (entry.id.0 - at(0)).div_ceil(1_000_000)).collect()
    };
    let text = |value: &str| Some(value.to_owned());
    assert_eq!(list(Filter::default()), [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
    assert_eq!(list(Filter { account: text("Tom"), ..Filter::default() }), [4, 3, 2, 1, 0]);
    assert_eq!(list(Filter { account: text("to"), ..Filter::default() }), [0; 0]);
    assert_eq!(list(Filter { account: text("to"), fuzzy: true, ..Filter::default() }), [4, 3, 2, 1, 0]);
    assert_eq!(list(Filter { net_ok: Some(false), ..Filter::default() }), [7]);
    assert_eq!(list(Filter { http_status: Some(502), ..Filter::default() }), [7]);
    assert_eq!(list(Filter { retried: Some(true), ..Filter::default() }), [9, 7, 5, 3, 1]);
    assert_eq!(list(Filter { platform: text("other"), ..Filter::default() }), [0; 0]);
    assert_eq!(list(Filter { target_host: text("api.example.com"), limit: 2, ..Filter::default() }), [9, 8]);
    let bounds = Filter { from_ns: Some(at(3)), to_ns: Some(at(6)), ..Filter::default() };
    assert_eq!(list(bounds), [5, 4], "both bounds are exclusive");

    let mut seen = Vec::new();
    let mut filter = Filter { limit: 4, ..Filter::default() };
    loop {
        let page = reader.list(&filter).expect("readable");
        seen.push(page.items.len());
        filter.cursor = page.next_cursor;
        if page.next_cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, [4, 4, 2]);
}

#[test]
fn following_gives_each_row_once_also_those_that_lasted() {
    let dir = directory();
    let log = start(dir.path());
    let mut sender = log.sender();
    let policy = policy();
    sender.push(ok(at(1), &policy));
    sender.flush();
    assert!(log.settle(LIMIT));
    let reader = reader(dir.path());
    let mut follow = reader.follow().expect("readable");
    let mut after = || -> Vec<u64> {
        let rows = reader.after(&mut follow, &Filter::default()).expect("readable");
        rows.iter().map(|entry| (entry.id.0 - at(0)).div_ceil(1_000_000)).collect()
    };
    assert_eq!(after(), [0; 0]);
    // A request of ten minutes, beside short ones that began much later.
    let mut long = ok(at(2), &policy);
    long.duration = Duration::from_secs(600);
    // And one that is both slow and recent.
    let mut recent = ok(at(600_001), &policy);
    recent.duration = Duration::from_secs(2);
    for row in [ok(at(600_000), &policy), long, recent] {
        sender.push(row);
    }
    sender.flush();
    assert!(log.settle(LIMIT));
    assert_eq!(after(), [2, 600_000, 600_001]);
    assert_eq!(after(), [0; 0]);
    sender.push(ok(at(599_999), &policy));
    sender.flush();
    assert!(log.settle(LIMIT));
    assert_eq!(after(), [599_999]);
}

#[test]
fn a_full_queue_drops_and_counts_and_never_waits() {
    let dir = directory();
    let mut log = RequestLog::start(dir.path(), LogSettings { queue_rows_max: 100, ..settings() }).expect("writable");
    let mut sender = log.sender();
    let policy = policy();
    for n in 0..256 {
        sender.push(ok(at(n), &policy));
    }
    assert_eq!(log.stats().dropped_queue_full, 256, "a batch that does not fit is dropped whole");
    for n in 0..100 {
        sender.push(ok(at(n), &policy));
    }
    drop(sender);
    let stats = log.shutdown(LIMIT);
    assert_eq!((stats.written, stats.dropped_queue_full, stats.dropped_disk, stats.queue_rows), (100, 256, 0, 0));
}

#[test]
fn shutdown_writes_what_was_pushed_and_counts_what_comes_later() {
    let dir = directory();
    let mut log = start(dir.path());
    let mut sender = log.sender();
    let policy = policy();
    for n in 0..1000 {
        sender.push(ok(at(n), &policy));
    }
    sender.flush();
    assert_eq!(log.shutdown(LIMIT).written, 1000);
    sender.push(ok(at(1000), &policy));
    sender.flush();
    assert_eq!(log.stats().dropped_queue_full, 1);
    assert!(!dir.path().join("requests.db-wal").exists(), "all is in the database itself");
    assert_eq!(
        reader(dir.path()).list(&Filter { limit: 2000, ..Filter::default() }).expect("readable").items.len(),
        1000
    );
}

#[test]
fn two_rows_with_one_id_are_one_row_and_one_counted_loss() {
    let dir = directory();
    let log = start(dir.path());
    let mut sender = log.sender();
    let policy = policy();
    sender.push(ok(at(1), &policy));
    sender.push(failed_over(at(1), &policy));
    sender.flush();
    assert!(log.settle(LIMIT));
    let stats = log.stats();
    assert_eq!((stats.written, stats.dropped_disk), (1, 1));
}

#[test]
fn a_log_that_is_switched_off_keeps_nothing() {
    let log = RequestLog::disabled();
    let mut sender = log.sender();
    sender.push(ok(at(1), &policy()));
    sender.flush();
    assert!(log.settle(LIMIT));
    assert_eq!(log.stats(), handover_gateway::log::LogStats::default());
}

#[test]
fn a_second_gateway_on_the_same_directory_is_refused_with_the_remedy() {
    let dir = directory();
    let first = start(dir.path());
    let error = RequestLog::start(dir.path(), settings()).expect_err("the first one holds it");
    assert!(matches!(error, LogError::Locked { .. }));
    assert!(error.to_string().contains("--data-dir"), "{error}");
    drop(first);
    start(dir.path());
}

#[test]
fn a_missing_directory_is_created_and_an_impossible_one_is_an_error_that_says_why() {
    let dir = directory();
    drop(start(&dir.path().join("a/b")));
    assert!(dir.path().join("a/b/requests.db").exists());
    let file = dir.path().join("file");
    fs::write(&file, "").expect("writable");
    let error = RequestLog::start(&file.join("data"), settings()).expect_err("a file is no directory");
    assert!(error.to_string().contains("Not a directory"), "{error}");
    fs::create_dir_all(dir.path().join("c/requests.db")).expect("writable");
    let error = RequestLog::start(&dir.path().join("c"), settings()).expect_err("a directory is no database");
    assert!(error.to_string().contains("Is a directory"), "{error}");
}

#[test]
fn a_damaged_database_is_set_aside_and_a_new_one_is_started() {
    for damage in ["not a database at all, but long enough for a header".repeat(400).into_bytes(), {
        let dir = directory();
        let mut log = start(dir.path());
        let mut sender = log.sender();
        (0..500).for_each(|n| sender.push(ok(at(n), &policy())));
        drop(sender);
        log.shutdown(LIMIT);
        let mut bytes = fs::read(dir.path().join("requests.db")).expect("it is there");
        // All but the header's page: the schema still reads, the rows do not.
        bytes[16 * 1024..].fill(0xaa);
        bytes
    }] {
        let dir = directory();
        fs::write(dir.path().join("requests.db"), &damage).expect("writable");
        let log = start(dir.path());
        let mut sender = log.sender();
        sender.push(ok(at(1), &policy()));
        sender.flush();
        assert!(log.settle(LIMIT));
        assert_eq!((log.stats().written, log.stats().last_error), (1, None));
        let names: Vec<_> =
            fs::read_dir(dir.path()).expect("readable").flatten().map(|entry| entry.file_name()).collect();
        let aside = names.iter().filter_map(|name| name.to_str()).find(|name| name.starts_with("requests.damaged-"));
        let aside = aside.unwrap_or_else(|| panic!("nothing was set aside: {names:?}"));
        assert!(fs::read(dir.path().join(aside)).expect("readable") == damage, "what was there is kept as it was");
    }
}

#[test]
fn a_newer_database_is_left_alone() {
    let dir = directory();
    drop(start(dir.path()));
    let database = rusqlite::Connection::open(dir.path().join("requests.db")).expect("it is there");
    database.pragma_update(None, "user_version", 99).expect("writable");
    assert!(matches!(RequestLog::start(dir.path(), settings()), Err(LogError::Newer { found: 99, .. })));
    assert!(matches!(LogReader::open(dir.path()), Err(ReadError::Version { found: 99, .. })));
}

#[test]
fn a_database_of_something_else_is_an_error_and_left_alone() {
    let dir = directory();
    let database = rusqlite::Connection::open(dir.path().join("requests.db")).expect("writable");
    database.execute_batch("CREATE TABLE requests (x); PRAGMA user_version = 0").expect("writable");
    assert!(matches!(RequestLog::start(dir.path(), settings()), Err(LogError::Database { .. })));
    database.execute_batch("PRAGMA user_version = 1").expect("writable");
    let reader = LogReader::open(dir.path()).expect("its version looks right");
    assert!(matches!(reader.list(&Filter::default()), Err(ReadError::Database(_))));
    assert!(matches!(LogReader::open(&dir.path().join("requests.db")), Err(ReadError::Io { .. })));
}

#[test]
fn a_directory_without_a_log_says_what_to_do() {
    let dir = directory();
    let error = LogReader::open(dir.path()).expect_err("nothing is there");
    assert!(error.to_string().contains("start a gateway"), "{error}");
}

#[test]
fn the_log_stays_within_its_size_and_keeps_the_newest() {
    let dir = directory();
    let limit = 1 << 20;
    let log = RequestLog::start(dir.path(), LogSettings { retention_bytes: limit, ..settings() }).expect("writable");
    let mut sender = log.sender();
    let policy = policy();
    for n in 0..20_000 {
        sender.push(ok(at(n), &policy));
        if n % 1000 == 0 {
            assert!(log.settle(LIMIT));
        }
    }
    sender.flush();
    assert!(log.settle(LIMIT));
    drop(sender);
    drop(log);
    // The limit, and what one flush brings before the oldest are deleted.
    let size = fs::metadata(dir.path().join("requests.db")).expect("it is there").len();
    assert!(size < limit + 3 * (1 << 20), "{size}");
    let page = reader(dir.path()).list(&Filter { limit: 100_000, ..Filter::default() }).expect("readable");
    assert!((1500..15_000).contains(&page.items.len()), "{}", page.items.len());
    assert_eq!(page.items[0].id.0, at(19_999));
}

#[test]
fn rows_that_grew_too_old_are_deleted_and_their_room_given_back() {
    let dir = directory();
    let policy = policy();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64;
    let hour = 3_600_000_000_000;
    let young = RequestId::first_at(now - hour).0;
    let mut log = start(dir.path());
    let mut sender = log.sender();
    for n in 0..20_000 {
        sender.push(ok(RequestId::first_at(now - 48 * hour + n * 1_000_000).0, &policy));
    }
    sender.push(ok(young, &policy));
    sender.flush();
    log.shutdown(LIMIT);
    let before = fs::metadata(dir.path().join("requests.db")).expect("it is there").len();

    let day = LogSettings { retention_age: Duration::from_secs(24 * 3600), ..settings() };
    let log = RequestLog::start(dir.path(), day).expect("writable");
    let reader = reader(dir.path());
    let all = Filter { limit: 100_000, ..Filter::default() };
    // Each barrier gives the writer a turn; the loop ends because each turn deletes a slice.
    while reader.list(&all).expect("readable").items.len() > 1 {
        assert!(log.settle(LIMIT));
    }
    assert_eq!(reader.newest().expect("readable").expect("one is left").id.0, young);
    drop(reader);
    let pages = || {
        let database = rusqlite::Connection::open(dir.path().join("requests.db")).expect("it is there");
        database.query_row("PRAGMA page_count", [], |row| row.get::<_, i64>(0)).expect("readable") as u64 * 16 * 1024
    };
    while pages() > before / 2 {
        assert!(log.settle(LIMIT));
    }
}
