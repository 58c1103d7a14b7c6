//! An HTTP client over several endpoints that fails over, with proof of what was not sent.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use handover_client::{Client, Policy};
//!
//! let client = Client::builder()
//!     .endpoints(["https://kv-1.example", "https://kv-2.example"]) // in order of priority
//!     .policy(Policy::rotation())
//!     .build()?;
//! let answer = client.get("/kv/exam_configs").header("x-app-token", "secret").send().await?;
//! println!("{} after {:?}", answer.status(), answer.record());
//! # Ok(())
//! # }
//! ```
//!
//! How far failover goes is the word of [`Policy`]; what may be repeated depends on how much is proven of the request
//! ([`Sent`]): the client's own connections know whether a byte of it left. A request that failed says which of three
//! things is true ([`Fate`]): it was not sent, it is unknown, it was answered.
//!
//! The decisions are taken by [`handover_core`], the same code that the gateway asks; a [`Record`] has all of them.

#![cfg_attr(
    not(all(feature = "classworks", feature = "gzip", feature = "reqwest", feature = "socket")),
    allow(
        dead_code,
        reason = "what only one feature needs lies idle without it; the build with all of them is checked"
    )
)]

mod answer;
mod answer_body;
mod body;
mod builder;
mod call;
mod carrier;
mod check;
mod client;
#[cfg(any(feature = "gzip", feature = "br", feature = "zstd"))]
mod decode;
mod direct;
mod discover;
mod endpoint;
mod error;
#[cfg(feature = "classworks")]
pub mod kv;
pub mod observe;
mod pool;
mod prober;
mod proxy;
mod record;
mod redirect;
mod request;
#[cfg(feature = "reqwest")]
mod reqwest;
mod set;
mod shared;
#[cfg(feature = "socket")]
pub mod socket;
#[cfg(feature = "tower")]
mod tower;
mod trip;

pub use handover_core::health::{CircuitParts, CircuitPolicy, CircuitState, FailbackParts, FailbackPolicy};
pub use handover_core::{
    Backoff, BackoffBetween, Fate, Fault, Order, Policy, PolicyError, PolicyParts, Reason, Replay, Sent, Stage,
    StatusSet, TokenBucket, Verdict,
};

pub use answer::Answer;
pub use answer_body::AnswerBody;
pub use body::{Body, BoxError, SentBody};
pub use builder::{BuildError, ClientBuilder, Http2};
pub use check::{Check, CheckReport, CheckVerdict, CheckedEndpoint};
pub use client::Client;
#[cfg(feature = "regions")]
pub use discover::Regions;
pub use discover::{Ask, BoxFuture, Discover, DiscoverError, FETCHED_BODY_BYTES_MAX, Fetch, Fetched};
pub use error::Error;
#[cfg(feature = "classworks")]
pub use kv::KvProvider;
pub use observe::{AttemptBegan, AttemptOver, Observer, RequestOver};
pub use prober::Probe;
pub use record::{Attempt, Record};
pub use request::RequestBuilder;
pub use set::EndpointStatus;

#[cfg(feature = "reqwest")]
pub use self::reqwest::{ReqwestErrors, ReqwestTransport};
#[cfg(feature = "tower")]
pub use self::tower::{
    ConnectCauses, ConnectErrors, Evidence, Failover, FailoverLayer, NothingProven, RequestOptions, TransportFailure,
};
