//! A server that closes idle connections races with the next request on them.

use std::time::Duration;

use handover_testkit::{Act, Answer, Origin, within};

const ROUNDS: usize = 500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_that_crosses_a_post_never_executes_it_twice_and_loses_nothing_that_was_not_sent() {
    within(Duration::from_secs(120), "all rounds", async {
        let origin = Origin::scripted(|_| Act::Answer(Answer::ok("done"))).await;
        let client = super::rotation([origin.url()]).budget(None).build().expect("valid");
        let (mut answered, mut unknown) = (0, 0);
        for round in 0..ROUNDS {
            let before = origin.request_count();
            // The close comes a little before, at the same time, or a little after.
            for _ in 0..(round % 7) {
                tokio::task::yield_now().await;
            }
            origin.hang_up();
            for _ in 0..(round % 5) {
                tokio::task::yield_now().await;
            }
            match client.post("/").body("x").send().await {
                Ok(answer) => {
                    assert_eq!(answer.text().await.expect("whole"), "done");
                    assert_eq!(origin.request_count() - before, 1, "round {round}");
                    answered += 1;
                }
                Err(error) => {
                    assert!(error.is_maybe_sent(), "round {round}: lost though it was not sent: {error}");
                    assert!(origin.request_count() - before <= 1, "round {round}");
                    unknown += 1;
                }
            }
        }
        println!("{ROUNDS} rounds: {answered} answered, {unknown} unknown, 0 executed twice, 0 lost unsent");
        assert!(answered > ROUNDS / 2, "{answered} answered, {unknown} unknown");
        assert!(origin.accepted() > 10, "hardly a connection was closed: {}", origin.accepted());
    })
    .await;
}
