//! What the core may ask about the endpoints of a session.

/// The endpoints that a session may use, by index.
///
/// An index means the same endpoint for the whole session. More may be added at the end while it runs; one that is gone
/// stops being usable instead of shifting the others. Within one call of [`Session::poll`](crate::Session::poll) the
/// answers must not change: a choice looks at the endpoints twice.
pub trait Endpoints {
    /// How many there are: indices are `0..count`.
    fn count(&self) -> usize;

    /// What using this one costs, say latency × load; lower is better. Only compared, so any unit will do.
    fn cost(&self, index: usize) -> u64 {
        let _ = index;
        0
    }

    /// Whether it takes traffic now. One that does not is used only when nothing else is left.
    fn admits(&self, index: usize) -> bool {
        let _ = index;
        true
    }

    /// Whether it may be used at all. One that is gone or not allowed never is, not even when nothing else is left.
    fn is_usable(&self, index: usize) -> bool {
        let _ = index;
        true
    }

    /// Its dedup scope: endpoints with the same number share one store of idempotency keys, so that a keyed request is
    /// done once however many of them it reaches. It must not change while the session runs.
    fn scope(&self, index: usize) -> u32 {
        let _ = index;
        0
    }
}

/// That many endpoints of which nothing is known.
impl Endpoints for usize {
    fn count(&self) -> usize {
        *self
    }
}
