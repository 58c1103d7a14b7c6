//! Asking for more endpoints in the middle of a request.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method};
use http_body_util::{BodyExt as _, Limited};
use url::{Position, Url};

use super::{Engine, Trip, run};
use crate::call::{Call, Purpose};
use crate::carrier::Carrier;
use crate::discover::credentials::forwarded;
use crate::discover::{Ask, BoxFuture, DiscoverError, FETCHED_BODY_BYTES_MAX, Fetch, Fetched};
use crate::endpoint::Endpoint;

/// How long a discovery may take, unless the caller has less time left: what LiveKit's SDKs allow. Longer delays every
/// request that fails over; shorter gives up on servers that are slow because a region is down.
const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(2);

impl<C: Carrier> Trip<'_, C> {
    /// Asks for more endpoints, within the time that discovery has. Cancelled with the request.
    pub(super) async fn discover(&mut self, refresh: bool) {
        let left = self.deadline.map(|deadline| deadline.saturating_sub(self.now()));
        let limit = left.map_or(DISCOVERY_TIMEOUT, |left| left.min(DISCOVERY_TIMEOUT));
        let (engine, call, origin) = (self.engine, self.call, self.table.first().map(Arc::clone));
        let found = match ask(engine, call, origin, refresh, limit).await {
            Ok(urls) => {
                self.add(&urls, refresh);
                true
            }
            Err(error) => {
                tracing::warn!("no further endpoints were found: {error}");
                false
            }
        };
        let now = self.now();
        self.session().discovered(now, found);
    }

    /// Adds what was found behind what is known, each place once.
    fn add(&mut self, urls: &[Url], is_pin: bool) {
        let shared = &self.engine.shared;
        let mut allowed = Vec::new();
        for url in urls {
            let known = self.table.iter().find(|endpoint| endpoint.is_same_place(url)).map(Arc::clone);
            let endpoint = known.unwrap_or_else(|| {
                let endpoint = shared.discovered(url);
                Arc::make_mut(&mut self.table).push(Arc::clone(&endpoint));
                endpoint
            });
            allowed.push(endpoint);
        }
        if is_pin {
            self.allowed = Some(Arc::new(allowed));
        }
    }
}

/// Asks whoever knows, for at most this long.
async fn ask<C: Carrier>(
    engine: &Engine<C>,
    call: &Call,
    origin: Option<Arc<Endpoint>>,
    refresh: bool,
    limit: Duration,
) -> Result<Vec<Url>, DiscoverError> {
    let discover = engine.shared.discover.as_ref().ok_or_else(|| DiscoverError::new("no discovery is set up"))?;
    let origin = origin.ok_or_else(|| DiscoverError::new("there is no endpoint to ask"))?;
    let fetch = OneGet { engine, limit };
    let headers = forwarded(&call.headers);
    let ask = Ask { origin: &origin.url, headers: &headers, refresh, fetch: &fetch };
    let asked = tokio::time::timeout(limit, discover.discover(ask)).await;
    asked.unwrap_or_else(|_| Err(DiscoverError::new(format!("no answer within {limit:?}"))))
}

/// Fetches at one endpoint, once, on the client's own connections.
struct OneGet<'e, C> {
    engine: &'e Engine<C>,
    limit: Duration,
}

impl<C: Carrier> Fetch for OneGet<'_, C> {
    fn get<'a>(&'a self, url: Url, headers: HeaderMap) -> BoxFuture<'a, Result<Fetched, DiscoverError>> {
        Box::pin(async move {
            let path = url[Position::BeforePath..Position::AfterQuery].parse();
            let path = path.map_err(|error| DiscoverError::new(format!("the path cannot be asked: {error}")))?;
            let mut call = Call::new(Method::GET, path);
            (call.headers, call.opted_out, call.deadline) = (headers, true, Some(self.limit));
            (call.only, call.purpose) = (Some(self.endpoint(&url)), Purpose::Discovery);
            let answer = run(self.engine, &call).await.map_err(|error| DiscoverError::new(error.to_string()))?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, FETCHED_BODY_BYTES_MAX).collect().await;
            let body = body.map_err(|error| DiscoverError::new(format!("the list breaks off: {error}")))?.to_bytes();
            Ok(Fetched { status: head.status, headers: head.headers, body })
        })
    }
}

impl<C: Carrier> OneGet<'_, C> {
    /// The place without its prefix: what is asked for is a path of its own.
    fn endpoint(&self, url: &Url) -> Arc<Endpoint> {
        let mut place = url.clone();
        place.set_path("/");
        place.set_query(None);
        let shared = &self.engine.shared;
        let known = shared.set.endpoints().iter().find(|endpoint| endpoint.url == place);
        known.map_or_else(|| shared.discovered(&place), Arc::clone)
    }
}
