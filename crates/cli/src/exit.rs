//! Exit codes: what scripts and service managers can tell apart without reading a message.

use std::process::ExitCode;

/// How the command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All went well.
    Ok = 0,
    /// Anything that has no code of its own.
    Other = 1,
    /// The configuration or the command line is wrong. The number is the one that the parser of the command line uses.
    Config = 2,
    /// The address cannot be listened on.
    Listen = 3,
    /// The data directory cannot be used, or another gateway uses it.
    Log = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
