//! The socket's rules, against servers in memory and on virtual time: what is sent where, what is said of it, and who hears.

mod failback;
mod world;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::*;
use world::World;

/// Room for whole messages.
const ROOM: usize = 64 * 1024;

/// Starts a message, as a task of an application would.
fn spawn<T: Send + 'static>(sending: Sending<T>) -> JoinHandle<Result<T, SendError>>
where
    Sending<T>: IntoFuture<Output = Result<T, SendError>>,
    <Sending<T> as IntoFuture>::IntoFuture: Send + 'static,
{
    tokio::spawn(sending.into_future())
}

/// Counts and keeps what a handler got.
fn recorder() -> (Arc<Mutex<Vec<Value>>>, impl Fn(&Event) + Send + Sync + 'static) {
    let got = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&got);
    (got, move |event: &Event| keep.lock().unwrap().push(event.data().clone()))
}

#[tokio::test(start_paused = true)]
async fn an_acknowledged_message_gives_the_servers_answer() {
    let (world, mut a, _b) = World::new(ROOM);
    let socket = world.socketio().open().unwrap();
    let mut peer = a.recv().await.unwrap();
    peer.open().await;
    let sent = spawn(socket.emit_with_ack("add", json!({"n": 1})));
    peer.expect(r#"420["add",{"n":1}]"#).await;
    peer.say(r#"430["stored"]"#).await;
    assert_eq!(sent.await.unwrap().unwrap(), "stored");
    let sent = spawn(socket.emit_with_ack("leave-all", ()));
    peer.expect(r#"421["leave-all"]"#).await;
    peer.say("431[1,2]").await;
    assert_eq!(sent.await.unwrap().unwrap(), json!([1, 2]));
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_replaced_at_the_next_server_with_join_and_one_catch_up() {
    let (world, mut a, mut b) = World::new(ROOM);
    let (got, handler) = recorder();
    let catch_ups = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&catch_ups);
    let socket = world
        .socketio()
        .on("news", handler)
        .join(|mut joining| async move {
            joining.emit("join-token", json!({"token": "t"})).await?;
            joining.wait_for("joined").await?;
            Ok(())
        })
        .catch_up(move |resumed| {
            let line = format!("{} {} {:?}", resumed.from(), resumed.to(), resumed.cause());
            seen.lock().unwrap().push(line);
            async {}
        })
        .open()
        .unwrap();
    let join = r#"42["join-token",{"token":"t"}]"#;
    let mut peer = a.recv().await.unwrap();
    peer.open().await;
    peer.expect(join).await;
    // A message that is given in before the join is done waits for it.
    let early = spawn(socket.emit("early", ()));
    peer.say(r#"42["joined",{}]"#).await;
    peer.expect(r#"42["early"]"#).await;
    early.await.unwrap().unwrap();
    peer.say(r#"42["news",1]"#).await;
    peer.say("2").await;
    peer.expect("3").await;
    world.set_up("a", false);
    drop(peer);
    let mut peer = b.recv().await.unwrap();
    peer.open().await;
    peer.expect(join).await;
    peer.say(r#"42["joined",{}]"#).await;
    peer.say(r#"42["news",2]"#).await;
    assert!(socket.emit("late", ()).await.is_ok());
    peer.expect(r#"42["late"]"#).await;
    assert_eq!(*got.lock().unwrap(), [1, 2], "each once: the handlers are not doubled");
    assert_eq!(*catch_ups.lock().unwrap(), ["http://a/ http://b/ Lost"]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_counts_its_events_anew_after_a_restart_is_heard() {
    let (world, mut a, _b) = World::new(ROOM);
    let (got, handler) = recorder();
    let _socket = world.socketio().on("e", handler).open().unwrap();
    for _ in 0..2 {
        let mut peer = a.recv().await.unwrap();
        peer.open().await;
        peer.say(r#"42["e",{"eventId":"1"}]"#).await;
        peer.say("2").await;
        peer.expect("3").await;
    }
    assert_eq!(got.lock().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_message_whose_connection_broke_before_the_answer_is_unknown_and_not_repeated() {
    let (world, mut a, mut b) = World::new(ROOM);
    let socket = world.socketio().open().unwrap();
    let mut peer = a.recv().await.unwrap();
    peer.open().await;
    let once = spawn(socket.emit_with_ack("add", 1));
    peer.expect(r#"420["add",1]"#).await;
    let again = spawn(socket.emit_with_ack("set", 2).idempotent());
    peer.expect(r#"421["set",2]"#).await;
    world.set_up("a", false);
    drop(peer);
    let error = once.await.unwrap().unwrap_err();
    assert!(error.is_unknown() && !error.is_not_sent(), "{error}");
    let mut peer = b.recv().await.unwrap();
    peer.open().await;
    // Only the one whose caller allowed it comes again.
    peer.expect(r#"420["set",2]"#).await;
    peer.say("430[\"done\"]").await;
    assert_eq!(again.await.unwrap().unwrap(), "done");
}

#[tokio::test(start_paused = true)]
async fn a_message_of_which_no_byte_left_goes_out_on_the_next_connection() {
    // What is on its way fills up: the first message leaves in part, the second not at all.
    let (world, mut a, mut b) = World::new(256);
    let socket = world.socketio().open().unwrap();
    let mut peer = a.recv().await.unwrap();
    peer.open().await;
    socket.connected().await;
    let large = spawn(socket.emit_with_ack("large", "x".repeat(1000)));
    tokio::task::yield_now().await;
    let small = spawn(socket.emit_with_ack("small", 1));
    // Both are handed over before the connection breaks; virtual time passes only when nothing else can happen.
    tokio::time::sleep(Duration::from_millis(10)).await;
    world.set_up("a", false);
    drop(peer);
    assert!(large.await.unwrap().unwrap_err().is_unknown());
    let mut peer = b.recv().await.unwrap();
    peer.open().await;
    peer.expect(r#"420["small",1]"#).await;
    peer.say("430[]").await;
    assert_eq!(small.await.unwrap().unwrap(), Value::Null);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_found_no_connection_in_its_time_is_not_sent_ever() {
    let (world, mut a, _b) = World::new(ROOM);
    world.set_up("a", false);
    world.set_up("b", false);
    let socket = world.socketio().open().unwrap();
    let error = socket.emit_with_ack("add", 1).timeout(Duration::from_secs(3)).await.unwrap_err();
    assert!(error.is_not_sent() && error.is_timeout(), "{error}");
    let error = socket.emit_with_ack("add", 2).now_or_never().await.unwrap_err();
    assert!(error.is_not_sent() && !error.is_timeout(), "{error}");
    // One whose caller went away is not sent either.
    let dropped = spawn(socket.emit_with_ack("add", 3));
    tokio::task::yield_now().await;
    dropped.abort();
    assert!(dropped.await.unwrap_err().is_cancelled());
    world.set_up("a", true);
    let mut peer = a.recv().await.unwrap();
    peer.open().await;
    let sent = spawn(socket.emit("add", 4));
    peer.expect(r#"42["add",4]"#).await;
    sent.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_message_too_many_is_an_error_at_once() {
    let (world, _a, _b) = World::new(ROOM);
    world.set_up("a", false);
    world.set_up("b", false);
    let socket = world.socketio().queue_max(2, 1000).open().unwrap();
    let first = spawn(socket.emit("e", 1));
    let second = spawn(socket.emit("e", 2));
    tokio::task::yield_now().await;
    let error = socket.emit("e", 3).await.unwrap_err();
    assert!(error.is_full() && error.is_not_sent(), "{error}");
    first.abort();
    assert!(first.await.is_err());
    let error = socket.emit("e", "x".repeat(995)).await.unwrap_err();
    assert!(error.is_full() || error.is_invalid(), "{error}");
    let third = spawn(socket.emit("e", 3));
    tokio::task::yield_now().await;
    assert!(!third.is_finished(), "one that was given up makes room");
    second.abort();
}

#[tokio::test(start_paused = true)]
async fn a_server_where_the_join_fails_is_passed_over_in_the_same_round() {
    let (world, mut a, mut b) = World::new(ROOM);
    let socket = world
        .socketio()
        .join(|mut joining| async move {
            let event = joining.wait_for_any(&["joined", "join-error"]).await?;
            if event.name() == "joined" { Ok(()) } else { Err("invalid_token".into()) }
        })
        .open()
        .unwrap();
    let mut changes = socket.state_changes();
    let before = tokio::time::Instant::now();
    let mut peer = a.recv().await.unwrap();
    peer.open().await;
    peer.say(r#"42["join-error",{}]"#).await;
    let mut peer = b.recv().await.unwrap();
    peer.open().await;
    peer.say(r#"42["joined",{}]"#).await;
    assert!(socket.connected().await);
    assert_eq!(before.elapsed(), Duration::ZERO, "no pause between servers");
    assert_eq!(changes.next().await, Some(State::Connecting));
    assert_eq!(changes.next().await, Some(State::Connected { endpoint: world.url("b") }));
}

#[tokio::test(start_paused = true)]
async fn a_join_that_panics_costs_that_connection_and_nothing_else() {
    let (world, mut a, mut b) = World::new(ROOM);
    let calls = Arc::new(AtomicUsize::new(0));
    let socket = world
        .socketio()
        .join(move |_| {
            let call = calls.fetch_add(1, Ordering::Relaxed);
            async move { if call == 0 { panic!("on purpose") } else { Ok(()) } }
        })
        .open()
        .unwrap();
    a.recv().await.unwrap().open().await;
    let mut peer = b.recv().await.unwrap();
    peer.open().await;
    assert!(socket.connected().await);
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_lost_and_asked_last() {
    let (world, mut a, mut b) = World::new(ROOM);
    let socket = world.socketio().open().unwrap();
    let mut silent = a.recv().await.unwrap();
    silent.open().await;
    socket.connected().await;
    let since = tokio::time::Instant::now();
    let mut peer = b.recv().await.unwrap();
    assert_eq!(since.elapsed().as_secs(), 45, "25 s between pings and 20 s for one");
    peer.open().await;
    assert!(socket.connected().await);
    assert_eq!(world.asked(), ["a", "b"], "it still accepts, and would cost a time limit again");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_drops_each_connection_at_once_makes_no_busy_loop() {
    let (world, mut a, _b) = World::new(ROOM);
    world.set_up("b", false);
    let _socket = world.socketio().open().unwrap();
    let end = tokio::time::Instant::now() + Duration::from_secs(60);
    let mut accepted = 0;
    while let Ok(Some(mut peer)) = tokio::time::timeout_at(end, a.recv()).await {
        peer.open().await;
        peer.say("41").await;
        accepted += 1;
    }
    // Pauses of 1, 2, 4 and then 5 s, each from half to one and a half.
    assert!((9..=28).contains(&accepted), "{accepted}");
}

#[tokio::test(start_paused = true)]
async fn a_server_whose_connections_do_not_last_is_asked_after_the_others() {
    let (world, mut a, mut b) = World::new(ROOM);
    let socket = world.socketio().open().unwrap();
    let mut peer = a.recv().await.unwrap();
    peer.open().await;
    peer.say("41").await;
    let mut peer = b.recv().await.unwrap();
    peer.open().await;
    assert!(socket.connected().await);
    assert_eq!(world.asked(), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_nobody_can_reach_is_asked_again_with_growing_pauses() {
    let (world, _a, _b) = World::new(ROOM);
    world.set_up("a", false);
    world.set_up("b", false);
    let socket = world.socketio().open().unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let rounds = world.asked().len() / 2;
    assert!((9..=28).contains(&rounds), "{rounds}");
    assert!(matches!(socket.state(), State::Waiting { .. } | State::Connecting));
}

#[tokio::test(start_paused = true)]
async fn closing_waits_for_answers_and_sends_nothing_more() {
    let (world, mut a, _b) = World::new(ROOM);
    let socket = world.socketio().open().unwrap();
    let mut peer = a.recv().await.unwrap();
    peer.open().await;
    let sent = spawn(socket.emit_with_ack("add", 1));
    peer.expect(r#"420["add",1]"#).await;
    let closing = tokio::spawn({
        let socket = socket.clone();
        async move { socket.close().await }
    });
    tokio::task::yield_now().await;
    let error = socket.emit("late", 1).await.unwrap_err();
    assert!(error.is_not_sent() && error.is_closed(), "{error}");
    peer.say("430[]").await;
    sent.await.unwrap().unwrap();
    peer.expect("41").await;
    peer.expect("1").await;
    assert_eq!(peer.hear().await, None);
    drop(peer);
    closing.await.unwrap();
    assert_eq!(socket.state(), State::Closed);
    assert!(!socket.connected().await);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_handle_closes_the_connection() {
    let (world, mut a, _b) = World::new(ROOM);
    let socket = world.socketio().open().unwrap();
    let mut peer = a.recv().await.unwrap();
    peer.open().await;
    socket.connected().await;
    drop(socket);
    peer.expect("41").await;
}

#[tokio::test(start_paused = true)]
async fn an_event_that_wants_an_answer_gets_one_on_its_own_connection() {
    let (world, mut a, _b) = World::new(ROOM);
    let socket = world.socketio().open().unwrap();
    socket.on("ask", |event| {
        assert!(event.answer(json!({"n": event.data()})));
        assert!(!event.answer(0), "one answer is all there is");
    });
    let mut peer = a.recv().await.unwrap();
    peer.open().await;
    peer.say(r#"427["ask",5]"#).await;
    peer.expect(r#"437[{"n":5}]"#).await;
}

#[tokio::test(start_paused = true)]
async fn a_plain_websocket_carries_texts_and_asks_a_silent_server_for_a_sign_of_life() {
    let (world, mut a, mut b) = World::new(ROOM);
    let (got, handler) = recorder();
    let socket = world.plain().on("message", handler).open().unwrap();
    let mut peer = a.recv().await.unwrap();
    let sent = spawn(socket.send("hello"));
    peer.expect("hello").await;
    sent.await.unwrap().unwrap();
    assert!(socket.emit("event", 1).await.unwrap_err().is_invalid());
    peer.say("world").await;
    // A peer that is polled answers pings by itself, so that it is not lost however long it says nothing.
    assert!(tokio::time::timeout(Duration::from_secs(600), peer.hear()).await.is_err());
    assert_eq!(*got.lock().unwrap(), ["world"]);
    // Now it does not read any more.
    let mut next = b.recv().await.unwrap();
    let sent = spawn(socket.send("again"));
    next.expect("again").await;
    sent.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_cannot_be_is_an_error_when_it_is_opened() {
    let (world, _a, _b) = World::new(ROOM);
    assert!(world.socketio().namespace("a,b").open().is_err());
    assert!(world.socketio().auth(1).open().is_err());
    assert!(world.socketio().queue_max(0, 1).open().is_err());
    assert!(world.plain().namespace("/x").open().is_err());
}
