//! Polling: one request waits for what the server has to say, another brings what there is to send, one at a time each.
//!
//! A batch is handed over whole or not at all: while one is under way nothing new is taken, so that all of it shares one
//! fate, and the proof that its request was not sent is a proof for each message in it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use super::{Broken, Evidence, Transport};
use crate::socket::engineio::{append_to_payload, payload_len, read_payload};
use crate::socket::frame::Frame;
use crate::socket::reach::{Ask, BoxFuture, Reach, Unreachable};

/// Bytes of a batch if the server names no limit: what its own default is (`maxHttpBufferSize`, 1 MB).
const BODY_BYTES_MAX: usize = 1_000_000;

type Asking = BoxFuture<Result<String, Unreachable>>;

/// A session that is polled.
pub(crate) struct Polling {
    reach: Arc<dyn Reach>,
    ask: Ask,
    body_bytes_max: usize,
    get: Option<Asking>,
    post: Option<Asking>,
    batch: Vec<Frame>,
    batch_bytes: usize,
    came: VecDeque<Frame>,
    /// Requests that brought a batch and may have been sent.
    sent: Arc<AtomicU64>,
}

impl Polling {
    /// `ask` names the endpoint and the session; `came` is what came with the handshake.
    pub(crate) fn new(reach: Arc<dyn Reach>, ask: Ask, body_bytes_max: Option<usize>, came: VecDeque<Frame>) -> Self {
        Self {
            reach,
            ask,
            body_bytes_max: body_bytes_max.unwrap_or(BODY_BYTES_MAX),
            get: None,
            post: None,
            batch: Vec::new(),
            batch_bytes: 0,
            came,
            sent: Arc::default(),
        }
    }

    fn body(&mut self) -> String {
        let mut body = String::with_capacity(self.batch_bytes);
        self.batch.drain(..).for_each(|frame| append_to_payload(&mut body, &frame));
        self.batch_bytes = 0;
        body
    }

    fn poll_post(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let Some(post) = &mut self.post else { return Poll::Ready(Ok(())) };
        let outcome = ready!(post.as_mut().poll(cx));
        self.post = None;
        if let Err(error) = &outcome
            && error.not_sent
        {
            self.sent.fetch_sub(1, Ordering::Relaxed);
        }
        Poll::Ready(outcome.map(|_| ()).map_err(|error| Broken(error.message)))
    }
}

impl Transport for Polling {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        ready!(self.poll_post(cx))?;
        if self.batch_bytes >= self.body_bytes_max { self.poll_flush(cx) } else { Poll::Ready(Ok(())) }
    }

    fn start_send(&mut self, frame: Frame) -> Result<(), Broken> {
        self.batch_bytes += payload_len(&frame);
        self.batch.push(frame);
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        ready!(self.poll_post(cx))?;
        if self.batch.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let body = self.body();
        // Counted before it begins: whoever drops it in the middle must find it counted.
        self.sent.fetch_add(1, Ordering::Relaxed);
        self.post = Some(self.reach.exchange(self.ask.clone(), Some(body)));
        self.poll_post(cx)
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, Broken>> {
        loop {
            if let Some(frame) = self.came.pop_front() {
                return Poll::Ready(Ok(frame));
            }
            let get = self.get.get_or_insert_with(|| self.reach.exchange(self.ask.clone(), None));
            let outcome = ready!(get.as_mut().poll(cx));
            self.get = None;
            let body = outcome.map_err(|error| Broken(error.message))?;
            let frames = read_payload(&body).map_err(|error| Broken(error.to_string()))?;
            if frames.is_empty() {
                return Poll::Ready(Err(Broken("the server answered a poll with nothing".to_owned())));
            }
            self.came.extend(frames);
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // The goodbye is a packet of the session, and its request has been answered.
        self.poll_flush(cx).map(|_| ())
    }

    fn evidence(&self) -> Evidence {
        let sent = Arc::clone(&self.sent);
        Evidence::new(move || sent.load(Ordering::Relaxed))
    }
}
