//! Faulty endpoints on real sockets: origins, proxy nodes and ports that fail at a chosen point, raw clients that see
//! every byte, and the gateway as a child process.
//!
//! Everything binds `127.0.0.1:0`, counts what reaches it, runs on the test's own runtime and ends when it is dropped.
//! Faults happen where a script says, never by chance, and a test waits for a cause ([`Gate`], the `until` methods) instead of
//! sleeping. The scripted servers are written on bare sockets on purpose: an HTTP library would tidy away what has to be seen.
//! The mocks of whole services ([`LivekitMock`], [`KvServer`]) and [`H2Origin`] keep their protocols and stand on libraries;
//! what breaks HTTP/2 is [`RawH2`]'s. [`SocketIoServer`] is the real one and needs Node.js.

mod client;
mod door;
mod executions;
mod gate;
mod gateway;
mod h2_origin;
mod http_server;
mod kv;
mod ledger;
mod livekit;
mod memory;
mod node;
mod origin;
mod pattern;
mod port;
mod raw_h2;
mod row;
mod socket;
mod socketio;
mod socks;
mod target;
mod tls;
mod upload;
mod websocket;
mod wire;

pub use bytes::Bytes;
pub use client::{Client, Response, basic};
pub use door::{DOORS, Door};
pub use executions::Executions;
pub use gate::Gate;
pub use gateway::{Exit, GatewayBuilder, GatewayProcess};
pub use h2_origin::{H2Act, H2Answer, H2Arrival, H2Origin, H2OriginBuilder, H2Seen, Leave};
pub use kv::{KV_READ_ONLY_TOKEN, KV_TOKEN, KvFault, KvSeen, KvServer, KvStore};
pub use ledger::{ConnectionSeen, Ledger, RequestSeen};
pub use livekit::{LivekitMock, LivekitSeen};
pub use memory::{idle_memory, peak_memory, reset_peak_memory};
pub use node::{HttpProxyNode, NodeAct};
pub use origin::{Act, After, Answer, Arrival, Body, BodyWriter, Continue, End, Greeting, Origin, OriginBuilder};
pub use pattern::{PATTERN_PERIOD, is_pattern, pattern_at};
pub use port::{BlackholePort, DeadPort};
pub use raw_h2::{FrameSeen, RawAct, RawH2, RawH2Builder, frame};
pub use row::{Attempt, Row};
pub use socket::{Socket, reset};
pub use socketio::{SocketIoOptions, SocketIoServer, SocketKind, Transports, ensure_installed, journal_executions};
pub use socks::{Socks5Node, SocksAct};
pub use target::Directory;
pub use tls::Authority;
pub use upload::{Framing, Upload};
pub use websocket::WebSocket;
pub use wire::{BodyFraming, Head, Wire};

use std::future::Future;
use std::time::Duration;

/// How long a test may take before it counts as hung. Generous, because two cores are shared by the whole suite.
pub const TEST_DEADLINE: Duration = Duration::from_secs(60);

/// Runs a test's body under [`TEST_DEADLINE`].
///
/// # Panics
/// When the deadline passes. Cancel safe: dropping it drops the body.
pub async fn bounded<T>(body: impl Future<Output = T>) -> T {
    within(TEST_DEADLINE, "the whole test", body).await
}

/// Waits for `body`, at most `limit`.
///
/// # Panics
/// When the limit passes; the message names `what`. Cancel safe: dropping it drops the body.
pub async fn within<T>(limit: Duration, what: &str, body: impl Future<Output = T>) -> T {
    match tokio::time::timeout(limit, body).await {
        Ok(value) => value,
        Err(_) => panic!("not within {limit:?}: {what}"),
    }
}
