//! `handover request` as a user runs it: exit codes, what is on which stream, and the object for programs.

#[path = "command/run.rs"]
#[allow(dead_code, reason = "each test uses its part")]
mod command;

use command::{Ran, run};
use handover_testkit::{
    Act, Answer, Arrival, DeadPort, Directory, End, HttpProxyNode, LivekitMock, NodeAct, Origin, bounded,
};
use serde_json::{Value, json};

/// Answers with the status that the path begins with, closes the connection for `/drop`, and says 200 otherwise.
fn by_path(arrival: Arrival<'_>) -> Act {
    let path = arrival.head.target().trim_start_matches('/');
    match path.split(['/', '?']).next().and_then(|first| first.parse().ok()) {
        Some(status) => Act::Answer(Answer::status(status, format!("said {status}"))),
        None if path.starts_with("drop") => Act::EndAfter(u64::MAX, End::Fin),
        None => Act::Answer(Answer::ok("fine")),
    }
}

/// `handover request METHOD PATH -e … MORE`
async fn request(method: &str, path: &str, endpoints: &[&str], more: &[&str]) -> Ran {
    let endpoints = endpoints.iter().flat_map(|url| ["--endpoint", url]);
    run(["request", method, path].into_iter().chain(endpoints).chain(more.iter().copied())).await
}

fn dead(port: &DeadPort) -> String {
    format!("http://{}", port.addr())
}

#[tokio::test]
async fn the_exit_code_says_what_is_known_of_the_request() {
    bounded(async {
        let (port, origin, other) = (DeadPort::new(), Origin::scripted(by_path).await, Origin::answering("fine").await);
        let (dead, origin, other) = (dead(&port), origin.url(), other.url());
        for (method, path, endpoints, code, outcome) in [
            ("GET", "/", vec![&origin], 0, "answered"),
            ("GET", "/399", vec![&origin], 0, "answered"),
            ("POST", "/", vec![&dead, &origin], 0, "answered"),
            ("GET", "/404", vec![&origin, &other], 1, "answered"),
            ("GET", "/503", vec![&origin, &dead], 1, "answered"),
            ("POST", "/503", vec![&origin, &other], 0, "answered"),
            ("GET", "/", vec![&dead], 3, "not_sent"),
            ("POST", "/drop", vec![&origin, &other], 4, "unknown"),
            ("POST", "/drop", vec![&dead, &origin], 4, "unknown"),
            ("PUT", "/drop", vec![&origin, &other], 0, "answered"),
            ("PUT", "/drop", vec![&origin, &dead], 4, "unknown"),
        ] {
            let endpoints: Vec<_> = endpoints.into_iter().map(|url| &**url).collect();
            let json = request(method, path, &endpoints, &["--json"]).await;
            assert_eq!((json.code, &json.json()["outcome"]), (Some(code), &outcome.into()), "{method} {path}");
            let shown = request(method, path, &endpoints, &[]).await;
            assert_eq!(shown.code, Some(code), "{method} {path}");
            assert_eq!(shown.stderr.contains("unknown"), code == 4, "{}", shown.stderr);
            assert_eq!(shown.stderr.contains("was not sent"), code == 3, "{}", shown.stderr);
        }
    })
    .await;
}

#[tokio::test]
async fn the_body_alone_is_on_stdout_and_a_line_for_each_attempt_on_stderr() {
    bounded(async {
        let binary: Vec<u8> = (0..=255).collect();
        let body = binary.clone();
        let origin = Origin::scripted(move |_| Act::Answer(Answer::ok(body.clone()).header("x-a", "b"))).await;
        let ports = [DeadPort::new(), DeadPort::new()];
        let [one, two] = [dead(&ports[0]), dead(&ports[1])];
        let ran =
            request("GET", "/x?q=1", &[&one, &two, &(origin.url() + "/api")], &["-H", "A: 1", "-H", "a: 2"]).await;
        assert_eq!((ran.code, &ran.stdout), (Some(0), &binary));
        let lines: Vec<_> = ran.stderr.lines().collect();
        assert_eq!(lines.len(), 3, "{}", ran.stderr);
        assert!(lines[0].starts_with(&format!("1. {one}  ✗ dial: refused")), "{}", ran.stderr);
        assert!(lines[1].starts_with(&format!("2. {two}  ✗ dial: refused")), "{}", ran.stderr);
        assert!(lines[1].ends_with("nothing sent → try_next (not_sent)"), "{}", ran.stderr);
        assert!(lines[2].starts_with(&format!("3. {}/api  ✓ 200", origin.url())), "{}", ran.stderr);
        let head = &origin.requests()[0].head;
        assert_eq!((head.target(), head.header("user-agent").is_some()), ("/api/x?q=1", true));
        assert_eq!(head.all("a"), ["1", "2"]);
        let with_head = request("GET", "/", &[&origin.url()], &["--include"]).await;
        let end = with_head.stdout.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        assert!(with_head.stdout.starts_with(b"HTTP/1.1 200 OK\r\n") && with_head.stdout[end + 4..] == binary[..]);
    })
    .await;
}

#[tokio::test]
async fn the_object_has_status_fields_body_and_every_attempt_in_order() {
    bounded(async {
        let origin = Origin::scripted(|arrival| {
            let answer = Answer::ok(if arrival.head.target() == "/bytes" { &b"\xff\x00"[..] } else { "é".as_bytes() });
            Act::Answer(answer.header("Set-Cookie", "a").header("set-cookie", "b").header("X-One", "1"))
        })
        .await;
        let port = DeadPort::new();
        let answered = request("GET", "/", &[&dead(&port), &origin.url()], &["--json"]).await;
        assert_eq!(answered.stderr, "");
        let json = answered.json();
        assert_eq!(
            (&json["status"], &json["body"], &json["body_encoding"]),
            (&200.into(), &"é".into(), &"utf-8".into())
        );
        assert_eq!(json["headers"], json!({"set-cookie": ["a", "b"], "x-one": "1", "content-length": "2"}));
        let attempts = json["record"]["attempts"].as_array().expect("a list");
        let row = |at: usize| {
            ["endpoint", "stage", "fault", "sent", "verdict", "reason"].map(|name| attempts[at][name].clone())
        };
        let first = row(0).map(|value| value.as_str().unwrap_or_default().to_owned());
        assert_eq!(first, [&*dead(&port), "dial", "refused", "No", "try_next", "not_sent"]);
        assert_eq!(row(1)[2..], [Value::Null, "Yes".into(), "done".into(), "answered".into()]);
        assert!(attempts.iter().all(|attempt| attempt["duration_ms"].is_number()), "{json}");
        let json = request("GET", "/bytes", &[&origin.url()], &["--json"]).await.json();
        assert_eq!((&json["body"], &json["body_encoding"]), (&"/wA=".into(), &"base64".into()));
        let json = request("GET", "/", &[&dead(&port)], &["--json"]).await.json();
        let keys: Vec<_> = json.as_object().expect("an object").keys().cloned().collect();
        assert_eq!(keys, ["body", "body_encoding", "headers", "message", "outcome", "record", "status"]);
        assert!(["status", "headers", "body"].iter().all(|name| json[*name].is_null()), "{json}");
        assert_eq!(json["record"]["attempts"].as_array().map(Vec::len), Some(1));
    })
    .await;
}

#[tokio::test]
async fn a_body_that_breaks_off_is_said_and_is_a_bad_answer() {
    bounded(async {
        let origin = Origin::scripted(|_| Act::Answer(Answer::ok("0123456789").cut_after(45, End::Fin))).await;
        let shown = request("GET", "/", &[&origin.url()], &[]).await;
        assert_eq!(shown.code, Some(1), "{shown:?}");
        assert!(!shown.stdout.is_empty() && b"0123456789".starts_with(&shown.stdout) && shown.stdout.len() < 10);
        assert!(shown.stderr.contains("body broke off"), "{}", shown.stderr);
        let json = request("GET", "/", &[&origin.url()], &["--json"]).await;
        let object = json.json();
        assert_eq!((json.code, &object["outcome"], &object["status"]), (Some(1), &"answered".into(), &200.into()));
        assert!(object["message"].as_str().is_some_and(|message| message.contains("broke off")), "{object}");
    })
    .await;
}

#[tokio::test]
async fn all_that_is_wrong_is_told_at_once_and_nothing_is_sent() {
    bounded(async {
        let origin = Origin::answering("never").await;
        let more = ["--deadline", "5", "--attempt-timeout", "1.5s", "-H", "a secret", "--data-file", "/no/such/file"];
        let ran = request("G T", "/", &[&origin.url(), "kv.example", "ftp://user:secret@h"], &more).await;
        assert_eq!((ran.code, ran.stdout.len(), origin.accepted()), (Some(2), 0, 0));
        let named = ["\"G T\"", "kv.example", "ftp", "--deadline \"5\"", "--attempt-timeout \"1.5s\"", "-H number 1"];
        for words in named.into_iter().chain(["/no/such/file", "nothing was sent"]) {
            assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
        }
        assert!(!ran.stderr.contains("secret"), "{}", ran.stderr);
        for (path, more, words) in [
            ("http://kv.example/x", &[][..], "a request has a path"),
            ("/", &["--cacert", "/no/such/ca"], "/no/such/ca"),
            ("/", &["--trust-host", "a b"], "a b"),
            ("/", &["--proxy", "gopher://p"], "gopher"),
            ("/", &["--policy", "forever"], "rotation"),
            ("/", &["--data", "x", "--data-file", "y"], "--data-file"),
            ("/", &["-H", "Content-Length: 9"], "Content-Length"),
        ] {
            let ran = request("GET", path, &[&origin.url()], more).await;
            assert_eq!((ran.code, origin.accepted()), (Some(2), 0), "{more:?}: {ran:?}");
            assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
        }
        assert_eq!(run(["request", "GET", "/"]).await.code, Some(2), "an endpoint is needed");
    })
    .await;
}

#[tokio::test]
async fn the_flags_say_what_may_go_on() {
    bounded(async {
        let (first, second) = (Origin::scripted(by_path).await, Origin::answering("second").await);
        let urls = [&*first.url(), &*second.url()];
        for (method, path, more, code, attempts) in [
            ("POST", "/drop", &[][..], 4, 1),
            ("POST", "/drop", &["--idempotent"], 0, 2),
            ("POST", "/drop", &["-H", "Idempotency-Key: \"k\""], 4, 1),
            ("POST", "/drop", &["-H", "Idempotency-Key: \"k\"", "--shared-keys"], 0, 2),
            ("PUT", "/drop", &["--no-failover"], 4, 1),
            ("PUT", "/drop", &["--policy", "at-most-once"], 4, 1),
            ("GET", "/503", &["--policy", "at-most-once"], 1, 1),
            ("GET", "/503", &[], 0, 2),
        ] {
            let ran = request(method, path, &urls, &[more, &["--json"]].concat()).await;
            let json = ran.json();
            assert_eq!(ran.code, Some(code), "{method} {path} {more:?}: {json}");
            assert_eq!(json["record"]["attempts"].as_array().map(Vec::len), Some(attempts), "{method} {path} {more:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn the_attempt_has_its_time_and_the_whole_has_its_own() {
    bounded(async {
        let (hanging, other) = (Origin::scripted(|_| Act::Hang).await, Origin::answering("other").await);
        let urls = [&*hanging.url(), &*other.url()];
        let ran = request("GET", "/", &urls, &["--attempt-timeout", "100ms"]).await;
        assert_eq!((ran.code, ran.text()), (Some(0), "other"), "{ran:?}");
        let json = request("GET", "/", &urls, &["--deadline", "100ms", "--json"]).await.json();
        assert_eq!((&json["outcome"], &json["record"]["reason"]), (&"unknown".into(), &"deadline_too_short".into()));
        assert_eq!(other.request_count(), 1);
    })
    .await;
}

#[tokio::test]
async fn redirects_are_followed_as_far_as_was_said() {
    bounded(async {
        let origin = Origin::scripted(|arrival| match arrival.head.target() {
            "/a" => Act::Answer(Answer::status(302, "").header("Location", "/b")),
            _ => Act::Answer(Answer::ok("there")),
        })
        .await;
        assert_eq!(request("GET", "/a", &[&origin.url()], &["--json"]).await.json()["status"], 302);
        assert_eq!(request("GET", "/a", &[&origin.url()], &["-L", "1"]).await.text(), "there");
    })
    .await;
}

#[tokio::test]
async fn regions_fail_over_where_the_discovery_is_named_and_not_elsewhere() {
    bounded(async {
        let mock = LivekitMock::start(3).await;
        let create = async |directives: Value, more: &[&str]| {
            let directives = format!("X-Lk-Mock: {directives}");
            let policy = if more.contains(&"--policy") { &[][..] } else { &["--policy", "regions"] };
            let fixed = ["--data", r#"{"name":"room"}"#, "-H", "Authorization: Bearer t", "--json"];
            let kind = ["-H", "Content-Type: application/json", "-H", &directives];
            let path = "/twirp/livekit.RoomService/CreateRoom";
            request("POST", path, &[&mock.url(0)], &[policy, &fixed[..], &kind[..], more].concat()).await
        };
        let discover = ["--discover", "/settings/regions"];
        let down = json!({"failRegions": [0, 1]});
        let ran = create(down.clone(), &discover).await;
        let json = ran.json();
        assert_eq!((ran.code, &json["headers"]["x-lk-mock-region"]), (Some(0), &"2".into()), "{json}");
        let endpoints: Vec<_> =
            json["record"]["attempts"].as_array().expect("a list").iter().map(|a| &a["endpoint"]).collect();
        assert_eq!(endpoints, [&mock.url(0), &mock.url(1), &mock.url(2)]);
        let ids: Vec<_> =
            mock.all_requests().iter().map(|seen| seen.head.headers["x-livekit-request-id"].clone()).collect();
        assert!(ids.len() == 3 && ids.iter().all(|id| *id == ids[0]), "one id over all attempts: {ids:?}");
        for (more, code, reason, all) in [
            (&[][..], 1, "outside_gate", 4),
            (&[discover[0], discover[1], "--attempt-timeout", "4999ms"], 1, "attempt_too_short", 5),
            (&[discover[0], discover[1], "--attempt-timeout", "5s"], 0, "answered", 8),
        ] {
            let ran = create(down.clone(), more).await;
            assert_eq!((ran.code, &ran.json()["record"]["reason"]), (Some(code), &reason.into()), "{more:?}");
            assert_eq!(mock.all_requests().len(), all, "{more:?}");
        }
        assert_eq!(mock.discoveries().len(), 2);
        // Under another policy the path is asked all the same, and nobody is told of LiveKit.
        let ran = create(json!({"failRegions": [0]}), &[&discover[..], &["--policy", "rotation"]].concat()).await;
        assert_eq!(ran.json()["headers"]["x-lk-mock-region"], "1");
        assert!(mock.requests(1).last().is_some_and(|seen| !seen.head.headers.contains_key("x-livekit-request-id")));
    })
    .await;
}

#[tokio::test]
async fn credentials_are_sent_where_they_belong_and_never_shown() {
    bounded(async {
        let (port, origin) = (DeadPort::new(), Origin::scripted(by_path).await);
        let proxy = HttpProxyNode::start(NodeAct::Auth("user", "secret-proxy"), Directory::new()).await;
        let url = |addr: std::net::SocketAddr| format!("http://user:secret-url@{addr}");
        let proxy = format!("http://user:secret-proxy@{}", proxy.addr());
        for path in ["/", "/404", "/drop"] {
            for more in [&[][..], &["--json"], &["--proxy", &proxy], &["--log-level", "trace"]] {
                let token = ["-H", "X-App-Token: secret-token", "-H", "Cookie: secret-cookie"];
                let endpoints = [&*url(port.addr()), &*url(origin.addr())];
                let ran = request("POST", path, &endpoints, &[&token[..], more].concat()).await;
                let all = format!("{}{}", String::from_utf8_lossy(&ran.stdout), ran.stderr);
                assert!(!all.contains("secret") && !all.contains("dXNlcj"), "{path} {more:?}: {all}");
            }
        }
        let head = &origin.requests()[0].head;
        assert_eq!(head.header("authorization"), Some("Basic dXNlcjpzZWNyZXQtdXJs"));
        assert_eq!(head.header("x-app-token"), Some("secret-token"));
    })
    .await;
}

#[tokio::test]
async fn what_a_server_says_reaches_the_terminal_as_text_only() {
    bounded(async {
        let evil = "HTTP/1.1 502 \x1b[2J\x1b]0;owned\x07 \u{202e}gnp\r\n\r\n";
        let proxy = HttpProxyNode::start(NodeAct::Say(evil.into(), End::Fin), Directory::new()).await;
        let proxy = format!("http://{}", proxy.addr());
        let broken = Origin::scripted(|_| {
            let answer = "HTTP/1.1 200 \x1b[31m\r\nx\x1b: y\r\n\r\n";
            Act::Say(answer.into(), End::Fin)
        })
        .await;
        for more in [&["--proxy", &*proxy][..], &[]] {
            let ran = request("GET", "/", &[&broken.url()], more).await;
            assert!(ran.code != Some(0) && ran.stderr.contains("1. http://"), "{ran:?}");
            let is_raw = |character: char| (character.is_control() && character != '\n') || character == '\u{202e}';
            assert!(!ran.stderr.contains(is_raw), "{more:?}: {:?}", ran.stderr);
        }
    })
    .await;
}
