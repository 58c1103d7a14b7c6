//! The command line: what can be typed, and the help that teaches it.
//!
//! Values of the gateway are taken as text: they are checked together with the file and the environment, so that all that is
//! wrong anywhere is reported at once.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "comments on flags are their help texts, where brackets mean optional"
)]

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use handover_gateway::config::{Flags, Sources};

use crate::commands::check::CheckArgs;
use crate::commands::explain::ExplainArgs;
use crate::commands::log::LogArgs;
use crate::commands::request::RequestArgs;
use crate::diagnostics::Diagnostics;

/// Failover you can prove, for every hop a request takes
#[derive(Debug, Parser)]
#[command(name = "handover", version, arg_required_else_help = true, max_term_width = 100, after_help = TOUR)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) diagnostics: Diagnostics,
}

impl Cli {
    /// The command line of this process, with its variables.
    ///
    /// # Errors
    /// What the parser says: what is wrong, or the help that was asked for.
    pub(crate) fn read() -> Result<Self, clap::Error> {
        let matches = Self::command().try_get_matches()?;
        let mut cli = Self::from_arg_matches(&matches)?;
        cli.diagnostics.level_from_env = matches.value_source("log_level") == Some(ValueSource::EnvVariable);
        Ok(cli)
    }
}

const TOUR: &str = "\
A first tour:
  handover gateway        start a gateway on 127.0.0.1:2260; it prints what to type next
  handover log            the requests it served
  handover explain last   the attempts of the newest one, and why each was made

Without a gateway, from here to several servers:
  handover check http://127.0.0.1:9001 http://127.0.0.1:9002 --path /
  handover request GET / --endpoint http://127.0.0.1:9001 --endpoint http://127.0.0.1:9002

`handover COMMAND --help` says more about each command.";

/// What is done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the gateway: one port that takes requests and sends each through one of several nodes
    #[command(long_about = GATEWAY_ABOUT, after_long_help = GATEWAY_EXAMPLES, after_help = "`--help` shows examples and exit codes.")]
    Gateway(GatewayArgs),
    /// List the requests of a gateway's log, the newest last
    #[command(after_long_help = LOG_EXAMPLES)]
    Log(LogArgs),
    /// Tell one request's attempts, why each was made, and whether the same decisions follow from the record
    #[command(after_long_help = EXPLAIN_EXAMPLES)]
    Explain(ExplainArgs),
    /// Test the connection to each of several servers: how long every step takes, and whether the server is good
    #[command(long_about = CHECK_ABOUT, after_long_help = CHECK_EXAMPLES, after_help = "`--help` shows examples and exit codes.")]
    Check(CheckArgs),
    /// Send one request to the first of several servers that can take it, and show every attempt
    #[command(long_about = REQUEST_ABOUT, after_long_help = REQUEST_EXAMPLES, after_help = "`--help` shows examples and exit codes.")]
    Request(RequestArgs),
}

const CHECK_ABOUT: &str = "\
Test the connection to each of several servers: how long the name, the connection, TLS and the first byte of the answer \
take, and whether the server is good. All are asked at the same time and shown in their order.

Good is an answer of 2xx that says everything that is expected.";

const CHECK_EXAMPLES: &str = "\
Examples:
  handover check https://kv-1.example https://kv-2.example --expect /status=success
  handover check https://api.example --path /healthz --timeout 2s
  handover check https://api.example --json | jq '.endpoints[0].first_byte_ms'

On a terminal, what is waited for is shown on stderr.

Exit codes:
  0    all good
  1    some failed
  2    not one is good; or the command line is wrong, which stderr says";

const REQUEST_ABOUT: &str = "\
Send one request to the first of several servers that can take it. When one fails, the policy says whether the next one may \
have the request: what provably was not sent always may.

The body of the answer goes to stdout, and a line for each attempt to stderr.";

const REQUEST_EXAMPLES: &str = "\
Examples:
  The first server that answers, and one attempt at each:
    handover request GET /kv/exam -e https://kv-1.example -e https://kv-2.example -H 'X-Token: …'

  A file that must not be taken twice; a server that does not answer within 5 s is left:
    handover request POST /orders -e https://a.example -e https://b.example --policy at-most-once \\
      --data-file order.json -H 'Content-Type: application/json' --attempt-timeout 5s

  Regions that the first one names when it fails; a time below 5s makes one attempt and no more:
    handover request POST /twirp/livekit.RoomService/ListRooms -e https://api.example --data '{}' \\
      --policy regions --discover /settings/regions -H 'Content-Type: application/json'

  What happened, for a program:
    handover request GET / -e http://127.0.0.1:9001 --json | jq '.record.attempts[].fault'

What a user and a password in an endpoint's URL say is sent and never shown.

Exit codes:
  0    answered with a status below 400
  1    answered with 400 or more, or the body of the answer broke off
  2    the command line is wrong, and nothing was sent
  3    nothing was sent anywhere
  4    it is unknown whether the request was done
  130  interrupted; nothing more is sent, and what is known is said";

const LOG_EXAMPLES: &str = "\
Examples:
  handover log --failed --since 1h          what the network failed in the last hour
  handover log --retried --follow           requests that needed another node, as they end
  handover log --json -n 1000 | jq .node_tag

Exit codes:
  0  listed
  2  the command line is wrong
  4  there is no log in the data directory, or it cannot be read";

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  handover explain last
  handover explain 1gzd0q3v8c0a0 --json

Exit codes:
  0  explained, and the same decisions follow from the record
  1  other decisions follow from the record: it was changed, or another version wrote it
  2  the command line is wrong, or there is no such request
  4  there is no log in the data directory, or it cannot be read";

const GATEWAY_ABOUT: &str = "\
Run the gateway: one port that takes requests as forward proxy, CONNECT tunnel or reverse proxy and sends each through one of \
several nodes. When a node fails before one byte of the request has left, another one gets it; every attempt is recorded.

Without any flag it listens on 127.0.0.1:2260, connects to targets directly, and keeps its request log in ./handover-data.";

const GATEWAY_EXAMPLES: &str = "\
Examples:
  A forward proxy over two proxies; when one cannot be reached, the other one is used:
    handover gateway --node socks5://10.0.0.1:1080#eu-1 --node http://10.0.0.2:8080#eu-2
    curl -x http://127.0.0.1:2260 http://example.com/

  A reverse proxy over two replicas of a server:
    handover gateway --origin http://127.0.0.1:9001 --origin http://127.0.0.1:9002
    curl http://127.0.0.1:2260/

  From a file, first checked, then run; the signal HUP reloads it, TERM ends the gateway in order:
    handover gateway --config handover.toml --check-config
    handover gateway --config handover.toml

  For others than this machine a token is needed; in a variable no other user can see it:
    HANDOVER_PROXY_TOKEN=… handover gateway --listen 0.0.0.0:2260

Every key of the file is also a variable HANDOVER_…: `handover gateway --list-keys` shows them all.
Flags win over variables, variables over the file.

Exit codes:
  0  ended by a signal, or the configuration is good (--check-config)
  1  anything else, such as a second signal that cut off running requests
  2  the configuration or the command line is wrong; every error is on stderr
  3  the address cannot be listened on, for example because the port is in use
  4  the data directory cannot be used, or another gateway uses it";

/// The flags of `handover gateway`.
#[derive(Debug, Args)]
pub(crate) struct GatewayArgs {
    /// TOML file with the configuration
    #[arg(long, value_name = "FILE", env = "HANDOVER_CONFIG", hide_env_values = true)]
    config: Option<PathBuf>,
    /// Address and port to listen on [default: 127.0.0.1:2260]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Directory of the request log [default: handover-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// A node that carries requests to any target: direct, or http|https|socks5://[user:password@]host:port[#tag].
    /// Repeat it for several; they replace those of the file [default: direct]
    #[arg(long = "node", value_name = "URL")]
    nodes: Vec<String>,
    /// A node that is the target: http|https://host[:port][#tag]. Requests to the gateway itself go to one of them. Repeat it
    /// for several; they replace those of the file
    #[arg(long = "origin", value_name = "URL")]
    origins: Vec<String>,
    /// Further attempts after the first, each at a node not yet tried; 0 switches failover off [default: 2]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    max_retries: Option<String>,
    /// What clients must present; required to listen on anything but loopback
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// Check the configuration, report every error, start nothing
    #[arg(long)]
    pub(crate) check_config: bool,
    /// Show every key with its default, its variable and what it does
    #[arg(long)]
    pub(crate) list_keys: bool,
}

impl GatewayArgs {
    /// The sources of the configuration: file, environment and these flags.
    pub(crate) fn into_sources(self) -> Sources {
        let flags = Flags {
            listen: self.listen,
            data_dir: self.data_dir,
            token: self.token,
            max_retries: self.max_retries,
            nodes: self.nodes,
            origins: self.origins,
        };
        // What is not UTF-8 keeps a mark in its place, which no key takes: it is refused with the others, by name.
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        let env = std::env::vars_os().map(|(name, value)| (text(name), text(value)));
        Sources { file: self.config, env: env.filter(|(name, _)| name.starts_with("HANDOVER_")).collect(), flags }
    }
}

#[cfg(test)]
mod tests {
    use crate::diagnostics::LogFormat;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_command_of_the_contract_is_understood() {
        let line = "handover gateway --config f.toml --listen 127.0.0.1:2260 --data-dir d --node direct --node http://h:1 \
                    --origin http://h:2#x --max-retries -1 --token t --check-config --log-format json";
        let Cli { command: Command::Gateway(args), diagnostics } =
            Cli::try_parse_from(line.split_whitespace()).expect("valid")
        else {
            panic!("another command")
        };
        assert_eq!((args.check_config, diagnostics.log_format), (true, LogFormat::Json));
        let Sources { file, flags, .. } = args.into_sources();
        assert_eq!(file, Some("f.toml".into()));
        assert_eq!(flags.nodes, ["direct", "http://h:1"]);
        assert_eq!(flags.origins, ["http://h:2#x"]);
        let rest = [flags.listen, flags.data_dir, flags.max_retries, flags.token].map(Option::unwrap_or_default);
        assert_eq!(rest, ["127.0.0.1:2260", "d", "-1", "t"]);
    }

    #[test]
    fn the_defaults_in_the_help_are_those_of_the_key_table() {
        let help = Cli::command().find_subcommand_mut("gateway").expect("exists").render_long_help().to_string();
        let list = handover_gateway::config::key_list();
        for (flag, default) in [("--listen", "127.0.0.1:2260"), ("--data-dir", "handover-data"), ("--max-retries", "2")]
        {
            let described =
                help.split(flag).nth(1).and_then(|rest| rest.split("\n      --").next()).expect("in the help");
            assert!(described.contains(&format!("[default: {default}]")), "{flag}: {described}");
            let block = list.split("\n  ").collect::<Vec<_>>().join("\n");
            let before = block.split(&format!("also:    {flag},")).next().expect("split gives one");
            assert!(before.trim_end().ends_with(&format!("default: {default}")), "{flag}");
        }
    }
}
