//! What the record calls not sent never arrives, what was sent is never sent again: whatever the timing.
//!
//! These tests provoke races on purpose (time limits of a millisecond, clients that leave, connections that close as they
//! are used again). Which way each race goes is left open; that the record agrees with what the origins saw is not.

use std::collections::HashMap;
use std::sync::Arc;

use handover_testkit::{
    Act, After, Answer, Client, DeadPort, End, GatewayBuilder, GatewayProcess, Greeting, Origin, Row, bounded,
};
use rustix::process::Signal;
use tokio::task::JoinSet;

/// Requests of a race: enough that each outcome comes up, few enough for a second of a debug build.
const REQUESTS: usize = 400;

/// Clients at a time.
const CLIENTS: usize = 8;

fn gateway() -> GatewayBuilder {
    GatewayProcess::of(env!("CARGO_BIN_EXE_handover")).ordered()
}

/// A POST with a body, or for every other id without one: what was read of a body keeps a request from being repeated
/// whatever is believed of it, so that only the ones without show what the evidence says.
fn post(id: usize) -> String {
    let body = if id.is_multiple_of(2) { String::new() } else { format!("body of {id}") };
    format!("POST /{id} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// How often each path arrived at an origin, its body whole or not.
fn arrivals(origin: &Origin) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for request in origin.requests() {
        *counts.entry(request.head.target().to_owned()).or_default() += 1;
    }
    counts
}

/// Sends [`REQUESTS`] posts with [`CLIENTS`] at a time; the statuses by id, 0 where no answer came.
async fn race(gateway: &GatewayProcess, leave: bool) -> HashMap<usize, u16> {
    let (addr, mut clients) = (gateway.addr(), JoinSet::new());
    for first in 0..CLIENTS {
        clients.spawn(async move {
            let mut statuses = Vec::new();
            for id in (first..REQUESTS).step_by(CLIENTS) {
                let mut client = Client::connect(addr).await;
                client.send(post(id)).await.expect("the gateway reads");
                if leave && id % 3 == 0 {
                    drop(client);
                    continue;
                }
                let answer = client.read_response("POST").await;
                statuses.push((id, answer.map(|answer| answer.status()).unwrap_or_default()));
            }
            statuses
        });
    }
    clients.join_all().await.into_iter().flatten().collect()
}

/// Ends the gateway and waits until every byte it sent has been read, so that nothing can arrive later.
async fn settle(gateway: &mut GatewayProcess, origins: &[&Origin]) {
    gateway.signal(Signal::TERM);
    gateway.ended().await;
    for origin in origins {
        origin.ledger().until(|connections| connections.iter().all(|c| c.ended)).await;
    }
}

/// Checks every row against what the origins (by tag) saw.
fn agree(rows: &[Row], origins: &[(&str, &Origin)]) {
    let seen: HashMap<_, _> = origins.iter().map(|(tag, origin)| (*tag, arrivals(origin))).collect();
    for row in rows {
        let url = row.text("target_url");
        let path = &url[url.rfind('/').expect("a path")..];
        let total: usize = seen.values().filter_map(|counts| counts.get(path)).sum();
        assert!(total <= 1, "{path} arrived {total} times: {:?}", row.story());
        for attempt in row.attempts() {
            let arrived = seen[attempt.text("node_tag")].get(path).copied().unwrap_or_default();
            let unsent = attempt.text("sent") == "no";
            assert!(!unsent || arrived == 0, "{path} was called not sent and arrived: {:?}", row.story());
        }
    }
}

#[tokio::test]
async fn a_request_given_up_by_timeout_and_called_not_sent_never_arrives() {
    bounded(async {
        let (a, b) = (Origin::answering("a").await, Origin::answering("b").await);
        let gateway = gateway().origin(&a.tagged("a")).origin(&b.tagged("b"));
        let mut gateway = gateway.platform("RESPONSE_TIMEOUT", "1ms").start().await;
        let statuses = race(&gateway, false).await;
        let rows = gateway.rows(|rows| rows.len() == REQUESTS).await;
        settle(&mut gateway, &[&a, &b]).await;
        agree(&rows, &[("a", &a), ("b", &b)]);
        for (id, status) in statuses {
            assert!([200, 502, 504].contains(&status), "{id}: {status}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_request_whose_client_left_and_that_is_called_not_sent_never_arrives() {
    bounded(async {
        let (a, b) = (Origin::answering("a").await, Origin::answering("b").await);
        let mut gateway = gateway().origin(&a.tagged("a")).origin(&b.tagged("b")).start().await;
        let statuses = race(&gateway, true).await;
        assert!(statuses.values().all(|&status| status == 200), "{statuses:?}");
        settle(&mut gateway, &[&a, &b]).await;
        // Some clients left before the gateway had even read their request: those have no row.
        agree(&gateway.log_rows().await, &[("a", &a), ("b", &b)]);
    })
    .await;
}

#[tokio::test]
async fn closing_races_on_reused_connections_never_duplicate() {
    for how in [End::Fin, End::Reset] {
        bounded(async {
            // Each connection ends, unannounced, behind an answer: the next request meets the FIN or RST on its way.
            let ends = move |_: handover_testkit::Arrival<'_>| Act::Answer(Answer::ok("served").then(After::End(how)));
            let (a, b) = (Origin::scripted(ends).await, Origin::scripted(ends).await);
            let mut gateway = gateway().origin(&a.tagged("a")).origin(&b.tagged("b")).start().await;
            let statuses = race(&gateway, false).await;
            let rows = gateway.rows(|rows| rows.len() == REQUESTS).await;
            settle(&mut gateway, &[&a, &b]).await;
            agree(&rows, &[("a", &a), ("b", &b)]);
            let (at_a, at_b) = (arrivals(&a), arrivals(&b));
            for (id, status) in statuses {
                let path = format!("/{id}");
                let arrived = at_a.get(&path).or_else(|| at_b.get(&path)).copied().unwrap_or_default();
                assert!(status != 200 || arrived == 1, "{id} was answered and arrived {arrived} times ({how:?})");
                assert!([200, 502].contains(&status), "{id}: {status}");
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_fault_at_any_byte_of_the_request_never_lets_it_arrive_twice() {
    for how in [End::Fin, End::Reset] {
        for with_body in [0, 1] {
            bounded(fault_at_every_byte(how, with_body)).await;
        }
    }
}

async fn fault_at_every_byte(how: End, with_body: usize) {
    // The first origin's connection n ends behind byte n, so that each request meets another fault.
    let builder = Origin::builder().greeting(move |number| Greeting::ReadThen(number, how));
    let (cutting, whole) = (builder.start().await, Origin::answering("whole").await);
    let gateway = gateway().origin(&cutting.tagged("cutting")).origin(&whole.tagged("whole")).start().await;
    loop {
        let (cut, before) = (cutting.accepted(), whole.request_count());
        let request = post(2 * cut + with_body);
        if cut > request.len() {
            break;
        }
        let answer = Client::once(gateway.addr(), request).await;
        assert!([200, 502].contains(&answer.status()), "{how:?} at {cut}: {}", answer.status());
        let read = cutting.connections()[cut..].iter().any(|connection| !connection.raw.is_empty());
        let again = whole.request_count() > before;
        assert!(!(read && again), "{how:?}: {cut} bytes were read here and the whole arrived there");
        assert!(again == (answer.status() == 200), "{how:?} at {cut}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_connection_closed_while_idle_costs_no_request() {
    bounded(async {
        let origin = Origin::answering("served").await;
        let gateway = gateway().origin(&origin.tagged("a")).start().await;
        for id in 0..5 {
            assert_eq!(Client::once(gateway.addr(), post(id)).await.status(), 200);
            assert_eq!(origin.accepted(), id + 1, "one connection each");
            origin.hang_up();
            // Ended means that the gateway has closed its side too: it has seen the FIN.
            origin.ledger().until(|connections| connections.iter().all(|c| c.ended)).await;
        }
        let rows = gateway.rows(|rows| rows.len() == 5).await;
        assert!(rows.iter().all(|row| row.story() == ["a: ok -> done(answered)"]), "{rows:#?}");
    })
    .await;
}

#[tokio::test]
async fn a_dead_origin_with_warm_connections_loses_only_what_was_sent() {
    bounded(async {
        let second = Origin::answering("second").await;
        let first = Origin::answering("first").await;
        let gateway = gateway().origin(&first.tagged("first")).origin(&second.tagged("second")).start().await;
        for id in 0..4 {
            assert_eq!(Client::once(gateway.addr(), post(id)).await.text(), "first");
        }
        let ledger = first.ledger().clone();
        drop(first);
        // The first request after the death meets a connection whose end the gateway may or may not have seen.
        let answer = Client::once(gateway.addr(), post(4)).await;
        let row = gateway.row(|row| row.text("target_url").ends_with("/4")).await;
        if answer.status() != 200 {
            let last = row.attempts().pop().expect("there was an attempt");
            assert_ne!(last.text("sent"), "no", "an error although nothing was sent: {:?}", row.story());
        }
        for id in 5..9 {
            assert_eq!(Client::once(gateway.addr(), post(id)).await.text(), "second", "{id}");
        }
        assert_eq!(ledger.request_count(), 4);
    })
    .await;
}

#[tokio::test]
async fn hundreds_of_failovers_are_served_exactly_once() {
    bounded(async {
        let dead = DeadPort::new();
        let origin = Origin::answering("served").await;
        let gateway = gateway().origin(&format!("http://{}#dead", dead.addr())).origin(&origin.tagged("live"));
        let gateway = Arc::new(gateway.start().await);
        let statuses = race(&gateway, false).await;
        assert!(statuses.values().all(|&status| status == 200), "{statuses:?}");
        let counts = arrivals(&origin);
        assert_eq!(counts.len(), REQUESTS);
        assert!(counts.values().all(|&count| count == 1), "{counts:?}");
    })
    .await;
}
