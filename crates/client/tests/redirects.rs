//! Redirects: an answer like any other unless the client was told to follow them, and what goes along then.

mod support;

use std::time::Duration;

use handover_client::{Body, Client, ClientBuilder, Policy};
use handover_testkit::{Act, Answer, Authority, Origin, bounded};
use http::Method;
use tokio::time::Instant;

fn builder(endpoint: &str) -> ClientBuilder {
    Client::builder().endpoints([endpoint]).policy(Policy::rotation()).no_proxy().redirects(3)
}

fn client(endpoint: &str) -> Client {
    builder(endpoint).build().expect("valid")
}

/// Redirects `/STATUS` to this place, and answers all else.
async fn redirecting(place: &str) -> Origin {
    let place = place.to_owned();
    Origin::scripted(move |arrival| match arrival.head.target().trim_start_matches('/').parse() {
        Ok(status) => Act::Answer(Answer::status(status, "elsewhere").header("location", &place)),
        Err(_) => Act::Answer(Answer::ok("here")),
    })
    .await
}

#[tokio::test]
async fn a_redirect_is_the_answer_unless_the_client_follows() {
    bounded(async {
        let origin = redirecting("/there").await;
        let client = builder(&origin.url()).redirects(0).build().expect("valid");
        let answer = client.get("/302").send().await.expect("answered");
        assert_eq!((answer.status().as_u16(), answer.headers()["location"].as_bytes()), (302, &b"/there"[..]));
        assert_eq!(origin.request_count(), 1);
    })
    .await;
}

#[tokio::test]
async fn methods_and_bodies_follow_as_the_status_says() {
    bounded(async {
        for (method, status, expected, has_body) in [
            (Method::GET, 301, "GET", false),
            (Method::POST, 301, "GET", false),
            (Method::POST, 302, "GET", false),
            (Method::PUT, 302, "PUT", true),
            (Method::PUT, 303, "GET", false),
            (Method::HEAD, 303, "HEAD", false),
            (Method::POST, 307, "POST", true),
            (Method::PATCH, 308, "PATCH", true),
        ] {
            let origin = redirecting("../there?x=1#part").await;
            let request = client(&origin.url()).request(method.clone(), &format!("/{status}"));
            let has_one = method != Method::GET && method != Method::HEAD;
            let request =
                request.header("x-kept", "1").header("content-type", "text/plain").header("content-language", "de");
            let request = if has_one { request.body("data") } else { request };
            assert_eq!(request.send().await.expect("answered").status(), 200);
            let seen = origin.requests().remove(1);
            let wanted: &[u8] = if has_body { b"data" } else { b"" };
            assert_eq!((seen.head.method(), seen.head.target(), &seen.body[..]), (expected, "/there?x=1", wanted));
            assert_eq!(seen.head.header("x-kept"), Some("1"));
            if has_one {
                let about_the_body = (seen.head.header("content-type"), seen.head.header("content-language"));
                assert_eq!(about_the_body, if has_body { (Some("text/plain"), Some("de")) } else { (None, None) });
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_body_that_was_sent_once_does_not_follow() {
    bounded(async {
        let origin = redirecting("/there").await;
        let stream = || Body::stream(support::pieces(vec![Ok("data".into())]));
        let answer = client(&origin.url()).post("/307").body(stream()).send().await.expect("answered");
        assert_eq!((answer.status().as_u16(), origin.request_count()), (307, 1));
        // Where it becomes a GET, there is nothing to send again.
        let answer = client(&origin.url()).post("/303").body(stream()).send().await.expect("answered");
        assert_eq!((answer.status().as_u16(), origin.request_count()), (200, 3));
    })
    .await;
}

#[tokio::test]
async fn credentials_and_the_host_stay_behind_when_it_leads_to_another_host() {
    bounded(async {
        let target = Origin::answering("there").await;
        let elsewhere = target.url().replace("127.0.0.1", "localhost");
        for (place, is_same_host) in [(target.url(), true), (elsewhere, false)] {
            let origin = redirecting(&format!("{place}/there")).await;
            let request = client(&origin.url()).get("/302").bearer_auth("token").header("x-app-token", "secret");
            let request = request.header("cookie", "a=b").header("x-plain", "1").header("host", "virtual.example");
            assert_eq!(request.send().await.expect("answered").text().await.expect("whole"), "there");
            let seen = target.requests().pop().expect("there").head;
            let is_there = |name| seen.header(name).is_some();
            assert_eq!(["authorization", "x-app-token", "cookie"].map(is_there), [is_same_host; 3]);
            assert!(is_there("x-plain"));
            assert_eq!(seen.all("host"), [place.trim_start_matches("http://")], "the place's own");
        }
        // A password of the endpoint's own URL is for that endpoint.
        let origin = redirecting(&format!("{}/there", target.url())).await;
        let own = origin.url().replace("://", "://user:secret@");
        client(&own).get("/302").send().await.expect("answered");
        assert_eq!(target.requests().pop().expect("there").head.header("authorization"), None);
    })
    .await;
}

#[tokio::test]
async fn a_redirect_out_of_tls_is_not_followed() {
    bounded(async {
        let authority = Authority::new();
        let plain = Origin::answering("in the clear").await;
        let place = plain.url();
        let origin = Origin::builder().script(move |_| Act::Answer(Answer::status(302, "").header("location", &place)));
        let origin = origin.tls(authority.acceptor(&["127.0.0.1"], &["http/1.1"])).start().await;
        let client = builder(&origin.url().replace("http:", "https:")).ca_certificate_file(authority.file());
        let answer = client.build().expect("valid").get("/").bearer_auth("token").send().await.expect("answered");
        assert_eq!((answer.status().as_u16(), plain.accepted()), (302, 0));
    })
    .await;
}

#[tokio::test]
async fn redirects_end_after_so_many_and_where_nothing_can_be_followed() {
    bounded(async {
        let around = redirecting("/302").await;
        let answer = client(&around.url()).get("/302").send().await.expect("answered");
        assert_eq!((answer.status().as_u16(), around.request_count()), (302, 4), "three were followed");
        for place in ["ftp://h/x", "http://", "mailto:x"] {
            let origin = redirecting(place).await;
            let answer = client(&origin.url()).get("/302").send().await.expect("answered");
            assert_eq!((answer.status().as_u16(), origin.request_count()), (302, 1), "{place}");
        }
        let bare = Origin::scripted(|_| Act::Answer(Answer::status(302, ""))).await;
        assert_eq!(client(&bare.url()).get("/").send().await.expect("answered").status(), 302);
    })
    .await;
}

#[tokio::test]
async fn the_deadline_bounds_all_hops_together() {
    bounded(async {
        let origin = Origin::scripted(|arrival| {
            let gate = handover_testkit::Gate::new();
            let held = gate.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(200)).await;
                gate.open();
            });
            let _ = arrival;
            Act::Answer(Answer::status(302, "").header("location", "/").held_by(&held))
        })
        .await;
        let began = Instant::now();
        let request = client(&origin.url()).get("/").timeout(Duration::from_millis(500));
        let error = request.send().await.expect_err("too late");
        assert!(error.is_timeout(), "{error}");
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(500) && took < Duration::from_millis(800), "{took:?}");
    })
    .await;
}

#[tokio::test]
async fn what_was_answered_with_a_redirect_is_never_said_to_be_unsent() {
    bounded(async {
        let dead = handover_testkit::DeadPort::new();
        let origin = redirecting(&format!("http://{}/", dead.addr())).await;
        let error = client(&origin.url()).post("/303").body("order").send().await.expect_err("nobody is there");
        assert!(!error.is_not_sent() && !error.is_maybe_sent(), "{error}");
        assert_eq!(error.status().map(|status| status.as_u16()), Some(303));
        let text = error.to_string();
        assert!(text.contains("answered 303") && text.contains("refused"), "{text}");
        assert_eq!(origin.request_count(), 1);
    })
    .await;
}

#[tokio::test]
async fn where_a_redirect_led_may_have_had_the_request_and_the_error_says_so() {
    bounded(async {
        let silent = Origin::scripted(|_| Act::Hang).await;
        let origin = redirecting(&format!("{}/", silent.url())).await;
        let request = client(&origin.url()).post("/307").body("order").timeout(Duration::from_millis(300));
        let error = request.send().await.expect_err("nobody answers there");
        assert!(error.is_timeout() && error.is_maybe_sent(), "{error}");
        assert_eq!((origin.request_count(), silent.request_count()), (1, 1));
    })
    .await;
}
