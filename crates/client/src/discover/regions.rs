//! Regions of a service that lists them itself, at `/settings/regions`.
//!
//! - **How long a list holds.** As long as `max-age` says. A list without one is not kept (the default is 0 s): it is
//!   asked for only after a failure, when a round trip more matters less than a region that is gone.
//! - **Stale lists.** A list that was kept is used beyond its time if no newer one is to be had: the service that would
//!   give it may be what has failed. Not after a 451 (`refresh`): then an endpoint has said that the list is wrong, and
//!   going by it once more would ask the wrong region again.
//! - **One question at a time per origin.** Who comes while one is under way shares its answer. There is no task in the
//!   background: one of those that wait carries the question, and when it is dropped the next takes over with one of
//!   its own, so that nobody fails or hangs because somebody else gave up. A 401 or 403 is not shared, because it is
//!   about the one who asked.
//! - **What the key is.** Scheme, host and port. A list that came in the clear must not tell where encrypted requests go.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use url::Url;

use super::parse::{self, TTL_MAX};
use super::{Ask, BoxFuture, Discover, DiscoverError, FETCHED_BODY_BYTES_MAX, Fetched};

#[cfg(test)]
mod tests;

/// Where LiveKit's servers list their regions.
const PATH: &str = "/settings/regions";

/// Discovery by asking the failed endpoint's own host for a list of regions.
///
/// The answer is `{"regions":[{"region":"eu","url":"https://eu.example","distance":"1"}, …]}`, best first. Of each URL
/// only scheme, host and port are used (`wss` counts as `https`); the path prefix is that of the endpoint which failed.
/// At most 64 regions of a list are kept.
///
/// Lists are kept per origin and shared by all requests of the client, as many as there are configured endpoints.
#[derive(Debug)]
pub struct Regions {
    path: Box<str>,
    default_ttl: Duration,
    origins: Mutex<HashMap<Url, Arc<Origin>>>,
}

impl Default for Regions {
    fn default() -> Self {
        Self::new()
    }
}

impl Regions {
    /// Asks at `/settings/regions`, and keeps a list only if its `Cache-Control` says for how long.
    pub fn new() -> Self {
        Self { path: PATH.into(), default_ttl: Duration::ZERO, origins: Mutex::default() }
    }

    /// The path to ask at, from the root of the host. A missing `/` at its beginning is added.
    #[must_use]
    pub fn path(mut self, path: &str) -> Self {
        self.path = if path.starts_with('/') { path.into() } else { format!("/{path}").into() };
        self
    }

    /// How long a list is kept that does not say so itself; at most a day. With 0 s, the default, it is not kept at all,
    /// not even for the case that the next question fails.
    #[must_use]
    pub fn default_ttl(mut self, ttl: Duration) -> Self {
        self.default_ttl = ttl.min(TTL_MAX);
        self
    }

    /// Takes a list that the server at `origin` sent by itself. It holds from now, as long as the list before it did;
    /// where there was none, as long as [`default_ttl`](Self::default_ttl) says. Even one that holds for 0 s is used if
    /// the next question fails.
    pub fn push(&self, origin: &Url, regions: Vec<Url>) {
        let Some(origin) = self.origin(origin) else { return };
        let urls = parse::normalised(regions).into();
        let mut state = origin.state();
        let ttl = state.list.as_ref().map_or(self.default_ttl, |list| list.ttl);
        state.list = Some(List { urls, ttl, until: Instant::now() + ttl });
    }

    /// What is known of this origin; `None` if it is no place for HTTP.
    fn origin(&self, url: &Url) -> Option<Arc<Origin>> {
        let key = parse::origin_of(url)?;
        let mut origins = self.origins.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(origins.entry(key).or_default()))
    }

    async fn ask(&self, ask: Ask<'_>) -> Result<Vec<Url>, DiscoverError> {
        let origin = self.origin(ask.origin).ok_or_else(|| DiscoverError::new("the endpoint is no place for http"))?;
        let ticket = match origin.enter(ask.refresh) {
            Entered::Known(urls) => return Ok(below(&urls, ask.origin)),
            Entered::Waiting(ticket) => ticket,
        };
        let _turn = origin.turn.acquire().await.expect("the semaphore is never closed");
        let answer = match origin.shared(ticket) {
            Some(shared) => shared,
            None => self.fetch(&origin, ask).await,
        };
        let urls = answer.or_else(|error| origin.stale(ask.refresh).ok_or(error))?;
        Ok(below(&urls, ask.origin))
    }

    /// Asks over the network. Only who has the turn may call it.
    async fn fetch(&self, origin: &Origin, ask: Ask<'_>) -> Answer {
        let number = origin.begin();
        let answer = match self.url(ask.origin) {
            Some(url) => ask.fetch.get(url, ask.headers.clone()).await.and_then(|fetched| self.read(&fetched)),
            None => Err(DiscoverError::new("the path of the list makes no url with the endpoint")),
        };
        origin.end(number, answer)
    }

    fn url(&self, origin: &Url) -> Option<Url> {
        let root = parse::origin_of(origin)?;
        // Joined as text: `Url::join` would take a path of `//host/…` for another host.
        Url::parse(&format!("{}{}", root.as_str().trim_end_matches('/'), self.path)).ok()
    }

    fn read(&self, fetched: &Fetched) -> Result<List, DiscoverError> {
        if fetched.status != StatusCode::OK {
            return Err(DiscoverError::of_status(fetched.status));
        }
        if fetched.body.len() > FETCHED_BODY_BYTES_MAX {
            return Err(DiscoverError::new("the list of regions is too long"));
        }
        let urls = parse::parse_regions(&fetched.body)
            .map_err(|error| DiscoverError::with_source("the list of regions cannot be read", error))?;
        let ttl = parse::max_age(&fetched.headers).unwrap_or(self.default_ttl);
        Ok(List { urls: urls.into(), ttl, until: Instant::now() + ttl })
    }
}

impl Discover for Regions {
    fn discover<'a>(&'a self, ask: Ask<'a>) -> BoxFuture<'a, Result<Vec<Url>, DiscoverError>> {
        Box::pin(self.ask(ask))
    }
}

/// Regions as endpoints: with the path prefix of the endpoint in whose place they are used.
fn below(urls: &[Url], origin: &Url) -> Vec<Url> {
    let with_prefix = |url: &Url| {
        let mut url = url.clone();
        url.set_path(origin.path());
        url
    };
    urls.iter().map(with_prefix).collect()
}

type Answer = Result<Arc<[Url]>, DiscoverError>;

/// What is known of one origin.
#[derive(Debug)]
struct Origin {
    /// One permit: who has it may ask.
    turn: Semaphore,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The list that is kept.
    list: Option<List>,
    /// How many questions were begun. They are numbered from 1, and there is one at a time.
    begun: u64,
    /// The number of the last question that came to its end, and what came of it: for those that waited for it.
    last: Option<(u64, Answer)>,
}

#[derive(Debug)]
struct List {
    urls: Arc<[Url]>,
    ttl: Duration,
    until: Instant,
}

enum Entered {
    /// A list that still holds.
    Known(Arc<[Url]>),
    /// There is none: the answer to any question with a higher number than this will do.
    Waiting(u64),
}

impl Default for Origin {
    fn default() -> Self {
        Self { turn: Semaphore::new(1), state: Mutex::default() }
    }
}

impl Origin {
    fn state(&self) -> MutexGuard<'_, State> {
        // Each change under the lock is whole at every point, so a panic elsewhere leaves nothing to mistrust.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, refresh: bool) -> Entered {
        let mut state = self.state();
        if refresh {
            // The others must not go by the old list either; and a question that was on its way before the 451 came may
            // have been answered before the change, so only one that begins from now on counts.
            if let Some(list) = &mut state.list {
                list.until = Instant::now();
            }
            return Entered::Waiting(state.begun);
        }
        match &state.list {
            Some(list) if Instant::now() < list.until => Entered::Known(Arc::clone(&list.urls)),
            _ => Entered::Waiting(state.last.as_ref().map_or(0, |(number, _)| *number)),
        }
    }

    /// The answer that came while this caller waited for its turn, if one did that is for everybody.
    fn shared(&self, ticket: u64) -> Option<Answer> {
        let state = self.state();
        let (number, answer) = state.last.as_ref()?;
        let own = matches!(answer, Err(error) if is_about_the_asker(error));
        (*number > ticket && !own).then(|| answer.clone())
    }

    fn begin(&self) -> u64 {
        let mut state = self.state();
        state.begun += 1;
        state.begun
    }

    fn end(&self, number: u64, answer: Result<List, DiscoverError>) -> Answer {
        let mut state = self.state();
        let answer = answer.map(|list| {
            let urls = Arc::clone(&list.urls);
            state.list = (!list.ttl.is_zero()).then_some(list);
            urls
        });
        state.last = Some((number, answer.clone()));
        answer
    }

    fn stale(&self, refresh: bool) -> Option<Arc<[Url]>> {
        let state = self.state();
        state.list.as_ref().filter(|_| !refresh).map(|list| Arc::clone(&list.urls))
    }
}

fn is_about_the_asker(error: &DiscoverError) -> bool {
    matches!(error.status(), Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN))
}
