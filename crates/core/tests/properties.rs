//! Long random sessions under random policies: what the enumeration of short ones cannot reach.

use std::time::Duration;

use handover_core::{
    Action, AttemptRecord, Backoff, BackoffBetween, BodyLeft, Budget, Endpoints, Facts, Failure, Fate, Fault, Order,
    Outcome, Policy, PolicyParts, Pool, Record, Replay, Sent, Session, Stage, StatusSet, Verdict, replay,
};
use proptest::prelude::*;

/// The script of a world: bytes that answer every question it is asked, the last one over and over.
#[derive(Clone, Debug)]
struct Script {
    bytes: Vec<u8>,
    at: usize,
}

impl Script {
    fn next(&mut self) -> u8 {
        let byte = self.bytes.get(self.at).or(self.bytes.last()).copied().unwrap_or_default();
        self.at += 1;
        byte
    }

    fn outcome(&mut self) -> Outcome {
        let body = if self.next() < 20 { BodyLeft::Consumed } else { BodyLeft::Whole };
        let wait = Duration::from_millis(u64::from(self.next()) * 37);
        match self.next() {
            0..40 => Outcome::Answered { status: 503, retry_after: Some(wait), body },
            40..60 => Outcome::Answered { status: 503, retry_after: None, body },
            60..65 => Outcome::Answered { status: 200, retry_after: None, body },
            65..70 => Outcome::Answered {
                status: [421, 425, 409, 451, 500][usize::from(self.next()) % 5],
                retry_after: None,
                body,
            },
            70..90 => failed(Stage::AwaitHead, Fault::Timeout, Sent::Yes, body),
            90..110 => failed(Stage::Send, Fault::Reset, Sent::Maybe, body),
            110..112 => failed(Stage::Send, Fault::Cancelled, Sent::Maybe, body),
            112..125 => failed(Stage::Dial, Fault::LostRace, Sent::No, BodyLeft::Whole),
            125..140 => failed(Stage::Resolve, Fault::Dns, Sent::No, BodyLeft::Whole),
            _ => failed(Stage::Dial, Fault::Refused, Sent::No, BodyLeft::Whole),
        }
    }
}

const fn failed(stage: Stage, fault: Fault, sent: Sent, body: BodyLeft) -> Outcome {
    Outcome::Failed(Failure { stage, fault, sent, body })
}

#[derive(Clone, Debug)]
struct Place {
    admits: bool,
    usable: bool,
    scope: u32,
    cost: u64,
}

struct World(Vec<Place>);

impl Endpoints for World {
    fn count(&self) -> usize {
        self.0.len()
    }
    fn cost(&self, index: usize) -> u64 {
        self.0[index].cost
    }
    fn admits(&self, index: usize) -> bool {
        self.0[index].admits
    }
    fn is_usable(&self, index: usize) -> bool {
        self.0[index].usable
    }
    fn scope(&self, index: usize) -> u32 {
        self.0[index].scope
    }
}

/// So many of a world's endpoints, as they come and go.
struct First<'w>(&'w World, usize);

impl Endpoints for First<'_> {
    fn count(&self) -> usize {
        self.1.min(self.0.count())
    }
    fn is_usable(&self, index: usize) -> bool {
        index.is_multiple_of(3) || self.0.is_usable(index)
    }
    fn scope(&self, index: usize) -> u32 {
        self.0.scope(index)
    }
}

struct Coin<'s>(&'s mut Script);

impl Budget for Coin<'_> {
    fn try_take(&mut self) -> bool {
        self.0.next() > 10
    }
}

fn policies() -> impl Strategy<Value = Policy> {
    let switches = (any::<[bool; 8]>(), 1_u32..=32, 0..Order::ALL.len(), 0_usize..3);
    let times = (10_u64..400, 0_u64..50, 0_u64..3000, proptest::option::of(1_u64..20_000), 0_u64..100);
    (switches, times).prop_map(|((flags, max_attempts, order, replay), (stagger, base, cap, deadline, least))| {
        let parts = PolicyParts {
            max_attempts,
            replay: Replay::ALL[replay],
            order: Order::ALL[order],
            retry_statuses: StatusSet::from_iter(500..=599),
            disclaimed_statuses: StatusSet::from_iter([421, 425, 500].into_iter().filter(|_| flags[4])),
            pin_statuses: StatusSet::from_iter(flags[5].then_some(451)),
            in_progress: flags[6],
            attempt_timeout: flags[7].then(|| Duration::from_millis(1 + stagger)),
            dial_stagger: flags[0].then(|| Duration::from_millis(stagger)),
            same_endpoint_again: flags[1],
            discover: flags[2],
            backoff: Backoff {
                base: Duration::from_millis(base),
                cap: Duration::from_millis(base + cap),
                between: if flags[3] { BackoffBetween::EveryAttempt } else { BackoffBetween::SameEndpoint },
            },
            deadline: deadline.map(Duration::from_millis),
            min_deadline: Duration::from_millis(deadline.map_or(least, |deadline| least.min(deadline))),
            retry_after_cap: Duration::from_millis(cap),
            ..PolicyParts::default()
        };
        Policy::try_new(parts).expect("the strategy keeps within what is allowed")
    })
}

/// Runs a session to its end, driven by the script. Also the actions, to compare runs.
fn run(policy: &Policy, facts: Facts, seed: u64, world: &World, mut script: Script) -> (Record, Vec<Action>) {
    let mut session = Session::new(policy, facts, seed);
    let (mut now, mut actions, mut under_way) = (Duration::ZERO, Vec::new(), Vec::new());
    // A session ends within a few actions per attempt; a hundred per attempt would be a loop.
    for _ in 0..3200 {
        let action = session.poll(now, world, &mut Coin(&mut script));
        actions.push(action);
        match action {
            Action::Try { attempt, .. } | Action::Dial { attempt, .. } => {
                under_way.push(attempt);
                continue;
            }
            Action::Discover { .. } => session.discovered(now, script.next() > 100),
            Action::Finish(_) => return (session.into_record(), actions),
            Action::Wait { until } if under_way.is_empty() || script.next() < 128 => now = until,
            Action::Wait { .. } | Action::Await => {
                now += Duration::from_millis(u64::from(script.next() / 4));
                let index = usize::from(script.next()) % under_way.len();
                if script.next() < 60 {
                    session.connected(now, under_way[index]);
                }
                let attempt = under_way.swap_remove(index);
                let outcome = script.outcome();
                session.finished(now, attempt, outcome, &mut Coin(&mut script));
            }
        }
    }
    panic!("no end in sight: {actions:?}");
}

fn worlds() -> impl Strategy<Value = World> {
    let place = (proptest::bool::weighted(0.8), proptest::bool::weighted(0.9), 0_u32..2, 0_u64..5);
    let place = place.prop_map(|(admits, usable, scope, cost)| Place { admits, usable, scope, cost });
    proptest::collection::vec(place, 0..40).prop_map(World)
}

fn all_facts() -> impl Strategy<Value = Facts> {
    (any::<[bool; 2]>(), proptest::option::of(0_u32..45), proptest::option::of(1_u64..30_000)).prop_map(
        |([idempotent, keyed], preferred, deadline)| Facts {
            idempotent,
            keyed,
            preferred,
            caller_deadline: deadline.map(Duration::from_millis),
            ..Facts::default()
        },
    )
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// What the server said of the request besides that it is unwelcome.
fn word_of(policy: &Policy, facts: Facts, attempt: &AttemptRecord) -> Option<&'static str> {
    match attempt.outcome {
        Outcome::Answered { status, .. } if policy.pin_statuses().contains(status) => Some("pinned"),
        Outcome::Answered { status: 409, .. } if policy.in_progress() && facts.keyed => Some("in_progress"),
        Outcome::Answered { status, .. } if policy.disclaimed_statuses().contains(status) => Some("disclaimed"),
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn every_session_ends_within_its_limits_and_replays(
        policy in policies(),
        facts in all_facts(),
        seed in any::<u64>(),
        world in worlds(),
        bytes in proptest::collection::vec(any::<u8>(), 1..400),
    ) {
        let script = Script { bytes, at: 0 };
        let (record, actions) = run(&policy, facts, seed, &world, script.clone());
        prop_assert!(record.attempts.len() <= policy.max_attempts() as usize);
        prop_assert!(record.verdict.is_some() && record.ended.is_some());
        for attempt in record.attempts.iter() {
            // A race that was lost behind no later attempt than the one before this was lost before this began.
            let is_try = |other: &&AttemptRecord| {
                !other.outcome.is_lost_race() || other.spent.attempts >= attempt.attempt
            };
            let tried = |at: u32| {
                record.attempts.iter().take(attempt.attempt as usize - 1).filter(is_try).any(|other| other.endpoint == at)
            };
            let mut untried = (0..world.0.len()).filter(|at| world.0[*at].usable && !tried(*at as u32));
            let reason = match attempt.pick.pool {
                Pool::Again => untried.next().is_none() || (facts.keyed && !facts.idempotent),
                Pool::Same => policy.in_progress() || !policy.disclaimed_statuses().is_empty(),
                Pool::Untried | Pool::Shedding => !tried(attempt.endpoint),
            };
            prop_assert!(reason, "endpoint {} again", attempt.endpoint);
            prop_assert!(world.0[attempt.endpoint as usize].usable);
            prop_assert!(attempt.due <= attempt.started && attempt.started <= attempt.ended);
        }
        let limit = policy.deadline().into_iter().chain(facts.caller_deadline).min();
        for attempt in record.attempts.iter().skip(1) {
            prop_assert!(limit.is_none_or(|limit| attempt.started + policy.min_deadline() <= limit));
        }
        prop_assert_eq!(replay(&policy, &record), Ok(()));
        let (again, same_actions) = run(&policy, facts, seed, &world, script);
        prop_assert_eq!(&record, &again);
        prop_assert_eq!(actions, same_actions);
    }

    #[test]
    fn what_may_have_been_sent_is_not_sent_again_without_leave(
        policy in policies(),
        facts in all_facts(),
        seed in any::<u64>(),
        world in worlds(),
        bytes in proptest::collection::vec(any::<u8>(), 1..400),
    ) {
        let (record, _) = run(&policy, facts, seed, &world, Script { bytes, at: 0 });
        let may_repeat = match policy.replay() {
            Replay::Unsent => false,
            Replay::Idempotent => facts.idempotent || facts.keyed,
            Replay::Always => true,
        };
        let scope = |attempt: &AttemptRecord| world.0[attempt.endpoint as usize].scope;
        for attempt in record.attempts.iter().filter(|attempt| attempt.outcome.sent() != Sent::No) {
            let later = || record.attempts.iter().filter(|other| other.started > attempt.ended);
            let word = word_of(&policy, facts, attempt);
            prop_assert!(may_repeat || word.is_some() || later().count() == 0, "after attempt {}", attempt.attempt);
            // What only its key keeps from being done twice stays where the key is known, unless it was not done.
            let is_kept = facts.keyed && !facts.idempotent && policy.replay() != Replay::Always;
            if is_kept && !matches!(word, Some("disclaimed" | "pinned")) {
                prop_assert!(later().all(|other| scope(other) == scope(attempt)), "after attempt {}", attempt.attempt);
            }
            if word == Some("pinned") {
                prop_assert!(later().all(|other| other.endpoint != attempt.endpoint));
            }
        }
        let stands = matches!(record.verdict, Some(Verdict::Done(_)));
        prop_assert_eq!(stands, record.fate() == Fate::Answered);
        prop_assert!(!stands || record.decisive().is_some_and(|decisive| decisive.outcome.is_answered()));
    }

    #[test]
    fn the_core_never_panics_whatever_a_shell_reports(
        policy in policies(),
        seed in any::<u64>(),
        world in worlds(),
        calls in proptest::collection::vec((any::<u8>(), any::<u64>(), any::<u32>()), 1..200),
    ) {
        let facts = Facts { keyed: seed % 2 == 0, ..Facts::default() };
        let mut session = Session::new(&policy, facts, seed);
        let mut script = Script { bytes: calls.iter().map(|(byte, ..)| *byte).collect(), at: 0 };
        for (verb, time, attempt) in calls {
            let now = Duration::from_millis(time);
            let attempt = attempt % 35;
            match verb % 6 {
                0 => session.connected(now, attempt),
                1 => { let outcome = script.outcome(); session.finished(now, attempt, outcome, &mut Coin(&mut script)); }
                2 => session.discovered(now, time % 2 == 0),
                3 if time % 50 == 0 => session.cancelled(now),
                4 => { session.poll(now, &First(&world, usize::from(verb)), &mut Coin(&mut script)); }
                _ => { session.poll(now, &world, &mut Coin(&mut script)); }
            }
        }
        prop_assert!(session.record().attempts.len() <= policy.max_attempts() as usize);
        prop_assert_eq!(replay(&policy, session.record()), Ok(()));
    }
}
