//! An HTTP client over several endpoints that fails over, with proof of what was not sent.

#[cfg(feature = "socket")]
pub mod socket;
