//! The keys of the file's top level and of its tables `[tls]`, `[limits]` and `[log]`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::super::token::TOKEN_RULE;
use super::super::url::{parse_node_url, parse_origin_url, tag_of};
use super::super::{Forwarded, Limits, LogSettings, NodeConfig, NodeUrlError, Token};
use super::Fallback::{Computed, Nothing, Value};
use super::{Form, Items, Key, Refused, Shown, Zero, days, hours, milliseconds, seconds};

/// The top level as it is read, before what depends on other keys is worked out.
#[derive(Debug)]
pub(in super::super) struct Root {
    pub(in super::super) listen: SocketAddr,
    pub(in super::super) data_dir: PathBuf,
    pub(in super::super) proxy_token: Option<Token>,
    pub(in super::super) allow_private_targets: Option<bool>,
    pub(in super::super) drain_timeout: Duration,
    pub(in super::super) forwarded: Forwarded,
    pub(in super::super) workers: Option<usize>,
    pub(in super::super) ca_files: Vec<PathBuf>,
    pub(in super::super) tls_cert: Option<PathBuf>,
    pub(in super::super) tls_key: Option<PathBuf>,
    pub(in super::super) connections_per_client_max: Option<usize>,
    pub(in super::super) limits: Limits,
    pub(in super::super) log: LogSettings,
    pub(in super::super) nodes: Vec<Listed>,
    pub(in super::super) origins: Vec<Listed>,
}

/// An item of a list of nodes. Of one whose URL is wrong the tag is kept, for it may not be given again either.
#[derive(Debug)]
pub(in super::super) struct Listed {
    pub(in super::super) node: Option<NodeConfig>,
    pub(in super::super) tag: Option<String>,
}

fn add_node(list: &mut Vec<Listed>, text: &str, read: Result<NodeConfig, NodeUrlError>) -> Result<(), Refused> {
    let tag = read.as_ref().map_or_else(|_| tag_of(text), |node| Some(node.tag.clone()));
    let (node, result) = match read {
        Ok(node) => (Some(node), Ok(())),
        Err(error) => (None, Err(Refused::Because(error.to_string()))),
    };
    list.push(Listed { node, tag });
    result
}

impl Default for Root {
    /// Zeros: the defaults are in the table, and reading them replaces every one of these.
    fn default() -> Self {
        let zero = Duration::ZERO;
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            data_dir: PathBuf::new(),
            proxy_token: None,
            allow_private_targets: None,
            drain_timeout: zero,
            forwarded: Forwarded::Strip,
            workers: None,
            ca_files: Vec::new(),
            tls_cert: None,
            tls_key: None,
            connections_per_client_max: None,
            limits: Limits {
                header_bytes_max: 0,
                header_count_max: 0,
                connections_max: 0,
                connections_per_client_max: 0,
                header_timeout: zero,
                idle_timeout: zero,
                tunnel_idle_timeout: zero,
                node_idle_timeout: zero,
                node_idle_max: 0,
            },
            log: LogSettings {
                enabled: true,
                queue_rows_max: 0,
                retention_bytes: 0,
                retention_age: zero,
                flush_interval: zero,
            },
            nodes: Vec::new(),
            origins: Vec::new(),
        }
    }
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

/// Stores a number whose range fits into `usize` on every system Rust runs on.
fn small(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn path(text: &str) -> Result<PathBuf, Refused> {
    if text.is_empty() || text.contains('\0') { Err(Refused::Rule) } else { Ok(text.into()) }
}

/// All keys of the top level, in the order in which they are documented.
pub(in super::super) static ROOT: &[Key<Root>] = &[
    Key {
        name: "listen",
        form: Form::Text {
            rule: "an address and a port, such as 127.0.0.1:2260 or [::1]:2260",
            shown: Shown::Yes,
            set: |root, text| {
                root.listen = text.parse().map_err(|_| Refused::Rule)?;
                Ok(())
            },
        },
        fallback: Value("127.0.0.1:2260"),
        doc: "the address of the one port for all doors; port 0 lets the system choose one",
        why: "loopback, so that a gateway started without a thought serves nobody but its own machine",
    },
    Key {
        name: "data_dir",
        form: Form::Text {
            rule: "the path of a directory",
            shown: Shown::Yes,
            set: |root, text| {
                root.data_dir = path(text)?;
                Ok(())
            },
        },
        fallback: Value("handover-data"),
        doc: "where the request log is kept; made if it is missing; relative to the working directory",
        why: "beside what was started, so that a first try leaves nothing elsewhere on the machine",
    },
    Key {
        name: "proxy_token",
        form: Form::Text {
            rule: TOKEN_RULE,
            shown: Shown::Never,
            set: |root, text| {
                root.proxy_token = Some(Token::try_new(text).map_err(|_| Refused::Rule)?);
                Ok(())
            },
        },
        fallback: Nothing("no credentials are asked for"),
        doc: "what clients must present; required to listen on anything but loopback",
        why: "an open proxy that others can reach is found and abused within hours",
    },
    Key {
        name: "allow_private_targets",
        form: Form::Switch { set: |root, value| root.allow_private_targets = Some(value) },
        fallback: Computed("true while listening on loopback, otherwise false"),
        doc: "whether clients may reach targets on loopback, link-local and private addresses through the forward door",
        why: "on loopback a client could reach them without the gateway; from elsewhere it could not",
    },
    Key {
        name: "drain_timeout",
        form: Form::Time {
            least: milliseconds(1),
            most: hours(1),
            zero: Zero::Off,
            set: |root, value| root.drain_timeout = value,
        },
        fallback: Value("10s"),
        doc: "how long running requests may still take when the gateway is told to stop",
        why: "the time that service managers commonly leave between the signals TERM and KILL is 10 s or more",
    },
    Key {
        name: "xff",
        form: Form::Choice {
            words: &["strip", "append"],
            set: |root, index| root.forwarded = [Forwarded::Strip, Forwarded::Append][index],
        },
        fallback: Value("strip"),
        doc: "what targets are told of the client; strip: nothing; append: its address, in X-Forwarded-For",
        why: "a forward proxy must not tell strangers who uses it unless it is told to",
    },
    Key {
        name: "workers",
        form: Form::Number { least: 1, most: 256, set: |root, value| root.workers = Some(small(value)) },
        fallback: Computed("the number of processors this process may use"),
        doc: "threads that serve connections, each on its own",
        why: "one a processor: they share nothing, so more would only take turns; 256 is what a request's id has room for",
    },
    Key {
        name: "ca_files",
        form: Form::List {
            rule: "paths of PEM files",
            items: Items::Texts,
            clear: |root| root.ca_files.clear(),
            add: |root, text| {
                root.ca_files.push(path(text)?);
                Ok(())
            },
        },
        fallback: Nothing("only the system's certificates are trusted"),
        doc: "certificates trusted beside the system's, for nodes and origins behind TLS",
        why: "there is no switch to trust any certificate: name the one that is yours here instead",
    },
    Key {
        name: "nodes",
        form: Form::List {
            rule: "URLs (tables are headed [[node]]): direct or http|https|socks5://[user:password@]host:port[#tag]",
            items: Items::Texts,
            clear: |root| root.nodes.clear(),
            add: |root, text| add_node(&mut root.nodes, text, parse_node_url(text)),
        },
        fallback: Computed("one `direct`, if no source names a node or an origin"),
        doc: "nodes that carry to any target, the short form of [[node]]; the environment and flags replace the file's",
        why: "each must be reachable on its own: a retry goes to one that the request has not tried yet",
    },
    Key {
        name: "origins",
        form: Form::List {
            rule: "URLs: http|https://host[:port][#tag]",
            items: Items::Texts,
            clear: |root| root.origins.clear(),
            add: |root, text| add_node(&mut root.origins, text, parse_origin_url(text)),
        },
        fallback: Nothing("no request in origin-form is routed"),
        doc: "nodes that are the target; unless the file routes them, all of them are the platform `origins`, which has `/`",
        why: "they should be replicas: any of them may get any request",
    },
    Key {
        name: "tls.cert",
        form: Form::Text {
            rule: "the path of a PEM file",
            shown: Shown::Yes,
            set: |root, text| {
                root.tls_cert = Some(path(text)?);
                Ok(())
            },
        },
        fallback: Nothing("the port speaks no TLS"),
        doc: "certificate chain of the port, the leaf first; then clients speak TLS to it, HTTP/2 included",
        why: "without TLS the token can be read on the way: set it where clients come over a network",
    },
    Key {
        name: "tls.key",
        form: Form::Text {
            rule: "the path of a PEM file",
            shown: Shown::Yes,
            set: |root, text| {
                root.tls_key = Some(path(text)?);
                Ok(())
            },
        },
        fallback: Nothing("the port speaks no TLS"),
        doc: "private key of the certificate",
        why: "certificate and key come together or not at all",
    },
    Key {
        name: "limits.header_bytes_max",
        form: Form::Bytes { least: 8 * KIB, most: MIB, set: |root, value| root.limits.header_bytes_max = small(value) },
        fallback: Value("64KiB"),
        doc: "bytes of a request head or response head; a larger request head is answered 431",
        why: "browsers' cookies reach 16 KiB; every connection may hold this much, so it is a bound on memory too; the \
              parser's own buffer begins at 8 KiB",
    },
    Key {
        name: "limits.header_count_max",
        form: Form::Number { least: 16, most: 1024, set: |root, value| root.limits.header_count_max = small(value) },
        fallback: Value("100"),
        doc: "header fields of a head; a request with more is answered 431",
        why: "the default of common servers; real requests have below 40",
    },
    Key {
        name: "limits.connections_max",
        form: Form::Number { least: 1, most: 1_000_000, set: |root, value| root.limits.connections_max = small(value) },
        fallback: Value("10000"),
        doc: "client connections of the whole gateway; further ones get 503 TOO_MANY_CONNECTIONS at once; with TLS they are closed",
        why: "with one connection onwards each it stays below 20,480 descriptors; more needs a raised limit of the system",
    },
    Key {
        name: "limits.connections_per_client_max",
        form: Form::Number {
            least: 0,
            most: 1_000_000,
            set: |root, value| root.connections_per_client_max = Some(small(value)),
        },
        fallback: Computed("1024; 0 while listening on loopback"),
        doc: "client connections from one address; 0 is no bound",
        why: "a tenth of all, so that one client cannot take every connection; on loopback every client has one address",
    },
    Key {
        name: "limits.header_timeout",
        form: Form::Time {
            least: milliseconds(10),
            most: hours(1),
            zero: Zero::Refused,
            set: |root, value| root.limits.header_timeout = value,
        },
        fallback: Value("10s"),
        doc: "how long a client may take to send a request head",
        why: "a lost packet is sent again within 3 s, twice within 9 s; a longer limit helps only slow-header attacks",
    },
    Key {
        name: "limits.idle_timeout",
        form: Form::Time {
            least: milliseconds(10),
            most: days(1),
            zero: Zero::Refused,
            set: |root, value| root.limits.idle_timeout = value,
        },
        fallback: Value("75s"),
        doc: "how long a client connection may stay open between requests",
        why: "above the 60 s that load balancers in front commonly wait, so that they and not we close first",
    },
    Key {
        name: "limits.tunnel_idle_timeout",
        form: Form::Time {
            least: milliseconds(10),
            most: days(7),
            zero: Zero::Refused,
            set: |root, value| root.limits.tunnel_idle_timeout = value,
        },
        fallback: Value("10m"),
        doc: "how long a tunnel or WebSocket may stay without a byte in either direction",
        why: "long enough for the pings of WebSockets and server-sent events, short enough to get rid of dead peers",
    },
    Key {
        name: "limits.node_idle_timeout",
        form: Form::Time {
            least: milliseconds(10),
            most: hours(1),
            zero: Zero::Refused,
            set: |root, value| root.limits.node_idle_timeout = value,
        },
        fallback: Value("60s"),
        doc: "how long an unused connection to a node is kept",
        why: "below the 75 s after which common servers close it: a request on a closing connection cannot be proven unsent",
    },
    Key {
        name: "limits.node_idle_max",
        form: Form::Number { least: 0, most: 65_536, set: |root, value| root.limits.node_idle_max = small(value) },
        fallback: Value("256"),
        doc: "unused connections kept per node and worker; 0 keeps none",
        why: "as many as requests that run at once on one worker under load; each costs one descriptor",
    },
    Key {
        name: "log.enabled",
        form: Form::Switch { set: |root, value| root.log.enabled = value },
        fallback: Value("true"),
        doc: "whether requests are logged",
        why: "the log is the proof of what failed over and why; without it there is nothing to explain",
    },
    Key {
        name: "log.queue_rows_max",
        form: Form::Number { least: 256, most: 16_777_216, set: |root, value| root.log.queue_rows_max = small(value) },
        fallback: Value("65536"),
        doc: "rows that may wait for the disk; further ones are dropped and counted, requests never wait",
        why: "a second of the disk's absence at 65,000 requests/s; at some 500 bytes a row it is 32 MiB",
    },
    Key {
        name: "log.retention_bytes",
        form: Form::Bytes { least: MIB, most: 1024 * GIB, set: |root, value| root.log.retention_bytes = value },
        fallback: Value("512MiB"),
        doc: "size of the log at which the oldest rows are removed",
        why: "about two million requests, and no disk is filled by a gateway that was forgotten",
    },
    Key {
        name: "log.retention_age",
        form: Form::Time {
            least: seconds(1),
            most: days(3650),
            zero: Zero::Refused,
            set: |root, value| root.log.retention_age = value,
        },
        fallback: Value("7d"),
        doc: "age at which rows are removed",
        why: "a week has every day's traffic in it; the rows name clients, so they should not stay for long",
    },
    Key {
        name: "log.flush_interval",
        form: Form::Time {
            least: milliseconds(10),
            most: seconds(10),
            zero: Zero::Refused,
            set: |root, value| root.log.flush_interval = value,
        },
        fallback: Value("250ms"),
        doc: "how long a row may wait before it is written",
        why: "a killed gateway loses at most this much and a little; shorter means more transactions for the same rows",
    },
];
