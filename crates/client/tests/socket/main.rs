//! Sockets against the real Socket.IO server and a real WebSocket server, as child processes that are killed.
#![cfg(feature = "socket")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "all of this is a test: it says what it saw, and fails")]

mod kills;
mod tls;
mod transports;

use std::path::PathBuf;
use std::time::Duration;

use handover_client::socket::{FailoverSocket, JoinError, Joining, SocketBuilder, State};
use handover_client::{Client, FailbackParts, FailbackPolicy, Policy};
use serde_json::json;
use tempfile::TempDir;

/// A file that servers write down in what they executed.
fn journal() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let path = directory.path().join("journal");
    (directory, path)
}

/// A client of these servers, which goes back to a better one as soon as that is good.
fn client<'u>(urls: impl IntoIterator<Item = &'u str>) -> Client {
    let parts = FailbackParts { grace: Duration::ZERO, ..FailbackParts::default() };
    let failback = FailbackPolicy::try_new(parts).unwrap();
    let builder = Client::builder().endpoints(urls).policy(Policy::rotation()).failback(failback);
    builder.no_proxy().build().unwrap()
}

/// Joins the room of a token, as Classworks' page does on every connection.
async fn join(mut joining: Joining) -> Result<(), JoinError> {
    joining.emit("join-token", json!({"token": "t"})).await?;
    joining.wait_for("joined").await?;
    Ok(())
}

/// Pauses that suit servers that are back within a second.
fn hasty(builder: SocketBuilder) -> SocketBuilder {
    let (first, longest) = (Duration::from_millis(20), Duration::from_millis(200));
    // Each kill of the first server is followed by a way back to it.
    builder.reconnect_delay(first, longest).failback_check(Duration::from_millis(100)).failbacks_per_minute(1000)
}

/// Waits until the socket is connected to this server.
async fn connected_to(socket: &FailoverSocket, url: &str) {
    let mut changes = socket.state_changes();
    let mut state = socket.state();
    loop {
        if matches!(&state, State::Connected { endpoint } if endpoint.as_str().trim_end_matches('/') == url) {
            return;
        }
        state = changes.next().await.expect("the socket lives");
    }
}
