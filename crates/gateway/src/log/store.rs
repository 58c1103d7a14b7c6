//! The database file of the log: opened, locked, migrated, replaced when it is damaged, and written batch by batch.
//!
//! One process writes: the lock is on a file of its own that is never unlinked, so the kernel releases it when the process
//! dies, however it dies. Every error of SQLite ends as a [`LogError`]; none of them panics, and each leaves the store
//! able to try again with the next batches.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use handover_core::Policy;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

use super::batch::{Batch, address_text};
use super::{LogError, encode, schema};

/// The database's name in the data directory.
pub(super) const DATABASE: &str = "requests.db";
/// The name of the lock's file in the data directory.
const LOCK: &str = "handover.lock";
/// How long a write waits for another program that has the database locked. Shorter than the queue lasts.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);
/// Policies the writer knows by heart; a gateway has one per platform, and new ones after each reload.
const POLICIES_KNOWN: usize = 64;

const INSERT: &str = "INSERT OR IGNORE INTO requests VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)";

/// The open log of one data directory.
#[derive(Debug)]
pub(super) struct Store {
    path: PathBuf,
    /// `None` after an error that the connection may not have survived.
    connection: Option<Connection>,
    policies: Vec<(Arc<Policy>, i64)>,
    order: Vec<(u64, u32, u32)>,
    address: String,
    /// Held for its lock.
    _lock: File,
}

impl Store {
    /// Opens the log in `dir`, creating what is missing.
    pub(super) fn open(dir: &Path) -> Result<Self, LogError> {
        create_dir(dir).map_err(|source| LogError::Io { path: dir.to_owned(), source })?;
        let lock = lock(dir)?;
        let path = dir.join(DATABASE);
        let connection = open_or_replace(&path)?;
        Ok(Self {
            path,
            connection: Some(connection),
            policies: Vec::new(),
            order: Vec::new(),
            address: String::new(),
            _lock: lock,
        })
    }

    /// Writes all rows in one transaction, in the order of their ids. Returns how many there were that had an id of
    /// their own; on an error none is written.
    pub(super) fn write(&mut self, batches: &[Batch]) -> Result<u64, LogError> {
        self.with_connection(|store, connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let written = store.insert(&transaction, batches)?;
            transaction.commit()?;
            Ok(written)
        })
    }

    /// Runs `work` on the connection, which is opened again if an error closed it, and closed if `work` leaves doubts.
    pub(super) fn with_connection<T>(
        &mut self,
        work: impl FnOnce(&mut Self, &mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T, LogError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => open_or_replace(&self.path)?,
        };
        let result = work(self, &mut connection);
        let Err(error) = &result else {
            self.connection = Some(connection);
            return result.map_err(|source| self.error(source));
        };
        // What the transaction stored of them is gone with it.
        self.policies.clear();
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy) => self.connection = Some(connection),
            _ if is_damage(error) => {
                drop(connection);
                set_aside(&self.path)?;
            }
            _ => {}
        }
        result.map_err(|source| self.error(source))
    }

    fn error(&self, source: rusqlite::Error) -> LogError {
        LogError::Database { path: self.path.clone(), source }
    }

    fn insert(&mut self, transaction: &Transaction<'_>, batches: &[Batch]) -> rusqlite::Result<u64> {
        let flush: i64 = transaction
            .prepare_cached("UPDATE progress SET flush = flush + 1 RETURNING flush")?
            .query_row([], |row| row.get(0))?;
        self.sort(batches);
        let mut insert = transaction.prepare_cached(INSERT)?;
        let mut written = 0;
        for at in 0..self.order.len() {
            let (_, batch, row) = self.order[at];
            let batch = &batches[batch as usize];
            let policy = self.policy_id(transaction, &batch.policies[batch.rows[row as usize].policy as usize])?;
            bind(&mut insert, batch, row as usize, flush, policy, &mut self.address)?;
            written += insert.raw_execute()? as u64;
        }
        Ok(written)
    }

    /// Sorts the rows of all batches by id, so that nearly all of them are appended to the table. Each worker's rows are
    /// nearly sorted, which the stable sort makes use of.
    fn sort(&mut self, batches: &[Batch]) {
        self.order.clear();
        for (index, batch) in (0u32..).zip(batches) {
            self.order.extend((0u32..).zip(&batch.rows).map(|(row, encoded)| (encoded.id.0, index, row)));
        }
        self.order.sort();
    }

    /// The key of a policy in the table, where it is stored at its first use.
    fn policy_id(&mut self, transaction: &Transaction<'_>, policy: &Arc<Policy>) -> rusqlite::Result<i64> {
        if let Some((_, id)) = self.policies.iter().find(|(known, _)| Arc::ptr_eq(known, policy)) {
            return Ok(*id);
        }
        let json = encode::policy(policy);
        transaction.execute("INSERT OR IGNORE INTO policies (policy) VALUES (?)", [&json])?;
        let id = transaction.query_row("SELECT policy_id FROM policies WHERE policy = ?", [&json], |row| row.get(0))?;
        if self.policies.len() >= POLICIES_KNOWN {
            self.policies.clear();
        }
        // Keeping the `Arc` keeps its address from being given to another policy.
        self.policies.push((Arc::clone(policy), id));
        Ok(id)
    }
}

/// Binds one row, in the order of the table's columns.
fn bind(
    insert: &mut rusqlite::Statement<'_>,
    batch: &Batch,
    index: usize,
    flush: i64,
    policy: i64,
    address: &mut String,
) -> rusqlite::Result<()> {
    let row = &batch.rows[index];
    let texts = batch.texts(index);
    insert.raw_bind_parameter(1, row.id.0 as i64)?;
    insert.raw_bind_parameter(2, flush)?;
    insert.raw_bind_parameter(3, row.door.as_str())?;
    insert.raw_bind_parameter(4, address_text(address, &row.client))?;
    insert.raw_bind_parameter(5, texts.platform)?;
    insert.raw_bind_parameter(6, texts.account)?;
    insert.raw_bind_parameter(7, texts.target_host)?;
    insert.raw_bind_parameter(8, texts.target_url)?;
    insert.raw_bind_parameter(9, texts.http_method)?;
    insert.raw_bind_parameter(10, row.http_status)?;
    insert.raw_bind_parameter(11, saturated(row.duration_ns))?;
    insert.raw_bind_parameter(12, row.net_ok)?;
    insert.raw_bind_parameter(13, row.error.unwrap_or_default())?;
    insert.raw_bind_parameter(14, saturated(row.ingress_bytes))?;
    insert.raw_bind_parameter(15, saturated(row.egress_bytes))?;
    insert.raw_bind_parameter(16, row.final_attempt)?;
    insert.raw_bind_parameter(17, texts.attempts)?;
    insert.raw_bind_parameter(18, policy)?;
    insert.raw_bind_parameter(19, texts.decisions)
}

/// SQLite's integers are signed.
fn saturated(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Creates the directory for its owner alone, as the log says who asked for what; one that exists stays as it is.
fn create_dir(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

fn lock(dir: &Path) -> Result<File, LogError> {
    let path = dir.join(LOCK);
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|source| LogError::Io { path: path.clone(), source })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(LogError::Locked { dir: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(LogError::Io { path, source }),
    }
}

/// Opens the database; a damaged one is set aside first.
fn open_or_replace(path: &Path) -> Result<Connection, LogError> {
    match open(path) {
        Err(LogError::Database { source, .. }) if is_damage(&source) => {
            set_aside(path)?;
            open(path)
        }
        opened => opened,
    }
}

fn open(path: &Path) -> Result<Connection, LogError> {
    // SQLite would say no more than "unable to open"; the system says why.
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path)
        .map_err(|source| LogError::Io { path: path.to_owned(), source })?;
    let error = |source| LogError::Database { path: path.to_owned(), source };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(error)?;
    configure(&connection).map_err(error)?;
    if let Err(found) = schema::migrate(&mut connection).map_err(error)? {
        return Err(LogError::Newer { path: path.to_owned(), found, known: schema::VERSION });
    }
    probe(&connection).map_err(error)?;
    Ok(connection)
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
    if pages == 0 {
        // These two only count for a new file, before anything is written to it.
        connection.pragma_update(None, "page_size", schema::PAGE_BYTES)?;
        connection.pragma_update(None, "auto_vacuum", "incremental")?;
    }
    connection.query_row("PRAGMA journal_mode = wal", [], |_| Ok(()))?;
    // Commits are not synced: after a crash of the system, not of the gateway, the rows since the last checkpoint may
    // be missing, but the file is whole.
    connection.pragma_update(None, "synchronous", "normal")?;
    connection.query_row(&format!("PRAGMA wal_autocheckpoint = {}", schema::CHECKPOINT_PAGES), [], |_| Ok(()))?;
    let wal_bytes = u64::from(schema::CHECKPOINT_PAGES) * u64::from(schema::PAGE_BYTES);
    connection.query_row(&format!("PRAGMA journal_size_limit = {wal_bytes}"), [], |_| Ok(()))
}

/// Reads at both ends of the table. A check of the whole file would take seconds for a large one; damage in between
/// shows when it is written or deleted there, and is dealt with then.
fn probe(connection: &Connection) -> rusqlite::Result<()> {
    for end in ["ASC", "DESC"] {
        let newest = format!("SELECT count(attempts) FROM (SELECT attempts FROM requests ORDER BY id {end} LIMIT 1)");
        connection.query_row(&newest, [], |_| Ok(()))?;
    }
    connection.query_row("SELECT count(policy), (SELECT flush FROM progress) FROM policies", [], |_| Ok(()))
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Renames a damaged database, with its write-ahead log, so that what is in it can still be recovered.
fn set_aside(path: &Path) -> Result<(), LogError> {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let aside = path.with_file_name(format!("requests.damaged-{now_ms}.db"));
    fs::rename(path, &aside).map_err(|source| LogError::Io { path: path.to_owned(), source })?;
    for suffix in ["-wal", "-shm"] {
        let with_suffix = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
        match fs::rename(with_suffix(path), with_suffix(&aside)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                // A stale write-ahead log beside a new database would be taken for its own.
                return Err(LogError::Io { path: with_suffix(path), source: error });
            }
            _ => {}
        }
    }
    tracing::warn!(renamed_to = %aside.display(), "the request log was damaged: it was renamed aside, a new one is started");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use handover_core::{Facts, Record};

    use super::super::{Attempts, Door, RequestId, Row};
    use super::*;

    /// Rows that were refused before an attempt, with ids from `first` on.
    fn batch(first: u64, count: u64) -> Batch {
        let (mut batch, policy) = (Batch::default(), Arc::new(Policy::default()));
        for id in first..first + count {
            batch.push(&Row {
                id: RequestId(id),
                door: Door::Forward,
                client: IpAddr::V4(Ipv4Addr::LOCALHOST),
                platform: "Default".into(),
                account: "".into(),
                target_host: "example.com".into(),
                target_url: "http://example.com/".into(),
                http_method: http::Method::GET,
                http_status: 404,
                duration: Duration::ZERO,
                net_ok: true,
                error: None,
                ingress_bytes: 0,
                egress_bytes: u64::MAX,
                policy: Arc::clone(&policy),
                record: Record::new(id, Facts::default()),
                attempts: Attempts::default(),
            });
        }
        batch
    }

    fn open_store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().expect("there is a temporary directory");
        let store = Store::open(dir.path()).expect("writable");
        (dir, store)
    }

    #[test]
    fn a_file_that_may_not_grow_refuses_the_batch_whole_and_takes_the_next_once_it_may() {
        let (_dir, mut store) = open_store();
        let connection = store.connection.as_ref().expect("open");
        let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0)).expect("readable");
        connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).expect("lowered");
        let error = store.write(&[batch(1, 5000)]).expect_err("there is no room");
        assert!(error.to_string().contains("full"), "{error}");
        let connection = store.connection.as_ref().expect("a full disk is no reason to close it");
        let count = "SELECT (SELECT count(*) FROM requests) + (SELECT count(*) FROM policies)";
        assert_eq!(connection.query_row(count, [], |row| row.get::<_, i64>(0)), Ok(0), "all or nothing");
        connection.query_row("PRAGMA max_page_count = 1000000", [], |_| Ok(())).expect("raised");
        assert_eq!(store.write(&[batch(1, 5000)]).expect("there is room"), 5000);
    }

    #[test]
    fn batches_of_several_workers_are_written_in_the_order_of_their_ids() {
        let (_dir, mut store) = open_store();
        assert_eq!(store.write(&[batch(500, 100), batch(100, 100), batch(300, 100)]).expect("writable"), 300);
        assert!(store.order.is_sorted());
        assert_eq!(store.policies.len(), 3);
        let connection = store.connection.as_ref().expect("open");
        let policies = connection.query_row("SELECT count(*) FROM policies", [], |row| row.get::<_, i64>(0));
        assert_eq!(policies, Ok(1), "the same policy at three addresses is stored once");
    }

    #[test]
    fn damage_found_while_writing_sets_the_file_aside_and_the_next_batch_goes_into_a_new_one() {
        let (dir, mut store) = open_store();
        assert_eq!(store.write(&[batch(1, 5000)]).expect("writable"), 5000);
        store.connection = None;
        let path = dir.path().join(DATABASE);
        let mut bytes = fs::read(&path).expect("readable");
        let page = schema::PAGE_BYTES as usize;
        // The middle of the table, where opening does not look.
        let middle = bytes.len() / 2 / page * page;
        bytes[middle..middle + page].fill(0xaa);
        fs::write(&path, &bytes).expect("writable");
        let rows = batch(10_000, 10);
        // Deleting everything comes across the damaged page.
        let deleted =
            store.with_connection(|_, connection| connection.execute("DELETE FROM requests WHERE id > 0", []));
        assert!(deleted.is_err());
        assert_eq!(store.write(&[rows]).expect("a new file"), 10);
        let names = fs::read_dir(dir.path()).expect("readable").flatten();
        let aside = names.filter(|name| name.file_name().to_string_lossy().starts_with("requests.damaged-"));
        assert!(aside.count() >= 1);
    }
}
