//! Every kind of error: its place, the key, what was found, what is allowed; and all of them at once.

use super::*;

#[test]
#[allow(clippy::too_many_lines, reason = "one file with every kind of error, and what is said of it")]
fn all_errors_of_a_file_are_reported_at_once_with_their_lines() {
    let text = r#"lisen = "127.0.0.1:2260"
proxy_token = "a b"
workers = 0
xff = "yes"
header_timeout = "3s"

[limits]
header_timeout = 3
header_bytes_max = "1MB"
connections_max = "many"

[log]
enabled = "true"
flush_interval = "1s 1s"
log = 1979-05-27

[[node]]
tag = "eu-1"
url = "socks5://anna:geheim@127.0.0.1"

[[node]]
tag = "eu-2"
url = "http://127.0.0.1:8080"

[[node]]
tag = "eu-2"
kind = "socks5"
url = "http://127.0.0.1:8081"

[[node]]
kind = "orgin"

[[platform]]
name = "a/b"
max_retries = 32
tag_filters = ["^ok$", "(unclosed", 5]
colour = "red"

[[platform]]
name = "x"
connect_timeout = "3"
dial_stagger = "5ms"
retry_statuses = [503, 200]

[[platform]]
name = "x"
deadline = "1s"
min_deadline = "2s"

[[platform]]

[[route]]
path = "v1"
platform = "nope"

[[route]]
host = "a b"

[node_typo]
"#;
    let expected = r#"1:1: lisen: found a key that is not known; did you mean listen?
2:15: proxy_token: found a value that is not shown; allowed: a token is a path segment: not empty, none of . : | / \ @ ? # % ~, no white space or control characters, and not one of api, healthz, ui, metrics
3:11: workers: found 0; allowed: a whole number from 1 to 256
4:7: xff: found "yes"; allowed: strip, append
5:1: header_timeout: found a key that is not known; did you mean limits.header_timeout?
8:18: limits.header_timeout: found 3; allowed: a number and a unit, such as "250ms", "3s", "1m", "1h", from 10ms to 1h
9:20: limits.header_bytes_max: found "1MB"; allowed: a number of bytes or a size such as "64KiB", from 8KiB to 1MiB
10:19: limits.connections_max: found "many"; allowed: a whole number from 1 to 1000000
13:11: log.enabled: found "true"; allowed: true or false
14:18: log.flush_interval: found "1s 1s"; allowed: a number and a unit, such as "250ms", "3s", "1m", "1h", from 10ms to 10s
15:1: log.log: found a key that is not known; `handover gateway --list-keys` shows all keys
19:7: node.url: found "socks5://***@127.0.0.1"; the port is missing; allowed: direct or http|https|socks5://[user:password@]host:port[#tag]
26:7: node.tag: found the tag "eu-2" again; each node has its own tag, and this one is at 22:7; add a tag, in a URL #name
27:8: node.kind: found "socks5"; the URL is one of kind http: change one of them
30:1: node.url: found nothing; write where the node is: url = "socks5://127.0.0.1:1080", or kind = "direct"
31:8: node.kind: found "orgin"; allowed: direct, http, https, socks5, origin
34:8: platform.name: found "a/b"; allowed: a platform's name is part of a path: 1 to 64 bytes, none of . : | / \ @ ? # % ~, no white space or control characters
35:15: platform.max_retries: found 32; allowed: a whole number from 0 to 31
36:24: platform.tag_filters: found "(unclosed"; not a regular expression: unclosed group
36:37: platform.tag_filters: found 5; allowed: a list of regular expressions
37:1: platform.colour: found a key that is not known; `handover gateway --list-keys` shows all keys
41:19: platform.connect_timeout: found "3"; allowed: a number and a unit, such as "250ms", "3s", "1m", "1h", from 1ms to 10m
42:16: platform.dial_stagger: found "5ms"; allowed: a number and a unit, such as "250ms", "3s", "1m", "1h", from 10ms to 1m, or "0" to switch it off
43:18: platform.retry_statuses: found statuses with replay = "unsent"; an answer proves that the request was sent: set replay to "idempotent" or "always" as well
43:24: platform.retry_statuses: found 200; allowed: a list of statuses from 400 to 599
46:8: platform.name: found "x" again; each platform has its own name, and this one is at 40:8
48:16: platform.min_deadline: found 2s; allowed: at most the deadline, or 24 h
50:1: platform.name: found nothing; write the platform's name: name = "api"
53:8: route.path: found "v1"; allowed: a path such as / or /v1/: no query, no white space, no empty, . or .. segments, and not below /api, /healthz, /ui or /metrics, which are the control plane's
54:12: route.platform: found "nope"; no platform has that name; there are: Default, a/b, x
56:1: route.platform: found nothing; write the name of the platform that serves these requests
57:8: route.host: found "a b"; allowed: a host name or address without port; leave the key out for any host
59:2: node_typo: found a key that is not known; `handover gateway --list-keys` shows all keys
"#;
    let errors = errors_of(text);
    assert_eq!(errors, expected.trim_end());
}

#[test]
fn a_syntax_error_is_one_error_with_line_and_column() {
    for (text, place) in [
        ("listen = \"127.0.0.1:1\"\n  workers = = 2\n", "2:13: found text that is not TOML; "),
        ("workers = 1\nworkers = 2", "2:1: found text that is not TOML; "),
        ("listen = \"ä\" x", "1:14: found text that is not TOML; "),
        ("proxy_token = \"geheim", "1:22: found text that is not TOML; "),
    ] {
        let error = one(text);
        assert!(error.starts_with(place) && error.len() > place.len() + 8 && !error.contains("geheim"), "{error}");
    }
}

#[test]
fn errors_of_all_sources_come_together_sorted_by_place() {
    let env = [("HANDOVER_WORKERS", "x"), ("HANDOVER_LISEN", "1"), ("HANDOVER_DEFAULT_PLATFORM_ORDER", "best")];
    let flags = Flags {
        listen: Some("localhost".into()),
        max_retries: Some("-1".into()),
        nodes: texts(&["direct", "nonsense"]),
        origins: texts(&["http://h:1/path"]),
        data_dir: Some(String::new()),
        token: Some("api".into()),
    };
    let expected = r#"2:11: workers: found "one"; allowed: a whole number from 1 to 256
env HANDOVER_DEFAULT_PLATFORM_ORDER: platform.order: found "best"; allowed: spread, priority
env HANDOVER_LISEN: found a variable that is not known; did you mean HANDOVER_LISTEN?
env HANDOVER_WORKERS: workers: found "x"; allowed: a whole number from 1 to 256
flag --data-dir: data_dir: found ""; allowed: the path of a directory
flag --listen: listen: found "localhost"; allowed: an address and a port, such as 127.0.0.1:2260 or [::1]:2260
flag --max-retries: platform.max_retries: found "-1"; allowed: a whole number from 0 to 31
flag --node: nodes: found "nonsense"; not a URL; allowed: direct or http|https|socks5://[user:password@]host:port[#tag]
flag --origin: origins: found "http://h:1/path"; a node has no path and no query; allowed: http|https://host[:port][#tag]
flag --token: proxy_token: found a value that is not shown; allowed: "#;
    let errors = shown(from_all("\nworkers = \"one\"", &env, &flags));
    assert_eq!(errors.split("a token is").next().unwrap(), expected);
    // Only a name that is near is one that was meant, and what all names begin with makes none nearer.
    for (name, advice) in [
        ("HANDOVER_BOGUS", "`handover gateway --list-keys` shows all variables"),
        ("HANDOVER_WORKRES", "did you mean HANDOVER_WORKERS?"),
        ("HANDOVER_DEFAULT_PLATFORM_ODER", "did you mean HANDOVER_DEFAULT_PLATFORM_ORDER?"),
    ] {
        let error = shown(from_env(&[(name, "1")]));
        assert_eq!(error, format!("env {name}: found a variable that is not known; {advice}"));
    }
    // A file that cannot be parsed does not hide what is wrong elsewhere, and says nothing of what may be missing in it.
    let errors =
        shown(from_all("=", &[("HANDOVER_WORKERS", "x"), ("HANDOVER_LISTEN", "0.0.0.0:1")], &Flags::default()));
    assert_eq!(errors.lines().count(), 2, "{errors}");
}

#[test]
fn pools_that_cannot_serve_are_refused() {
    let origins = "origins = [\"http://h:1#o\"]\nnodes = [\"http://h:2#c\"]\n";
    let x = "[[platform]]\nname = \"x\"\n";
    let route = "[[route]]\nplatform = \"x\"\n";
    for (text, error) in [
        (
            format!("{origins}{x}tag_filters = [\".\"]"),
            r#"5:15: platform.tag_filters: found filters that match "o" and "c"; the first is an origin and the second carries: a platform has nodes of one sort"#,
        ),
        (
            format!("{origins}{x}tag_filters = [\"^c\"]\n{route}"),
            r#"7:12: route.platform: found "x"; a route leads to origins, and node "c" of this platform carries"#,
        ),
        (
            format!("{origins}{x}tag_filters = [\"^nope\"]\n{route}"),
            r#"7:12: route.platform: found "x"; a route leads to origins, and this platform has no node"#,
        ),
        (
            format!("{x}{route}"),
            r#"4:12: route.platform: found "x"; a route leads to origins, and this platform has no node"#,
        ),
        (
            format!("{origins}{}", route.replace('x', "Default")),
            r#"4:12: route.platform: found "Default"; a route leads to origins, and node "c" of this platform carries"#,
        ),
        (
            format!("{origins}{x}{route}{}", route.replace("[[route]]", "[[route]]\npath = \"/\"")),
            r#"8:8: route.path: found the route "/" again; each host and path has one route, and this one is at 5:1"#,
        ),
    ] {
        assert_eq!(one(&text), error, "{text}");
    }
    let text = format!("{origins}{x}tag_filters = [\"^o\"]\n{route}");
    let error = shown(from_all(&text, &[("HANDOVER_ORIGINS", "http://h:9#p")], &Flags::default()));
    assert!(error.ends_with("has no node (origins from the environment or flags replace the file's)"), "{error}");
}

#[test]
#[allow(clippy::too_many_lines, reason = "one file with errors that could hide each other")]
fn one_error_hides_no_other() {
    let text = r#"
nodes = ["http://h#a", "http://h:1/x#b", "http://h:2#b"]
origins = ["ftp://u:p@h:0/x?y#c", "http://h:3#c"]
[[node]]
tag = "a"
url = "socks5://h"
[[node]]
kind = "orgin"
url = "http://h/#d"
[[node]]
kind = "origin"
url = "http://u:p@h/path#d"
[[platform]]
name = "x"
tag_filters = ["^b$"]
[[platform]]
name = "y"
tag_filters = ["^[bc]$"]
[[platform]]
name = "z"
tag_filters = ["(", "^b$"]
[[platform]]
name = "unknown"
tag_filters = ["^a$"]
[[route]]
path = "/x"
platform = "x"
[[route]]
path = "/z"
platform = "z"
[[route]]
path = 5
platform = 5
[[route]]
path = "/a"
platform = "unknown"
[[route]]
platform = "Default"
"#;
    let again = |tag: &str, place: &str| {
        format!(
            "found the tag \"{tag}\" again; each node has its own tag, and this one is at {place}; add a tag, in a URL #name"
        )
    };
    let (node, origin) =
        ("direct or http|https|socks5://[user:password@]host:port[#tag]", "http|https://host[:port][#tag]");
    let expected = [
        format!("2:9: nodes: {}", again("a", "5:7")),
        format!("2:9: nodes: {}", again("b", "2:9")),
        format!("2:10: nodes: found \"http://h#a\"; the port is missing; allowed: {node}"),
        format!("2:24: nodes: found \"http://h:1/x#b\"; a node has no path and no query; allowed: {node}"),
        format!("3:11: origins: {}", again("c", "3:11")),
        format!("3:12: origins: found \"ftp://***@h:0/x?y#c\"; unknown scheme: an origin is http or https; an origin takes no user and password; a node has no path and no query; a port is 1 to 65535; allowed: {origin}"),
        format!("6:7: node.url: found \"socks5://h\"; the port is missing; allowed: {node}"),
        "8:8: node.kind: found \"orgin\"; allowed: direct, http, https, socks5, origin".into(),
        format!("12:7: node.url: found \"http://***@h/path#d\"; an origin takes no user and password; a node has no path and no query; allowed: {origin}"),
        format!("12:7: node.url: {}", again("d", "9:7")),
        "18:15: platform.tag_filters: found filters that match \"c\" and \"b\"; the first is an origin and the second carries: a platform has nodes of one sort".into(),
        "21:16: platform.tag_filters: found \"(\"; not a regular expression: unclosed group".into(),
        "27:12: route.platform: found \"x\"; a route leads to origins, and node \"b\" of this platform carries".into(),
        "32:8: route.path: found 5; allowed: a path such as / or /v1/: no query, no white space, no empty, . or .. segments, and not below /api, /healthz, /ui or /metrics, which are the control plane's".into(),
        "33:12: route.platform: found 5; allowed: the name of a platform".into(),
        "38:12: route.platform: found \"Default\"; a route leads to origins, and node \"b\" of this platform carries".into(),
    ];
    assert_eq!(errors_of(text).lines().collect::<Vec<_>>(), expected);
}

#[test]
fn names_that_belong_to_others_are_refused() {
    for token in [
        "", "api", "API", "healthz", "ui", "metrics", "a.b", "a:b", "a|b", "a/b", "a\\b", "a@b", "a?b", "a#b", "a%b",
        "a~b", "a b", "a\tb", "a\u{7f}", "a\u{a0}b",
    ] {
        let errors = from_flags(Flags { token: Some(token.into()), ..Flags::default() }).expect_err(token);
        assert_eq!(errors.0[0].key, "proxy_token");
        let named = format!("[[platform]]\nname = '{token}'");
        if !["api", "API", "healthz", "ui", "metrics", "a\u{7f}"].contains(&token) {
            let error = from_file(&named).expect_err(token);
            assert_eq!((error.0.len(), error.0[0].key.as_str()), (1, "platform.name"), "{error}");
        }
    }
    assert!(one("[[platform]]\nname = \"default\"").ends_with("the platform that always exists is written Default"));
    let twice = "[[platform]]\nname = \"Default\"\n[[platform]]\nname = \"Default\"";
    assert!(one(twice).starts_with("4:8: platform.name: found \"Default\" again"));
    for path in
        ["/api", "/api/v1", "/healthz", "/ui/", "/metrics", "//", "/a//b", "/../a", "/a/.", "a", "", "/a?b", "/a b"]
    {
        let text = format!(
            "origins = [\"http://h\"]\n[[route]]\npath = {path:?}\nplatform = \"origins\"\n[[platform]]\nname = \"origins\""
        );
        assert!(one(&text).starts_with("3:8: route.path: found"), "{path}");
    }
}

#[test]
fn tables_in_the_wrong_shape_are_named() {
    for (text, error) in [
        ("[node]\nurl = \"direct\"", "1:2: node: found a table; allowed: tables, each headed [[node]]"),
        ("platform = 5", "1:1: platform: found a whole number; allowed: tables, each headed [[platform]]"),
        ("route = [5]", "1:1: route: found a whole number; allowed: tables, each headed [[route]]"),
        ("limits = \"x\"", "1:1: limits: found a string; allowed: a table, headed [limits]"),
        ("[[log]]", "1:3: log: found a list; allowed: a table, headed [log]"),
        (
            "[listen]",
            "1:1: listen: found a table; allowed: an address and a port, such as 127.0.0.1:2260 or [::1]:2260",
        ),
        (
            "listen = 1.5",
            "1:10: listen: found a fraction; allowed: an address and a port, such as 127.0.0.1:2260 or [::1]:2260",
        ),
        ("workers = -1", "1:11: workers: found -1; allowed: a whole number from 1 to 256"),
        (
            "workers = 99999999999999999999",
            "1:11: workers: found 99999999999999999999; allowed: a whole number from 1 to 256",
        ),
        ("[[platforms]]", "1:3: platforms: found a key that is not known; did you mean [[platform]]?"),
        ("ca_files = \"x\"", "1:12: ca_files: found \"x\"; allowed: a list of paths of PEM files"),
    ] {
        assert_eq!(one(text), error);
    }
    let nodes = one("[[nodes]]\nurl = \"direct\"");
    assert!(nodes.contains("found a table; allowed: a list of URLs (tables are headed [[node]])"), "{nodes}");
}

#[test]
fn tags_are_unique_over_all_ways_to_declare_a_node() {
    let error = one("nodes = [\"direct\", \"direct\"]");
    assert_eq!(
        error,
        "1:9: nodes: found the tag \"direct\" again; each node has its own tag, and this one is at 1:9; add a tag, in a URL #name"
    );
    let flags = Flags { nodes: texts(&["http://h:1#x"]), origins: texts(&["http://h:2#x"]), ..Flags::default() };
    assert_eq!(
        shown(from_flags(flags)),
        "flag --origin: origins: found the tag \"x\" again; each node has its own tag, and this one is at flag --node; add a tag, in a URL #name"
    );
    let both = one("[[node]]\ntag = \"a\"\nurl = \"direct#b\"");
    assert_eq!(both, "2:7: node.tag: found \"a\"; the URL ends with another, #b");
    assert!(from_file("[[node]]\nkind = \"direct\"\ntag = \"a\"\n[[node]]\nkind = \"direct\"\ntag = \"b\"").is_ok());
}

#[test]
fn secrets_are_in_no_error_however_the_text_is_broken() {
    for url in [
        "socks5://anna:geheim@",
        "socks5://anna:geheim@h",
        "socks5:/anna:geheim@h:1",
        "anna:geheim@h:1",
        "ftp://anna:geheim@h:1",
        "socks5://anna:gehe/im#geheim@h:1",
        "socks5://anna:geheim@h:1@x y",
        "socks5://anna:geheim",
        "http://anna:geheim,b@h:1",
        "http://anna:geheim?@h:1",
        "http://anna:geheim\u{fffd}@h:1",
    ] {
        let quoted = format!("{url:?}");
        let files = [
            format!("[[node]]\nurl = {quoted}"),
            format!("[[node]]\nkind = \"origin\"\nurl = {quoted}"),
            format!("nodes = [{quoted}]"),
            format!("origins = [{quoted}]"),
            format!("nodes = {quoted}"),
            format!("listen = {quoted}"),
            format!("[[node]]\nurl = \"direct\"\ntag = \"a\"\nkind = {quoted}"),
        ];
        let mut errors: Vec<_> = files.iter().filter_map(|text| Some(from_file(text).err()?.to_string())).collect();
        assert!(errors.len() > 4, "{errors:?}");
        let flags = Flags { origins: texts(&[url]), ..Flags::default() };
        let others = [from_env(&[("HANDOVER_NODES", url)]), from_flags(flags)];
        errors.extend(others.into_iter().filter_map(|result| Some(result.err()?.to_string())));
        for error in errors {
            assert!(!error.contains("geheim") && !error.contains("gehe"), "{url}: {error}");
        }
    }
    for text in [
        "proxy_token = \"geheim/\"",
        "proxy_token = [\"geheim\"]",
        "proxy_tokn = \"geheim\"",
        "proxy_token = { geheim = 1 }",
    ] {
        assert!(!errors_of(text).contains("geheim"), "{text}");
    }
    let error = shown(from_env(&[("HANDOVER_TOKEN", "geheim")]));
    assert!(
        error.starts_with("env HANDOVER_TOKEN: found a variable that is not known") && !error.contains("geheim"),
        "{error}"
    );
}

#[test]
fn an_error_is_one_line_without_control_characters() {
    let error = one("xff = \"a\\u001b[31m\\nb\"");
    assert_eq!(error, r#"1:7: xff: found "a\u{1b}[31m\nb"; allowed: strip, append"#);
    let long = one(&format!("xff = \"{}\"", "x".repeat(10_000)));
    assert!(long.len() < 200, "{}", long.len());
    assert!(one(&format!("{} = 1", "k".repeat(10_000))).len() < 250);
    let picture = one("[[platform]]\nname = \"Default\"\ntag_filters = [\"a\\n(b\"]");
    assert_eq!(picture, r#"3:16: platform.tag_filters: found "a\n(b"; not a regular expression: unclosed group"#);
}
