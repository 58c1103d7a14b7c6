//! What a probe says to a server, and how long there are probes.

use std::time::Duration;

use handover_client::{CircuitState, Client, ClientBuilder, Order, Policy, PolicyParts, Probe};
use handover_testkit::{Act, Answer, Origin, bounded};
use http::{HeaderMap, HeaderValue};
use tokio::runtime::{Builder, Runtime};

fn builder<E: AsRef<str>>(endpoints: impl IntoIterator<Item = E>) -> ClientBuilder {
    let parts = PolicyParts { order: Order::Sticky, ..*Policy::rotation().parts() };
    let probe = Probe::get("/probe").interval(Duration::from_millis(100));
    Client::builder().endpoints(endpoints).policy(Policy::try_new(parts).expect("valid")).no_proxy().probe(probe)
}

async fn get(client: &Client) {
    client.get("/").send().await.expect("answered").bytes().await.expect("whole");
}

/// How many probes came.
fn probes(origin: &Origin) -> usize {
    origin.requests().iter().filter(|seen| seen.head.target() == "/probe").count()
}

async fn until_probed(origin: &Origin, count: usize) {
    let is_probe = |seen: &&handover_testkit::RequestSeen| seen.head.target() == "/probe";
    origin.ledger().until(|seen| seen.iter().flat_map(|at| &at.requests).filter(is_probe).count() >= count).await;
}

#[tokio::test]
async fn probes_carry_the_fields_that_every_request_carries() {
    bounded(async {
        let guarded = Origin::scripted(|arrival| {
            let is_known = arrival.head.header("x-app-token") == Some("t0ken");
            Act::Answer(if is_known { Answer::ok("yes") } else { Answer::status(401, "who is it?") })
        })
        .await;
        let other = Origin::answering("yes").await;
        let mut fields = HeaderMap::new();
        fields.insert("x-app-token", HeaderValue::from_static("t0ken"));
        let client = builder([guarded.url(), other.url()]).default_headers(fields).user_agent("tests/1");
        let client = client.build().expect("valid");
        get(&client).await;
        until_probed(&guarded, 3).await;
        for seen in guarded.requests() {
            assert_eq!(seen.head.header("x-app-token"), Some("t0ken"), "{}", seen.head.target());
            assert_eq!(seen.head.header("user-agent"), Some("tests/1"));
        }
        // A server that wants to know who asks is good.
        let first = client.endpoints().remove(0);
        assert_eq!((first.is_elected, first.circuit), (true, CircuitState::Admitting));
    })
    .await;
}

#[test]
fn probes_go_on_after_the_runtime_of_the_first_request_has_ended() {
    let runtime = || -> Runtime { Builder::new_current_thread().enable_all().build().expect("a runtime") };
    let servers = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let origin = servers.block_on(Origin::answering("yes"));
    let client = builder([origin.url()]).build().expect("valid");
    for _ in 0..3 {
        let before = probes(&origin);
        // One request is enough, and it is this runtime that probes then.
        runtime().block_on(bounded(async {
            get(&client).await;
            until_probed(&origin, before + 2).await;
        }));
    }
}
