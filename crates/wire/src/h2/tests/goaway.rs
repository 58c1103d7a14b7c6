//! REFUSED_STREAM and GOAWAY: what the protocol guarantees, and not a word more.

use ::h2::Reason;
use handover_core::{Fault, Sent};
use handover_testkit::{End, Executions, H2Act, H2Answer, H2Origin, Leave, RawAct, RawH2, bounded, frame, within};

use super::kit::{LIMIT, Upload, connect, get, post, read, send, sending, told};

#[tokio::test]
async fn a_refused_stream_was_not_sent_and_its_connection_goes_on() {
    bounded(async {
        let server = RawH2::scripted(|seen| match seen.ends_request() {
            true if seen.stream == 1 => vec![RawAct::Write(frame::rst_stream(1, Reason::REFUSED_STREAM))],
            true => vec![RawAct::Write(frame::answer(seen.stream))],
            false => vec![],
        })
        .await;
        let conn = connect(server.addr()).await;
        let told = told(send(&conn, get("/a")).await);
        assert_eq!(told, (Sent::No, Fault::Closed, "the peer refused the stream (REFUSED_STREAM)".into()));
        assert_eq!(send(&conn, get("/b")).await.ok().expect("it goes on").status(), 200);
        assert!(conn.is_usable());
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_is_reset_for_another_reason_may_have_been_processed() {
    bounded(async {
        let server = RawH2::scripted(|seen| match seen.ends_request() {
            true => vec![RawAct::Write(frame::rst_stream(seen.stream, Reason::INTERNAL_ERROR))],
            false => vec![],
        })
        .await;
        let conn = connect(server.addr()).await;
        let told = told(send(&conn, get("/a")).await);
        assert_eq!(told, (Sent::Maybe, Fault::Reset, "the peer reset the stream (INTERNAL_ERROR)".into()));
    })
    .await;
}

#[tokio::test]
async fn a_stream_above_the_last_of_a_goaway_was_not_sent_and_those_below_are_answered() {
    bounded(async {
        let server = RawH2::scripted(|_| vec![]).await;
        let conn = connect(server.addr()).await;
        let first = sending(&conn, get("/1"), LIMIT);
        server.until(|server| server.whole_requests() == 1).await;
        let second = sending(&conn, get("/2"), LIMIT);
        server.until(|server| server.whole_requests() == 2).await;
        server.perform(0, vec![RawAct::Write(frame::goaway(1, Reason::NO_ERROR))]);
        let told = told(second.await.unwrap());
        let text = "the peer went away (GOAWAY, last stream 1, this is 3)";
        assert_eq!(told, (Sent::No, Fault::Closed, text.into()));
        assert!(!conn.is_usable(), "it takes no further requests");
        server.perform(0, vec![RawAct::Write(frame::answer_with(1, b"late"))]);
        let (body, _) = read(first.await.unwrap().ok().expect("it is below")).await;
        assert_eq!(body, b"late");
    })
    .await;
}

#[tokio::test]
async fn a_request_that_comes_behind_a_goaway_was_not_sent() {
    bounded(async {
        let server = RawH2::scripted(|_| vec![]).await;
        let conn = connect(server.addr()).await;
        let first = sending(&conn, get("/1"), LIMIT);
        server.until(|server| server.whole_requests() == 1).await;
        server.perform(0, vec![RawAct::Write(frame::goaway(frame::LAST_STREAM_MAX, Reason::NO_ERROR))]);
        within(LIMIT, "the GOAWAY is read", async {
            while conn.is_usable() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let told = told(send(&conn, get("/2")).await);
        assert_eq!((told.0, told.1), (Sent::No, Fault::Closed));
        assert_eq!(server.whole_requests(), 1);
        server.perform(0, vec![RawAct::Write(frame::answer(1))]);
        assert!(first.await.unwrap().is_ok());
    })
    .await;
}

#[tokio::test]
async fn a_goaway_that_names_no_stream_proves_nothing_until_a_second_lowers_it() {
    for (lowered, sent) in [(false, Sent::Maybe), (true, Sent::No)] {
        bounded(async {
            let server = RawH2::scripted(move |seen| {
                let mut acts = vec![];
                if seen.ends_request() {
                    acts.push(RawAct::Write(frame::goaway(frame::LAST_STREAM_MAX, Reason::NO_ERROR)));
                    if lowered {
                        acts.push(RawAct::Write(frame::goaway(0, Reason::NO_ERROR)));
                    }
                    acts.push(RawAct::End(End::Fin));
                }
                acts
            })
            .await;
            let conn = connect(server.addr()).await;
            let body = Upload::none();
            let told = told(send(&conn, post("/a", body.clone())).await);
            assert_eq!((told.0, told.1), (sent, Fault::Closed), "{}", told.2);
            assert!(!body.was_polled());
        })
        .await;
    }
}

/// Rounds of the duplicates test (specification of the client, C4), and requests in each.
const ROUNDS: usize = 120;
const REQUESTS: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_post_that_was_reported_unsent_is_executed_when_the_peer_leaves_among_200() {
    let (mut unsent, mut unknown) = (0, [0, 0]);
    for round in 0..ROUNDS {
        let executions = Executions::default();
        let at = 40 + round % 100;
        let origin = H2Origin::builder()
            .executions(&executions)
            .script(move |arrival| {
                let answer = H2Answer::ok("");
                let leave = if round % 2 == 0 { Leave::Graceful } else { Leave::Abrupt(Reason::NO_ERROR) };
                H2Act::Answer(if arrival.request == at { answer.leaving(leave) } else { answer })
            })
            .start()
            .await;
        let conn = connect(origin.addr()).await;
        let all: Vec<_> = (0..REQUESTS)
            .map(|id| {
                let mut request = post("/p", Upload::none());
                request.headers_mut().insert("x-id", id.to_string().parse().unwrap());
                sending(&conn, request, LIMIT)
            })
            .collect();
        for (id, answered) in all.into_iter().enumerate() {
            let executed = executions.of(&id.to_string());
            match within(LIMIT, "every request ends", answered).await.unwrap() {
                Ok(response) => assert_eq!((response.status().as_u16(), executions.of(&id.to_string())), (200, 1)),
                Err(error) if error.sent == Sent::No => {
                    unsent += 1;
                    assert_eq!(executed, 0, "round {round}, request {id}: {}", error.text);
                }
                Err(_) => unknown[round % 2] += 1,
            }
        }
        // What was reported unsent must not be executed later either.
        assert!(executions.repeated().is_empty(), "round {round}: {:?}", executions.repeated());
    }
    println!("{unsent} unsent, {unknown:?} unknown of {}", ROUNDS * REQUESTS);
    assert_eq!(unknown[0], 0, "a peer that leaves in order answers what it has taken");
    assert!(unsent > 0, "the peer left in the middle, so some came too late");
}
