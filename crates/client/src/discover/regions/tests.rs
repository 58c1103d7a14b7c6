//! The cache of lists: a scripted server, and a clock that stands still.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use bytes::Bytes;
use http::HeaderMap;
use http::header::CACHE_CONTROL;
use tokio::sync::Notify;
use tokio::time::{advance, timeout};

use super::super::Fetch;
use super::*;

/// A server that gives its answers in order, each when it is let go.
#[derive(Default)]
struct Server {
    answers: Mutex<VecDeque<Result<Fetched, DiscoverError>>>,
    asked: Mutex<Vec<(Url, HeaderMap)>>,
    /// Questions that wait at present.
    waiting: AtomicUsize,
    /// If set, each answer waits for a notification.
    hold: Option<Notify>,
}

impl Server {
    fn held() -> Self {
        Self { hold: Some(Notify::new()), ..Self::default() }
    }

    fn lists(self, cache_control: &str, urls: &[&str]) -> Self {
        let regions: Vec<_> = urls.iter().map(|url| serde_json::json!({ "region": "r", "url": url })).collect();
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_CONTROL, cache_control.parse().unwrap());
        let body = serde_json::json!({ "regions": regions }).to_string().into();
        self.answers(Ok(Fetched { status: StatusCode::OK, headers, body }))
    }

    fn status(self, status: u16) -> Self {
        let status = StatusCode::from_u16(status).unwrap();
        self.answers(Ok(Fetched { status, headers: HeaderMap::new(), body: Bytes::new() }))
    }

    fn fails(self) -> Self {
        self.answers(Err(DiscoverError::new("connection refused")))
    }

    fn answers(self, answer: Result<Fetched, DiscoverError>) -> Self {
        self.answers.lock().unwrap().push_back(answer);
        self
    }

    fn hits(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    fn let_one_go(&self) {
        self.hold.as_ref().unwrap().notify_one();
    }
}

/// Counts a question as waiting until it is answered or dropped.
struct Waits<'a>(&'a AtomicUsize);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Fetch for Server {
    fn get<'a>(&'a self, url: Url, headers: HeaderMap) -> BoxFuture<'a, Result<Fetched, DiscoverError>> {
        self.asked.lock().unwrap().push((url, headers));
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let waits = Waits(&self.waiting);
        Box::pin(async move {
            let _waits = waits;
            if let Some(hold) = &self.hold {
                hold.notified().await;
            }
            self.answers.lock().unwrap().pop_front().expect("the script has no answer left")
        })
    }
}

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

fn texts(answer: Result<Vec<Url>, DiscoverError>) -> Result<Vec<String>, String> {
    answer.map(|urls| urls.into_iter().map(String::from).collect()).map_err(|error| error.to_string())
}

async fn ask_at(regions: &Regions, server: &Server, origin: &str, refresh: bool) -> Result<Vec<String>, String> {
    let headers = HeaderMap::new();
    let origin = url(origin);
    let answer = regions.discover(Ask { origin: &origin, headers: &headers, refresh, fetch: server });
    // The clock stands still, so the time is over at once if there is nothing left that could happen.
    texts(timeout(Duration::from_secs(3600), answer).await.expect("nobody waits for ever"))
}

async fn ask(regions: &Regions, server: &Server) -> Result<Vec<String>, String> {
    ask_at(regions, server, "https://primary.example", false).await
}

async fn refresh(regions: &Regions, server: &Server) -> Result<Vec<String>, String> {
    ask_at(regions, server, "https://primary.example", true).await
}

fn list(urls: &[&str]) -> Result<Vec<String>, String> {
    Ok(urls.iter().map(ToString::to_string).collect())
}

/// Polls once. The clock and the runtime have no part in what is waited for here.
async fn begun<F: Future + Unpin>(future: &mut F) {
    let pending = std::future::poll_fn(|cx| Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx).is_pending())).await;
    assert!(pending, "it is not to be finished yet");
}

const OLD: &str = "https://old.example/";
const NEW: &str = "https://new.example/";

#[tokio::test(start_paused = true)]
async fn region_url_provider_keeps_server_order_and_two_calls_make_one_fetch() {
    let server = Server::default().lists("max-age=60", &["https://c.example", "wss://a.example", "https://b.example"]);
    let regions = Regions::new();
    let expected = list(&["https://c.example/", "https://a.example/", "https://b.example/"]);
    assert_eq!(ask(&regions, &server).await, expected);
    assert_eq!(ask(&regions, &server).await, expected);
    assert_eq!(server.hits(), 1);
}

#[tokio::test(start_paused = true)]
async fn region_url_provider_refetches_past_the_ttl() {
    let server = Server::default().lists("max-age=60", &[OLD]).lists("max-age=60", &[NEW]);
    let regions = Regions::new();
    assert_eq!(ask(&regions, &server).await, list(&[OLD]));
    advance(Duration::from_millis(59_999)).await;
    assert_eq!(ask(&regions, &server).await, list(&[OLD]));
    assert_eq!(server.hits(), 1);
    advance(Duration::from_millis(1)).await;
    assert_eq!(ask(&regions, &server).await, list(&[NEW]));
    assert_eq!(server.hits(), 2);
}

#[tokio::test(start_paused = true)]
async fn region_url_provider_surfaces_a_fetch_error() {
    let server = Server::default().fails().status(500).status(204);
    let regions = Regions::new();
    assert_eq!(ask(&regions, &server).await, Err("connection refused".into()));
    assert_eq!(ask(&regions, &server).await, Err("the list of endpoints was refused with 500".into()));
    assert_eq!(ask(&regions, &server).await, Err("the list of endpoints was refused with 204".into()));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_list_is_an_error_that_says_why() {
    let answer = |body: Bytes| Fetched { status: StatusCode::OK, headers: HeaderMap::new(), body };
    let server = Server::default()
        .answers(Ok(answer(Bytes::from_static(b"<html>"))))
        .answers(Ok(answer(vec![b' '; FETCHED_BODY_BYTES_MAX + 1].into())));
    let regions = Regions::new();
    assert_eq!(ask(&regions, &server).await, Err("the list of regions cannot be read".into()));
    assert_eq!(ask(&regions, &server).await, Err("the list of regions is too long".into()));
}

#[tokio::test(start_paused = true)]
async fn the_question_goes_to_the_root_of_the_host_with_the_callers_fields() {
    let server = Server::default().lists("", &["https://eu.example"]).lists("", &[]).lists("", &[]);
    let mut headers = HeaderMap::new();
    headers.insert("authorization", "Bearer x".parse().unwrap());
    let origin = url("wss://User:pw@Primary.example:443/prefix?x=y");
    let regions = Regions::new();
    let answer = regions.discover(Ask { origin: &origin, headers: &headers, refresh: false, fetch: &server }).await;
    assert_eq!(texts(answer), list(&["https://eu.example/prefix"]), "the prefix of the origin is kept");
    ask_at(&Regions::new().path("my/list?full=1"), &server, "http://h:81/prefix", false).await.unwrap();
    ask_at(&Regions::new().path("//evil.example/x"), &server, "http://h:81", false).await.unwrap();
    let asked = server.asked.lock().unwrap();
    let urls: Vec<_> = asked.iter().map(|(url, _)| url.as_str()).collect();
    let expected =
        ["https://primary.example/settings/regions", "http://h:81/my/list?full=1", "http://h:81//evil.example/x"];
    assert_eq!(urls, expected);
    assert_eq!(asked[0].1, headers);
}

#[tokio::test(start_paused = true)]
async fn a_list_without_a_lifetime_is_not_kept_unless_a_default_says_so() {
    for (ttl, hits, after) in [(0, 2, Err("connection refused".into())), (3, 1, list(&[OLD]))] {
        let server = Server::default().lists("max-age=0", &[OLD]).fails();
        let regions = Regions::new().default_ttl(Duration::from_secs(ttl));
        assert_eq!(ask(&regions, &server).await, list(&[OLD]));
        assert_eq!(ask(&regions, &server).await, after, "{ttl}");
        assert_eq!(server.hits(), hits);
    }
}

#[tokio::test(start_paused = true)]
async fn a_newer_list_that_is_not_to_be_kept_ends_the_older_one() {
    let server = Server::default().lists("max-age=1", &[OLD]).lists("no-store", &[NEW]).fails();
    let regions = Regions::new();
    assert_eq!(ask(&regions, &server).await, list(&[OLD]));
    advance(Duration::from_secs(1)).await;
    assert_eq!(ask(&regions, &server).await, list(&[NEW]));
    assert_eq!(ask(&regions, &server).await, Err("connection refused".into()));
}

#[tokio::test(start_paused = true)]
async fn a_stale_list_is_better_than_none_and_is_renewed_as_soon_as_possible() {
    let server =
        Server::default().lists("max-age=60", &[OLD]).fails().status(503).status(403).lists("max-age=60", &[NEW]);
    let regions = Regions::new();
    ask(&regions, &server).await.unwrap();
    advance(Duration::from_secs(3600)).await;
    for _ in 0..3 {
        assert_eq!(ask(&regions, &server).await, list(&[OLD]));
    }
    assert_eq!(ask(&regions, &server).await, list(&[NEW]));
    assert_eq!(server.hits(), 5);
}

#[tokio::test(start_paused = true)]
async fn after_a_451_neither_a_kept_nor_a_stale_list_will_do() {
    let server = Server::default().lists("max-age=60", &[OLD]).fails().fails().lists("max-age=60", &[NEW]);
    let regions = Regions::new();
    assert_eq!(ask(&regions, &server).await, list(&[OLD]));
    assert_eq!(refresh(&regions, &server).await, Err("connection refused".into()));
    assert_eq!(ask(&regions, &server).await, list(&[OLD]), "stale for others, after they have asked");
    assert_eq!(server.hits(), 3);
    assert_eq!(refresh(&regions, &server).await, list(&[NEW]));
    assert_eq!(ask(&regions, &server).await, list(&[NEW]));
    assert_eq!(server.hits(), 4);
}

#[tokio::test(start_paused = true)]
async fn each_origin_has_its_own_list() {
    let mut server = Server::default();
    let origins = ["https://primary.example", "http://primary.example", "https://primary.example:8443"];
    for origin in origins {
        server = server.lists("max-age=60", &[origin]);
    }
    let regions = Regions::new();
    for round in ["asked", "kept"] {
        for origin in origins {
            let expected = Ok(vec![format!("{origin}/")]);
            assert_eq!(ask_at(&regions, &server, origin, false).await, expected, "{round}");
        }
    }
    assert_eq!(
        ask_at(&regions, &server, "wss://PRIMARY.example:443/rtc", false).await,
        list(&["https://primary.example/rtc"])
    );
    assert_eq!(server.hits(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_pushed_list_keeps_the_ttl_of_the_one_before() {
    let server = Server::default().lists("max-age=60", &[OLD]).lists("max-age=60", &["https://x.example"]);
    let regions = Regions::new();
    ask(&regions, &server).await.unwrap();
    advance(Duration::from_secs(40)).await;
    regions.push(&url("wss://Primary.example/rtc"), vec![url("wss://new.example/rtc"), url(NEW), url("ftp://x")]);
    advance(Duration::from_secs(59)).await;
    assert_eq!(ask(&regions, &server).await, list(&[NEW]), "it holds from when it came");
    assert_eq!(server.hits(), 1);
    advance(Duration::from_secs(1)).await;
    assert_eq!(ask(&regions, &server).await, list(&["https://x.example/"]));
}

#[tokio::test(start_paused = true)]
async fn a_pushed_list_without_a_ttl_stands_in_when_the_question_fails() {
    let server = Server::default().fails().lists("", &[OLD]).fails();
    let regions = Regions::new();
    regions.push(&url("https://primary.example"), vec![url(NEW)]);
    assert_eq!(ask(&regions, &server).await, list(&[NEW]));
    assert_eq!(ask(&regions, &server).await, list(&[OLD]));
    assert_eq!(ask(&regions, &server).await, Err("connection refused".into()));
}

#[tokio::test(start_paused = true)]
async fn those_who_ask_at_the_same_time_share_one_fetch_and_its_failure() {
    let server = Server::held().lists("no-store", &[NEW]).status(503);
    let regions = Regions::new();
    for expected in [list(&[NEW]), Err("the list of endpoints was refused with 503".to_owned())] {
        let before = server.hits();
        let (mut one, mut two, mut three) =
            (pin!(ask(&regions, &server)), pin!(ask(&regions, &server)), pin!(ask(&regions, &server)));
        begun(&mut one).await;
        begun(&mut two).await;
        begun(&mut three).await;
        server.let_one_go();
        assert_eq!((one.await, two.await, three.await), (expected.clone(), expected.clone(), expected));
        assert_eq!(server.hits() - before, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_takes_over_when_the_one_that_asks_is_dropped() {
    let server = Server::held().lists("no-store", &[NEW]);
    let regions = Regions::new();
    let (mut two, mut three) = (pin!(ask(&regions, &server)), pin!(ask(&regions, &server)));
    {
        let mut one = pin!(ask(&regions, &server));
        begun(&mut one).await;
        begun(&mut two).await;
        begun(&mut three).await;
        assert_eq!(server.waiting.load(Ordering::SeqCst), 1);
    }
    assert_eq!(server.waiting.load(Ordering::SeqCst), 0, "the first question has ended with who asked it");
    begun(&mut two).await;
    server.let_one_go();
    assert_eq!((two.await, three.await), (list(&[NEW]), list(&[NEW])));
    assert_eq!(server.hits(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_waits_and_is_dropped_takes_nobody_with_it() {
    let server = Server::held().lists("no-store", &[NEW]);
    let regions = Regions::new();
    let (mut one, mut three) = (pin!(ask(&regions, &server)), pin!(ask(&regions, &server)));
    begun(&mut one).await;
    {
        let mut two = pin!(ask(&regions, &server));
        begun(&mut two).await;
        begun(&mut three).await;
    }
    server.let_one_go();
    assert_eq!((one.await, three.await), (list(&[NEW]), list(&[NEW])));
    assert_eq!(server.hits(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_one_asker_is_not_that_of_another() {
    let server = Server::held().status(401).lists("no-store", &[NEW]);
    let regions = Regions::new();
    let (mut one, mut two) = (pin!(ask(&regions, &server)), pin!(ask(&regions, &server)));
    begun(&mut one).await;
    begun(&mut two).await;
    server.let_one_go();
    assert_eq!(one.await, Err("the list of endpoints was refused with 401".into()));
    begun(&mut two).await;
    server.let_one_go();
    assert_eq!(two.await, list(&[NEW]));
}

#[tokio::test(start_paused = true)]
async fn a_question_from_before_the_451_is_no_answer_to_it() {
    let server = Server::held().lists("max-age=60", &[OLD]).lists("max-age=60", &[NEW]);
    let regions = Regions::new();
    let (mut plain, mut one, mut two) =
        (pin!(ask(&regions, &server)), pin!(refresh(&regions, &server)), pin!(refresh(&regions, &server)));
    begun(&mut plain).await;
    begun(&mut one).await;
    begun(&mut two).await;
    server.let_one_go();
    assert_eq!(plain.await, list(&[OLD]));
    begun(&mut one).await;
    server.let_one_go();
    assert_eq!((one.await, two.await), (list(&[NEW]), list(&[NEW])));
    assert_eq!(server.hits(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_no_place_for_http_is_told_so() {
    let answer = ask_at(&Regions::new(), &Server::default(), "ftp://primary.example", false).await;
    assert_eq!(answer, Err("the endpoint is no place for http".into()));
}
