//! One open connection: moves its frames, watches its silence, and knows which messages it has that nobody answered.
//!
//! All of it is polled by one task, in one method, so that nothing is lost when a caller waits for something else meanwhile.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, Sleep, sleep_until};
use url::Url;

use super::frame::Frame;
use super::letter::Letter;
use super::protocol::{Arrived, Heard, Protocol};
use super::transport::{Broken, Transport};

/// Replies that may wait while the server does not read: a pong every 25 s is normal, a thousand are an attack.
const REPLIES_MAX: usize = 1024;

/// How long a goodbye may take before the connection is dropped without one. The server notices either way.
const GOODBYE: Duration = Duration::from_secs(2);

/// What happened on a connection.
#[derive(Debug)]
pub(crate) enum Step {
    /// Messages can be sent from now on.
    Opened,
    /// An event came.
    Event(Arrived),
    /// A message can be handed over.
    Writable,
    /// Something that was handed over is settled.
    Settled,
    /// It is gone.
    Lost(Lost),
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It broke.
    Broke,
    /// Nothing was heard for too long.
    Silence,
    /// The server said that it is over.
    ByServer,
}

/// A connection that is gone.
#[derive(Clone, Debug)]
pub(crate) struct Lost {
    pub(crate) why: String,
    pub(crate) ending: Ending,
}

impl From<Broken> for Lost {
    fn from(broken: Broken) -> Self {
        Self { why: broken.0, ending: Ending::Broke }
    }
}

/// A message that is on the connection, and the count when it was handed over.
struct Handed {
    letter: Letter,
    /// Counts what was handed over; also the number of its acknowledgement.
    number: u64,
    mark: u64,
}

/// A connection.
pub(crate) struct Link {
    pub(crate) endpoint: Url,
    transport: Box<dyn Transport>,
    protocol: Box<dyn Protocol>,
    heard: VecDeque<Heard>,
    replies: VecDeque<Frame>,
    /// Handed over, not yet flushed.
    is_dirty: bool,
    /// Those that are done when they are flushed.
    unflushed: Vec<Handed>,
    /// Those that wait for the server's answer.
    unanswered: BTreeMap<u64, Handed>,
    number_next: u64,
    lost: Option<Lost>,
    heard_last: Instant,
    asked: bool,
    timer: Pin<Box<Sleep>>,
    /// Alternates, so that neither direction starves the other.
    writes_first: bool,
}

impl Link {
    pub(crate) fn new(endpoint: Url, transport: Box<dyn Transport>, mut protocol: Box<dyn Protocol>) -> Self {
        let now = Instant::now();
        let heard = protocol.opening().into();
        Self {
            endpoint,
            transport,
            protocol,
            heard,
            replies: VecDeque::new(),
            is_dirty: false,
            unflushed: Vec::new(),
            unanswered: BTreeMap::new(),
            number_next: 0,
            lost: None,
            heard_last: now,
            asked: false,
            timer: Box::pin(sleep_until(now)),
            writes_first: false,
        }
    }

    /// Takes a frame that came before the connection was made a link.
    pub(crate) fn feed(&mut self, frame: Frame) {
        match self.protocol.handle(frame) {
            Ok(heard) => self.heard.extend(heard),
            Err(malformed) => self.lost = Some(Broken(malformed.to_string()).into()),
        }
    }

    /// Waits for what happens next; [`Step::Writable`] only if it `wants_to_write`. Cancel safe: what happened and was not
    /// told stays.
    pub(crate) async fn step(&mut self, wants_to_write: bool) -> Step {
        poll_fn(|cx| self.poll_step(cx, wants_to_write)).await
    }

    /// The same, for who polls several things.
    pub(crate) fn poll_step(&mut self, cx: &mut Context<'_>, wants_to_write: bool) -> Poll<Step> {
        loop {
            if let Some(step) = self.next_heard() {
                return Poll::Ready(step);
            }
            if let Some(lost) = &self.lost {
                return Poll::Ready(Step::Lost(lost.clone()));
            }
            if self.poll_out(cx) {
                return Poll::Ready(Step::Settled);
            }
            self.writes_first = !self.writes_first;
            if self.writes_first && self.poll_writable(cx, wants_to_write) {
                return Poll::Ready(Step::Writable);
            }
            if self.poll_in(cx) {
                continue;
            }
            if self.poll_writable(cx, wants_to_write) {
                return Poll::Ready(Step::Writable);
            }
            if self.lost.is_none() && self.poll_silence(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Hands a message over, after [`Step::Writable`]. The letter must have been taken through its gate.
    pub(crate) fn hand(&mut self, letter: Letter) {
        let number = self.number_next;
        self.number_next += 1;
        let mark = self.transport.evidence().count();
        for frame in self.protocol.encode(&letter.content, letter.wants_ack.then_some(number)) {
            self.send(frame);
        }
        let wants_ack = letter.wants_ack;
        let handed = Handed { letter, number, mark };
        if wants_ack {
            self.unanswered.insert(number, handed);
        } else {
            self.unflushed.push(handed);
        }
    }

    /// Answers an event of the server, as soon as the connection takes it.
    pub(crate) fn answer(&mut self, ack: u64, args: &[Value]) {
        if let Some(frame) = self.protocol.answer(ack, args) {
            self.reply(frame);
        }
    }

    /// Whether everything that it has is settled, as far as anybody waits for it.
    pub(crate) fn is_settled(&self) -> bool {
        let settled = |handed: &Handed| handed.letter.is_given_up();
        !self.is_dirty && self.unflushed.iter().all(settled) && self.unanswered.values().all(settled)
    }

    /// Forgets messages whose callers are gone, once there are more than `max` in all.
    pub(crate) fn tidy(&mut self, max: usize) {
        if self.unanswered.len() > max {
            self.unanswered.retain(|_, handed| !handed.letter.is_given_up());
        }
    }

    /// Drops the connection and sorts what it had, in the order in which it was given: what goes to the next one, while all
    /// others are told `why` they do not.
    pub(crate) fn into_orphans(self, why: &str) -> Vec<Letter> {
        let Self { transport, unflushed, unanswered, .. } = self;
        let evidence = transport.evidence();
        // The count is read when nothing can move it any more.
        drop(transport);
        let count = evidence.count();
        let mut handed: Vec<Handed> = unflushed.into_iter().chain(unanswered.into_values()).collect();
        handed.sort_by_key(|handed| handed.number);
        handed.into_iter().filter_map(|handed| handed.letter.orphaned(handed.mark == count, why)).collect()
    }

    /// Takes out what is not settled while the connection lives on: all of it may still arrive. Gives back what goes to the
    /// next connection all the same; the others are told `why` they do not.
    pub(crate) fn abandon(&mut self, why: &str) -> Vec<Letter> {
        let unanswered = std::mem::take(&mut self.unanswered);
        let mut handed: Vec<Handed> = self.unflushed.drain(..).chain(unanswered.into_values()).collect();
        handed.sort_by_key(|handed| handed.number);
        handed.into_iter().filter_map(|handed| handed.letter.orphaned(false, why)).collect()
    }

    /// Says goodbye and closes, in [`GOODBYE`] at most. What it still has must have been taken out or may be lost.
    pub(crate) async fn close(mut self) {
        for frame in self.protocol.goodbye() {
            self.send(frame);
        }
        let goodbye = poll_fn(|cx| {
            if self.transport.poll_flush(cx).is_pending() {
                return Poll::Pending;
            }
            self.transport.poll_close(cx)
        });
        // A server that does not say goodbye is dropped all the same.
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    }

    fn send(&mut self, frame: Frame) {
        self.is_dirty = true;
        if let Err(broken) = self.transport.start_send(frame) {
            self.lost.get_or_insert_with(|| broken.into());
        }
    }

    fn reply(&mut self, frame: Frame) {
        if self.replies.len() >= REPLIES_MAX {
            self.lost = Some(Broken("the server does not read the answers that it asks for".to_owned()).into());
            return;
        }
        self.replies.push_back(frame);
    }

    fn next_heard(&mut self) -> Option<Step> {
        while let Some(heard) = self.heard.pop_front() {
            match heard {
                Heard::Reply(frame) => self.reply(frame),
                Heard::Opened => return Some(Step::Opened),
                Heard::Event(event) => return Some(Step::Event(event)),
                Heard::Ack(ack, args) => {
                    if let Some(handed) = self.unanswered.remove(&ack) {
                        handed.letter.succeed(one(args));
                        return Some(Step::Settled);
                    }
                }
                Heard::Refused(why) => self.ended(format!("the server refused the namespace: {why}")),
                Heard::Ended(why) => self.ended(why.to_owned()),
            }
        }
        None
    }

    fn ended(&mut self, why: String) {
        self.lost = Some(Lost { why, ending: Ending::ByServer });
    }

    /// Brings out what waits. A connection that cannot be written may still have answers that can be read, so a failure is not
    /// the end before reading fails too.
    /// True if that settled anything.
    fn poll_out(&mut self, cx: &mut Context<'_>) -> bool {
        while !self.replies.is_empty() && matches!(self.transport.poll_ready(cx), Poll::Ready(Ok(()))) {
            if let Some(frame) = self.replies.pop_front() {
                self.send(frame);
            }
        }
        if !self.is_dirty {
            return false;
        }
        match self.transport.poll_flush(cx) {
            Poll::Pending => false,
            Poll::Ready(Err(broken)) => {
                self.drain(cx);
                self.lost.get_or_insert_with(|| broken.into());
                false
            }
            Poll::Ready(Ok(())) => {
                self.is_dirty = false;
                self.unflushed.drain(..).for_each(|handed| handed.letter.succeed(Value::Null));
                true
            }
        }
    }

    /// Reads what came before a connection broke.
    fn drain(&mut self, cx: &mut Context<'_>) {
        while self.lost.is_none() && self.poll_in(cx) {}
    }

    /// Reads; true if that changed anything.
    fn poll_in(&mut self, cx: &mut Context<'_>) -> bool {
        let frame = match self.transport.poll_next(cx) {
            Poll::Pending => return false,
            Poll::Ready(Ok(frame)) => frame,
            Poll::Ready(Err(broken)) => {
                self.lost.get_or_insert_with(|| broken.into());
                return true;
            }
        };
        self.heard_last = Instant::now();
        self.asked = false;
        self.feed(frame);
        true
    }

    fn poll_writable(&mut self, cx: &mut Context<'_>, wants_to_write: bool) -> bool {
        if !wants_to_write || !self.replies.is_empty() || self.lost.is_some() {
            return false;
        }
        // A failure shows when it is flushed or read.
        matches!(self.transport.poll_ready(cx), Poll::Ready(Ok(())))
    }

    /// Ready when silence made something happen.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let heartbeat = self.protocol.heartbeat();
        let lost_at = self.heard_last + heartbeat.silence_max;
        let ask_at = heartbeat.ask_after.filter(|_| !self.asked).map(|after| self.heard_last + after);
        let due = ask_at.map_or(lost_at, |ask_at| ask_at.min(lost_at));
        if self.timer.deadline() != due {
            self.timer.as_mut().reset(due);
        }
        if self.timer.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        if due >= lost_at {
            self.lost = Some(Lost { why: "the server has fallen silent".to_owned(), ending: Ending::Silence });
        } else {
            self.asked = true;
            self.reply(Frame::Ping);
        }
        Poll::Ready(())
    }
}

/// What an answer says: its only argument, or all of them as a list.
fn one(mut args: Vec<Value>) -> Value {
    match args.len() {
        0 => Value::Null,
        1 => args.remove(0),
        _ => Value::Array(args),
    }
}
