//! What a gateway says when it has started: what it is, and what to type next.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use handover_gateway::config::{Config, NodeConfig, NodeKind, PlatformConfig, RouteConfig};

/// The data directory that `handover log` looks into by itself.
const DATA_DIR_DEFAULT: &str = "handover-data";
/// Nodes and platforms named one by one; of more only the number is told, for a banner is read at a glance.
const NAMED_MAX: usize = 6;

/// The lines of the banner that do not depend on the port.
pub(super) struct Banner {
    summary: String,
    scheme: &'static str,
    /// Flags of curl before the URL.
    curl: &'static str,
    /// Whether some platform can carry, and whether clients must then present a token.
    forward: Option<&'static str>,
    /// Whether it carries a request back to itself, which shows that it works where there is no network.
    itself: bool,
    /// Host and path of a request that a route takes.
    route: Option<(Option<String>, String)>,
    data_dir: Option<String>,
}

impl Banner {
    /// What there is to say of a configuration.
    pub(super) fn of(config: &Config) -> Self {
        let carries = config.platforms[0].nodes.first().is_some_and(|index| !config.nodes[*index].kind.is_origin());
        let credentials = if config.proxy_token.is_some() { " -U \"Default:$HANDOVER_PROXY_TOKEN\"" } else { "" };
        let data_dir = config.data_dir.to_string_lossy();
        let route = |route: &RouteConfig| (route.host.clone(), route.path.clone());
        Self {
            summary: summary(config),
            scheme: if config.tls.is_some() { "https" } else { "http" },
            // The certificate names the gateway's host, not the address that is typed here.
            curl: if config.tls.is_some() { "-k " } else { "" },
            forward: carries.then_some(credentials),
            itself: config.allow_private_targets && config.nodes.iter().all(|node| node.kind == NodeKind::Direct),
            // The most general one comes last.
            route: config.routes.last().map(route),
            data_dir: (data_dir != DATA_DIR_DEFAULT).then(|| data_dir.into_owned()),
        }
    }

    /// The banner of a gateway that listens on `listen`.
    pub(super) fn text(&self, listen: SocketAddr) -> String {
        let Self { scheme, curl, .. } = self;
        let here = format!("{scheme}://{}", reachable(listen));
        let tls = if *scheme == "https" { " (TLS)" } else { "" };
        let mut text =
            format!("handover {}, listening on {listen}{tls}\n\n{}\n", env!("CARGO_PKG_VERSION"), self.summary);
        let mut line = |command: String, what: &str| {
            let _ = writeln!(text, "  {command}\n      {what}");
        };
        if let Some((host, path)) = &self.route {
            let host = host.as_ref().map_or_else(String::new, |host| format!("-H 'Host: {host}' "));
            line(format!("curl {curl}{host}{here}{path}"), "a request to one of the origins");
        }
        line(format!("curl {curl}{here}/healthz"), "whether the gateway is well");
        if let Some(credentials) = self.forward {
            let proxy = if curl.is_empty() { "" } else { "--proxy-insecure " };
            if self.itself {
                let what = "a request through it, back to itself: works without a network";
                line(format!("curl {proxy}{curl}-x {here}{credentials} {here}/healthz"), what);
            }
            line(
                format!("curl {proxy}-x {here}{credentials} http://example.com/"),
                "a request through it to any target",
            );
        }
        let data_dir = self.data_dir.as_ref().map_or_else(String::new, |path| format!(" --data-dir {}", quoted(path)));
        line(format!("handover log{data_dir}"), "the requests it served");
        line(format!("handover explain{data_dir} last"), "the attempts of the newest one, and why each was made");
        text
    }
}

fn summary(config: &Config) -> String {
    let nodes: Vec<_> = config.nodes.iter().map(|node| node_shown(node)).collect();
    let platforms: Vec<_> = config.platforms.iter().map(platform_shown).collect();
    let log =
        if config.log.enabled { config.data_dir.display().to_string() } else { "off (log.enabled = false)".into() };
    let mut text = format!("  nodes      {}\n  platforms  {}\n", listed(&nodes), listed(&platforms));
    let _ = writeln!(text, "  log        {log}");
    let token = if config.proxy_token.is_some() { "clients must present the token" } else { "no token asked for" };
    let _ = writeln!(text, "  access     {token}");
    text
}

fn node_shown(node: &NodeConfig) -> String {
    let url = node.url_shown();
    if node.tag == url {
        url
    } else {
        format!("{} ({}{url})", node.tag, if node.kind.is_origin() { "origin " } else { "" })
    }
}

fn platform_shown(platform: &PlatformConfig) -> String {
    let nodes = platform.nodes.len();
    let retries = platform.policy.max_attempts() - 1;
    format!("{} ({nodes} node{}, max_retries {retries})", platform.name, if nodes == 1 { "" } else { "s" })
}

fn listed(items: &[String]) -> String {
    let shown = items[..items.len().min(NAMED_MAX)].join(", ");
    match items.len().saturating_sub(NAMED_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The address to type for one that is listened on: a wildcard is every address, also this machine's own.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// A path as a shell takes it.
fn quoted(path: &str) -> String {
    let plain = path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte));
    if plain { path.to_owned() } else { format!("'{}'", path.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use handover_gateway::config::{Flags, Sources};

    use super::*;

    fn banner(flags: Flags, listen: &str) -> String {
        let config = Config::load(Sources { flags, ..Sources::default() }).expect("valid");
        Banner::of(&config).text(listen.parse().expect("an address"))
    }

    #[test]
    fn the_first_start_says_what_to_type() {
        let text = banner(Flags::default(), "127.0.0.1:2260");
        let expected = "listening on 127.0.0.1:2260

  nodes      direct
  platforms  Default (1 node, max_retries 2)
  log        handover-data
  access     no token asked for

  curl http://127.0.0.1:2260/healthz
      whether the gateway is well
  curl -x http://127.0.0.1:2260 http://127.0.0.1:2260/healthz
      a request through it, back to itself: works without a network
  curl -x http://127.0.0.1:2260 http://example.com/
      a request through it to any target
  handover log
      the requests it served
  handover explain last
      the attempts of the newest one, and why each was made
";
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn origins_are_asked_directly_and_secrets_are_not_shown() {
        let flags = Flags {
            origins: vec!["http://127.0.0.1:9001".into()],
            nodes: vec!["socks5://anna:geheim@10.0.0.1:1080#eu".into()],
            token: Some("geheim".into()),
            data_dir: Some("my data".into()),
            ..Flags::default()
        };
        let text = banner(flags, "0.0.0.0:80");
        assert!(!text.contains("geheim") && !text.contains("anna"), "{text}");
        for line in [
            "listening on 0.0.0.0:80\n",
            "  curl http://127.0.0.1:80/\n",
            "  curl -x http://127.0.0.1:80 -U \"Default:$HANDOVER_PROXY_TOKEN\" http://example.com/\n",
            "  handover log --data-dir 'my data'\n",
            "  nodes      eu (socks5://***@10.0.0.1:1080), origin-127.0.0.1:9001 (origin http://127.0.0.1:9001)\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
    }
}
