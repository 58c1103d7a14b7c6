//! Connections between requests: which runtime they belong to, and who gives them back when nobody asks any more.

use std::time::Duration;

use handover_client::{Client, Http2, Policy};
use handover_testkit::{Act, Answer, Gate, H2Origin, Origin, bounded};
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

fn client(url: &str, http2: Http2, idle: Duration) -> Client {
    let builder = Client::builder().endpoints([url]).policy(Policy::rotation()).no_proxy();
    builder.http2(http2).pool_idle_timeout(idle).build().expect("valid")
}

/// A runtime that runs only while somebody blocks on it.
fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn post(runtime: &Runtime, client: &Client) {
    runtime.block_on(bounded(async {
        let answer = client.post("/").body("x").timeout(Duration::from_secs(10)).send().await.expect("answered");
        answer.bytes().await.expect("whole");
    }));
}

/// What another runtime left in the pool is not used: neither while that one sleeps nor when it is gone.
fn assert_each_runtime_has_its_own(client: &Client, accepted: &dyn Fn() -> usize) {
    let (first, other) = (runtime(), runtime());
    post(&first, client);
    assert_eq!(accepted(), 1);
    for _ in 0..2 {
        post(&other, client);
        assert_eq!(accepted(), 2, "one of its own, which it uses again");
    }
    post(&first, client);
    assert_eq!(accepted(), 2, "the first has kept its own");
    drop((first, other));
    post(&runtime(), client);
    assert_eq!(accepted(), 3);
}

#[test]
fn a_connection_of_another_runtime_is_not_used_whether_that_one_sleeps_or_is_gone() {
    let servers = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let idle = Duration::from_secs(60);
    let origin = servers.block_on(Origin::answering("yes"));
    assert_each_runtime_has_its_own(&client(&origin.url(), Http2::Never, idle), &|| origin.accepted());
    let origin = servers.block_on(H2Origin::builder().start());
    assert_each_runtime_has_its_own(&client(&origin.url(), Http2::PriorKnowledge, idle), &|| origin.accepted());
}

/// Five connections that rest.
async fn five_at_rest(client: &Client, origin: &Origin, gate: &Gate) {
    let calls: Vec<_> = (0..5).map(|_| tokio::spawn(client.get("/").send())).collect();
    origin.ledger().until(|seen| seen.iter().filter(|connection| !connection.requests.is_empty()).count() == 5).await;
    gate.open();
    for call in calls {
        call.await.expect("no panic").expect("answered").bytes().await.expect("whole");
    }
    assert_eq!(client.endpoints()[0].idle_connections, 5);
}

async fn held() -> (Origin, Gate) {
    let gate = Gate::new();
    let held = gate.clone();
    (Origin::scripted(move |_| Act::Answer(Answer::ok("yes").held_by(&held))).await, gate)
}

#[tokio::test]
async fn sockets_that_the_server_closed_are_given_back_though_nobody_asks_any_more() {
    bounded(async {
        let (origin, gate) = held().await;
        // They are looked at after half of this, so that the time for resting is not what ends them.
        let idle = Duration::from_secs(4);
        let client = client(&origin.url(), Http2::Never, idle);
        five_at_rest(&client, &origin, &gate).await;
        let closed = Instant::now();
        origin.hang_up();
        // The server sees the client's side of each end.
        origin.ledger().until(|seen| seen.iter().all(|connection| connection.ended)).await;
        assert!(closed.elapsed() < idle, "{:?}", closed.elapsed());
        assert_eq!(client.endpoints()[0].idle_connections, 0);
    })
    .await;
}

#[tokio::test]
async fn what_has_rested_for_its_time_is_given_back_though_nobody_asks_any_more() {
    bounded(async {
        let idle = Duration::from_millis(300);
        let (origin, gate) = held().await;
        let first = client(&origin.url(), Http2::Never, idle);
        five_at_rest(&first, &origin, &gate).await;
        origin.ledger().until(|seen| seen.iter().all(|connection| connection.ended)).await;
        let origin = H2Origin::builder().start().await;
        let second = client(&origin.url(), Http2::PriorKnowledge, idle);
        second.get("/").send().await.expect("answered").bytes().await.expect("whole");
        assert_eq!(second.endpoints()[0].idle_connections, 1);
        while second.endpoints()[0].idle_connections > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // The next request is served as the first one was.
        second.get("/").send().await.expect("answered");
        assert_eq!(origin.accepted(), 2);
    })
    .await;
}
