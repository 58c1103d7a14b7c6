//! Whatever is written: an answer, never a panic, and never a broken promise.

use proptest::prelude::*;

use super::*;

/// Pieces of which real and nearly real configurations are made.
fn piece() -> impl Strategy<Value = String> {
    const WORDS: &[&str] = &[
        "listen = ",
        "proxy_token = ",
        "workers = ",
        "nodes = ",
        "origins = ",
        "tag_filters = ",
        "url = ",
        "tag = ",
        "kind = ",
        "name = ",
        "platform = ",
        "path = ",
        "host = ",
        "max_retries = ",
        "dial_stagger = ",
        "deadline = ",
        "min_deadline = ",
        "[[node]]",
        "[[platform]]",
        "[[route]]",
        "[limits]",
        "[log]",
        "limits.header_timeout = ",
        "header_bytes_max = ",
        "\"Default\"",
        "\"origin\"",
        "\"direct\"",
        "\"http://h:1#a\"",
        "\"socks5://u:p@[::1]:2\"",
        "\"0.0.0.0:1\"",
        "\"x\"",
        "\"^a\"",
        "\"(\"",
        "\"3s\"",
        "\"99999999999999999999h\"",
        "\"0\"",
        "0",
        "-1",
        "18446744073709551615",
        "1.5",
        "true",
        "[",
        "]",
        "{",
        "}",
        ",",
        "=",
        "\n",
        "\n",
        "\n",
        "#",
        "\"",
        "'''",
        "\\u0000",
        "ä",
        "1979-05-27",
        ".",
    ];
    prop_oneof![8 => proptest::sample::select(WORDS).prop_map(str::to_owned), 1 => any::<String>()]
}

/// What [`Config`] promises to those who read it.
fn keeps_its_promises(config: &Config) {
    assert!(config.listen.ip().to_canonical().is_loopback() || config.proxy_token.is_some());
    assert_eq!(config.platforms[0].name, "Default");
    let unique = |names: Vec<&str>| names.iter().collect::<std::collections::BTreeSet<_>>().len() == names.len();
    assert!(unique(config.nodes.iter().map(|node| node.tag.as_str()).collect()));
    assert!(unique(config.platforms.iter().map(|platform| platform.name.as_str()).collect()));
    for platform in &config.platforms {
        let origins = platform.nodes.iter().filter(|index| config.nodes[**index].kind.is_origin()).count();
        assert!(origins == 0 || origins == platform.nodes.len());
    }
    for route in &config.routes {
        let platform = &config.platforms[route.platform];
        assert!(!platform.nodes.is_empty() && platform.nodes.iter().all(|index| config.nodes[*index].kind.is_origin()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_is_answered(text in any::<String>(), value in any::<String>()) {
        let env = [("HANDOVER_NODES", value.as_str()), ("HANDOVER_DEFAULT_PLATFORM_TAG_FILTERS", &value), ("HANDOVER_LISTEN", &value)];
        let flags = Flags { token: Some(value.clone()), max_retries: Some(value.clone()), origins: vec![value.clone()], ..Flags::default() };
        for result in [from_file(&text), from_env(&env), from_flags(flags)] {
            if let Err(errors) = result {
                prop_assert!(!errors.0.is_empty());
                prop_assert_eq!(errors.to_string().lines().count(), errors.0.len());
            }
        }
    }

    #[test]
    fn text_that_is_nearly_a_configuration_is_answered(pieces in prop::collection::vec(piece(), 0..40)) {
        match from_file(&pieces.concat()) {
            Ok(config) => keeps_its_promises(&config),
            Err(errors) => prop_assert_eq!(errors.to_string().lines().count(), errors.0.len()),
        }
    }

    #[test]
    fn pools_keep_their_promises(
        nodes in prop::collection::vec(0..4_u8, 0..4),
        origins in prop::collection::vec(0..4_u8, 0..4),
        filters in prop::collection::vec(prop::option::of(prop::sample::select(&["^a", "^b", "1", "[ab]", "^$"][..])), 0..4),
        routed in prop::collection::vec(0..5_usize, 0..3),
        flags in any::<bool>(),
    ) {
        let list = |numbers: &[u8], letter: char| numbers.iter().map(|n| format!("http://h:{}#{letter}{n}", n + 1)).collect::<Vec<_>>();
        let mut text = format!("nodes = {:?}\norigins = {:?}\n", list(&nodes, 'a'), list(&origins, 'b'));
        let names = ["p0", "Default", "p2", "origins"];
        for (name, filter) in names.iter().zip(&filters) {
            text += &format!("[[platform]]\nname = {name:?}\n");
            text += &filter.map_or_else(String::new, |filter| format!("tag_filters = [{filter:?}]\n"));
        }
        for (index, platform) in routed.iter().enumerate() {
            text += &format!("[[route]]\npath = \"/{index}\"\nplatform = {:?}\n", names.get(*platform).unwrap_or(&"p9"));
        }
        let flags = Flags { origins: if flags { list(&[9], 'b') } else { Vec::new() }, ..Flags::default() };
        if let Ok(config) = from_all(&text, &[], &flags) {
            keeps_its_promises(&config);
        }
    }

    #[test]
    fn a_node_url_is_read_or_refused_and_reads_back(text in "(direct|http://|socks5://|https://)?([a-z:@%#/\\[\\]0-9.]{0,20})(:[0-9]{1,5})?(#[a-z]*)?") {
        if let Ok(node) = parse_node_url(&text) {
            let again = parse_node_url(&node.url_shown()).expect("what is shown of a node is a URL");
            prop_assert_eq!((again.kind, again.host, again.port), (node.kind, node.host, node.port));
        }
        let _ = parse_origin_url(&text);
    }

    #[test]
    fn a_duration_is_read_as_it_is_shown(milliseconds in 1..u64::from(u32::MAX)) {
        let value = Duration::from_millis(milliseconds);
        let shown = super::super::value::duration_shown(value);
        let text = format!("[log]\nretention_age = \"{shown}\"");
        match from_file(&text) {
            Ok(config) => prop_assert_eq!(config.log.retention_age, value),
            Err(_) => prop_assert!(milliseconds < 1000),
        }
    }

    #[test]
    fn a_route_takes_exactly_the_paths_below_it(route in "(/[a-c]{1,2}){0,3}/?", path in "(/[a-c]{0,2}){1,5}") {
        let own = RouteConfig { host: None, path: if route.is_empty() { "/".into() } else { route.clone() }, platform: 0 };
        let segments = |text: &str| text.trim_start_matches('/').split('/').map(str::to_owned).collect::<Vec<_>>();
        let mut prefix = segments(&own.path);
        prefix.retain(|segment| !segment.is_empty());
        let below = path.split('/').skip(1).map(str::to_owned).collect::<Vec<_>>().starts_with(&prefix);
        prop_assert_eq!(own.matches("h", &path), below, "{} {}", own.path, path);
    }
}
