//! The task of a socket: owns its connections, and moves messages, events and itself between them.
//!
//! One task and no locks: what may be handed to which connection is decided in one place, in one order. It waits in one
//! method ([`Driver::poll`]) and acts in another ([`Driver::handle`]), so that nothing it does can be cut off half way.

mod closing;
mod reconnect;
mod switch;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, Sleep, sleep_until};
use url::Url;

use super::establish::Established;
use super::event::{Answer, Event, Given, Seen};
use super::join::Task;
use super::letter::Letter;
use super::link::{Link, Step};
use super::protocol::Arrived;
use super::reach::BoxFuture;
use super::setup::Setup;
use super::state::State;
use super::{Inner, Shared};

/// Answers to events that may wait to be written: as many as messages may by default.
const ANSWERS_MAX: usize = 1024;

/// A connection that has joined.
struct Connection {
    /// Counts the connections of the socket.
    number: u64,
    link: Link,
    since: Instant,
}

/// A connection that takes over when the old one has settled what it has.
struct Successor {
    connection: Connection,
    until: Instant,
}

/// Where the socket was, for the next catch-up.
struct Left {
    from: Url,
    /// When it was lost; `None` if it was not.
    lost_at: Option<Instant>,
}

/// What a driver waits for.
enum Occurrence {
    Active(Step),
    Successor(Step),
    Established(Box<Result<Established, String>>),
    Letter(Option<Letter>),
    Answer(Given),
    Close(Option<oneshot::Sender<()>>),
    Election(watch::Receiver<u64>),
    Asked,
    Time,
}

/// The task of a socket.
pub(crate) struct Driver {
    setup: Arc<Setup>,
    shared: Arc<Shared>,
    socket: Weak<Inner>,
    letters: mpsc::Receiver<Letter>,
    orders: mpsc::Receiver<oneshot::Sender<()>>,
    answers_in: mpsc::Sender<Given>,
    answers: mpsc::Receiver<Given>,
    election: BoxFuture<watch::Receiver<u64>>,
    timer: Pin<Box<Sleep>>,

    /// Messages that wait for a connection, in order.
    outbox: VecDeque<Letter>,
    active: Option<Connection>,
    successor: Option<Successor>,
    candidate: Option<BoxFuture<Result<Established, String>>>,
    seen: Seen,
    connections: u64,

    /// When the servers are asked again, if none is active and none is being asked.
    retry_at: Instant,
    /// Who is asked last in the next round: it fell silent, or its connection did not last.
    last: Option<Url>,
    /// Rounds, or connections that did not last, in a row.
    failures: u32,
    /// Switches that failed in a row, and when the next may begin.
    switch_failures: u32,
    switch_at: Instant,
    /// When it went back to a better server within the last minute, the newest last.
    switches: VecDeque<Instant>,
    /// When to look for a better server at the latest.
    look_at: Instant,
    /// Better servers being asked whether they are back, and when they are to be asked again.
    asking: Option<BoxFuture<()>>,
    ask_at: Instant,

    left: Option<Left>,
    catching_up: Option<Task<()>>,
    closing: Option<Closing>,
    /// Alternates, so that a busy connection does not keep messages from being taken.
    letters_first: bool,
}

/// A socket on its way to the end.
struct Closing {
    until: Instant,
    waiting: Vec<oneshot::Sender<()>>,
}

/// The ends that a driver takes messages and orders from.
pub(crate) struct Inputs {
    pub(crate) letters: mpsc::Receiver<Letter>,
    pub(crate) orders: mpsc::Receiver<oneshot::Sender<()>>,
}

impl Driver {
    pub(crate) fn new(setup: Arc<Setup>, shared: Arc<Shared>, socket: Weak<Inner>, inputs: Inputs) -> Self {
        let now = Instant::now();
        let (answers_in, answers) = mpsc::channel(ANSWERS_MAX);
        let election = next_election(setup.reach.elections());
        Self {
            setup,
            shared,
            socket,
            letters: inputs.letters,
            orders: inputs.orders,
            answers_in,
            answers,
            election,
            timer: Box::pin(sleep_until(now)),
            outbox: VecDeque::new(),
            active: None,
            successor: None,
            candidate: None,
            seen: Seen::default(),
            connections: 0,
            retry_at: now,
            last: None,
            failures: 0,
            switch_failures: 0,
            switch_at: now,
            switches: VecDeque::new(),
            look_at: now,
            asking: None,
            ask_at: now,
            left: None,
            catching_up: None,
            closing: None,
            letters_first: false,
        }
    }

    /// Runs until the socket is closed or nobody has it any more.
    pub(crate) async fn run(mut self) {
        loop {
            self.advance(Instant::now());
            if self.is_closed() {
                return self.end().await;
            }
            let occurrence = poll_fn(|cx| self.poll(cx)).await;
            self.handle(occurrence);
        }
    }

    /// Begins what is due.
    fn advance(&mut self, now: Instant) {
        if self.closing.is_some() {
            return;
        }
        self.finish_switch(now);
        if self.active.is_none() && self.candidate.is_none() && now >= self.retry_at {
            self.start_round();
        }
        self.start_switch(now);
        self.start_asking(now);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Occurrence> {
        if let Poll::Ready(order) = self.poll_orders(cx) {
            return Poll::Ready(order);
        }
        self.letters_first = !self.letters_first;
        if self.letters_first
            && let Poll::Ready(letter) = self.poll_letters(cx)
        {
            return Poll::Ready(letter);
        }
        let wants_to_write = self.successor.is_none() && !self.outbox.is_empty();
        if let Some(active) = &mut self.active
            && let Poll::Ready(step) = active.link.poll_step(cx, wants_to_write)
        {
            return Poll::Ready(Occurrence::Active(step));
        }
        if let Some(successor) = &mut self.successor
            && let Poll::Ready(step) = successor.connection.link.poll_step(cx, false)
        {
            return Poll::Ready(Occurrence::Successor(step));
        }
        if let Some(candidate) = &mut self.candidate
            && let Poll::Ready(outcome) = candidate.as_mut().poll(cx)
        {
            self.candidate = None;
            return Poll::Ready(Occurrence::Established(Box::new(outcome)));
        }
        if let Poll::Ready(letter) = self.poll_letters(cx) {
            return Poll::Ready(letter);
        }
        if let Poll::Ready(Some(given)) = self.answers.poll_recv(cx) {
            return Poll::Ready(Occurrence::Answer(given));
        }
        if let Poll::Ready(elections) = self.election.as_mut().poll(cx) {
            return Poll::Ready(Occurrence::Election(elections));
        }
        if let Some(asking) = &mut self.asking
            && asking.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Occurrence::Asked);
        }
        self.poll_time(cx)
    }

    /// Orders to close. When nobody can give any, the letters end too, which is the same order.
    fn poll_orders(&mut self, cx: &mut Context<'_>) -> Poll<Occurrence> {
        match self.orders.poll_recv(cx) {
            Poll::Ready(Some(order)) => Poll::Ready(Occurrence::Close(Some(order))),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    fn poll_letters(&mut self, cx: &mut Context<'_>) -> Poll<Occurrence> {
        // Closed for good: what ends the driver then is the connection, or the time.
        if self.closing.is_some() {
            return Poll::Pending;
        }
        self.letters.poll_recv(cx).map(Occurrence::Letter)
    }

    fn poll_time(&mut self, cx: &mut Context<'_>) -> Poll<Occurrence> {
        let due = self.next_due();
        if self.timer.deadline() != due {
            self.timer.as_mut().reset(due);
        }
        self.timer.as_mut().poll(cx).map(|()| Occurrence::Time)
    }

    fn handle(&mut self, occurrence: Occurrence) {
        let now = Instant::now();
        match occurrence {
            Occurrence::Active(step) => self.handle_active(step, now),
            Occurrence::Successor(step) => self.handle_successor(step, now),
            Occurrence::Established(outcome) => match *outcome {
                Ok(established) => self.handle_established(established, now),
                Err(why) => self.handle_failed(why, now),
            },
            Occurrence::Letter(Some(letter)) => self.take_in(letter),
            Occurrence::Letter(None) => self.close(None, now),
            Occurrence::Answer(given) => self.answer(&given),
            Occurrence::Close(order) => self.close(order, now),
            Occurrence::Election(elections) => self.election = next_election(elections),
            Occurrence::Asked => self.asking = None,
            Occurrence::Time => {}
        }
    }

    fn handle_active(&mut self, step: Step, now: Instant) {
        match step {
            Step::Writable => self.hand_next(),
            Step::Event(arrived) => {
                if let Some(active) = &self.active {
                    let (number, endpoint) = (active.number, active.link.endpoint.clone());
                    self.deliver(arrived, number, endpoint);
                }
            }
            Step::Lost(lost) => self.lose(lost, now),
            Step::Opened | Step::Settled => {}
        }
    }

    fn take_in(&mut self, letter: Letter) {
        if !letter.may_wait && self.active.is_none() {
            return letter.fail_waiting("there is no connection");
        }
        // Those that were given up are passed over when their turn comes. While there is no connection it does not come, and
        // they would gather: twice the bound is when looking through them costs least per message.
        if self.outbox.len() >= self.setup.limits.queue.saturating_mul(2) {
            self.outbox.retain(|letter| !letter.is_given_up());
        }
        self.outbox.push_back(letter);
    }

    fn hand_next(&mut self) {
        let Some(active) = &mut self.active else { return };
        while let Some(letter) = self.outbox.pop_front() {
            if !letter.is_given_up() && letter.gate.take() {
                active.link.hand(letter);
                active.link.tidy(self.setup.limits.queue.saturating_mul(2));
                return;
            }
        }
    }

    /// Gives an event to its handlers, unless another connection has brought it already.
    fn deliver(&mut self, arrived: Arrived, connection: u64, endpoint: Url) {
        let id = (self.setup.event_id)(&arrived.args);
        if let Some(id) = &id
            && !self.seen.is_new(id, connection)
        {
            return;
        }
        let to = self.answers_in.clone();
        let answer = arrived.ack.map(|ack| Answer { to, connection, ack, is_given: AtomicBool::new(false) });
        self.shared.handlers.call(&Event::new(arrived, endpoint, id, answer));
    }

    fn answer(&mut self, given: &Given) {
        let successor = self.successor.as_mut().map(|successor| &mut successor.connection);
        let connections = self.active.as_mut().into_iter().chain(successor);
        for connection in connections.filter(|connection| connection.number == given.connection) {
            connection.link.answer(given.ack, &given.args);
        }
    }

    fn tell(&self, state: State) {
        self.shared.tell(state);
    }
}

/// Waits for the next change, and gives the receiver back.
fn next_election(mut elections: watch::Receiver<u64>) -> BoxFuture<watch::Receiver<u64>> {
    Box::pin(async move {
        if elections.changed().await.is_err() {
            // The client is gone as one that elects; the socket keeps what it has.
            std::future::pending::<()>().await;
        }
        elections
    })
}
