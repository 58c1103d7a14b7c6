//! Nothing of a request is written after it was given up, though hyper and h2 by themselves would flush it.

use std::time::Duration;

use handover_client::{Fate, Http2, Sent};
use handover_testkit::{Gate, RawAct, RawH2, bounded, frame};
use tokio::io::AsyncReadExt;
use tokio::net::TcpSocket;

/// Longer than loopback's buffers hold.
const BODY_BYTES: usize = 16 << 20;

#[tokio::test]
async fn not_one_byte_of_an_http1_request_is_written_after_it_was_given_up() {
    bounded(async {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        socket.bind("127.0.0.1:0".parse().expect("valid")).expect("a port is free");
        let listener = socket.listen(8).expect("bound");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let client = super::rotation([url]).build().expect("valid");
        let request = client.post("/").body(vec![b'x'; BODY_BYTES]).timeout(Duration::from_millis(300));
        let (result, accepted) = tokio::join!(request.send(), listener.accept());
        let (mut tcp, _) = accepted.expect("a connection");
        let error = result.expect_err("nobody reads");
        assert!(error.is_timeout() && error.fate() == Fate::Unknown, "{error}");
        let written = error.record().and_then(|record| record.decisive()?.written_bytes()).expect("counted");
        // Whoever gave up has nothing more to say: what arrives is what the kernel had by then, and then the end.
        let mut arrived = Vec::new();
        let _ = tcp.read_to_end(&mut arrived).await;
        assert!(written > 0 && (arrived.len() as u64) <= written, "{} arrived, {written} were written", arrived.len());
        assert!(arrived.len() < BODY_BYTES);
    })
    .await;
}

#[tokio::test]
async fn not_one_frame_of_an_http2_request_is_written_after_it_was_given_up() {
    bounded(async {
        let reads_on = Gate::new();
        // The first request's body fills every buffer, so that the second one's head cannot be written.
        let stop = reads_on.clone();
        let peer = RawH2::builder()
            .receive_buffer(4096)
            .script(move |seen| match seen.kind {
                frame::DATA => vec![RawAct::StopReading(stop.clone())],
                _ => vec![],
            })
            .start()
            .await;
        let client = super::rotation([peer.url()]).http2(Http2::PriorKnowledge).budget(None).build().expect("valid");
        let upload = client.post("/upload").body(vec![b'x'; BODY_BYTES]).timeout(Duration::from_secs(2));
        let upload = tokio::spawn(upload.send());
        peer.until(|peer| peer.frames().iter().any(|frame| frame.kind == frame::DATA)).await;
        let late = client.post("/late").header("x-id", "late").timeout(Duration::from_millis(300)).send().await;
        let error = late.expect_err("it cannot be written");
        let record = error.record().expect("tried");
        assert_eq!(
            (error.fate(), record.attempts().all(|attempt| attempt.sent() == Sent::No)),
            (Fate::NotSent, true),
            "{error}"
        );
        assert!(error.is_timeout(), "{error}");
        reads_on.open();
        let _ = upload.await.expect("no panic");
        drop(client);
        peer.until(|peer| peer.ended(0)).await;
        let heads = peer.frames().iter().filter(|frame| frame.kind == frame::HEADERS).count();
        assert_eq!(heads, 1, "the head of what was given up arrived: {:?}", peer.frames());
    })
    .await;
}
