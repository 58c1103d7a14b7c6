//! Opens a connection to a target through a node, and says exactly how far it got if it cannot.
//!
//! Everything here happens before the request is handed to a connection, so every failure proves that nothing of it was
//! sent. The caller enforces the time limit: it drops the dial, which closes its sockets, and reads from [`Progress`] at
//! which stage that was. Targets are always asked for by `CONNECT` or SOCKS5, also for plain HTTP: a request in
//! absolute-form would make a node's own 502 look like the origin's, and the proof would be lost.
//!
//! ```text
//! direct, origin   resolve → dial                             → (tls with the target)
//! http, socks5     resolve → dial       → proxy_handshake     → (tls with the target)
//! https            resolve → dial → tls → proxy_handshake     → (tls with the target)
//! ```
//!
//! Blame follows who was spoken to. An error on the way to a proxy node speaks against the node. What a node answers is
//! its word: a hint at the target where the protocol has one. A failure of the target's TLS behind a node speaks against
//! nobody, because either may have caused it; so does silence while a node is asked for a target.

mod cause;
mod error;
mod http;
mod socks;
mod stream;
mod target;
mod targets;
mod tcp;
#[cfg(test)]
mod tests;
mod tls;

use std::net::SocketAddr;

use bytes::Bytes;
use handover_core::{Blame, Fault, Stage};
use tokio::io::{AsyncRead, AsyncWrite};

pub use self::error::{DialError, Progress};
pub use self::stream::{CountedTcp, RawCounter, Stream};
pub use self::target::{Credentials, DialNode, Host, NodeKind, Target};
pub use self::targets::{Denied, TargetRules};
pub use self::tcp::keep_alive;
pub use self::tls::{CaFileError, Identity, TlsRoots};

use self::cause::Cause;
use self::tcp::Resolver;
use self::tls::Peer;

/// Opens connections. Cheap to clone; clones share the trusted certificates and the TLS sessions.
#[derive(Clone, Debug)]
pub struct Dialer {
    roots: TlsRoots,
    resolver: Resolver,
    /// What is offered to a target that speaks TLS.
    offers: Peer,
}

/// A connection that is ready for the request.
#[derive(Debug)]
pub struct Dialled {
    /// The connection.
    pub io: Stream,
    /// The address of the socket: the target's for direct and origin nodes, else the node's.
    pub peer: SocketAddr,
    /// What the target said already, behind the node's answer; read before the connection. Never more than 8 KiB.
    pub early: Bytes,
}

impl Dialer {
    /// A dialer that trusts these certificates.
    pub fn new(roots: TlsRoots) -> Self {
        Self { roots, resolver: Resolver::System, offers: Peer::Origin }
    }

    /// The same, offering HTTP/2 too; [`Stream::is_http2`] says what the target chose.
    #[must_use]
    pub fn offering_http2(self) -> Self {
        Self { offers: Peer::OriginH2, ..self }
    }

    /// Reads the trusted certificates now instead of at the first TLS dial, so that a dial that is timed is not charged for
    /// it. What goes wrong is told by the dial that needs them.
    ///
    /// # Cancel safety
    /// Dropping it leaves the reading to the next who needs it.
    pub async fn load_certificates(&self) {
        self.roots.preload().await;
    }

    /// Connects to the target through the node; for an origin node, to the node.
    ///
    /// `rules` decide on every address that a direct node is about to connect to; what a request names has to be checked by
    /// [`TargetRules::check_literal`] before, whatever the node. `progress` is this dial's own and tells its stage at any time.
    ///
    /// # Errors
    /// How far it got, what went wrong and whom it speaks against. Nothing of the request was sent.
    ///
    /// # Cancel safety
    /// Dropping it closes every socket it has opened. The node may have seen the target's name, and the target a connection
    /// without a request.
    pub async fn dial(
        &self,
        node: &DialNode,
        target: &Target,
        rules: &TargetRules,
        progress: &Progress,
    ) -> Result<Dialled, DialError> {
        let dialled = self.through(node, target, rules, progress).await;
        dialled.map_err(|cause| DialError::new(node, progress, cause))
    }

    async fn through(
        &self,
        node: &DialNode,
        target: &Target,
        rules: &TargetRules,
        progress: &Progress,
    ) -> Result<Dialled, Cause> {
        match node.kind {
            NodeKind::Direct => self.direct(target, rules, progress).await,
            NodeKind::Origin { tls } => self.origin(node, tls, progress).await,
            NodeKind::Http | NodeKind::Https | NodeKind::Socks5 => self.carried(node, target, progress).await,
        }
    }

    async fn direct(&self, target: &Target, rules: &TargetRules, progress: &Progress) -> Result<Dialled, Cause> {
        progress.enter(Stage::Resolve, None);
        // A name that does not resolve may be the resolver's trouble, so it speaks against nobody.
        let mut addresses = self.resolver.resolve(&target.host, target.port, None).await?;
        let mut denied = None;
        addresses.retain(|address| rules.check_addr(*address).map_err(|why| denied = Some(why)).is_ok());
        if let (Some(why), true) = (denied, addresses.is_empty()) {
            return Err(forbidden(why));
        }
        progress.enter(Stage::Dial, None);
        let party = Some(Blame::Target);
        let (tcp, peer) = tcp::connect(addresses, party, progress).await?;
        let io = CountedTcp::new(tcp);
        let io = if target.tls { self.tls_with(io, &target.host, party, progress).await? } else { Stream::Tcp(io) };
        Ok(Dialled { io, peer, early: Bytes::new() })
    }

    async fn origin(&self, node: &DialNode, tls: bool, progress: &Progress) -> Result<Dialled, Cause> {
        let (io, peer) = self.tcp_to(node, progress).await?;
        let party = Some(Blame::Node);
        let io = if tls { self.tls_with(io, &node.host, party, progress).await? } else { Stream::Tcp(io) };
        Ok(Dialled { io, peer, early: Bytes::new() })
    }

    async fn carried(&self, node: &DialNode, target: &Target, progress: &Progress) -> Result<Dialled, Cause> {
        if !target.host.is_sendable() {
            return Err(forbidden(Denied::BadName));
        }
        let (mut io, peer) = self.tcp_to(node, progress).await?;
        if node.kind != NodeKind::Https {
            let early = ask(node, target, &mut io, progress).await?;
            if !target.tls {
                return Ok(Dialled { io: Stream::Tcp(io), peer, early });
            }
            nothing_before_tls(&early, progress)?;
            let io = self.tls_with(io, &target.host, None, progress).await?;
            return Ok(Dialled { io, peer, early: Bytes::new() });
        }
        let party = Some(Blame::Node);
        progress.enter(Stage::Tls, party);
        let mut io = tls::handshake(&self.roots, Peer::Node, &node.host, io, party).await?;
        let early = ask(node, target, &mut io, progress).await?;
        if !target.tls {
            return Ok(Dialled { io: Stream::Tls(Box::new(io)), peer, early });
        }
        nothing_before_tls(&early, progress)?;
        progress.enter(Stage::Tls, None);
        let io = tls::handshake(&self.roots, self.offers, &target.host, io, None).await?;
        Ok(Dialled { io: Stream::TlsInTls(Box::new(io)), peer, early: Bytes::new() })
    }

    /// A connection to the node itself: configured, so no target rule applies to it.
    async fn tcp_to(&self, node: &DialNode, progress: &Progress) -> Result<(CountedTcp, SocketAddr), Cause> {
        let party = Some(Blame::Node);
        progress.enter(Stage::Resolve, party);
        let addresses = self.resolver.resolve(&node.host, node.port, party).await?;
        progress.enter(Stage::Dial, party);
        let (tcp, peer) = tcp::connect(addresses, party, progress).await?;
        Ok((CountedTcp::new(tcp), peer))
    }

    async fn tls_with(
        &self,
        io: CountedTcp,
        host: &Host,
        party: Option<Blame>,
        progress: &Progress,
    ) -> Result<Stream, Cause> {
        progress.enter(Stage::Tls, party);
        let tls = tls::handshake(&self.roots, self.offers, host, io, party).await?;
        Ok(Stream::Tls(Box::new(tls)))
    }
}

/// What an error on an established connection is: its fault and its number.
pub fn fault_of(error: &std::io::Error) -> (Fault, Option<i32>) {
    let cause = Cause::io(error, None, "");
    (cause.fault, cause.errno)
}

/// Asks a proxy node for the target. Silence here speaks against nobody: the node may be waiting for the target.
async fn ask<S>(node: &DialNode, target: &Target, io: &mut S, progress: &Progress) -> Result<Bytes, Cause>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    progress.enter(Stage::ProxyHandshake, None);
    let credentials = node.credentials.as_ref();
    match node.kind {
        NodeKind::Socks5 => socks::connect(io, target, credentials).await.map(|()| Bytes::new()),
        _ => http::connect(io, target, credentials).await,
    }
}

/// No TLS server speaks before it is spoken to, so what came early is not TLS.
fn nothing_before_tls(early: &Bytes, progress: &Progress) -> Result<(), Cause> {
    if early.is_empty() {
        return Ok(());
    }
    progress.enter(Stage::Tls, None);
    Err(Cause::protocol(None, format!("{} bytes came before the TLS handshake with the target", early.len())))
}

/// The client's wish is at fault, not a node.
fn forbidden(why: Denied) -> Cause {
    let cause = Cause::new(Fault::Unreachable, Some(Blame::Client), "target_denied", why.as_str());
    Cause { denied: Some(why), ..cause }
}
