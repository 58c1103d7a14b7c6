//! Bodies of any size fail over without being kept: what was not sent is still the client's.

use std::time::Duration;

use handover_testkit::{
    Act, Answer, Client, ConnectionSeen, Continue, DOORS, DeadPort, Directory, Door, Framing, Gate, GatewayBuilder,
    GatewayProcess, HttpProxyNode, NodeAct, Origin, Upload, bounded, idle_memory, peak_memory, reset_peak_memory,
    within,
};

/// How much memory above idle a transfer may cost the gateway, whatever its size.
const MEMORY_MAX: u64 = 16 * 1024 * 1024;

/// The body's size: sixteen times what a gateway that keeps it would be allowed.
const BODY_BYTES: u64 = 256 * 1024 * 1024;

/// How long the large transfers may take on a machine shared with the rest of the suite.
const LARGE_DEADLINE: Duration = Duration::from_secs(300);

/// How long is watched for what must not come before its cause.
const SILENCE: Duration = Duration::from_millis(300);

fn gateway() -> GatewayBuilder {
    GatewayProcess::of(env!("CARGO_BIN_EXE_handover")).ordered()
}

async fn large_body_fails_over(door: Door, framing: Framing) {
    let (a, b) = (DeadPort::new(), DeadPort::new());
    let origin = Origin::answering("stored").await;
    let live = HttpProxyNode::relay(Directory::new()).await;
    let gateway = gateway().node(&format!("http://{}#a", a.addr())).node(&format!("socks5://{}#b", b.addr()));
    let gateway = gateway.node(&live.tagged("live")).start().await;
    let target = origin.addr().to_string();
    let idle = idle_memory(gateway.pid());
    reset_peak_memory(gateway.pid());

    let mut client = door.enter(gateway.addr(), &target).await.expect("the third node lets it in");
    let head = door.lines(gateway.addr(), "POST", &target, "/");
    let upload = Upload { head, bytes: BODY_BYTES, framing, expect: false };
    let answer = upload.send(&mut client).await.expect("an answer");
    assert_eq!((answer.status(), answer.text().as_str()), (200, "stored"), "{door:?} {framing:?}");

    let cost = peak_memory(gateway.pid()).saturating_sub(idle);
    assert!(cost < MEMORY_MAX, "{door:?} {framing:?}: {cost} bytes above idle");
    let seen = &origin.requests()[0];
    assert_eq!((seen.body_bytes, seen.patterned, seen.complete), (BODY_BYTES, true, true), "{door:?} {framing:?}");
    drop(client);
    assert_eq!(gateway.only_row().await.attempts().len(), 3, "{door:?} {framing:?}");
}

#[tokio::test]
async fn large_body_is_not_buffered() {
    for framing in [Framing::Length, Framing::Chunked] {
        within(LARGE_DEADLINE, "a large body", large_body_fails_over(Door::Forward, framing)).await;
    }
}

#[tokio::test]
async fn large_body_through_a_tunnel_is_not_buffered() {
    for framing in [Framing::Length, Framing::Chunked] {
        within(LARGE_DEADLINE, "a large body", large_body_fails_over(Door::Connect, framing)).await;
    }
}

#[tokio::test]
async fn large_body_in_reverse_form_is_not_buffered() {
    for framing in [Framing::Length, Framing::Chunked] {
        within(LARGE_DEADLINE, "a large body", large_body_fails_over(Door::Reverse, framing)).await;
    }
}

#[tokio::test]
async fn a_large_answer_to_a_slow_client_is_not_buffered() {
    for door in DOORS {
        within(LARGE_DEADLINE, "a large answer", async {
            let origin = Origin::scripted(|_| {
                Act::Answer(Answer::ok("").body(handover_testkit::Body::Pattern(64 * 1024 * 1024)))
            })
            .await;
            let gateway = gateway().node("direct").start().await;
            let target = origin.addr().to_string();
            let mut client = door.enter(gateway.addr(), &target).await.expect("direct lets it in");
            let idle = idle_memory(gateway.pid());
            reset_peak_memory(gateway.pid());
            client.send(door.lines(gateway.addr(), "GET", &target, "/") + "\r\n").await.expect("sent");
            // The client reads the head and then nothing: the gateway has to stop reading too, and not to collect.
            assert_eq!(client.read_head().await.expect("a head").status(), 200);
            tokio::time::sleep(SILENCE).await;
            let body = client.read_exactly(64 * 1024 * 1024).await.expect("the body");
            assert!(handover_testkit::is_pattern(0, &body), "{door:?}");
            let cost = peak_memory(gateway.pid()).saturating_sub(idle);
            assert!(cost < MEMORY_MAX, "{door:?}: {cost} bytes above idle");
        })
        .await;
    }
}

#[tokio::test]
async fn expect_100_is_answered_only_once_a_live_node_has_the_request() {
    for door in [Door::Forward, Door::Reverse] {
        for framing in [Framing::Length, Framing::Chunked] {
            bounded(async {
                let (dead, gate) = (DeadPort::new(), Gate::new());
                let origin = Origin::answering("stored").await;
                let live = HttpProxyNode::start(NodeAct::RelayOnce(gate.clone()), Directory::new()).await;
                let gateway = gateway().node(&format!("http://{}#dead", dead.addr())).node(&live.tagged("live"));
                let gateway = gateway.platform("CONNECT_TIMEOUT", "10m").start().await;
                let target = origin.addr().to_string();
                let head = door.lines(gateway.addr(), "POST", &target, "/");
                let upload = Upload { head, bytes: 1_000_000, framing, expect: true };
                let mut client = Client::connect(gateway.addr()).await;
                client.send(upload.head_bytes()).await.expect("sent");
                live.ledger().until(|connections| connections.iter().any(|c| !c.requests.is_empty())).await;
                client.stays_silent(SILENCE).await;
                gate.open();
                assert_eq!(client.read_head().await.expect("a head").status(), 100, "{door:?} {framing:?}");
                // The request is there although nothing of its body was sent yet.
                origin.ledger().until(|connections| connections.iter().any(|c| !c.requests.is_empty())).await;
                upload.send_body(&mut client).await.expect("sent");
                let answer = client.read_response("POST").await.expect("an answer");
                assert_eq!(answer.text(), "stored", "{door:?} {framing:?}");
                assert_eq!(origin.requests()[0].body_bytes, 1_000_000, "{door:?} {framing:?}");
            })
            .await;
        }
    }
}

#[tokio::test]
async fn expect_100_without_a_live_node_gets_the_error_and_no_100() {
    for door in [Door::Forward, Door::Reverse] {
        bounded(async {
            let dead = DeadPort::new();
            let origin = Origin::builder().continues(Continue::Never).start().await;
            let gateway = gateway().node(&format!("http://{}#dead", dead.addr())).start().await;
            let head = door.lines(gateway.addr(), "POST", &origin.addr().to_string(), "/");
            let upload = Upload { head, bytes: 1000, framing: Framing::Length, expect: true };
            let mut client = Client::connect(gateway.addr()).await;
            let answer = client.request(upload.head_bytes()).await.expect("an answer");
            assert_eq!((answer.status(), answer.informational.len()), (502, 0), "{door:?}");
            assert_eq!(answer.code(), "UPSTREAM_CONNECT_FAILED", "{door:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn an_answer_before_the_bodys_end_reaches_the_client() {
    for door in DOORS {
        bounded(async {
            let origin = Origin::scripted(|_| Act::AnswerEarly(Answer::status(413, "too much"))).await;
            let gateway = gateway().node("direct").start().await;
            let target = origin.addr().to_string();
            let mut client = door.enter(gateway.addr(), &target).await.expect("direct lets it in");
            let lines = door.lines(gateway.addr(), "POST", &target, "/");
            client.send(format!("{lines}Content-Length: 1000000\r\n\r\nonly the beginning")).await.expect("sent");
            let answer = client.read_response("POST").await.expect("an answer");
            assert_eq!((answer.status(), answer.text().as_str()), (413, "too much"), "{door:?}");
            assert_eq!(origin.request_count(), 1, "{door:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn an_upload_that_the_client_breaks_off_never_arrives_as_a_whole_one() {
    for door in DOORS {
        for framing in [Framing::Length, Framing::Chunked] {
            bounded(async {
                let origin = Origin::answering("never").await;
                let gateway = gateway().node("direct").start().await;
                let target = origin.addr().to_string();
                let head = door.lines(gateway.addr(), "POST", &target, "/");
                let half = Upload { head, bytes: 10, framing, expect: false };
                let piece = if framing == Framing::Chunked { "5\r\nhello\r\n" } else { "hello" };
                let mut client = door.enter(gateway.addr(), &target).await.expect("direct lets it in");
                client.send(half.head_bytes() + piece).await.expect("sent");
                let begun = |c: &ConnectionSeen| c.requests.iter().any(|r| r.body_bytes == 5);
                origin.ledger().until(|connections| connections.iter().any(begun)).await;
                drop(client);
                origin.ledger().until(|connections| connections.iter().all(|c| c.ended)).await;
                assert!(!origin.requests()[0].complete, "{door:?} {framing:?}");
                let attempts = gateway.only_row().await.attempts();
                assert_eq!(attempts.len(), 1, "{door:?} {framing:?}: {attempts:?}");
                if door != Door::Connect {
                    assert_eq!(attempts[0].text("fault"), "cancelled", "{door:?} {framing:?}: {attempts:?}");
                }
            })
            .await;
        }
    }
}
