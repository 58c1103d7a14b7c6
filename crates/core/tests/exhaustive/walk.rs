//! The walk: a session is copied at every point where the world could go more than one way, and each copy goes one.

use std::time::Duration;

use handover_core::BodyLeft::{Consumed, Whole};
use handover_core::{Action, Failure, Fault, Outcome, Sent, Session, Stage, Verdict};

use crate::model::rules::{DISCLAIMED, IN_PROGRESS, MISDIRECTED, PINNED, UNWELCOME};
use crate::model::{Case, Model, Takes};

/// The outcomes that are tried at every point.
#[derive(Clone, Copy)]
pub(crate) enum Alphabet {
    /// Everything that can make a difference to a decision.
    Whole,
    /// One of each kind.
    Short,
    /// What servers say of a request besides that it failed, and what may come between.
    Words,
}

const fn answered(status: u16, retry_after_ms: Option<u64>, body: handover_core::BodyLeft) -> Outcome {
    let retry_after = match retry_after_ms {
        Some(ms) => Some(Duration::from_millis(ms)),
        None => None,
    };
    Outcome::Answered { status, retry_after, body }
}

const fn failed(stage: Stage, fault: Fault, sent: Sent, body: handover_core::BodyLeft) -> Outcome {
    Outcome::Failed(Failure { stage, fault, sent, body })
}

const WHOLE: [Outcome; 14] = [
    answered(200, None, Whole),
    answered(404, None, Consumed),
    answered(UNWELCOME, None, Whole),
    answered(UNWELCOME, Some(30), Whole),
    answered(UNWELCOME, Some(10_000), Whole),
    answered(UNWELCOME, None, Consumed),
    failed(Stage::Dial, Fault::Refused, Sent::No, Whole),
    failed(Stage::Send, Fault::Reset, Sent::Maybe, Whole),
    failed(Stage::AwaitHead, Fault::Timeout, Sent::Yes, Whole),
    failed(Stage::Send, Fault::Closed, Sent::No, Whole),
    failed(Stage::Send, Fault::Closed, Sent::No, Consumed),
    failed(Stage::Dial, Fault::Cancelled, Sent::No, Whole),
    failed(Stage::Dial, Fault::Denied, Sent::No, Whole),
    failed(Stage::Dial, Fault::LostRace, Sent::No, Whole),
];

const SHORT: [Outcome; 6] = [
    answered(200, None, Whole),
    answered(UNWELCOME, Some(30), Whole),
    failed(Stage::Dial, Fault::Timeout, Sent::No, Whole),
    failed(Stage::Send, Fault::Reset, Sent::Maybe, Whole),
    failed(Stage::Send, Fault::Cancelled, Sent::Maybe, Consumed),
    failed(Stage::Dial, Fault::LostRace, Sent::No, Whole),
];

const WORDS: [Outcome; 10] = [
    answered(200, None, Whole),
    answered(UNWELCOME, None, Whole),
    answered(DISCLAIMED, None, Whole),
    answered(MISDIRECTED, Some(30), Whole),
    answered(PINNED, None, Whole),
    answered(IN_PROGRESS, Some(10), Whole),
    failed(Stage::Dial, Fault::Refused, Sent::No, Whole),
    failed(Stage::Resolve, Fault::Dns, Sent::No, Whole),
    failed(Stage::Dial, Fault::LostRace, Sent::No, Whole),
    failed(Stage::Send, Fault::Reset, Sent::Maybe, Whole),
];

/// One world: a session, what it has been through, and what is left of the budget.
#[derive(Clone)]
struct World<'p> {
    session: Session<'p>,
    model: Model,
    budget: Takes,
    now: Duration,
    step: Duration,
    outcomes: u32,
}

/// Walks every path of a case; says how many sessions that were.
pub(crate) fn walk(case: &Case, alphabet: Alphabet) -> u64 {
    let world = World {
        session: Session::new(&case.policy, case.facts, 0x5eed),
        model: Model::new(case),
        budget: Takes { left: case.takes, granted: 0 },
        now: Duration::ZERO,
        step: case.step,
        outcomes: 0,
    };
    world.go_on(alphabet)
}

impl World<'_> {
    /// Does what the session says until the world may go several ways.
    fn go_on(mut self, alphabet: Alphabet) -> u64 {
        loop {
            let action = self.session.poll(self.now, &self.model.places, &mut self.budget);
            match action {
                Action::Try { endpoint, attempt, connect_by, head_by, .. } => {
                    self.model.begins(self.now, endpoint, attempt, [Some(connect_by), head_by], false);
                }
                Action::Dial { endpoint, attempt, connect_by, head_by, .. } => {
                    self.model.begins(self.now, endpoint, attempt, [Some(connect_by), head_by], true);
                }
                Action::Wait { until } => {
                    assert!(until > self.now, "a wait for what is past\n{:#?}", self.model);
                    if !self.model.in_flight().is_empty() {
                        return self.branch(Some(until), alphabet);
                    }
                    self.now = until;
                }
                Action::Await => return self.branch(None, alphabet),
                Action::Discover { refresh } => return self.discover(refresh, alphabet),
                Action::Finish(verdict) => return self.finish(verdict),
            }
        }
    }

    /// Goes every way that the world may go while attempts are under way.
    fn branch(self, until: Option<Duration>, alphabet: Alphabet) -> u64 {
        let mut sessions = 0;
        assert!(!self.model.in_flight().is_empty(), "waiting for nothing\n{:#?}", self.model);
        if let Some(until) = until {
            sessions += World { now: until, ..self.clone() }.go_on(alphabet);
        }
        for attempt in self.model.in_flight() {
            // Without a hedge to stop, a connection makes no difference.
            if until.is_some() && !self.model.is_any_connected() {
                let mut world = self.clone();
                world.now += world.step;
                world.session.connected(world.now, attempt);
                world.model.connects(attempt);
                sessions += world.go_on(alphabet);
            }
            let outcomes: &[Outcome] = match alphabet {
                Alphabet::Whole => &WHOLE,
                Alphabet::Short => &SHORT,
                Alphabet::Words => &WORDS,
            };
            for outcome in outcomes {
                sessions += self.clone().report(attempt, *outcome, alphabet);
            }
        }
        sessions
    }

    /// Goes on as if this attempt had ended so.
    fn report(mut self, attempt: u32, outcome: Outcome, alphabet: Alphabet) -> u64 {
        self.now += self.step;
        let verdict = self.session.finished(self.now, attempt, outcome, &mut self.budget);
        self.model.ends(self.now, attempt, outcome, verdict, &self.budget);
        self.outcomes += 1;
        if verdict.is_final() {
            let action = self.session.poll(self.now, &self.model.places, &mut self.budget);
            assert_eq!(action, Action::Finish(verdict), "{:#?}", self.model);
        }
        if verdict.is_final() || self.outcomes == self.model.case.length {
            self.model.is_over(self.session.record(), &self.budget);
            return 1;
        }
        self.go_on(alphabet)
    }

    /// Goes on with one more endpoint, and without.
    fn discover(mut self, refresh: bool, alphabet: Alphabet) -> u64 {
        let asked = if refresh { &mut self.model.refreshes } else { &mut self.model.discoveries };
        *asked += 1;
        let asked = *asked;
        assert_eq!(asked, 1, "asked for endpoints twice\n{:#?}", self.model);
        let awaiting = self.session.poll(self.now, &self.model.places, &mut self.budget);
        assert_eq!(awaiting, Action::Await);
        let mut richer = self.clone();
        richer.session.discovered(richer.now, true);
        richer.model.places.count += 1;
        let mut same = self.clone();
        same.session.discovered(same.now, true);
        self.session.discovered(self.now, false);
        self.model.found_nothing = true;
        richer.go_on(alphabet) + same.go_on(alphabet) + self.go_on(alphabet)
    }

    /// The session ended without a last word on an attempt.
    fn finish(mut self, verdict: Verdict) -> u64 {
        self.model.gives_up(self.now, verdict);
        self.model.is_over(self.session.record(), &self.budget);
        let again = self.session.poll(self.now, &self.model.places, &mut self.budget);
        assert_eq!(again, Action::Finish(verdict));
        1
    }
}
