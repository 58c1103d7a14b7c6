//! What HTTP/2 guarantees decides whether a POST goes on: refused and never processed, yes; anything else, no.

use ::h2::Reason;
use handover_client::{Client, Fate, Http2};
use handover_testkit::{Executions, H2Act, H2Answer, H2Origin, RawAct, RawH2, bounded, frame};

async fn second(executions: &Executions) -> H2Origin {
    H2Origin::builder().script(|_| H2Act::Answer(H2Answer::ok("second"))).executions(executions).start().await
}

fn client(first: String, second: &H2Origin) -> Client {
    super::rotation([first, second.url()]).http2(Http2::PriorKnowledge).build().expect("valid")
}

#[tokio::test]
async fn a_refused_stream_goes_to_the_next_endpoint_and_any_other_reset_does_not() {
    bounded(async {
        for (reason, goes_on) in
            [(Reason::REFUSED_STREAM, true), (Reason::CANCEL, false), (Reason::INTERNAL_ERROR, false)]
        {
            let executions = Executions::default();
            let first = H2Origin::scripted(move |_| H2Act::Reset(reason)).await;
            let second = second(&executions).await;
            let result = client(first.url(), &second).post("/").header("x-id", "1").body("x").send().await;
            assert_eq!(executions.total(), usize::from(goes_on), "{reason:?}");
            match result {
                Ok(answer) => assert!(goes_on, "{reason:?}: {:?}", answer.record()),
                Err(error) => assert!(!goes_on && error.fate() == Fate::Unknown, "{reason:?}: {error}"),
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_refused_stream_is_sent_once_per_attempt() {
    bounded(async {
        let first = H2Origin::scripted(|arrival| match arrival.head.uri.path() {
            "/refused" => H2Act::Reset(Reason::REFUSED_STREAM),
            _ => H2Act::Answer(H2Answer::ok("")),
        })
        .await;
        let client = super::rotation([first.url()]).http2(Http2::PriorKnowledge).build().expect("valid");
        // On a connection that was used before, where a request that its end leaves unsent would be dialled for again.
        client.get("/").send().await.expect("answered");
        let error = client.post("/refused").body("x").send().await.expect_err("refused");
        let attempts = error.record().expect("tried").attempts().count();
        assert_eq!((attempts, first.requests().len() - 1, first.accepted()), (1, 1, 1), "{error}");
        assert!(error.is_not_sent(), "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_goaway_below_the_stream_lets_a_post_go_on_and_one_that_includes_it_does_not() {
    bounded(async {
        for (last_stream, goes_on) in [(0, true), (1, false), ((1 << 31) - 1, false)] {
            let first = RawH2::scripted(move |seen| match seen.kind {
                frame::HEADERS => {
                    let goaway = frame::goaway(last_stream, Reason::NO_ERROR);
                    vec![RawAct::Write(goaway), RawAct::End(handover_testkit::End::Fin)]
                }
                _ => vec![],
            })
            .await;
            let executions = Executions::default();
            let second = second(&executions).await;
            let result = client(first.url(), &second).post("/").header("x-id", "1").send().await;
            assert_eq!(executions.total(), usize::from(goes_on), "{last_stream}: {result:?}");
            match result {
                Ok(answer) => assert_eq!(answer.text().await.expect("whole"), "second"),
                Err(error) => assert!(error.is_maybe_sent() && !goes_on, "{last_stream}: {error}"),
            }
        }
    })
    .await;
}
