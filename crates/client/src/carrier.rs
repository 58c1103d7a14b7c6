//! What carries one attempt: a connection of ours with full proof, or another transport with what it can prove.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use handover_wire::conn::ExchangeError;
use handover_wire::dial::{DialError, Progress};
use http::{Request, Response};
use tokio::time::Instant;

use crate::answer_body::AnswerBody;
use crate::body::SentBody;
use crate::discover::BoxFuture;
use crate::endpoint::Endpoint;

/// Which connection is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Any that is alive.
    Any,
    /// Any, but one that rested is looked at with care: what is to be sent would do harm if its fate became unknown.
    Careful,
    /// One that has carried nothing yet.
    Fresh,
    /// One that has carried nothing yet and speaks HTTP/1.1, for a protocol to switch to.
    Switchable,
}

/// A connection, and where it leads.
pub(crate) struct Ready<C> {
    pub(crate) conn: C,
    pub(crate) address: Option<SocketAddr>,
    /// Whether nothing else has gone on it, so that what is wrong with it is wrong with the endpoint.
    pub(crate) is_fresh: bool,
}

pub(crate) type Dial<C> = BoxFuture<'static, Result<Ready<C>, DialError>>;

/// Carries attempts.
pub(crate) trait Carrier: Send + Sync + 'static {
    type Conn: Send + 'static;

    /// A connection that is there already.
    fn take(&self, endpoint: &Endpoint, wanted: Wanted) -> Option<Ready<Self::Conn>>;

    /// Opens a connection. Dropping the future closes what was opened.
    fn dial(&self, endpoint: Arc<Endpoint>, wanted: Wanted, progress: Arc<Progress>) -> Dial<Self::Conn>;

    /// Sends the request and waits for the response head until `give_up`. Dropping the future gives the request up.
    fn exchange(
        &self,
        endpoint: &Arc<Endpoint>,
        conn: Self::Conn,
        request: Request<SentBody>,
        give_up: Instant,
    ) -> impl Future<Output = Result<Response<AnswerBody>, ExchangeError>> + Send;
}
