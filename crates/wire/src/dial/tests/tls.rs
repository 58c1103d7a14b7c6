//! TLS with nodes, with targets, and with targets inside nodes; and the count of raw bytes below it.

use std::io::{IoSlice, Write as _};

use handover_core::{Blame, Fault, Stage};
use rcgen::date_time_ymd;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::kit::{
    LIMIT, Pki, dial, dial_with, listen, node, open_rules, peer, plain_dialer, read_head, read_to_close, relay, reset,
    target, tls_target, told,
};
use crate::dial::{DialError, DialNode, Dialer, NodeKind, Progress, Stream, Target, TlsRoots};

const NODE: Option<Blame> = Some(Blame::Node);
const TARGET: Option<Blame> = Some(Blame::Target);
/// The names of a certificate that is right for the node and for the target.
const BOTH: [&str; 2] = ["127.0.0.1", "example.com"];

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Plays node and target in one: opens whatever layers there are, says HELLO, and returns what it was told.
async fn serve(kind: NodeKind, inside: bool, acceptor: TlsAcceptor, tcp: TcpStream) -> Vec<u8> {
    let mut io: Box<dyn Io> = Box::new(tcp);
    if matches!(kind, NodeKind::Https | NodeKind::Origin { tls: true }) {
        io = Box::new(acceptor.accept(io).await.unwrap());
    }
    match kind {
        NodeKind::Http | NodeKind::Https => {
            read_head(&mut io).await;
            io.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        }
        NodeKind::Socks5 => {
            io.read_exact(&mut [0; 3]).await.unwrap();
            io.write_all(b"\x05\x00").await.unwrap();
            io.read_exact(&mut [0; 18]).await.unwrap();
            io.write_all(b"\x05\x00\x00\x01\0\0\0\0\0\0").await.unwrap();
        }
        NodeKind::Direct | NodeKind::Origin { .. } => {}
    }
    io.flush().await.unwrap();
    if inside {
        io = Box::new(acceptor.accept(io).await.unwrap());
    }
    io.write_all(b"HELLO").await.unwrap();
    io.flush().await.unwrap();
    read_to_close(&mut io).await
}

/// Every way of laying TLS around and inside a node: node kind, TLS with the target inside, what the stream then is.
const LAYERS: [(NodeKind, bool, &str); 8] = [
    (NodeKind::Direct, false, "plain"),
    (NodeKind::Direct, true, "tls"),
    (NodeKind::Origin { tls: true }, false, "tls"),
    (NodeKind::Http, false, "plain"),
    (NodeKind::Http, true, "tls"),
    (NodeKind::Socks5, true, "tls"),
    (NodeKind::Https, false, "tls"),
    (NodeKind::Https, true, "tls in tls"),
];

fn wanted(kind: NodeKind, inside: bool, port: u16) -> Target {
    let host = if kind == NodeKind::Direct { "127.0.0.1" } else { "example.com" };
    let port = if kind == NodeKind::Direct { port } else { 443 };
    if inside { tls_target(host, port) } else { target(host, port) }
}

fn layers(stream: &Stream) -> &'static str {
    match stream {
        Stream::Tcp(_) => "plain",
        Stream::Tls(_) => "tls",
        Stream::TlsInTls(_) => "tls in tls",
    }
}

#[tokio::test]
async fn the_raw_count_below_every_layer_of_tls_is_what_arrived_on_the_wire() {
    let pki = Pki::for_names(&BOTH);
    for (kind, inside, expected_layers) in LAYERS {
        let acceptor = pki.acceptor();
        let (server, served) = peer(async move |tcp| serve(kind, inside, acceptor, tcp).await).await;
        let (tap, tapped) = peer(async move |left| relay(left, TcpStream::connect(server).await.unwrap()).await).await;

        let dialled = dial_with(&pki.dialer(), &node(kind, tap), &wanted(kind, inside, tap.port())).await.unwrap();
        let mut io = dialled.io;
        assert_eq!(layers(&io), expected_layers, "{kind:?}");
        assert!(io.is_write_vectored());
        let counter = io.raw_counter();
        let upload = vec![7; 100_000];
        io.write_all(&upload).await.unwrap();
        let written = io.write_vectored(&[IoSlice::new(b"ab"), IoSlice::new(b"cd")]).await.unwrap();
        assert_eq!(written, 4, "{kind:?}: both slices go down together");
        io.flush().await.unwrap();
        let mut hello = dialled.early.to_vec();
        let mut rest = vec![0; 5 - hello.len()];
        let read = tokio::time::timeout(LIMIT, io.read_exact(&mut rest)).await;
        read.expect("every byte of HELLO comes, early or later").unwrap();
        hello.extend(rest);
        assert_eq!(hello, b"HELLO");
        io.shutdown().await.unwrap();
        assert_eq!(read_to_close(&mut io).await, b"");

        assert_eq!(served.await.unwrap(), [upload.as_slice(), b"abcd"].concat(), "{kind:?}");
        assert_eq!((io.written_raw(), counter.written()), (tapped.await.unwrap(), io.written_raw()), "{kind:?}");
    }
}

#[tokio::test]
async fn a_dial_tells_when_it_entered_each_of_its_stages() {
    let pki = Pki::for_names(&BOTH);
    for (kind, inside, _) in LAYERS {
        let acceptor = pki.acceptor();
        let (at, _served) = peer(async move |tcp| serve(kind, inside, acceptor, tcp).await).await;
        let (rules, progress, began) = (open_rules(), Progress::new(), std::time::Instant::now());
        let (node, target) = (node(kind, at), wanted(kind, inside, at.port()));
        tokio::time::timeout(LIMIT, pki.dialer().dial(&node, &target, &rules, &progress)).await.unwrap().unwrap();
        let entered = progress.entered();
        let (stages, times): (Vec<_>, Vec<_>) = entered.into_iter().unzip();
        let proxy = match kind {
            NodeKind::Http | NodeKind::Socks5 => vec![Stage::ProxyHandshake],
            NodeKind::Https => vec![Stage::Tls, Stage::ProxyHandshake],
            NodeKind::Direct | NodeKind::Origin { .. } => vec![],
        };
        let tls = inside || matches!(kind, NodeKind::Origin { tls: true });
        let last = if tls { vec![Stage::Tls] } else { vec![] };
        assert_eq!(stages, [vec![Stage::Resolve, Stage::Dial], proxy, last].concat(), "{kind:?}");
        assert!(times.is_sorted() && times[0] >= began && progress.stage() == *stages.last().unwrap(), "{kind:?}");
    }
}

#[tokio::test]
async fn only_a_plain_stream_gives_its_socket_up() {
    let pki = Pki::for_names(&BOTH);
    for (kind, inside, expected_layers) in LAYERS {
        let acceptor = pki.acceptor();
        let (at, _served) = peer(async move |tcp| serve(kind, inside, acceptor, tcp).await).await;
        let dialled = dial_with(&pki.dialer(), &node(kind, at), &wanted(kind, inside, at.port())).await.unwrap();
        assert_eq!(dialled.io.tcp().peer_addr().unwrap(), at);
        assert_eq!(dialled.io.into_tcp().is_ok(), expected_layers == "plain", "{kind:?}");
    }
}

/// Dials a server with this certificate and returns how that failed.
async fn failed(client: &Dialer, server: &Pki, kind: NodeKind, inside: bool) -> DialError {
    let acceptor = server.acceptor();
    // The server's side fails too; its task ends in a panic that nobody waits for.
    let (at, _served): (_, JoinHandle<Vec<u8>>) =
        peer(async move |tcp| serve_until_failure(kind, inside, acceptor, tcp).await).await;
    dial_with(client, &node(kind, at), &wanted(kind, inside, at.port())).await.unwrap_err()
}

async fn serve_until_failure(kind: NodeKind, inside: bool, acceptor: TlsAcceptor, tcp: TcpStream) -> Vec<u8> {
    match (kind, inside) {
        (NodeKind::Http, true) => {
            let mut tcp = tcp;
            read_head(&mut tcp).await;
            tcp.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            drop(acceptor.accept(tcp).await);
        }
        _ => drop(acceptor.accept(tcp).await),
    }
    Vec::new()
}

#[tokio::test]
async fn a_certificate_that_is_not_valid_is_told_in_words_and_blames_whom_it_can() {
    let good = Pki::for_names(&BOTH);
    let expired = Pki::with(&BOTH, |params| params.not_after = date_time_ymd(2001, 1, 1));
    let early = Pki::with(&BOTH, |params| params.not_before = date_time_ymd(2999, 1, 1));
    let elsewhere = Pki::for_names(&["other.example"]);
    for (dialer, server, kind, words) in [
        (good.dialer(), &elsewhere, "tls_unknown_authority", "not trusted here"),
        (elsewhere.dialer(), &elsewhere, "tls_hostname_invalid", "not for this host"),
        (expired.dialer(), &expired, "tls_cert_invalid", "has expired"),
        (early.dialer(), &early, "tls_cert_invalid", "not valid yet"),
    ] {
        for (node_kind, inside, blame) in [
            (NodeKind::Https, false, NODE),
            (NodeKind::Origin { tls: true }, false, NODE),
            (NodeKind::Direct, true, TARGET),
            (NodeKind::Http, true, None),
        ] {
            let error = failed(&dialer, server, node_kind, inside).await;
            assert_eq!(told(&error), (Stage::Tls, Fault::Tls, blame), "{node_kind:?}: {error}");
            assert_eq!(error.err_kind(), kind, "{error}");
            assert!(error.message.contains(words), "{error}");
        }
    }
}

#[tokio::test]
async fn a_peer_that_does_not_speak_tls_is_told_from_one_with_a_bad_certificate() {
    let (at, _served) = peer(async |mut tcp| {
        tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        read_to_close(&mut tcp).await
    })
    .await;
    let error =
        dial_with(&Pki::for_names(&BOTH).dialer(), &node(NodeKind::Https, at), &target("example.com", 443)).await;
    let error = error.unwrap_err();
    assert_eq!((told(&error), error.err_kind()), ((Stage::Tls, Fault::Tls, NODE), "tls_record_header"));
}

#[tokio::test]
async fn origins_and_targets_are_offered_http_1_1_and_nodes_nothing() {
    let pki = Pki::for_names(&BOTH);
    for (kind, inside) in [(NodeKind::Origin { tls: true }, false), (NodeKind::Direct, true)] {
        for (spoken, is_fine) in [("h2", false), ("http/1.1", true)] {
            let acceptor = pki.acceptor_for(&[spoken]);
            let (at, _served) = peer(async move |tcp| serve_until_failure(kind, inside, acceptor, tcp).await).await;
            let dialled = dial_with(&pki.dialer(), &node(kind, at), &wanted(kind, inside, at.port())).await;
            assert_eq!(dialled.is_ok(), is_fine, "{kind:?} {spoken}");
            if let Err(error) = dialled {
                assert_eq!((error.fault, error.err_kind()), (Fault::Tls, "tls_alert"), "{error}");
            }
        }
    }
    let acceptor = pki.acceptor_for(&["h2"]);
    let (at, _served) = peer(async move |tcp| serve(NodeKind::Https, false, acceptor, tcp).await).await;
    dial_with(&pki.dialer(), &node(NodeKind::Https, at), &target("example.com", 443)).await.unwrap();
}

#[tokio::test]
async fn a_connection_cut_or_reset_inside_the_tls_handshake_is_not_a_tls_fault() {
    let pki = Pki::for_names(&BOTH);
    let (listener, at) = listen().await;
    let mut whole = None;
    // 37 has no common factor with the sizes of the records, so the cuts fall all over them.
    for bytes in (0..).step_by(37) {
        for (resets, fault) in [(false, Fault::Closed), (true, Fault::Reset)] {
            let (acceptor, (near, far)) = (pki.acceptor(), tokio::io::duplex(1 << 16));
            let server = tokio::spawn(async move { drop(acceptor.accept(far).await) });
            let cut = async { cut_after(bytes, near, listener.accept().await.unwrap().0, resets).await };
            let (dialer, node, target) = (pki.dialer(), node(NodeKind::Https, at), target("example.com", 443));
            let (ended, ()) = tokio::join!(dial_with(&dialer, &node, &target), cut);
            server.abort();
            let error = ended.expect_err("the node never answers CONNECT");
            if error.stage == Stage::ProxyHandshake {
                whole = Some(bytes);
                break;
            }
            assert_eq!(told(&error), (Stage::Tls, fault, NODE), "after {bytes} bytes: {error}");
        }
        if whole.is_some() {
            break;
        }
    }
    assert!(whole.is_some_and(|bytes| bytes > 500), "a certificate alone has more bytes: {whole:?}");
}

/// Carries bytes both ways until so many of the server's have passed, then ends the client's connection.
async fn cut_after(bytes: u64, server: DuplexStream, mut client: TcpStream, resets: bool) {
    // Before the client's hello has come, the client may still be connecting.
    client.peek(&mut [0]).await.unwrap();
    let (from_server, mut to_server) = tokio::io::split(server);
    let mut from_server = from_server.take(bytes);
    let (mut from_client, mut to_client) = client.split();
    tokio::select! {
        carried = tokio::io::copy(&mut from_server, &mut to_client) => drop(carried),
        carried = tokio::io::copy(&mut from_client, &mut to_server) => drop(carried),
    }
    if resets {
        return reset(client);
    }
    // Read to the end, else the close would be a reset by itself.
    client.shutdown().await.unwrap();
    read_to_close(&mut client).await;
}

#[tokio::test]
async fn bytes_before_the_targets_tls_are_a_protocol_fault_and_not_lost() {
    let (at, _served) = peer(async |mut tcp| {
        read_head(&mut tcp).await;
        tcp.write_all(b"HTTP/1.1 200 OK\r\n\r\n220 smtp ready").await.unwrap();
        read_to_close(&mut tcp).await
    })
    .await;
    let error = dial(&node(NodeKind::Http, at), &tls_target("example.com", 443)).await.unwrap_err();
    assert_eq!(told(&error), (Stage::Tls, Fault::Protocol, None));
    assert!(error.message.contains("14 bytes"), "{error}");
}

#[tokio::test]
async fn without_any_trusted_certificate_only_tls_fails_and_says_what_to_do() {
    let (at, _served) = peer(async |mut tcp| read_to_close(&mut tcp).await).await;
    let error = dial_with(&plain_dialer(), &node(NodeKind::Https, at), &target("example.com", 443)).await.unwrap_err();
    assert_eq!(told(&error), (Stage::Tls, Fault::Tls, Some(Blame::Local)));
    assert!(error.message.contains("name a file of CA certificates"), "{error}");
}

#[tokio::test]
async fn a_ca_file_is_trusted_beside_the_platform() {
    let pki = Pki::for_names(&BOTH);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(pki.root_pem().as_bytes()).unwrap();
    let dialer = Dialer::new(TlsRoots::with_ca_files(&[file.path()]).unwrap());
    let acceptor = pki.acceptor();
    let kind = NodeKind::Origin { tls: true };
    let (at, _served) = peer(async move |tcp| serve(kind, false, acceptor, tcp).await).await;
    dial_with(&dialer, &node(kind, at), &target("example.com", 443)).await.unwrap();
}

#[test]
fn a_ca_file_that_cannot_be_used_is_named() {
    let empty = tempfile::NamedTempFile::new().unwrap();
    let error = TlsRoots::with_ca_files(&[empty.path()]).unwrap_err();
    assert_eq!((error.path.as_path(), error.problem.contains("no certificate")), (empty.path(), true));
    let missing = empty.path().with_extension("missing");
    assert_eq!(TlsRoots::with_ca_files(&[&missing]).unwrap_err().path, missing);
}

#[tokio::test]
async fn a_root_dot_in_the_host_is_not_part_of_the_certificates_name() {
    let pki = Pki::for_names(&["example.com"]);
    let acceptor = pki.acceptor();
    let (at, _served) = peer(async move |tcp| serve(NodeKind::Http, true, acceptor, tcp).await).await;
    let node: DialNode = node(NodeKind::Http, at);
    dial_with(&pki.dialer(), &node, &tls_target("example.com.", 443)).await.unwrap();
}
