//! The gateway of Handover: one port, three doors (forward, CONNECT, reverse), and failover with proof behind them.
//!
//! ```no_run
//! use handover_gateway::Gateway;
//! use handover_gateway::config::{Config, Sources};
//!
//! let config = Config::load(Sources::default()).expect("the defaults are a valid configuration");
//! let running = Gateway::start(config).expect("the port is free");
//! println!("listening on {}", running.local_addr());
//! running.shutdown();
//! ```
//!
//! A request comes through a [door](log::Door), finds its platform, and makes its trip through the platform's nodes. The
//! trip decides nothing: which node, whether again, when to stop is the word of [`handover_core::Session`].

mod accept;
mod auth_limit;
mod body;
mod checks;
mod client_io;
pub mod config;
mod door;
mod errors;
mod gateway;
mod head_guard;
mod headers;
mod identity;
mod ledger;
pub mod log;
mod node;
mod plan;
mod relay;
mod reverse;
mod serve;
mod trip;
mod tunnel;
mod tunneling;
mod worker;

pub use handover_wire::dial;

pub use errors::{ERROR_HEADER, ErrorCode, ID_HEADER};
pub use gateway::{Gateway, ReloadError, Running, StartError};
pub use plan::PlanError;
