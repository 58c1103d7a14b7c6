//! One request's way through its attempts: does what the core's [`Session`] says, and tells it how that went.
//!
//! Nothing is decided here. The trip dials, sends and waits; which node, whether again, and when to stop is the session's word.

mod dialing;
mod sending;

use std::rc::Rc;
use std::time::Duration;

use handover_core::{
    Action, AttemptRecord, BodyLeft, Facts, Failure, Fault, Outcome, Record, Sent, Session, Stage, Verdict,
};
use handover_wire::TrackedBody;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use http_body::Body;
use hyper::body::Incoming;

use crate::body::{NodeConn, RequestBody};
use crate::errors::ErrorCode;
use crate::ledger::Ledger;
use crate::node::{InFlight, Platform, PlatformBudget};
use crate::worker::Worker;
use handover_wire::conn::ClientFault;
use handover_wire::dial::{DialError, Dialled, RawCounter, Target};

use dialing::Dials;

/// A request on its way.
pub(crate) struct Trip<'p> {
    worker: &'p Rc<Worker>,
    platform: &'p Platform,
    /// What to reach; `None` where the node itself is the target.
    target: Option<Rc<Target>>,
    session: Option<Session<'p>>,
    ledger: Option<Box<Ledger>>,
    /// What the client did wrong, if that ended the attempts.
    client: Option<ClientFault>,
    now: Duration,
    dials: Dials,
    /// The exchange under way: what the row says of it if the client leaves now.
    sending: Option<Sending>,
    /// An answer that the policy would rather not take, until another one comes or the session ends.
    held: Option<(Box<NodeConn>, Response<Incoming>, InFlight)>,
}

/// A request's head, kept so that it can be sent again.
#[derive(Clone)]
pub(crate) struct Head {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
}

impl Head {
    fn with(self, body: RequestBody) -> Request<RequestBody> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.headers_mut() = self.headers;
        // hyper takes a GET or HEAD of unknown length for one without a body unless it is told otherwise.
        if request.body().size_hint().exact().is_none() {
            request.headers_mut().insert(http::header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        request
    }
}

/// A response head, with all that is needed to stream its body.
pub(crate) struct Answer {
    pub(crate) response: Response<Incoming>,
    pub(crate) conn: Box<NodeConn>,
    pub(crate) in_flight: InFlight,
    pub(crate) target: Option<Rc<Target>>,
    pub(crate) ledger: Box<Ledger>,
}

/// A tunnel that opened.
pub(crate) struct Opened {
    pub(crate) dialled: Dialled,
    pub(crate) in_flight: InFlight,
    pub(crate) ledger: Box<Ledger>,
}

/// Why nothing came of it. The ledger is still open: the caller answers the client and closes it.
pub(crate) struct Failed {
    pub(crate) code: ErrorCode,
    pub(crate) fault: Option<Fault>,
    /// The client went away: nobody is told, and nobody is to blame.
    pub(crate) client_left: bool,
    /// A timeout was of the response, not of the dial.
    pub(crate) response_wait: bool,
    pub(crate) ledger: Box<Ledger>,
}

/// An exchange under way.
struct Sending {
    attempt: u32,
    raw: RawCounter,
    before: u64,
    body: RequestBody,
}

/// A connection that carries the request.
struct Ready {
    attempt: u32,
    in_flight: InFlight,
    conn: Conn,
}

enum Conn {
    Idle(Box<NodeConn>),
    Fresh(Dialled),
}

impl<'p> Trip<'p> {
    pub(crate) fn new(
        worker: &'p Rc<Worker>,
        platform: &'p Platform,
        target: Option<Rc<Target>>,
        facts: Facts,
        mut ledger: Box<Ledger>,
    ) -> Self {
        ledger.routed(&platform.name, &platform.policy);
        let seed = ledger.id.0;
        let session = Some(Session::new(&platform.policy, facts, seed));
        Trip {
            worker,
            platform,
            target,
            session,
            ledger: Some(ledger),
            client: None,
            now: Duration::ZERO,
            dials: Dials::default(),
            sending: None,
            held: None,
        }
    }

    /// Sends a request until a node answers or the session stops.
    ///
    /// Not cancel safe in the sense of resuming: dropping it gives the request up and writes its log row.
    pub(crate) async fn exchange(mut self, head: Head, body: RequestBody) -> Result<Box<Answer>, Box<Failed>> {
        while let Some(ready) = self.connection().await {
            let (attempt, in_flight) = (ready.attempt, ready.in_flight);
            let sent = self.send(attempt, &in_flight, ready.conn, &head, &body).await;
            self.time_passed();
            self.sending = None;
            match sent {
                Ok((conn, response)) => {
                    let verdict = self.answered(attempt, &conn, &response, &body);
                    self.held = Some((conn, response, in_flight));
                    if !matches!(verdict, Verdict::TryNext(_)) {
                        break;
                    }
                }
                Err(error) => self.send_failed(attempt, &error, &body),
            }
        }
        let verdict = self.session.as_ref().and_then(|session| session.record().verdict);
        match (self.held.take(), verdict) {
            (Some((conn, response, in_flight)), Some(Verdict::Done(_))) => Ok(self.arrived(conn, response, in_flight)),
            // A held answer does not stand where a later attempt may have done more than it.
            _ => Err(self.failed()),
        }
    }

    /// Dials until a tunnel opens or the session stops. Nothing of the client's is read before.
    ///
    /// Not cancel safe in the sense of resuming: dropping it gives the tunnel up and writes its log row.
    pub(crate) async fn open(mut self) -> Result<Box<Opened>, Box<Failed>> {
        while let Some(ready) = self.connection().await {
            let Conn::Fresh(dialled) = ready.conn else { continue };
            let answered = Outcome::Answered { status: 200, retry_after: None, body: BodyLeft::Whole };
            self.finished(ready.attempt, answered);
            let record = self.session.take().map(Session::into_record);
            let mut ledger = self.ledger.take().expect("the trip has its ledger until it arrives");
            ledger.decided(record.expect("the session lives as long as the trip"));
            ledger.detail(ready.attempt).stage = Stage::Tunnel;
            return Ok(Box::new(Opened { dialled, in_flight: ready.in_flight, ledger }));
        }
        Err(self.failed())
    }

    /// The time, since the request began, of the last thing that took time. Between two awaits time stands still: reading
    /// the clock for every step would cost more than the steps.
    fn now(&self) -> Duration {
        self.now
    }

    fn time_passed(&mut self) {
        self.now = self.ledger().now();
    }

    fn ledger(&mut self) -> &mut Ledger {
        self.ledger.as_mut().expect("the trip has its ledger until it arrives")
    }

    /// Tells the session how an attempt ended.
    fn finished(&mut self, attempt: u32, outcome: Outcome) -> Verdict {
        let now = self.now();
        let mut budget = PlatformBudget { bucket: self.platform.bucket.as_deref(), now: self.worker.uptime() };
        let session = self.session.as_mut().expect("the session lives as long as the trip");
        session.finished(now, attempt, outcome, &mut budget)
    }

    fn poll(&mut self) -> Action {
        let now = self.now();
        let mut budget = PlatformBudget { bucket: self.platform.bucket.as_deref(), now: self.worker.uptime() };
        let session = self.session.as_mut().expect("the session lives as long as the trip");
        session.poll(now, self.platform, &mut budget)
    }

    /// Gets the connection that the request will go on: an idle one, or the first dial to connect.
    async fn connection(&mut self) -> Option<Ready> {
        loop {
            match self.poll() {
                Action::Try { endpoint, attempt, connect_by, .. }
                | Action::Dial { endpoint, attempt, connect_by, .. } => {
                    if let Some(ready) = self.begin(endpoint, attempt, connect_by) {
                        return Some(self.won(ready));
                    }
                }
                action @ (Action::Wait { .. } | Action::Await) => {
                    let until = if let Action::Wait { until } = action { self.until(until) } else { None };
                    let ended = self.dials.next(until).await;
                    self.time_passed();
                    if let Some(ready) = ended.and_then(|ended| self.dial_ended(ended)) {
                        return Some(self.won(ready));
                    }
                }
                // No platform of the gateway looks for nodes during a request.
                Action::Discover { .. } => {
                    let now = self.now();
                    if let Some(session) = &mut self.session {
                        session.discovered(now, false);
                    }
                }
                Action::Finish(_) => return None,
            }
        }
    }

    /// A time of the session as a point in time.
    fn until(&self, time: Duration) -> Option<tokio::time::Instant> {
        self.ledger.as_ref().map(|ledger| (ledger.started + time).into())
    }

    /// Begins an attempt: takes an idle connection, or starts a dial.
    fn begin(&mut self, endpoint: u32, attempt: u32, connect_by: Duration) -> Option<Ready> {
        let (now, platform) = (self.now(), self.platform);
        let node = &platform.nodes[endpoint as usize];
        self.ledger().attempt(node, now);
        let in_flight = InFlight::new(node);
        let at = self.ledger().started + now;
        // What may be done twice by asking again is not sent into the unknown to save a system call.
        let careful = self.session.as_ref().is_none_or(|session| !session.record().facts.idempotent);
        if !self.is_tunnel()
            && let Some(conn) = node.take_idle(self.target.as_deref(), at, careful)
        {
            let detail = self.ledger().detail(attempt);
            (detail.reused, detail.address) = (true, Some(conn.peer));
            return Some(Ready { attempt, in_flight, conn: Conn::Idle(conn) });
        }
        let by = self.until(connect_by).expect("the trip has its ledger until it arrives");
        self.dials.start(self.worker, attempt, in_flight, self.target.clone(), by);
        None
    }

    fn is_tunnel(&self) -> bool {
        self.ledger.as_ref().is_some_and(|ledger| ledger.is_tunnel())
    }

    fn dial_ended(&mut self, ended: dialing::Ended) -> Option<Ready> {
        let dialing::Ended { attempt, in_flight, result } = ended;
        match result {
            Ok(dialled) => {
                self.ledger().detail(attempt).address = Some(dialled.peer);
                Some(Ready { attempt, in_flight, conn: Conn::Fresh(dialled) })
            }
            Err(error) => {
                self.dial_failed(attempt, &error);
                None
            }
        }
    }

    fn dial_failed(&mut self, attempt: u32, error: &DialError) {
        self.ledger().dial_failed(attempt, error);
        // A forbidden address is forbidden through every node.
        let fault = if error.denied.is_some() { Fault::Denied } else { error.fault };
        let failure = Failure { stage: error.stage, fault, sent: Sent::No, body: BodyLeft::Whole };
        self.finished(attempt, Outcome::Failed(failure));
    }

    /// The race is over: this connection carries the request, and the other dials are closed.
    fn won(&mut self, ready: Ready) -> Ready {
        let now = self.now();
        if let Some(session) = &mut self.session {
            session.connected(now, ready.attempt);
        }
        for (attempt, stage, peer) in std::mem::take(&mut self.dials).lost() {
            let failure = Failure { stage, fault: Fault::LostRace, sent: Sent::No, body: BodyLeft::Whole };
            self.finished(attempt, Outcome::Failed(failure));
            let detail = self.ledger().detail(attempt);
            (detail.stage, detail.fault, detail.address) = (stage, Some(Fault::LostRace), peer);
            detail.duration = now.saturating_sub(detail.started);
        }
        ready
    }

    fn arrived(&mut self, conn: Box<NodeConn>, response: Response<Incoming>, in_flight: InFlight) -> Box<Answer> {
        let mut ledger = self.ledger.take().expect("the trip has its ledger until it arrives");
        let record = self.session.take().map(Session::into_record);
        ledger.decided(record.expect("the session lives as long as the trip"));
        // Where it was held while others were tried, it lasted longer than it seemed then.
        let attempt = ledger.answering();
        ledger.detail(attempt).duration = Duration::ZERO;
        Box::new(Answer { response, conn, in_flight, target: self.target.take(), ledger })
    }

    /// The session stopped: what the client is told is the error of the decisive attempt.
    fn failed(&mut self) -> Box<Failed> {
        let mut ledger = self.ledger.take().expect("the trip has its ledger until it arrives");
        let record = self.session.take().map(Session::into_record);
        let record = record.expect("the session lives as long as the trip");
        let last = decisive_failure(&record);
        ledger.decided(record);
        let code = ErrorCode::of_attempt(last, self.client);
        let response_wait = last.is_some_and(|(stage, _)| stage >= Stage::Send);
        let client_left = self.client == Some(ClientFault::Left);
        Box::new(Failed { code, fault: last.map(|(_, fault)| fault), client_left, response_wait, ledger })
    }
}

/// How far the attempt got whose outcome the client is told, and what went wrong with it.
fn decisive_failure(record: &Record) -> Option<(Stage, Fault)> {
    let failure = |attempt: &AttemptRecord| match attempt.outcome {
        Outcome::Failed(failure) => Some((failure.stage, failure.fault)),
        Outcome::Answered { .. } => None,
    };
    // The end that the client itself made comes before what may have happened until then.
    let ended_by_client =
        record.attempts.iter().rev().filter_map(failure).find(|(_, fault)| *fault == Fault::Cancelled);
    ended_by_client.or_else(|| record.decisive().and_then(failure))
}

impl Drop for Trip<'_> {
    fn drop(&mut self) {
        // Dropped on the way: the client went away. The row says so.
        if let (Some(mut session), Some(ledger)) = (self.session.take(), &mut self.ledger) {
            for (attempt, stage, peer) in std::mem::take(&mut self.dials).lost() {
                let detail = ledger.detail(attempt);
                (detail.stage, detail.address, detail.fault) = (stage, peer, Some(Fault::Cancelled));
            }
            if let Some(Sending { attempt, raw, before, body }) = self.sending.take() {
                let detail = ledger.detail(attempt);
                detail.written_bytes = raw.written() - before;
                if detail.written_bytes > 0 && body.is_ended() {
                    detail.stage = Stage::AwaitHead;
                }
                ledger.egress = detail.written_bytes;
            }
            session.cancelled(ledger.now());
            ledger.decided(session.into_record());
        }
    }
}
