//! Connections that prove what was sent on them.
//!
//! Both shells that send requests, the gateway and the client, stand on this: [`dial`] opens a connection and says how far
//! it got if it cannot; [`conn`] sends one request at a time on it, in the request's own task; its write gate decides in one
//! atomic step whether a request was written or given up; [`h2`] carries many at once on one HTTP/2 connection and proves the
//! same of each. What is proven of a request is told as [`Sent`](handover_core::Sent); what follows from that is the core's
//! word, never decided here.

pub mod body;
pub mod conn;
pub mod dial;
mod gate;
pub mod h2;
mod small_write;

pub use body::TrackedBody;
pub use small_write::poll_write;
