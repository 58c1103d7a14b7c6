//! Tunnels and WebSockets carry every byte, both halves, in order, and nothing before the other end has agreed.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use handover_testkit::{
    Act, Answer, Bytes, Client, DeadPort, Directory, Door, End, Gate, GatewayBuilder, GatewayProcess, HttpProxyNode,
    NodeAct, Origin, Socks5Node, WebSocket, bounded,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How long is watched for what must not come before its cause.
const SILENCE: Duration = Duration::from_millis(300);

/// The head of a WebSocket request, behind its first lines.
const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

fn gateway() -> GatewayBuilder {
    GatewayProcess::of(env!("CARGO_BIN_EXE_handover")).ordered()
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a loopback port is free");
    let addr = listener.local_addr().expect("it is bound");
    (listener, addr)
}

/// One gateway with a node of each kind, and the nodes that have to live as long.
async fn each_kind() -> Vec<(GatewayProcess, Option<HttpProxyNode>, Option<Socks5Node>)> {
    let (http, socks) = (HttpProxyNode::relay(Directory::new()).await, Socks5Node::relay(Directory::new()).await);
    vec![
        (gateway().node("direct").start().await, None, None),
        (gateway().node(&http.tagged("http")).start().await, Some(http), None),
        (gateway().node(&socks.tagged("socks")).start().await, None, Some(socks)),
    ]
}

async fn open(gateway: &GatewayProcess, target: SocketAddr) -> Client {
    Door::Connect.enter(gateway.addr(), &target.to_string()).await.expect("the tunnel opens")
}

async fn accepted(listener: &TcpListener) -> TcpStream {
    let tcp = listener.accept().await.expect("the gateway connects").0;
    tcp.set_nodelay(true).expect("TCP_NODELAY is allowed on every TCP socket");
    tcp
}

#[tokio::test]
async fn the_client_may_close_its_half_first() {
    bounded(async {
        for (gateway, ..) in &each_kind().await {
            let (listener, addr) = listener().await;
            let mut client = open(gateway, addr).await;
            let mut target = accepted(&listener).await;
            client.send("question").await.expect("sent");
            client.half_close().await.expect("closed");
            let mut question = String::new();
            target.read_to_string(&mut question).await.expect("up to the FIN");
            target.write_all(format!("{question}, answered").as_bytes()).await.expect("the other half is open");
            drop(target);
            assert_eq!(client.read_to_end().await.expect("up to the FIN"), b"question, answered");
        }
    })
    .await;
}

#[tokio::test]
async fn the_target_may_close_its_half_first() {
    bounded(async {
        for (gateway, ..) in &each_kind().await {
            let (listener, addr) = listener().await;
            let mut client = open(gateway, addr).await;
            let mut target = accepted(&listener).await;
            target.write_all(b"hello").await.expect("sent");
            target.shutdown().await.expect("closed");
            assert_eq!(client.read_to_end().await.expect("up to the FIN"), b"hello");
            client.send("a late word").await.expect("the other half is open");
            client.half_close().await.expect("closed");
            let mut word = String::new();
            target.read_to_string(&mut word).await.expect("up to the FIN");
            assert_eq!(word, "a late word");
        }
    })
    .await;
}

#[tokio::test]
async fn bytes_behind_the_nodes_2xx_reach_the_client_first() {
    bounded(async {
        for head in [
            "HTTP/1.1 200 OK\r\n\r\nbehind, ",
            "HTTP/1.0 200 Connection established\r\n\r\nbehind, ",
            "HTTP/1.1 201 Created\r\nContent-Length: 3\r\n\r\nbehind, ",
            "HTTP/1.1 299 \r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\nbehind, ",
        ] {
            let (listener, addr) = listener().await;
            let act = NodeAct::RelayAfter(Bytes::from_static(head.as_bytes()));
            let node = HttpProxyNode::start(act, Directory::new()).await;
            let gateway = gateway().node(&node.tagged("a")).start().await;
            let mut client = Client::connect(gateway.addr()).await;
            let answer = client.tunnel(&addr.to_string(), "").await.expect("an answer");
            assert_eq!(answer.status(), 200, "{head:?}");
            assert_eq!((answer.header("content-length"), answer.header("transfer-encoding")), (None, None), "{head:?}");
            accepted(&listener).await.write_all(b"then the target").await.expect("sent");
            assert_eq!(client.read_to_end().await.expect("all of it"), b"behind, then the target", "{head:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn early_bytes_of_the_client_wait_for_the_2xx() {
    bounded(async {
        let gate = Gate::new();
        let (listener, addr) = listener().await;
        let node = HttpProxyNode::start(NodeAct::RelayOnce(gate.clone()), Directory::new()).await;
        let gateway = gateway().node(&node.tagged("a")).platform("CONNECT_TIMEOUT", "10m").start().await;
        let mut client = Client::connect(gateway.addr()).await;
        client.send(format!("CONNECT {addr} HTTP/1.1\r\nHost: {addr}\r\n\r\nearly")).await.expect("sent");
        node.ledger().until(|connections| connections.iter().any(|c| !c.requests.is_empty())).await;
        client.stays_silent(SILENCE).await;
        gate.open();
        assert_eq!(client.read_head().await.expect("a head").status(), 200);
        let mut target = accepted(&listener).await;
        let mut early = [0; 5];
        target.read_exact(&mut early).await.expect("the early bytes");
        assert_eq!(&early, b"early");
        // What had reached the node before it answered was recorded when the gate opened.
        assert!(node.ledger().connections()[0].raw.is_empty(), "bytes before the 2xx");
    })
    .await;
}

#[tokio::test]
async fn early_bytes_behind_a_connect_that_fails_are_no_request() {
    bounded(async {
        let (dead, origin) = (DeadPort::new(), Origin::answering("never").await);
        let gateway = gateway().node(&format!("http://{}#dead", dead.addr())).start().await;
        let mut client = Client::connect(gateway.addr()).await;
        let smuggled = format!("GET http://{}/ HTTP/1.1\r\nHost: {}\r\n\r\n", origin.addr(), origin.addr());
        let connect = "CONNECT x.test:80 HTTP/1.1\r\nHost: x.test:80\r\n\r\n";
        let answer = client.request(format!("{connect}{smuggled}")).await.expect("an answer");
        assert_eq!(answer.status(), 502);
        let rest = client.read_to_end().await.unwrap_or_default();
        assert!(rest.is_empty(), "a second answer: {}", String::from_utf8_lossy(&rest));
        assert_eq!(origin.accepted(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_tunnel_without_traffic_blames_nobody() {
    bounded(async {
        let (listener, addr) = listener().await;
        let gateway = gateway().node("direct").start().await;
        let client = open(&gateway, addr).await;
        let mut target = accepted(&listener).await;
        drop(client);
        let mut nothing = Vec::new();
        target.read_to_end(&mut nothing).await.expect("a FIN");
        drop(target);
        let row = gateway.only_row().await;
        assert_eq!(row.json["net_ok"], true, "{row:?}");
        assert_eq!(row.story(), ["direct: ok -> done(answered)"], "{row:?}");
    })
    .await;
}

#[tokio::test]
async fn an_idle_tunnel_is_closed_on_both_sides() {
    bounded(async {
        let (listener, addr) = listener().await;
        let gateway = gateway().node("direct").env("HANDOVER_LIMITS_TUNNEL_IDLE_TIMEOUT", "300ms").start().await;
        let mut client = open(&gateway, addr).await;
        let mut target = accepted(&listener).await;
        client.send("ping").await.expect("sent");
        let mut ping = [0; 4];
        target.read_exact(&mut ping).await.expect("the ping");
        // FIN or RST, whichever the gateway chooses: the end is what counts.
        let _ = client.read_to_end().await;
        let _ = target.read_to_end(&mut Vec::new()).await;
    })
    .await;
}

#[tokio::test]
async fn large_data_comes_back_whole_and_in_order() {
    bounded(async {
        for (gateway, ..) in &each_kind().await {
            let (listener, addr) = listener().await;
            let mut client = open(gateway, addr).await;
            let echo = tokio::spawn(async move {
                let (mut from, mut to) = accepted(&listener).await.into_split();
                tokio::io::copy(&mut from, &mut to).await.expect("the tunnel holds");
            });
            let came = exchange(&mut client, 20_000_000).await;
            assert!(handover_testkit::is_pattern(0, &came));
            client.half_close().await.expect("closed");
            echo.await.expect("the echo ends with the FIN");
        }
    })
    .await;
}

/// Sends so many bytes of the pattern, reading each piece's echo before the next: what came back.
async fn exchange(client: &mut Client, bytes: usize) -> Vec<u8> {
    const PIECE: usize = 20_000;
    let mut came = Vec::with_capacity(bytes);
    while came.len() < bytes {
        client.send(handover_testkit::pattern_at(came.len() as u64, PIECE)).await.expect("the tunnel takes it");
        came.extend(client.read_exactly(PIECE).await.expect("the echo"));
    }
    came
}

#[tokio::test]
async fn a_websocket_passes_the_reverse_and_the_origin_door() {
    bounded(async {
        let (dead, origin) = (DeadPort::new(), Origin::scripted(|_| Act::WebSocketEcho).await);
        let carrying = gateway().node(&format!("http://{}#dead", dead.addr())).node("direct").start().await;
        let reverse = format!("ws://{}/-/Default/http/{}/chat", carrying.addr(), origin.addr());
        let serving =
            gateway().origin(&format!("http://{}#dead", dead.addr())).origin(&origin.tagged("live")).start().await;
        for (gateway, url) in [(&carrying, reverse), (&serving, format!("ws://{}/chat", serving.addr()))] {
            let mut socket = WebSocket::open(Client::connect(gateway.addr()).await, &url).await.expect("it switches");
            for text in ["one", "two"] {
                socket.send(text).await;
                assert_eq!(socket.receive().await.as_deref(), Some(text), "{url}");
            }
            drop(socket);
            let story = gateway.only_row().await.story();
            assert_eq!(story[0], "dead: dial refused sent=no -> try_next(not_sent)", "{url}");
            assert_eq!(story.len(), 2, "{url}: {story:?}");
        }
        assert_eq!(origin.requests()[0].head.target(), "/chat");
    })
    .await;
}

#[tokio::test]
async fn a_websocket_passes_the_forward_door() {
    bounded(async {
        let origin = Origin::scripted(|_| Act::SwitchTo("websocket")).await;
        let gateway = gateway().node("direct").start().await;
        let target = origin.addr().to_string();
        let mut client = Client::connect(gateway.addr()).await;
        let lines = Door::Forward.lines(gateway.addr(), "GET", &target, "/chat");
        client.send(format!("{lines}{UPGRADE}")).await.expect("sent");
        let head = client.read_head().await.expect("a head");
        assert_eq!((head.status(), head.header("upgrade")), (101, Some("websocket")));
        client.send("any bytes").await.expect("sent");
        assert_eq!(client.read_exactly(9).await.expect("the echo"), b"any bytes");
        client.half_close().await.expect("closed");
        assert!(client.read_to_end().await.expect("a FIN").is_empty());
    })
    .await;
}

#[tokio::test]
async fn nothing_switches_before_a_101_and_nothing_but_websocket() {
    bounded(async {
        for door in [Door::Forward, Door::Reverse] {
            // A 200 to an upgrade is an answer like any other: what follows it is not a tunnel.
            let plain = Origin::scripted(|_| Act::Answer(Answer::ok("no"))).await;
            let gateway = gateway().node("direct").start().await;
            let lines = door.lines(gateway.addr(), "GET", &plain.addr().to_string(), "/");
            let mut client = Client::connect(gateway.addr()).await;
            client.send(format!("{lines}{UPGRADE}not a request\r\n\r\n")).await.expect("sent");
            assert_eq!(client.read_response("GET").await.expect("an answer").text(), "no", "{door:?}");
            let rest = client.read_to_end().await.unwrap_or_default();
            assert!(!String::from_utf8_lossy(&rest).contains(" 200 "), "{door:?}");
            let seen = plain.connections();
            assert!(seen.iter().all(|c| c.raw.is_empty() && c.requests.len() <= 1), "{door:?}: {seen:?}");

            // An upgrade to anything else is not asked for, and a 101 that nobody asked for is no answer.
            let switching = Origin::scripted(|_| Act::SwitchTo("spdy/3")).await;
            let lines = door.lines(gateway.addr(), "GET", &switching.addr().to_string(), "/");
            let other = format!("{lines}Connection: Upgrade\r\nUpgrade: spdy/3\r\n\r\n");
            let answer = Client::once(gateway.addr(), other).await;
            assert_eq!((answer.status(), answer.code()), (502, "UPSTREAM_REQUEST_FAILED"), "{door:?}");
            assert_eq!(switching.requests()[0].head.header("upgrade"), None, "{door:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_reset_target_ends_the_tunnel() {
    bounded(async {
        let origin = Origin::greeting(handover_testkit::Greeting::ReadThen(3, End::Reset)).await;
        for (gateway, ..) in &each_kind().await {
            let mut client = open(gateway, origin.addr()).await;
            client.send("abc").await.expect("sent");
            assert!(client.read_to_end().await.unwrap_or_default().is_empty());
        }
        assert_eq!(origin.accepted(), 3);
    })
    .await;
}
