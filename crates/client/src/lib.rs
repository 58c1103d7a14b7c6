//! An HTTP client over several endpoints that fails over, with proof of what was not sent.

mod discover;

#[cfg(feature = "regions")]
pub use discover::Regions;
pub use discover::{Ask, BoxFuture, Discover, DiscoverError, FETCHED_BODY_BYTES_MAX, Fetch, Fetched};
