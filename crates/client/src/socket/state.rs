//! What the socket is doing, for whoever wants to show it.

use std::fmt;
use std::time::Duration;

use tokio::sync::broadcast;
use url::Url;

/// Changes that are kept for a listener that does not listen: enough for some rounds over all servers.
pub(crate) const CHANGES_KEPT: usize = 64;

/// What a socket is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// It looks for a server.
    Connecting,
    /// It is connected, has joined, and messages go out.
    Connected {
        /// With whom.
        endpoint: Url,
    },
    /// The connection is gone. Another server is looked for at once, or after `retry_in`.
    Lost {
        /// With whom it was.
        endpoint: Url,
        /// Why, in words.
        why: String,
        /// How long it waits before it looks.
        retry_in: Duration,
    },
    /// No server could be used; it waits before it asks them again.
    Waiting {
        /// Why the last one could not, in words.
        why: String,
        /// How long it waits.
        retry_in: Duration,
    },
    /// A better server is back. The old connection serves until the new one has joined.
    Switching {
        /// Who serves.
        from: Url,
        /// Who will.
        to: Url,
    },
    /// It was closed, and stays so.
    Closed,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connecting => f.write_str("connecting"),
            Self::Connected { endpoint } => write!(f, "connected to {endpoint}"),
            Self::Lost { endpoint, why, retry_in } if retry_in.is_zero() => write!(f, "lost {endpoint}: {why}"),
            Self::Lost { endpoint, why, retry_in } => write!(f, "lost {endpoint}: {why}; waiting {retry_in:.1?}"),
            Self::Waiting { why, retry_in } => write!(f, "no server can be used, waiting {retry_in:.1?}: {why}"),
            Self::Switching { from, to } => write!(f, "going back from {from} to {to}"),
            Self::Closed => f.write_str("closed"),
        }
    }
}

/// The changes of a socket's state, in order.
#[derive(Debug)]
pub struct StateChanges(pub(crate) broadcast::Receiver<State>);

impl StateChanges {
    /// The next change; `None` when the socket is gone. Who does not listen for 64 changes misses the oldest.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped.
    pub async fn next(&mut self) -> Option<State> {
        loop {
            match self.0.recv().await {
                Ok(state) => return Some(state),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}
