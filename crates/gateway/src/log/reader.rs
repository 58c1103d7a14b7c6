//! Reads the log: lists it by filters, finds one request, follows what is being written.
//!
//! It opens the database on its own, read-only, so it works beside a running gateway and after one that was killed.

mod entry;
mod filter;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension};

use super::{RequestId, schema, store};

pub use entry::Entry;
pub use filter::Filter;

/// How long a read waits for a lock: only recovery after a crash holds one against readers, for as long as it takes to
/// read the write-ahead log.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Rows of a page when the filter does not say: Resin's number.
const LIMIT_DEFAULT: u32 = 50;
/// The most rows of a page: Resin's number; about 60 MiB as JSON.
const LIMIT_MAX: u32 = 100_000;

/// A request shorter than this is found by its id when following, a longer one by the index on slow rows; the number is
/// the one of that index.
const SLOW_NS: u64 = 1_000_000_000;
/// How much later than its end a row may be written, at worst: a full queue on a slow disk. A row that is later still and
/// not slow itself is not followed; listing finds it.
const LATE_NS: u64 = 9_000_000_000;

/// The log of a data directory, for reading.
#[derive(Debug)]
pub struct LogReader {
    connection: Connection,
}

/// One page of a list, newest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// The rows.
    pub items: Vec<Entry>,
    /// Where the next page begins; `None` if this is the last.
    pub next_cursor: Option<RequestId>,
}

/// Where following stands.
#[derive(Clone, Copy, Debug)]
pub struct Follow {
    flush: i64,
}

impl LogReader {
    /// Opens the log in `dir`.
    ///
    /// # Errors
    /// [`ReadError`], if there is none, or it is of another version, or it cannot be read.
    pub fn open(dir: &Path) -> Result<Self, ReadError> {
        let path = dir.join(store::DATABASE);
        match path.metadata() {
            Ok(metadata) if metadata.len() > 0 => {}
            Ok(_) => return Err(ReadError::Missing { dir: dir.to_owned() }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(ReadError::Missing { dir: dir.to_owned() });
            }
            Err(source) => return Err(ReadError::Io { path, source }),
        }
        let connection = match open(&path, "") {
            // Nobody has it open, and this user may not create the files beside it that readers share. Then nobody
            // changes it either.
            Err(error) if is_unopenable(&error) => open(&path, "?immutable=1"),
            opened => opened,
        };
        let reader = Self { connection: connection? };
        let found: i64 = reader.connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if found != schema::VERSION {
            return Err(ReadError::Version { found, known: schema::VERSION });
        }
        Ok(reader)
    }

    /// The requests that pass the filter, newest first.
    ///
    /// Time bounds and the cursor are looked up; the other filters scan from the newest row on until the page is full.
    ///
    /// # Errors
    /// [`ReadError::Database`].
    pub fn list(&self, filter: &Filter) -> Result<Page, ReadError> {
        let limit = match filter.limit {
            0 => LIMIT_DEFAULT,
            limit => limit.min(LIMIT_MAX),
        };
        let (condition, mut values) = filter.condition();
        values.push(i64::from(limit + 1).into());
        let sql = format!("SELECT {} FROM request_logs WHERE {condition} ORDER BY id DESC LIMIT ?", entry::COLUMNS);
        let mut items = self.entries(&sql, values)?;
        let has_more = items.len() > limit as usize;
        items.truncate(limit as usize);
        let next_cursor = items.last().filter(|_| has_more).map(|last| last.id);
        Ok(Page { items, next_cursor })
    }

    /// One request.
    ///
    /// # Errors
    /// [`ReadError::Database`].
    pub fn get(&self, id: RequestId) -> Result<Option<Entry>, ReadError> {
        let sql = format!("SELECT {} FROM request_logs WHERE id = ?", entry::COLUMNS);
        Ok(self.connection.query_row(&sql, [id.0 as i64], entry::read).optional()?)
    }

    /// The newest request.
    ///
    /// # Errors
    /// [`ReadError::Database`].
    pub fn newest(&self) -> Result<Option<Entry>, ReadError> {
        Ok(self.list(&Filter { limit: 1, ..Filter::default() })?.items.pop())
    }

    /// Where to follow from, to get what is written from now on.
    ///
    /// # Errors
    /// [`ReadError::Database`].
    pub fn follow(&self) -> Result<Follow, ReadError> {
        let flush = self.connection.query_row("SELECT flush FROM progress", [], |row| row.get(0))?;
        Ok(Follow { flush })
    }

    /// What was written since, in the order of the ids, and passes the filter; its limit and cursor are not looked at.
    /// A request is written when it ends, so one that lasted comes after shorter ones that began later.
    ///
    /// # Errors
    /// [`ReadError::Database`].
    pub fn after(&self, follow: &mut Follow, filter: &Filter) -> Result<Vec<Entry>, ReadError> {
        let now = self.follow()?;
        if now.flush == follow.flush {
            return Ok(Vec::new());
        }
        let newest: Option<i64> = self.connection.query_row("SELECT max(id) FROM requests", [], |row| row.get(0))?;
        let (from, to) = (follow.flush, now.flush);
        let recent = newest.unwrap_or_default().saturating_sub((SLOW_NS + LATE_NS) as i64);
        let (condition, values) = Filter { cursor: None, ..filter.clone() }.condition();
        let columns = entry::COLUMNS;
        // Two ranges that do not overlap: the newest ids, and older ones through the index on slow rows.
        let sql = format!(
            "SELECT {columns} FROM request_logs WHERE id >= {recent} AND flush > {from} AND flush <= {to} AND {condition}
             UNION ALL
             SELECT {columns} FROM request_logs WHERE duration_ns >= {SLOW_NS} AND flush > {from} AND flush <= {to}
                AND id < {recent} AND {condition}
             ORDER BY 1"
        );
        let twice = values.iter().chain(&values).cloned().collect();
        let entries = self.entries(&sql, twice)?;
        *follow = now;
        Ok(entries)
    }

    fn entries(&self, sql: &str, values: Vec<rusqlite::types::Value>) -> Result<Vec<Entry>, ReadError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map(rusqlite::params_from_iter(values), entry::read)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

fn open(path: &Path, parameters: &str) -> rusqlite::Result<Connection> {
    let mut uri = String::from("file:");
    // RFC 3986: what is not plain is percent-encoded, so that `?` and `#` of a path stay part of it.
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' => uri.push(char::from(*byte)),
            other => uri.push_str(&format!("%{other:02x}")),
        }
    }
    uri.push_str(parameters);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(uri, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    Ok(connection)
}

fn is_unopenable(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly))
}

/// Why the log cannot be read.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReadError {
    /// There is no log in the directory.
    Missing {
        /// The data directory.
        dir: PathBuf,
    },
    /// The database cannot be looked at.
    Io {
        /// The database.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another version of Handover wrote the database.
    Version {
        /// The version of its tables.
        found: i64,
        /// The version this program reads.
        known: i64,
    },
    /// SQLite failed.
    Database(rusqlite::Error),
}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { dir } => write!(
                f,
                "there is no request log in {}: start a gateway with this data directory, or name its own with --data-dir",
                dir.display()
            ),
            Self::Io { path, source } => write!(f, "cannot read {}: {source}", path.display()),
            Self::Version { found, known } if found > known => {
                write!(f, "the request log has version {found}, this program reads {known}: use the newer program")
            }
            Self::Version { found, known } => write!(
                f,
                "the request log has version {found}, this program reads {known}: a start of this version's gateway converts it"
            ),
            Self::Database(source) => write!(f, "cannot read the request log: {source}"),
        }
    }
}

impl std::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Database(source) => Some(source),
            Self::Missing { .. } | Self::Version { .. } => None,
        }
    }
}
