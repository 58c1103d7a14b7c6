//! What is said on stderr: which messages, in which form, and errors of the start before anything else runs.
//!
//! A program that asked for JSON reads stderr line by line from the first line on, so errors of the command line and of the
//! configuration have the form of every later message.

use std::io::{self, IsTerminal, Write};

use clap::{Args, ValueEnum};
use handover_gateway::config::{ConfigError, ConfigErrors, Place};
use serde_json::{Map, Value, json};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use crate::exit::Exit;

/// The variable of `--log-format`.
const FORMAT_VARIABLE: &str = "HANDOVER_LOG_FORMAT";
/// The variable of `--log-level`.
const LEVEL_VARIABLE: &str = "HANDOVER_LOG_LEVEL";

/// How diagnostics are written to stderr.
#[derive(Debug, Args)]
#[command(next_help_heading = "Diagnostics on stderr")]
pub(crate) struct Diagnostics {
    /// For people or for programs
    #[arg(long, global = true, value_enum, default_value_t, env = FORMAT_VARIABLE, hide_env_values = true)]
    pub(crate) log_format: LogFormat,
    /// error, warn, info, debug, trace or off; or by module, such as info,handover_gateway=debug
    #[arg(
        long,
        global = true,
        value_name = "LEVEL",
        default_value = "info",
        env = LEVEL_VARIABLE,
        hide_env_values = true
    )]
    log_level: String,
    /// Whether the level is the variable's, for an error that says where it is.
    #[arg(skip)]
    pub(crate) level_from_env: bool,
}

/// Who reads the diagnostics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// One line a message, coloured on a terminal
    #[default]
    Human,
    /// One JSON object a line
    Json,
}

impl Diagnostics {
    /// The filter that the level says.
    ///
    /// # Errors
    /// What is wrong with the level. The library takes any word for a module's name, and a slip of the hand for silence.
    pub(crate) fn filter(&self) -> Result<EnvFilter, ConfigError> {
        let level = &self.log_level;
        let filter = level.split(',').all(is_directive).then(|| EnvFilter::try_new(level).ok()).flatten();
        filter.ok_or_else(|| ConfigError {
            source: if self.level_from_env { Place::Env(LEVEL_VARIABLE.into()) } else { Place::Flag("--log-level") },
            key: String::new(),
            found: format!("{level:?}"),
            allowed:
                "allowed: error, warn, info, debug, trace or off; or by module, such as info,handover_gateway=debug"
                    .into(),
        })
    }

    /// Writes diagnostics from here on.
    pub(crate) fn start(&self, filter: EnvFilter) {
        let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(colours);
        match self.log_format {
            LogFormat::Human => builder.init(),
            LogFormat::Json => builder.json().init(),
        }
    }
}

/// `LEVEL` or `MODULE=LEVEL`.
fn is_directive(text: &str) -> bool {
    let (module, level) = text.split_once('=').unwrap_or(("any", text));
    let is_module =
        !module.is_empty() && module.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_:".contains(&byte));
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    is_module && levels.iter().any(|known| known.eq_ignore_ascii_case(level))
}

impl LogFormat {
    /// The form that is wanted when the command line cannot be read: what stands there or in the variable nevertheless.
    fn of_broken_line() -> Self {
        let arguments: Vec<_> = std::env::args_os().map(|one| one.to_string_lossy().into_owned()).collect();
        let beside = arguments.windows(2).find(|pair| pair[0] == "--log-format").map(|pair| pair[1].clone());
        let joined = || arguments.iter().find_map(|one| one.strip_prefix("--log-format=").map(str::to_owned));
        let format = beside.or_else(joined).or_else(|| std::env::var(FORMAT_VARIABLE).ok());
        if format.as_deref() == Some("json") { Self::Json } else { Self::Human }
    }

    /// Says what ends the command. No reader is no reason for another exit code.
    pub(crate) fn fail(self, exit: Exit, text: &str) -> Exit {
        self.say("ERROR", text);
        exit
    }

    /// Says what is no failure.
    pub(crate) fn tell(self, text: &str) {
        self.say("INFO", text);
    }

    fn say(self, level: &str, text: &str) {
        let line = match self {
            Self::Human => text.to_owned(),
            Self::Json => json_line(level, text, Map::new()),
        };
        let _ = writeln!(io::stderr().lock(), "{line}");
    }

    /// Says all that is wrong with the command line of a command that sends, a line each.
    pub(crate) fn refuse_all(self, command: &str, problems: &[String]) -> Exit {
        for problem in problems {
            self.fail(Exit::Config, &format!("{}{problem}", self.prefix()));
        }
        let hint = format!("nothing was sent; `handover {command} --help` shows what can be typed");
        self.fail(Exit::Config, &format!("{}{hint}", self.prefix()))
    }

    /// What stands before a message for people, who may read it between others'.
    pub(crate) const fn prefix(self) -> &'static str {
        match self {
            Self::Human => "handover: ",
            Self::Json => "",
        }
    }

    /// Says all that is wrong with the configuration, a line each.
    pub(crate) fn refuse(self, errors: &ConfigErrors) -> Exit {
        if self == Self::Human {
            return self.fail(Exit::Config, &errors.to_string());
        }
        let mut text = String::new();
        for error in &errors.0 {
            let ConfigError { source, key, found, allowed } = error;
            let source = source.to_string();
            let parts = [("source", &source), ("key", key), ("found", found), ("allowed", allowed)];
            let parts = parts.map(|(name, value)| (name.to_owned(), Value::from(value.as_str())));
            text.push_str(&json_line("ERROR", &error.to_string(), parts.into_iter().collect()));
            text.push('\n');
        }
        let _ = io::stderr().lock().write_all(text.as_bytes());
        Exit::Config
    }
}

/// One message, in the form that `tracing_subscriber` gives all others.
fn json_line(level: &str, message: &str, mut fields: Map<String, Value>) -> String {
    fields.insert("message".into(), message.into());
    let mut timestamp = String::new();
    // Writing to a text cannot fail, and an error without its time is still one.
    let _ = SystemTime.format_time(&mut Writer::new(&mut timestamp));
    json!({ "timestamp": timestamp, "level": level, "fields": fields, "target": "handover" }).to_string()
}

/// Ends a command whose line cannot be read, or that only asked for help.
pub(crate) fn end_with(error: &clap::Error) -> Exit {
    if error.use_stderr() && LogFormat::of_broken_line() == LogFormat::Json {
        let text = error.to_string();
        return LogFormat::Json.fail(Exit::Config, text.trim().trim_start_matches("error: "));
    }
    let _ = error.print();
    if error.use_stderr() { Exit::Config } else { Exit::Ok }
}
