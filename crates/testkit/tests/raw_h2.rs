//! The raw HTTP/2 server records every frame and misbehaves as told, seen from a client that keeps the protocol.

use std::io::ErrorKind;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Error, Reason};
use handover_testkit::{Authority, End, Gate, RawAct, RawH2, bounded, frame, within};
use http::Request;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

struct Client {
    send: SendRequest<Bytes>,
    over: JoinHandle<Result<(), Error>>,
}

impl Client {
    async fn connect(server: &RawH2) -> Self {
        Self::over(TcpStream::connect(server.addr()).await.expect("it listens")).await
    }

    async fn over(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let (send, connection) = h2::client::handshake(io).await.expect("the client's half needs no answer");
        Self { send, over: tokio::spawn(connection) }
    }

    async fn post(&self, body: &'static [u8]) -> ResponseFuture {
        let request = Request::post("http://h/p").body(()).expect("the request is valid");
        let mut ready = self.send.clone().ready().await.expect("the connection stands");
        let (response, mut stream) = ready.send_request(request, body.is_empty()).expect("the connection stands");
        if !body.is_empty() {
            stream.send_data(Bytes::from_static(body), true).expect("the stream is open");
        }
        response
    }
}

#[tokio::test]
async fn every_frame_of_a_request_is_recorded_with_its_stream_length_and_end() {
    bounded(async {
        let server = RawH2::builder().start().await;
        let client = Client::connect(&server).await;
        assert_eq!(client.post(b"abc").await.await.unwrap().status(), 200);
        assert_eq!(client.post(b"").await.await.unwrap().status(), 200);
        let of = |stream| server.of_stream(0, stream).iter().map(|f| (f.kind, f.ends_request())).collect::<Vec<_>>();
        assert_eq!(of(1), [(frame::HEADERS, false), (frame::DATA, true)]);
        assert_eq!(of(3), [(frame::HEADERS, true)]);
        assert_eq!((server.of_stream(0, 1)[1].length, server.whole_requests(), server.accepted()), (3, 2, 1));
        let numbers: Vec<usize> = server.frames().iter().map(|seen| seen.number).collect();
        assert_eq!(numbers, (0..numbers.len()).collect::<Vec<_>>());
    })
    .await;
}

#[tokio::test]
async fn goaway_names_any_last_stream_and_only_those_above_it_learn_of_it() {
    bounded(async {
        let server = RawH2::scripted(|_| Vec::new()).await;
        let client = Client::connect(&server).await;
        let (first, second) = (client.post(b"").await, client.post(b"").await);
        server.until(|server| server.whole_requests() == 2).await;
        server.perform(0, [RawAct::Write(frame::goaway(1, Reason::NO_ERROR))]);
        let above = second.await.unwrap_err();
        assert!(above.is_go_away() && above.is_remote() && above.reason() == Some(Reason::NO_ERROR), "{above:?}");
        server.perform(0, [RawAct::Write(frame::answer_with(1, b"late"))]);
        let mut answer = first.await.unwrap();
        assert_eq!(answer.body_mut().data().await.unwrap().unwrap(), "late");
        client.over.await.unwrap().expect("GOAWAY with NO_ERROR is a clean end");
    })
    .await;
}

#[tokio::test]
async fn a_chosen_stream_is_refused_and_the_others_are_answered() {
    bounded(async {
        let server = RawH2::scripted(|seen| match (seen.ends_request(), seen.stream) {
            (true, 3) => vec![RawAct::Write(frame::rst_stream(3, Reason::REFUSED_STREAM))],
            (true, stream) => vec![RawAct::Write(frame::answer(stream))],
            _ => Vec::new(),
        })
        .await;
        let client = Client::connect(&server).await;
        assert!(client.post(b"").await.await.is_ok());
        let refused = client.post(b"").await.await.unwrap_err();
        assert!(refused.is_reset() && refused.is_remote() && refused.reason() == Some(Reason::REFUSED_STREAM));
        assert!(client.post(b"").await.await.is_ok());
    })
    .await;
}

#[tokio::test]
async fn goaway_of_stream_zero_then_the_end_comes_at_the_frame_the_script_says() {
    bounded(async {
        for how in [End::Fin, End::Reset] {
            let server = RawH2::scripted(move |seen| match seen.ends_request() {
                true => vec![RawAct::Write(frame::goaway(0, Reason::NO_ERROR)), RawAct::End(how)],
                false => Vec::new(),
            })
            .await;
            let mut tcp = TcpStream::connect(server.addr()).await.unwrap();
            tcp.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
            tcp.write_all(&frame::frame(frame::HEADERS, frame::END_STREAM, 1, &[])).await.unwrap();
            let mut read = Vec::new();
            let end = tcp.read_to_end(&mut read).await;
            match how {
                End::Fin => assert!(end.is_ok() && read.ends_with(&frame::goaway(0, Reason::NO_ERROR))),
                End::Reset => assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset),
            }
            drop(tcp);
            server.until(|server| server.ended(0)).await;
            assert_eq!(server.frames().len(), 1);
        }
    })
    .await;
}

/// Far above what both socket buffers of a connection hold, once the receiver's is small.
const TOO_MUCH: usize = 16 * 1024 * 1024;

#[tokio::test]
async fn a_server_that_does_not_read_blocks_the_client_until_its_gate_opens() {
    bounded(async {
        static BODY: [u8; TOO_MUCH] = [0; TOO_MUCH];
        let gate = Gate::new();
        let server = RawH2::builder().unread_until(&gate).receive_buffer(4096).start().await;
        let mut tcp = TcpStream::connect(server.addr()).await.unwrap();
        let blocked = tokio::time::timeout(Duration::from_millis(300), tcp.write_all(&BODY)).await;
        assert!(blocked.is_err() && server.frames().is_empty());
        drop(tcp);
        let client = Client::connect(&server).await;
        let large = client.post(&BODY).await;
        gate.open();
        assert_eq!(within(Duration::from_secs(30), "the answer", large).await.unwrap().status(), 200);
        let data = server.of_stream(1, 1).iter().filter(|f| f.kind == frame::DATA).map(|f| f.length).sum::<usize>();
        assert_eq!(data, TOO_MUCH);
    })
    .await;
}

#[tokio::test]
async fn a_script_stops_the_reading_in_the_middle_and_nothing_is_lost() {
    bounded(async {
        let gate = Gate::new();
        let script_gate = gate.clone();
        let server = RawH2::scripted(move |seen| match (seen.ends_request(), seen.stream) {
            (true, 1) => vec![RawAct::Write(frame::answer(1)), RawAct::StopReading(script_gate.clone())],
            (true, stream) => vec![RawAct::Write(frame::answer(stream))],
            _ => Vec::new(),
        })
        .await;
        let client = Client::connect(&server).await;
        client.post(b"").await.await.unwrap();
        let before = server.frames().len();
        let mut second = client.post(b"abc").await;
        assert!(tokio::time::timeout(Duration::from_millis(200), &mut second).await.is_err());
        assert_eq!((server.frames().len(), server.of_stream(0, 3).len()), (before, 0));
        gate.open();
        assert_eq!(second.await.unwrap().status(), 200);
        assert_eq!(server.of_stream(0, 3).len(), 2);
    })
    .await;
}

#[tokio::test]
async fn tls_with_h2_by_alpn_is_served_frame_by_frame() {
    bounded(async {
        let authority = Authority::new();
        let server = RawH2::builder().tls(authority.acceptor(&["127.0.0.1"], &["h2"])).start().await;
        assert!(server.url().starts_with("https://127.0.0.1:"));
        let tcp = TcpStream::connect(server.addr()).await.unwrap();
        let name = "127.0.0.1".try_into().unwrap();
        let tls = authority.connector(&["h2"]).connect(name, tcp).await.unwrap();
        assert_eq!(Client::over(tls).await.post(b"abc").await.await.unwrap().status(), 200);
    })
    .await;
}
