//! When a request may have another node and when not: each row of the lifecycle table on real sockets, through each
//! door, with what every node saw and what the log says of every attempt.

use handover_testkit::{
    Act, Answer, Client, DOORS, DeadPort, Directory, Door, End, GatewayBuilder, GatewayProcess, HttpProxyNode, NodeAct,
    Origin, bounded,
};

fn gateway() -> GatewayBuilder {
    GatewayProcess::of(env!("CARGO_BIN_EXE_handover")).ordered()
}

/// The head of a 200 with ten bytes, and five of them.
const HALF: usize = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n".len() + 5;

fn dead(tag: &str) -> (DeadPort, String) {
    let port = DeadPort::new();
    let url = format!("http://{}#{tag}", port.addr());
    (port, url)
}

#[tokio::test]
async fn connect_dial_failure_is_retried_up_to_max_retries() {
    for door in DOORS {
        bounded(async {
            let origin = Origin::answering("served").await;
            let live = HttpProxyNode::relay(Directory::new()).await;
            let ((_a, a), (_b, b)) = (dead("a"), dead("b"));
            for (max_retries, status) in [(2, 200), (1, 502)] {
                let nodes = gateway().node(&a).node(&b).node(&live.tagged("live"));
                let gateway = nodes.max_retries(max_retries).start().await;
                let answer = door.post(gateway.addr(), origin.addr(), "work").await;
                assert_eq!(answer.status(), status, "{door:?}: {}", answer.text());
                let story = gateway.only_row().await.story();
                assert_eq!(story[0], "a: dial refused sent=no -> try_next(not_sent)", "{door:?}");
                if max_retries == 2 {
                    assert_eq!(story[1], "b: dial refused sent=no -> try_next(not_sent)", "{door:?}");
                    assert_eq!(story[2..], ["live: ok -> done(answered)"], "{door:?}");
                } else {
                    assert_eq!(answer.code(), "UPSTREAM_CONNECT_FAILED", "{door:?}");
                    assert_eq!(story[1..], ["b: dial refused sent=no -> stop(attempts_exhausted)"], "{door:?}");
                }
            }
            assert_eq!((live.accepted(), origin.request_count()), (1, 1), "{door:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn written_request_is_not_retried() {
    for door in [Door::Forward, Door::Reverse] {
        for (how, fault) in [(End::Fin, "closed"), (End::Reset, "reset")] {
            for (method, body, reason) in [("GET", "", "maybe_sent"), ("POST", "work", "body_consumed")] {
                let what = format!("{door:?} {how:?} {method}");
                bounded(async {
                    let origin = Origin::scripted(move |_| Act::EndAfter(u64::MAX, how)).await;
                    let first = HttpProxyNode::relay(Directory::new()).await;
                    let second = HttpProxyNode::relay(Directory::new()).await;
                    let gateway = gateway().node(&first.tagged("a")).node(&second.tagged("b")).start().await;
                    let answer = door.send(gateway.addr(), origin.addr(), method, "", body).await.expect("an answer");
                    assert_eq!((answer.status(), answer.code()), (502, "UPSTREAM_REQUEST_FAILED"), "{what}");
                    let expected = format!("a: await_head {fault} sent=maybe -> stop({reason})");
                    assert_eq!(gateway.only_row().await.story(), [expected], "{what}");
                    assert_eq!((first.accepted(), second.accepted(), origin.request_count()), (1, 0, 1), "{what}");
                })
                .await;
            }
        }
    }
}

#[tokio::test]
async fn a_request_that_fails_inside_a_tunnel_is_not_retried() {
    for how in [End::Fin, End::Reset] {
        bounded(async {
            let origin = Origin::scripted(move |_| Act::EndAfter(u64::MAX, how)).await;
            let first = HttpProxyNode::relay(Directory::new()).await;
            let second = HttpProxyNode::relay(Directory::new()).await;
            let gateway = gateway().node(&first.tagged("a")).node(&second.tagged("b")).start().await;
            let sent = Door::Connect.send(gateway.addr(), origin.addr(), "POST", "", "work").await;
            sent.expect_err("the tunnel ends without an answer");
            assert_eq!(gateway.only_row().await.attempts().len(), 1, "{how:?}");
            assert_eq!((first.accepted(), second.accepted(), origin.request_count()), (1, 0, 1), "{how:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn a_body_that_was_begun_is_not_retried() {
    for door in [Door::Forward, Door::Reverse] {
        bounded(async {
            let origin = Origin::scripted(|_| Act::EndAfter(1000, End::Reset)).await;
            let first = HttpProxyNode::relay(Directory::new()).await;
            let second = HttpProxyNode::relay(Directory::new()).await;
            let gateway = gateway().node(&first.tagged("a")).node(&second.tagged("b")).start().await;
            let answer = door.post(gateway.addr(), origin.addr(), &"x".repeat(1_000_000)).await;
            assert_eq!((answer.status(), answer.code()), (502, "UPSTREAM_REQUEST_FAILED"), "{door:?}");
            let attempts = gateway.only_row().await.attempts();
            assert_eq!(attempts.len(), 1, "{door:?}: {attempts:?}");
            assert_eq!(attempts[0].text("verdict"), "stop", "{door:?}: {attempts:?}");
            assert!(attempts[0].number("written_bytes") >= 1000, "{door:?}: {attempts:?}");
            assert_eq!((second.accepted(), origin.request_count()), (0, 1), "{door:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn copy_failure_is_not_retried() {
    for door in DOORS {
        for how in [End::Fin, End::Reset] {
            bounded(async {
                let origin =
                    Origin::scripted(move |_| Act::Answer(Answer::ok("0123456789").cut_after(HALF, how))).await;
                let first = HttpProxyNode::relay(Directory::new()).await;
                let second = HttpProxyNode::relay(Directory::new()).await;
                let gateway = gateway().node(&first.tagged("a")).node(&second.tagged("b")).start().await;
                // A reset may overtake the head inside the gateway; with a FIN all that was sent arrives.
                let answer = door.send(gateway.addr(), origin.addr(), "GET", "", "").await;
                if how == End::Fin {
                    let answer = answer.expect("the head came before the end");
                    assert_eq!((answer.status(), answer.complete), (200, false), "{door:?}");
                    assert_eq!(answer.text(), "01234", "{door:?}");
                }
                assert_eq!(gateway.only_row().await.attempts().len(), 1, "{door:?} {how:?}");
                assert_eq!((first.accepted(), second.accepted(), origin.request_count()), (1, 0, 1), "{door:?}");
            })
            .await;
        }
    }
}

#[tokio::test]
async fn a_cut_answer_is_logged_as_a_failure_of_the_body() {
    bounded(async {
        let origin = Origin::scripted(|_| Act::Answer(Answer::ok("0123456789").cut_after(HALF, End::Fin))).await;
        let gateway = gateway().node("direct").start().await;
        Door::Forward.get(gateway.addr(), origin.addr()).await;
        let row = gateway.only_row().await;
        assert_eq!(row.json["net_ok"], false, "{row:?}");
        assert_eq!((row.attempts()[0].text("stage"), row.number("http_status")), ("body", 200), "{row:?}");
    })
    .await;
}

#[tokio::test]
async fn max_retries_zero_skips_the_machinery() {
    for door in DOORS {
        bounded(async {
            let origin = Origin::answering("served").await;
            let live = HttpProxyNode::relay(Directory::new()).await;
            let (_a, a) = dead("a");
            let gateway = gateway().node(&a).node(&live.tagged("live")).max_retries(0).start().await;
            let answer = door.post(gateway.addr(), origin.addr(), "work").await;
            assert_eq!((answer.status(), answer.code()), (502, "UPSTREAM_CONNECT_FAILED"), "{door:?}");
            let expected = "a: dial refused sent=no -> stop(attempts_exhausted)";
            assert_eq!(gateway.only_row().await.story(), [expected], "{door:?}");
            assert_eq!((live.accepted(), origin.accepted()), (0, 0), "{door:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn cancel_no_nodes_auth_and_4xx_5xx_are_not_retried() {
    for door in DOORS {
        bounded(cancelled(door)).await;
        bounded(no_nodes(door)).await;
        bounded(not_let_in(door)).await;
        bounded(answered_with_an_error(door)).await;
    }
}

async fn cancelled(door: Door) {
    let origin = Origin::answering("never").await;
    let silent = HttpProxyNode::start(NodeAct::Hang, Directory::new()).await;
    let live = HttpProxyNode::relay(Directory::new()).await;
    let nodes = gateway().node(&silent.tagged("silent")).node(&live.tagged("live"));
    // Longer than the test: only the client's leaving can end the attempt.
    let gateway = nodes.platform("CONNECT_TIMEOUT", "10m").start().await;
    let mut client = Client::connect(gateway.addr()).await;
    let target = origin.addr().to_string();
    match door {
        Door::Connect => client.send(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n")).await,
        _ => client.send(door.lines(gateway.addr(), "GET", &target, "/") + "\r\n").await,
    }
    .expect("the gateway reads");
    silent.ledger().until(|connections| connections.iter().any(|c| !c.requests.is_empty())).await;
    drop(client);
    let row = gateway.only_row().await;
    assert_eq!(row.story(), ["silent: proxy_handshake cancelled sent=no -> stop(cancelled)"], "{door:?}");
    assert_eq!((silent.accepted(), live.accepted()), (1, 0), "{door:?}");
}

async fn no_nodes(door: Door) {
    let origin = Origin::answering("never").await;
    let gateway = gateway().node("direct").platform("TAG_FILTERS", "^nothing$").start().await;
    let answer = door.get(gateway.addr(), origin.addr()).await;
    assert_eq!((answer.status(), answer.code()), (503, "NO_AVAILABLE_NODES"), "{door:?}");
    assert_eq!(origin.accepted(), 0, "{door:?}");
}

async fn not_let_in(door: Door) {
    let origin = Origin::answering("never").await;
    let (first, second) = (HttpProxyNode::relay(Directory::new()).await, HttpProxyNode::relay(Directory::new()).await);
    let nodes = gateway().node(&first.tagged("a")).node(&second.tagged("b"));
    let gateway = nodes.token("right").start().await;
    let answer = door.get(gateway.addr(), origin.addr()).await;
    let expected = if door == Door::Reverse { (403, "AUTH_FAILED") } else { (407, "AUTH_REQUIRED") };
    assert_eq!((answer.status(), answer.code()), expected, "{door:?}");
    assert_eq!((first.accepted(), second.accepted(), origin.accepted()), (0, 0, 0), "{door:?}");
}

async fn answered_with_an_error(door: Door) {
    const STATUSES: [u16; 11] = [400, 401, 403, 404, 407, 408, 429, 500, 502, 503, 504];
    let origin = Origin::scripted(|arrival| {
        let status = arrival.head.header("x-status").and_then(|s| s.parse().ok()).expect("the test sends it");
        Act::Answer(Answer::status(status, "the origin's own"))
    })
    .await;
    let (first, second) = (HttpProxyNode::relay(Directory::new()).await, HttpProxyNode::relay(Directory::new()).await);
    let gateway = gateway().node(&first.tagged("a")).node(&second.tagged("b")).start().await;
    for (n, status) in STATUSES.into_iter().enumerate() {
        let header = format!("X-Status: {status}\r\n");
        let answer = door.send(gateway.addr(), origin.addr(), "GET", &header, "").await.expect("an answer");
        assert_eq!((answer.status(), answer.text().as_str()), (status, "the origin's own"), "{door:?}");
        assert_eq!(answer.code(), "", "{door:?} {status}: the answer is not the gateway's");
        assert_eq!(origin.request_count(), n + 1, "{door:?} {status}");
    }
    assert_eq!(second.accepted(), 0, "{door:?}");
    let rows = gateway.rows(|rows| rows.len() == STATUSES.len()).await;
    assert!(rows.iter().all(|row| row.story() == ["a: ok -> done(answered)"]), "{door:?} {rows:#?}");
}
