//! What Classworks KV servers keep: the values of one device, and how often each key was written. Servers share a store by
//! sharing its handle, as replicas of one database do; separate ones have a store each.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use crate::executions::Executions;

/// One key's value and its times.
#[derive(Clone, Debug)]
struct Entry {
    value: Value,
    created: u64,
    updated: u64,
}

#[derive(Debug, Default)]
struct Inner {
    entries: BTreeMap<String, Entry>,
    /// Counts writes; stands for the time.
    clock: u64,
}

/// A device's store. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct KvStore {
    inner: Arc<Mutex<Inner>>,
    writes: Executions,
}

impl KvStore {
    /// The id of the device that owns every value.
    pub(super) const DEVICE: u64 = 1;

    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The value of a key.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<Value> {
        self.with(|inner| inner.entries.get(key).map(|entry| entry.value.clone()))
    }

    /// The keys, sorted.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        self.with(|inner| inner.entries.keys().cloned().collect())
    }

    /// How often each key was written or deleted, over all servers of this store; what a test [`put`](Self::put) there
    /// does not count.
    #[must_use]
    pub fn writes(&self) -> &Executions {
        &self.writes
    }

    /// Puts a value there without a server.
    pub fn put(&self, key: &str, value: Value) {
        self.set(key, value);
    }

    /// Writes and says whether the key is new, and the time of the write.
    pub(super) fn upsert(&self, key: &str, value: Value) -> (bool, String) {
        let written = self.set(key, value);
        self.writes.add(key);
        written
    }

    fn set(&self, key: &str, value: Value) -> (bool, String) {
        self.with(|inner| {
            inner.clock += 1;
            let (now, before) = (inner.clock, inner.entries.get(key));
            let created = before.map_or(now, |entry| entry.created);
            let is_new = before.is_none();
            inner.entries.insert(key.to_owned(), Entry { value, created, updated: now });
            (is_new, time(now))
        })
    }

    /// Deletes and says whether the key was there.
    pub(super) fn delete(&self, key: &str) -> bool {
        self.writes.add(key);
        self.with(|inner| inner.entries.remove(key).is_some())
    }

    /// The metadata of a key, as the API shows them.
    pub(super) fn metadata(&self, key: &str) -> Option<Value> {
        self.with(|inner| {
            inner.entries.get(key).map(|entry| {
            json!({"creatorIp": "127.0.0.1", "createdAt": time(entry.created), "updatedAt": time(entry.updated)})
        })
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A time as the API writes one. It is counted instead of read from a clock, so that two writes never have the same.
pub(super) fn time(clock: u64) -> String {
    format!(
        "2026-01-01T{:02}:{:02}:{:02}.{:03}Z",
        clock / 3_600_000 % 24,
        clock / 60_000 % 60,
        clock / 1000 % 60,
        clock % 1000
    )
}
