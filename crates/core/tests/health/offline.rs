//! A machine without a way out marks nobody.

use handover_core::health::offline;
use handover_core::{
    Action, BodyLeft, Facts, Failure, Fault, Outcome, Policy, PolicyParts, Record, Sent, Session, Stage, Unlimited,
};

use crate::ms;

const ANSWERED: Outcome = Outcome::Answered { status: 200, retry_after: None, body: BodyLeft::Whole };

const fn failed(stage: Stage, fault: Fault) -> Outcome {
    Outcome::Failed(Failure::before_send(stage, fault))
}

/// The record of a session whose attempts end so.
fn record(outcomes: &[Outcome]) -> Record {
    let policy = Policy::try_new(PolicyParts { max_attempts: 9, ..PolicyParts::default() }).expect("valid");
    let mut session = Session::new(&policy, Facts::default(), 1);
    for outcome in outcomes {
        let Action::Try { attempt, .. } = session.poll(ms(0), &9, &mut Unlimited) else { break };
        session.finished(ms(0), attempt, *outcome, &mut Unlimited);
    }
    assert_eq!(session.record().attempts.len(), outcomes.len());
    session.into_record()
}

#[test]
fn every_attempt_at_the_local_stage_means_offline_and_anything_else_does_not() {
    let local = [
        failed(Stage::Resolve, Fault::Dns),
        failed(Stage::Dial, Fault::Unreachable),
        failed(Stage::Dial, Fault::Local),
        failed(Stage::Resolve, Fault::Local),
    ];
    assert!(offline(&record(&local)));
    assert!(offline(&record(&[failed(Stage::Dial, Fault::LostRace), local[0]])), "a lost race says nothing");
    for reached in [
        failed(Stage::Dial, Fault::Refused),
        failed(Stage::Dial, Fault::Timeout),
        failed(Stage::ProxyHandshake, Fault::Unreachable),
        failed(Stage::Tls, Fault::Local),
        Outcome::Failed(Failure { sent: Sent::Maybe, ..Failure::before_send(Stage::Dial, Fault::Local) }),
        ANSWERED,
    ] {
        assert!(!offline(&record(&[local[0], reached])), "{reached:?}");
    }
    assert!(!offline(&record(&[])), "nothing was tried");
    assert!(!offline(&record(&[failed(Stage::Dial, Fault::LostRace)])), "nothing failed");
}
