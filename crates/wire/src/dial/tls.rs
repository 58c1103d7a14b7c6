//! TLS towards nodes and targets: whom to trust, and the handshake.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use handover_core::{Blame, Fault};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::cause::Cause;
use super::target::Host;

/// Whose certificates are trusted: those of extra files, and those of the platform.
///
/// Clones share what was loaded. The platform's certificates are read at the first TLS dial and not before: a program that
/// never speaks TLS starts on a machine that has none.
#[derive(Clone, Debug)]
pub struct TlsRoots(Arc<Roots>);

#[derive(Debug)]
struct Roots {
    extra: Vec<CertificateDer<'static>>,
    platform: Platform,
    identity: Option<Identity>,
    configs: OnceCell<Configs>,
}

/// Who this side is, for servers that ask: a client certificate with its chain, and its key.
#[derive(Debug)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// From PEM: the certificate, what leads from it to an authority, and the key (PKCS #8, PKCS #1 or SEC 1).
    ///
    /// # Errors
    /// What is missing or cannot be read.
    pub fn from_pem(certificates: &[u8], key: &[u8]) -> Result<Self, String> {
        let chain = CertificateDer::pem_slice_iter(certificates).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| format!("the client certificate cannot be read: {error}"))?;
        if chain.is_empty() {
            return Err("no client certificate in it (PEM is expected)".into());
        }
        let key = PrivateKeyDer::from_pem_slice(key);
        let key = key.map_err(|error| format!("the key of the client certificate cannot be read: {error}"))?;
        Ok(Self { chain, key })
    }
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
    origin_h2: Arc<ClientConfig>,
}

/// With whom TLS is spoken.
#[derive(Clone, Copy, Debug)]
pub(super) enum Peer {
    /// An `https` node: what it carries is not HTTP, so no protocol is negotiated.
    Node,
    /// A server that answers requests in HTTP/1.1.
    Origin,
    /// A server that may answer in HTTP/2 too; it chooses (ALPN).
    OriginH2,
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
        Ok(Self::new(extra, Platform::Trusted, None))
    }

    /// These certificates and no others, not even the platform's.
    pub fn only(certificates: Vec<CertificateDer<'static>>) -> Self {
        Self::new(certificates, Platform::Ignored, None)
    }

    /// These certificates, those of the platform too where `with_platform` says so, and a client certificate.
    pub fn with(extra: Vec<CertificateDer<'static>>, with_platform: bool, identity: Option<Identity>) -> Self {
        Self::new(extra, if with_platform { Platform::Trusted } else { Platform::Ignored }, identity)
    }

    fn new(extra: Vec<CertificateDer<'static>>, platform: Platform, identity: Option<Identity>) -> Self {
        Self(Arc::new(Roots { extra, platform, identity, configs: OnceCell::new() }))
    }

    /// Reads the certificates, unless that was done.
    pub(super) async fn preload(&self) {
        // What is wrong comes again with the dial that needs them.
        let _: Result<_, Cause> = self.config(Peer::Origin).await;
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
            Peer::OriginH2 => &configs.origin_h2,
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
            return Err(format!(
                "no CA certificates on this machine{why}; install them or name a file of CA certificates"
            ));
        }
        configs(Arc::new(store), self.identity.as_ref())
    }
}

fn configs(roots: Arc<RootCertStore>, identity: Option<&Identity>) -> Result<Configs, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let build = |alpn: &[&[u8]], identity: Option<&Identity>| {
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| format!("TLS cannot be set up: {error}"))?;
        let builder = builder.with_root_certificates(Arc::clone(&roots));
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(Identity { chain, key }) => builder
                .with_client_auth_cert(chain.clone(), key.clone_key())
                .map_err(|error| format!("the client certificate cannot be used: {error}"))?,
        };
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok::<_, String>(Arc::new(config))
    };
    // A proxy node has its own credentials: who this side is concerns the target only.
    Ok(Configs {
        node: build(&[], None)?,
        origin: build(&[b"http/1.1"], identity)?,
        origin_h2: build(&[b"h2", b"http/1.1"], identity)?,
    })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())?;
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    if found.is_empty() {
        return Err("no certificate in it (PEM is expected)".into());
    }
    Ok(found)
}

/// A file of certificates that cannot be used.
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
