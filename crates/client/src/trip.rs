//! One request's way through its attempts: does what the core's [`Session`] says, and tells it how that went.
//!
//! Nothing is decided here. The trip dials, sends, waits and asks for more endpoints; which endpoint, whether again, and
//! when to stop is the session's word.

mod dials;
mod discovering;
pub(crate) mod reading;
mod sending;

use std::sync::Arc;
use std::time::Duration;

use handover_core::{Action, Failure, Fault, Outcome, Pool, Sent, Session, Stage, Verdict};
use handover_wire::conn::ExchangeError;
use handover_wire::dial::DialError;
use http::Response;
use tokio::time::Instant;

use crate::answer::Answer;
use crate::answer_body::AnswerBody;
use crate::call::{Call, Purpose};
use crate::carrier::{Carrier, Ready, Wanted};
use crate::endpoint::{Table, Tried};
use crate::error::Error;
use crate::observe::Observed;
use crate::record::{Detail, Record};
use crate::set::View;
use crate::shared::Shared;

use dials::Dials;

/// What sends requests: what is shared by all of them, and what carries them.
pub(crate) struct Engine<C> {
    pub(crate) shared: Arc<Shared>,
    pub(crate) carrier: C,
}

/// A request on its way.
struct Trip<'e, C: Carrier> {
    engine: &'e Engine<C>,
    call: &'e Call,
    session: Option<Session<'e>>,
    /// The endpoints by the session's index.
    table: Table,
    /// Where a server said which regions may serve the request: these.
    allowed: Option<Table>,
    details: Vec<Detail>,
    /// The endpoint of each attempt.
    tried: Vec<Tried>,
    started: Instant,
    /// When the whole request must be over, since it began.
    deadline: Option<Duration>,
    dials: Dials<C::Conn>,
    /// The newest answer that did not stand, until another comes.
    held: Option<Held>,
    observed: Observed,
}

/// An answer whose verdict was to go on.
struct Held {
    response: Response<AnswerBody>,
    attempt: u32,
}

/// A connection that carries the request.
struct Won<C> {
    attempt: u32,
    ready: Ready<C>,
    /// When the attempt's time is over.
    head_by: Option<Duration>,
}

/// Sends a request until an endpoint answers or the session stops.
///
/// Not cancel safe in the sense of resuming: dropping it gives the request up, and nothing of it is sent after that.
pub(crate) async fn run<C: Carrier>(engine: &Engine<C>, call: &Call) -> Result<Answer, Error> {
    if call.purpose == Purpose::Request {
        engine.shared.began();
    }
    let mut trip = Trip::new(engine, call);
    while let Some(won) = trip.connection().await {
        let attempt = won.attempt;
        let is_over = match trip.send(won).await {
            Ok(response) => trip.answered(attempt, response),
            Err(error) => trip.send_failed(attempt, &error),
        };
        if is_over {
            break;
        }
    }
    trip.end()
}

impl<'e, C: Carrier> Trip<'e, C> {
    fn new(engine: &'e Engine<C>, call: &'e Call) -> Self {
        let shared = &engine.shared;
        let table = match &call.only {
            Some(endpoint) => Arc::new(vec![Arc::clone(endpoint)]),
            None => shared.set.table(),
        };
        let facts = shared.facts(call, &table);
        Self {
            engine,
            call,
            session: Some(Session::new(&shared.policy, facts, shared.seed())),
            table,
            allowed: None,
            details: Vec::new(),
            tried: Vec::new(),
            started: Instant::now(),
            deadline: facts.caller_deadline.into_iter().chain(shared.policy.deadline()).min(),
            dials: Dials::default(),
            held: None,
            observed: Observed::begin(shared, call),
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// A time of the session as a point in time.
    fn at(&self, time: Duration) -> Instant {
        later(self.started, time)
    }

    fn session(&mut self) -> &mut Session<'e> {
        self.session.as_mut().expect("the session lives until the trip ends")
    }

    fn poll(&mut self) -> Action {
        let (now, shared) = (self.now(), &self.engine.shared);
        let mut budget = shared.budget();
        let allowed = self.allowed.as_ref().map(|allowed| allowed.as_slice());
        let view = View { table: &self.table, set: &shared.set, now: shared.uptime(), allowed };
        self.session.as_mut().expect("the session lives until the trip ends").poll(now, &view, &mut budget)
    }

    /// Tells the session how an attempt ended; true if that ended the session.
    fn finished(&mut self, attempt: u32, outcome: Outcome) -> Verdict {
        let (now, shared) = (self.now(), &self.engine.shared);
        let mut budget = shared.budget();
        let verdict = self.session().finished(now, attempt, outcome, &mut budget);
        self.attempt_over(attempt, &outcome);
        verdict
    }

    /// Who hears of an attempt's end: the endpoint's health, and whoever observes.
    fn attempt_over(&mut self, attempt: u32, outcome: &Outcome) {
        let index = attempt as usize - 1;
        let (shared, detail) = (&self.engine.shared, &self.details[index]);
        if self.call.purpose != Purpose::Probe {
            shared.set.attempt_over(
                self.tried[index].endpoint(),
                outcome,
                shared.uptime(),
                shared.policy.retry_after_cap(),
            );
        }
        if self.call.purpose != Purpose::Request {
            return;
        }
        let Some(session) = &self.session else { return };
        if let Some(record) = session.record().attempts.get(index) {
            self.observed.attempt_over(shared, record, detail);
        }
    }

    /// Gets the connection that the request will go on: one that rested, or the first dial to connect.
    async fn connection(&mut self) -> Option<Won<C::Conn>> {
        loop {
            match self.poll() {
                Action::Try { endpoint, attempt, connect_by, head_by, .. }
                | Action::Dial { endpoint, attempt, connect_by, head_by, .. } => {
                    if let Some(won) = self.begin(endpoint, attempt, connect_by, head_by) {
                        return Some(self.won(won));
                    }
                }
                action @ (Action::Wait { .. } | Action::Await) => {
                    let until = if let Action::Wait { until } = action { Some(self.at(until)) } else { None };
                    if let Some(ended) = self.dials.next(until).await
                        && let Some(won) = self.dial_ended(ended)
                    {
                        return Some(self.won(won));
                    }
                }
                Action::Discover { refresh } => self.discover(refresh).await,
                Action::Finish(_) => return None,
            }
        }
    }

    /// Begins an attempt: takes a connection that rests, or starts a dial.
    fn begin(
        &mut self,
        endpoint: u32,
        attempt: u32,
        connect_by: Duration,
        head_by: Option<Duration>,
    ) -> Option<Won<C::Conn>> {
        let endpoint = Arc::clone(&self.table[endpoint as usize]);
        if self.call.purpose != Purpose::Probe {
            self.engine.shared.set.attempt_began(&endpoint, self.engine.shared.uptime());
        }
        let label = Arc::clone(&endpoint.label);
        self.details.push(Detail {
            endpoint: label,
            address: None,
            reused: false,
            redials: 0,
            written_bytes: None,
            message: None,
        });
        self.tried.push(Tried::new(Arc::clone(&endpoint)));
        if self.call.purpose == Purpose::Request {
            self.observed.attempt_began(&self.engine.shared, &endpoint);
        }
        let wanted = self.wanted();
        if let Some(ready) = self.engine.carrier.take(&endpoint, wanted) {
            return Some(Won { attempt, ready, head_by });
        }
        let by = self.at(connect_by);
        self.dials.start(&self.engine.carrier, attempt, endpoint, wanted, by, head_by);
        None
    }

    /// Which connection the attempt that just began should have.
    fn wanted(&self) -> Wanted {
        let record = self.session.as_ref().map(Session::record);
        let again = record.and_then(|record| record.attempts.last()).is_some_and(|last| last.pick.pool == Pool::Same);
        match record {
            _ if self.call.is_upgrade => Wanted::Switchable,
            _ if again => Wanted::Fresh,
            Some(record) if record.facts.idempotent => Wanted::Any,
            _ => Wanted::Careful,
        }
    }

    fn dial_ended(&mut self, ended: dials::Ended<C::Conn>) -> Option<Won<C::Conn>> {
        let dials::Ended { attempt, head_by, result } = ended;
        match result {
            Ok(ready) => Some(Won { attempt, ready, head_by }),
            Err(error) => {
                self.dial_failed(attempt, &error);
                None
            }
        }
    }

    fn dial_failed(&mut self, attempt: u32, error: &DialError) {
        let detail = &mut self.details[attempt as usize - 1];
        // Behind a proxy, who failed is not the endpoint alone.
        let is_proxied = !self.tried[attempt as usize - 1].endpoint().route.node.kind.is_origin();
        let message =
            if is_proxied { format!("{}: {}", error.node, error.message).into() } else { error.message.clone() };
        (detail.address, detail.message) = (error.peer, Some(message));
        self.finished(attempt, Outcome::Failed(Failure::before_send(error.stage, error.fault)));
    }

    /// The race is over: this connection carries the request, and the other dials are closed.
    fn won(&mut self, won: Won<C::Conn>) -> Won<C::Conn> {
        let now = self.now();
        self.session().connected(now, won.attempt);
        let detail = &mut self.details[won.attempt as usize - 1];
        (detail.address, detail.reused) = (won.ready.address, !won.ready.is_fresh);
        for (attempt, stage, address) in std::mem::take(&mut self.dials).lost() {
            self.details[attempt as usize - 1].address = address;
            self.finished(attempt, Outcome::Failed(Failure::before_send(stage, Fault::LostRace)));
        }
        won
    }

    /// The session is over: what the caller gets.
    fn end(mut self) -> Result<Answer, Error> {
        let record = self.close();
        let is_answered = matches!(record.verdict(), Some(Verdict::Done(_)));
        let answer = self.held.take().map(|held| {
            let endpoint = Arc::clone(self.tried[held.attempt as usize - 1].endpoint());
            Answer::new(held.response, record.clone(), endpoint, &self.engine.shared, self.call)
        });
        match answer {
            Some(answer) if is_answered => Ok(answer),
            answer => Err(Error::request(record, answer)),
        }
    }

    /// Takes the record out, and tells everybody that the request is over.
    fn close(&mut self) -> Record {
        let core = self.session.take().expect("the session lives until the trip ends").into_record();
        let shared = &self.engine.shared;
        if self.call.purpose != Purpose::Probe {
            shared.set.request_over(&core, &self.tried, shared.uptime());
        }
        let record = Record::new(core, std::mem::take(&mut self.details));
        if self.call.purpose == Purpose::Request {
            self.observed.request_over(shared, &record);
        }
        record
    }
}

impl<C: Carrier> Drop for Trip<'_, C> {
    /// Dropped on the way: the caller gave it up.
    fn drop(&mut self) {
        if self.session.is_none() {
            return;
        }
        for (attempt, _, address) in std::mem::take(&mut self.dials).lost() {
            self.details[attempt as usize - 1].address = address;
        }
        let now = self.now();
        let session = self.session();
        let begun = session.record().attempts.iter();
        let under_way: Vec<_> = begun.filter(|attempt| attempt.is_under_way()).map(|attempt| attempt.attempt).collect();
        session.cancelled(now);
        // Whoever waits for the end of one of them must not wait in vain, such as a circuit on trial.
        for attempt in under_way {
            let record = self.session().record().attempts.get(attempt as usize - 1).copied();
            if let Some(record) = record {
                self.attempt_over(attempt, &record.outcome);
            }
        }
        let _ = self.close();
    }
}

/// That time after this one. A time that no clock can show is as good as none.
pub(crate) fn later(from: Instant, time: Duration) -> Instant {
    from.checked_add(time).unwrap_or_else(|| from + FAR)
}

/// A day: whoever gives more means for ever, and timers do not reach further than they are made for.
const FAR: Duration = Duration::from_secs(24 * 60 * 60);

/// An exchange that failed, as the core's outcome.
fn outcome_of(error: &ExchangeError, body: handover_core::BodyLeft) -> Outcome {
    let sent = if error.stage < Stage::Send { Sent::No } else { error.sent };
    Outcome::Failed(Failure { stage: error.stage, fault: error.fault, sent, body })
}
