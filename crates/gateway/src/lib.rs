//! gateway
pub mod log;
