//! The failover decision core.
mod outcome;
pub use outcome::{Blame, BodyLeft, Failure, Fault, Outcome, Sent, Stage};
