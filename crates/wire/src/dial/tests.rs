//! Dials over real sockets, to nodes that follow a script.
#![allow(clippy::unwrap_used, reason = "a test says what it wants by failing")]

mod cancel;
mod direct;
mod http;
mod kit;
mod parsers;
mod rules;
mod socks;
mod tls;
