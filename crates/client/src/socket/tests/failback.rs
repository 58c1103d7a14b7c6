//! Going back to a better server: the new connection first, then the old one's answers, then the move.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;

use super::world::{Door, Peer, World};
use super::{ROOM, recorder, spawn};
use crate::socket::{Cause, FailoverSocket, SocketBuilder, State};

/// A socket at `b`, because `a` was away.
async fn at_b(
    world: &Arc<World>,
    b: &mut Door,
    build: impl FnOnce(SocketBuilder) -> SocketBuilder,
) -> (FailoverSocket, Peer) {
    world.set_up("a", false);
    let socket = build(world.socketio()).open().unwrap();
    let mut peer = b.recv().await.unwrap();
    peer.open().await;
    assert!(socket.connected().await);
    world.set_up("a", true);
    (socket, peer)
}

#[tokio::test(start_paused = true)]
async fn the_old_connection_serves_until_the_new_one_has_joined_and_its_answers_have_come() {
    let (world, mut a, mut b) = World::new(ROOM);
    let resumed = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&resumed);
    let (socket, mut old) = at_b(&world, &mut b, |builder| {
        builder.catch_up(move |resumed| {
            seen.lock().unwrap().push((resumed.cause(), resumed.gap(), resumed.to().to_string()));
            async {}
        })
    })
    .await;
    world.elect(Some("a"));
    let mut new = a.recv().await.unwrap();
    // Not joined yet: the old one still gets messages.
    let first = spawn(socket.emit_with_ack("n", 1));
    old.expect(r#"420["n",1]"#).await;
    assert_eq!(socket.state(), State::Switching { from: world.url("b"), to: world.url("a") });
    new.open().await;
    // Joined: what comes now waits until the old one has answered.
    let second = spawn(socket.emit_with_ack("n", 2));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(socket.state(), State::Switching { from: world.url("b"), to: world.url("a") });
    old.say("430[\"one\"]").await;
    assert_eq!(first.await.unwrap().unwrap(), "one");
    new.expect(r#"420["n",2]"#).await;
    new.say("430[\"two\"]").await;
    assert_eq!(second.await.unwrap().unwrap(), "two");
    // The old one was given nothing more, and is told goodbye.
    old.expect("41").await;
    assert_eq!(socket.state(), State::Connected { endpoint: world.url("a") });
    assert_eq!(*resumed.lock().unwrap(), [(Cause::Failback, Duration::ZERO, "http://a/".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_come_in_time_is_unknown_and_holds_up_nothing() {
    let (world, mut a, mut b) = World::new(ROOM);
    let (socket, mut old) = at_b(&world, &mut b, |builder| builder).await;
    let stuck = spawn(socket.emit_with_ack("stuck", ()));
    old.expect(r#"420["stuck"]"#).await;
    world.elect(Some("a"));
    let mut new = a.recv().await.unwrap();
    new.open().await;
    let before = tokio::time::Instant::now();
    let next = spawn(socket.emit_with_ack("next", ()));
    new.expect(r#"420["next"]"#).await;
    assert_eq!(before.elapsed().as_secs(), 5);
    new.say("430[]").await;
    next.await.unwrap().unwrap();
    assert!(stuck.await.unwrap().unwrap_err().is_unknown());
}

#[tokio::test(start_paused = true)]
async fn events_of_both_connections_are_delivered_once() {
    let (world, mut a, mut b) = World::new(ROOM);
    let (got, handler) = recorder();
    let (socket, mut old) = at_b(&world, &mut b, |builder| builder.on("e", handler)).await;
    let held = spawn(socket.emit_with_ack("hold", ()));
    old.expect(r#"420["hold"]"#).await;
    world.elect(Some("a"));
    let mut new = a.recv().await.unwrap();
    new.open().await;
    let both = r#"42["e",{"eventId":"1"}]"#;
    old.say(both).await;
    new.say(both).await;
    // Only the new server has this one.
    new.say(r#"42["e",{"eventId":"2"}]"#).await;
    // These cannot be known again: the old one brings them until the move, the new one from then on.
    old.say(r#"42["e","old"]"#).await;
    new.say(r#"42["e","twin of old"]"#).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    old.say("430[]").await;
    held.await.unwrap().unwrap();
    old.expect("41").await;
    new.say(r#"42["e","new"]"#).await;
    new.say("2").await;
    new.expect("3").await;
    let mut got = got.lock().unwrap().clone();
    got.sort_by_key(ToString::to_string);
    assert_eq!(got, [json!("new"), json!("old"), json!({"eventId": "1"}), json!({"eventId": "2"})]);
}

#[tokio::test(start_paused = true)]
async fn a_better_server_that_fails_costs_nothing_and_is_tried_again_later() {
    let (world, mut a, mut b) = World::new(ROOM);
    let (socket, mut old) = at_b(&world, &mut b, |builder| builder).await;
    world.elect(Some("a"));
    drop(a.recv().await.unwrap());
    let before = tokio::time::Instant::now();
    let sent = spawn(socket.emit_with_ack("n", 1));
    old.expect(r#"420["n",1]"#).await;
    old.say("430[]").await;
    sent.await.unwrap().unwrap();
    // The second breaks while the old one is drained.
    let held = spawn(socket.emit_with_ack("n", 2));
    old.expect(r#"421["n",2]"#).await;
    let mut new = a.recv().await.unwrap();
    let waited = before.elapsed();
    assert!((500..2600).contains(&waited.as_millis()), "{waited:?}");
    new.open().await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    drop(new);
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(socket.state(), State::Connected { endpoint: world.url("b") });
    old.say("431[]").await;
    held.await.unwrap().unwrap();
    let sent = spawn(socket.emit_with_ack("n", 3));
    old.expect(r#"422["n",3]"#).await;
    drop((sent, old));
}

#[tokio::test(start_paused = true)]
async fn an_old_connection_that_breaks_during_the_move_makes_it_at_once() {
    let (world, mut a, mut b) = World::new(ROOM);
    let (socket, mut old) = at_b(&world, &mut b, |builder| builder).await;
    let stuck = spawn(socket.emit_with_ack("stuck", ()));
    old.expect(r#"420["stuck"]"#).await;
    world.elect(Some("a"));
    let mut new = a.recv().await.unwrap();
    new.open().await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    drop(old);
    assert!(stuck.await.unwrap().unwrap_err().is_unknown());
    let sent = spawn(socket.emit("n", 1));
    new.expect(r#"42["n",1]"#).await;
    sent.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_server_that_comes_and_goes_does_not_take_the_socket_with_it_each_time() {
    let (world, mut a, mut b) = World::new(ROOM);
    let (_socket, old) = at_b(&world, &mut b, |builder| builder).await;
    world.elect(Some("a"));
    let end = tokio::time::Instant::now() + Duration::from_secs(60);
    let (mut back, mut serving) = (0, Some(old));
    while let Ok(Some(mut peer)) = tokio::time::timeout_at(end, a.recv()).await {
        peer.open().await;
        // The move is done when the old one is told goodbye; then the better one breaks again.
        while serving.as_mut().unwrap().hear().await.is_some() {}
        back += 1;
        drop(peer);
        let mut peer = b.recv().await.unwrap();
        peer.open().await;
        serving = Some(peer);
    }
    assert_eq!(back, 6);
}
