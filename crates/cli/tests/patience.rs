//! How long the gateway waits for whom: what a client does has limits, how long a response takes has none.

use std::time::Duration;

use handover_testkit::{Act, Answer, Body, Client, DOORS, Door, Gate, GatewayBuilder, GatewayProcess, Origin, bounded};
use rustix::process::Signal;

/// Longer than the limits of these tests and the second that the gateway may be late.
const LONG: Duration = Duration::from_millis(2500);

fn gateway() -> GatewayBuilder {
    let gateway = GatewayProcess::of(env!("CARGO_BIN_EXE_handover")).ordered().node("direct");
    gateway.env("HANDOVER_LIMITS_IDLE_TIMEOUT", "500ms").env("HANDOVER_LIMITS_HEADER_TIMEOUT", "500ms")
}

#[tokio::test]
async fn a_response_may_take_longer_than_a_client_may_be_idle() {
    bounded(async {
        for door in [Door::Forward, Door::Reverse] {
            let (answer, writer) = Answer::stream();
            let answer = std::sync::Mutex::new(Some(answer));
            let script = move |_: handover_testkit::Arrival<'_>| {
                Act::Answer(answer.lock().expect("no panic holds it").take().expect("asked once"))
            };
            let origin = Origin::scripted(script).await;
            let gateway = gateway().start().await;
            let mut client = Client::connect(gateway.addr()).await;
            let lines = door.lines(gateway.addr(), "GET", &origin.addr().to_string(), "/");
            // Behind the request, the beginning of a next one: it must not be answered into the body.
            client.send(format!("{lines}\r\nGET /next HT")).await.expect("sent");
            writer.send("first");
            assert_eq!(client.read_head().await.expect("a head").status(), 200);
            assert_eq!(client.read_chunk().await.expect("a piece"), b"first");
            client.stays_silent(LONG).await;
            writer.send("second");
            assert_eq!(client.read_chunk().await.expect("a piece"), b"second", "{door:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_stops_its_upload_is_told_so_and_no_node_is_blamed() {
    bounded(async {
        for door in [Door::Forward, Door::Reverse] {
            let origin = Origin::answering("never").await;
            let gateway = gateway().platform("RESPONSE_TIMEOUT", "500ms").start().await;
            let lines = door.lines(gateway.addr(), "POST", &origin.addr().to_string(), "/");
            let answer = Client::once(gateway.addr(), format!("{lines}Content-Length: 1000\r\n\r\nabc")).await;
            assert_eq!((answer.status(), answer.code()), (408, "REQUEST_TIMEOUT"), "{door:?}");
            let row = gateway.only_row().await;
            assert_eq!(row.json["net_ok"], true, "{row:?}");
            assert_eq!(row.attempts()[0].text("fault"), "cancelled", "{row:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_malformed_body_is_the_clients_fault() {
    bounded(async {
        for door in [Door::Forward, Door::Reverse] {
            let origin = Origin::answering("never").await;
            let gateway = gateway().start().await;
            let lines = door.lines(gateway.addr(), "POST", &origin.addr().to_string(), "/");
            let request = format!("{lines}Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n");
            let answer = Client::once(gateway.addr(), request).await;
            assert_eq!((answer.status(), answer.code()), (400, "BAD_REQUEST"), "{door:?}");
            let row = gateway.only_row().await;
            assert_eq!((&row.json["net_ok"], row.attempts()[0].text("fault")), (&true.into(), "cancelled"), "{row:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_its_response_is_cut_off() {
    bounded(async {
        let origin = Origin::scripted(|_| Act::Answer(Answer::ok("").body(Body::Pattern(64 << 20)))).await;
        let gateway = gateway().start().await;
        let mut client = Client::connect(gateway.addr()).await;
        let lines = Door::Forward.lines(gateway.addr(), "GET", &origin.addr().to_string(), "/");
        client.send(lines + "\r\n").await.expect("sent");
        let row = gateway.only_row().await;
        assert!(row.attempts()[0].text("message").contains("took nothing of its response"), "{row:?}");
    })
    .await;
}

#[tokio::test]
async fn a_client_that_leaves_is_logged_with_what_was_written_for_it() {
    bounded(async {
        for door in DOORS.into_iter().filter(|door| *door != Door::Connect) {
            let gate = Gate::new();
            let held = gate.clone();
            let origin = Origin::scripted(move |_| Act::Answer(Answer::ok("late").held_by(&held))).await;
            let gateway = gateway().start().await;
            let mut client = Client::connect(gateway.addr()).await;
            let lines = door.lines(gateway.addr(), "POST", &origin.addr().to_string(), "/");
            client.send(format!("{lines}Content-Length: 5\r\n\r\nhello")).await.expect("sent");
            origin
                .ledger()
                .until(|connections| connections.iter().any(|c| c.requests.iter().any(|r| r.complete)))
                .await;
            drop(client);
            let row = gateway.only_row().await;
            let attempt = row.attempts()[0].clone();
            assert_eq!((attempt.text("stage"), attempt.text("fault")), ("await_head", "cancelled"), "{row:?}");
            assert!(attempt.number("written_bytes") > 5 && row.number("egress_bytes") > 5, "{row:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_end_does_not_wait_for_a_request_that_has_not_begun_to_be_one() {
    bounded(async {
        let mut gateway = gateway()
            .env("HANDOVER_LIMITS_HEADER_TIMEOUT", "10m")
            .env("HANDOVER_LIMITS_IDLE_TIMEOUT", "10m")
            .env("HANDOVER_DRAIN_TIMEOUT", "10m")
            .start()
            .await;
        let mut half = Client::connect(gateway.addr()).await;
        half.send("GET / HT").await.expect("sent");
        let _silent = Client::connect(gateway.addr()).await;
        let answer = Client::once(gateway.addr(), "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n").await;
        assert_eq!(answer.status(), 200);
        gateway.signal(Signal::TERM);
        assert_eq!(gateway.ended().await, Some(0));
    })
    .await;
}
