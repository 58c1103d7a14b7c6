//! A WebSocket inside TLS, from a server that speaks as soon as it has switched.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use handover_client::socket::FailoverSocket;
use handover_client::{Client, Policy};
use handover_testkit::{Authority, bounded};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message;

/// Greets each client and sends back what it says; leaves the first one after its first message.
async fn serve(listener: TcpListener, authority: Authority) {
    let acceptor = authority.acceptor(&["127.0.0.1"], &["h2", "http/1.1"]);
    for connection in 0.. {
        let (tcp, _) = listener.accept().await.unwrap();
        let mut ws = accept_async(acceptor.accept(tcp).await.unwrap()).await.unwrap();
        ws.send(Message::text(format!("hello {connection}"))).await.unwrap();
        while let Some(Ok(message)) = ws.next().await {
            if let Message::Text(text) = message {
                ws.send(Message::text(format!("{connection}: {text}"))).await.unwrap();
                if connection == 0 {
                    break;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_secure_websocket_switches_over_http_1_and_is_made_anew() {
    bounded(async {
        let authority = Authority::new();
        let pem = std::fs::read(authority.file()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("wss://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(serve(listener, authority));
        let client = Client::builder().endpoints([url]).policy(Policy::rotation()).ca_certificate_pem(&pem);
        let client = client.no_proxy().build().unwrap();
        let (tell, mut heard) = mpsc::unbounded_channel();
        let socket = FailoverSocket::websocket(&client, "/live")
            .reconnect_delay(Duration::from_millis(10), Duration::from_millis(20))
            .on("message", move |event| {
                let _ = tell.send(event.data().as_str().unwrap_or_default().to_owned());
            })
            .open()
            .unwrap();
        for connection in 0..2 {
            assert_eq!(heard.recv().await.unwrap(), format!("hello {connection}"));
            let large = "作".repeat(50_000);
            socket.send(large.clone()).await.unwrap();
            assert_eq!(heard.recv().await.unwrap(), format!("{connection}: {large}"));
        }
        server.abort();
    })
    .await;
}
