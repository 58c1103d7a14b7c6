//! What a layer takes from a client's settings: all that is not about connections, shared by its services.

use std::time::Duration;

use handover_client::{
    Ask, BoxFuture, Discover, DiscoverError, Http2, Policy, Reason, Record, RequestOptions, TokenBucket, Verdict,
};
use handover_testkit::{Act, Answer, DeadPort, Origin, bounded};
use http::Request;
use tower_layer::Layer as _;
use tower_service::Service as _;
use url::Url;

use super::plain::Plain;
use super::{around, builder, connect_errors, post, text};

#[test]
fn settings_of_connections_are_refused_all_at_once() {
    let builder = builder(["http://h"]).http2(Http2::Never).proxy("http://p").pool_idle_max(1).only_these_ca();
    let error = builder.layer().expect_err("connections are the inner service's");
    let named = ["certificates", "http2", "proxy", "pool_idle_max"];
    assert_eq!(error.problems().len(), named.len(), "{error}");
    for (problem, name) in error.problems().iter().zip(named) {
        assert!(problem.starts_with(name), "{problem}");
    }
}

#[tokio::test]
async fn services_of_one_layer_share_the_budget() {
    bounded(async {
        let failing = Origin::scripted(|_| Act::Answer(Answer::status(503, "no"))).await;
        let good = Origin::answering("hello").await;
        let endpoints = [failing.url(), good.url()];
        let builder =
            builder(endpoints).budget(Some(TokenBucket::try_new(0, 1, Duration::from_secs(1)).expect("valid")));
        let layer = builder.layer().expect("valid").evidence(connect_errors());
        let (mut one, mut other) = (layer.layer(Plain), layer.layer(Plain));
        let answer = one.call(post("/")).await.expect("the one token pays for the second attempt");
        assert_eq!((answer.status().as_u16(), other.budget_available()), (200, Some(0)));
        let answer = other.call(post("/")).await.expect("the 503, as the budget is empty");
        let verdict = answer.extensions().get::<Record>().and_then(Record::verdict);
        assert_eq!((answer.status().as_u16(), verdict), (503, Some(Verdict::Done(Reason::BudgetEmpty))));
    })
    .await;
}

#[tokio::test]
async fn a_request_may_opt_out_and_have_a_deadline_of_its_own() {
    bounded(async {
        let first = Origin::scripted(|arrival| match arrival.head.target() {
            "/hang" => Act::Hang,
            _ => Act::Answer(Answer::status(503, "no")),
        })
        .await;
        let second = Origin::answering("never").await;
        let mut service = around(builder([first.url(), second.url()]), connect_errors(), Plain);
        let mut request = post("/");
        request.extensions_mut().insert(RequestOptions::new().no_failover());
        assert_eq!(service.call(request).await.expect("answered").status(), 503);
        let mut request = post("/hang");
        request.extensions_mut().insert(RequestOptions::new().timeout(Duration::from_millis(50)));
        let error = service.call(request).await.expect_err("too late");
        assert!(error.is_timeout(), "{error}");
        assert_eq!(second.request_count(), 0);
    })
    .await;
}

#[tokio::test]
async fn redirects_are_followed_where_they_were_asked_for_and_defaults_are_added() {
    bounded(async {
        let origin = Origin::scripted(|arrival| match arrival.head.target() {
            "/old" => Act::Answer(Answer::status(307, "").header("location", "/new")),
            _ => Act::Answer(Answer::ok("hello")),
        })
        .await;
        let mut service = around(builder([origin.url()]).redirects(1).user_agent("h/1"), connect_errors(), Plain);
        let request = Request::get("/old").body(String::new()).expect("valid");
        assert_eq!(text(service.call(request).await.expect("answered")).await, "hello");
        let seen = origin.requests();
        assert_eq!((seen[1].head.target(), seen[1].head.header("user-agent")), ("/new", Some("h/1")));
    })
    .await;
}

/// Asks the origin over the network for one more endpoint.
struct AsksOrigin(Url);

impl Discover for AsksOrigin {
    fn discover<'a>(&'a self, ask: Ask<'a>) -> BoxFuture<'a, Result<Vec<Url>, DiscoverError>> {
        Box::pin(async move {
            let answer = ask.fetch.get(self.0.clone(), ask.headers.clone()).await?;
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            Ok(vec![text.parse().map_err(|_| DiscoverError::new("no URL"))?])
        })
    }
}

#[tokio::test]
async fn discovery_goes_through_the_inner_service_too() {
    bounded(async {
        let (dead, region) = (DeadPort::new(), Origin::answering("from the region").await);
        let url = region.url();
        let list = Origin::scripted(move |_| Act::Answer(Answer::ok(url.clone()))).await;
        let policy = Policy::regions();
        let builder = builder([format!("http://{}", dead.addr())]).policy(policy);
        let builder = builder.discover(AsksOrigin(format!("{}/regions", list.url()).parse().expect("a URL")));
        let mut service = around(builder, connect_errors(), Plain);
        assert_eq!(text(service.call(post("/")).await.expect("answered")).await, "from the region");
        assert_eq!(list.requests()[0].head.target(), "/regions");
        assert!(region.requests()[0].head.header("x-livekit-request-id").is_some());
    })
    .await;
}
