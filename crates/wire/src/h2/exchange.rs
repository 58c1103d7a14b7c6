//! One request on a shared connection: from the line to the response's head, and what is proven of it if there is none.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Instant;

use ::h2::{Reason, RecvStream};
use handover_core::{Fault, Sent, Stage};
use http::{Method, Request, Response};
use tokio::time::Sleep;

use super::body::H2Body;
use super::driver::Shared;
use super::line::{Handed, Over, Ticket};
use super::upload::{Behind, BoxError, Upload};
use super::{error, head};
use crate::body::TrackedBody;
use crate::conn::{ClientFault, ExchangeError};

/// Counts a request as under way on its connection.
pub(super) struct UnderWay(Arc<Shared>);

impl UnderWay {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.busy().requests += 1;
        UnderWay(Arc::clone(shared))
    }

    /// How the connection ended, if it has.
    pub(super) fn over(&self) -> Option<Over> {
        self.0.line.over()
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut busy = self.0.busy();
        busy.requests -= 1;
        busy.idle_since = Instant::now();
        let idle = busy.requests == 0;
        drop(busy);
        if idle && self.0.line.is_abandoned() {
            self.0.line.call();
        }
    }
}

/// An exchange under way. Dropping it gives the request up, at once and for good.
pub(super) struct Exchange<B> {
    shared: Arc<Shared>,
    ticket: Arc<Ticket>,
    handed: Option<Handed>,
    upload: Option<Upload<B>>,
    under_way: Option<UnderWay>,
    timer: Pin<Box<Sleep>>,
    is_head: bool,
    /// Whether nothing is left to give up.
    done: bool,
}

/// Why there is no response head.
enum Why {
    Stream(::h2::Error),
    NotTaken(Over),
    TimedOut,
    ClientSilent,
    Body(BoxError),
}

impl<B> Exchange<B>
where
    B: TrackedBody + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// Puts the request in line.
    ///
    /// # Errors
    /// It cannot be carried, or the connection is over; nothing of it was sent.
    pub(super) fn begin(shared: &Arc<Shared>, request: Request<B>, timer: Sleep) -> Result<Self, ExchangeError> {
        let (parts, body) = request.into_parts();
        let (ends, is_head) = (body.is_end_stream(), parts.method == Method::HEAD);
        let head = head::prepare(parts, shared.secure)
            .map_err(|text| unsent(Over { fault: Fault::Protocol, errno: None, text }))?;
        let under_way = UnderWay::new(shared);
        let ticket = Ticket::new(head, ends);
        shared.line.join(&ticket).map_err(unsent)?;
        Ok(Exchange {
            shared: Arc::clone(shared),
            ticket,
            handed: None,
            upload: (!ends).then(|| Upload::new(body)),
            under_way: Some(under_way),
            timer: Box::pin(timer),
            is_head,
            done: false,
        })
    }

    /// Waits for the response head, and sends the body meanwhile.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<H2Body>, ExchangeError>> {
        let why = match self.advance(cx) {
            Poll::Ready(Ok(response)) => return Poll::Ready(Ok(self.answered(response))),
            Poll::Ready(Err(why)) => why,
            Poll::Pending if self.timer.as_mut().poll(cx).is_ready() => self.late(),
            Poll::Pending => return Poll::Pending,
        };
        Poll::Ready(Err(self.failed(why)))
    }

    fn advance(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<RecvStream>, Why>> {
        let handed = match &mut self.handed {
            Some(handed) => handed,
            None => match std::task::ready!(self.ticket.poll_settled(cx)) {
                Ok(handed) => self.handed.insert(handed),
                Err(over) => return Poll::Ready(Err(Why::NotTaken(over))),
            },
        };
        if let Poll::Ready(response) = Pin::new(&mut handed.response).poll(cx) {
            return Poll::Ready(response.map_err(Why::Stream));
        }
        if let Some(upload) = &mut self.upload
            && let Poll::Ready(sent) = upload.poll(&mut handed.send, cx)
        {
            self.upload = None;
            sent.map_err(Why::Body)?;
        }
        Poll::Pending
    }

    /// Whether it was the caller who let the time pass.
    fn late(&self) -> Why {
        let waits = self.handed.is_some() && self.upload.as_ref().is_some_and(Upload::is_waiting);
        if waits { Why::ClientSilent } else { Why::TimedOut }
    }

    fn answered(&mut self, response: Response<RecvStream>) -> Response<H2Body> {
        self.done = true;
        let (parts, receive) = response.into_parts();
        let handed = self.handed.take().expect("only a request that was handed over is answered");
        let under_way = self.under_way.take().expect("it is kept until here");
        let rest = self.upload.take().map(|upload| Box::new(Behind(upload, handed.send)) as Box<_>);
        let body = H2Body::new(receive, rest, under_way, &parts.headers, self.is_head);
        Response::from_parts(parts, body)
    }

    fn failed(&mut self, why: Why) -> ExchangeError {
        let whole = self.upload.is_none() && self.handed.is_some();
        let Some(handed) = self.give_up() else {
            return match why {
                Why::NotTaken(over) => unsent(over),
                _ => unsent(timed_out("the request could not be written in time")),
            };
        };
        let client = match &why {
            Why::ClientSilent => Some(ClientFault::Silent),
            Why::Body(error) => Some(error::client_fault(error)),
            Why::Stream(_) | Why::NotTaken(_) | Why::TimedOut => None,
        };
        let heard = self.shared.wire.with_book(|book| book.read_bytes());
        if matches!(why, Why::TimedOut) && heard == handed.read_before {
            self.shared.silent_at.store(heard, Ordering::Relaxed);
        }
        let (sent, over) = self.proven(&handed, why, whole);
        let written = self.shared.raw.written().saturating_sub(handed.raw_before);
        ExchangeError {
            stage: if whole && sent != Sent::No { Stage::AwaitHead } else { Stage::Send },
            fault: over.fault,
            sent,
            errno: over.errno,
            written_bytes: if sent == Sent::No { 0 } else { written },
            text: over.text,
            client,
            is_connection_alive: false,
        }
    }

    /// What is proven of a request that was handed over and given up since, and why it has no answer.
    fn proven(&self, handed: &Handed, why: Why, whole: bool) -> (Sent, Over) {
        let stream = handed.stream;
        let (last, begun) = self.shared.wire.with_book(|book| (book.last_stream(), book.has_begun(stream)));
        // Once it is closed nothing can follow, so what was not written never will be.
        let unwritten = !begun || self.shared.raw.written() == handed.raw_before;
        let nothing_left = self.shared.wire.is_closed() && unwritten;
        let over = match why {
            Why::Stream(error) if is_refusal(&error) => {
                return (Sent::No, error::closed("the peer refused the stream (REFUSED_STREAM)".to_owned()));
            }
            Why::Stream(error) => match last {
                Some(last) if stream > last => {
                    let text = format!("the peer went away (GOAWAY, last stream {last}, this is {stream})");
                    return (Sent::No, error::closed(text));
                }
                // Its own word says more than h2's broken pipe, which stands for every end of a connection.
                _ if error.is_io() => self.shared.line.over().unwrap_or_else(|| error::of(&error)),
                _ => error::of(&error),
            },
            Why::NotTaken(over) => return (Sent::No, over),
            Why::TimedOut if whole => timed_out("no response head in time"),
            Why::TimedOut => timed_out("the request could not be written in time"),
            Why::ClientSilent => cancelled("the client stopped sending its request"),
            Why::Body(_) => cancelled("the client went away in the middle of its request"),
        };
        // What came before the GOAWAY does not matter to its promise.
        let above = last.is_some_and(|last| stream > last);
        (if nothing_left || above { Sent::No } else { Sent::Maybe }, over)
    }
}

impl<B> Exchange<B> {
    /// Gives the request up: when this returns, not one byte of it flows any more. `None`: none ever did.
    pub(super) fn give_up(&mut self) -> Option<Handed> {
        self.done = true;
        if self.ticket.revoke() {
            self.shared.line.leave(&self.ticket);
            return None;
        }
        // While it is held the connection's task is not in the middle of a turn.
        let mut driver = self.shared.driver();
        let handed = self.handed.take().or_else(|| driver.take_back(&self.ticket));
        let mut handed = handed.or_else(|| self.ticket.settled().and_then(Result::ok))?;
        if !self.shared.wire.is_closed() {
            if self.shared.wire.with_book(|book| book.is_held(handed.stream)) {
                self.shared.wire.close("the connection was closed: a request on it was given up half written");
                self.shared.line.call();
            } else {
                handed.send.send_reset(Reason::CANCEL);
            }
        }
        Some(handed)
    }
}

impl<B> Drop for Exchange<B> {
    fn drop(&mut self) {
        if !self.done {
            drop(self.give_up());
        }
    }
}

/// Whether the peer says that it has not processed the stream (RFC 9113 §8.7).
fn is_refusal(error: &::h2::Error) -> bool {
    error.is_reset() && error.is_remote() && error.reason() == Some(Reason::REFUSED_STREAM)
}

fn timed_out(text: &str) -> Over {
    Over { fault: Fault::Timeout, errno: None, text: text.to_owned() }
}

fn cancelled(text: &str) -> Over {
    Over { fault: Fault::Cancelled, errno: None, text: text.to_owned() }
}

/// Nothing of the request was handed to the connection.
pub(super) fn unsent(over: Over) -> ExchangeError {
    let Over { fault, errno, text } = over;
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
