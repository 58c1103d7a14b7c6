//! The keys of `[[node]]`, `[[platform]]` and `[[route]]`.

use std::time::Duration;

use handover_core::{ATTEMPTS_MAX, Order, PolicyParts, Replay, StatusSet};
use regex::Regex;

use super::super::route::{HOST_RULE, PATH_RULE, route_host, route_path};
use super::super::token::{PLATFORM_RULE, is_platform_name};
use super::super::url::{TAG_RULE, is_tag};
use super::Fallback::{Computed, Nothing, Required, Value};
use super::{Form, Items, Key, Refused, Shown, Zero, days, milliseconds, minutes};

/// One `[[node]]` as it is read.
#[derive(Debug, Default)]
pub(in super::super) struct NodeDraft {
    pub(in super::super) tag: Option<String>,
    /// Index into [`KINDS`].
    pub(in super::super) kind: Option<usize>,
    pub(in super::super) url: Option<String>,
}

/// One `[[route]]` as it is read.
#[derive(Debug, Default)]
pub(in super::super) struct RouteDraft {
    pub(in super::super) host: Option<String>,
    pub(in super::super) path: String,
    pub(in super::super) platform: String,
}

/// One `[[platform]]` as it is read.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct PlatformDraft {
    pub(in super::super) name: String,
    pub(in super::super) tag_filters: Vec<Regex>,
    pub(in super::super) policy: PolicyParts,
    pub(in super::super) retry_budget_percent: Option<u32>,
}

/// The words of `replay`, as the core writes them.
const REPLAYS: [&str; 3] = [Replay::Unsent.as_str(), Replay::Idempotent.as_str(), Replay::Always.as_str()];
/// The orders that the gateway has measures for; the core knows more.
const ORDERS: [Order; 2] = [Order::Spread, Order::Priority];
const ORDER_WORDS: [&str; 2] = [ORDERS[0].as_str(), ORDERS[1].as_str()];

/// Zero switches a time off.
fn unless_zero(value: Duration) -> Option<Duration> {
    Some(value).filter(|value| !value.is_zero())
}

/// Stores a number whose range fits.
fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// The words of a node's kind.
pub(in super::super) const KINDS: [&str; 5] = ["direct", "http", "https", "socks5", "origin"];

/// All keys of `[[node]]`.
pub(in super::super) static NODE: &[Key<NodeDraft>] = &[
    Key {
        name: "tag",
        form: Form::Text {
            rule: TAG_RULE,
            shown: Shown::Yes,
            set: |node, text| {
                node.tag = Some(text.to_owned()).filter(|tag| is_tag(tag));
                if node.tag.is_some() { Ok(()) } else { Err(Refused::Rule) }
            },
        },
        fallback: Computed("the kind and the address, such as socks5-127.0.0.1:1080"),
        doc: "the node's name in filters and in the log; unique",
        why: "platforms choose their nodes by it, so it should say what they choose by: eu-1, us-2",
    },
    Key {
        name: "kind",
        form: Form::Choice { words: &KINDS, set: |node, index| node.kind = Some(index) },
        fallback: Computed("what the URL says: direct, http, https or socks5"),
        doc: "only origin must be written: the node is the target itself, and its URL is http or https",
        why: "a URL alone cannot tell a proxy from an origin",
    },
    Key {
        name: "url",
        form: Form::Text {
            rule: "direct, http|https|socks5://[user:password@]host:port, or for an origin http|https://host[:port]",
            shown: Shown::Yes,
            set: |node, text| {
                node.url = Some(text.to_owned());
                Ok(())
            },
        },
        fallback: Required,
        doc: "where the node is; not needed with kind = \"direct\"",
        why: "the port of a proxy has no default: guessing one hides a mistake",
    },
];

/// All keys of `[[route]]`.
pub(in super::super) static ROUTE: &[Key<RouteDraft>] = &[
    Key {
        name: "host",
        form: Form::Text {
            rule: HOST_RULE,
            shown: Shown::Yes,
            set: |route, text| {
                route.host = Some(route_host(text).ok_or(Refused::Rule)?);
                Ok(())
            },
        },
        fallback: Nothing("any host"),
        doc: "the host that the request must name, without port",
        why: "a route with a host is looked at before those without",
    },
    Key {
        name: "path",
        form: Form::Text {
            rule: PATH_RULE,
            shown: Shown::Yes,
            set: |route, text| {
                route.path = route_path(text).ok_or(Refused::Rule)?;
                Ok(())
            },
        },
        fallback: Value("/"),
        doc: "path prefix by whole segments: /v1/ takes /v1 and /v1/x, not /v10",
        why: "of several routes that match the longest path wins, whatever their order in the file",
    },
    Key {
        name: "platform",
        form: Form::Text {
            rule: "the name of a platform",
            shown: Shown::Yes,
            set: |route, text| {
                text.clone_into(&mut route.platform);
                Ok(())
            },
        },
        fallback: Required,
        doc: "the platform that serves these requests; it consists of origins only",
        why: "a request in origin-form names no target, so only nodes that are the target can serve it",
    },
];

/// All keys of `[[platform]]`.
pub(in super::super) static PLATFORM: &[Key<PlatformDraft>] = &[
    Key {
        name: "name",
        form: Form::Text {
            rule: PLATFORM_RULE,
            shown: Shown::Yes,
            set: |platform, text| {
                text.clone_into(&mut platform.name);
                if is_platform_name(text) { Ok(()) } else { Err(Refused::Rule) }
            },
        },
        fallback: Required,
        doc: "the platform's name, as clients write it in their identity; unique",
        why: "it stands in a path segment before a dot, so it can contain neither",
    },
    Key {
        name: "tag_filters",
        form: Form::List {
            rule: "regular expressions",
            items: Items::Texts,
            clear: |platform| platform.tag_filters.clear(),
            add: |platform, text| {
                let regex = Regex::new(text).map_err(|error| Refused::Because(regex_error(&error)))?;
                platform.tag_filters.push(regex);
                Ok(())
            },
        },
        fallback: Computed("all nodes that carry, or all origins if a route leads to the platform"),
        doc: "regular expressions; a node belongs to the platform if its tag matches all of them",
        why: "all must match, so that one can narrow what another one takes",
    },
    Key {
        name: "max_retries",
        form: Form::Number {
            least: 0,
            most: ATTEMPTS_MAX as u64 - 1,
            set: |platform, value| platform.policy.max_attempts = small(value) + 1,
        },
        fallback: Value("2"),
        doc: "further attempts after the first, each at a node the request has not tried; 0 switches the machinery off",
        why: "three attempts outlive any one failed node and a second that fails meanwhile; more mostly add load",
    },
    Key {
        name: "replay",
        form: Form::Choice { words: &REPLAYS, set: |platform, index| platform.policy.replay = Replay::ALL[index] },
        fallback: Value("unsent"),
        doc: "the proof that a further attempt needs; unsent: not one byte of the request left; idempotent: that, or a method \
              that may be repeated (RFC 9110 §9.2.2); always: none, the server promises to recognise repeated requests",
        why: "a proxy must not repeat what may have been done (RFC 9110 §9.2.2); the other two are for those who know better",
    },
    Key {
        name: "retry_statuses",
        form: Form::List {
            rule: "statuses from 400 to 599",
            items: Items::Numbers,
            clear: |platform| platform.policy.retry_statuses = StatusSet::new(),
            add: |platform, text| {
                let status = text.parse().ok().filter(|status| (400..=599).contains(status));
                platform.policy.retry_statuses.insert(status.ok_or(Refused::Rule)?);
                Ok(())
            },
        },
        fallback: Nothing("every status is an answer"),
        doc: "statuses of an answer that another node shall be tried for, if replay allows it",
        why: "an answer proves that the request was sent, so this does nothing with replay = \"unsent\"",
    },
    Key {
        name: "order",
        form: Form::Choice { words: &ORDER_WORDS, set: |platform, index| platform.policy.order = ORDERS[index] },
        fallback: Value("spread"),
        doc: "spread: the better of two nodes picked by chance; priority: always the first that was declared",
        why: "spread keeps the load even; priority is for a main node with spares",
    },
    Key {
        name: "connect_timeout",
        form: Form::Time {
            least: milliseconds(1),
            most: minutes(10),
            zero: Zero::Refused,
            set: |platform, value| platform.policy.connect_timeout = value,
        },
        fallback: Value("3s"),
        doc: "how long one attempt may take to get its connection, the node's and the target's handshakes included",
        why: "room for one lost packet, which is sent again after 1 s, on the slowest path",
    },
    Key {
        name: "response_timeout",
        form: Form::Time {
            least: milliseconds(1),
            most: days(1),
            zero: Zero::Refused,
            set: |platform, value| platform.policy.response_timeout = value,
        },
        fallback: Value("30s"),
        doc: "how long one attempt may wait for the head of the response once the request is written",
        why: "slower than any page a person waits for; servers that think longer need it raised",
    },
    Key {
        name: "dial_stagger",
        form: Form::Time {
            least: milliseconds(10),
            most: minutes(1),
            zero: Zero::Off,
            set: |platform, value| platform.policy.dial_stagger = unless_zero(value),
        },
        fallback: Value("250ms"),
        doc: "how long a dial may take before the next node is dialled beside it; the first connection gets the request",
        why: "the recommended delay between connection attempts of RFC 8305 §8; its least value there is 10 ms",
    },
    Key {
        name: "deadline",
        form: Form::Time {
            least: milliseconds(1),
            most: days(1),
            zero: Zero::Off,
            set: |platform, value| platform.policy.deadline = unless_zero(value),
        },
        fallback: Value("0"),
        doc: "how long all attempts of a request may take together, to the head of the response",
        why: "off, because the limits of each attempt and their number bound the whole already",
    },
    Key {
        name: "min_deadline",
        form: Form::Time {
            least: milliseconds(1),
            most: days(1),
            zero: Zero::Off,
            set: |platform, value| platform.policy.min_deadline = value,
        },
        fallback: Value("0"),
        doc: "no further attempt begins with less than this left of the deadline",
        why: "off, because without a deadline there is nothing it could be compared with",
    },
    Key {
        name: "retry_budget",
        form: Form::Number {
            least: 1,
            most: 1000,
            set: |platform, value| platform.retry_budget_percent = Some(small(value)),
        },
        fallback: Nothing("attempts are bounded per request only"),
        doc: "what may multiply load, over all requests of the platform, in percent of them: attempts behind an answer or \
              behind a connection that was handed the request, and hedged dials",
        why: "20 is common where retry storms are feared; off, because by default nothing is repeated that may have been sent",
    },
];

/// A regular expression's error on one line: the parser draws a picture of several.
fn regex_error(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    format!("not a regular expression: {}", last.trim().trim_start_matches("error: "))
}
