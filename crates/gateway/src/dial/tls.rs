//! TLS towards nodes and targets: whom to trust, and the handshake.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use handover_core::{Blame, Fault};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::cause::Cause;
use super::target::Host;

/// Whose certificates are trusted: those of `ca_files`, and those of the platform.
///
/// Clones share what was loaded. The platform's certificates are read at the first TLS dial and not before: a gateway that
/// never speaks TLS starts on a machine that has none.
#[derive(Clone, Debug)]
pub struct TlsRoots(Arc<Roots>);

#[derive(Debug)]
struct Roots {
    extra: Vec<CertificateDer<'static>>,
    platform: Platform,
    configs: OnceCell<Configs>,
}

#[derive(Clone, Copy, Debug)]
enum Platform {
    Trusted,
    Ignored,
}

/// One configuration per kind of peer, so that a session of the one is never offered to the other.
#[derive(Clone, Debug)]
struct Configs {
    node: Arc<ClientConfig>,
    origin: Arc<ClientConfig>,
}

/// With whom TLS is spoken.
#[derive(Clone, Copy, Debug)]
pub(super) enum Peer {
    /// An `https` node: what it carries is not HTTP, so no protocol is negotiated.
    Node,
    /// A server that answers requests: HTTP/1.1 is what the gateway speaks to it.
    Origin,
}

impl TlsRoots {
    /// The platform's certificates and those of these PEM files, which are read now.
    ///
    /// # Errors
    /// The first file that cannot be read or has no certificate in it.
    pub fn with_ca_files<P: AsRef<Path>>(ca_files: &[P]) -> Result<Self, CaFileError> {
        let mut extra = Vec::new();
        for path in ca_files {
            let path = path.as_ref();
            extra.extend(certificates(path).map_err(|problem| CaFileError { path: path.to_owned(), problem })?);
        }
        Ok(Self::new(extra, Platform::Trusted))
    }

    /// These certificates and no others, not even the platform's.
    pub fn only(certificates: Vec<CertificateDer<'static>>) -> Self {
        Self::new(certificates, Platform::Ignored)
    }

    fn new(extra: Vec<CertificateDer<'static>>, platform: Platform) -> Self {
        Self(Arc::new(Roots { extra, platform, configs: OnceCell::new() }))
    }

    /// Not kept if it fails: certificates that are installed later are found without a restart.
    async fn config(&self, peer: Peer) -> Result<Arc<ClientConfig>, Cause> {
        let configs = self.0.configs.get_or_try_init(|| async {
            let roots = Arc::clone(&self.0);
            // Reading a few hundred certificates takes milliseconds of this thread that requests could use.
            let load = tokio::task::spawn_blocking(move || roots.load());
            load.await.unwrap_or_else(|_| Err("reading the CA certificates was interrupted".into()))
        });
        let configs = configs
            .await
            .map_err(|problem| Cause::new(Fault::Tls, Some(Blame::Local), "tls_unknown_authority", problem))?;
        Ok(Arc::clone(match peer {
            Peer::Node => &configs.node,
            Peer::Origin => &configs.origin,
        }))
    }
}

impl Roots {
    fn load(&self) -> Result<Configs, String> {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(self.extra.iter().cloned());
        let mut problems = Vec::new();
        if matches!(self.platform, Platform::Trusted) {
            let found = rustls_native_certs::load_native_certs();
            store.add_parsable_certificates(found.certs);
            problems = found.errors;
        }
        if store.is_empty() {
            let why = problems.first().map_or_else(String::new, |problem| format!(" ({problem})"));
            return Err(format!("no CA certificates on this machine{why}; install them or set ca_files"));
        }
        configs(Arc::new(store))
    }
}

fn configs(roots: Arc<RootCertStore>) -> Result<Configs, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let build = |alpn: &[&[u8]]| {
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| format!("TLS cannot be set up: {error}"))?;
        let mut config = builder.with_root_certificates(Arc::clone(&roots)).with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok::<_, String>(Arc::new(config))
    };
    Ok(Configs { node: build(&[])?, origin: build(&[b"http/1.1"])? })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())?;
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    if found.is_empty() {
        return Err("no certificate in it (PEM is expected)".into());
    }
    Ok(found)
}

/// A file of `ca_files` that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaFileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: String,
}

impl fmt::Display for CaFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.problem)
    }
}

impl std::error::Error for CaFileError {}

/// The handshake over a connection that is open already; a failure speaks against `party`.
pub(super) async fn handshake<S>(
    roots: &TlsRoots,
    peer: Peer,
    host: &Host,
    io: S,
    party: Option<Blame>,
) -> Result<TlsStream<S>, Cause>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = roots.config(peer).await?;
    let name = server_name(host).ok_or_else(|| {
        let message = format!("{host} is not a name that a certificate can be for");
        Cause::new(Fault::Tls, Some(Blame::Client), "tls_hostname_invalid", message)
    })?;
    let connected = TlsConnector::from(config).connect(name, io).await;
    connected.map_err(|error| Cause::io(&error, party, "in the TLS handshake"))
}

fn server_name(host: &Host) -> Option<ServerName<'static>> {
    match host {
        Host::Ip(address) => Some(ServerName::from(*address)),
        // Certificates and SNI know no root dot (RFC 6066 §3).
        Host::Name(name) => ServerName::try_from(name.strip_suffix('.').unwrap_or(name).to_owned()).ok(),
    }
}
