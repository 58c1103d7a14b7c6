//! The reference of all keys, for the terminal and for the guide, from the same table that the configuration is read by.

use std::fmt::Write;

use super::keys::{
    COMMAND_VARIABLES, ENV_PLATFORM_PREFIX, ENV_PREFIX, Fallback, Key, NODE, PLATFORM, ROOT, ROUTE, env_name, flag_of,
};

/// A key of any scope, in words.
struct Row {
    name: &'static str,
    allowed: String,
    fallback: Fallback,
    doc: &'static str,
    why: &'static str,
    variable: Option<String>,
    flag: Option<&'static str>,
}

/// The keys of one scope with what is said of them together.
struct Section {
    heading: &'static str,
    about: &'static str,
    rows: Vec<Row>,
}

fn rows<T>(keys: &'static [Key<T>], variable: impl Fn(&str) -> Option<String>, flags: bool) -> Vec<Row> {
    let row = |key: &'static Key<T>| Row {
        name: key.name,
        allowed: key.form.allowed(),
        fallback: key.fallback,
        doc: key.doc,
        why: key.why,
        variable: variable(key.name),
        flag: flag_of(key.name).filter(|_| flags),
    };
    keys.iter().map(row).collect()
}

fn sections() -> [Section; 4] {
    let of_platform = |name: &str| (name != "name").then(|| env_name(ENV_PLATFORM_PREFIX, name));
    [
        Section {
            heading: "Top level",
            about: "A dot in a name is a table: `limits.header_timeout` is `header_timeout` below `[limits]`.",
            rows: rows(ROOT, |name| Some(env_name(ENV_PREFIX, name)), true),
        },
        Section {
            heading: "[[node]]",
            about: "A node is an endpoint that carries requests to any target, or an origin, which is the target itself. \
                    A declared node is usable at once.",
            rows: rows(NODE, |_| None, false),
        },
        Section {
            heading: "[[platform]]",
            about: "A platform is a named pool of nodes with one policy. One named `Default` always exists; it serves the \
                    clients that name none. Variables and `--max-retries` are for `Default`, and for `origins`, the \
                    platform that origins get for which the file has no route: it has the policy of `Default`.",
            rows: rows(PLATFORM, of_platform, true),
        },
        Section {
            heading: "[[route]]",
            about: "A route leads requests in origin-form (those of a client that takes the gateway for the server) to a \
                    platform of origins. Routes with a host come before those without, longer paths before shorter ones.",
            rows: rows(ROUTE, |_| None, false),
        },
    ]
}

/// All keys for a terminal: one block a key with its default, its variable and its meaning.
pub fn key_list() -> String {
    let mut text = String::new();
    for Section { heading, rows, .. } in sections() {
        let _ = writeln!(text, "{heading}");
        for row in rows {
            let names = [row.flag.map(str::to_owned), row.variable.clone()].into_iter().flatten().collect::<Vec<_>>();
            let _ = writeln!(text, "  {}", row.name);
            let _ = writeln!(text, "      {}", row.doc);
            let _ = writeln!(text, "      allowed: {}", row.allowed);
            let _ = writeln!(text, "      default: {}", fallback(&row, ""));
            if !names.is_empty() {
                let _ = writeln!(text, "      also:    {}", names.join(", "));
            }
        }
        text.push('\n');
    }
    text.push_str("Variables of the command itself\n");
    for (name, doc) in COMMAND_VARIABLES {
        let _ = writeln!(text, "  {name}\n      {doc}");
    }
    text
}

/// The page of the guide, in Markdown.
pub fn key_reference() -> String {
    let mut text = String::from(INTRODUCTION);
    for Section { heading, about, rows } in sections() {
        let _ = write!(text, "\n## {}\n\n{about}\n", heading_shown(heading));
        for row in rows {
            let _ = write!(text, "\n### `{}`\n\n{}.\n\n", row.name, capitalised(row.doc));
            let _ = writeln!(text, "- allowed: {}", row.allowed);
            let _ = writeln!(text, "- default: {}", fallback(&row, "`"));
            let _ = writeln!(text, "- why: {}", row.why);
            let also = row.flag.into_iter().map(str::to_owned).chain(row.variable).map(|name| format!("`{name}`"));
            let also = also.collect::<Vec<_>>().join(", ");
            if !also.is_empty() {
                let _ = writeln!(text, "- also: {also}");
            }
        }
    }
    text.push_str("\n## Variables of the command itself\n\n");
    for (name, doc) in COMMAND_VARIABLES {
        let _ = writeln!(text, "- `{name}`: {doc}");
    }
    text
}

fn fallback(row: &Row, quote: &str) -> String {
    match row.fallback {
        Fallback::Value(text) => format!("{quote}{text}{quote}"),
        Fallback::Computed(words) => words.into(),
        Fallback::Nothing(words) => format!("none: {words}"),
        Fallback::Required => "none: it has to be written".into(),
    }
}

fn heading_shown(heading: &str) -> String {
    if heading.starts_with('[') { format!("`{heading}`") } else { heading.into() }
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}

const INTRODUCTION: &str = r##"<!-- Written by `handover_gateway::config::key_reference`; a test fails when this page differs from it. -->
# Configuration

The gateway runs without any configuration. What it should do differently comes from three sources, each stronger than the
one before it: one TOML file (`--config FILE` or `HANDOVER_CONFIG`), the environment, the flags of the command line.

- Every key of the top level is also a variable: `limits.header_timeout` is `HANDOVER_LIMITS_HEADER_TIMEOUT`. The keys of the
  platform `Default` are variables too: `HANDOVER_DEFAULT_PLATFORM_MAX_RETRIES`. A variable that begins with `HANDOVER_` and
  is not known is an error.
- Lists in variables have commas between their items. When an item contains a comma, write a TOML array: `["^eu-{1,3}"]`.
- A list from a stronger source replaces the weaker one whole: `--node` replaces the nodes of the file, `--origin` its
  origins.
- Times have a unit: `250ms`, `3s`, `1m`, `1h`, `7d`. A number without one is refused, because one reader takes it for seconds
  and the next for milliseconds. Sizes are numbers of bytes or `64KiB`, `512MiB`, `1GiB`.
- Paths are relative to the working directory of the gateway.

`handover gateway --check-config` reads everything, starts nothing, and reports all errors at once, one line each: place, key,
what was found, what is allowed. It exits with 0 or 2. Passwords and tokens are never shown. The signal HUP makes a running
gateway read its file again; when something is wrong it says so and keeps what it had.

```toml
listen = "127.0.0.1:2260"
data_dir = "handover-data"

[[node]]
tag = "eu-1"
url = "socks5://127.0.0.1:1080"

[[node]]
tag = "api-1"
kind = "origin"
url = "http://127.0.0.1:9001"

[[platform]]
name = "Default"
max_retries = 2
tag_filters = ["^eu-"]

[[platform]]
name = "api"
tag_filters = ["^api-"]
max_retries = 3

[[route]]
host = "api.example.com"
path = "/v1/"
platform = "api"
```
"##;
