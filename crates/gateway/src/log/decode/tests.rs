//! Whatever a record holds, it reads back exactly as it was.

use std::net::SocketAddr;
use std::time::Duration;

use handover_core::{
    AttemptRecord, Backoff, BackoffBetween, BodyLeft, Candidate, Discovery, Facts, Failure, Fault, Order, Outcome,
    Pick, Policy, PolicyParts, Pool, Reason, Record, Replay, Sent, Spent, Stage, StatusSet, Verdict,
};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::encode;
use super::super::{AttemptDetail, Attempts, RequestId};

fn duration() -> impl Strategy<Value = Duration> {
    prop_oneof![Just(Duration::ZERO), (0..u64::MAX).prop_map(Duration::from_nanos)]
}

fn fault() -> impl Strategy<Value = Fault> {
    select(&[Fault::Refused, Fault::LostRace, Fault::Cancelled, Fault::Status(503), Fault::Status(0)][..])
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let body = || select(&[BodyLeft::Whole, BodyLeft::Consumed][..]);
    let answered = (any::<u16>(), option::of(duration()), body());
    let failed = (select(Stage::ALL), fault(), select(Sent::ALL), body());
    prop_oneof![
        answered.prop_map(|(status, retry_after, body)| Outcome::Answered { status, retry_after, body }),
        failed.prop_map(|(stage, fault, sent, body)| Outcome::Failed(Failure { stage, fault, sent, body })),
    ]
}

fn verdict() -> impl Strategy<Value = Verdict> {
    let kinds = [Verdict::Done as fn(Reason) -> Verdict, Verdict::TryNext, Verdict::Stop];
    (0..3usize, select(Reason::ALL)).prop_map(move |(kind, reason)| kinds[kind](reason))
}

fn pick() -> impl Strategy<Value = Pick> {
    let number = || prop_oneof![0..4u32, any::<u32>()];
    let small = || prop_oneof![Just(0), any::<u32>()];
    let candidate = move || {
        (number(), number(), prop_oneof![Just(0), any::<u64>()]).prop_map(|(endpoint, place, cost)| Candidate {
            endpoint,
            place,
            cost,
        })
    };
    let beside = (small(), small(), small(), small());
    (number(), select(Pool::ALL), number(), candidate(), option::of(candidate()), beside).prop_map(
        |(endpoints, pool, size, chosen, other, (unusable, gone, scope, outside))| Pick {
            endpoints,
            pool,
            size,
            chosen,
            other,
            unusable,
            gone,
            scope,
            outside,
        },
    )
}

/// An attempt; its number is set by its place.
fn attempt() -> impl Strategy<Value = AttemptRecord> {
    let spent = (0..5u32, duration(), any::<[bool; 4]>(), duration()).prop_map(
        |(attempts, now, [untried, in_flight, once_more, outside], delay)| Spent {
            attempts,
            now,
            untried,
            in_flight,
            delay,
            once_more,
            outside,
        },
    );
    let times = (duration(), duration(), option::of(duration()), duration());
    (0..4u32, times, any::<bool>(), pick(), outcome(), spent, option::of(any::<bool>()), verdict()).prop_map(
        |(endpoint, (due, started, connected, ended), hedged, pick, outcome, spent, budget, verdict)| AttemptRecord {
            attempt: 0,
            endpoint,
            due,
            started,
            connected,
            ended,
            hedged,
            pick,
            outcome,
            spent,
            budget,
            verdict,
        },
    )
}

prop_compose! {
    /// A record as a session leaves it: ended with a verdict, or neither.
    fn record()(
        seed in any::<u64>(),
        flags in any::<[bool; 4]>(),
        preferred in option::of(any::<u32>()),
        (caller_deadline, attempt_timeout) in (option::of(duration()), option::of(duration())),
        attempts in prop::collection::vec(attempt(), 0..4),
        [discovery, refresh] in prop::array::uniform2(option::of((any::<u32>(), option::of(any::<bool>())))),
        hedges_refused in 0..3u32,
        end in option::of((duration(), verdict())),
        ends_with_last in any::<bool>(),
    ) -> Record {
        let [idempotent, keyed, opted_out, gated] = flags;
        let facts = Facts { idempotent, keyed, opted_out, gated, preferred, attempt_timeout, caller_deadline };
        let mut record = Record::new(seed, facts);
        for (attempt, number) in attempts.into_iter().zip(1..) {
            record.attempts.push(AttemptRecord { attempt: number, ..attempt });
        }
        record.discovery = discovery.map(|(after, found)| Discovery { after, found });
        record.refresh = refresh.map(|(after, found)| Discovery { after, found });
        record.hedges_refused = hedges_refused;
        let last = record.attempts.get(encode::final_attempt(&record)).map(|last| (last.ended, last.verdict));
        let end = if ends_with_last { end.and(last).or(end) } else { end };
        record.ended = end.map(|(ended, _)| ended);
        record.verdict = end.map(|(_, verdict)| verdict);
        record
    }
}

fn detail() -> impl Strategy<Value = AttemptDetail> {
    let address = prop_oneof![Just("127.0.0.1:9001"), Just("[2001:db8::1]:443")]
        .prop_map(|text| text.parse::<SocketAddr>().expect("an address"));
    let shown = (select(Stage::ALL), option::of(fault()), option::of(prop_oneof![Just(111), any::<i32>()]));
    let texts = (any::<String>(), option::of("\\PC{0,20}|[\\x00-\\x7f]{0,20}|x{600}"));
    (texts, option::of(address), shown, any::<u64>(), any::<bool>(), duration()).prop_map(
        |((tag, message), address, (stage, fault, errno), written_bytes, reused, duration)| AttemptDetail {
            node_tag: tag.into(),
            node_hash: "5f2b".into(),
            address,
            stage,
            fault,
            errno,
            message: message.map(Into::into),
            written_bytes,
            reused,
            started: Duration::ZERO,
            duration,
        },
    )
}

proptest! {
    #[test]
    fn every_record_reads_back_exactly(
        record in record(),
        details in prop::collection::vec(detail(), 0..4),
        is_seeded_by_id in any::<bool>(),
    ) {
        let id = RequestId(if is_seeded_by_id { record.seed } else { 7 });
        let mut shown = Attempts::default();
        details.iter().take(record.attempts.len()).for_each(|detail| shown.push(detail.clone()));
        let (mut attempts, mut decisions) = (String::new(), String::new());
        encode::attempts(&mut attempts, &record, &shown);
        encode::decisions(&mut decisions, id, &record);
        let entries = super::attempts(&attempts).expect("readable");
        let read = super::record(id, &entries, &decisions, encode::final_attempt(&record)).expect("readable");
        prop_assert_eq!(&read, &record, "{} {}", attempts, decisions);
        for (entry, detail) in entries.iter().zip(shown.iter()) {
            prop_assert_eq!(&entry.node_tag, &*detail.node_tag);
            prop_assert_eq!(&entry.stage, detail.stage.as_str());
            prop_assert_eq!(&entry.fault, &detail.fault.map(|fault| fault.to_string()));
            prop_assert_eq!(&entry.address, &detail.address.map(|address| address.to_string()));
            prop_assert_eq!(entry.written_bytes, detail.written_bytes);
            let message = detail.message.as_deref();
            if message.is_some_and(|message| message.len() > 512) {
                prop_assert_eq!(entry.message.as_ref().map(String::len), Some(512));
            } else {
                prop_assert_eq!(entry.message.as_deref(), message);
            }
        }
    }

    #[test]
    fn every_policy_reads_back_exactly(
        numbers in (1..=32u32, 400..600u16, 1..86_400_000u64, 1..86_400_000u64, 10..86_400_000u64),
        words in (select(Replay::ALL), select(Order::ALL), select(BackoffBetween::ALL)),
        flags in any::<[bool; 8]>(),
    ) {
        let (max_attempts, status, one, two, stagger) = numbers;
        let (one, two) = (Duration::from_millis(one.min(two)), Duration::from_millis(one.max(two)));
        let parts = PolicyParts {
            max_attempts,
            replay: words.0,
            retry_statuses: StatusSet::from_iter([status, 503]),
            disclaimed_statuses: StatusSet::from_iter(flags[4].then_some(status)),
            pin_statuses: StatusSet::from_iter(flags[5].then_some(status)),
            in_progress: flags[6],
            order: words.1,
            connect_timeout: one,
            response_timeout: two,
            attempt_timeout: flags[7].then_some(two),
            min_attempt_timeout: if flags[7] { one } else { Duration::ZERO },
            dial_stagger: flags[0].then(|| Duration::from_millis(stagger)),
            deadline: flags[1].then_some(two),
            min_deadline: one,
            same_endpoint_again: flags[2],
            backoff: Backoff { base: one, cap: two, between: words.2 },
            retry_after_cap: two,
            discover: flags[3],
        };
        let Ok(policy) = Policy::try_new(parts) else { return Err(TestCaseError::reject("not a policy")) };
        prop_assert_eq!(super::policy(&encode::policy(&policy)), Ok(policy));
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in any::<String>()) {
        let _ = (super::attempts(&text), super::policy(&text), super::record(RequestId(0), &[], &text, 0));
    }
}
