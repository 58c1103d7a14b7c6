//! What one decision costs on the path that nearly every request takes: a session that succeeds at once.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use handover_core::{Action, BodyLeft, Facts, Failure, Fault, Outcome, Policy, Session, Stage, TokenBucket, Unlimited};

const ANSWER: Outcome = Outcome::Answered { status: 200, retry_after: None, body: BodyLeft::Whole };
const REFUSED: Outcome = Outcome::Failed(Failure::before_send(Stage::Dial, Fault::Refused));
const NOW: Duration = Duration::from_millis(1);

/// One session: `failures` attempts are refused, the next one is answered.
fn session(policy: &Policy, seed: u64, failures: u32) -> usize {
    let mut session = Session::new(policy, Facts::default(), seed);
    loop {
        match session.poll(NOW, &3, &mut Unlimited) {
            Action::Try { attempt, .. } if attempt <= failures => {
                session.finished(NOW, attempt, REFUSED, &mut Unlimited);
            }
            Action::Try { attempt, .. } => {
                session.connected(NOW, attempt);
                session.finished(NOW, attempt, ANSWER, &mut Unlimited);
            }
            _ => return session.into_record().attempts.len(),
        }
    }
}

fn sessions(criterion: &mut Criterion) {
    let policy = Policy::default();
    let mut seed = 0;
    for (name, failures) in [("success_at_once", 0), ("one_refused_then_success", 1)] {
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| {
                seed += 1;
                let attempts = session(black_box(&policy), black_box(seed), failures);
                assert_eq!(attempts, failures as usize + 1);
            });
        });
    }
    let bucket = TokenBucket::default();
    criterion.bench_function("budget_deposit_and_take", |bencher| {
        bencher.iter(|| {
            bucket.deposit(black_box(NOW));
            black_box(bucket.try_take_at(NOW))
        });
    });
}

criterion_group!(benches, sessions);
criterion_main!(benches);
