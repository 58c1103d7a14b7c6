//! A record that was tampered with does not replay, whichever of its decisions was changed.

use std::time::Duration;

use handover_core::{
    Action, AttemptRecord, Attempts, BodyLeft, Discovery, Endpoints, Facts, Failure, Fault, Order, Outcome, Policy,
    PolicyParts, Pool, Reason, Record, Replay, Sent, Session, Stage, StatusSet, Unlimited, Verdict, replay,
};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn policy() -> Policy {
    Policy::try_new(PolicyParts {
        order: Order::Spread,
        same_endpoint_again: true,
        replay: Replay::Always,
        retry_statuses: StatusSet::from_iter([503]),
        max_attempts: 5,
        ..PolicyParts::default()
    })
    .expect("valid")
}

/// A session with everything in it: a refused dial, a hedged one, an unwelcome answer, a refusal of the one that had lost
/// its race, a pause, an answer.
fn record() -> Record {
    let policy = policy();
    let mut session = Session::new(&policy, Facts::default(), 11);
    let mut now = ms(0);
    let unwelcome = Outcome::Answered { status: 503, retry_after: Some(ms(40)), body: BodyLeft::Whole };
    let refused = Outcome::Failed(Failure::before_send(Stage::Dial, Fault::Refused));
    let begin = |session: &mut Session<'_>, now: &mut Duration| loop {
        match session.poll(*now, &3, &mut Unlimited) {
            Action::Try { attempt, .. } | Action::Dial { attempt, .. } => return attempt,
            Action::Wait { until } => *now = until,
            other => panic!("{other:?}"),
        }
    };
    let first = begin(&mut session, &mut now);
    session.finished(ms(3), first, refused, &mut Unlimited);
    now = ms(3);
    let slow = begin(&mut session, &mut now);
    let hedged = begin(&mut session, &mut now);
    session.connected(now + ms(1), hedged);
    session.finished(
        now + ms(2),
        slow,
        Outcome::Failed(Failure::before_send(Stage::Dial, Fault::LostRace)),
        &mut Unlimited,
    );
    session.finished(now + ms(9), hedged, unwelcome, &mut Unlimited);
    now += ms(9);
    let beaten = begin(&mut session, &mut now);
    session.finished(now + ms(2), beaten, refused, &mut Unlimited);
    now += ms(2);
    let again = begin(&mut session, &mut now);
    session.connected(now, again);
    let answer = Outcome::Answered { status: 200, retry_after: None, body: BodyLeft::Whole };
    session.finished(now + ms(1), again, answer, &mut Unlimited);
    session.into_record()
}

/// The record with one attempt changed.
fn with(index: usize, change: impl FnOnce(&mut AttemptRecord)) -> Record {
    let mut record = record();
    let before = record.attempts.get(index).copied();
    let attempt = record.attempts.get_mut(index).expect("there is such an attempt");
    change(attempt);
    assert_ne!(Some(*attempt), before, "the change changes something");
    record
}

#[track_caller]
fn differs(record: &Record, decision: &str) {
    let difference = replay(&policy(), record).expect_err("the record was tampered with");
    assert_eq!(difference.decision, decision, "{difference}");
}

#[test]
fn the_record_replays_also_when_put_together_again_from_its_parts() {
    let record = record();
    assert_eq!(record.attempts.len(), 5);
    assert!(record.attempts.get(2).is_some_and(|attempt| attempt.hedged));
    let beaten = record.attempts.get(3).map(|attempt| (attempt.endpoint, attempt.pick.pool));
    assert_eq!(beaten, record.attempts.get(1).map(|attempt| (attempt.endpoint, Pool::Untried)));
    assert_eq!(record.attempts.get(4).map(|attempt| attempt.pick.pool), Some(Pool::Again));
    assert_eq!(record.decisive().map(|attempt| attempt.attempt), Some(5));
    assert_eq!(replay(&policy(), &record), Ok(()));
    let attempts: Attempts = record.attempts.iter().copied().collect();
    let rebuilt =
        Record { attempts, verdict: record.verdict, ended: record.ended, ..Record::new(11, Facts::default()) };
    assert_eq!(rebuilt, record);
    assert_eq!(replay(&policy(), &rebuilt), Ok(()));
}

#[test]
fn a_changed_beginning_is_noticed() {
    differs(&with(1, |attempt| attempt.attempt = 3), "number");
    differs(&with(1, |attempt| attempt.endpoint = 7), "pick");
    differs(&with(0, |attempt| (attempt.endpoint, attempt.pick.chosen.endpoint) = (2, 2)), "pick");
    differs(&with(0, |attempt| attempt.pick.chosen.place = 9), "pick");
    differs(&with(0, |attempt| attempt.pick.chosen.cost = 1), "pick");
    differs(&with(0, |attempt| attempt.pick.size = 4), "pick");
    differs(&with(1, |attempt| attempt.pick.size = 3), "pick");
    differs(&with(1, |attempt| attempt.pick.pool = Pool::Again), "due");
    differs(&with(0, |attempt| attempt.pick.other = None), "pick");
    differs(&with(4, |attempt| attempt.due -= ms(1)), "due");
    differs(&with(4, |attempt| attempt.started = attempt.due - ms(1)), "due");
    differs(&with(2, |attempt| attempt.due += ms(1)), "due");
    differs(&with(2, |attempt| attempt.hedged = false), "due");
    // It began in the very moment in which the first one ended, so it could have been a hedge; its backoff tells.
    differs(&with(1, |attempt| attempt.hedged = true), "spent");
}

#[test]
fn a_changed_end_is_noticed() {
    let maybe = Failure { stage: Stage::Send, fault: Fault::Reset, sent: Sent::Maybe, body: BodyLeft::Consumed };
    differs(&with(0, |attempt| attempt.outcome = Outcome::Failed(maybe)), "verdict");
    differs(&with(0, |attempt| attempt.verdict = Verdict::Stop(Reason::NotSent)), "verdict");
    differs(&with(0, |attempt| attempt.verdict = Verdict::TryNext(Reason::InFlight)), "verdict");
    // The first one's dial was refused, which costs nothing; rows of when it did are told apart by that.
    differs(&with(0, |attempt| attempt.budget = Some(true)), "budget");
    differs(&with(0, |attempt| attempt.budget = Some(false)), "budget");
    differs(&with(2, |attempt| attempt.budget = None), "budget");
    differs(&with(2, |attempt| attempt.budget = Some(false)), "verdict");
    differs(&with(4, |attempt| attempt.budget = Some(true)), "budget");
    differs(&with(0, |attempt| attempt.spent.attempts = 5), "spent");
    differs(&with(0, |attempt| attempt.spent.untried = false), "spent");
    differs(&with(0, |attempt| attempt.spent.in_flight = true), "spent");
    differs(&with(1, |attempt| attempt.spent.in_flight = false), "spent");
    differs(&with(0, |attempt| attempt.spent.delay = ms(1)), "spent");
    differs(&with(0, |attempt| attempt.ended += ms(1)), "spent");
}

#[test]
fn a_race_that_was_not_lost_before_a_choice_makes_its_endpoint_tried() {
    // Its end behind the choice that went there again, or another end than a lost race: then none was untried.
    differs(&with(1, |attempt| attempt.spent.attempts = 4), "spent");
    let refused = Outcome::Failed(Failure::before_send(Stage::Dial, Fault::Refused));
    differs(
        &with(1, |attempt| (attempt.outcome, attempt.verdict) = (refused, Verdict::TryNext(Reason::InFlight))),
        "spent",
    );
    // A pool as large as if the beaten one were among those never dialled, and one that is larger than all.
    differs(&with(2, |attempt| attempt.pick.size = 2), "pick");
    differs(&with(3, |attempt| attempt.pick.size = 2), "pick");
}

#[test]
fn a_changed_whole_is_noticed() {
    differs(&Record { verdict: Some(Verdict::Stop(Reason::EndpointsExhausted)), ..record() }, "end");
    differs(&Record { verdict: None, ..record() }, "end");
    differs(&Record { seed: 12, ..record() }, "pick");
    let shorter: Attempts = record().attempts.iter().take(4).copied().collect();
    differs(&Record { attempts: shorter, ..record() }, "end");
    differs(&Record { attempts: Attempts::new(), ..record() }, "end");
    differs(&Record { facts: Facts { opted_out: true, ..Facts::default() }, ..record() }, "verdict");
    let discovery = Some(Discovery { after: 0, found: Some(false) });
    let none_found = Record {
        verdict: Some(Verdict::Stop(Reason::NothingDiscovered)),
        ended: Some(ms(1)),
        discovery,
        ..Record::new(1, Facts::default())
    };
    assert_eq!(replay(&policy(), &none_found), Ok(()));
    differs(&Record { discovery: None, ..none_found }, "end");
}

#[test]
fn another_policy_decides_otherwise() {
    for (parts, decision) in [
        (PolicyParts { replay: Replay::Unsent, ..*policy().parts() }, "verdict"),
        (PolicyParts { max_attempts: 4, ..*policy().parts() }, "verdict"),
        (PolicyParts { order: Order::Priority, ..*policy().parts() }, "pick"),
        (PolicyParts { dial_stagger: None, ..*policy().parts() }, "due"),
        (PolicyParts { same_endpoint_again: false, ..*policy().parts() }, "verdict"),
        (PolicyParts { deadline: Some(ms(200)), ..*policy().parts() }, "due"),
    ] {
        let other = Policy::try_new(parts).expect("valid");
        let difference = replay(&other, &record()).expect_err("decided under another policy");
        assert_eq!(difference.decision, decision, "{difference}");
    }
}

#[test]
fn a_difference_says_what_and_where() {
    let difference = replay(&policy(), &with(0, |attempt| attempt.verdict = Verdict::Stop(Reason::NotSent)));
    let text = difference.expect_err("tampered with").to_string();
    assert_eq!(text, "attempt 1: verdict is recorded as Stop(NotSent), but decided as TryNext(NotSent)");
}

/// The policy of [`worded`]: it listens to what servers say.
fn listening() -> Policy {
    Policy::try_new(PolicyParts {
        order: Order::Sticky,
        replay: Replay::Idempotent,
        max_attempts: 9,
        retry_statuses: StatusSet::from_iter([503]),
        disclaimed_statuses: StatusSet::from_iter([421, 500]),
        pin_statuses: StatusSet::from_iter([451]),
        in_progress: true,
        discover: true,
        dial_stagger: None,
        ..PolicyParts::default()
    })
    .expect("valid")
}

/// Seven endpoints in two scopes, one of which cannot be used.
struct Seven;

impl Endpoints for Seven {
    fn count(&self) -> usize {
        7
    }
    fn is_usable(&self, index: usize) -> bool {
        index != 2
    }
    fn scope(&self, index: usize) -> u32 {
        [0, 4, 0, 4, 0, 4, 0][index]
    }
}

/// A session with every word in it: preferred, pinned, misdirected, in progress and disclaimed, and then kept in a scope.
fn worded() -> Record {
    let policy = listening();
    let facts = Facts { keyed: true, preferred: Some(4), ..Facts::default() };
    let mut session = Session::new(&policy, facts, 5);
    let answered = |status| Outcome::Answered { status, retry_after: None, body: BodyLeft::Whole };
    let reset = Failure { sent: Sent::Maybe, ..Failure::before_send(Stage::Send, Fault::Reset) };
    let mut outcomes = [
        answered(451),
        answered(500),
        answered(409),
        Outcome::Failed(reset),
        Outcome::Failed(Failure::before_send(Stage::Resolve, Fault::Dns)),
        answered(421),
        answered(421),
    ]
    .into_iter();
    let mut now = ms(0);
    loop {
        match session.poll(now, &Seven, &mut Unlimited) {
            Action::Try { attempt, .. } => {
                now += ms(5);
                session.finished(now, attempt, outcomes.next().expect("an outcome for each"), &mut Unlimited);
            }
            Action::Wait { until } => now = until,
            Action::Discover { .. } => session.discovered(now + ms(1), true),
            Action::Finish(_) => return session.into_record(),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_record_with_every_word_in_it_replays() {
    let record = worded();
    let story: Vec<_> =
        record.attempts.iter().map(|at| format!("{} {} {}", at.endpoint, at.pick.pool, at.verdict)).collect();
    let expected = [
        "4 untried try_next(pinned)",
        "0 untried try_next(disclaimed)",
        "1 untried try_next(in_progress)",
        "1 same try_next(idempotency_key)",
        "3 untried try_next(not_sent)",
        "5 untried try_next(once_more)",
        "5 same done(outside_scope)",
    ];
    assert_eq!(story, expected);
    assert_eq!(record.refresh, Some(Discovery { after: 1, found: Some(true) }));
    assert_eq!(replay(&listening(), &record), Ok(()));
}

#[test]
fn a_changed_word_is_noticed() {
    let changed = |index: usize, change: &dyn Fn(&mut AttemptRecord), decision: &str| {
        let mut record = worded();
        change(record.attempts.get_mut(index).expect("there is such an attempt"));
        let Err(difference) = replay(&listening(), &record) else { panic!("not noticed: {record:#?}") };
        assert_eq!(difference.decision, decision, "attempt {}: {difference}", index + 1);
    };
    changed(0, &|at| at.pick.unusable = 7, "pick");
    changed(0, &|at| at.pick.outside = 6, "pick");
    changed(2, &|at| at.pick.outside = 4, "pick");
    changed(3, &|at| at.pick.pool = Pool::Untried, "due");
    changed(3, &|at| at.pick.scope = 0, "pick");
    // To another endpoint, as if nothing were in progress at the second: all else is as it would be then.
    let third = worded().attempts.get(2).expect("there are seven").ended;
    let elsewhere = |at: &mut AttemptRecord| {
        (at.endpoint, at.due) = (3, third);
        (at.pick.pool, at.pick.size, at.pick.chosen.endpoint) = (Pool::Untried, 2, 3);
    };
    let mut record = worded();
    elsewhere(record.attempts.get_mut(3).expect("there are seven"));
    let difference = replay(&listening(), &record).expect_err("the record was tampered with");
    assert_eq!((difference.attempt, difference.decision), (Some(4), "pick"), "{difference}");
    changed(3, &|at| at.pick.gone = 4, "pick");
    changed(4, &|at| at.pick.scope = 0, "pick");
    changed(4, &|at| (at.endpoint, at.pick.chosen.endpoint) = (1, 1), "pick");
    changed(4, &|at| at.pick.pool = Pool::Again, "due");
    changed(5, &|at| at.spent.once_more = false, "spent");
    changed(5, &|at| at.verdict = Verdict::TryNext(Reason::Disclaimed), "verdict");
    changed(5, &|at| at.budget = None, "budget");
    changed(4, &|at| at.budget = Some(true), "budget");
    changed(6, &|at| at.pick.chosen.place = 1, "pick");
    changed(6, &|at| (at.endpoint, at.pick.chosen.endpoint) = (3, 3), "pick");
    changed(6, &|at| at.spent.outside = false, "spent");
    changed(6, &|at| at.verdict = Verdict::Done(Reason::EndpointsExhausted), "verdict");
    let whole = |record: Record, decision: &str| {
        let difference = replay(&listening(), &record).expect_err("the record was tampered with");
        assert_eq!(difference.decision, decision, "{difference}");
    };
    let facts = worded().facts;
    whole(Record { refresh: None, ..worded() }, "spent");
    whole(Record { facts: Facts { gated: true, ..facts }, ..worded() }, "verdict");
    whole(Record { facts: Facts { keyed: false, ..facts }, ..worded() }, "spent");
    whole(Record { facts: Facts { preferred: Some(0), ..facts }, ..worded() }, "pick");
    whole(Record { verdict: Some(Verdict::Stop(Reason::OutsideScope)), ..worded() }, "end");
    let free = Facts { idempotent: true, ..facts };
    whole(Record { facts: free, ..worded() }, "verdict");
}
