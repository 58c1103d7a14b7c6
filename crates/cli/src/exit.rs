//! Exit codes: what scripts and service managers can tell apart without reading a message.
//!
//! A number means what the help of its command says: a port that is in use and a request that was not sent are both a 3,
//! and nobody runs the one command when the other is meant.

use std::process::ExitCode;

/// How the command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All went well.
    Ok,
    /// Anything that has no code of its own.
    Other,
    /// The configuration or the command line is wrong. The number is the one that the parser of the command line uses.
    Config,
    /// The address cannot be listened on.
    Listen,
    /// The data directory cannot be used, or another gateway uses it.
    Log,
    /// The request was answered with a status of 400 or more, or its answer broke off.
    BadAnswer,
    /// Nothing of the request was sent anywhere.
    NotSent,
    /// Nobody knows whether the request was done.
    Unknown,
    /// A signal ended it. The number is what shells give for the signal INT (128 + 2).
    Interrupted,
    /// Some of the tested endpoints are not good.
    SomeFailed,
    /// Not one of the tested endpoints is good.
    NoneGood,
}

impl Exit {
    /// The number.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Other | Self::BadAnswer | Self::SomeFailed => 1,
            Self::Config | Self::NoneGood => 2,
            Self::Listen | Self::NotSent => 3,
            Self::Log | Self::Unknown => 4,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
