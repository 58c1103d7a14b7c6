//! What each command does.

pub(crate) mod gateway;
