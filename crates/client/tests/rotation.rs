//! Rotation over servers on real sockets: which failures go on, which are final, and what is told of them.

use std::time::Duration;

use handover_client::{Client, Fate, Fault, Policy, Reason, Sent, Stage, Verdict};
use handover_testkit::{Act, Answer, DeadPort, End, Origin, bounded};

fn client<E: AsRef<str>>(endpoints: impl IntoIterator<Item = E>) -> Client {
    Client::builder().endpoints(endpoints).policy(Policy::rotation()).no_proxy().build().expect("valid")
}

#[tokio::test]
async fn a_refused_first_endpoint_costs_one_attempt_and_the_second_answers() {
    bounded(async {
        let dead = DeadPort::new();
        let origin = Origin::answering("hello").await;
        let client = client([format!("http://{}", dead.addr()), origin.url()]);
        let answer = client.post("/kv/x").body("1").send().await.expect("answered");
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.endpoint().as_str(), format!("{}/", origin.url()));
        let attempts: Vec<_> = answer.record().attempts().collect();
        assert_eq!(attempts.len(), 2);
        assert_eq!((attempts[0].stage(), attempts[0].fault()), (Stage::Dial, Some(Fault::Refused)));
        assert_eq!((attempts[0].sent(), attempts[0].verdict()), (Sent::No, Verdict::TryNext(Reason::NotSent)));
        assert_eq!(attempts[1].verdict(), Verdict::Done(Reason::Answered));
        assert_eq!(answer.text().await.expect("whole"), "hello");
        assert_eq!(origin.requests()[0].body, b"1");
    })
    .await;
}

#[tokio::test]
async fn a_connection_serves_the_next_request_too() {
    bounded(async {
        let origin = Origin::answering("hello").await;
        let client = client([origin.url()]);
        for _ in 0..5 {
            let answer = client.get("/").send().await.expect("answered");
            assert_eq!(answer.bytes().await.expect("whole"), "hello");
        }
        let answer = client.get("/").send().await.expect("answered");
        drop(answer);
        client.get("/").send().await.expect("answered");
        assert_eq!((origin.request_count(), origin.accepted()), (7, 1));
    })
    .await;
}

#[tokio::test]
async fn a_post_that_may_have_arrived_is_unknown_and_goes_nowhere_else() {
    bounded(async {
        let first = Origin::scripted(|_| Act::EndAfter(0, End::Fin)).await;
        let second = Origin::answering("never").await;
        let client = client([first.url(), second.url()]);
        let error = client.post("/").body("x").send().await.expect_err("unknown");
        assert!(error.is_maybe_sent() && !error.is_not_sent(), "{error}");
        assert_eq!(error.fate(), Fate::Unknown);
        assert_eq!(second.request_count(), 0);
        let text = error.to_string();
        assert!(text.contains("not_idempotent") && text.lines().count() == 2, "{text}");
        // The same with a method that may be repeated goes on.
        let answer = client.put("/").body("x").send().await.expect("answered");
        assert_eq!(answer.record().fate(), Fate::Answered);
        assert_eq!(second.request_count(), 1);
    })
    .await;
}

#[tokio::test]
async fn an_answered_5xx_goes_on_for_every_method_and_4xx_is_final() {
    bounded(async {
        let first = Origin::scripted(|arrival| {
            let status = arrival.head.target().trim_start_matches('/').parse().expect("a status");
            Act::Answer(Answer::status(status, "no"))
        })
        .await;
        let second = Origin::answering("yes").await;
        let client = client([first.url(), second.url()]);
        for status in [500, 502, 503, 504] {
            let answer = client.post(&format!("/{status}")).body("x").send().await.expect("answered");
            assert_eq!((answer.status().as_u16(), answer.record().attempts().count()), (200, 2), "{status}");
        }
        for status in [400, 401, 403, 404, 408, 429] {
            let answer = client.get(&format!("/{status}")).send().await.expect("answered");
            assert_eq!((answer.status().as_u16(), answer.record().attempts().count()), (status, 1));
        }
    })
    .await;
}

#[tokio::test]
async fn the_body_of_the_last_answer_stays_readable_behind_a_later_refusal() {
    bounded(async {
        let first = Origin::scripted(|_| Act::Answer(Answer::status(503, "come back later"))).await;
        let dead = DeadPort::new();
        let client = client([first.url(), format!("http://{}", dead.addr())]);
        let answer = client.get("/").send().await.expect("answered");
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.record().attempts().count(), 2);
        assert_eq!(answer.text().await.expect("readable"), "come back later");
    })
    .await;
}

#[tokio::test]
async fn the_deadline_bounds_all_attempts_together() {
    bounded(async {
        let hanging = Origin::scripted(|_| Act::Hang).await;
        let other = Origin::scripted(|_| Act::Hang).await;
        let client = client([hanging.url(), other.url()]);
        let began = tokio::time::Instant::now();
        let error = client.get("/").timeout(Duration::from_millis(300)).send().await.expect_err("too late");
        assert!(error.is_timeout() && error.is_maybe_sent(), "{error}");
        assert!(began.elapsed() >= Duration::from_millis(300) && began.elapsed() < Duration::from_secs(5));
    })
    .await;
}
