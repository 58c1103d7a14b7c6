//! Which nodes a platform has, which routes there are, and which node URLs are read how.

use super::*;

const POOLS: &str = r#"
nodes = ["http://h:1#eu-1"]
origins = ["http://h:2#api-1", "http://h:3#api-2"]
[[node]]
tag = "us-1"
url = "socks5://h:4"
"#;

#[test]
fn default_has_all_nodes_that_carry_and_no_origin() {
    let config = from_file(POOLS).unwrap();
    assert_eq!(tags(&config, "Default"), ["us-1", "eu-1"]);
    assert_eq!(tags(&config, "origins"), ["api-1", "api-2"]);
}

#[test]
fn a_filter_chooses_among_all_nodes_and_all_filters_must_match() {
    let text = format!(
        "{POOLS}[[platform]]\nname = \"x\"\ntag_filters = [\"-1$\", \"^[eu]\"]\n[[platform]]\nname = \"y\"\ntag_filters = [\"^api-2$\"]"
    );
    let config = from_file(&text).unwrap();
    assert_eq!(tags(&config, "x"), ["us-1", "eu-1"]);
    assert_eq!(tags(&config, "y"), ["api-2"]);
}

#[test]
fn a_platform_without_filters_has_the_origins_if_a_route_leads_to_it() {
    let platform = "[[platform]]\nname = \"x\"\n";
    let route = "[[route]]\nplatform = \"x\"\n";
    assert_eq!(tags(&from_file(&format!("{POOLS}{platform}")).unwrap(), "x"), ["us-1", "eu-1"]);
    assert_eq!(tags(&from_file(&format!("{POOLS}{platform}{route}")).unwrap(), "x"), ["api-1", "api-2"]);
}

#[test]
fn default_is_the_first_platform_wherever_it_is_written() {
    let config = from_file(
        "[[platform]]\nname = \"a\"\n[[platform]]\nname = \"b\"\n[[platform]]\nname = \"Default\"\nmax_retries = 9",
    )
    .unwrap();
    assert_eq!(
        config.platforms.iter().map(|platform| platform.name.as_str()).collect::<Vec<_>>(),
        ["Default", "a", "b"]
    );
    assert_eq!(config.platforms[0].policy.max_attempts(), 10);
    assert_eq!(config.platforms[1].policy.max_attempts(), 3);
}

#[test]
fn origins_by_flag_get_a_platform_and_the_route_to_everything() {
    let flags = Flags {
        origins: texts(&["http://127.0.0.1:9001", "https://api.example.com#b"]),
        max_retries: Some("5".into()),
        ..Flags::default()
    };
    let config = from_all("", &[("HANDOVER_DEFAULT_PLATFORM_CONNECT_TIMEOUT", "1s")], &flags).unwrap();
    assert_eq!(tags(&config, "origins"), ["origin-127.0.0.1:9001", "b"]);
    assert_eq!(tags(&config, "Default"), Vec::<&str>::new());
    assert!(config.warnings().is_empty());
    for platform in &config.platforms {
        assert_eq!(platform.policy.max_attempts(), 6, "{}", platform.name);
        assert_eq!(platform.policy.connect_timeout(), Duration::from_secs(1), "{}", platform.name);
    }
    for path in ["/", "/v1/x", "//x"] {
        let route = config.route("anything:80", path).unwrap();
        assert_eq!(config.platforms[route.platform].name, "origins", "{path}");
    }
}

#[test]
fn origins_of_the_file_are_routed_only_if_the_file_routes_nothing() {
    let own = "[[platform]]\nname = \"x\"\ntag_filters = [\"^api-1\"]\n[[route]]\npath = \"/x\"\nplatform = \"x\"\n";
    let config = from_file(&format!("{POOLS}{own}")).unwrap();
    assert_eq!(config.platforms.len(), 2);
    assert_eq!(config.route("h", "/other"), None);
    // By flag they are always, behind the file's own routes.
    let flags = Flags { origins: texts(&["http://h:5#api-1"]), ..Flags::default() };
    let config = from_all(&format!("{POOLS}{own}"), &[], &flags).unwrap();
    let name = |path| config.platforms[config.route("h", path).unwrap().platform].name.as_str();
    assert_eq!((name("/x/1"), name("/other")), ("x", "origins"));
    assert_eq!((tags(&config, "x"), tags(&config, "origins")), (vec!["api-1"], vec!["api-1"]));
}

#[test]
fn a_list_of_a_stronger_source_replaces_its_sort_only() {
    let flags = Flags { nodes: texts(&["direct"]), ..Flags::default() };
    let config =
        from_all(POOLS, &[("HANDOVER_NODES", "http://e:1"), ("HANDOVER_ORIGINS", "http://e:2")], &flags).unwrap();
    assert_eq!(config.nodes.iter().map(|node| node.tag.as_str()).collect::<Vec<_>>(), ["direct", "origin-e:2"]);
    let config = from_all(POOLS, &[], &Flags { nodes: texts(&["direct"]), ..Flags::default() }).unwrap();
    assert_eq!(tags(&config, "origins"), ["api-1", "api-2"]);
}

#[test]
fn a_platform_that_no_tag_matches_is_a_warning() {
    let config = from_file("[[platform]]\nname = \"Default\"\ntag_filters = [\"^nope\"]").unwrap();
    assert_eq!(config.warnings(), ["platform Default has no node: no tag matches its tag_filters"]);
}

#[test]
fn the_path_form_beside_a_route_to_everything_is_a_warning() {
    let all = "[[platform]]\nname = \"x\"\n[[route]]\nplatform = \"x\"\n";
    let warnings = |text: &str, token: Option<&str>| {
        let flags = Flags { token: token.map(str::to_owned), ..Flags::default() };
        from_all(text, &[], &flags).unwrap().warnings()
    };
    let warned = warnings(&format!("{POOLS}{all}"), Some("t"));
    let [warning] = warned.as_slice() else { panic!("{warned:?}") };
    assert!(warning.ends_with("reachable only with the token as first segment; other paths go to the origins"));
    // The route that origins get by themselves is one too.
    assert_eq!(warnings(POOLS, Some("t")), warned);
    for (text, token) in [
        (format!("{POOLS}{all}"), None),
        (format!("{POOLS}{all}host = \"h\""), Some("t")),
        (format!("{POOLS}{all}path = \"/v1\""), Some("t")),
        ("origins = [\"http://h:1\"]".into(), Some("t")),
        ("nodes = [\"http://h:1\"]".into(), Some("t")),
    ] {
        assert_eq!(warnings(&text, token), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn routes_match_by_whole_segments_and_the_most_specific_wins() {
    let text = format!(
        "{POOLS}{}",
        ["a", "b", "c", "d", "e"]
            .map(|name| format!("[[platform]]\nname = \"{name}\"\ntag_filters = [\"^api\"]\n"))
            .concat()
            + "[[route]]\nplatform = \"a\"\n"
            + "[[route]]\npath = \"/v1\"\nplatform = \"b\"\n"
            + "[[route]]\npath = \"/v1/x/\"\nplatform = \"c\"\n"
            + "[[route]]\nhost = \"API.example.com.\"\npath = \"/v1\"\nplatform = \"d\"\n"
            + "[[route]]\nhost = \"[::0:1]\"\nplatform = \"e\"\n"
    );
    let config = from_file(&text).unwrap();
    let name = |host, path| config.platforms[config.route(host, path).unwrap().platform].name.as_str();
    for (host, path, platform) in [
        ("h", "/", "a"),
        ("h", "/v10", "a"),
        ("h", "/V1", "a"),
        ("h", "/v1", "b"),
        ("h", "/v1/", "b"),
        ("h", "/v1/xy", "b"),
        ("h", "/v1/x", "c"),
        ("h", "/v1/x/y/z", "c"),
        ("api.example.com", "/v1/x/y", "d"),
        ("Api.Example.COM.:443", "/v1", "d"),
        ("api.example.com", "/v2", "a"),
        ("sub.api.example.com", "/v1", "b"),
        ("[::1]:2260", "/v1", "e"),
        ("[::1]", "/", "e"),
    ] {
        assert_eq!(name(host, path), platform, "{host} {path}");
    }
}

#[test]
fn node_urls_are_read_to_the_letter() {
    let read = |url: &str| {
        let node = parse_node_url(url).unwrap_or_else(|error| panic!("{url}: {error}"));
        let credentials = node.credentials.map_or_else(String::new, |both| format!("{}+{}@", both.user, both.password));
        format!("{} {credentials}{} {} {}", node.kind.as_str(), node.host, node.port, node.tag)
    };
    assert_eq!(read("direct"), "direct  0 direct");
    assert_eq!(read("Direct#home"), "direct  0 home");
    assert_eq!(read("http://Proxy.Example.COM.:8080/"), "http proxy.example.com 8080 http-proxy.example.com:8080");
    assert_eq!(read("https://u:p@10.0.0.1:443#eu%201"), "https u+p@10.0.0.1 443 eu 1");
    assert_eq!(
        read("socks5://us%40er:p%3Aa%2Fs%23s:x@[2001:DB8::1]:1080"),
        "socks5 us@er+p:a/s#s:x@2001:db8::1 1080 socks5-[2001:db8::1]:1080"
    );
    assert_eq!(read("socks5h://u@h:1"), "socks5 u+@h 1 socks5-h:1");
    assert_eq!(read("socks5://a@b:c@h:1"), "socks5 a@b+c@h 1 socks5-h:1");
    let origin = parse_origin_url("https://[::1]").unwrap();
    assert_eq!((origin.kind, origin.authority().as_str()), (NodeKind::Origin { tls: true }, "[::1]:443"));
    assert_eq!(origin.url_shown(), "https://[::1]:443");
    assert_eq!(parse_origin_url("http://h").unwrap().port, 80);
}

#[test]
fn broken_node_urls_are_refused_with_what_is_allowed() {
    let cases = [
        ("", "not a URL"),
        ("h:1", "not a URL"),
        ("ftp://h:1", "unknown scheme"),
        ("http://h", "the port is missing"),
        ("http://h:", "a port is 1 to 65535"),
        ("http://h:0", "a port is 1 to 65535"),
        ("http://h:65536", "a port is 1 to 65535"),
        ("http://h:+1", "a port is 1 to 65535"),
        ("http://:1", "not a host name or address"),
        ("http://a b:1", "not a host name or address"),
        ("http://127.1:1", "not a host name or address"),
        ("http://256.0.0.1:1", "not a host name or address"),
        ("http://ä:1", "not a host name or address"),
        ("http://::1:1", "more than one colon"),
        ("http://[::1:1", "the ] is missing"),
        ("http://[::g]:1", "not an IPv6 address"),
        ("http://[::1]1", "only a port may follow"),
        ("http://h:1/x", "no path and no query"),
        ("http://h:1?x", "no path and no query"),
        ("http://h:1#", "a tag has 1 to 128 bytes"),
        ("http://h:1#%0a", "a tag has 1 to 128 bytes"),
        ("http://h:1#%f", "a tag has 1 to 128 bytes"),
        ("http://u:%zz@h:1", "% is written %25"),
        ("http://u:%ff@h:1", "% is written %25"),
        ("http://u%3Av:p@h:1", "RFC 7617"),
        ("socks5://:p@h:1", "RFC 1929"),
        ("http://u:p#q@h:1", "%23"),
    ];
    for (url, reason) in cases {
        let error = parse_node_url(url).expect_err(url).to_string();
        assert!(error.contains(reason), "{url}: {error}");
    }
    let long = "x".repeat(256);
    for url in [format!("http://{long}@h:1"), format!("http://h:1#{long}"), format!("http://{long}:1")] {
        assert!(parse_node_url(&url).is_err());
    }
    for (url, reason) in [
        ("direct", "not a URL"),
        ("ftp://h:1", "unknown scheme: an origin is http or https; allowed: http|https://"),
        ("socks5://h:1", "an origin is http or https; a socks5 proxy carries to origins, and --node takes it"),
        ("http://u:p@h", "no user and password"),
    ] {
        let error = parse_origin_url(url).expect_err(url).to_string();
        assert!(error.contains(reason), "{url}: {error}");
    }
}
