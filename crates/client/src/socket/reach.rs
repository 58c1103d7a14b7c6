//! What the socket needs of the client: connections and requests that fail over, and who should be used.
//!
//! A trait, so that the socket's own rules (acknowledgements, hand-over, order of events) can be tested against servers that
//! fail at a chosen point, and because only one file should know both sides.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use tokio::sync::watch;
use url::Url;

use super::transport::Switched;

/// A future that can be kept.
pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What is asked of a server.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) path: String,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: HeaderMap,
    /// This endpoint and no other; else the client's order, with failover.
    pub(crate) only: Option<Url>,
    /// How long it may take, over all attempts.
    pub(crate) limit: Duration,
    /// The largest answer that is taken, in bytes.
    pub(crate) answer_bytes_max: usize,
}

/// A connection that stands, and where.
pub(crate) struct Reached {
    pub(crate) switched: Switched,
    pub(crate) endpoint: Url,
    pub(crate) headers: HeaderMap,
}

/// Nobody gave what was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Unreachable {
    /// A server answered, with this status.
    pub(crate) status: Option<StatusCode>,
    /// Proven: no server got a byte of it.
    pub(crate) not_sent: bool,
    pub(crate) message: String,
}

/// The client, as the socket sees it.
pub(crate) trait Reach: Send + Sync + 'static {
    /// Asks for a change to the WebSocket protocol.
    fn upgrade(&self, ask: Ask) -> BoxFuture<Result<Reached, Unreachable>>;

    /// Asks for a text with GET, from whoever answers first in the client's order.
    fn fetch(&self, ask: Ask) -> BoxFuture<Result<(String, Url), Unreachable>>;

    /// GET, or POST of a text: the text that is answered. A status that is not 2xx is an error.
    fn exchange(&self, ask: Ask, body: Option<String>) -> BoxFuture<Result<String, Unreachable>>;

    /// All endpoints, in the order in which they should be used now.
    fn order(&self) -> Vec<Url>;

    /// Who should be used instead of `endpoint`.
    fn better_than(&self, endpoint: &Url) -> Option<Url>;

    /// Asks those that would be better than `at` whether they are back, so that [`better_than`](Self::better_than) can know;
    /// nothing where the client finds out by itself.
    fn look(&self, ask: Ask, at: &Url) -> Option<BoxFuture<()>>;

    /// Changes when [`better_than`](Self::better_than) may answer something else.
    fn elections(&self) -> watch::Receiver<u64>;

    /// The connection to it broke.
    fn lost(&self, endpoint: &Url);

    /// The connection to it was of use.
    fn good(&self, endpoint: &Url);
}
