//! What keeps failover from multiplying load: further attempts are paid for out of a budget.
//!
//! When every endpoint is in trouble, each request that is tried three times makes the trouble three times as large. A
//! budget over all requests bounds that: the first attempt is always free, and those that repeat what may have been asked
//! already, or dial beside another dial, may be only a share of them. To go on to another endpoint from one that was never
//! handed the request is free too, as it multiplies nothing.

mod bucket;
pub use bucket::{TokenBucket, Withdrawals};

/// Decides whether a further attempt may be paid for.
pub trait Budget {
    /// Takes the price of one further attempt; `false` if there is not enough.
    ///
    /// It is asked only when all else allows the attempt, so a refusal is the one reason why there is none.
    fn try_take(&mut self) -> bool;
}

/// A budget that never runs out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unlimited;

impl Budget for Unlimited {
    fn try_take(&mut self) -> bool {
        true
    }
}

impl<B: Budget + ?Sized> Budget for &mut B {
    fn try_take(&mut self) -> bool {
        (**self).try_take()
    }
}

/// Remembers what another budget answered.
pub(crate) struct Asked<'b, B: ?Sized> {
    budget: &'b mut B,
    pub(crate) answer: Option<bool>,
}

impl<'b, B: Budget + ?Sized> Asked<'b, B> {
    /// Nothing asked yet.
    pub(crate) fn new(budget: &'b mut B) -> Self {
        Self { budget, answer: None }
    }
}

impl<B: Budget + ?Sized> Budget for Asked<'_, B> {
    fn try_take(&mut self) -> bool {
        let answer = self.budget.try_take();
        self.answer = Some(answer);
        answer
    }
}
