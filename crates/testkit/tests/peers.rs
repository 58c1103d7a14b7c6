//! The scripted peers do what their scripts say: otherwise nothing that is tested with them is tested.

use std::io::ErrorKind;

use bytes::Bytes;
use handover_testkit::{
    Act, After, Answer, Authority, Body, Client, Continue, Directory, End, Framing, Gate, Greeting, HttpProxyNode,
    NodeAct, Origin, Socks5Node, SocksAct, Upload, WebSocket, basic, bounded,
};

const GET: &str = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";

#[tokio::test]
async fn a_request_is_recorded_byte_for_byte() {
    bounded(async {
        let origin = Origin::answering("hello").await;
        let request = "POST /x?y HTTP/1.1\r\nhOsT: h\r\nContent-Length: 3\r\n\r\nabc";
        let answer = Client::once(origin.addr(), request).await;
        assert_eq!((answer.status(), answer.text().as_str(), answer.complete), (200, "hello", true));
        let seen = &origin.requests()[0];
        assert_eq!(&seen.head.raw[..], request.as_bytes().strip_suffix(b"abc").expect("it ends so"));
        assert_eq!((&seen.body[..], seen.complete), (&b"abc"[..], true));
    })
    .await;
}

#[tokio::test]
async fn endings_reach_the_client_as_fin_or_reset() {
    bounded(async {
        for how in [End::Fin, End::Reset] {
            let unread = Origin::greeting(Greeting::End(how)).await;
            let after_head = Origin::scripted(move |_| Act::EndAfter(0, how)).await;
            let cut = Origin::scripted(move |_| Act::Answer(Answer::ok("0123456789").cut_after(10, how))).await;
            for origin in [&unread, &after_head, &cut] {
                let mut client = Client::connect(origin.addr()).await;
                let _ = client.send(GET).await;
                match (client.read_to_end().await, how) {
                    (Ok(bytes), End::Fin) => assert!(bytes.is_empty() || bytes == b"HTTP/1.1 2"),
                    (Err(error), End::Reset) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
                    (other, how) => panic!("{how:?} gave {other:?}"),
                }
                assert_eq!(origin.accepted(), 1);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_held_answer_waits_for_its_gate_and_a_stream_for_each_piece() {
    bounded(async {
        let (gate, (answer, writer)) = (Gate::new(), Answer::stream());
        let script_gate = gate.clone();
        let answer = std::sync::Mutex::new(Some(answer));
        let origin = Origin::scripted(move |_| {
            let answer = answer.lock().expect("not poisoned").take().expect("asked once");
            Act::Answer(answer.held_by(&script_gate))
        })
        .await;
        let mut client = Client::connect(origin.addr()).await;
        client.send(GET).await.expect("sent");
        origin.ledger().until(|c| c.iter().any(|c| c.requests.iter().any(|r| r.complete))).await;
        gate.open();
        assert_eq!(client.read_head().await.expect("a head").status(), 200);
        for piece in ["one", "two"] {
            writer.send(piece);
            assert_eq!(client.read_chunk().await.expect("a chunk"), piece.as_bytes());
        }
        drop(writer);
        assert!(client.read_chunk().await.expect("the last chunk").is_empty());
    })
    .await;
}

#[tokio::test]
async fn chunked_answers_carry_trailers_and_kept_connections_end_when_told() {
    bounded(async {
        let origin = Origin::scripted(|_| {
            let body = Body::Chunked(Bytes::from_static(b"abc"), vec![("X-Sum", "3")]);
            Act::Answer(Answer::ok("").body(body).then(After::KeepAlive))
        })
        .await;
        let mut client = Client::connect(origin.addr()).await;
        for _ in 0..2 {
            let answer = client.request(GET).await.expect("an answer");
            assert_eq!((answer.text(), answer.trailers), ("abc".to_owned(), vec![("X-Sum".into(), "3".into())]));
        }
        origin.hang_up();
        assert!(client.read_to_end().await.expect("a FIN").is_empty());
        assert_eq!((origin.accepted(), origin.request_count()), (1, 2));
    })
    .await;
}

#[tokio::test]
async fn a_large_upload_is_checked_and_waits_for_its_100() {
    bounded(async {
        let gate = Gate::new();
        let origin = Origin::builder().continues(Continue::Held(gate.clone())).start().await;
        for framing in [Framing::Length, Framing::Chunked] {
            let head = "POST / HTTP/1.1\r\nHost: h\r\n".to_owned();
            let upload = Upload { head, bytes: 5_000_000, framing, expect: true };
            let mut client = Client::connect(origin.addr()).await;
            let (answer, ()) = tokio::join!(upload.send(&mut client), async { gate.open() });
            assert_eq!(answer.expect("an answer").status(), 200);
        }
        for request in origin.requests() {
            assert_eq!((request.body_bytes, request.patterned, request.complete), (5_000_000, true, true));
        }
    })
    .await;
}

#[tokio::test]
async fn an_http_node_relays_to_names_and_keeps_its_credentials() {
    bounded(async {
        let origin = Origin::answering("behind").await;
        let names = Directory::new().with("example.test:80", origin.addr());
        let node = HttpProxyNode::start(NodeAct::Auth("u", "p"), names).await;
        let mut stranger = Client::connect(node.addr()).await;
        assert_eq!(stranger.tunnel("example.test:80", "").await.expect("an answer").status(), 407);
        let mut client = Client::connect(node.addr()).await;
        let header = format!("Proxy-Authorization: {}\r\n", basic("u:p"));
        assert_eq!(client.tunnel("example.test:80", &header).await.expect("an answer").status(), 200);
        assert_eq!(client.request(GET).await.expect("an answer").text(), "behind");
        assert_eq!((node.accepted(), origin.accepted()), (2, 1));
    })
    .await;
}

#[tokio::test]
async fn a_socks_node_hears_the_name_and_relays_or_replies() {
    bounded(async {
        let origin = Origin::answering("behind").await;
        let names = Directory::new().with("example.test:80", origin.addr());
        let request = b"\x05\x01\x00\x03\x0cexample.test\x00\x50";
        let relaying = Socks5Node::relay(names.clone()).await;
        let mut client = Client::connect(relaying.addr()).await;
        client.send(b"\x05\x01\x00").await.expect("sent");
        assert_eq!(client.read_exactly(2).await.expect("a method"), [5, 0]);
        client.send(request).await.expect("sent");
        assert_eq!(client.read_exactly(10).await.expect("a reply")[..2], [5, 0]);
        assert_eq!(client.request(GET).await.expect("an answer").text(), "behind");
        assert_eq!(relaying.asked(), [("example.test".to_owned(), 80)]);

        let refusing = Socks5Node::start(SocksAct::Reply(5), names).await;
        let mut client = Client::connect(refusing.addr()).await;
        client.send([&b"\x05\x01\x00"[..], request].concat()).await.expect("sent");
        assert_eq!(client.read_to_end().await.expect("a FIN")[..4], [5, 0, 5, 5]);
    })
    .await;
}

#[tokio::test]
async fn a_websocket_library_accepts_the_echo_and_tls_its_certificate() {
    bounded(async {
        let authority = Authority::new();
        let acceptor = authority.acceptor(&["localhost"], &[]);
        let origin = Origin::builder().script(|_| Act::WebSocketEcho).tls(acceptor).start().await;
        let client = Client::connect(origin.addr()).await.start_tls(&authority, "localhost").await.expect("trusted");
        let mut socket = WebSocket::open(client, "ws://localhost/chat").await.expect("it switches");
        socket.send("hello").await;
        assert_eq!(socket.receive().await.as_deref(), Some("hello"));
    })
    .await;
}
