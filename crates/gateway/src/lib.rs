//! gateway
pub mod dial;
