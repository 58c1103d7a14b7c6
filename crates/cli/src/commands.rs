//! What each command does.

pub(crate) mod explain;
pub(crate) mod gateway;
pub(crate) mod log;
