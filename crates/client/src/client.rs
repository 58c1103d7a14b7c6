//! The client: endpoints, a policy, and what sends requests to them.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, Method};

use crate::answer::Answer;
use crate::builder::ClientBuilder;
use crate::call::Call;
use crate::direct::Direct;
use crate::error::Error;
use crate::prober::Prober;
use crate::request::RequestBuilder;
use crate::set::EndpointStatus;
use crate::trip::{Engine, run};

/// A client over several endpoints. Cheap to clone; clones share connections, health and budget.
///
/// It needs a tokio runtime with time and I/O enabled. Connections belong to the runtime in which they were opened.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) engine: Arc<Engine<Direct>>,
    pub(crate) default_headers: HeaderMap,
    pub(crate) prober: Prober,
    pub(crate) redirects: u32,
}

impl Client {
    /// A client being set up.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    pub(crate) fn new(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }

    /// `GET` this path.
    pub fn get(&self, path: &str) -> RequestBuilder {
        self.request(Method::GET, path)
    }

    /// `HEAD` this path.
    pub fn head(&self, path: &str) -> RequestBuilder {
        self.request(Method::HEAD, path)
    }

    /// `POST` to this path.
    pub fn post(&self, path: &str) -> RequestBuilder {
        self.request(Method::POST, path)
    }

    /// `PUT` this path.
    pub fn put(&self, path: &str) -> RequestBuilder {
        self.request(Method::PUT, path)
    }

    /// `PATCH` this path.
    pub fn patch(&self, path: &str) -> RequestBuilder {
        self.request(Method::PATCH, path)
    }

    /// `DELETE` this path.
    pub fn delete(&self, path: &str) -> RequestBuilder {
        self.request(Method::DELETE, path)
    }

    /// A request with this method. The path is relative to every endpoint's URL, which keeps its own prefix.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        RequestBuilder::new(self, method, path)
    }

    /// What is known of each endpoint at this moment, in the order in which they were given.
    #[must_use]
    pub fn endpoints(&self) -> Vec<EndpointStatus> {
        let shared = &self.0.engine.shared;
        shared.set.status(shared.uptime())
    }

    /// How many further attempts the budget could pay for now; `None` if there is no budget.
    #[must_use]
    pub fn budget_available(&self) -> Option<u64> {
        self.0.engine.shared.budget_available()
    }

    /// Whether it asks its endpoints by itself how they are.
    #[cfg(feature = "socket")]
    pub(crate) fn is_probing(&self) -> bool {
        self.0.prober.probe.is_some()
    }

    pub(crate) fn engine(&self) -> &Arc<Engine<Direct>> {
        &self.0.engine
    }

    pub(crate) fn default_headers(&self) -> &HeaderMap {
        &self.0.default_headers
    }

    pub(crate) async fn run(&self, mut call: Call) -> Result<Answer, Error> {
        self.0.prober.wake(&self.0.engine);
        call.add_missing(&self.0.default_headers);
        call.check()?;
        self.0.engine.shared.stamp(&mut call);
        #[cfg(any(feature = "gzip", feature = "br", feature = "zstd"))]
        if !call.is_upgrade {
            crate::decode::accept(&mut call.headers);
        }
        if self.0.redirects == 0 {
            return run(&self.0.engine, &call).await;
        }
        crate::redirect::follow(&self.0.engine, call, self.0.redirects).await
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoints: Vec<_> = self.0.engine.shared.set.endpoints().iter().map(|endpoint| &endpoint.label).collect();
        f.debug_struct("Client").field("endpoints", &endpoints).finish_non_exhaustive()
    }
}
