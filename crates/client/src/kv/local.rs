//! A store in a SQLite file that answers as a server does.
//!
//! SQLite blocks, so it runs on the runtime's threads for that. A write is on the disk when it is reported: the file is
//! what there is, no server has a copy. One connection behind a lock serves all clones; other processes wait their turn.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::StatusCode;
use rusqlite::{Connection, OptionalExtension as _, params};
use serde_json::{Value, json};

use super::{Check, CheckedServer, KeyPage, KeyQuery, KvCode, KvError, PageOfKeys, SortBy};

/// The version of the tables; kept in `user_version`.
const VERSION: i64 = 1;

/// What says that a file is such a store, in SQLite's header: `HOkv`.
const APPLICATION: i64 = 0x484F_6B76;

/// How long a request waits for another process that writes. A write takes milliseconds; one that waits longer meets a
/// process that hangs, and its caller should hear of it.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Times are text in UTC with milliseconds, as the API writes them. The device is one row.
const TABLES: &str = "
CREATE TABLE entries (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    updated_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) STRICT;
CREATE TABLE device (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    uuid TEXT NOT NULL,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) STRICT;
";

/// The open file.
#[derive(Clone)]
pub(super) struct Local {
    path: Arc<Path>,
    connection: Arc<Mutex<Connection>>,
}

impl Local {
    pub(super) async fn open(path: PathBuf) -> Result<Self, KvError> {
        let at = path.display().to_string();
        let wrong = |what: String| KvError::new(KvCode::ConfigError, format!("{at}: {what}"));
        let opened = tokio::task::spawn_blocking(move || Ok((connect(&path)?, path))).await;
        let opened: rusqlite::Result<_> = opened.map_err(|error| wrong(error.to_string()))?;
        let ((connection, found), path) = opened.map_err(|error| wrong(error.to_string()).with_source(error))?;
        match found {
            (APPLICATION, VERSION) => Ok(Self { path: path.into(), connection: Arc::new(Mutex::new(connection)) }),
            (APPLICATION, version) => {
                Err(wrong(format!("it is a store of version {version}, this program knows version {VERSION}")))
            }
            _ => Err(wrong("it is a database of something else".to_owned())),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) async fn namespace_info(&self) -> Result<Value, KvError> {
        self.with(KvCode::NamespaceError, "获取命名空间信息失败", |connection| {
            connection.query_row("SELECT uuid, created_at FROM device", [], |row| {
                let (uuid, created): (String, String) = (row.get(0)?, row.get(1)?);
                let device =
                    json!({ "id": 1, "name": "local", "uuid": uuid, "createdAt": created, "updatedAt": created });
                Ok(json!({ "device": device, "hasAccount": false }))
            })
        })
        .await
    }

    pub(super) async fn load(&self, key: &str) -> Result<Value, KvError> {
        let key = key.to_owned();
        let found = self.with(KvCode::UnknownError, "读取失败", move |connection| {
            let mut query = connection.prepare_cached("SELECT value FROM entries WHERE key = ?")?;
            query.query_row([key], |row| row.get::<_, String>(0)).optional()
        });
        let not_found = || KvError::new(KvCode::NotFound, "数据不存在").with_status(StatusCode::NOT_FOUND);
        let text = found.await?.ok_or_else(not_found)?;
        let broken = |error| KvError::new(KvCode::UnknownError, "读取失败").with_source(error);
        serde_json::from_str(&text).map_err(broken)
    }

    pub(super) async fn save(&self, key: &str, value: &Value) -> Result<(), KvError> {
        // As the server has it.
        let is_nothing = value.is_null() || value == "";
        let (key, text) = (key.to_owned(), if is_nothing { "{}".to_owned() } else { value.to_string() });
        self.with(KvCode::SaveError, "保存失败", move |connection| {
            let mut upsert = connection.prepare_cached(
                "INSERT INTO entries (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE
                 SET value = excluded.value, updated_at = excluded.updated_at",
            )?;
            upsert.execute([key, text]).map(|_rows| ())
        })
        .await
    }

    pub(super) async fn keys(&self, query: &KeyQuery) -> Result<KeyPage, KvError> {
        let column = match query.sort_by {
            SortBy::Key => "key",
            SortBy::CreatedAt => "created_at",
            SortBy::UpdatedAt => "updated_at",
        };
        let (direction, limit, skip) = (query.direction(), u64::from(query.limit), u64::from(query.skip));
        // The key settles what the times leave open, so that pages neither overlap nor leave a gap.
        let text = format!("SELECT key FROM entries ORDER BY {column} {direction}, key {direction} LIMIT ? OFFSET ?");
        let (limit_rows, skip_rows) = (query.limit, query.skip);
        let keys = self.with(KvCode::UnknownError, "读取失败", move |connection| {
            let mut page = connection.prepare_cached(&text)?;
            page.query_map(params![limit_rows, skip_rows], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()
        });
        let keys = keys.await?;
        let count = keys.len() as u64;
        let current_page = PageOfKeys { limit, skip, count };
        Ok(KeyPage { keys, total_rows: count, current_page, load_more: None })
    }

    pub(super) async fn check(&self) -> Check {
        let began = Instant::now();
        let asked = self.with(KvCode::UnknownError, "读取失败", |connection| {
            connection.query_row("SELECT count(*) FROM (SELECT 1 FROM entries LIMIT 1)", [], |row| row.get::<_, i64>(0))
        });
        let good = CheckedServer::good(&self.path.display().to_string());
        let server = match asked.await {
            Ok(_) => good,
            Err(error) => CheckedServer { error: Some(error.message().to_owned()), is_final: false, ..good },
        };
        Check { servers: vec![server], duration: began.elapsed() }
    }

    /// Runs this where it may block.
    async fn with<T: Send + 'static>(
        &self,
        code: KvCode,
        message: &'static str,
        act: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, KvError> {
        let connection = Arc::clone(&self.connection);
        // Every statement is a transaction of its own: what a panic interrupts is rolled back.
        let run = move || act(&connection.lock().unwrap_or_else(PoisonError::into_inner));
        let done = tokio::task::spawn_blocking(run).await;
        let done = done.map_err(|error| KvError::new(code, message).with_source(error))?;
        done.map_err(|error| KvError::new(code, message).with_source(error))
    }
}

/// What a server says that has no such path.
pub(super) fn no_namespace() -> KvError {
    KvError::new(KvCode::NamespaceError, "找不到路径: /kv/_info").with_status(StatusCode::NOT_FOUND)
}

/// Has the file written ahead. SQLite does not wait for others here: where one is busy with the file, it has done the same,
/// or will when it opens it again, and either way nothing is lost.
fn write_ahead(connection: &Connection) -> rusqlite::Result<()> {
    match connection.pragma_update(None, "journal_mode", "wal") {
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => Ok(()),
        done => done,
    }
}

/// Opens the file, makes its tables if it is empty, and says what it is: application and version.
fn connect(path: &Path) -> rusqlite::Result<(Connection, (i64, i64))> {
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Two processes may make the tables at once: who comes second waits here, and finds them.
    let making = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let number = |query: &str| making.query_row(query, [], |row| row.get::<_, i64>(0));
    if number("SELECT count(*) FROM sqlite_schema")? == 0 {
        making.execute_batch(TABLES)?;
        making.execute("INSERT INTO device (id, uuid) VALUES (1, ?)", [uuid::Uuid::new_v4().to_string()])?;
        making.pragma_update(None, "application_id", APPLICATION)?;
        making.pragma_update(None, "user_version", VERSION)?;
    }
    let found = (number("PRAGMA application_id")?, number("PRAGMA user_version")?);
    making.commit()?;
    if found == (APPLICATION, VERSION) {
        write_ahead(&connection)?;
        connection.pragma_update(None, "synchronous", "full")?;
    }
    Ok((connection, found))
}
