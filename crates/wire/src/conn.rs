//! One HTTP/1.1 connection to a node, and one exchange at a time on it, with proof of what was sent.
//!
//! The connection is driven inside the task of the request that uses it, not by a task of its own: nothing has to be woken
//! across tasks, and giving a request up is dropping the connection, synchronously. After that nothing can be written any
//! more, which is what makes the counters read afterwards a proof (the module `gate` has the gate).

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use handover_core::{Fault, Sent, Stage};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::Sleep;

use crate::body::TrackedBody;
use crate::dial::{DialError, RawCounter, Stream, fault_of};
use crate::gate::{Gate, Wire};

/// A reused connection that rested longer than this is always looked at with a system call before it is used again. After a
/// shorter rest only a request that could do harm when its fate is unknown gets that look: the event loop tells of a FIN
/// within a turn, which is less than this unless the thread is saturated.
const PROBE_AFTER: Duration = Duration::from_millis(1);

/// Largest response head from a node, in bytes: the same as is allowed from clients by default.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// What one side of a connection may buffer, in bytes. Bulk data comes in pieces of this size; more would make a client
/// that reads slowly cost more memory (measured: 506 KiB with hyper's own bound of 400 KiB), less costs throughput (measured:
/// a fifth of a large download at 128 KiB).
pub const BUFFER_BYTES_MAX: usize = 256 * 1024;

/// A connection to a node, or through it to a target.
pub struct Conn<B: TrackedBody + 'static> {
    http: http1::Connection<TokioIo<Wire>, B>,
    sender: http1::SendRequest<B>,
    gate: Arc<Gate>,
    raw: RawCounter,
    /// The address of its socket.
    pub peer: SocketAddr,
    timer: Pin<Box<Sleep>>,
    rested_since: Instant,
    /// Bytes read from it before the current exchange.
    read_before: u64,
    raw_before: u64,
}

/// Why an exchange got no response head. The connection is gone.
pub struct ExchangeError {
    /// How far it got.
    pub stage: Stage,
    /// What went wrong.
    pub fault: Fault,
    /// What is proven of the request.
    pub sent: Sent,
    /// The operating system's error number, if it was its error.
    pub errno: Option<i32>,
    /// Bytes that the raw socket took since the request was handed over.
    pub written_bytes: u64,
    /// What happened, in one line of lower case.
    pub text: String,
    /// What the client did wrong, if it was the client.
    pub client: Option<ClientFault>,
    /// Whether the connection is there still and takes further requests: what went wrong was said of this request.
    pub is_connection_alive: bool,
}

/// How a client broke its own request off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientFault {
    /// It went away.
    Left,
    /// It sent nothing more of its body.
    Silent,
    /// It sent a body that is none.
    Malformed,
}

impl ExchangeError {
    /// Whether the connection was dead when the request came to it, and nothing of the request left.
    pub fn is_of_the_connection(&self) -> bool {
        self.sent == Sent::No && !self.is_connection_alive && !matches!(self.fault, Fault::Timeout | Fault::Denied)
    }

    /// A dial that replaced a dead idle connection failed.
    pub fn of_dial(error: &DialError) -> Self {
        ExchangeError {
            stage: error.stage,
            fault: error.fault,
            sent: Sent::No,
            errno: error.errno,
            written_bytes: 0,
            text: error.message.to_string(),
            client: None,
            is_connection_alive: false,
        }
    }
}

impl From<hyper::Error> for ExchangeError {
    /// HTTP could not even be begun on a fresh connection.
    fn from(error: hyper::Error) -> Self {
        let (fault, errno) = fault_of_exchange(&error);
        let text = full_text(&error);
        ExchangeError {
            stage: Stage::Send,
            fault,
            sent: Sent::No,
            errno,
            written_bytes: 0,
            text,
            client: None,
            is_connection_alive: false,
        }
    }
}

impl<B> Conn<B>
where
    B: TrackedBody + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Speaks HTTP/1.1 on a fresh stream. Cancel safe: dropping it closes the stream.
    pub async fn start(stream: Stream, peer: SocketAddr, timeout: Duration) -> Result<Box<Self>, ExchangeError> {
        let gate = Arc::new(Gate::default());
        let raw = stream.raw_counter();
        let io = TokioIo::new(Wire::new(stream, Arc::clone(&gate)));
        let (sender, http) =
            http1::Builder::new().max_header_size(HEAD_BYTES_MAX).max_buf_size(BUFFER_BYTES_MAX).handshake(io).await?;
        Ok(Box::new(Conn {
            http,
            sender,
            gate,
            raw,
            peer,
            timer: Box::pin(tokio::time::sleep(timeout)),
            rested_since: Instant::now(),
            read_before: 0,
            raw_before: 0,
        }))
    }

    /// Bytes of the current exchange: written to the raw socket, and read from the node.
    pub fn moved(&self) -> (u64, u64) {
        (self.raw.written() - self.raw_before, self.gate.read_bytes() - self.read_before)
    }

    /// What counts the bytes of the exchange that is about to begin.
    pub fn counter(&self) -> (RawCounter, u64) {
        (self.raw.clone(), self.raw.written())
    }

    /// The exchange is over; the connection rests from now on.
    pub fn rest(&mut self, now: Instant) {
        self.rested_since = now;
    }

    /// For how long it has rested.
    pub fn rested(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.rested_since)
    }

    /// Whether an idle connection can take a request: open on both sides as far as the kernel knows.
    pub fn is_reusable(&mut self, now: Instant, careful: bool) -> bool {
        self.gate.probe(careful || self.rested(now) >= PROBE_AFTER);
        let mut cx = Context::from_waker(Waker::noop());
        let open = self.http.poll_without_shutdown(&mut cx).is_pending();
        self.gate.probe(false);
        open && self.sender.is_ready()
    }

    /// The request is given up though it was answered: nothing more of it is written. What has come of the response can
    /// still be read. If all of the request had gone, the connection can carry the next one.
    pub fn seal(&self) {
        self.gate.seal();
    }

    /// Drives the connection while its response body is read. Ready: the connection is over.
    pub fn poll_drive(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.http.poll_without_shutdown(cx)
    }

    /// Whether the last exchange is over on the wire, so that the connection can rest.
    pub fn is_at_rest(&mut self) -> bool {
        if self.sender.is_ready() {
            return true;
        }
        let mut cx = Context::from_waker(Waker::noop());
        self.http.poll_without_shutdown(&mut cx).is_pending() && self.sender.is_ready()
    }

    /// Takes the stream back after the node switched protocols, with bytes that came behind its response head.
    pub async fn into_switched(mut self) -> Result<(Stream, bytes::Bytes), hyper::Error> {
        poll_fn(|cx| self.http.poll_without_shutdown(cx)).await?;
        let parts = self.http.into_parts();
        Ok((parts.io.into_inner().into_stream(), parts.read_buf))
    }

    /// Sends a request and waits for the response head, no longer than `timeout` without progress of the
    /// request's body; `give_up` is when that time is first over.
    ///
    /// Not cancel safe in the sense of resuming: dropping the future gives the request up, and whoever drops it must drop
    /// the connection too, which closes it with nothing more written.
    ///
    /// # Errors
    /// What went wrong, with what is proven of the request; the connection is consumed.
    pub async fn exchange(
        mut self: Box<Self>,
        request: Request<B>,
        timeout: Duration,
        give_up: tokio::time::Instant,
    ) -> Result<(Box<Self>, Response<Incoming>), ExchangeError> {
        let body = request.body().clone();
        (self.raw_before, self.read_before) = (self.raw.written(), self.gate.read_bytes());
        self.gate.open();
        self.timer.as_mut().reset(give_up);
        let ended = {
            // The connection alone completes this future, in this very task. So it is polled behind the connection and with
            // no waker (it would only wake the task that is running), and outside of the cooperative budget, whose
            // exhaustion would be told to that missing waker.
            let mut response = pin!(tokio::task::coop::unconstrained(self.sender.try_send_request(request)));
            let (http, timer) = (&mut self.http, &mut self.timer);
            poll_fn(|cx| {
                let over = http.poll_without_shutdown(cx);
                let mut quiet = Context::from_waker(Waker::noop());
                if let Poll::Ready(result) = response.as_mut().poll(&mut quiet) {
                    return Poll::Ready(Ended::from(result));
                }
                if over.is_ready() {
                    return Poll::Ready(Ended::Lost);
                }
                while timer.as_mut().poll(cx).is_ready() {
                    // What counts is silence: an upload that still moves gets its time anew from its last piece.
                    if body.is_waiting() {
                        return Poll::Ready(Ended::ClientSilent);
                    }
                    match body.last_read().map(|read| tokio::time::Instant::from_std(read) + timeout) {
                        Some(by) if by > tokio::time::Instant::now() => timer.as_mut().reset(by),
                        _ => return Poll::Ready(Ended::TimedOut),
                    }
                }
                Poll::Pending
            })
            .await
        };
        match ended {
            Ended::Head(response) => Ok((self, response)),
            Ended::Failed(given_back, error) => Err(self.failed(given_back, Some(&error), Fault::Closed, &body)),
            Ended::Lost => Err(self.failed(false, None, Fault::Closed, &body)),
            Ended::TimedOut => Err(self.failed(false, None, Fault::Timeout, &body)),
            Ended::ClientSilent => {
                let error = self.failed(false, None, Fault::Cancelled, &body);
                Err(ExchangeError { client: Some(ClientFault::Silent), ..error })
            }
        }
    }

    /// Gives the request up and says what is proven of it.
    fn failed(
        self: Box<Self>,
        given_back: bool,
        error: Option<&hyper::Error>,
        fault: Fault,
        body: &B,
    ) -> ExchangeError {
        let Conn { http, sender, gate, raw, raw_before, .. } = *self;
        let unwritten = gate.revoke();
        // From here on nothing can be written: what the counter says is final.
        drop((http, sender));
        let written_bytes = raw.written() - raw_before;
        let sent = if given_back || unwritten || written_bytes == 0 { Sent::No } else { Sent::Maybe };
        let waited = written_bytes > 0 && body.is_ended();
        let (fault, errno) = error.map_or((fault, None), fault_of_exchange);
        let client = error.filter(|error| error.is_user()).map(client_fault);
        let text = match (error, fault) {
            _ if client == Some(ClientFault::Left) => "the client went away in the middle of its request".to_owned(),
            (Some(error), _) => full_text(error),
            (None, Fault::Cancelled) => "the client stopped sending its request".to_owned(),
            (None, Fault::Timeout) if waited => "no response head in time".to_owned(),
            (None, Fault::Timeout) => "the request could not be written in time".to_owned(),
            (None, _) => "the connection closed before the response".to_owned(),
        };
        let stage = if waited { Stage::AwaitHead } else { Stage::Send };
        ExchangeError { stage, fault, sent, errno, written_bytes, text, client, is_connection_alive: false }
    }
}

/// How the wait for a response head ended.
enum Ended {
    Head(Response<Incoming>),
    /// hyper's error, and whether it gave the request back unserialised.
    Failed(bool, hyper::Error),
    /// The connection ended and the request's future did not learn of it.
    Lost,
    TimedOut,
    /// The client sent nothing more of its body for that time.
    ClientSilent,
}

type SendResult<B> = Result<Response<Incoming>, hyper::client::conn::TrySendError<Request<B>>>;

impl<B> From<SendResult<B>> for Ended {
    fn from(result: SendResult<B>) -> Self {
        match result {
            Ok(response) => Ended::Head(response),
            Err(mut error) => Ended::Failed(error.take_message().is_some(), error.into_error()),
        }
    }
}

/// What an error of hyper's is: its fault and its number.
pub fn fault_of_exchange(error: &hyper::Error) -> (Fault, Option<i32>) {
    // The request's own body broke: it was the client who left, whatever the causes beneath say.
    if error.is_user() {
        return (Fault::Cancelled, None);
    }
    if let Some(io) = io_cause(error) {
        let (fault, errno) = fault_of(io);
        // hyper reports a peer's FIN in the middle of a message as an I/O error too.
        let closed = io.kind() == io::ErrorKind::UnexpectedEof;
        return (if closed { Fault::Closed } else { fault }, errno);
    }
    (if error.is_parse() { Fault::Protocol } else { Fault::Closed }, None)
}

/// What a client did whose body ended in an error.
fn client_fault(error: &hyper::Error) -> ClientFault {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, InvalidData, InvalidInput, UnexpectedEof};
    match io_cause(error).map(io::Error::kind) {
        Some(InvalidData | InvalidInput) => ClientFault::Malformed,
        Some(BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof) | None => ClientFault::Left,
        Some(_) => ClientFault::Malformed,
    }
}

fn io_cause(error: &hyper::Error) -> Option<&io::Error> {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io);
        }
        cause = error.source();
    }
    None
}

/// An error with its causes, outermost first.
pub fn full_text(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
