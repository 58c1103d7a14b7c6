//! What a server's answer says of the request: which statuses go on, where, and who has to wait.

use std::time::{Duration, SystemTime};

use handover_client::{CircuitState, Client, ClientBuilder, Fate, Policy, PolicyParts, Reason, Verdict};
use handover_testkit::{Act, Answer, Gate, Origin, bounded};
use tokio::time::Instant;

fn builder<E: AsRef<str>>(endpoints: impl IntoIterator<Item = E>) -> ClientBuilder {
    Client::builder().endpoints(endpoints).policy(Policy::rotation()).no_proxy()
}

fn client<E: AsRef<str>>(endpoints: impl IntoIterator<Item = E>) -> Client {
    builder(endpoints).build().expect("valid")
}

fn rotation(change: impl FnOnce(&mut PolicyParts)) -> Policy {
    let mut parts = *Policy::rotation().parts();
    change(&mut parts);
    Policy::try_new(parts).expect("valid")
}

/// Answers `first` to this many requests over all connections, and 200 behind them.
async fn first(first: u16, times: usize, header: Option<(&'static str, String)>) -> Origin {
    let count = std::sync::atomic::AtomicUsize::new(0);
    Origin::scripted(move |_| {
        if count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) >= times {
            return Act::Answer(Answer::ok("yes"));
        }
        let answer = Answer::status(first, "no");
        Act::Answer(match &header {
            Some((name, value)) => answer.header(name, value),
            None => answer,
        })
    })
    .await
}

/// Whether the first endpoint gets no traffic.
fn is_parked(client: &Client) -> bool {
    client.endpoints()[0].circuit == CircuitState::Shedding
}

fn keys(origin: &Origin) -> Vec<String> {
    let key = |seen: handover_testkit::RequestSeen| seen.head.header("idempotency-key").map(str::to_owned);
    origin.requests().into_iter().filter_map(key).collect()
}

#[tokio::test]
async fn a_409_to_a_keyed_request_waits_and_asks_the_same_endpoint_with_the_same_key() {
    bounded(async {
        let (busy, other) = (first(409, 2, None).await, Origin::answering("never").await);
        let client = client([busy.url(), other.url()]);
        let answer = client.post("/").idempotency_key("k\"1").body("x").send().await.expect("answered");
        assert_eq!((answer.status().as_u16(), other.request_count()), (200, 0));
        assert_eq!(keys(&busy), [r#""k\"1""#; 3]);
        let attempts: Vec<_> = answer.record().core().attempts.iter().collect();
        assert_eq!(attempts[0].verdict, Verdict::TryNext(Reason::InProgress));
        for pair in attempts.windows(2) {
            assert!(pair[1].started - pair[0].ended >= Duration::from_millis(1), "it waits");
        }
        for seen in busy.requests() {
            assert_eq!(seen.body, b"x");
        }
    })
    .await;
}

#[tokio::test]
async fn a_409_to_a_keyed_request_waits_at_the_only_endpoint_too_for_as_long_as_it_is_told() {
    bounded(async {
        let busy = first(409, 1, Some(("Retry-After", "1".to_owned()))).await;
        let began = Instant::now();
        let answer = client([busy.url()]).post("/").idempotency_key("k").body("x").send().await.expect("answered");
        assert_eq!((answer.status().as_u16(), busy.request_count()), (200, 2));
        assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    })
    .await;
}

#[tokio::test]
async fn a_409_without_a_key_is_final() {
    bounded(async {
        let (busy, other) = (first(409, 9, None).await, Origin::answering("never").await);
        let client = client([busy.url(), other.url()]);
        for request in [client.post("/").body("x"), client.put("/"), client.get("/")] {
            let answer = request.send().await.expect("answered");
            assert_eq!((answer.status().as_u16(), answer.record().attempts().count()), (409, 1));
        }
        assert_eq!((busy.request_count(), other.request_count()), (3, 0));
    })
    .await;
}

#[tokio::test]
async fn a_409_is_not_waited_for_behind_the_deadline() {
    bounded(async {
        let busy = first(409, 1, Some(("Retry-After", "30".to_owned()))).await;
        let began = Instant::now();
        let request = client([busy.url()]).post("/").idempotency_key("k").body("x");
        let answer = request.timeout(Duration::from_secs(5)).send().await.expect("the 409");
        assert_eq!((answer.status().as_u16(), busy.request_count()), (409, 1));
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    })
    .await;
}

#[tokio::test]
async fn a_421_and_a_425_go_to_another_endpoint_whatever_the_method() {
    bounded(async {
        for status in [421, 425] {
            let (wrong, other) = (first(status, 9, None).await, Origin::answering("yes").await);
            let answer = client([wrong.url(), other.url()]).post("/").body("x").send().await.expect("answered");
            assert_eq!((answer.status().as_u16(), wrong.request_count(), other.request_count()), (200, 1, 1));
        }
    })
    .await;
}

#[tokio::test]
async fn a_421_and_a_425_ask_the_only_endpoint_once_more_on_a_fresh_connection() {
    bounded(async {
        for status in [421, 425] {
            let wrong = first(status, 1, None).await;
            let answer = client([wrong.url()]).post("/").body("x").send().await.expect("answered");
            assert_eq!((answer.status().as_u16(), wrong.request_count(), wrong.accepted()), (200, 2, 2), "{status}");
            let attempts: Vec<_> = answer.record().attempts().collect();
            assert_eq!(attempts[0].verdict(), Verdict::TryNext(Reason::OnceMore));
            assert!(!attempts[1].is_reused());
            // Not a third time.
            let wrong = first(status, 9, None).await;
            let answer = client([wrong.url()]).post("/").body("x").send().await.expect("answered");
            assert_eq!((answer.status().as_u16(), wrong.request_count()), (status, 2));
        }
    })
    .await;
}

#[tokio::test]
async fn once_more_is_on_a_fresh_connection_though_others_rest() {
    bounded(async {
        let (gate, count) = (Gate::new(), std::sync::atomic::AtomicUsize::new(0));
        let held = gate.clone();
        let origin = Origin::scripted(move |arrival| {
            Act::Answer(match arrival.head.target() {
                "/warm" => Answer::ok("").held_by(&held),
                _ if count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0 => Answer::status(421, "no"),
                _ => Answer::ok("yes"),
            })
        })
        .await;
        let client = client([origin.url()]);
        let warm = [(); 2].map(|()| tokio::spawn(client.get("/warm").send()));
        origin
            .ledger()
            .until(|seen| seen.iter().filter(|connection| !connection.requests.is_empty()).count() == 2)
            .await;
        gate.open();
        for warm in warm {
            warm.await.expect("it ends").expect("answered").bytes().await.expect("whole");
        }
        assert_eq!(client.endpoints()[0].idle_connections, 2);
        let answer = client.get("/").send().await.expect("answered");
        let reused: Vec<_> = answer.record().attempts().map(|attempt| attempt.is_reused()).collect();
        assert_eq!((answer.status().as_u16(), reused, origin.accepted()), (200, vec![true, false], 3));
    })
    .await;
}

#[tokio::test]
async fn retry_after_parks_that_endpoint_and_delays_nobody_else() {
    bounded(async {
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(40));
        for (status, value) in [(503, "30".to_owned()), (429, "30".to_owned()), (503, date), (503, "9".repeat(40))] {
            let (tired, other) = (first(status, 1, Some(("Retry-After", value))).await, Origin::answering("yes").await);
            let client = client([tired.url(), other.url()]);
            let began = Instant::now();
            let answer = client.get("/").send().await.expect("answered");
            // A 429 is final for its own request.
            let tried = if status == 429 { 1 } else { 2 };
            assert_eq!(answer.record().attempts().count(), tried);
            for _ in 0..3 {
                let answer = client.get("/").send().await.expect("answered");
                assert_eq!((answer.status().as_u16(), answer.record().attempts().count()), (200, 1));
            }
            assert_eq!(tired.request_count(), 1, "parked: {status}");
            assert!(began.elapsed() < Duration::from_secs(10), "nobody waits");
            let status = client.endpoints();
            assert!(
                status[0].circuit == CircuitState::Shedding && status[1].circuit == CircuitState::Admitting,
                "{status:?}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn a_parked_endpoint_serves_where_there_is_no_other() {
    bounded(async {
        let tired = first(503, 1, Some(("Retry-After", "30".to_owned()))).await;
        let client = client([tired.url()]);
        assert_eq!(client.get("/").send().await.expect("answered").status(), 503);
        let began = Instant::now();
        assert_eq!(client.get("/").send().await.expect("answered").status(), 200);
        assert!(began.elapsed() < Duration::from_secs(10));
    })
    .await;
}

#[tokio::test]
async fn retry_after_is_capped_and_its_time_ends() {
    bounded(async {
        let tired = first(503, 1, Some(("Retry-After", "3600".to_owned()))).await;
        let other = Origin::answering("yes").await;
        let policy = rotation(|parts| parts.retry_after_cap = Duration::from_millis(300));
        let client = builder([tired.url(), other.url()]).policy(policy).build().expect("valid");
        client.get("/").send().await.expect("answered");
        assert!(is_parked(&client));
        while is_parked(&client) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        client.get("/").send().await.expect("answered");
        assert_eq!((tired.request_count(), other.request_count()), (2, 1), "from the first again");
    })
    .await;
}

#[tokio::test]
async fn a_malformed_retry_after_parks_nobody_and_one_that_is_no_refusal_neither() {
    bounded(async {
        let values =
            [(503, "soon"), (503, "-1"), (503, "1.5"), (503, "inf"), (503, "0"), (202, "30"), (409, "30"), (301, "30")];
        for (status, value) in values {
            let tired = first(status, 1, Some(("Retry-After", value.to_owned()))).await;
            let other = Origin::answering("yes").await;
            let client = client([tired.url(), other.url()]);
            client.get("/").send().await.expect("answered");
            assert!(!is_parked(&client), "{status} {value}");
            client.get("/").send().await.expect("answered");
            assert_eq!(tired.request_count(), 2, "{status} {value}");
        }
    })
    .await;
}

/// What is done with a request of which the first endpoint made something unsafe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// The second endpoint answers it.
    GoesOn,
    /// It ends, and its fate is unknown.
    Unknown,
    /// The first endpoint's answer stands.
    Stands,
}

/// How a request is made.
#[derive(Clone, Copy, Debug)]
enum Made {
    Post,
    Patch,
    Put,
    Delete,
    Get,
    MarkedPost,
    KeyedPost,
}

/// How the first endpoint fails it.
#[derive(Clone, Copy, Debug)]
enum Fails {
    By500,
    ByBreaking,
}

async fn outcome(policy: Policy, made: Made, fails: Fails, is_one_scope: bool) -> Then {
    use handover_testkit::End;
    let one = Origin::scripted(move |_| match fails {
        Fails::By500 => Act::Answer(Answer::status(500, "no")),
        Fails::ByBreaking => Act::EndAfter(u64::MAX, End::Fin),
    })
    .await;
    let two = Origin::answering("yes").await;
    let urls = [one.url(), two.url()];
    let client = builder(&urls).policy(policy).failover_domains(["0.1"]);
    let client = if is_one_scope { client.dedup_scope(&urls) } else { client };
    let client = client.build().expect("valid");
    let request = match made {
        Made::Post => client.post("/").body("x"),
        Made::Patch => client.patch("/").body("x"),
        Made::Put => client.put("/").body("x"),
        Made::Delete => client.delete("/"),
        Made::Get => client.get("/"),
        Made::MarkedPost => client.post("/").body("x").idempotent(),
        Made::KeyedPost => client.post("/").body("x").idempotency_key("k"),
    };
    let result = request.send().await;
    assert_eq!(one.request_count(), 1);
    match result {
        Ok(answer) if answer.status() == 200 => {
            assert_eq!((two.request_count(), answer.record().fate()), (1, Fate::Answered));
            Then::GoesOn
        }
        Ok(answer) => {
            assert_eq!((answer.status().as_u16(), two.request_count()), (500, 0));
            Then::Stands
        }
        Err(error) => {
            assert_eq!((error.fate(), two.request_count()), (Fate::Unknown, 0), "{error}");
            assert!(error.is_maybe_sent());
            Then::Unknown
        }
    }
}

#[tokio::test]
async fn what_is_repeated_under_which_policy() {
    use Fails::{By500, ByBreaking};
    use Made::{Delete, Get, KeyedPost, MarkedPost, Patch, Post, Put};
    use Then::{GoesOn, Stands, Unknown};
    bounded(async {
        let once = Policy::at_most_once;
        let regions = Policy::regions;
        for (name, policy, made, fails, is_one_scope, expected) in [
            // The server said that it failed: every method goes on.
            ("rotation", Policy::rotation(), Post, By500, false, GoesOn),
            ("rotation", Policy::rotation(), Patch, By500, false, GoesOn),
            ("rotation", Policy::rotation(), Get, By500, false, GoesOn),
            // A broken connection: only what is safe to repeat.
            ("rotation", Policy::rotation(), Post, ByBreaking, false, Unknown),
            ("rotation", Policy::rotation(), Patch, ByBreaking, false, Unknown),
            ("rotation", Policy::rotation(), Put, ByBreaking, false, GoesOn),
            ("rotation", Policy::rotation(), Delete, ByBreaking, false, GoesOn),
            ("rotation", Policy::rotation(), Get, ByBreaking, false, GoesOn),
            ("rotation", Policy::rotation(), MarkedPost, ByBreaking, false, GoesOn),
            ("rotation", Policy::rotation(), KeyedPost, ByBreaking, true, GoesOn),
            ("rotation", Policy::rotation(), KeyedPost, ByBreaking, false, Unknown),
            // Nothing that may have been sent.
            ("once", once(), Post, By500, false, Stands),
            ("once", once(), Get, By500, false, Stands),
            ("once", once(), Put, ByBreaking, false, Unknown),
            ("once", once(), MarkedPost, ByBreaking, false, Unknown),
            ("once", once(), KeyedPost, ByBreaking, true, Unknown),
            // The server recognises repeats.
            ("regions", regions(), Post, By500, false, GoesOn),
            ("regions", regions(), Post, ByBreaking, false, GoesOn),
        ] {
            let then = outcome(policy, made, fails, is_one_scope).await;
            assert_eq!(then, expected, "{name}: {made:?} {fails:?}, one scope: {is_one_scope}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_proxy_that_had_handed_a_post_on_leaves_it_unknown() {
    bounded(async {
        let said = |word: &'static str| {
            move |_: handover_testkit::Arrival<'_>| {
                Act::Answer(Answer::status(502, "gone").header("proxy-status", word))
            }
        };
        let handed_on = Origin::scripted(said("gateway; error=connection_terminated")).await;
        let kept_back = Origin::scripted(said("gateway; error=connection_refused")).await;
        let second = Origin::answering("second").await;
        let client = |first: &Origin| {
            let builder = Client::builder().endpoints([first.url(), second.url()]).policy(Policy::rotation());
            builder.no_proxy().build().expect("valid")
        };
        let error = client(&handed_on).post("/").body("x").send().await.expect_err("unknown");
        assert!(error.is_maybe_sent(), "{error}");
        assert_eq!((error.status().map(|status| status.as_u16()), second.request_count()), (Some(502), 0));
        assert_eq!(error.into_answer().expect("held").text().await.expect("readable"), "gone");
        let answer = client(&kept_back).post("/").body("x").send().await.expect("answered");
        assert_eq!(answer.text().await.expect("whole"), "second");
        let answer = client(&handed_on).get("/").send().await.expect("answered");
        assert_eq!(answer.text().await.expect("whole"), "second");
    })
    .await;
}
