//! The gateway as its users run it: the built binary as a child process, with a directory of its own.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::row::Row;
use crate::within;

/// How long a start or an exit may take: a debug build under a loaded machine opens its log in well under a second.
const PROCESS_DEADLINE: Duration = Duration::from_secs(30);

/// Pause between two looks at the request log, which is another process's file and cannot be waited on. The writer's
/// flush interval (250 ms) is what one waits for.
const LOG_POLL: Duration = Duration::from_millis(50);

/// The words before the address in the start-up banner.
const LISTENING: &str = "listening on ";

/// How a gateway is to be started.
#[derive(Debug)]
pub struct GatewayBuilder {
    binary: PathBuf,
    listen: String,
    args: Vec<OsString>,
    env: Vec<(String, String)>,
    config: Option<String>,
    data_dir: Option<PathBuf>,
}

/// How a gateway that did not stay up ended.
#[derive(Clone, Debug)]
pub struct Exit {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained.
    pub stderr: String,
}

impl GatewayBuilder {
    /// The nodes in the order given, one after the other: what most tests need to say which node sees what.
    #[must_use]
    pub fn ordered(self) -> Self {
        self.platform("ORDER", "priority").platform("DIAL_STAGGER", "0")
    }

    /// A setting of the platform `Default` (and of the one that `--origin` makes), by its variable's last part.
    #[must_use]
    pub fn platform(self, key: &str, value: &str) -> Self {
        self.env(&format!("HANDOVER_DEFAULT_PLATFORM_{key}"), value)
    }

    /// One more argument of `handover gateway`.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// `--node URL`
    #[must_use]
    pub fn node(self, url: &str) -> Self {
        self.arg("--node").arg(url)
    }

    /// `--origin URL`
    #[must_use]
    pub fn origin(self, url: &str) -> Self {
        self.arg("--origin").arg(url)
    }

    /// `--max-retries N`
    #[must_use]
    pub fn max_retries(self, n: u32) -> Self {
        self.arg("--max-retries").arg(n.to_string())
    }

    /// `--token TOKEN`
    #[must_use]
    pub fn token(self, token: &str) -> Self {
        self.arg("--token").arg(token)
    }

    /// Another `--listen` than `127.0.0.1:0`.
    #[must_use]
    pub fn listen(mut self, listen: &str) -> Self {
        listen.clone_into(&mut self.listen);
        self
    }

    /// A variable of the environment, replacing the one set before. Those of the test's own that begin with `HANDOVER_` are not passed on.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A config file with this text.
    #[must_use]
    pub fn config(mut self, toml: &str) -> Self {
        self.config = Some(toml.to_owned());
        self
    }

    /// Another data directory than one of its own.
    #[must_use]
    pub fn data_dir(mut self, path: &Path) -> Self {
        self.data_dir = Some(path.to_owned());
        self
    }

    /// Starts it and waits until it listens.
    ///
    /// # Panics
    /// When it does not; the message has what it complained. Cancel safe: the child is killed.
    pub async fn start(self) -> GatewayProcess {
        let directory = tempfile::tempdir().expect("the temporary directory is writable");
        let mut child = self.spawn(directory.path());
        let stdout = Captured::from(child.stdout.take().expect("piped"));
        let stderr = Captured::from(child.stderr.take().expect("piped"));
        let listening = within(PROCESS_DEADLINE, "the gateway's banner", stdout.find(LISTENING)).await;
        let addr = listening.and_then(|word| word.parse::<SocketAddr>().ok());
        let Some(mut addr) = addr else {
            panic!("the gateway did not start:\n{}\n{}", stdout.text(), stderr.text());
        };
        if addr.ip().is_unspecified() {
            addr.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        let data_dir = self.data_dir_in(directory.path());
        GatewayProcess { addr, child, stdout, stderr, binary: self.binary, directory, data_dir }
    }

    /// Starts it and waits until it ends by itself, as with a bad configuration. Cancel safe: the child is killed.
    ///
    /// # Panics
    /// When it stays up.
    pub async fn ends(self) -> Exit {
        let directory = tempfile::tempdir().expect("the temporary directory is writable");
        let child = self.spawn(directory.path());
        let output = within(PROCESS_DEADLINE, "the gateway's end", child.wait_with_output()).await;
        let output = output.expect("a child can be waited for");
        Exit { code: output.status.code(), stdout: lossy(&output.stdout), stderr: lossy(&output.stderr) }
    }

    fn data_dir_in(&self, directory: &Path) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(|| directory.join("data"))
    }

    fn spawn(&self, directory: &Path) -> Child {
        let mut command = Command::new(&self.binary);
        command.current_dir(directory).arg("gateway").args(["--listen", &self.listen]);
        command.arg("--data-dir").arg(self.data_dir_in(directory));
        if let Some(config) = &self.config {
            let path = directory.join("handover.toml");
            std::fs::write(&path, config).expect("the temporary directory is writable");
            command.arg("--config").arg(path);
        }
        clear_own_variables(&mut command);
        command.args(&self.args).envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command.spawn().expect("the binary was built with the tests")
    }
}

/// A running gateway, killed when it is dropped.
#[derive(Debug)]
pub struct GatewayProcess {
    addr: SocketAddr,
    child: Child,
    stdout: Captured,
    stderr: Captured,
    binary: PathBuf,
    directory: tempfile::TempDir,
    data_dir: PathBuf,
}

impl GatewayProcess {
    /// Of this binary: `env!("CARGO_BIN_EXE_handover")`.
    #[must_use]
    pub fn of(binary: &str) -> GatewayBuilder {
        let listen = "127.0.0.1:0".to_owned();
        GatewayBuilder {
            binary: binary.into(),
            listen,
            args: Vec::new(),
            env: Vec::new(),
            config: None,
            data_dir: None,
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its process id.
    ///
    /// # Panics
    /// When it has ended.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id().expect("the gateway runs")
    }

    /// Where its request log is.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The directory it runs in, with `handover.toml` and, unless it was told otherwise, `data`.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Writes its config file anew, for a reload.
    ///
    /// # Panics
    /// When the directory cannot be written.
    pub fn rewrite_config(&self, toml: &str) {
        std::fs::write(self.directory().join("handover.toml"), toml).expect("the temporary directory is writable");
    }

    /// What it has printed so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What it has complained so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Waits until it has complained something with `words` in it. Cancel safe.
    ///
    /// # Panics
    /// After 30 s.
    pub async fn stderr_until(&self, words: &str) {
        let found = within(PROCESS_DEADLINE, words, self.stderr.find(words)).await;
        assert!(found.is_some(), "never said {words:?}: {}", self.stderr());
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When it has ended.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a process id fits");
        kill_process(pid, signal).expect("the child is ours");
    }

    /// Waits until it ends, and gives its exit code. Cancel safe.
    ///
    /// # Panics
    /// After 30 s.
    pub async fn ended(&mut self) -> Option<i32> {
        let status = within(PROCESS_DEADLINE, "the gateway's end", self.child.wait()).await;
        status.expect("a child can be waited for").code()
    }

    /// Runs another command of the binary on its data directory: `handover COMMAND… --data-dir …`. Cancel safe.
    ///
    /// # Panics
    /// When it does not end within 30 s.
    pub async fn run(&self, command: &[&str]) -> Exit {
        let mut child = Command::new(&self.binary);
        child.args(command).arg("--data-dir").arg(&self.data_dir);
        child.current_dir(self.directory()).kill_on_drop(true).stdin(Stdio::null());
        clear_own_variables(&mut child);
        let output = within(PROCESS_DEADLINE, "a command's end", child.output()).await.expect("the binary exists");
        Exit { code: output.status.code(), stdout: lossy(&output.stdout), stderr: lossy(&output.stderr) }
    }

    /// The rows of its request log, as `handover log --json` prints them. Cancel safe.
    ///
    /// # Panics
    /// When it cannot be read, or a line is not a JSON object.
    pub async fn log_rows(&self) -> Vec<Row> {
        let printed = self.run(&["log", "--json", "--limit", "100000"]).await;
        assert_eq!(printed.code, Some(0), "the log cannot be read: {}", printed.stderr);
        let lines = printed.stdout.lines();
        lines.map(|line| Row { json: serde_json::from_str(line).expect("one JSON object a line") }).collect()
    }

    /// Waits for the row of the only request there was. Cancel safe.
    ///
    /// # Panics
    /// After 30 s, or when there are more rows.
    pub async fn only_row(&self) -> Row {
        let mut rows = self.rows(|rows| !rows.is_empty()).await;
        assert_eq!(rows.len(), 1, "one request, one row: {rows:#?}");
        rows.remove(0)
    }

    /// Waits for the row of the request that `is_it` knows. Cancel safe.
    ///
    /// # Panics
    /// After 30 s; the message has the rows there were.
    pub async fn row(&self, is_it: impl Fn(&Row) -> bool) -> Row {
        let mut rows = self.rows(|rows| rows.iter().any(&is_it)).await;
        rows.swap_remove(rows.iter().position(&is_it).expect("it was there a moment ago"))
    }

    /// Waits until the rows are such that `enough`. Cancel safe.
    ///
    /// # Panics
    /// After 30 s; the message has the rows there were.
    pub async fn rows(&self, enough: impl Fn(&[Row]) -> bool) -> Vec<Row> {
        let begun = tokio::time::Instant::now();
        loop {
            let rows = self.log_rows().await;
            if enough(&rows) {
                return rows;
            }
            assert!(begun.elapsed() < PROCESS_DEADLINE, "the rows never came; there are {rows:#?}");
            tokio::time::sleep(LOG_POLL).await;
        }
    }
}

fn clear_own_variables(command: &mut Command) {
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HANDOVER_")) {
        command.env_remove(name);
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// An output stream of the child, read as it comes so that the child never blocks on it.
#[derive(Debug)]
struct Captured {
    text: Arc<Mutex<String>>,
    lines: watch::Receiver<usize>,
}

impl Captured {
    fn from(stream: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let (count, lines) = watch::channel(0);
        let kept = Arc::clone(&text);
        tokio::spawn(async move {
            let mut reader = BufReader::new(stream).lines();
            while let Ok(Some(line)) = reader.next_line().await {
                let mut text = kept.lock().unwrap_or_else(PoisonError::into_inner);
                text.push_str(&line);
                text.push('\n');
                count.send_modify(|lines| *lines += 1);
            }
        });
        Self { text, lines }
    }

    fn text(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for `words` and gives the word behind them (up to white space); `None` when the stream ends first.
    async fn find(&self, words: &str) -> Option<String> {
        let mut lines = self.lines.clone();
        loop {
            if let Some((_, behind)) = self.text().split_once(words) {
                return Some(behind.split_whitespace().next().unwrap_or_default().to_owned());
            }
            if lines.changed().await.is_err() {
                let text = self.text();
                return text.split_once(words).map(|(_, b)| b.split_whitespace().next().unwrap_or_default().to_owned());
            }
        }
    }
}
