//! `handover check` as a user runs it.

#[path = "command/run.rs"]
#[allow(dead_code, reason = "each test uses its part")]
mod command;

use command::{handover, run};
use handover_testkit::{Act, Answer, Authority, DeadPort, Origin, bounded};

async fn healthy() -> Origin {
    Origin::answering(r#"{"status":"success"}"#).await
}

#[tokio::test]
async fn the_exit_code_and_the_verdict_say_whether_all_some_or_none_are_good() {
    bounded(async {
        let (one, two) = (healthy().await, healthy().await);
        let dead = DeadPort::new();
        let dead = format!("http://{}", dead.addr());
        for (urls, code, verdict, words) in [
            (vec![one.url(), two.url()], 0, "all_good", "all good: 2 of 2 good"),
            (vec![dead.clone(), one.url()], 1, "some_failed", "some failed: 1 of 2 good"),
            (vec![dead.clone()], 2, "none", "none is good: 0 of 1 good"),
        ] {
            let arguments =
                || ["check", "--expect", "/status=success"].into_iter().chain(urls.iter().map(|url| &**url));
            let shown = run(arguments()).await;
            assert_eq!((shown.code, &*shown.stderr), (Some(code), ""), "{shown:?}");
            assert_eq!(shown.text().lines().last(), Some(words));
            let json = run(arguments().chain(["--json"])).await;
            assert_eq!((json.code, &json.json()["verdict"]), (Some(code), &verdict.into()));
        }
        assert_eq!(one.requests()[0].head.target(), "/check");
    })
    .await;
}

#[tokio::test]
async fn the_object_has_every_endpoint_in_order_with_the_times_of_its_steps() {
    bounded(async {
        let (dead, good) = (DeadPort::new(), healthy().await);
        let busy = Origin::scripted(|_| Act::Answer(Answer::status(503, "busy"))).await;
        let refused = format!("http://user:secret@{}/api/", dead.addr());
        let ran = run(["check", &refused, &busy.url(), &good.url(), "--json"]).await;
        let json = ran.json();
        let endpoints = json["endpoints"].as_array().expect("a list");
        let field = |at: usize, name: &str| endpoints[at][name].clone();
        assert_eq!(field(0, "endpoint"), format!("http://{}/api", dead.addr()));
        assert_eq!([field(0, "fault"), field(0, "stage")], ["refused", "dial"]);
        assert_eq!([field(1, "fault"), field(1, "stage")], ["status(503)", "body"]);
        assert_eq!([field(2, "fault"), field(2, "message")], [serde_json::Value::Null, serde_json::Value::Null]);
        for (at, good, status, is_connected) in
            [(0, false, None, false), (1, false, Some(503), true), (2, true, Some(200), true)]
        {
            assert_eq!((field(at, "good").as_bool(), field(at, "status").as_u64()), (Some(good), status));
            for (name, is_there) in [
                ("dns_ms", true),
                ("tcp_ms", is_connected),
                ("tls_ms", false),
                ("first_byte_ms", is_connected),
                ("total_ms", true),
            ] {
                assert_eq!(field(at, name).is_number(), is_there, "{at} {name}: {json}");
            }
        }
        assert!(!format!("{ran:?}").contains("secret"));
    })
    .await;
}

#[tokio::test]
async fn an_expectation_that_does_not_hold_is_told() {
    bounded(async {
        let origin = Origin::answering(r#"{"a":{"b":"no\u001b[2J"}}"#).await;
        let ran = run(["check", &origin.url(), "--path", "/health", "--expect", "/a/b=yes"]).await;
        assert_eq!(ran.code, Some(2));
        assert!(ran.text().contains(r#""/a/b" is "no"#) && ran.text().contains(r#"not "yes""#), "{ran:?}");
        assert!(!ran.text().contains('\x1b'), "{ran:?}");
        assert_eq!(origin.requests()[0].head.target(), "/health");
    })
    .await;
}

#[tokio::test]
async fn certificates_come_from_the_flag_or_the_variable() {
    bounded(async {
        let authority = Authority::new();
        let origin = Origin::builder().tls(authority.acceptor(&["127.0.0.1"], &["http/1.1"])).start().await;
        let url = format!("https://{}", origin.addr());
        let file = authority.file();
        let file = file.to_str().expect("UTF-8");
        let json = run(["check", &url, "--cacert", file, "--json"]).await.json();
        assert!(json["verdict"] == "all_good" && json["endpoints"][0]["tls_ms"].is_number(), "{json}");
        let child = handover(["check", &url]).env("SSL_CERT_FILE", file).spawn().expect("it was built");
        assert_eq!(command::ended(child).await.code, Some(0));
        let other = Authority::new();
        let child =
            handover(["check", &url, "--json"]).env("SSL_CERT_FILE", other.file()).spawn().expect("it was built");
        let json = command::ended(child).await.json();
        assert_eq!([&json["endpoints"][0]["fault"], &json["endpoints"][0]["stage"]], ["tls", "tls"]);
    })
    .await;
}

#[tokio::test]
async fn all_that_is_wrong_is_told_at_once_and_nothing_is_asked() {
    bounded(async {
        let origin = healthy().await;
        let arguments =
            ["check", &origin.url(), "kv-1.example", "--timeout", "5", "--expect", "status=ok", "-H", "secret"];
        let ran = run(arguments).await;
        assert_eq!((ran.code, ran.stdout.len(), origin.accepted()), (Some(2), 0, 0));
        for words in ["kv-1.example", "--timeout \"5\"", "--expect \"status=ok\"", "-H number 1", "nothing was sent"] {
            assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
        }
        assert!(!ran.stderr.contains("secret"), "{}", ran.stderr);
        let json = run(arguments.into_iter().chain(["--log-format", "json"])).await;
        assert!(json.stderr.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
        assert_eq!(run(["check"]).await.code, Some(2));
    })
    .await;
}
