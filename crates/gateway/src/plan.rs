//! What all workers are given: the configuration made ready (policies, certificates, budgets), and one worker's view of it.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use handover_core::{Policy, TokenBucket};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::config::{Config, Credentials, ListenTls, NodeConfig, NodeKind};
use crate::node::{NodeState, Platform};
use handover_wire::dial::{self, DialNode, Dialer, Host, TargetRules, TlsRoots};

/// The window over which a retry budget counts requests: linkerd's default, long enough to smooth bursts.
const BUDGET_TTL: Duration = Duration::from_secs(10);

/// Retries a second that a budget always allows, so that a quiet platform can fail over at all (linkerd's default is 10).
const BUDGET_MIN_PER_SECOND: u32 = 10;

/// A configuration made ready. Shared by all workers, never changed.
pub(crate) struct Plan {
    pub(crate) config: Arc<Config>,
    pub(crate) tls: Option<TlsAcceptor>,
    dialer: Dialer,
    rules: TargetRules,
    trusted: Trusted,
    policies: Vec<Arc<Policy>>,
    budgets: Vec<Option<Arc<TokenBucket>>>,
}

/// What the files of `ca_files` held: a file may be another one under the same name.
type Trusted = Arc<Vec<Vec<u8>>>;

/// Why a configuration cannot be made ready.
#[derive(Debug)]
#[non_exhaustive]
pub enum PlanError {
    /// A file of certificates or keys cannot be used.
    Tls(String),
    /// A node is this gateway itself.
    Loop(String),
    /// A retry budget is not possible.
    Budget(String),
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlanError::Tls(text) | PlanError::Budget(text) => f.write_str(text),
            PlanError::Loop(tag) => {
                write!(f, "node {tag:?} is this gateway's own address: every request would come back; give another url")
            }
        }
    }
}

impl std::error::Error for PlanError {}

impl Plan {
    /// `listen` is the address that was really bound (the configured port may be 0).
    pub(crate) fn try_new(config: Config, listen: SocketAddr) -> Result<Self, PlanError> {
        for node in &config.nodes {
            if node.kind != NodeKind::Direct && is_self(node, listen) {
                return Err(PlanError::Loop(node.tag.clone()));
            }
        }
        let roots = TlsRoots::with_ca_files(&config.ca_files).map_err(|e| PlanError::Tls(e.to_string()))?;
        let trusted = config.ca_files.iter().map(|path| read(path)).collect::<Result<_, _>>().map(Arc::new)?;
        let tls = config.tls.as_ref().map(acceptor).transpose()?;
        let policies = config.platforms.iter().map(|p| Arc::new(p.policy)).collect();
        let budgets = config.platforms.iter().map(|p| budget(p.retry_budget_percent)).collect::<Result<_, _>>()?;
        // Where private targets are allowed the gateway may be asked for itself, which is how its first request is tried out.
        let own = if config.allow_private_targets { Vec::new() } else { vec![listen] };
        let rules = TargetRules { allow_private: config.allow_private_targets, own };
        Ok(Plan { config: Arc::new(config), tls, dialer: Dialer::new(roots), rules, trusted, policies, budgets })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, PlanError> {
    std::fs::read(path).map_err(|e| PlanError::Tls(format!("{}: {e}", path.display())))
}

fn is_self(node: &NodeConfig, listen: SocketAddr) -> bool {
    let same_host = match node.host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(ip) => ip == listen.ip() || (listen.ip().is_unspecified() && ip.is_loopback()),
        Err(_) => node.host == "localhost" && (listen.ip().is_loopback() || listen.ip().is_unspecified()),
    };
    same_host && node.port == listen.port()
}

fn budget(percent: Option<u32>) -> Result<Option<Arc<TokenBucket>>, PlanError> {
    let Some(percent) = percent else { return Ok(None) };
    let bucket = TokenBucket::try_new(percent, BUDGET_MIN_PER_SECOND, BUDGET_TTL);
    bucket.map(|b| Some(Arc::new(b))).map_err(|e| PlanError::Budget(e.to_string()))
}

/// The listener's TLS: HTTP/2 and HTTP/1.1 by ALPN.
fn acceptor(files: &ListenTls) -> Result<TlsAcceptor, PlanError> {
    let open = |path: &Path| {
        let file = File::open(path).map_err(|e| PlanError::Tls(format!("{}: {e}", path.display())))?;
        Ok(BufReader::new(file))
    };
    let unusable = |path: &Path, e: &dyn fmt::Display| PlanError::Tls(format!("{}: {e}", path.display()));
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_reader_iter(open(&files.cert)?)
        .collect::<Result<_, _>>()
        .map_err(|e| unusable(&files.cert, &e))?;
    let key = PrivateKeyDer::from_pem_reader(open(&files.key)?).map_err(|e| unusable(&files.key, &e))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|e| unusable(&files.cert, &e))?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(tls)))
}

/// One worker's view of the plan: its nodes have this worker's load and idle connections.
pub(crate) struct View {
    pub(crate) config: Arc<Config>,
    pub(crate) dialer: Dialer,
    pub(crate) rules: TargetRules,
    trusted: Trusted,
    pub(crate) nodes: Vec<Rc<NodeState>>,
    pub(crate) platforms: Vec<Rc<Platform>>,
    by_name: HashMap<String, usize>,
}

impl View {
    /// A view of the plan. Nodes that the view before had too, by their hash and tag, keep their load, and their connections
    /// too unless these were opened to what must not be reached any more, or to whom is not trusted any more.
    pub(crate) fn new(plan: &Plan, before: Option<&View>) -> Self {
        let config = Arc::clone(&plan.config);
        let node = |node: &Arc<NodeConfig>| kept(node, plan, before).unwrap_or_else(|| fresh(node));
        let nodes: Vec<_> = config.nodes.iter().map(node).collect();
        // A long request or tunnel may hold an old node for hours; it must not hold idle connections with it.
        for old in before.iter().flat_map(|view| &view.nodes) {
            if !nodes.iter().any(|node| Rc::ptr_eq(node, old)) {
                old.clear();
            }
        }
        let platform = |(at, p): (usize, &crate::config::PlatformConfig)| {
            Rc::new(Platform {
                name: Arc::from(p.name.as_str()),
                policy: Arc::clone(&plan.policies[at]),
                nodes: p.nodes.iter().map(|&n| Rc::clone(&nodes[n])).collect(),
                carries: p.nodes.iter().all(|&n| !config.nodes[n].kind.is_origin()),
                bucket: plan.budgets[at].clone(),
            })
        };
        let platforms: Vec<_> = config.platforms.iter().enumerate().map(platform).collect();
        let by_name = config.platforms.iter().enumerate().map(|(at, p)| (p.name.clone(), at)).collect();
        let (dialer, rules, trusted) = (plan.dialer.clone(), plan.rules.clone(), Arc::clone(&plan.trusted));
        View { config, dialer, rules, trusted, nodes, platforms, by_name }
    }

    /// The platform of that name; an empty name means `Default`.
    pub(crate) fn platform(&self, name: &str) -> Option<&Rc<Platform>> {
        let name = if name.is_empty() { "Default" } else { name };
        self.by_name.get(name).map(|&at| &self.platforms[at])
    }
}

fn kept(node: &NodeConfig, plan: &Plan, before: Option<&View>) -> Option<Rc<NodeState>> {
    let before = before?;
    let same = before.nodes.iter().find(|old| *old.hash == *node.hash && *old.tag == *node.tag)?;
    // Rules and certificates are checked when a connection is opened, so one that is open has passed the old ones only.
    let checked_alike = before.rules == plan.rules && before.trusted == plan.trusted;
    Some(if checked_alike { Rc::clone(same) } else { Rc::new(same.renewed()) })
}

fn fresh(node: &Arc<NodeConfig>) -> Rc<NodeState> {
    let credentials = node.credentials.as_ref().map(|Credentials { user, password }| dial::Credentials {
        user: user.as_str().into(),
        password: password.as_str().into(),
    });
    let dial = DialNode {
        tag: node.tag.as_str().into(),
        kind: node.kind,
        host: Host::parse(&node.host),
        port: node.port,
        credentials,
    };
    Rc::new(NodeState::new(&node.tag, &node.hash, dial))
}
