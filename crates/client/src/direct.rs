//! Our own connections: dialled, kept and driven here, with full proof of what was sent on them.

use std::sync::Arc;
use std::time::Duration;

use handover_core::Stage;
use handover_wire::conn::{Conn, ExchangeError};
use handover_wire::dial::{DialError, Dialer, Progress, TargetRules};
use handover_wire::h2::H2Conn;
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderValue, Request, Response};
use http_body::Body as _;
use tokio::time::Instant;

use crate::answer_body::AnswerBody;
use crate::body::SentBody;
use crate::builder::Http2;
use crate::call::absolute;
use crate::carrier::{Carrier, Dial, Ready, Wanted};
use crate::endpoint::Endpoint;
use crate::pool::{H1, H2, Pool};

/// The carrier of [`Client`](crate::Client).
#[derive(Clone)]
pub(crate) struct Direct {
    /// Offers HTTP/2 where it may be spoken.
    dialer: Dialer,
    /// Offers HTTP/1.1 only, for a protocol to switch to.
    plain: Dialer,
    http2: Http2,
}

/// A connection to an endpoint.
pub(crate) enum Link {
    H1(H1),
    H2(H2),
}

/// The endpoints are the caller's own choice; nobody else's wish is to be kept from private addresses.
const RULES: TargetRules = TargetRules { allow_private: true, own: Vec::new() };

/// A connection's timer needs a time when it is made; every exchange sets it anew.
const UNTIL_THE_FIRST_EXCHANGE: Duration = Duration::from_secs(60);

impl Direct {
    pub(crate) fn new(plain: Dialer, http2: Http2) -> Self {
        let dialer = if http2 == Http2::Never { plain.clone() } else { plain.clone().offering_http2() };
        Self { dialer, plain, http2 }
    }

    /// Reads the trusted certificates now, so that no dial is charged for it.
    pub(crate) async fn load_certificates(&self) {
        self.dialer.load_certificates().await;
    }

    async fn open(
        &self,
        endpoint: &Arc<Endpoint>,
        wanted: Wanted,
        progress: &Progress,
    ) -> Result<Ready<Link>, DialError> {
        // Where all can share one connection, one dials and the others wait for it.
        let is_shared = self.http2 == Http2::PriorKnowledge || endpoint.pool.speaks_h2();
        let _turn = if is_shared && wanted != Wanted::Switchable { endpoint.pool.turn_to_dial().await } else { None };
        if !matches!(wanted, Wanted::Fresh | Wanted::Switchable)
            && let Some(conn) = endpoint.pool.share()
        {
            return Ok(Ready { address: Some(conn.peer()), conn: Link::H2(conn), is_fresh: false });
        }
        let (node, target) = (&endpoint.route.node, &endpoint.route.target);
        let dialer = if wanted == Wanted::Switchable { &self.plain } else { &self.dialer };
        let dialled = dialer.dial(node, target, &RULES, progress).await?;
        if !dialled.early.is_empty() {
            return Err(DialError::not_the_protocol(node, progress, "the server spoke before it was asked"));
        }
        let (io, peer) = (dialled.io, dialled.peer);
        let wrong = |error: ExchangeError| DialError::not_the_protocol(node, progress, &error.text);
        let is_h2 = wanted != Wanted::Switchable && (io.is_http2() || self.http2 == Http2::PriorKnowledge);
        let conn = if is_h2 {
            let conn = H2Conn::start(io, peer).await.map_err(wrong)?;
            endpoint.pool.put_shared(conn.clone());
            Pool::look_after(endpoint);
            Link::H2(conn)
        } else {
            Link::H1(Conn::start(io, peer, UNTIL_THE_FIRST_EXCHANGE).await.map_err(wrong)?)
        };
        Ok(Ready { conn, address: Some(peer), is_fresh: true })
    }
}

impl Carrier for Direct {
    type Conn = Link;

    fn take(&self, endpoint: &Endpoint, wanted: Wanted) -> Option<Ready<Link>> {
        if matches!(wanted, Wanted::Fresh | Wanted::Switchable) {
            return None;
        }
        if let Some(conn) = endpoint.pool.share() {
            return Some(Ready { address: Some(conn.peer()), conn: Link::H2(conn), is_fresh: false });
        }
        let conn = endpoint.pool.take(wanted == Wanted::Careful)?;
        Some(Ready { address: Some(conn.peer), conn: Link::H1(conn), is_fresh: false })
    }

    fn dial(&self, endpoint: Arc<Endpoint>, wanted: Wanted, progress: Arc<Progress>) -> Dial<Link> {
        let direct = self.clone();
        Box::pin(async move { direct.open(&endpoint, wanted, &progress).await })
    }

    async fn exchange(
        &self,
        endpoint: &Arc<Endpoint>,
        conn: Link,
        mut request: Request<SentBody>,
        give_up: Instant,
    ) -> Result<Response<AnswerBody>, ExchangeError> {
        say_length(&mut request).map_err(unsendable)?;
        let conn = match conn {
            Link::H1(conn) => conn,
            Link::H2(conn) => {
                absolute(&mut request, endpoint).map_err(unsendable)?;
                let exchanged = conn.exchange(request, give_up).await;
                let lives = |error| ExchangeError { is_connection_alive: conn.is_usable(), ..error };
                return Ok(exchanged.map_err(lives)?.map(AnswerBody::of_h2));
            }
        };
        request.headers_mut().entry(HOST).or_insert_with(|| endpoint.host.clone());
        // hyper takes a GET or HEAD of unknown length for one without a body unless it is told otherwise.
        if request.body().size_hint().exact().is_none() && !request.headers().contains_key(CONTENT_LENGTH) {
            request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        let sent = request.body().clone();
        let timeout = give_up.saturating_duration_since(Instant::now());
        let (conn, response) = conn.exchange(request, timeout, give_up).await?;
        Ok(response.map(|incoming| AnswerBody::of_h1(incoming, conn, endpoint, sent)))
    }
}

/// Says how long the body is, where that is known (RFC 9110 §8.6). A caller who says otherwise would cut it, or make the
/// server wait.
fn say_length(request: &mut Request<SentBody>) -> Result<(), String> {
    let Some(length) = request.body().size_hint().exact() else { return Ok(()) };
    match request.headers().get(CONTENT_LENGTH) {
        Some(said) if said.as_bytes() != length.to_string().as_bytes() => {
            Err(format!("the field Content-Length says {said:?}, and the body has {length} bytes"))
        }
        None if length > 0 => {
            request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The request cannot be written for this endpoint, nor for another.
pub(crate) fn unsendable(why: String) -> ExchangeError {
    let (stage, fault, sent) = (Stage::Send, handover_core::Fault::Denied, handover_core::Sent::No);
    ExchangeError {
        stage,
        fault,
        sent,
        errno: None,
        written_bytes: 0,
        text: why,
        client: None,
        is_connection_alive: false,
    }
}
