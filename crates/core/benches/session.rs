//! What one decision costs on the path that nearly every request takes: a session that succeeds at once.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use handover_core::{Action, BodyLeft, Facts, Failure, Fault, Outcome, Policy, Session, Stage, TokenBucket};

const ANSWER: Outcome = Outcome::Answered { status: 200, retry_after: None, body: BodyLeft::Whole };
const REFUSED: Outcome = Outcome::Failed(Failure::before_send(Stage::Dial, Fault::Refused));
const NOW: Duration = Duration::from_millis(1);

/// One session: `failures` attempts are refused, the next one is answered.
fn session(policy: &Policy, bucket: &TokenBucket, seed: u64, failures: u32) -> usize {
    bucket.deposit(NOW);
    let mut session = Session::new(policy, Facts::default(), seed);
    loop {
        match session.poll(NOW, &3, &mut bucket.at(NOW)) {
            Action::Try { attempt, .. } => {
                let outcome = if attempt <= failures { REFUSED } else { ANSWER };
                if attempt > failures {
                    session.connected(NOW, attempt);
                }
                session.finished(NOW, attempt, outcome, &mut bucket.at(NOW));
            }
            _ => return session.into_record().attempts.len(),
        }
    }
}

fn sessions(criterion: &mut Criterion) {
    let policy = Policy::default();
    let bucket = TokenBucket::default();
    let mut seed = 0;
    for (name, failures) in [("success_at_once", 0), ("one_refused_then_success", 1)] {
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| {
                seed += 1;
                black_box(session(black_box(&policy), &bucket, black_box(seed), failures))
            });
        });
    }
}

criterion_group!(benches, sessions);
criterion_main!(benches);
