//! LiveKit parity: every failover test of the Go SDK by its name, and those of the Rust one, against a server that speaks the
//! `X-Lk-Mock` protocol. What the regions of this client add to that is in `regions.rs`.
//!
//! Two tests of the Go SDK have no counterpart: PinRingingTimeout and DialContext are about the time of phone calls, which is
//! a field of LiveKit's requests and no concern of an HTTP client. "Forced" there is a named discovery path here: it opens
//! the gate for any host.

#![cfg(feature = "regions")]

use std::time::Duration;

use handover_client::{
    Answer, Client, ClientBuilder, Error, Fault, Policy, PolicyParts, Reason, RequestBuilder, Verdict,
};
use handover_testkit::{Directory, HttpProxyNode, LivekitMock, bounded};
use serde_json::{Value, json};

const METHOD: &str = "/twirp/livekit.RoomService/CreateRoom";

/// The preset with this changed.
fn regions(change: impl FnOnce(&mut PolicyParts)) -> Policy {
    let mut parts = *Policy::regions().parts();
    // As the SDK's tests do: what is tried is which region is next, not how long the pause is.
    (parts.backoff.base, parts.backoff.cap) = (Duration::from_millis(1), Duration::from_millis(1));
    change(&mut parts);
    Policy::try_new(parts).expect("valid")
}

fn builder(mock: &LivekitMock) -> ClientBuilder {
    Client::builder().endpoints([mock.url(0)]).policy(regions(|_| {})).no_proxy()
}

/// A client whose gate is open: what the SDK's tests call forced.
fn forced(mock: &LivekitMock) -> Client {
    builder(mock).discovery_path("/settings/regions").build().expect("valid")
}

fn create_room(client: &Client, mock: Value) -> RequestBuilder {
    let request = client.post(METHOD).bearer_auth("token").header("x-lk-mock", mock.to_string());
    request.json(&json!({"name": "room"}))
}

async fn call(client: &Client, mock: Value) -> Result<Answer, Error> {
    create_room(client, mock).send().await
}

/// The region that answered with success, and what it said.
async fn room(answer: Answer) -> (String, Value) {
    assert_eq!(answer.status(), 200, "{:?}", answer.record());
    let region = answer.headers()["x-lk-mock-region"].to_str().expect("a number").to_owned();
    (region, answer.json().await.expect("JSON"))
}

fn served_by(mock: &LivekitMock) -> Vec<usize> {
    mock.all_requests().iter().map(|seen| seen.listener).collect()
}

#[tokio::test]
async fn healthy() {
    bounded(async {
        let mock = LivekitMock::start(4).await;
        let (region, room) = room(call(&forced(&mock), json!({})).await.expect("answered")).await;
        assert_eq!((region.as_str(), room["name"].as_str()), ("0", Some("room")));
        assert!(!room["sid"].as_str().expect("a text").is_empty());
        assert_eq!(mock.discoveries().len(), 0, "a healthy service never pays for discovery");
    })
    .await;
}

#[tokio::test]
async fn primary_unavailable() {
    bounded(async {
        let mock = LivekitMock::start(4).await;
        let answer = call(&forced(&mock), json!({"failRegions": [0]})).await.expect("answered");
        assert_eq!(room(answer).await.0, "1");
        assert_eq!(mock.discoveries().len(), 1);
        // The next call begins at the primary: no memory of a failed region.
        call(&forced(&mock), json!({})).await.expect("answered");
        assert_eq!(served_by(&mock), [0, 1, 0]);
    })
    .await;
}

#[tokio::test]
async fn two_regions_unavailable() {
    bounded(async {
        let mock = LivekitMock::start(4).await;
        let answer = call(&forced(&mock), json!({"failRegions": [0, 1]})).await.expect("answered");
        assert_eq!(room(answer).await.0, "2");
        assert_eq!((served_by(&mock), mock.discoveries().len()), (vec![0, 1, 2], 1));
    })
    .await;
}

#[tokio::test]
async fn all_unavailable() {
    bounded(async {
        let mock = LivekitMock::start(4).await;
        let answer = call(&forced(&mock), json!({"failRegions": [0, 1, 2, 3]})).await.expect("the last one's answer");
        assert_eq!(answer.record().verdict(), Some(Verdict::Done(Reason::AttemptsExhausted)));
        let error = answer.error_for_status().expect_err("it is a failure");
        assert_eq!(error.status().map(|status| status.as_u16()), Some(503));
        assert_eq!(served_by(&mock), [0, 1, 2], "three attempts and no more");
        let body: Value = error.into_answer().expect("kept").json().await.expect("readable");
        assert_eq!(body["code"], "unavailable");
    })
    .await;
}

#[tokio::test]
async fn client_error_not_retried() {
    bounded(async {
        let mock = LivekitMock::start(4).await;
        let answer = call(&forced(&mock), json!({"failRegions": [0], "failStatus": 400})).await.expect("answered");
        assert_eq!(answer.status(), 400);
        assert_eq!(answer.json::<Value>().await.expect("JSON")["code"], "invalid_argument");
        assert_eq!((served_by(&mock), mock.discoveries().len()), (vec![0], 0));
    })
    .await;
}

#[tokio::test]
async fn transport_error() {
    bounded(async {
        let mock = LivekitMock::start(4).await;
        let answer = call(&forced(&mock), json!({"failRegions": [0], "failMode": "drop"})).await.expect("answered");
        let verdicts: Vec<_> = answer.record().attempts().map(|attempt| attempt.verdict()).collect();
        assert_eq!(verdicts, [Verdict::TryNext(Reason::ReplayAlways), Verdict::Done(Reason::Answered)]);
        assert_eq!(room(answer).await.0, "1");
    })
    .await;
}

#[tokio::test]
async fn region_discovery_unreachable() {
    bounded(async {
        let mock = LivekitMock::start(4).await;
        let answer =
            call(&forced(&mock), json!({"failRegions": [0], "regionsStatus": 500})).await.expect("the first answer");
        // The first answer stands, never the discovery's error.
        assert_eq!((answer.status().as_u16(), served_by(&mock)), (503, vec![0]));
        assert_eq!(answer.record().verdict(), Some(Verdict::Done(Reason::NothingDiscovered)));
        assert!(answer.error_for_status().is_err());
        // The same behind a connection that broke: its own error.
        let dropped = json!({"failRegions": [0], "failMode": "drop", "regionsStatus": 500});
        let error = call(&forced(&mock), dropped).await.expect_err("broken");
        assert!(error.is_maybe_sent(), "{error}");
    })
    .await;
}

#[tokio::test]
async fn failover_not_cloud_host() {
    bounded(async {
        let mock = LivekitMock::start(4).await;
        let client = builder(&mock).build().expect("valid");
        let answer = call(&client, json!({"failRegions": [0]})).await.expect("answered");
        assert_eq!(answer.record().verdict(), Some(Verdict::Done(Reason::OutsideGate)));
        assert!(answer.error_for_status().is_err());
        assert_eq!((served_by(&mock), mock.discoveries().len()), (vec![0], 0));
    })
    .await;
}

#[tokio::test]
async fn failover_disabled() {
    bounded(async {
        let mock = LivekitMock::start(4).await;
        let answer = create_room(&forced(&mock), json!({"failRegions": [0]})).no_failover().send().await;
        let answer = answer.expect("answered");
        assert_eq!(answer.record().verdict(), Some(Verdict::Done(Reason::OptedOut)));
        assert!(answer.error_for_status().is_err());
        assert_eq!((served_by(&mock), mock.discoveries().len()), (vec![0], 0));
    })
    .await;
}

#[tokio::test]
async fn timeout_fails_over() {
    bounded(async {
        let mock = LivekitMock::start(4).await;
        let policy = regions(|parts| parts.min_attempt_timeout = Duration::from_millis(50));
        let client = builder(&mock).policy(policy).discovery_path("/settings/regions").build().expect("valid");
        let request = create_room(&client, json!({"failRegions": [0], "failMode": "delay"}));
        let answer = request.attempt_timeout(Duration::from_millis(300)).send().await.expect("answered");
        let first = answer.record().attempts().next().expect("there");
        assert_eq!(first.fault(), Some(Fault::Timeout));
        assert_eq!(room(answer).await.0, "1");
    })
    .await;
}

#[tokio::test]
async fn short_timeout_not_retried() {
    bounded(async {
        let mock = LivekitMock::start(4).await;
        let request = create_room(&forced(&mock), json!({"failRegions": [0], "failMode": "delay"}));
        let error = request.attempt_timeout(Duration::from_millis(300)).send().await.expect_err("too late");
        assert!(error.is_timeout() && error.is_maybe_sent(), "{error}");
        assert_eq!((served_by(&mock), mock.discoveries().len()), (vec![0], 0));
    })
    .await;
}

/// How the gate is set in a row of the table of attempts.
#[derive(Clone, Copy)]
enum Gate {
    Default,
    Forced,
}

/// How many attempts a request to a service that always fails gets, for an endpoint with this name.
async fn attempts(host: &str, gate: Gate, opted_out: bool, timeout: Option<Duration>) -> usize {
    let mock = LivekitMock::start(4).await;
    let primary = mock.url(0).trim_start_matches("http://").parse().expect("an address");
    let proxy = HttpProxyNode::relay(Directory::new().with(&format!("{host}:7880"), primary)).await;
    let builder = Client::builder().endpoints([format!("http://{host}:7880")]).policy(regions(|_| {}));
    let builder = builder.proxy(&format!("http://{}", proxy.addr()));
    let builder = match gate {
        Gate::Default => builder,
        Gate::Forced => builder.discovery_path("/settings/regions"),
    };
    let client = builder.build().expect("valid");
    let mut request = create_room(&client, json!({"failRegions": [0, 1, 2, 3], "skipAuth": true}));
    if opted_out {
        request = request.no_failover();
    }
    if let Some(timeout) = timeout {
        request = request.attempt_timeout(timeout);
    }
    let answer = request.send().await.expect("answered");
    assert_eq!(answer.record().attempts().count(), mock.all_requests().len(), "the record has all of them");
    mock.all_requests().len()
}

#[tokio::test]
async fn attempts_table() {
    bounded(async {
        let seconds = |seconds| Some(Duration::from_secs_f64(seconds));
        for (host, gate, opted_out, timeout, expected) in [
            ("project.livekit.cloud", Gate::Default, false, None, 3),
            ("project.livekit.run", Gate::Default, false, None, 3),
            ("notlivekit.cloud", Gate::Default, false, None, 1),
            ("project.livekit.io", Gate::Default, false, None, 1),
            ("example.com", Gate::Forced, false, None, 3),
            ("example.com", Gate::Forced, true, None, 1),
            ("project.livekit.cloud", Gate::Default, true, None, 1),
            ("project.livekit.cloud", Gate::Default, false, seconds(5.0), 3),
            ("project.livekit.cloud", Gate::Default, false, seconds(4.999), 1),
        ] {
            assert_eq!(attempts(host, gate, opted_out, timeout).await, expected, "{host} {timeout:?}");
        }
    })
    .await;
}

fn request_ids(mock: &LivekitMock) -> Vec<String> {
    let id = |name: &http::HeaderMap| name["x-livekit-request-id"].to_str().expect("a text").to_owned();
    mock.all_requests().iter().map(|seen| id(&seen.head.headers)).collect()
}

#[tokio::test]
async fn respects_caller_request_id() {
    bounded(async {
        let mock = LivekitMock::start(4).await;
        let request = create_room(&forced(&mock), json!({"failRegions": [0]}));
        request.header("X-Livekit-Request-Id", "caller-123").send().await.expect("answered");
        assert_eq!(request_ids(&mock), ["caller-123", "caller-123"]);
    })
    .await;
}

#[tokio::test]
async fn prepare_context_sets_request_id() {
    bounded(async {
        let mock = LivekitMock::start(4).await;
        let client = forced(&mock);
        for _ in 0..2 {
            call(&client, json!({})).await.expect("answered");
        }
        let ids = request_ids(&mock);
        assert_ne!(ids[0], ids[1], "one id per call");
        assert!(ids.iter().all(|id| uuid::Uuid::parse_str(id).is_ok()), "{ids:?}");
        // Another name, and none.
        let client = builder(&mock).request_id_header(None).build().expect("valid");
        call(&client, json!({})).await.expect("answered");
        assert!(!mock.all_requests()[2].head.headers.contains_key("x-livekit-request-id"));
        let name = http::HeaderName::from_static("x-request-id");
        let client = builder(&mock).request_id_header(Some(name)).build().expect("valid");
        call(&client, json!({})).await.expect("answered");
        assert!(mock.all_requests()[3].head.headers.contains_key("x-request-id"));
    })
    .await;
}

#[tokio::test]
async fn preserves_request_id_across_attempts() {
    bounded(async {
        let mock = LivekitMock::start(4).await;
        call(&forced(&mock), json!({"failRegions": [0, 1]})).await.expect("answered");
        let ids = request_ids(&mock);
        assert_eq!(ids.len(), 3);
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        // The rest of the request is the same too: path, headers and body.
        let seen = mock.all_requests();
        for other in &seen[1..] {
            assert_eq!((&other.head.uri, &other.body), (&seen[0].head.uri, &seen[0].body));
            assert_eq!(other.head.headers["authorization"], "Bearer token");
        }
    })
    .await;
}

#[tokio::test]
async fn resets_timeout_per_attempt() {
    bounded(async {
        let mock = LivekitMock::start(4).await;
        let policy = regions(|parts| parts.min_attempt_timeout = Duration::ZERO);
        let client = builder(&mock).policy(policy).discovery_path("/settings/regions").build().expect("valid");
        let request = create_room(&client, json!({"failRegions": [0, 1, 2], "failMode": "delay"}));
        let timeout = Duration::from_millis(200);
        let error = request.attempt_timeout(timeout).send().await.expect_err("all stall");
        let attempts: Vec<_> = error.record().expect("tried").attempts().collect();
        assert_eq!(attempts.len(), 3);
        for attempt in attempts {
            assert_eq!(attempt.fault(), Some(Fault::Timeout));
            assert!(attempt.duration() >= timeout, "{attempt}");
        }
    })
    .await;
}

#[tokio::test]
async fn retries_on_timeout() {
    bounded(async {
        let mock = LivekitMock::start(4).await;
        let policy = regions(|parts| parts.min_attempt_timeout = Duration::ZERO);
        let client = builder(&mock).policy(policy).discovery_path("/settings/regions").build().expect("valid");
        let request = create_room(&client, json!({"failRegions": [0], "failMode": "delay"}));
        let answer = request.attempt_timeout(Duration::from_millis(150)).send().await.expect("answered");
        assert_eq!((answer.status().as_u16(), answer.record().attempts().count()), (200, 2));
    })
    .await;
}

#[tokio::test]
async fn short_timeout_does_not_retry() {
    bounded(async {
        let mock = LivekitMock::start(4).await;
        let request = create_room(&forced(&mock), json!({"failRegions": [0]}));
        let answer = request.attempt_timeout(Duration::from_millis(500)).send().await.expect("the 503");
        assert_eq!((answer.status().as_u16(), answer.record().attempts().count()), (503, 1));
        assert_eq!(answer.record().verdict(), Some(Verdict::Done(Reason::AttemptTooShort)));
    })
    .await;
}

#[tokio::test]
async fn does_not_retry_on_cancel() {
    bounded(async {
        let mock = LivekitMock::start(4).await;
        let request = create_room(&forced(&mock), json!({"failRegions": [0], "failMode": "delay"}));
        let call = tokio::spawn(request.send());
        mock.until(|mock| mock.all_requests().len() == 1).await;
        call.abort();
        assert!(call.await.expect_err("given up").is_cancelled());
        // A whole call after it: what the cancelled one would still do would show before that ends.
        self::call(&forced(&mock), json!({"failRegions": [0]})).await.expect("answered");
        assert_eq!((served_by(&mock), mock.discoveries().len()), (vec![0, 0, 1], 1));
    })
    .await;
}

#[tokio::test]
async fn retries_on_5xx_within_budget() {
    bounded(async {
        let mock = LivekitMock::start(4).await;
        let answer = call(&forced(&mock), json!({"failRegions": [0], "failStatus": 502})).await.expect("answered");
        assert_eq!((answer.status().as_u16(), answer.record().attempts().count()), (200, 2));
    })
    .await;
}

#[tokio::test]
async fn errors_of_calls_keep_their_status_and_code() {
    bounded(async {
        let mock = LivekitMock::start(1).await;
        let client = forced(&mock);
        let codes =
            [(401, "unauthenticated"), (408, "deadline_exceeded"), (429, "resource_exhausted"), (418, "internal")];
        for (status, code) in codes {
            let fail = json!({"failRegions": [0], "failStatus": status, "failTwirpCode": code});
            let answer = call(&client, fail).await.expect("answered");
            assert_eq!((answer.status().as_u16(), answer.record().attempts().count()), (status, 1));
            assert_eq!(answer.json::<Value>().await.expect("JSON")["code"], code);
        }
    })
    .await;
}
