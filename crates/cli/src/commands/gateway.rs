//! `handover gateway`: checks the configuration, runs the gateway, and obeys signals.
//!
//! HUP reads the configuration again; TERM and INT end the gateway in order; a second one of them ends it at once.

use std::io::{self, Write};

use handover_gateway::config::{Config, ConfigError, ConfigErrors, Sources, key_list};
use handover_gateway::{Gateway, Running, StartError};
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::banner::Banner;
use crate::args::GatewayArgs;
use crate::diagnostics::{Diagnostics, LogFormat};
use crate::exit::Exit;

mod banner;

/// Runs the command to its end.
pub(crate) fn run(args: GatewayArgs, diagnostics: &Diagnostics) -> Exit {
    let (check_only, list_keys) = (args.check_config, args.list_keys);
    if list_keys {
        return say(&key_list());
    }
    let sources = args.into_sources();
    let format = diagnostics.log_format;
    let (config, filter) = match (Config::load(sources.clone()), diagnostics.filter()) {
        (Ok(config), Ok(filter)) => (config, filter),
        (config, filter) => return format.refuse(&all_errors(config.err(), filter.err())),
    };
    if check_only {
        return say(&checked(&config));
    }
    diagnostics.start(filter);
    take_all_descriptors();
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return format.fail(Exit::Other, &format!("cannot wait for signals: {error}")),
    };
    let exit = runtime.block_on(serve(config, sources, format));
    // A drain that a second signal cut short may still wait for its requests: the process does not wait for it.
    runtime.shutdown_background();
    exit
}

/// Raises the soft limit of file descriptors to the hard one. The soft limit (1024 on most systems) is kept low for programs
/// that use `select`; this one does not, and its clients and nodes need a descriptor each.
fn take_all_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!("the limit of file descriptors stays: {error}");
    }
}

/// What is wrong with the configuration and with the level of the diagnostics, as one list.
fn all_errors(config: Option<ConfigErrors>, level: Option<ConfigError>) -> ConfigErrors {
    let mut errors = config.map(|errors| errors.0).unwrap_or_default();
    errors.extend(level);
    errors.sort();
    ConfigErrors(errors)
}

/// Serves until a signal ends it. Signals are caught before the gateway starts, so that none is lost.
async fn serve(config: Config, sources: Sources, format: LogFormat) -> Exit {
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => return format.fail(Exit::Other, &format!("cannot wait for signals: {error}")),
    };
    let banner = Banner::of(&config);
    let running = match Gateway::start(config) {
        Ok(running) => running,
        Err(error) => return format.fail(exit_of(&error), &error.to_string()),
    };
    say(&banner.text(running.local_addr()));
    while signals.next().await == Request::Reload {
        reload(&running, &sources);
    }
    signals.settle().await;
    tracing::info!("ending: no new connections; a second signal cuts off what still runs");
    let ended = tokio::task::spawn_blocking(move || running.shutdown());
    tokio::select! {
        // Requests that drain_timeout cuts off are what was configured, and the gateway warns of them: no failure.
        ended = ended => if ended.is_ok() { Exit::Ok } else { Exit::Other },
        () = signals.end() => format.fail(Exit::Other, "ended by a second signal; requests that still ran are cut off"),
    }
}

fn reload(running: &Running, sources: &Sources) {
    let config = match Config::load(sources.clone()) {
        Ok(config) => config,
        Err(errors) => {
            for error in &errors.0 {
                tracing::error!("reload: {error}");
            }
            tracing::error!("reload: the configuration is wrong, the old one stays");
            return;
        }
    };
    let summary = checked(&config);
    match running.reload(config) {
        Ok(()) => tracing::info!("reloaded: {}", summary.trim_end()),
        Err(error) => tracing::error!("reload: {error}; the old configuration stays"),
    }
}

/// What a good configuration amounts to, and what may be a mistake in it.
fn checked(config: &Config) -> String {
    let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    let nodes = count(config.nodes.len(), "node");
    let platforms = count(config.platforms.len(), "platform");
    let routes = count(config.routes.len(), "route");
    let mut text = format!("config ok: {nodes}, {platforms}, {routes}, listen on {}\n", config.listen);
    for warning in config.warnings() {
        text.push_str(&format!("warning: {warning}\n"));
    }
    text
}

/// Which exit code a failed start has.
fn exit_of(error: &StartError) -> Exit {
    match error {
        StartError::Bind { .. } => Exit::Listen,
        StartError::Log(_) => Exit::Log,
        StartError::Plan(_) => Exit::Config,
        _ => Exit::Other,
    }
}

/// What a signal asks for.
#[derive(PartialEq, Eq)]
enum Request {
    Reload,
    End,
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The next request. Cancel safe: a signal that is not returned is kept.
    async fn next(&mut self) -> Request {
        tokio::select! {
            _ = self.hangup.recv() => Request::Reload,
            _ = self.terminate.recv() => Request::End,
            _ = self.interrupt.recv() => Request::End,
        }
    }

    /// The next request to end; reloads are ignored meanwhile. Cancel safe.
    async fn end(&mut self) {
        while self.next().await == Request::Reload {}
    }

    /// Lets a request to end that comes twice be one: a supervisor may send it to the process and to its group.
    async fn settle(&mut self) {
        let _ = tokio::time::timeout(SAME_REQUEST, async {
            loop {
                self.end().await;
            }
        })
        .await;
    }
}

/// How far apart two signals of one sender may be: they are sent in one breath. A person takes longer, and is told first.
const SAME_REQUEST: std::time::Duration = std::time::Duration::from_millis(50);

/// Writes to stdout. A reader that has gone is no reason to stop serving.
fn say(text: &str) -> Exit {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    Exit::Ok
}
