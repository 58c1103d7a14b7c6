//! A real WebSocket client over a connection that exists, so that the doors are tried with a library users have.

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::client::Client;
use crate::socket::Socket;

/// An open WebSocket.
#[derive(Debug)]
pub struct WebSocket {
    stream: WebSocketStream<Socket>,
}

impl WebSocket {
    /// Shakes hands for `url` (`ws://host/path`) over `client`. Not cancel safe: the connection is used up.
    ///
    /// # Errors
    /// When the other side does not switch: the library's error, with the response.
    pub async fn open(client: Client, url: &str) -> Result<Self, Box<Error>> {
        let handshake = tokio_tungstenite::client_async(url, client.into_socket());
        Ok(Self { stream: handshake.await.map_err(Box::new)?.0 })
    }

    /// Sends a text. Not cancel safe.
    ///
    /// # Panics
    /// When the connection is gone.
    pub async fn send(&mut self, text: &str) {
        self.stream.send(Message::text(text.to_owned())).await.expect("the WebSocket is open");
    }

    /// Receives a text; `None` once the other side closed. Cancel safe.
    ///
    /// # Panics
    /// When something else than a text comes.
    pub async fn receive(&mut self) -> Option<String> {
        match self.stream.next().await {
            Some(Ok(Message::Text(text))) => Some(text.to_string()),
            Some(Ok(Message::Close(_)) | Err(_)) | None => None,
            Some(Ok(other)) => panic!("not a text: {other:?}"),
        }
    }
}
