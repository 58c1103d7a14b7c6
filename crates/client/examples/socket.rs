//! A Socket.IO connection that follows its servers: sends a message each second, and says what became of it.
//!
//! `cargo run --example socket --features socket -- http://127.0.0.1:3000 http://127.0.0.1:3001 [TOKEN]`
//!
//! Stop the first server and start it again while it runs. With a token it joins that token's room on each connection, as
//! Classworks' servers want it, and hears of changed keys.
#![allow(clippy::print_stdout, reason = "what it prints is what the example shows")]

use std::io::{Write as _, stderr};
use std::process::ExitCode;
use std::time::Duration;

use handover_client::socket::{FailoverSocket, Joining};
use handover_client::{Client, Policy};
use serde_json::{Value, json};

type Error = Box<dyn std::error::Error + Send + Sync>;

const USAGE: &str = "\
Keeps a Socket.IO connection to the first of several servers that is there, until it is interrupted.

usage: socket SERVER SERVER... [TOKEN]

  SERVER   http://HOST:PORT or https://HOST, in order of priority
  TOKEN    joined on every connection, as Classworks' servers want it

exit: 0 interrupted, 1 it could not begin, 2 wrong usage
";

#[tokio::main]
async fn main() -> ExitCode {
    let (servers, tokens): (Vec<_>, Vec<_>) = std::env::args().skip(1).partition(|argument| argument.contains("://"));
    if servers.is_empty() || tokens.len() > 1 {
        let _ = stderr().write_all(USAGE.as_bytes());
        return ExitCode::from(2);
    }
    match run(&servers, tokens).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(servers: &[String], tokens: Vec<String>) -> Result<(), Error> {
    let client = Client::builder().endpoints(servers).policy(Policy::rotation()).build()?;
    let token = tokens.into_iter().next();
    let socket = FailoverSocket::socketio(&client)
        .join(move |joining| join(joining, token.clone()))
        .on("kv-key-changed", |event| println!("changed at {}: {}", event.endpoint(), event.data()["content"]["key"]))
        .catch_up(|resumed| async move {
            let (from, to, gap) = (resumed.from(), resumed.to(), resumed.gap());
            println!("was at {from}, now at {to}, heard nothing for {gap:?}: read again what matters");
        })
        .open()?;
    let mut states = socket.state_changes();
    tokio::spawn(async move {
        while let Some(state) = states.next().await {
            println!("{state}");
        }
    });
    tokio::select! {
        () = talk(&socket) => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    socket.close().await;
    Ok(())
}

async fn join(mut joining: Joining, token: Option<String>) -> Result<(), Error> {
    let Some(token) = token else { return Ok(()) };
    joining.emit("join-token", json!({ "token": token })).await?;
    let event = joining.wait_for_any(&["joined", "join-error"]).await?;
    match event.data()["reason"].as_str() {
        None => Ok(()),
        Some(reason) => Err(reason.into()),
    }
}

async fn talk(socket: &FailoverSocket) {
    for number in 0_u64.. {
        println!("{number}: {}", say(socket, number).await);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn say(socket: &FailoverSocket, number: u64) -> String {
    match socket.emit_with_ack("message", json!({"id": format!("message-{number}")})).await {
        Ok(Value::Null) => "acknowledged".to_owned(),
        Ok(answer) => format!("acknowledged with {answer}"),
        Err(error) => error.to_string(),
    }
}
