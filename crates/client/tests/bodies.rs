//! Bodies: what is sent once and what again, what is never repeated, and answers that are read, cut, large or left.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use handover_client::{Body, Client, Fate, Http2, Policy, Reason, Verdict};
use handover_testkit::{
    Act, After, Answer, Body as Said, DeadPort, End, Gate, H2Origin, Origin, bounded, is_pattern, peak_memory,
    reset_peak_memory,
};
use serde_json::{Value, json};

fn client<E: AsRef<str>>(endpoints: impl IntoIterator<Item = E>) -> Client {
    Client::builder().endpoints(endpoints).policy(Policy::rotation()).no_proxy().build().expect("valid")
}

fn dead() -> (DeadPort, String) {
    let port = DeadPort::new();
    let url = format!("http://{}", port.addr());
    (port, url)
}

fn fault() -> handover_client::BoxError {
    std::io::Error::other("the disk is on fire").into()
}

#[tokio::test]
async fn a_stream_moves_intact_to_the_next_endpoint_when_the_first_refuses() {
    bounded(async {
        let (_port, dead) = dead();
        let origin = Origin::answering("yes").await;
        let length = 3 << 20;
        let answer = client([dead, origin.url()]).post("/").body(Body::stream(support::pattern(length))).send().await;
        let answer = answer.expect("answered");
        assert_eq!(answer.record().attempts().next().expect("there").verdict(), Verdict::TryNext(Reason::NotSent));
        let seen = origin.requests().remove(0);
        assert_eq!((seen.body_bytes, seen.patterned, seen.complete), (length, true, true));
        assert_eq!(seen.head.header("transfer-encoding"), Some("chunked"));
        assert_eq!(seen.head.header("content-length"), None);
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_was_read_is_never_sent_again() {
    bounded(async {
        let cut = Origin::scripted(|_| Act::EndAfter(1000, End::Reset)).await;
        let failing = Origin::scripted(|_| Act::Answer(Answer::status(503, "no"))).await;
        let second = Origin::answering("never").await;
        // Even with a method that may be repeated.
        let body = || Body::stream(support::pattern(1 << 20));
        let error = client([cut.url(), second.url()]).put("/").body(body()).send().await.expect_err("broken");
        assert_eq!(error.fate(), Fate::Unknown, "{error}");
        assert_eq!(error.record().expect("tried").verdict(), Some(Verdict::Stop(Reason::BodyConsumed)));
        // An answer that would go on is final then.
        let answer = client([failing.url(), second.url()]).put("/").body(body()).send().await.expect("the 503");
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.record().verdict(), Some(Verdict::Done(Reason::BodyConsumed)));
        assert_eq!(second.accepted(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_body_that_can_be_had_again_is_the_same_byte_for_byte_in_every_attempt() {
    bounded(async {
        let failing = || Origin::scripted(|_| Act::Answer(Answer::status(503, "no")));
        let cut = Origin::scripted(|_| Act::EndAfter(70_000, End::Reset)).await;
        let (one, two, good) = (failing().await, failing().await, Origin::answering("yes").await);
        let client = client([one.url(), cut.url(), two.url(), good.url()]);
        let made = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&made);
        let length = 300_000;
        let body = Body::replayable(move || {
            count.fetch_add(1, Ordering::Relaxed);
            support::pattern(length)
        });
        let answer = client.put("/stream").body(body).send().await.expect("answered");
        assert_eq!((answer.status().as_u16(), answer.record().attempts().count()), (200, 4));
        assert_eq!(made.load(Ordering::Relaxed), 4);
        for origin in [&one, &two, &good] {
            let seen = origin.requests().remove(0);
            assert_eq!((seen.body_bytes, seen.patterned, seen.complete), (length, true, true));
        }
        // JSON, with its length and type.
        let value = json!({"名": "作业", "list": [1, 2.5, null]});
        client.put("/json").json(&value).send().await.expect("answered");
        for origin in [&one, &two, &good] {
            let seen = origin.requests().remove(1);
            assert_eq!(serde_json::from_slice::<Value>(&seen.body).expect("JSON"), value);
            assert_eq!(seen.head.header("content-type"), Some("application/json"));
            assert_eq!(seen.head.header("content-length"), Some(seen.body.len().to_string().as_str()));
            assert_eq!(seen.body, one.requests()[1].body);
        }
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_fails_is_the_callers_own_error_and_goes_nowhere_else() {
    bounded(async {
        let (one, two) = (Origin::answering("no").await, Origin::answering("never").await);
        let client = client([one.url(), two.url()]);
        let cases = [vec![Err(fault())], vec![Ok(Bytes::from_static(b"some")), Err(fault())]];
        for pieces in cases {
            let error =
                client.put("/").body(Body::stream(support::pieces(pieces))).send().await.expect_err("it failed");
            assert!(error.is_body() && !error.is_timeout() && !error.is_connect(), "{error}");
            assert!(error.to_string().contains("the disk is on fire"), "{error}");
            assert_eq!(error.record().expect("tried").attempts().count(), 1);
        }
        assert!(one.requests().iter().all(|seen| !seen.complete), "no server takes it for whole");
        assert_eq!(two.accepted(), 0);
        // It is nobody's fault but the caller's: the next request is served as if nothing had been.
        assert_eq!(client.get("/").send().await.expect("answered").status(), 200);
    })
    .await;
}

#[tokio::test]
async fn a_big_upload_streams_in_bounded_memory() {
    bounded(async {
        let origin = Origin::answering("yes").await;
        let length = 64 << 20;
        let client = client([origin.url()]);
        client.get("/").send().await.expect("answered");
        let pid = std::process::id();
        reset_peak_memory(pid);
        let before = peak_memory(pid);
        let answer = client.post("/").body(Body::stream(support::pattern(length))).send().await.expect("answered");
        assert_eq!(answer.status(), 200);
        let grown = peak_memory(pid) - before;
        let seen = origin.requests().remove(1);
        assert_eq!((seen.body_bytes, seen.patterned, seen.complete), (length, true, true));
        assert!(grown < 8 << 20, "{grown} bytes for {length}");
    })
    .await;
}

#[tokio::test]
async fn how_long_a_body_is_is_said_where_it_is_known() {
    bounded(async {
        let origin = Origin::answering("yes").await;
        let client = client([origin.url()]);
        let requests = [
            (client.post("/"), Some("0"), None),
            (client.put("/"), Some("0"), None),
            (client.get("/"), None, None),
            (client.delete("/"), None, None),
            (client.post("/").body(""), Some("0"), None),
            (client.post("/").body("four"), Some("4"), None),
            (client.post("/").body(vec![0; 5]), Some("5"), None),
            (client.get("/").body("x"), Some("1"), None),
            (client.post("/").form([("a b", "ü&")]), Some("13"), None),
            (client.post("/").body(Body::stream(support::pieces(vec![Ok("x".into())]))), None, Some("chunked")),
            (client.post("/").body(Body::stream(support::pieces(vec![]))), None, Some("chunked")),
            (client.get("/").body(Body::stream(support::pieces(vec![Ok("x".into())]))), None, Some("chunked")),
        ];
        for (at, (request, length, coding)) in requests.into_iter().enumerate() {
            assert_eq!(request.send().await.expect("answered").status(), 200);
            let seen = origin.requests().remove(at);
            let said = (seen.head.header("content-length"), seen.head.header("transfer-encoding"));
            assert_eq!((said, seen.complete), ((length, coding), true), "{at}");
        }
        assert_eq!(origin.requests()[8].body, b"a+b=%C3%BC%26");
        assert_eq!(origin.accepted(), 1, "none of them spoils the connection");
    })
    .await;
}

#[tokio::test]
async fn a_streams_length_is_the_callers_to_say_and_none_is_sent_that_is_not_true() {
    bounded(async {
        let (origin, other) = (Origin::answering("yes").await, Origin::answering("never").await);
        let client = client([origin.url(), other.url()]);
        let put = |length: &str, body: Body| client.put("/").header("content-length", length).body(body).send();
        let stream = || Body::stream(support::pieces(vec![Ok("hel".into()), Ok("lo".into())]));
        assert_eq!(put("5", stream()).await.expect("answered").status(), 200);
        assert_eq!(put("5", "hello".into()).await.expect("answered").status(), 200);
        for seen in origin.requests() {
            let said = (seen.head.all("content-length"), seen.head.header("transfer-encoding"));
            assert_eq!((said, &seen.body[..], seen.complete), ((vec!["5"], None), &b"hello"[..], true));
        }
        for length in ["2", "7", "05", "five"] {
            let error = put(length, "hello".into()).await.expect_err("it is not true");
            assert!(error.is_not_sent() && error.to_string().contains("Content-Length"), "{length}: {error}");
        }
        assert_eq!((origin.request_count(), other.accepted()), (2, 0));
        // Of a stream that is shorter it shows at its end: no server takes the request for whole.
        let error = put("6", stream()).await.expect_err("it is not true");
        assert!(!error.is_timeout() && !error.is_connect(), "{error}");
        assert!(origin.requests().iter().skip(2).all(|seen| !seen.complete), "{:?}", origin.requests());
        assert_eq!(other.accepted(), 0);
    })
    .await;
}

#[tokio::test]
async fn over_http2_a_request_says_its_length_too() {
    bounded(async {
        let origin = H2Origin::builder().start().await;
        let client = Client::builder().endpoints([origin.url()]).no_proxy().http2(Http2::PriorKnowledge);
        let client = client.build().expect("valid");
        let stream = || Body::stream(support::pieces(vec![Ok("hello".into())]));
        let requests = [
            (client.post("/").body("hello"), Some("5")),
            (client.post("/"), Some("0")),
            (client.get("/"), None),
            (client.post("/").body(stream()), None),
            (client.post("/").header("content-length", "5").body(stream()), Some("5")),
        ];
        for (at, (request, length)) in requests.into_iter().enumerate() {
            request.send().await.expect("answered");
            let seen = origin.requests().remove(at);
            let said = seen.head.headers.get("content-length").map(|said| said.to_str().expect("a number"));
            assert_eq!((said, seen.complete), (length, true), "{at}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_comes_while_the_upload_runs_is_the_answer() {
    bounded(async {
        let origin = Origin::scripted(|arrival| match arrival.head.target() {
            "/upload" => Act::AnswerEarly(Answer::status(413, "too much").header("connection", "close")),
            _ => Act::Answer(Answer::ok("yes")),
        })
        .await;
        let client = client([origin.url()]);
        let endless = support::FromFn(|| Some(Ok(Bytes::from_static(&[b'x'; 16 * 1024]))));
        let answer = client.post("/upload").body(Body::stream(endless)).send().await.expect("answered");
        assert_eq!(answer.status(), 413);
        assert_eq!(answer.text().await.expect("readable"), "too much");
        // The connection with half a request on it carries no other.
        assert_eq!(client.get("/").send().await.expect("answered").status(), 200);
        assert_eq!(origin.accepted(), 2);
    })
    .await;
}

#[tokio::test]
async fn answers_without_content_end_with_their_head() {
    bounded(async {
        let origin = Origin::scripted(|arrival| {
            Act::Answer(match arrival.head.target() {
                "/204" => Answer::status(204, ""),
                "/304" => Answer::status(304, "").header("content-length", "500"),
                _ => Answer::ok("never sent to HEAD"),
            })
        })
        .await;
        let client = client([origin.url()]);
        let head = client.head("/").send().await.expect("answered");
        assert_eq!((head.status().as_u16(), head.headers()["content-length"].as_bytes()), (200, &b"18"[..]));
        assert_eq!(head.content_length(), Some(18), "what a GET would have");
        assert_eq!(head.bytes().await.expect("empty"), "");
        for (path, status) in [("/204", 204), ("/304", 304)] {
            let answer = client.get(path).send().await.expect("answered");
            assert_eq!((answer.status().as_u16(), answer.bytes().await.expect("empty").len()), (status, 0));
        }
        assert_eq!((origin.request_count(), origin.accepted()), (3, 1));
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_is_dropped_unread_does_not_spoil_the_next_one() {
    bounded(async {
        let gate = Gate::new();
        let held = gate.clone();
        let origin = Origin::scripted(move |arrival| match arrival.head.target() {
            "/big" => Act::Answer(Answer::ok("").body(Said::Pattern(8 << 20))),
            "/endless" => {
                let (answer, writer) = Answer::stream();
                writer.send("begun");
                let held = held.clone();
                tokio::spawn(async move {
                    held.wait().await;
                    drop(writer);
                });
                Act::Answer(answer)
            }
            _ => Act::Answer(Answer::ok("small")),
        })
        .await;
        let client = client([origin.url()]);
        for path in ["/big", "/endless", "/small"] {
            let answer = client.get(path).send().await.expect("answered");
            drop(answer);
            let next = client.get("/small").send().await.expect("answered");
            assert_eq!(next.text().await.expect("whole"), "small", "behind {path}");
        }
        gate.open();
        // Whoever lets go of a large body closes its connection instead of reading on.
        assert_eq!(origin.accepted(), 3);
    })
    .await;
}

#[tokio::test]
async fn bodies_of_every_framing_come_whole_as_text_json_pieces_and_stream() {
    bounded(async {
        let json = r#"{"a":[1,2]}"#;
        let origin = Origin::scripted(move |arrival| {
            let answer = Answer::ok(json);
            Act::Answer(match arrival.head.target() {
                "/chunked" => answer.body(Said::Chunked(Bytes::from_static(json.as_bytes()), vec![("x-sum", "1")])),
                "/close" => answer.body(Said::UntilClose(Bytes::from_static(json.as_bytes()))),
                "/pattern" => answer.body(Said::Pattern(1 << 20)),
                "/latin" => Answer::ok(&b"caf\xe9"[..]),
                _ => answer,
            })
        })
        .await;
        let client = client([origin.url()]);
        let get = async |path: &str| client.get(path).send().await.expect("answered");
        for path in ["/length", "/chunked", "/close"] {
            assert_eq!(get(path).await.text().await.expect("whole"), json);
            assert_eq!(get(path).await.json::<Value>().await.expect("JSON"), json!({"a": [1, 2]}));
        }
        assert_eq!(get("/length").await.content_length(), Some(json.len() as u64));
        assert_eq!(get("/chunked").await.content_length(), None);
        assert_eq!(get("/latin").await.text().await.expect("whole"), "caf\u{fffd}");
        let error = get("/latin").await.json::<Value>().await.expect_err("no JSON");
        assert!(error.is_decode() && !error.is_body() && error.status().is_some(), "{error}");
        let (_, body) = get("/pattern").await.into_parts();
        let whole = http_body_util::BodyExt::collect(body).await.expect("whole").to_bytes();
        assert!(whole.len() == 1 << 20 && is_pattern(0, &whole));
        let mut stream = get("/pattern").await.into_stream();
        let mut length = 0;
        while let Some(piece) =
            std::future::poll_fn(|cx| futures_core::Stream::poll_next(std::pin::Pin::new(&mut stream), cx)).await
        {
            let piece = piece.expect("whole");
            assert!(is_pattern(length, &piece));
            length += piece.len() as u64;
        }
        assert_eq!(length, 1 << 20);
    })
    .await;
}

#[tokio::test]
async fn a_body_that_breaks_off_is_an_error_of_the_body_and_of_no_endpoint() {
    bounded(async {
        let other = Origin::answering("never").await;
        for end in [End::Fin, End::Reset] {
            let answer = move || Answer::ok("only half of it is sent").cut_after(50, end).then(After::End(end));
            let origin = Origin::scripted(move |_| Act::Answer(answer())).await;
            let answer = client([origin.url(), other.url()]).get("/").send().await.expect("answered");
            let error = answer.bytes().await.expect_err("cut");
            assert!(error.is_body() && !error.is_maybe_sent() && !error.is_timeout(), "{error}");
            assert_eq!((error.fate(), error.status().map(|status| status.as_u16())), (Fate::Answered, Some(200)));
        }
        assert_eq!(other.accepted(), 0);
    })
    .await;
}
