//! What each command does.

pub(crate) mod check;
pub(crate) mod explain;
pub(crate) mod gateway;
pub(crate) mod log;
pub(crate) mod reach;
pub(crate) mod request;
