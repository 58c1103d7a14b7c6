//! Our own connections: dialled, kept and driven here, with full proof of what was sent on them.

use std::sync::Arc;
use std::time::Duration;

use handover_wire::conn::{Conn, ExchangeError};
use handover_wire::dial::{DialError, Dialer, Progress, TargetRules};
use http::header::{HOST, TRANSFER_ENCODING};
use http::{HeaderValue, Request, Response};
use http_body::Body as _;
use tokio::time::Instant;

use crate::answer_body::AnswerBody;
use crate::body::SentBody;
use crate::builder::Http2;
use crate::carrier::{Carrier, Dial, Ready, Wanted};
use crate::endpoint::Endpoint;
use crate::pool::H1;

/// The carrier of [`Client`](crate::Client).
pub(crate) struct Direct {
    dialer: Dialer,
    #[allow(dead_code, reason = "until HTTP/2 is there")]
    http2: Http2,
}

/// A connection to an endpoint.
pub(crate) enum Link {
    H1(H1),
}

/// The endpoints are the caller's own choice; nobody else's wish is to be kept from private addresses.
const RULES: TargetRules = TargetRules { allow_private: true, own: Vec::new() };

/// A connection's timer needs a time when it is made; every exchange sets it anew.
const UNTIL_THE_FIRST_EXCHANGE: Duration = Duration::from_secs(60);

impl Direct {
    pub(crate) fn new(dialer: Dialer, http2: Http2) -> Self {
        Self { dialer, http2 }
    }
}

impl Carrier for Direct {
    type Conn = Link;

    fn take(&self, endpoint: &Endpoint, wanted: Wanted) -> Option<Ready<Link>> {
        if matches!(wanted, Wanted::Fresh | Wanted::Switchable) {
            return None;
        }
        let conn = endpoint.pool.take(wanted == Wanted::Careful)?;
        let address = Some(conn.peer);
        Some(Ready { conn: Link::H1(conn), address })
    }

    fn dial(&self, endpoint: Arc<Endpoint>, _wanted: Wanted, progress: Arc<Progress>) -> Dial<Link> {
        let dialer = self.dialer.clone();
        Box::pin(async move {
            let route = &endpoint.route;
            let dialled = dialer.dial(&route.node, &route.target, &RULES, &progress).await?;
            if !dialled.early.is_empty() {
                return Err(DialError::not_the_protocol(
                    &route.node,
                    &progress,
                    "the server spoke before it was asked",
                ));
            }
            let conn = Conn::start(dialled.io, dialled.peer, UNTIL_THE_FIRST_EXCHANGE).await;
            let conn = conn.map_err(|error| DialError::not_the_protocol(&route.node, &progress, &error.text))?;
            Ok(Ready { conn: Link::H1(conn), address: Some(dialled.peer) })
        })
    }

    async fn exchange(
        &self,
        endpoint: &Arc<Endpoint>,
        conn: Link,
        mut request: Request<SentBody>,
        give_up: Instant,
    ) -> Result<Response<AnswerBody>, ExchangeError> {
        let Link::H1(conn) = conn;
        request.headers_mut().entry(HOST).or_insert_with(|| endpoint.host.clone());
        // hyper takes a GET or HEAD of unknown length for one without a body unless it is told otherwise.
        if request.body().size_hint().exact().is_none() {
            request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        let sent = request.body().clone();
        let timeout = give_up.saturating_duration_since(Instant::now());
        let (conn, response) = conn.exchange(request, timeout, give_up).await?;
        Ok(response.map(|incoming| AnswerBody::of_h1(incoming, conn, endpoint, sent)))
    }
}
