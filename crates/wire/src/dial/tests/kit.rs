//! Scripted nodes, certificates, and addresses that refuse or swallow connections.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use handover_core::{Blame, Fault, Stage};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::dial::{Credentials, DialError, DialNode, Dialer, Dialled, Host, NodeKind, Progress, Target};
use crate::dial::{TargetRules, TlsRoots};

/// Rules under which loopback may be dialled.
pub(super) fn open_rules() -> TargetRules {
    TargetRules { allow_private: true, own: Vec::new() }
}

/// A dialer that trusts nobody; for dials without TLS.
pub(super) fn plain_dialer() -> Dialer {
    Dialer::new(TlsRoots::only(Vec::new()))
}

pub(super) fn target(host: &str, port: u16) -> Target {
    Target { host: Host::parse(host), port, tls: false }
}

pub(super) fn tls_target(host: &str, port: u16) -> Target {
    Target { tls: true, ..target(host, port) }
}

pub(super) fn node(kind: NodeKind, at: SocketAddr) -> DialNode {
    DialNode { tag: "eu-2".into(), kind, host: Host::Ip(at.ip()), port: at.port(), credentials: None }
}

pub(super) fn with_credentials(node: DialNode, user: &str, password: &str) -> DialNode {
    DialNode { credentials: Some(Credentials { user: user.into(), password: password.into() }), ..node }
}

pub(super) async fn dial(node: &DialNode, target: &Target) -> Result<Dialled, DialError> {
    dial_with(&plain_dialer(), node, target).await
}

/// What hangs for so long is a failure and not a stuck test; far above what a loaded machine needs for any of these.
pub(super) const LIMIT: Duration = Duration::from_secs(30);

/// Under a limit, so that a dial that hangs is a failure.
pub(super) async fn dial_with(dialer: &Dialer, node: &DialNode, target: &Target) -> Result<Dialled, DialError> {
    let (rules, progress) = (open_rules(), Progress::new());
    let dial = dialer.dial(node, target, &rules, &progress);
    tokio::time::timeout(LIMIT, dial).await.expect("the dial ends by itself")
}

/// What a failed dial is checked for.
pub(super) fn told(error: &DialError) -> (Stage, Fault, Option<Blame>) {
    (error.stage, error.fault, error.blame)
}

pub(super) async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let at = listener.local_addr().unwrap();
    (listener, at)
}

/// A peer that serves one connection by the script; the handle gives what the script returned.
pub(super) async fn peer<F, R>(script: impl FnOnce(TcpStream) -> F + Send + 'static) -> (SocketAddr, JoinHandle<R>)
where
    F: Future<Output = R> + Send,
    R: Send + 'static,
{
    let (listener, at) = listen().await;
    let served = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        tcp.set_nodelay(true).unwrap();
        script(tcp).await
    });
    (at, served)
}

/// A request head, up to and with its blank line.
pub(super) async fn read_head(io: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// Reads until the other side has closed; a reset counts as closed.
pub(super) async fn read_to_close(io: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut rest = Vec::new();
    drop(io.read_to_end(&mut rest).await);
    rest
}

/// Everything behind the node's answer, early or not, up to the close.
pub(super) async fn rest_of(dialled: Dialled) -> Bytes {
    let Dialled { mut io, early, .. } = dialled;
    let mut rest = early.to_vec();
    io.read_to_end(&mut rest).await.unwrap();
    rest.into()
}

/// Makes the next close a reset.
pub(super) fn reset(tcp: TcpStream) {
    tcp.set_zero_linger().unwrap();
    drop(tcp);
}

/// A port of this machine that refuses connections for as long as the socket lives.
pub(super) fn refusing(ip: IpAddr) -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::for_address(SocketAddr::new(ip, 0)), Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(ip, 0).into()).unwrap();
    let at = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, at)
}

/// An address that neither accepts nor refuses: its accept queue is full.
pub(super) fn swallowing(ip: IpAddr) -> (Vec<Socket>, SocketAddr) {
    let (listener, at) = refusing(ip);
    listener.listen(0).unwrap();
    let mut held = vec![listener];
    loop {
        let filler = Socket::new(Domain::for_address(at), Type::STREAM, None).unwrap();
        match filler.connect_timeout(&at.into(), Duration::from_millis(100)) {
            Ok(()) => held.push(filler),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return (held, at),
            Err(error) => panic!("{error}"),
        }
    }
}

/// An authority of its own and a server certificate from it.
pub(super) struct Pki {
    root: CertificateDer<'static>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Pki {
    pub(super) fn for_names(names: &[&str]) -> Self {
        Self::with(names, |_| ())
    }

    pub(super) fn with(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut root = CertificateParams::new(Vec::new()).unwrap();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // A name of its own: of two authorities with one name, the wrong one would be tried and its signature called bad.
        let key = KeyPair::generate().unwrap();
        let name: String = key.public_key_raw().iter().map(|byte| format!("{byte:02x}")).collect();
        root.distinguished_name.push(DnType::CommonName, &name[2..34]);
        let root = CertifiedIssuer::self_signed(root, key).unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &root).unwrap();
        Self {
            root: root.der().clone(),
            chain: vec![certificate.der().clone()],
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        }
    }

    pub(super) fn root_pem(&self) -> String {
        let body = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &self.root);
        format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
    }

    pub(super) fn dialer(&self) -> Dialer {
        Dialer::new(TlsRoots::only(vec![self.root.clone()]))
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.acceptor_for(&[])
    }

    pub(super) fn acceptor_for(&self, alpn: &[&str]) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_no_client_auth();
        let mut config = builder.with_single_cert(self.chain.clone(), self.key.clone_key()).unwrap();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Carries bytes between the two; returns how many came from `left` and were carried on.
pub(super) async fn relay(
    left: impl AsyncRead + AsyncWrite + Unpin,
    right: impl AsyncRead + AsyncWrite + Unpin,
) -> u64 {
    let (mut from_left, mut to_left) = tokio::io::split(left);
    let (mut from_right, mut to_right) = tokio::io::split(right);
    let up = async {
        let carried = tokio::io::copy(&mut from_left, &mut to_right).await.unwrap_or(0);
        drop(to_right.shutdown().await);
        carried
    };
    let down = async {
        drop(tokio::io::copy(&mut from_right, &mut to_left).await);
        drop(to_left.shutdown().await);
    };
    tokio::join!(up, down).0
}
