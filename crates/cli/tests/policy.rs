//! Policies that allow more than what is provably unsent, and the bounds on them; and what the log keeps of it all.

use handover_testkit::{
    Act, Answer, Client, DOORS, DeadPort, Directory, Door, End, GatewayBuilder, GatewayProcess, HttpProxyNode, Origin,
    Response, bounded,
};

fn gateway() -> GatewayBuilder {
    GatewayProcess::of(env!("CARGO_BIN_EXE_handover")).ordered()
}

/// Two origins, the first of which reads each request whole and does `act`, behind a gateway with this setting.
async fn failing_then_good(key: &str, value: &str, act: fn() -> Act) -> (Origin, Origin, GatewayProcess) {
    let (first, second) = (Origin::scripted(move |_| act()).await, Origin::answering("second").await);
    let origins = gateway().origin(&first.tagged("first")).origin(&second.tagged("second"));
    let gateway = origins.platform(key, value).start().await;
    (first, second, gateway)
}

async fn send(gateway: &GatewayProcess, method: &str, headers: &str, body: &str) -> Response {
    let length = format!("Content-Length: {}\r\n", body.len());
    Client::once(gateway.addr(), format!("{method} / HTTP/1.1\r\nHost: h\r\n{length}{headers}\r\n{body}")).await
}

fn hang_up() -> Act {
    Act::EndAfter(u64::MAX, End::Fin)
}

fn unavailable() -> Act {
    Act::Answer(Answer::status(503, "first"))
}

#[tokio::test]
async fn idempotent_methods_may_be_repeated_where_the_policy_says_so() {
    bounded(async {
        let (first, second, gateway) = failing_then_good("REPLAY", "idempotent", hang_up).await;
        for (n, method) in ["GET", "DELETE", "OPTIONS"].into_iter().enumerate() {
            assert_eq!(send(&gateway, method, "", "").await.text(), "second", "{method}");
            assert_eq!((first.request_count(), second.request_count()), (n + 1, n + 1), "{method}");
        }
        for method in ["POST", "PATCH"] {
            let answer = send(&gateway, method, "", "").await;
            assert_eq!((answer.status(), answer.code()), (502, "UPSTREAM_REQUEST_FAILED"), "{method}");
        }
        assert_eq!((first.request_count(), second.request_count()), (5, 3));
        let rows = gateway.rows(|rows| rows.len() == 5).await;
        let story =
            |method: &str| rows.iter().find(|row| row.text("http_method") == method).expect("each has its row").story();
        let repeated = "first: await_head closed sent=maybe -> try_next(idempotent_method)";
        assert_eq!(story("GET"), [repeated, "second: ok -> done(answered)"]);
        assert_eq!(story("POST"), ["first: await_head closed sent=maybe -> stop(not_idempotent)"]);
    })
    .await;
}

#[tokio::test]
async fn a_body_that_was_read_is_never_repeated_whatever_the_policy_says() {
    bounded(async {
        for replay in ["idempotent", "always"] {
            let (first, second, gateway) = failing_then_good("REPLAY", replay, hang_up).await;
            let answer = send(&gateway, "PUT", "", "a body").await;
            assert_eq!((answer.status(), answer.code()), (502, "UPSTREAM_REQUEST_FAILED"), "{replay}");
            let story = gateway.only_row().await.story();
            assert_eq!(story, ["first: await_head closed sent=maybe -> stop(body_consumed)"], "{replay}");
            assert_eq!((first.request_count(), second.request_count()), (1, 0), "{replay}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_status_goes_on_to_another_node_only_where_the_policy_says_so() {
    bounded(async {
        let config = "[[platform]]\nname = \"Default\"\nreplay = \"idempotent\"\nretry_statuses = [503]\n\
                      tag_filters = [\"-\"]\norder = \"priority\"\n[[route]]\npath = \"/\"\nplatform = \"Default\"\n";
        let (first, second) = (Origin::scripted(|_| unavailable()).await, Origin::answering("second").await);
        let origins = gateway().config(config).origin(&first.tagged("a-1")).origin(&second.tagged("b-2"));
        let gateway = origins.start().await;
        assert_eq!(send(&gateway, "GET", "", "").await.text(), "second");
        assert_eq!(send(&gateway, "POST", "", "").await.text(), "first");
        assert_eq!((first.request_count(), second.request_count()), (2, 1));

        let (first, second, gateway) = failing_then_good("REPLAY", "idempotent", unavailable).await;
        assert_eq!(send(&gateway, "GET", "", "").await.text(), "first", "no status is repeated unless it is named");
        assert_eq!((first.request_count(), second.request_count()), (1, 0));
    })
    .await;
}

#[tokio::test]
async fn the_last_answer_is_passed_on_when_every_node_gave_a_status_to_repeat() {
    bounded(async {
        let script =
            |name: &'static str| move |_: handover_testkit::Arrival<'_>| Act::Answer(Answer::status(503, name));
        let (first, second) = (Origin::scripted(script("one")).await, Origin::scripted(script("two")).await);
        let origins = gateway().origin(&first.tagged("first")).origin(&second.tagged("second"));
        let policy = origins.platform("REPLAY", "idempotent").platform("RETRY_STATUSES", "503");
        let gateway = policy.start().await;
        let answer = send(&gateway, "GET", "", "").await;
        assert_eq!((answer.status(), answer.text().as_str(), answer.code()), (503, "two", ""));
        assert_eq!((first.request_count(), second.request_count()), (1, 1));
    })
    .await;
}

/// Two origins of which nothing but the second attempt can be tried again, behind a gateway that repeats GET.
fn repeating(first: &Origin, second: &str) -> GatewayBuilder {
    let origins = gateway().origin(&first.tagged("first")).origin(second);
    origins.platform("REPLAY", "idempotent").platform("RETRY_STATUSES", "503")
}

#[tokio::test]
async fn an_answer_is_not_lost_to_a_node_that_refused_behind_it() {
    bounded(async {
        let (first, dead) = (Origin::scripted(|_| unavailable()).await, DeadPort::new());
        let gateway = repeating(&first, &format!("http://{}#dead", dead.addr())).start().await;
        let answer = send(&gateway, "GET", "", "").await;
        assert_eq!((answer.status(), answer.text().as_str(), answer.code()), (503, "first", ""));
        let row = gateway.only_row().await;
        let refused = "dead: dial refused sent=no -> stop(endpoints_exhausted)";
        assert_eq!(row.story(), ["first: ok -> try_next(idempotent_method)", refused]);
        assert_eq!((row.text("node_tag"), row.number("http_status")), ("first", 503), "{row:#?}");
        assert_eq!((row.json["net_ok"].as_bool(), row.text("handover_error")), (Some(true), ""), "{row:#?}");
        let explained = gateway.run(&["explain", row.text("id")]).await;
        assert_eq!(explained.code, Some(0), "the decisions are taken again: {}", explained.stdout);
    })
    .await;
}

#[tokio::test]
async fn what_may_have_happened_is_not_hidden_by_an_earlier_answer_or_a_later_refusal() {
    bounded(async {
        let (first, second) = (Origin::scripted(|_| unavailable()).await, Origin::scripted(|_| hang_up()).await);
        let gateway = repeating(&first, &second.tagged("second")).start().await;
        let answer = send(&gateway, "GET", "", "").await;
        assert_eq!((answer.status(), answer.code()), (502, "UPSTREAM_REQUEST_FAILED"), "not the 503 of before");
        assert_eq!(gateway.only_row().await.text("node_tag"), "second");

        let (first, dead) = (Origin::scripted(|_| hang_up()).await, DeadPort::new());
        let gateway = repeating(&first, &format!("http://{}#dead", dead.addr())).start().await;
        let answer = send(&gateway, "GET", "", "").await;
        assert_eq!((answer.status(), answer.code()), (502, "UPSTREAM_REQUEST_FAILED"), "not UPSTREAM_CONNECT_FAILED");
        assert_eq!(gateway.only_row().await.text("node_tag"), "first");
    })
    .await;
}

#[tokio::test]
async fn the_deadline_ends_the_attempts() {
    for door in DOORS {
        bounded(async {
            let origin = Origin::answering("never").await;
            let silent = handover_testkit::NodeAct::Hang;
            let nodes = [
                HttpProxyNode::start(silent.clone(), Directory::new()).await,
                HttpProxyNode::start(silent, Directory::new()).await,
            ];
            let gateway = gateway().node(&nodes[0].tagged("a")).node(&nodes[1].tagged("b"));
            let policy = gateway.platform("CONNECT_TIMEOUT", "10m").platform("DEADLINE", "300ms");
            let gateway = policy.start().await;
            let answer = door.get(gateway.addr(), origin.addr()).await;
            assert_eq!((answer.status(), answer.code()), (504, "UPSTREAM_TIMEOUT"), "{door:?}");
            assert_eq!((nodes[0].accepted(), nodes[1].accepted()), (1, 0), "{door:?}");
            let story = gateway.only_row().await.story();
            let expected = "a: proxy_handshake timeout sent=no -> stop(deadline_too_short)";
            assert_eq!(story, [expected], "{door:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn a_row_says_of_every_attempt_where_it_went_how_far_and_why_it_ended() {
    bounded(async {
        let (dead, origin) = (DeadPort::new(), Origin::answering("served").await);
        let live = HttpProxyNode::relay(Directory::new()).await;
        let gateway = gateway().node(&format!("http://{}#a", dead.addr())).node(&live.tagged("live")).start().await;
        let body = "x".repeat(1000);
        assert_eq!(Door::Forward.post(gateway.addr(), origin.addr(), &body).await.text(), "served");
        let row = gateway.only_row().await;
        let expected = [
            ("door", "forward"),
            ("platform_name", "Default"),
            ("client_ip", "127.0.0.1"),
            ("http_method", "POST"),
            ("node_tag", "live"),
            ("handover_error", ""),
        ];
        for (column, value) in expected {
            assert_eq!(row.text(column), value, "{column}: {row:#?}");
        }
        assert_eq!((row.number("http_status"), row.number("retry_attempts")), (200, 1), "{row:#?}");
        assert_eq!(row.json["net_ok"], true, "{row:#?}");
        assert!(row.text("target_url").contains(&origin.addr().to_string()), "{row:#?}");
        assert!(row.number("egress_bytes") >= 1000 && row.number("ingress_bytes") >= 6, "{row:#?}");

        let attempts = row.attempts();
        assert_eq!(attempts[0].text("address"), dead.addr().to_string(), "{row:#?}");
        assert_eq!((attempts[0].text("stage"), attempts[0].text("errno")), ("dial", "ECONNREFUSED"), "{row:#?}");
        assert_eq!(attempts[0].number("written_bytes"), 0, "{row:#?}");
        assert_eq!(attempts[1].text("address"), live.addr().to_string(), "{row:#?}");
        assert!(attempts[1].number("written_bytes") > 1000, "{row:#?}");
        assert!(attempts[1].number("started_ns") > 0 && attempts[1].number("duration_ns") > 0, "{row:#?}");

        let details = row.json["retry_details"].as_array().expect("an array");
        assert_eq!(details.len(), 1, "the failed attempt only: {row:#?}");
        assert_eq!((&details[0]["node_tag"], &details[0]["err_kind"]), (&"a".into(), &"refused".into()));
    })
    .await;
}

#[tokio::test]
async fn a_reused_connection_is_called_reused() {
    bounded(async {
        let origin = Origin::answering("served").await;
        let gateway = gateway().origin(&origin.tagged("a")).env("HANDOVER_WORKERS", "1").start().await;
        for method in ["GET", "DELETE"] {
            assert_eq!(send(&gateway, method, "", "").await.text(), "served");
        }
        let rows = gateway.rows(|rows| rows.len() == 2).await;
        for (method, reused) in [("GET", false), ("DELETE", true)] {
            let row = rows.iter().find(|row| row.text("http_method") == method).expect("each has its row");
            assert_eq!(row.attempts()[0].json["reused"].as_bool().unwrap_or_default(), reused, "{method}: {row:#?}");
        }
        assert_eq!(origin.accepted(), 1);
    })
    .await;
}
