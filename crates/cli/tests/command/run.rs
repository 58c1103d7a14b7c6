//! Runs the built command as a user does, without what the environment of the tests may say.

use std::process::Stdio;

use handover_testkit::{TEST_DEADLINE, within};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::process::{Child, Command};

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("UTF-8")
    }

    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.text().lines().count(), 1, "one object: {self:?}");
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// `handover ARGUMENTS`, its output in pipes, killed when it is dropped.
pub(crate) fn handover<A: AsRef<str>>(arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_handover"));
    command.args(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
    for (name, _) in std::env::vars() {
        let capital = name.to_ascii_uppercase();
        if capital.starts_with("HANDOVER_") || capital.starts_with("SSL_CERT") || capital.ends_with("_PROXY") {
            command.env_remove(name);
        }
    }
    command.env("LC_ALL", "C.UTF-8").env_remove("COLUMNS");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Waits for the end of a command.
pub(crate) async fn ended(child: Child) -> Ran {
    let output =
        within(TEST_DEADLINE, "the command's end", child.wait_with_output()).await.expect("it can be waited for");
    let stderr = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(!stderr.contains("panicked"), "{stderr}");
    Ran { code: output.status.code(), stdout: output.stdout, stderr }
}

/// Runs `handover ARGUMENTS` to its end.
pub(crate) async fn run<A: AsRef<str>>(arguments: impl IntoIterator<Item = A>) -> Ran {
    ended(handover(arguments).spawn().expect("it was built with the tests")).await
}

/// Sends the signal that Ctrl-C sends.
pub(crate) fn interrupt(child: &Child) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw).expect("it runs");
    kill_process(pid, Signal::INT).expect("the child is ours");
}
