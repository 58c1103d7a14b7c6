//! Regions that are asked for when the first one fails: when they are asked for and how long for, what is remembered,
//! what a pin does, who gets credentials, and the pauses between attempts.

#![cfg(feature = "regions")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use handover_client::{
    Answer, Ask, BoxFuture, Client, ClientBuilder, Discover, DiscoverError, Error, Policy, PolicyParts, Reason,
    RequestBuilder, Verdict,
};
use handover_testkit::{Act, Gate, LivekitMock, Origin, bounded};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;
use url::Url;

fn regions(change: impl FnOnce(&mut PolicyParts)) -> Policy {
    let mut parts = *Policy::regions().parts();
    (parts.backoff.base, parts.backoff.cap) = (Duration::from_millis(1), Duration::from_millis(1));
    change(&mut parts);
    Policy::try_new(parts).expect("valid")
}

fn builder(mock: &LivekitMock) -> ClientBuilder {
    let builder = Client::builder().endpoints([mock.url(0)]).policy(regions(|_| {})).no_proxy();
    builder.discovery_path("/settings/regions")
}

fn client(mock: &LivekitMock) -> Client {
    builder(mock).build().expect("valid")
}

fn create_room(client: &Client, mock: Value) -> RequestBuilder {
    let request = client.post("/twirp/livekit.RoomService/CreateRoom").bearer_auth("token");
    request.header("x-lk-mock", mock.to_string()).json(&json!({"name": "room"}))
}

async fn call(client: &Client, mock: Value) -> Result<Answer, Error> {
    create_room(client, mock).send().await
}

fn served_by(mock: &LivekitMock) -> Vec<usize> {
    mock.all_requests().iter().map(|seen| seen.listener).collect()
}

/// `http://localhost:PORT` of a listener: another name than the client's endpoint has.
fn by_name(mock: &LivekitMock, listener: usize) -> String {
    mock.url(listener).replace("127.0.0.1", "localhost")
}

#[tokio::test]
async fn a_pin_asks_anew_and_goes_to_an_allowed_region_only() {
    bounded(async {
        let mock = LivekitMock::start(4).await;
        let answer = call(&client(&mock), json!({"pinnedRegions": ["region-2"]})).await.expect("answered");
        assert_eq!((answer.status().as_u16(), served_by(&mock)), (200, vec![0, 2]));
        let verdicts: Vec<_> = answer.record().attempts().map(|attempt| attempt.verdict()).collect();
        assert_eq!(verdicts, [Verdict::TryNext(Reason::Pinned), Verdict::Done(Reason::Answered)]);
        assert_eq!(mock.discoveries().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_pin_is_not_believed_from_memory() {
    bounded(async {
        let mock = LivekitMock::start(4).await;
        mock.cache_control("max-age=3600");
        let client = client(&mock);
        call(&client, json!({"failRegions": [0]})).await.expect("answered");
        assert_eq!(mock.discoveries().len(), 1);
        // The list in memory has region-1 first, which is not allowed: it is asked for again.
        let answer = call(&client, json!({"pinnedRegions": ["region-3"]})).await.expect("answered");
        assert_eq!((answer.status().as_u16(), mock.discoveries().len()), (200, 2));
        assert_eq!(served_by(&mock), [0, 1, 0, 3]);
    })
    .await;
}

#[tokio::test]
async fn a_pin_holds_for_endpoints_that_were_configured_too() {
    bounded(async {
        let mock = LivekitMock::start(4).await;
        let builder = Client::builder().endpoints([mock.url(0), mock.url(1)]).policy(regions(|_| {})).no_proxy();
        let client = builder.discovery_path("/settings/regions").build().expect("valid");
        let answer = call(&client, json!({"pinnedRegions": ["region-3"]})).await.expect("answered");
        assert_eq!((answer.status().as_u16(), served_by(&mock)), (200, vec![0, 3]), "the second may not serve it");
    })
    .await;
}

#[tokio::test]
async fn a_pin_that_nobody_serves_is_the_answer() {
    bounded(async {
        let mock = LivekitMock::start(4).await;
        let answer = call(&client(&mock), json!({"pinnedRegions": ["region-99"]})).await.expect("answered");
        assert_eq!((answer.status().as_u16(), served_by(&mock)), (451, vec![0]));
        assert_eq!(answer.text().await.expect("readable"), "project not allowed in this region.");
    })
    .await;
}

#[tokio::test]
async fn the_same_host_is_asked_again_when_no_other_region_is_left() {
    bounded(async {
        let mock = LivekitMock::start(1).await;
        let answer = call(&client(&mock), json!({"failRegions": [0]})).await.expect("the last one's answer");
        assert_eq!((answer.status().as_u16(), served_by(&mock)), (503, vec![0, 0, 0]));
        // With two regions: both, and then the one that was asked less or first again.
        let mock = LivekitMock::start(2).await;
        call(&self::client(&mock), json!({"failRegions": [0, 1]})).await.expect("the last one's answer");
        assert_eq!(served_by(&mock), [0, 1, 0]);
    })
    .await;
}

#[tokio::test]
async fn the_backoff_doubles_and_has_jitter() {
    bounded(async {
        let mock = LivekitMock::start(1).await;
        let builder = builder(&mock).policy(Policy::regions());
        let client = builder.build().expect("valid");
        let rounds = (0..6).map(|_| call(&client, json!({"failRegions": [0]})));
        let (mut firsts, bounds) = (Vec::new(), [200, 400].map(Duration::from_millis));
        // A timer that fires on a loaded machine may be late by this much.
        let late = Duration::from_millis(150);
        for round in rounds {
            let answer = round.await.expect("the last one's answer");
            let attempts: Vec<_> = answer.record().core().attempts.iter().collect();
            assert_eq!(attempts.len(), 3);
            for (pair, bound) in attempts.windows(2).zip(bounds) {
                let (due, began) = (pair[1].due - pair[0].ended, pair[1].started - pair[0].ended);
                assert!(due <= bound && began >= due && began <= bound + late, "{due:?} {began:?} of {bound:?}");
            }
            firsts.push(attempts[1].due - attempts[0].ended);
        }
        firsts.sort_unstable();
        firsts.dedup();
        assert!(firsts.len() > 1, "jitter: {firsts:?}");
    })
    .await;
}

#[tokio::test]
async fn discovery_has_two_seconds_and_then_the_first_answer_stands() {
    bounded(async {
        let mock = LivekitMock::start(2).await;
        let gate = Gate::new();
        mock.hold_discovery(&gate);
        let began = Instant::now();
        let answer = call(&client(&mock), json!({"failRegions": [0]})).await.expect("the first answer");
        let took = began.elapsed();
        assert_eq!((answer.status().as_u16(), served_by(&mock)), (503, vec![0]));
        assert_eq!(answer.record().verdict(), Some(Verdict::Done(Reason::NothingDiscovered)));
        assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(4), "{took:?}");
    })
    .await;
}

#[tokio::test]
async fn discovery_has_no_more_time_than_the_caller_has_left() {
    bounded(async {
        let mock = LivekitMock::start(2).await;
        let gate = Gate::new();
        mock.hold_discovery(&gate);
        let began = Instant::now();
        let request = create_room(&client(&mock), json!({"failRegions": [0]}));
        let answer = request.timeout(Duration::from_millis(300)).send().await.expect("the first answer");
        let took = began.elapsed();
        assert_eq!(answer.status(), 503);
        assert!(took >= Duration::from_millis(250) && took < Duration::from_millis(1500), "{took:?}");
    })
    .await;
}

/// Asks for ever, and tells when it is asked and when it is given up.
struct Endless {
    asked: watch::Sender<usize>,
    given_up: watch::Sender<usize>,
}

struct GivenUp<'s>(&'s watch::Sender<usize>);

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count += 1);
    }
}

impl Discover for Endless {
    fn discover<'a>(&'a self, _: Ask<'a>) -> BoxFuture<'a, Result<Vec<Url>, DiscoverError>> {
        Box::pin(async {
            let _given_up = GivenUp(&self.given_up);
            self.asked.send_modify(|count| *count += 1);
            std::future::pending().await
        })
    }
}

#[tokio::test]
async fn discovery_ends_when_the_caller_leaves() {
    bounded(async {
        let mock = LivekitMock::start(1).await;
        let (asked, mut is_asked) = watch::channel(0);
        let (given_up, is_given_up) = watch::channel(0);
        let client = builder(&mock).discover(Endless { asked, given_up }).build().expect("valid");
        let call = tokio::spawn(create_room(&client, json!({"failRegions": [0]})).send());
        is_asked.wait_for(|asked| *asked == 1).await.expect("asked");
        assert_eq!(*is_given_up.borrow(), 0);
        call.abort();
        assert!(call.await.expect_err("given up").is_cancelled());
        assert_eq!(*is_given_up.borrow(), 1, "it ended with the call, not later");
    })
    .await;
}

#[tokio::test]
async fn a_list_is_kept_for_its_time_and_used_beyond_it_when_no_newer_one_comes() {
    bounded(async {
        let mock = LivekitMock::start(2).await;
        let client = client(&mock);
        for expected in [1, 2] {
            call(&client, json!({"failRegions": [0]})).await.expect("answered");
            assert_eq!(mock.discoveries().len(), expected, "max-age=0 is not kept");
        }
        mock.cache_control("max-age=1");
        let answer = call(&client, json!({"failRegions": [0]})).await.expect("answered");
        assert_eq!((answer.status().as_u16(), mock.discoveries().len()), (200, 3));
        call(&client, json!({"failRegions": [0]})).await.expect("answered");
        assert_eq!(mock.discoveries().len(), 3, "kept");
        // The list's time passes; nothing but time can show that.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let answer = call(&client, json!({"failRegions": [0], "regionsStatus": 500})).await.expect("answered");
        assert_eq!((answer.status().as_u16(), mock.discoveries().len()), (200, 4), "stale, but better than nothing");
    })
    .await;
}

#[tokio::test]
async fn a_discovered_host_gets_credentials_only_if_it_is_trusted() {
    bounded(async {
        for (is_trusted, expected) in [(false, None), (true, Some("Bearer token"))] {
            let mock = LivekitMock::start(2).await;
            mock.advertise([("region-1".to_owned(), by_name(&mock, 1))]);
            let builder = builder(&mock);
            let builder = if is_trusted { builder.trust_host("localhost") } else { builder };
            let client = builder.build().expect("valid");
            let request = create_room(&client, json!({"failRegions": [0], "skipAuth": true}));
            let request = request.header("x-app-token", "secret").header("cookie", "a=b").header("x-plain", "1");
            assert_eq!(request.send().await.expect("answered").status(), 200);
            let seen = mock.requests(1).remove(0).head.headers;
            let value = |name: &str| seen.get(name).map(|value| value.to_str().expect("a text"));
            assert_eq!(value("authorization"), expected);
            assert_eq!((value("x-app-token").is_some(), value("cookie").is_some()), (is_trusted, is_trusted));
            assert_eq!((value("x-plain"), value("x-livekit-request-id").is_some()), (Some("1"), true));
            // The question for regions goes to the caller's own endpoint, with its credentials and without its body's fields.
            let asked = mock.discoveries().remove(0).head.headers;
            assert_eq!(asked["authorization"], "Bearer token");
            assert!(!asked.contains_key("content-type") && !asked.contains_key("content-length"));
        }
    })
    .await;
}

#[tokio::test]
async fn a_password_in_an_endpoints_url_is_used_for_its_discovery_and_for_nobody_else() {
    bounded(async {
        let mock = LivekitMock::start(2).await;
        mock.advertise([("region-1".to_owned(), by_name(&mock, 1))]);
        let own = mock.url(0).replace("http://", "http://user:secret@") + "/";
        let client = Client::builder().endpoints([own]).policy(regions(|_| {})).no_proxy();
        let client = client.discovery_path("/settings/regions").build().expect("valid");
        let request = client.post("/twirp/livekit.RoomService/CreateRoom").json(&json!({}));
        let mock_header = json!({"failRegions": [0], "skipAuth": true}).to_string();
        let answer = request.header("x-lk-mock", mock_header).send().await.expect("answered");
        assert_eq!(answer.status(), 200);
        let basic = "Basic dXNlcjpzZWNyZXQ=";
        assert_eq!(mock.requests(0)[0].head.headers["authorization"], basic);
        assert_eq!(mock.discoveries()[0].head.headers["authorization"], basic);
        assert!(!mock.requests(1)[0].head.headers.contains_key("authorization"));
    })
    .await;
}

#[tokio::test]
async fn an_endpoints_prefix_holds_in_the_regions_and_not_for_the_list() {
    bounded(async {
        let paths = Arc::new(AtomicUsize::new(0));
        let list = Arc::new(std::sync::Mutex::new(String::new()));
        let (seen, body) = (Arc::clone(&paths), Arc::clone(&list));
        let first = Origin::scripted(move |arrival| match arrival.head.target() {
            "/settings/regions" => {
                seen.fetch_add(1, Ordering::Relaxed);
                let body = body.lock().expect("not poisoned").clone();
                assert_eq!(arrival.head.header("authorization"), Some("Basic dTpw"));
                Act::Answer(handover_testkit::Answer::ok(body))
            }
            _ => Act::Answer(handover_testkit::Answer::status(503, "")),
        })
        .await;
        let second = Origin::answering("ok").await;
        *list.lock().expect("not poisoned") =
            json!({"regions": [{"region": "a", "url": first.url()}, {"region": "b", "url": second.url()}]}).to_string();
        let endpoint = first.url().replace("http://", "http://u:p@") + "/api/v2";
        let client = Client::builder().endpoints([endpoint]).policy(regions(|_| {})).no_proxy();
        let client = client.discovery_path("/settings/regions").build().expect("valid");
        let answer = client.post("/x?y=1").send().await.expect("answered");
        assert_eq!((answer.status().as_u16(), paths.load(Ordering::Relaxed)), (200, 1));
        assert_eq!(second.requests()[0].head.target(), "/api/v2/x?y=1");
    })
    .await;
}
