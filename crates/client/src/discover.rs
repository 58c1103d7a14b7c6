//! Endpoints that are asked for when those known have failed: the trait, and what it is given.
//!
//! Whoever carries a request out asks once per request at most, after the first attempt that another endpoint could
//! make good, so that a healthy service never pays for it. The limits (two seconds, or what the caller has left) and the
//! caller's cancellation are enforced there, by dropping the future: an implementation needs no clock for that, and must
//! not leave anything running behind.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use url::Url;

pub(crate) mod credentials;
#[cfg(feature = "regions")]
mod parse;
#[cfg(feature = "regions")]
mod regions;

#[cfg(feature = "regions")]
pub use regions::Regions;

/// The longest answer to a question for endpoints, in bytes. A list of 64 regions with long names has about 16 KiB; one
/// that is sixty times as long is a mistake or an attack, and is not worth the memory.
pub const FETCHED_BODY_BYTES_MAX: usize = 1 << 20;

/// A future on the heap, as the methods of traits return it that are used as objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Knows of endpoints besides those that were configured.
pub trait Discover: Send + Sync + 'static {
    /// Endpoints that may serve the request besides those known, best first.
    ///
    /// Those already tried are left out by the caller, compared by host and port, so they may be in the list. A list
    /// without others is no error: the same endpoints are tried again, as far as the policy goes.
    ///
    /// # Errors
    /// [`DiscoverError`] if there is nothing to go by. The request then ends with what its last attempt came to, never
    /// with this error; that is in the log only.
    ///
    /// # Cancel safety
    /// The future is dropped when the caller gives up or the time is over. It must leave nothing half done, and must not
    /// make others that ask the same wait for it.
    fn discover<'a>(&'a self, ask: Ask<'a>) -> BoxFuture<'a, Result<Vec<Url>, DiscoverError>>;
}

impl<D: Discover + ?Sized> Discover for Arc<D> {
    fn discover<'a>(&'a self, ask: Ask<'a>) -> BoxFuture<'a, Result<Vec<Url>, DiscoverError>> {
        (**self).discover(ask)
    }
}

/// A question for endpoints.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    /// The endpoint at which the request was tried first.
    pub origin: &'a Url,
    /// The fields of the request, without those that are about its body or its connection, and with credentials only if
    /// `origin` may have them.
    pub headers: &'a HeaderMap,
    /// An endpoint said that the list is out of date (status 451): an answer from memory will not do.
    pub refresh: bool,
    /// Asks over the network, with the client's own roots, proxies and timeouts.
    pub fetch: &'a dyn Fetch,
}

impl fmt::Debug for Ask<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The fields may hold credentials, and the origin a password.
        f.debug_struct("Ask")
            .field("origin", &self.origin.host_str())
            .field("refresh", &self.refresh)
            .finish_non_exhaustive()
    }
}

/// One GET at one endpoint, without failover.
pub trait Fetch: Send + Sync {
    /// Sends the request and reads the whole answer, whatever its status. Redirects are not followed.
    ///
    /// # Errors
    /// [`DiscoverError`] if there is no answer, or one with a body of more than [`FETCHED_BODY_BYTES_MAX`] bytes.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection; nothing is sent later.
    fn get<'a>(&'a self, url: Url, headers: HeaderMap) -> BoxFuture<'a, Result<Fetched, DiscoverError>>;
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub headers: HeaderMap,
    /// Its body, of at most [`FETCHED_BODY_BYTES_MAX`] bytes.
    pub body: Bytes,
}

/// Why no endpoints were found. It is cheap to clone: all that asked at the same time get the same one.
#[derive(Clone)]
pub struct DiscoverError {
    inner: Arc<Inner>,
}

struct Inner {
    message: Cow<'static, str>,
    status: Option<StatusCode>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl DiscoverError {
    /// An error in words: lower case, one line, no full stop, no credentials.
    pub fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self::from_parts(message.into(), None, None)
    }

    /// The service that knows the endpoints answered, with a status that is no list.
    pub fn of_status(status: StatusCode) -> Self {
        Self::from_parts(Cow::Borrowed("the list of endpoints was refused"), Some(status), None)
    }

    /// An error with its cause.
    pub fn with_source(message: impl Into<Cow<'static, str>>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::from_parts(message.into(), None, Some(source.into()))
    }

    fn from_parts(
        message: Cow<'static, str>,
        status: Option<StatusCode>,
        source: Option<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self { inner: Arc::new(Inner { message, status, source }) }
    }

    /// The status of the answer, if there was one.
    pub fn status(&self) -> Option<StatusCode> {
        self.inner.status
    }
}

impl fmt::Display for DiscoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.message)?;
        match self.inner.status {
            Some(status) => write!(f, " with {}", status.as_u16()),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for DiscoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiscoverError")
            .field("message", &self.inner.message)
            .field("status", &self.inner.status)
            .field("source", &self.inner.source)
            .finish()
    }
}

impl Error for DiscoverError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.inner.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}
