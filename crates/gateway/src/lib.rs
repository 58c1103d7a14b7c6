//! The gateway of Handover: one port, three doors (forward, CONNECT, reverse), and failover with proof behind them.

pub mod config;
pub mod dial;
pub mod log;
