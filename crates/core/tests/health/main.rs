//! What is remembered of endpoints between requests: circuits, the election, and being offline.

mod circuit;
mod election;
mod offline;

use std::time::Duration;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}
