//! What an error says of a request that failed, what it prints, and what is never printed.

use std::error::Error as _;
use std::time::Duration;

use handover_client::{
    Answer, Body, Client, ClientBuilder, Error, Fate, Fault, Policy, Reason, Record, RequestBuilder, Sent, Stage,
    Verdict,
};
use handover_testkit::{Act, Answer as Says, DeadPort, Directory, End, HttpProxyNode, NodeAct, Origin, bounded};

fn builder<E: AsRef<str>>(endpoints: impl IntoIterator<Item = E>) -> ClientBuilder {
    Client::builder().endpoints(endpoints).policy(Policy::rotation()).no_proxy()
}

fn client<E: AsRef<str>>(endpoints: impl IntoIterator<Item = E>) -> Client {
    builder(endpoints).build().expect("valid")
}

/// Every predicate of an error, by name where it is true.
fn predicates(error: &Error) -> Vec<&'static str> {
    let all = [
        ("not_sent", error.is_not_sent()),
        ("maybe_sent", error.is_maybe_sent()),
        ("timeout", error.is_timeout()),
        ("connect", error.is_connect()),
        ("builder", error.is_builder()),
        ("body", error.is_body()),
        ("decode", error.is_decode()),
        ("status", error.is_status()),
    ];
    all.into_iter().filter(|(_, holds)| *holds).map(|(name, _)| name).collect()
}

fn failed(result: Result<Answer, Error>) -> Error {
    result.expect_err("it fails")
}

#[tokio::test]
async fn what_an_error_says_of_itself() {
    bounded(async {
        let dead = DeadPort::new();
        let dead = client([format!("http://{}", dead.addr())]);
        let hanging = Origin::scripted(|_| Act::Hang).await;
        let closing = Origin::scripted(|_| Act::EndAfter(u64::MAX, End::Fin)).await;
        let garbage = Origin::scripted(|_| Act::Say("this is not HTTP\r\n\r\n".into(), End::Fin)).await;
        let good = Origin::scripted(|arrival| {
            Act::Answer(match arrival.head.target() {
                "/cut" => Says::ok("only half").cut_after(45, End::Fin),
                "/404" => Says::status(404, "nothing"),
                _ => Says::ok("not json"),
            })
        })
        .await;
        let (hanging, closing, garbage) = (client([hanging.url()]), client([closing.url()]), client([garbage.url()]));
        let good = client([good.url()]);
        let short = Duration::from_millis(100);
        let broken = Body::stream(Broken);
        let cases: [(Error, &[&str], Fate, Option<u16>); 10] = [
            (failed(dead.post("/").body("x").send().await), &["not_sent", "connect"], Fate::NotSent, None),
            (failed(hanging.post("/").timeout(short).send().await), &["maybe_sent", "timeout"], Fate::Unknown, None),
            (
                failed(hanging.get("/").attempt_timeout(short).send().await),
                &["maybe_sent", "timeout"],
                Fate::Unknown,
                None,
            ),
            (failed(closing.post("/").body("x").send().await), &["maybe_sent"], Fate::Unknown, None),
            (failed(garbage.get("/").send().await), &["maybe_sent"], Fate::Unknown, None),
            (failed(good.get("http://whole.example/").send().await), &["not_sent", "builder"], Fate::NotSent, None),
            (failed(good.post("/").body(broken).send().await), &["not_sent", "body"], Fate::NotSent, None),
            (
                good.get("/cut").send().await.expect("a head").bytes().await.expect_err("cut"),
                &["body"],
                Fate::Answered,
                Some(200),
            ),
            (
                good.get("/").send().await.expect("a head").json::<Vec<u8>>().await.expect_err("no JSON"),
                &["decode"],
                Fate::Answered,
                Some(200),
            ),
            (
                good.get("/404").send().await.expect("a head").error_for_status().expect_err("404"),
                &["status"],
                Fate::Answered,
                Some(404),
            ),
        ];
        for (error, expected, fate, status) in cases {
            assert_eq!(predicates(&error), expected, "{error}");
            assert_eq!((error.fate(), error.status().map(|status| status.as_u16())), (fate, status), "{error}");
            assert_eq!(error.record().is_some(), !error.is_builder());
            assert!(
                !error.to_string().is_empty() && error.to_string().lines().all(|line| !line.ends_with('.')),
                "{error}"
            );
        }
    })
    .await;
}

/// A body that fails at once.
struct Broken;

impl futures_core::Stream for Broken {
    type Item = Result<bytes::Bytes, std::io::Error>;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Ready(Some(Err(std::io::Error::other("no more"))))
    }
}

#[tokio::test]
async fn an_unknown_outcome_is_not_hidden_by_a_later_refusal() {
    bounded(async {
        let (closing, dead) = (Origin::scripted(|_| Act::EndAfter(u64::MAX, End::Fin)).await, DeadPort::new());
        let client = client([closing.url(), format!("http://{}", dead.addr())]);
        let error = failed(client.put("/").body("x").send().await);
        assert_eq!(error.fate(), Fate::Unknown, "{error}");
        assert!(!error.is_connect() && !error.is_not_sent());
        let record = error.record().expect("tried");
        assert_eq!(record.decisive().map(|attempt| (attempt.number(), attempt.sent())), Some((1, Sent::Maybe)));
        assert_eq!(record.attempts().last().map(|last| last.sent()), Some(Sent::No));
    })
    .await;
}

#[tokio::test]
async fn an_error_prints_a_line_for_each_attempt() {
    bounded(async {
        let (dead, failing) = (DeadPort::new(), Origin::scripted(|_| Act::Answer(Says::status(502, "no"))).await);
        let closing = Origin::scripted(|_| Act::EndAfter(u64::MAX, End::Fin)).await;
        let dead = format!("http://{}", dead.addr());
        let client = client([&dead, &failing.url(), &closing.url()]);
        let error = failed(client.post("/x").body("x").send().await);
        let text = error.to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[0].contains("it may have arrived"), "{text}");
        for (line, number, endpoint, words) in [
            (lines[1], 1, &dead, ["dial: refused", "sent no", "try_next(not_sent)"]),
            (lines[2], 2, &failing.url(), ["answered 502", " after ", "try_next(disclaimed)"]),
            (lines[3], 3, &closing.url(), ["await_head: closed", "sent maybe", "stop(not_idempotent)"]),
        ] {
            assert!(line.starts_with(&format!("{number}. {endpoint}: ")), "{line}");
            for word in words {
                assert!(line.contains(word), "{word}: {line}");
            }
        }
        // The answer in between is still there.
        assert_eq!(error.status().map(|status| status.as_u16()), Some(502));
        let answer = error.into_answer().expect("kept");
        assert_eq!(answer.text().await.expect("readable"), "no");
    })
    .await;
}

#[tokio::test]
async fn a_record_says_the_same_in_words_in_values_and_as_json() {
    bounded(async {
        let (dead, good) = (DeadPort::new(), Origin::answering("yes").await);
        let answer = client([format!("http://{}", dead.addr()), good.url()]).get("/").send().await.expect("answered");
        let record = answer.record();
        let first = record.attempts().next().expect("there");
        assert_eq!((first.number(), first.stage(), first.fault()), (1, Stage::Dial, Some(Fault::Refused)));
        assert_eq!((first.sent(), first.verdict()), (Sent::No, Verdict::TryNext(Reason::NotSent)));
        assert_eq!(first.address(), Some(dead.addr()));
        let json = record.to_json();
        assert_eq!((&json["fate"], &json["reason"]), (&"answered".into(), &"answered".into()));
        let attempts = json["attempts"].as_array().expect("a list");
        for (attempt, json) in record.attempts().zip(attempts) {
            assert_eq!(json["endpoint"], attempt.endpoint());
            assert_eq!(json["stage"], attempt.stage().as_str());
            assert_eq!(json["reason"], attempt.verdict().reason().as_str());
            assert_eq!(json["status"].as_u64(), attempt.status().map(u64::from));
            assert!(json["duration_ms"].is_number());
        }
        assert_eq!((&attempts[0]["fault"], &attempts[0]["sent"]), (&"refused".into(), &"No".into()));
        assert_eq!(attempts.len(), 2);
        // The decisions follow from the record: taken again, they are the same.
        assert!(handover_core::replay(&Policy::rotation(), record.core()).is_ok());
    })
    .await;
}

/// What must not be printed anywhere.
const SECRETS: [&str; 5] = ["hunter2", "t0ken", "k3y", "c00kie", "pr0xy"];

fn assert_discreet(what: &str, text: &str) {
    for secret in SECRETS {
        assert!(!text.contains(secret), "{what} shows {secret}: {text}");
    }
}

/// A request that carries all secrets that a request can.
fn secretive(client: &Client, path: &str) -> RequestBuilder {
    let request = client.post(path).bearer_auth("t0ken").header("x-app-token", "k3y").header("cookie", "c00kie");
    request.body("t0ken k3y")
}

#[tokio::test]
async fn credentials_are_printed_nowhere() {
    bounded(async {
        let with = |url: &str| url.replace("://", "://us3r:hunter2@") + "/api";
        let closing = Origin::scripted(|_| Act::EndAfter(u64::MAX, End::Fin)).await;
        let good = Origin::answering("yes").await;
        let dead = DeadPort::new();
        let dead = format!("http://{}", dead.addr());
        for endpoints in
            [vec![with(&dead)], vec![with(&dead), with(&closing.url())], vec![with(&dead), with(&good.url())]]
        {
            let client = client(endpoints);
            assert_discreet("the client", &format!("{client:?} {:?}", client.endpoints()));
            let record: Record = match secretive(&client, "/x").send().await {
                Ok(answer) => {
                    assert_discreet("the answer", &format!("{answer:?} {}", answer.endpoint()));
                    answer.record().clone()
                }
                Err(error) => {
                    assert_discreet("the error", &format!("{error} {error:?} {:?}", error.source()));
                    error.record().expect("tried").clone()
                }
            };
            assert_discreet("the record", &format!("{record} {record:?} {:?} {}", record.core(), record.to_json()));
        }
        // A proxy's, where it refuses, cannot be reached, or wants others.
        let proxies = [NodeAct::Refuse(502), NodeAct::Auth("us3r", "other"), NodeAct::EndAfterHead(End::Fin)];
        for act in proxies {
            let proxy = HttpProxyNode::start(act, Directory::new()).await;
            let client = builder([with(&good.url())]).proxy(&format!("http://us3r:pr0xy@{}", proxy.addr()));
            let client = client.build().expect("valid");
            assert_discreet("the client", &format!("{client:?}"));
            let error = failed(secretive(&client, "/x").send().await);
            assert_discreet("the error", &format!("{error} {error:?}"));
            assert!(error.to_string().contains("proxy"), "it says that it was the proxy: {error}");
        }
        let client = builder([with(&good.url())]).proxy(&dead.replace("://", "://us3r:pr0xy@")).build().expect("valid");
        let error = failed(secretive(&client, "/x").send().await);
        assert_discreet("the error", &format!("{error} {error:?}"));
    })
    .await;
}

#[test]
fn errors_travel_between_threads_and_requests_are_futures_that_do_too() {
    fn travels<T: Send + Sync + 'static>() {}
    fn is_sent<T: Send>(_: &T) {}
    travels::<Error>();
    travels::<Client>();
    travels::<Record>();
    travels::<handover_client::BuildError>();
    fn is_error<T: std::error::Error>() {}
    is_error::<Error>();
    let client = client(["http://127.0.0.1:9"]);
    is_sent(&client.get("/").send());
    is_sent(&client.post("/").body(Body::stream(Broken)));
    is_sent(&async {
        let mut answer = client.get("/").send().await?;
        answer.chunk().await?;
        answer.text().await
    });
}
