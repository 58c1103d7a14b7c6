//! Each way to a Socket.IO server, and a plain WebSocket: joins, answers and events.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use handover_client::socket::{FailoverSocket, Transports};
use handover_testkit::{
    SocketIoOptions, SocketIoServer, SocketKind, Transports as Allowed, bounded, journal_executions,
};
use serde_json::{Value, json};

use crate::{client, connected_to, hasty, join, journal};

async fn speaks(allowed: Allowed, transports: Transports) {
    let (_directory, journal) = journal();
    let options = SocketIoOptions { transports: allowed, ..SocketIoOptions::default() };
    let server = SocketIoServer::start(None, &journal, options).await;
    let got = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&got);
    let socket = FailoverSocket::socketio(&client([server.url().as_str()]))
        .transports(transports)
        .join(join)
        .on("pushed", move |event| keep.lock().unwrap().push(event.data()["number"].as_u64()))
        .open()
        .unwrap();
    let answer = socket.emit_with_ack("message", json!({"id": "one", "text": "作业 €"})).await.unwrap();
    assert_eq!(answer["id"], "one");
    let pushed = socket.emit_with_ack("push", json!({"n": 3})).await.unwrap();
    assert_eq!(pushed, json!({"pushed": 3}));
    assert_eq!(*got.lock().unwrap(), [Some(1), Some(2), Some(3)], "in order, before the answer that came after them");
    // Several at once.
    let many = (0..20).map(|n| socket.emit_with_ack("message", json!({"id": format!("many-{n}")})).into_future());
    let many: Vec<_> = many.map(tokio::spawn).collect();
    for sent in many {
        sent.await.unwrap().unwrap();
    }
    let executions = journal_executions(&journal);
    assert_eq!((executions.len(), executions.values().max()), (21, Some(&1)));
    socket.close().await;
}

#[tokio::test]
async fn a_websocket_is_enough_where_the_server_allows_nothing_else() {
    bounded(speaks(Allowed::WebSocket, Transports::WebSocketThenPolling)).await;
}

#[tokio::test]
async fn polling_is_the_way_where_a_websocket_is_refused() {
    bounded(speaks(Allowed::Polling, Transports::WebSocketThenPolling)).await;
}

#[tokio::test]
async fn a_session_that_begins_with_polling_goes_over_to_a_websocket() {
    bounded(speaks(Allowed::Both, Transports::PollingThenWebSocket)).await;
}

#[tokio::test]
async fn a_session_may_be_polled_for_ever() {
    bounded(speaks(Allowed::Both, Transports::Polling)).await;
}

#[tokio::test]
async fn a_plain_websocket_goes_to_the_next_server_and_comes_back() {
    bounded(async {
        let (_directory, journal) = journal();
        let options = SocketIoOptions { kind: SocketKind::WebSocket, ..SocketIoOptions::default() };
        let mut first = SocketIoServer::start(None, &journal, options.clone()).await;
        let second = SocketIoServer::start(None, &journal, options).await;
        let [a, b] = [&first, &second].map(|server| server.url().replace("ws://", "http://"));
        let client = client([a.as_str(), b.as_str()]);
        let (tell, mut acks) = tokio::sync::mpsc::unbounded_channel();
        let builder = hasty(FailoverSocket::websocket(&client, "/")).on("message", move |event| {
            let text = event.data().as_str().unwrap_or_default();
            let value: Value = serde_json::from_str(text).unwrap_or_default();
            let _ = tell.send(value["ack"].as_str().map(str::to_owned));
        });
        let socket = builder.open().unwrap();
        for (number, at) in [&a, &b, &a].into_iter().enumerate() {
            connected_to(&socket, at).await;
            let id = format!("m{number}");
            socket.send(json!({"id": id, "text": "x"}).to_string()).await.unwrap();
            assert_eq!(acks.recv().await, Some(Some(id)));
            match number {
                0 => first.kill().await,
                1 => first.restart().await,
                _ => {}
            }
        }
        assert_eq!(journal_executions(&journal).len(), 3);
    })
    .await;
}

#[tokio::test]
async fn a_message_that_the_server_executed_without_saying_so_is_unknown() {
    bounded(async {
        for transports in [Transports::WebSocket, Transports::Polling] {
            let (_directory, journal) = journal();
            let options = SocketIoOptions { drop_ack: Some(2), ..SocketIoOptions::default() };
            let server = SocketIoServer::start(None, &journal, options).await;
            let builder = hasty(FailoverSocket::socketio(&client([server.url().as_str()]))).transports(transports);
            let socket = builder.open().unwrap();
            socket.emit_with_ack("message", json!({"id": "first"})).await.unwrap();
            let error = socket.emit_with_ack("message", json!({"id": "second"})).await.unwrap_err();
            assert!(error.is_unknown(), "{transports:?}: {error}");
            // The third is acknowledged, the fourth is not: it is sent again because its caller allowed it.
            socket.emit_with_ack("message", json!({"id": "third"})).await.unwrap();
            let fourth = socket.emit_with_ack("message", json!({"id": "fourth"})).idempotent();
            fourth.timeout(Duration::from_secs(30)).await.unwrap();
            let executions = journal_executions(&journal);
            assert_eq!(
                executions.iter().map(|(id, n)| (id.as_str(), *n)).collect::<Vec<_>>(),
                [("first", 1), ("fourth", 2), ("second", 1), ("third", 1)],
                "{transports:?}"
            );
        }
    })
    .await;
}
