//! The connection test on real sockets: what is good, what each step's time is, and what is said of what is not good.

use std::time::Duration;

use handover_client::{Check, CheckVerdict, CheckedEndpoint, Client, ClientBuilder, Fault, Stage};
use handover_testkit::{
    Act, Answer, Authority, BlackholePort, DeadPort, Directory, End, HttpProxyNode, NodeAct, Origin, bounded,
};

fn client<E: AsRef<str>>(endpoints: impl IntoIterator<Item = E>) -> ClientBuilder {
    Client::builder().endpoints(endpoints).no_proxy()
}

fn health() -> Check {
    Check::get("/check").expect("/status", "success")
}

async fn healthy() -> Origin {
    Origin::answering(r#"{"status":"success"}"#).await
}

#[tokio::test]
async fn endpoints_are_told_in_their_order_whichever_is_over_first() {
    bounded(async {
        let (hole, dead, good) = (BlackholePort::new().await, DeadPort::new(), healthy().await);
        let urls = [format!("http://{}", hole.addr()), format!("http://{}", dead.addr()), good.url() + "/"];
        let mut over = Vec::new();
        let check = health().timeout(Duration::from_millis(400));
        let client = client(&urls).build().expect("valid");
        let report = client.check(&check, |endpoint| over.push(endpoint.endpoint.clone())).await.expect("a path");
        assert_eq!(report.verdict(), CheckVerdict::SomeFailed);
        let [silent, refused, answered] = &report.endpoints[..] else { panic!("{report:?}") };
        assert_eq!(
            [&silent.endpoint, &refused.endpoint, &(answered.endpoint.clone() + "/")],
            [&urls[0], &urls[1], &urls[2]]
        );
        assert_eq!((silent.stage, silent.fault), (Stage::Dial, Some(Fault::Timeout)));
        assert!(silent.total >= Duration::from_millis(400) && silent.tcp.is_none(), "{silent:?}");
        assert_eq!((refused.stage, refused.fault, refused.tcp), (Stage::Dial, Some(Fault::Refused), None));
        assert!(refused.dns.is_some() && refused.message.is_some() && refused.address == Some(dead.addr()));
        assert!(answered.is_good && answered.status == Some(200) && answered.fault.is_none(), "{answered:?}");
        assert_eq!(over.last(), Some(&silent.endpoint), "each is told as soon as it is over: {over:?}");
        assert_eq!(good.requests()[0].head.target(), "/check");
    })
    .await;
}

#[tokio::test]
async fn the_times_are_those_of_the_steps_there_are() {
    bounded(async {
        let authority = Authority::new();
        let tls = Origin::builder().tls(authority.acceptor(&["127.0.0.1"], &["http/1.1"])).start().await;
        let plain = healthy().await;
        let urls = [plain.url(), format!("https://{}", tls.addr())];
        let client = client(&urls).ca_certificate_file(authority.file()).only_these_ca().build().expect("valid");
        let report = client.check(&Check::get("/"), |_| {}).await.expect("a path");
        assert_eq!(report.verdict(), CheckVerdict::AllGood, "{report:?}");
        let [plain, tls] = &report.endpoints[..] else { panic!("{report:?}") };
        assert!(plain.tls.is_none() && tls.tls.is_some() && plain.proxy.is_none(), "{report:?}");
        for CheckedEndpoint { dns, tcp, tls, first_byte, total, .. } in &report.endpoints {
            let steps = [*dns, *tcp, Some(tls.unwrap_or_default()), *first_byte].map(|step| step.expect("measured"));
            assert!(steps.iter().sum::<Duration>() <= *total, "{report:?}");
        }
        assert!(tls.tls > Some(Duration::ZERO) && tls.first_byte > Some(Duration::ZERO), "{tls:?}");
    })
    .await;
}

#[tokio::test]
async fn behind_a_proxy_its_handshake_has_a_time_of_its_own() {
    bounded(async {
        let origin = healthy().await;
        let proxy = HttpProxyNode::start(NodeAct::Relay, Directory::new()).await;
        let client = Client::builder().endpoints([origin.url()]).proxy(&format!("http://{}", proxy.addr()));
        let report = client.build().expect("valid").check(&health(), |_| {}).await.expect("a path");
        let [found] = &report.endpoints[..] else { panic!("{report:?}") };
        assert!(found.is_good && found.proxy.is_some() && found.address == Some(proxy.addr()), "{found:?}");
    })
    .await;
}

#[tokio::test]
async fn what_is_not_good_says_why() {
    bounded(async {
        let origin = Origin::scripted(|arrival| match arrival.head.target() {
            "/503" => Act::Answer(Answer::status(503, "busy")),
            "/302" => Act::Answer(Answer::status(302, "").header("location", "/")),
            "/other" => Act::Answer(Answer::ok(r#"{"status":"degraded"}"#)),
            "/html" => Act::Answer(Answer::ok("<html>")),
            "/cut" => Act::Answer(Answer::ok(r#"{"status":"success"}"#).cut_after(50, End::Fin)),
            "/gone" => Act::EndAfter(0, End::Fin),
            _ => Act::Hang,
        })
        .await;
        let check = |path: &str| {
            let client = client([origin.url()]).build().expect("valid");
            let check = Check::get(path).expect("/status", "success").timeout(Duration::from_millis(500));
            async move { client.check(&check, |_| {}).await.expect("a path").endpoints.remove(0) }
        };
        for (path, status, stage, fault, words) in [
            ("/503", Some(503), Stage::Body, Some(Fault::Status(503)), "503"),
            ("/302", Some(302), Stage::Body, Some(Fault::Status(302)), "not 2xx"),
            ("/other", Some(200), Stage::Body, None, r#""/status" is "degraded", not "success""#),
            ("/html", Some(200), Stage::Body, None, "no JSON"),
            ("/cut", Some(200), Stage::Body, Some(Fault::Closed), "broke off"),
            ("/gone", None, Stage::AwaitHead, Some(Fault::Closed), ""),
            ("/hang", None, Stage::AwaitHead, Some(Fault::Timeout), "in time"),
        ] {
            let found = check(path).await;
            assert!(!found.is_good, "{path}");
            assert_eq!((found.status, found.fault), (status, fault), "{path}: {found:?}");
            assert!(found.message.as_deref().is_some_and(|message| message.contains(words)), "{path}: {found:?}");
            assert!(found.stage == stage || path == "/gone", "{path}: {found:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn nothing_of_a_check_fails_over_or_is_remembered() {
    bounded(async {
        let (dead, good) = (DeadPort::new(), healthy().await);
        let client = client([format!("http://{}", dead.addr()), good.url()]).build().expect("valid");
        let before = client.budget_available();
        let report = client.check(&health(), |_| {}).await.expect("a path");
        assert_eq!(report.verdict(), CheckVerdict::SomeFailed);
        assert_eq!((good.request_count(), client.budget_available()), (1, before));
        assert_eq!(report.to_json()["endpoints"][1]["good"], true);
        assert!(client.check(&Check::get("http://elsewhere/"), |_| {}).await.is_err_and(|error| error.is_builder()));
    })
    .await;
}
