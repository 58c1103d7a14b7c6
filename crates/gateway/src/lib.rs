//! gateway
pub mod config;
