//! The gateway's configuration: one TOML file, the environment and the flags, resolved to plain typed values.
//!
//! Each key is defined once, in `config::keys`, and from that one definition come the file's parser, the `HANDOVER_…` variables,
//! the key list of the command line and the reference page of the guide. The stronger source wins: flags over environment
//! over file over default. Every value of every source is checked, also one that a stronger source replaces, and all that
//! is wrong is reported at once, because a configuration that is corrected one error a start is corrected at night.
//!
//! What a [`Config`] promises to the rest of the gateway: every index in it is valid, a platform never mixes nodes that carry
//! with origins, a platform that a route leads to has at least one origin, names and tags are unique, and a listener that
//! others can reach has a token.

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use handover_core::Policy;
use regex::Regex;

mod drafts;
mod error;
mod keys;
mod node;
mod reference;
mod resolve;
mod route;
mod token;
mod url;
mod value;

pub use error::{ConfigError, ConfigErrors, Place};
pub use node::{Credentials, NodeConfig, NodeKind};
pub use reference::{key_list, key_reference};
pub use route::RouteConfig;
pub use token::Token;
pub use url::{NodeUrlError, parse_node_url, parse_origin_url};

use drafts::{Document, Drafts};

/// Everything the gateway needs to know to run. Built by [`Config::load`].
#[derive(Clone, Debug)]
pub struct Config {
    /// The address of the one port. Port 0 lets the system choose.
    pub listen: SocketAddr,
    /// The directory of the request log. Relative to the working directory.
    pub data_dir: PathBuf,
    /// What clients must present; `None` asks for nothing.
    pub proxy_token: Option<Token>,
    /// Whether targets on loopback, link-local and private addresses may be reached.
    pub allow_private_targets: bool,
    /// How long running requests may take after a shutdown began.
    pub drain_timeout: Duration,
    /// What happens to the header fields that tell the target who the client is.
    pub forwarded: Forwarded,
    /// Number of worker threads, 1 to 256.
    pub workers: usize,
    /// Certificate and key of the listener; `None` listens without TLS.
    pub tls: Option<ListenTls>,
    /// Files of PEM certificates trusted beside the system's, for nodes and origins.
    pub ca_files: Vec<PathBuf>,
    /// What one client, one connection and one head may take.
    pub limits: Limits,
    /// The request log.
    pub log: LogSettings,
    /// All nodes, in the order declared. Shared, because every attempt refers to one.
    pub nodes: Vec<Arc<NodeConfig>>,
    /// All platforms. The first is always `Default`.
    pub platforms: Vec<PlatformConfig>,
    /// All routes, the most specific first: the first that matches is the one.
    pub routes: Vec<RouteConfig>,
}

/// What happens to `Forwarded`, `X-Forwarded-*`, `X-Real-IP` and `Via` of the client's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarded {
    /// They are removed and none is added: the target learns nothing of the client.
    Strip,
    /// They are kept, and the client's address is added to `X-Forwarded-For`.
    Append,
}

/// Files of the listener's own TLS identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenTls {
    /// PEM file of the certificate chain, the leaf first.
    pub cert: PathBuf,
    /// PEM file of the private key.
    pub key: PathBuf,
}

/// Bounds on what clients may take. The numbers and their reasons are in the key table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request or response head, request line included.
    pub header_bytes_max: usize,
    /// Header fields of a head.
    pub header_count_max: usize,
    /// Client connections of the whole gateway.
    pub connections_max: usize,
    /// Client connections from one address; 0 is no bound.
    pub connections_per_client_max: usize,
    /// From the first byte of a connection, or of a further request on it, to the end of the head.
    pub header_timeout: Duration,
    /// How long a client connection may stay without a request.
    pub idle_timeout: Duration,
    /// How long a tunnel may stay without a byte in either direction.
    pub tunnel_idle_timeout: Duration,
    /// How long a pooled connection to a node may stay unused.
    pub node_idle_timeout: Duration,
    /// Pooled unused connections per node and worker.
    pub node_idle_max: usize,
}

/// Settings of the request log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Whether requests are logged at all.
    pub enabled: bool,
    /// Rows that may wait for the writer; further ones are dropped and counted.
    pub queue_rows_max: usize,
    /// Size of the log at which the oldest rows go, in bytes.
    pub retention_bytes: u64,
    /// Age at which rows go.
    pub retention_age: Duration,
    /// How long a row may wait before it is written.
    pub flush_interval: Duration,
}

/// A named pool of nodes with one policy.
#[derive(Clone, Debug)]
pub struct PlatformConfig {
    /// Its name, unique.
    pub name: String,
    /// How far failover goes on it.
    pub policy: Policy,
    /// Percentage of requests that may be repeated or dialled twice at once, over the whole platform; `None` is no budget.
    pub retry_budget_percent: Option<u32>,
    /// What a node's tag must match, all of them. Empty when the platform takes the nodes it has by default.
    pub tag_filters: Vec<Regex>,
    /// Its nodes, as indexes into [`Config::nodes`].
    pub nodes: Vec<usize>,
}

/// Where a configuration comes from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The TOML file, if one was named.
    pub file: Option<PathBuf>,
    /// Environment variables. Only those whose name begins with `HANDOVER_` are looked at.
    pub env: Vec<(String, String)>,
    /// The flags of the command line.
    pub flags: Flags,
}

/// The flags of the command line, as typed: they are checked together with the other sources.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--listen`
    pub listen: Option<String>,
    /// `--data-dir`
    pub data_dir: Option<String>,
    /// `--token`
    pub token: Option<String>,
    /// `--max-retries`
    pub max_retries: Option<String>,
    /// Each `--node`, in order.
    pub nodes: Vec<String>,
    /// Each `--origin`, in order.
    pub origins: Vec<String>,
}

impl Config {
    /// Reads, checks and resolves all sources. Reads files, so it blocks; it changes nothing.
    ///
    /// # Errors
    /// All that is wrong in all sources, sorted by place.
    pub fn load(sources: Sources) -> Result<Self, ConfigErrors> {
        let Sources { file, env, flags } = sources;
        let Some(path) = file else {
            return Self::from_text(None, &env, &flags);
        };
        let shown = path.to_string_lossy();
        match read_file(&path) {
            Ok(text) => Self::from_text(Some((&shown, &text)), &env, &flags),
            Err(problem) => Err(ConfigErrors::new(vec![ConfigError {
                source: Place::File { path: shown.into_owned(), line: 0, column: 0 },
                key: String::new(),
                found: problem,
                allowed: "allowed: a TOML file that can be read".into(),
            }])),
        }
    }

    /// The same from the file's text, with the name that errors give the file.
    fn from_text(file: Option<(&str, &str)>, env: &[(String, String)], flags: &Flags) -> Result<Self, ConfigErrors> {
        let document = file.map(|(path, text)| Document::parse(path, text)).transpose();
        let document = match document {
            Ok(document) => document,
            // Without the file nothing can be said of what is missing, but the other sources are checked for themselves.
            Err(error) => {
                let mut errors = Drafts::read(None, env, flags).errors;
                errors.push(error);
                return Err(ConfigErrors::new(errors));
            }
        };
        resolve::resolve(Drafts::read(document.as_ref(), env, flags))
    }

    /// What may be a mistake but need not be one, a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let empty = self.platforms.iter().filter(|platform| platform.nodes.is_empty());
        let only_origins = self.nodes.iter().all(|node| node.kind.is_origin());
        let mut warnings: Vec<_> = empty
            // Who declares origins only has no use for the forward door.
            .filter(|platform| !(only_origins && platform.tag_filters.is_empty()))
            .map(|platform| format!("platform {} has no node: no tag matches its tag_filters", platform.name))
            .collect();
        let all_routed = self.routes.iter().any(|route| route.host.is_none() && route.path == "/");
        if self.proxy_token.is_some() && !only_origins && all_routed {
            warnings.push(
                "a route takes every path: the path form is reachable only with the token as first segment; other paths go \
                 to the origins"
                    .into(),
            );
        }
        warnings
    }

    /// The most specific route for an origin-form request, if any.
    ///
    /// `host` is the request's host as it came, with or without a port; `path` begins with a slash and has no query.
    pub fn route(&self, host: &str, path: &str) -> Option<&RouteConfig> {
        self.routes.iter().find(|route| route.matches(host, path))
    }
}

/// Ten thousand nodes fill a tenth of it; more is not a configuration but a file named by mistake.
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;

fn read_file(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    read.map_err(|error| format!("a file that cannot be read: {error}"))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err("a file of more than 8 MiB".into());
    }
    String::from_utf8(bytes).map_err(|error| {
        let line =
            1 + error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
        format!("bytes that are not UTF-8 in line {line}")
    })
}

#[cfg(test)]
mod tests;
