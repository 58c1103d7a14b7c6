//! The gateway as a process: how it starts, reloads, drains and dies, and what its log says afterwards.

use handover_testkit::{Act, Answer, Client, DeadPort, Door, Gate, GatewayBuilder, GatewayProcess, Origin, bounded};
use rustix::process::Signal;
use tokio::net::TcpStream;

fn gateway() -> GatewayBuilder {
    GatewayProcess::of(env!("CARGO_BIN_EXE_handover")).ordered()
}

fn origins(url: &str) -> String {
    format!("[[node]]\ntag = \"a\"\nkind = \"origin\"\nurl = \"{url}\"\n")
}

async fn get(gateway: &GatewayProcess) -> String {
    Client::once(gateway.addr(), "GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.text()
}

/// An origin whose answer waits for the gate.
async fn held(gate: &Gate) -> Origin {
    let gate = gate.clone();
    Origin::scripted(move |_| Act::Answer(Answer::ok("late").held_by(&gate))).await
}

#[tokio::test]
async fn a_reload_moves_new_requests_and_drops_none() {
    bounded(async {
        let gate = Gate::new();
        let (old, new) = (held(&gate).await, Origin::answering("new").await);
        let gateway = gateway().config(&origins(&old.url())).start().await;
        let mut running = Client::connect(gateway.addr()).await;
        running.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.expect("sent");
        old.ledger().until(|connections| connections.iter().any(|c| !c.requests.is_empty())).await;
        gateway.rewrite_config(&origins(&new.url()));
        gateway.signal(Signal::HUP);
        // Nothing tells a client when the reload is done, so it asks until it is: requests to the old one would hang.
        loop {
            let mut client = Client::connect(gateway.addr()).await;
            client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.expect("sent");
            tokio::select! {
                answer = client.read_response("GET") => break assert_eq!(answer.expect("an answer").text(), "new"),
                () = tokio::time::sleep(std::time::Duration::from_millis(100)) => {}
            }
        }
        gate.open();
        assert_eq!(running.read_response("GET").await.expect("an answer").text(), "late");
        // The connection that was open before the reload has the new configuration too.
        assert_eq!(running.request("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.expect("an answer").text(), "new");
    })
    .await;
}

#[tokio::test]
async fn a_bad_reload_is_reported_and_changes_nothing() {
    bounded(async {
        let origin = Origin::answering("served").await;
        let gateway = gateway().config(&origins(&origin.url())).start().await;
        gateway.rewrite_config("[[node]]\nurl = \"gopher://x\"\nunknown_key = 1\n");
        gateway.signal(Signal::HUP);
        gateway.stderr_until("unknown_key").await;
        gateway.stderr_until("gopher").await;
        assert_eq!(get(&gateway).await, "served");
    })
    .await;
}

#[tokio::test]
async fn sigterm_lets_running_requests_finish_and_takes_no_new_ones() {
    bounded(async {
        let gate = Gate::new();
        let origin = held(&gate).await;
        let mut gateway = gateway().origin(&origin.tagged("a")).env("HANDOVER_DRAIN_TIMEOUT", "10m").start().await;
        let mut running = Client::connect(gateway.addr()).await;
        running.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.expect("sent");
        let mut idle = Client::connect(gateway.addr()).await;
        origin.ledger().until(|connections| connections.iter().any(|c| !c.requests.is_empty())).await;
        gateway.signal(Signal::TERM);
        // An idle connection is closed, which also tells that the draining has begun.
        assert!(idle.read_to_end().await.unwrap_or_default().is_empty());
        while TcpStream::connect(gateway.addr()).await.is_ok() {
            tokio::task::yield_now().await;
        }
        gate.open();
        assert_eq!(running.read_response("GET").await.expect("an answer").text(), "late");
        assert_eq!(gateway.ended().await, Some(0));
        let rows = gateway.log_rows().await;
        assert_eq!((rows.len(), rows[0].number("http_status")), (1, 200), "the log was flushed: {rows:?}");
    })
    .await;
}

#[tokio::test]
async fn draining_ends_when_its_time_is_over() {
    bounded(async {
        let origin = held(&Gate::new()).await;
        let mut gateway = gateway().origin(&origin.tagged("a")).env("HANDOVER_DRAIN_TIMEOUT", "200ms").start().await;
        let mut running = Client::connect(gateway.addr()).await;
        running.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.expect("sent");
        origin.ledger().until(|connections| connections.iter().any(|c| !c.requests.is_empty())).await;
        gateway.signal(Signal::TERM);
        assert_eq!(gateway.ended().await, Some(0), "a drain that runs out of time is in order");
        assert_eq!(gateway.log_rows().await.len(), 1, "the request that was cut off is in the log");
    })
    .await;
}

#[tokio::test]
async fn a_killed_gateway_leaves_a_log_that_opens() {
    bounded(async {
        let origin = Origin::answering("served").await;
        let mut gateway = gateway().origin(&origin.tagged("a")).start().await;
        for _ in 0..20 {
            assert_eq!(get(&gateway).await, "served");
        }
        gateway.rows(|rows| rows.len() == 20).await;
        assert_eq!(get(&gateway).await, "served");
        gateway.signal(Signal::KILL);
        assert_eq!(gateway.ended().await, None);
        let left = gateway.log_rows().await.len();
        assert!([20, 21].contains(&left), "what was there before the last second is there: {left}");
    })
    .await;
}

#[tokio::test]
async fn what_keeps_it_from_starting_is_said_with_its_exit_code() {
    bounded(async {
        let origin = Origin::answering("never").await;
        let running = gateway().origin(&origin.tagged("a")).start().await;
        let file = running.directory().join("a-file");
        std::fs::write(&file, "in the way").expect("the test's directory is writable");
        let taken = running.addr().to_string();
        for (builder, code, words) in [
            (gateway().listen(&taken), 3, vec![taken.as_str()]),
            (gateway().data_dir(&file), 4, vec!["a-file"]),
            (gateway().data_dir(running.data_dir()), 4, vec!["data"]),
            (gateway().listen("0.0.0.0:0"), 2, vec!["proxy_token", "127.0.0.1"]),
            (gateway().token("a.b"), 2, vec!["proxy_token"]),
            (gateway().node("gopher://x"), 2, vec!["--node", "gopher"]),
            (
                gateway().config("[[platform]]\nname = \"p\"\ntag_filters = [\"(\"]\nnope = 1\n"),
                2,
                vec![":3", ":4", "nope"],
            ),
            (gateway().env("HANDOVER_LISTENN", "x"), 2, vec!["HANDOVER_LISTENN", "HANDOVER_LISTEN"]),
        ] {
            let exit = builder.ends().await;
            assert_eq!(exit.code, Some(code), "{words:?}: {}", exit.stderr);
            for word in words {
                assert!(exit.stderr.contains(word), "{word:?} is not in: {}", exit.stderr);
            }
            assert!(!exit.stderr.contains("panicked"), "{}", exit.stderr);
        }
        assert_eq!(get(&running).await, "never", "the running one was not disturbed");
    })
    .await;
}

#[tokio::test]
async fn open_to_others_it_needs_and_takes_a_token() {
    bounded(async {
        let gateway = gateway().listen("0.0.0.0:0").token("tok").start().await;
        let answer = Door::Forward.get(gateway.addr(), gateway.addr()).await;
        assert_eq!((answer.status(), answer.code()), (407, "AUTH_REQUIRED"));
    })
    .await;
}

#[tokio::test]
async fn explain_tells_the_story_and_replays_the_decisions() {
    bounded(async {
        let (dead, origin) = (DeadPort::new(), Origin::answering("served").await);
        let gateway = gateway().origin(&format!("http://{}#eu-1", dead.addr())).origin(&origin.tagged("eu-2"));
        let gateway = gateway.start().await;
        assert_eq!(get(&gateway).await, "served");
        let row = gateway.only_row().await;
        assert_eq!((row.number("retry_attempts"), row.text("door")), (1, "reverse"), "{row:?}");
        for id in [row.text("id"), "last"] {
            let told = gateway.run(&["explain", id]).await;
            assert_eq!(told.code, Some(0), "{}", told.stderr);
            for words in ["eu-1", "refused", "eu-2", "not one byte of the request had left", "same decisions"] {
                assert!(told.stdout.contains(words), "{words:?} is not in: {}", told.stdout);
            }
        }
        assert_eq!(gateway.run(&["explain", "0000000000000"]).await.code, Some(2));
    })
    .await;
}
