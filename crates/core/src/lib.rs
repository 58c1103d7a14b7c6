//! The failover decision core: which endpoint a request goes to, and whether it may go to another one when that failed.
//!
//! Start at [`decide`]: one function says of every finished attempt whether its answer stands, the request goes on, or
//! it has failed, and why. Everything else here leads up to it or follows from it:
//!
//! * [`Policy`] says how far failover may go, above all how much proof a further attempt needs ([`Replay`]);
//! * [`Outcome`] says how an attempt ended and what is proven of the request ([`Sent`]);
//! * [`Session`] runs one request: it chooses endpoints, times dials and pauses, and asks [`decide`];
//! * [`Record`] holds what happened, and [`replay`] takes the same decisions again from it.
//!
//! There is no I/O here, no clock, no source of randomness, no task and no lock: time comes in as a [`Duration`] since
//! the session began, chance comes from a seed. The same inputs give the same decisions, always, so a logged request can
//! be explained afterwards and a test can go through all there is.
//!
//! [`Duration`]: std::time::Duration

mod answer;
mod budget;
mod decide;
mod endpoints;
mod facts;
pub mod health;
mod ledger;
mod outcome;
mod pause;
mod pick;
mod policy;
mod random;
mod record;
mod replay;
mod session;
mod status_set;
pub mod table;
mod verdict;
mod words;

pub use budget::{Budget, TokenBucket, Unlimited, Withdrawals};
pub use decide::{Spent, decide};
pub use endpoints::Endpoints;
pub use facts::{Facts, is_idempotent};
pub use outcome::{Blame, BodyLeft, Failure, Fault, Outcome, Sent, Stage};
pub use pick::{Candidate, Pick, Pool};
pub use policy::{
    ATTEMPTS_MAX, Backoff, BackoffBetween, Order, Policy, PolicyError, PolicyParts, PolicyProblem, Replay,
};
pub use record::{AttemptRecord, Attempts, Discovery, Fate, Record};
pub use replay::{Difference, replay};
pub use session::{Action, Session};
pub use status_set::StatusSet;
pub use verdict::{Reason, Verdict};
