//! The Socket.IO server is the real one, executes before it acknowledges, and comes back on its port after a kill.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use handover_testkit::{
    Client, SocketIoOptions, SocketIoServer, SocketKind, Transports, WebSocket, bounded, journal_executions,
};
use tempfile::TempDir;

fn journal() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let path = directory.path().join("journal");
    (directory, path)
}

/// A Socket.IO session over long polling, spoken by hand: Engine.IO packets, `\x1e` between them.
struct Polling {
    addr: SocketAddr,
    sid: String,
    waiting: Vec<String>,
}

impl Polling {
    async fn open(addr: SocketAddr) -> Self {
        let handshake = get(addr, "").await;
        let json = handshake.strip_prefix('0').expect("the first packet opens the session");
        let open: serde_json::Value = serde_json::from_str(json).expect("it is JSON");
        let sid = open["sid"].as_str().expect("it has an id").to_owned();
        let mut polling = Self { addr, sid, waiting: Vec::new() };
        polling.send("40").await;
        polling.receive("40{").await;
        polling
    }

    async fn send(&self, packet: &str) {
        let (sid, length) = (&self.sid, packet.len());
        let head = format!(
            "POST /socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nHost: h\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n"
        );
        Client::once(self.addr, head + packet).await;
    }

    /// The rest of the next packet that begins so; others are passed over.
    async fn receive(&mut self, prefix: &str) -> String {
        loop {
            if self.waiting.is_empty() {
                let packets = get(self.addr, &format!("&sid={}", self.sid)).await;
                self.waiting = packets.split('\x1e').map(str::to_owned).collect();
            }
            let packet = self.waiting.remove(0);
            if let Some(rest) = packet.strip_prefix(prefix) {
                return rest.to_owned();
            }
        }
    }
}

async fn get(addr: SocketAddr, query: &str) -> String {
    let request = format!("GET /socket.io/?EIO=4&transport=polling{query} HTTP/1.1\r\nHost: h\r\n\r\n");
    Client::once(addr, request).await.text()
}

#[tokio::test]
async fn a_killed_server_refuses_and_comes_back_on_its_port() {
    bounded(async {
        let (_directory, journal) = journal();
        let mut server = SocketIoServer::start(None, &journal, SocketIoOptions::default()).await;
        let (addr, first) = (server.addr(), server.pid());
        assert!(get(addr, "").await.starts_with("0{\"sid\""));
        server.kill().await;
        let refused = tokio::net::TcpStream::connect(addr).await.unwrap_err();
        assert_eq!((refused.kind(), server.pid()), (std::io::ErrorKind::ConnectionRefused, None));
        server.restart().await;
        assert!(get(addr, "").await.starts_with("0{\"sid\""));
        assert!(server.addr() == addr && server.pid().is_some() && server.pid() != first);
    })
    .await;
}

#[tokio::test]
async fn a_message_is_in_the_journal_before_it_is_acknowledged_and_stays_there() {
    bounded(async {
        let (_directory, journal) = journal();
        let options = SocketIoOptions { ack_delay: Duration::from_secs(1), ..SocketIoOptions::default() };
        let mut server = SocketIoServer::start(None, &journal, options).await;
        assert!(journal_executions(&journal).is_empty());
        for round in 1..=2 {
            let mut session = Polling::open(server.addr()).await;
            let began = Instant::now();
            session.send(r#"427["message",{"id":"m1","text":"t"}]"#).await;
            // Answered at once and behind the message, while the acknowledgement is still to come.
            session.send(r#"42["get-event-history"]"#).await;
            session.receive("42[\"event-history-error\"").await;
            assert_eq!(journal_executions(&journal), [("m1".to_owned(), round)].into());
            assert!(session.receive("437").await.starts_with(r#"[{"id":"m1""#));
            assert!(began.elapsed() >= Duration::from_secs(1));
            server.restart().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_dropped_acknowledgement_executes_and_closes() {
    bounded(async {
        let (_directory, journal) = journal();
        let options = SocketIoOptions { drop_ack: Some(2), ..SocketIoOptions::default() };
        let server = SocketIoServer::start(None, &journal, options).await;
        let mut session = Polling::open(server.addr()).await;
        session.send(r#"420["message",{"id":"a"}]"#).await;
        session.receive("430").await;
        session.send(r#"421["message",{"id":"b"}]"#).await;
        // Unknown session: it was closed, and no acknowledgement came with its end.
        let end = get(server.addr(), &format!("&sid={}", session.sid)).await;
        assert!(end.contains("Session ID unknown"), "{end}");
        assert_eq!(journal_executions(&journal), [("a".to_owned(), 1), ("b".to_owned(), 1)].into());
    })
    .await;
}

#[tokio::test]
async fn events_reach_the_room_of_the_token_and_the_history() {
    bounded(async {
        let (_directory, journal) = journal();
        let server = SocketIoServer::start(None, &journal, SocketIoOptions::default()).await;
        let (mut one, mut two) = (Polling::open(server.addr()).await, Polling::open(server.addr()).await);
        one.send(r#"42["send-event",{"type":"x","content":null}]"#).await;
        assert_eq!(one.receive("42[\"event-error\",").await, r#"{"reason":"not_joined_any_device"}]"#);
        one.send(r#"42["join-token",{"token":"bad"}]"#).await;
        assert!(one.receive("42[\"join-error\",").await.contains("invalid_token"));
        for session in [&mut one, &mut two] {
            session.send(r#"42["join-token",{"token":"t"}]"#).await;
            assert!(session.receive("42[\"joined\",").await.contains(r#""uuid":"device-t","token":"t""#));
        }
        one.send(r#"42["send-event",{"type":"x","content":{"a":1}}]"#).await;
        one.receive("42[\"event-sent\",").await;
        assert!(two.receive("42[\"x\",").await.contains(r#""content":{"a":1}"#));
        one.send(r#"42["change-key",{"key":"k"}]"#).await;
        assert!(two.receive("42[\"kv-key-changed\",").await.contains(r#""key":"k","action":"upsert""#));
        two.send(r#"42["get-event-history"]"#).await;
        assert!(two.receive("42[\"event-history\",").await.contains(r#""total":2"#));
        one.send(r#"42["push",{"n":3}]"#).await;
        for number in 1..=3 {
            assert!(two.receive("42[\"pushed\",").await.starts_with(&format!("{{\"number\":{number},\"of\":3")));
        }
    })
    .await;
}

#[tokio::test]
async fn a_transport_that_is_not_allowed_is_refused() {
    bounded(async {
        let (_directory, journal) = journal();
        let options = SocketIoOptions { transports: Transports::WebSocket, ..SocketIoOptions::default() };
        let server = SocketIoServer::start(None, &journal, options).await;
        assert!(get(server.addr(), "").await.contains("Transport unknown"));
        let url = format!("ws://{}/socket.io/?EIO=4&transport=websocket", server.addr());
        let mut socket = WebSocket::open(Client::connect(server.addr()).await, &url).await.unwrap();
        assert!(socket.receive().await.is_some_and(|packet| packet.starts_with("0{\"sid\"")));
    })
    .await;
}

#[tokio::test]
async fn the_plain_websocket_server_acknowledges_what_is_in_the_journal() {
    bounded(async {
        let (_directory, journal) = journal();
        let options = SocketIoOptions { kind: SocketKind::WebSocket, drop_ack: Some(2), ..SocketIoOptions::default() };
        let server = SocketIoServer::start(None, &journal, options).await;
        let mut socket = WebSocket::open(Client::connect(server.addr()).await, &server.url()).await.unwrap();
        socket.send(r#"{"id":"a","text":"t"}"#).await;
        assert_eq!(socket.receive().await.as_deref(), Some(r#"{"ack":"a"}"#));
        socket.send(r#"{"id":"b","text":"t"}"#).await;
        assert_eq!(socket.receive().await, None);
        assert_eq!(journal_executions(&journal), [("a".to_owned(), 1), ("b".to_owned(), 1)].into());
    })
    .await;
}
