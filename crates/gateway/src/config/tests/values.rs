//! Defaults, the contract's example, and which source wins.

use std::path::Path;

use handover_core::{Order, PolicyParts, Replay};

use super::*;

/// The example of the contract, word for word.
const EXAMPLE: &str = r#"
listen = "127.0.0.1:2260"
data_dir = "handover-data"
proxy_token = "tok"            # required to listen on anything but loopback; refuse to start otherwise, saying so
[[node]]
tag = "eu-1"
url = "socks5://127.0.0.1:1080"
[[node]]
tag = "api-1"
kind = "origin"
url = "http://127.0.0.1:9001"
[[platform]]                   # a platform named Default always exists; it has all carrying nodes unless it says otherwise
name = "Default"
max_retries = 2                # further attempts, each on a node not yet tried for this request; 0 switches the machinery off
tag_filters = ["^eu-"]         # regular expressions, all must match
connect_timeout = "3s"
response_timeout = "30s"       # to the response head
dial_stagger = "250ms"         # hedged dial: 0 switches it off
[[platform]]
name = "api"
tag_filters = ["^api-"]
max_retries = 3
[[route]]                      # origin-form requests that match go to a platform of origin nodes
host = "api.example.com"       # optional
path = "/v1/"                  # prefix by whole segments
platform = "api"
"#;

#[test]
fn the_example_of_the_contract_means_what_it_says() {
    let config = from_file(EXAMPLE).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:2260");
    assert_eq!(config.data_dir, Path::new("handover-data"));
    assert!(config.proxy_token.as_ref().unwrap().matches(b"tok"));
    assert_eq!((tags(&config, "Default"), tags(&config, "api")), (vec!["eu-1"], vec!["api-1"]));
    assert_eq!(config.platforms.iter().map(|platform| platform.policy.max_attempts()).collect::<Vec<_>>(), [3, 4]);
    let [route] = config.routes.as_slice() else { panic!("one route: {:?}", config.routes) };
    assert_eq!(route, &RouteConfig { host: Some("api.example.com".into()), path: "/v1/".into(), platform: 1 });
    assert_eq!(config.route("API.example.com:2260", "/v1/things").map(|route| route.platform), Some(1));
    assert_eq!(config.route("other.example.com", "/v1/things"), None);
    assert_eq!(config.warnings(), Vec::<String>::new());
}

#[test]
fn nothing_at_all_is_a_configuration_with_one_direct_node() {
    let config = Config::load(Sources::default()).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:2260");
    assert_eq!(
        config.nodes.iter().map(|node| (node.tag.as_str(), node.kind)).collect::<Vec<_>>(),
        [("direct", NodeKind::Direct)]
    );
    assert_eq!(tags(&config, "Default"), ["direct"]);
    assert_eq!((config.platforms.len(), config.routes.len()), (1, 0));
    assert!(config.proxy_token.is_none() && config.allow_private_targets && config.tls.is_none());
    assert_eq!((config.forwarded, config.drain_timeout), (Forwarded::Strip, Duration::from_secs(10)));
    assert!((1..=256).contains(&config.workers));
    let limits = Limits {
        header_bytes_max: 65_536,
        header_count_max: 100,
        connections_max: 10_000,
        connections_per_client_max: 0,
        header_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(75),
        tunnel_idle_timeout: Duration::from_secs(600),
        node_idle_timeout: Duration::from_secs(60),
        node_idle_max: 256,
    };
    assert_eq!(config.limits, limits);
    let log = LogSettings {
        enabled: true,
        queue_rows_max: 65_536,
        retention_bytes: 512 << 20,
        retention_age: Duration::from_secs(7 * 24 * 3600),
        flush_interval: Duration::from_millis(250),
    };
    assert_eq!(config.log, log);
}

#[test]
fn the_policy_of_a_platform_that_says_nothing_is_the_cores_default() {
    assert_eq!(from_file("").unwrap().platforms[0].policy.parts(), &PolicyParts::default());
}

#[test]
fn every_key_of_a_policy_reaches_the_policy() {
    let text = r#"
[[platform]]
name = "Default"
max_retries = 0
replay = "idempotent"
retry_statuses = [503, 502]
order = "priority"
connect_timeout = "1ms"
response_timeout = "1h"
dial_stagger = 0
deadline = "2m"
min_deadline = "500ms"
retry_budget = 20
"#;
    let platform = from_file(text).unwrap().platforms.remove(0);
    let expected = PolicyParts {
        max_attempts: 1,
        replay: Replay::Idempotent,
        retry_statuses: [502, 503].into_iter().collect(),
        order: Order::Priority,
        connect_timeout: Duration::from_millis(1),
        response_timeout: Duration::from_secs(3600),
        dial_stagger: None,
        deadline: Some(Duration::from_secs(120)),
        min_deadline: Duration::from_millis(500),
        ..PolicyParts::default()
    };
    assert_eq!((platform.policy.parts(), platform.retry_budget_percent), (&expected, Some(20)));
    let always = from_env(&[("HANDOVER_DEFAULT_PLATFORM_REPLAY", "always")]).unwrap();
    assert_eq!(always.platforms[0].policy.replay(), Replay::Always);
}

#[test]
fn every_top_level_key_reaches_its_field() {
    let text = r#"
listen = "[::1]:0"
data_dir = "d"
proxy_token = "t"
allow_private_targets = false
drain_timeout = "0"
xff = "append"
workers = 3
[limits]
header_bytes_max = 8192
header_count_max = 16
connections_max = 5
connections_per_client_max = 4
header_timeout = "20ms"
idle_timeout = "1d"
tunnel_idle_timeout = "1h"
node_idle_timeout = "1m"
node_idle_max = 0
[log]
enabled = false
queue_rows_max = 256
retention_bytes = "1GiB"
retention_age = "1h"
flush_interval = "1s"
"#;
    let config = from_file(text).unwrap();
    assert_eq!((config.listen.to_string(), config.data_dir.to_str()), ("[::1]:0".into(), Some("d")));
    assert_eq!((config.allow_private_targets, config.drain_timeout), (false, Duration::ZERO));
    assert_eq!((config.forwarded, config.workers), (Forwarded::Append, 3));
    let limits = format!("{:?}", config.limits);
    assert_eq!(
        limits,
        "Limits { header_bytes_max: 8192, header_count_max: 16, connections_max: 5, connections_per_client_max: 4, \
         header_timeout: 20ms, idle_timeout: 86400s, tunnel_idle_timeout: 3600s, node_idle_timeout: 60s, node_idle_max: 0 }"
    );
    let log = format!("{:?}", config.log);
    assert_eq!(
        log,
        "LogSettings { enabled: false, queue_rows_max: 256, retention_bytes: 1073741824, retention_age: 3600s, \
         flush_interval: 1s }"
    );
}

#[test]
fn flags_win_over_environment_over_file() {
    let file =
        "listen = \"127.0.0.1:1\"\ndata_dir = \"file\"\nworkers = 1\n[[platform]]\nname = \"Default\"\nmax_retries = 4";
    let env = [
        ("HANDOVER_LISTEN", "127.0.0.1:2"),
        ("HANDOVER_DATA_DIR", "env"),
        ("HANDOVER_DEFAULT_PLATFORM_MAX_RETRIES", "5"),
        ("OTHER_LISTEN", "nonsense"),
    ];
    let flags = Flags { listen: Some("127.0.0.1:3".into()), max_retries: Some("6".into()), ..Flags::default() };
    let all = from_all(file, &env, &flags).unwrap();
    assert_eq!(all.listen.port(), 3);
    assert_eq!(all.data_dir, Path::new("env"));
    assert_eq!(all.workers, 1);
    assert_eq!(all.platforms[0].policy.max_attempts(), 7);
    let without_flags = from_all(file, &env, &Flags::default()).unwrap();
    assert_eq!((without_flags.listen.port(), without_flags.platforms[0].policy.max_attempts()), (2, 6));
}

#[test]
fn every_key_is_read_from_the_environment() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a,b.pem");
    std::fs::write(&file, certificate_and_key().concat()).unwrap();
    let file = file.to_str().unwrap();
    let list = format!("[{file:?}]");
    let env = [
        ("HANDOVER_LIMITS_HEADER_TIMEOUT", "3s"),
        ("HANDOVER_LOG_ENABLED", "false"),
        ("HANDOVER_LIMITS_CONNECTIONS_MAX", "7"),
        ("HANDOVER_CA_FILES", &list),
        ("HANDOVER_TLS_CERT", file),
        ("HANDOVER_TLS_KEY", file),
        ("HANDOVER_NODES", "http://h:1#a, socks5://h:2"),
        ("HANDOVER_DEFAULT_PLATFORM_TAG_FILTERS", "^a$"),
        ("HANDOVER_DEFAULT_PLATFORM_REPLAY", "always"),
        ("HANDOVER_DEFAULT_PLATFORM_RETRY_STATUSES", "502,503"),
        ("HANDOVER_CONFIG", "read by the command"),
        ("HANDOVER_LOG_FORMAT", "read by the command"),
    ];
    let config = from_env(&env).unwrap();
    assert_eq!(config.limits.header_timeout, Duration::from_secs(3));
    assert_eq!((config.log.enabled, config.limits.connections_max), (false, 7));
    assert_eq!(config.ca_files, [Path::new(file)]);
    assert_eq!(config.tls, Some(ListenTls { cert: file.into(), key: file.into() }));
    assert_eq!(config.nodes.iter().map(|node| node.tag.as_str()).collect::<Vec<_>>(), ["a", "socks5-h:2"]);
    assert_eq!(tags(&config, "Default"), ["a"]);
    assert_eq!(config.platforms[0].policy.retry_statuses().iter().collect::<Vec<_>>(), [502, 503]);
}

#[test]
fn an_array_in_the_environment_keeps_commas() {
    let env = [("HANDOVER_DEFAULT_PLATFORM_TAG_FILTERS", r#"["^d.{1,9}$", '^\w']"#)];
    let filters = &from_env(&env).unwrap().platforms[0].tag_filters;
    assert_eq!(filters.iter().map(Regex::as_str).collect::<Vec<_>>(), ["^d.{1,9}$", r"^\w"]);
    // Brackets alone make no array: this is one regular expression.
    let env = [("HANDOVER_DEFAULT_PLATFORM_TAG_FILTERS", "[a-z]")];
    assert_eq!(from_env(&env).unwrap().platforms[0].tag_filters[0].as_str(), "[a-z]");
}

#[test]
fn listening_where_others_reach_it_needs_a_token_and_closes_private_targets() {
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:80", "[::ffff:192.0.2.1]:80"] {
        let flags = Flags { listen: Some(listen.into()), ..Flags::default() };
        let error = shown(from_flags(flags.clone()));
        assert!(error.starts_with("flag --listen: proxy_token: found none while listening on"), "{error}");
        assert!(error.contains("set proxy_token or listen on 127.0.0.1"), "{error}");
        let config = from_flags(Flags { token: Some("t".into()), ..flags }).unwrap();
        assert!(!config.allow_private_targets);
        assert_eq!(config.limits.connections_per_client_max, 1024);
    }
    for listen in ["127.0.0.1:0", "127.9.9.9:0", "[::1]:0", "[::ffff:127.0.0.1]:0"] {
        let config = from_flags(Flags { listen: Some(listen.into()), ..Flags::default() }).unwrap();
        assert!(config.allow_private_targets && config.limits.connections_per_client_max == 0, "{listen}");
    }
}

#[test]
fn a_token_is_compared_whole_and_never_shown() {
    let config = from_flags(Flags { token: Some("geheim-1".into()), ..Flags::default() }).unwrap();
    let token = config.proxy_token.as_ref().unwrap();
    assert!(token.matches(b"geheim-1"));
    for wrong in [&b""[..], b"geheim", b"geheim-2", b"geheim-12"] {
        assert!(!token.matches(wrong));
    }
    assert!(!format!("{config:?} {token} {token:?}").contains("geheim"));
}

#[test]
fn the_page_of_the_guide_is_what_the_table_says() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guide/configuration.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(page, key_reference()).unwrap();
    }
    let written = std::fs::read_to_string(page).unwrap_or_default();
    assert!(
        written == key_reference(),
        "docs/guide/configuration.md is old: UPDATE_DOCS=1 cargo test -p handover-gateway the_page_of_the_guide"
    );
}

#[test]
fn the_example_of_the_guide_is_accepted() {
    let page = key_reference();
    let example = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    assert_eq!(from_file(example).unwrap().routes.len(), 1);
}
