//! Time: the limits of attempts and of the whole request together, hedged dials, silent bodies, and callers who leave.

mod support;

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use handover_client::{
    BackoffBetween, Body, Check, Client, ClientBuilder, Fault, Policy, PolicyParts, Probe, Reason, Stage, Verdict,
};
use handover_testkit::{
    Act, Answer, BlackholePort, Directory, Gate, HttpProxyNode, NodeAct, Origin, TEST_DEADLINE, bounded, within,
};
use tokio::time::Instant;

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn rotation(change: impl FnOnce(&mut PolicyParts)) -> Policy {
    let mut parts = *Policy::rotation().parts();
    change(&mut parts);
    Policy::try_new(parts).expect("valid")
}

fn builder<E: AsRef<str>>(endpoints: impl IntoIterator<Item = E>, policy: Policy) -> ClientBuilder {
    Client::builder().endpoints(endpoints).policy(policy).no_proxy()
}

async fn hanging() -> Origin {
    Origin::scripted(|_| Act::Hang).await
}

#[tokio::test]
async fn deadline_attempt_timeout_and_minimum_hold_together() {
    bounded(async {
        let origins = [hanging().await, hanging().await, hanging().await];
        let policy = rotation(|parts| {
            (parts.attempt_timeout, parts.deadline) = (Some(ms(400)), Some(ms(1000)));
            parts.min_deadline = ms(300);
        });
        let client = builder(origins.each_ref().map(Origin::url), policy).build().expect("valid");
        let began = Instant::now();
        let error = client.get("/").send().await.expect_err("all hang");
        // The third would begin with 200 ms left, which is too little: it does not begin at all.
        let record = error.record().expect("tried");
        assert_eq!(record.attempts().count(), 2, "{error}");
        assert_eq!(record.verdict(), Some(Verdict::Stop(Reason::DeadlineTooShort)));
        assert!(error.is_timeout() && error.is_maybe_sent());
        assert_eq!(origins[2].accepted(), 0);
        let took = began.elapsed();
        assert!(took >= ms(800) && took < ms(1000), "nobody waits for the rest of the deadline: {took:?}");
    })
    .await;
}

#[tokio::test]
async fn the_last_attempt_is_cut_by_the_deadline() {
    bounded(async {
        let origins = [hanging().await, hanging().await];
        let policy = rotation(|parts| (parts.attempt_timeout, parts.deadline) = (Some(ms(300)), Some(ms(450))));
        let client = builder(origins.each_ref().map(Origin::url), policy).build().expect("valid");
        let began = Instant::now();
        let error = client.get("/").send().await.expect_err("all hang");
        let took = began.elapsed();
        assert!(took >= ms(450) && took < ms(1500), "{took:?}");
        let attempts: Vec<_> = error.record().expect("tried").attempts().collect();
        assert!(attempts[0].duration() >= ms(300), "{error}");
        assert!(attempts[1].duration() < ms(300), "{error}");
    })
    .await;
}

#[tokio::test]
async fn every_attempt_has_its_full_time() {
    bounded(async {
        let (slow, good) = (hanging().await, Origin::answering("yes").await);
        let held = Gate::new();
        let gate = held.clone();
        let late = Origin::scripted(move |_| Act::Answer(Answer::ok("late").held_by(&gate))).await;
        let client = builder([slow.url(), late.url(), good.url()], Policy::rotation());
        let client = client.attempt_timeout(ms(250)).build().expect("valid");
        let answer = client.get("/").send().await.expect("answered");
        let attempts: Vec<_> = answer.record().attempts().collect();
        assert_eq!(attempts.len(), 3);
        for attempt in &attempts[..2] {
            assert_eq!((attempt.fault(), attempt.stage()), (Some(Fault::Timeout), Stage::AwaitHead));
            assert!(attempt.duration() >= ms(250), "{attempt}");
        }
        // The request's own value counts instead.
        let began = Instant::now();
        let error = client.get("/").attempt_timeout(ms(50)).no_failover().send().await.expect_err("hangs");
        assert!(error.is_timeout() && began.elapsed() < ms(250), "{error}");
    })
    .await;
}

#[tokio::test]
async fn the_time_of_an_attempt_ends_with_the_head_and_a_slow_body_is_no_timeout() {
    bounded(async {
        let origin = Origin::scripted(|_| {
            let (answer, writer) = Answer::stream();
            writer.send("a");
            // The body is finished long after the attempt's time.
            tokio::spawn(async move {
                tokio::time::sleep(ms(400)).await;
                writer.send("b");
            });
            Act::Answer(answer)
        })
        .await;
        let policy = rotation(|parts| (parts.attempt_timeout, parts.deadline) = (Some(ms(200)), Some(ms(200))));
        let client = builder([origin.url()], policy).build().expect("valid");
        let answer = client.get("/").send().await.expect("answered");
        assert_eq!(answer.text().await.expect("whole"), "ab");
    })
    .await;
}

#[tokio::test]
async fn no_backoff_is_begun_that_ends_behind_the_deadline() {
    bounded(async {
        let origin = Origin::scripted(|_| Act::Answer(Answer::status(503, "no").header("Retry-After", "20"))).await;
        let policy = rotation(|parts| {
            parts.same_endpoint_again = true;
            parts.backoff.between = BackoffBetween::EveryAttempt;
        });
        let client = builder([origin.url()], policy).build().expect("valid");
        let began = Instant::now();
        let answer = client.get("/").timeout(Duration::from_secs(10)).send().await.expect("the 503");
        assert_eq!((answer.status().as_u16(), origin.request_count()), (503, 1));
        assert_eq!(answer.record().verdict(), Some(Verdict::Done(Reason::DeadlineTooShort)));
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    })
    .await;
}

#[tokio::test]
async fn a_caller_who_leaves_a_dial_sends_nothing_later() {
    bounded(async {
        let origin = Origin::answering("never").await;
        let held = Gate::new();
        let proxy = HttpProxyNode::start(NodeAct::RelayOnce(held.clone()), Directory::new()).await;
        let client = builder([origin.url()], Policy::rotation()).proxy(&format!("http://{}", proxy.addr()));
        let client = client.build().expect("valid");
        let call = tokio::spawn(client.post("/").body("x").send());
        proxy.ledger().until(|seen| seen.iter().any(|connection| !connection.requests.is_empty())).await;
        call.abort();
        assert!(call.await.expect_err("given up").is_cancelled());
        held.open();
        // The connection is closed, and not a byte of the request was on it.
        proxy.ledger().until(|seen| seen.iter().all(|connection| connection.ended)).await;
        assert!(proxy.ledger().connections()[0].raw.is_empty());
        assert_eq!(origin.request_count(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_caller_who_leaves_a_backoff_ends_it_at_once() {
    bounded(async {
        let origin = Origin::scripted(|_| Act::Answer(Answer::status(503, "no").header("Retry-After", "1"))).await;
        let policy = rotation(|parts| parts.same_endpoint_again = true);
        let client = builder([origin.url()], policy).build().expect("valid");
        let call = tokio::spawn(client.post("/").body("x").send());
        origin.ledger().until(|seen| seen.iter().any(|c| c.requests.iter().any(|request| request.complete))).await;
        // The answer is read by then and the pause has begun; that nothing comes behind it can be shown by time only.
        tokio::time::sleep(ms(100)).await;
        call.abort();
        assert!(call.await.expect_err("given up").is_cancelled());
        tokio::time::sleep(ms(1300)).await;
        assert_eq!(origin.request_count(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_caller_who_leaves_while_a_body_is_sent_closes_the_connection() {
    bounded(async {
        let (first, second) = (Origin::answering("no").await, Origin::answering("never").await);
        let client = builder([first.url(), second.url()], Policy::rotation()).build().expect("valid");
        let endless = support::FromFn(|| Some(Ok("0123456789".into())));
        let call = tokio::spawn(client.put("/").body(Body::stream(endless)).send());
        first.ledger().until(|seen| seen.iter().any(|c| c.requests.iter().any(|request| request.body_bytes > 0))).await;
        call.abort();
        assert!(call.await.expect_err("given up").is_cancelled());
        first.ledger().until(|seen| seen.iter().all(|connection| connection.ended)).await;
        assert!(!first.requests()[0].complete);
        assert_eq!(second.accepted(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_blackholed_first_endpoint_costs_the_stagger_and_the_request_is_written_once() {
    bounded(async {
        let (hole, origin) = (BlackholePort::new().await, Origin::answering("yes").await);
        let client = builder([format!("http://{}", hole.addr()), origin.url()], Policy::rotation());
        let client = client.build().expect("valid");
        let began = Instant::now();
        let answer = client.post("/").body("x").send().await.expect("answered");
        let took = began.elapsed();
        // 250 ms and a loopback round trip; the rest is for a loaded machine.
        assert!(took >= ms(250) && took < ms(500), "{took:?}");
        let attempts: Vec<_> = answer.record().attempts().collect();
        assert_eq!(attempts.len(), 2);
        assert_eq!((attempts[0].fault(), attempts[0].is_hedged()), (Some(Fault::LostRace), false));
        assert_eq!((attempts[1].status(), attempts[1].is_hedged()), (Some(200), true));
        assert_eq!(origin.request_count(), 1);
        // A lost race says nothing against the endpoint.
        assert!(answer.record().to_string().contains("lost_race"), "{}", answer.record());
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_that_lost_the_race_is_asked_when_the_winner_fails() {
    bounded(async {
        let hole = BlackholePort::new().await;
        let slow = format!("http://{}", hole.addr());
        // The slow one can be reached by the time that the other one answers.
        let (hole, awake) = (Mutex::new(Some(hole)), Arc::new(OnceLock::new()));
        let kept = Arc::clone(&awake);
        let failing = Origin::scripted(move |_| {
            if let Some(hole) = hole.lock().expect("nobody panicked with it").take() {
                let yes = Origin::builder().script(|_| Act::Answer(Answer::ok("yes"))).start_on(hole.listen());
                kept.set(yes).expect("begun once");
            }
            Act::Answer(Answer::status(503, "no"))
        })
        .await;
        let client = builder([slow, failing.url()], Policy::rotation()).build().expect("valid");
        let answer = client.post("/").body("x").send().await.expect("answered");
        let attempts: Vec<_> = answer.record().attempts().map(|at| (at.fault(), at.status())).collect();
        assert_eq!(attempts, [(Some(Fault::LostRace), None), (Some(Fault::Status(503)), Some(503)), (None, Some(200))]);
        let asked = (failing.request_count(), awake.get().map(Origin::request_count));
        assert_eq!(asked, (1, Some(1)), "each was asked once");
    })
    .await;
}

#[tokio::test]
async fn without_the_stagger_a_blackholed_endpoint_costs_the_time_to_connect() {
    bounded(async {
        let (hole, origin) = (BlackholePort::new().await, Origin::answering("yes").await);
        let policy = rotation(|parts| (parts.dial_stagger, parts.connect_timeout) = (None, ms(700)));
        let client = builder([format!("http://{}", hole.addr()), origin.url()], policy).build().expect("valid");
        let began = Instant::now();
        let answer = client.post("/").body("x").send().await.expect("answered");
        assert!(began.elapsed() >= ms(700), "{:?}", began.elapsed());
        let first = answer.record().attempts().next().expect("there");
        assert_eq!((first.fault(), first.stage()), (Some(Fault::Timeout), Stage::Dial));
        assert_eq!(first.verdict(), Verdict::TryNext(Reason::NotSent));
    })
    .await;
}

#[tokio::test]
async fn a_refused_dial_does_not_wait_for_the_stagger() {
    bounded(async {
        let (dead, origin) = (handover_testkit::DeadPort::new(), Origin::answering("yes").await);
        let policy = rotation(|parts| parts.dial_stagger = Some(Duration::from_secs(10)));
        let client = builder([format!("http://{}", dead.addr()), origin.url()], policy).build().expect("valid");
        let answer = within(TEST_DEADLINE / 10, "the answer", client.get("/").send()).await.expect("answered");
        assert_eq!(answer.record().attempts().count(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_silent_body_is_a_timeout_and_a_slow_one_is_not() {
    bounded(async {
        let origin = Origin::scripted(|arrival| {
            let (answer, writer) = Answer::stream();
            let is_slow = arrival.head.target() == "/slow";
            tokio::spawn(async move {
                for _ in 0..6 {
                    writer.send("a");
                    tokio::time::sleep(ms(80)).await;
                }
                if !is_slow {
                    std::future::pending().await
                }
            });
            Act::Answer(answer)
        })
        .await;
        let client = builder([origin.url()], Policy::rotation()).body_idle_timeout(ms(250)).build().expect("valid");
        let answer = client.get("/slow").send().await.expect("answered");
        assert_eq!(answer.text().await.expect("whole"), "aaaaaa");
        let mut answer = client.get("/silent").send().await.expect("answered");
        let mut pieces = 0;
        let error = loop {
            match answer.chunk().await {
                Ok(Some(piece)) => pieces += piece.len(),
                Ok(None) => panic!("it does not end"),
                Err(error) => break error,
            }
        };
        assert_eq!(pieces, 6);
        assert!(error.is_timeout() && error.is_body() && !error.is_maybe_sent(), "{error}");
        assert_eq!(error.status().map(|status| status.as_u16()), Some(200));
    })
    .await;
}

#[tokio::test]
async fn a_reader_who_pauses_is_not_the_servers_silence() {
    bounded(async {
        let origin =
            Origin::scripted(|_| Act::Answer(Answer::ok("").body(handover_testkit::Body::Pattern(4 << 20)))).await;
        let client = builder([origin.url()], Policy::rotation()).body_idle_timeout(ms(150)).build().expect("valid");
        let mut answer = client.get("/").send().await.expect("answered");
        let (mut length, mut pauses) = (0, 0);
        while let Some(piece) = answer.chunk().await.expect("whole") {
            assert!(handover_testkit::is_pattern(length, &piece));
            length += piece.len() as u64;
            if length > (pauses + 1) << 20 {
                pauses += 1;
                tokio::time::sleep(ms(300)).await;
            }
        }
        assert_eq!((length, pauses > 1), (4 << 20, true));
    })
    .await;
}

#[tokio::test]
async fn an_attempt_may_have_longer_than_the_policys_time_for_a_response() {
    bounded(async {
        let gate = Gate::new();
        let held = gate.clone();
        let origin = Origin::scripted(move |_| Act::Answer(Answer::ok("late").held_by(&held))).await;
        let parts = PolicyParts { response_timeout: Duration::from_millis(100), ..*Policy::rotation().parts() };
        let builder = Client::builder().endpoints([origin.url()]).no_proxy();
        let client = builder.policy(Policy::try_new(parts).expect("valid")).build().expect("valid");
        let answer = client.get("/").attempt_timeout(Duration::from_secs(30)).send();
        let later = async {
            tokio::time::sleep(Duration::from_millis(400)).await;
            gate.open();
        };
        assert_eq!(tokio::join!(answer, later).0.expect("answered").status(), 200);
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_falls_silent_is_a_timeout_and_not_the_callers_leaving() {
    bounded(async {
        let origin = Origin::answering("never").await;
        let client = Client::builder().endpoints([origin.url()]).no_proxy().build().expect("valid");
        let body = Body::stream(Silent(false));
        let error = client.put("/").body(body).timeout(Duration::from_millis(300)).send().await.expect_err("silent");
        assert!(error.is_timeout() && !error.is_body(), "{error}");
        assert!(error.is_maybe_sent(), "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_time_that_no_clock_can_show_is_as_good_as_none() {
    bounded(async {
        let ever = Duration::MAX;
        let (failing, origin) =
            (Origin::scripted(|_| Act::Answer(Answer::status(503, "no"))).await, Origin::answering("yes").await);
        // What a policy says is checked and cannot be as long.
        let client = builder([failing.url(), origin.url()], Policy::rotation());
        let client = client.pool_idle_timeout(ever).body_idle_timeout(ever);
        let client = client.probe(Probe::get("/probe").interval(ever).timeout(ever)).build().expect("valid");
        for request in [client.get("/"), client.get("/").timeout(ever), client.get("/").attempt_timeout(ever)] {
            assert_eq!(request.send().await.expect("answered").text().await.expect("whole"), "yes");
        }
        let report = client.check(&Check::get("/").timeout(ever), |_| {}).await.expect("a path");
        assert_eq!(report.endpoints[1].status, Some(200), "{report:?}");
        // The prober has not died of it.
        let is_probe = |seen: &&handover_testkit::RequestSeen| seen.head.target() == "/probe" && seen.complete;
        origin.ledger().until(|seen| seen.iter().flat_map(|at| &at.requests).find(is_probe).is_some()).await;
    })
    .await;
}

/// One piece, and then nothing, without an end.
struct Silent(bool);

impl futures_core::Stream for Silent {
    type Item = Result<&'static [u8], std::convert::Infallible>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        if std::mem::replace(&mut self.0, true) {
            return std::task::Poll::Pending;
        }
        std::task::Poll::Ready(Some(Ok(b"piece")))
    }
}
