//! A WebSocket: tungstenite's protocol over a connection of ours, whose bytes are counted.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::{Sink, Stream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{Broken, Evidence, Switched, Transport, Wire};
use crate::socket::frame::Frame;

/// Bytes that are read at once. tungstenite's own default (128 KiB) is allocated per connection and serves those that move
/// files; a socket of events is idle most of its life.
const READ_BUFFER_BYTES: usize = 16 * 1024;

/// A WebSocket connection.
pub(crate) struct WebSocket {
    stream: WebSocketStream<Box<dyn Wire>>,
    evidence: Evidence,
}

impl WebSocket {
    /// Begins where the server's head ended. A message may have `message_bytes_max`. Not cancel safe: the connection is used
    /// up.
    pub(crate) async fn new(switched: Switched, message_bytes_max: usize) -> Self {
        let evidence = switched.wire.evidence();
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .max_message_size(Some(message_bytes_max))
            .max_frame_size(Some(message_bytes_max));
        let early = switched.early.to_vec();
        let stream = WebSocketStream::from_partially_read(switched.wire, early, Role::Client, Some(config)).await;
        Self { stream, evidence }
    }
}

fn broken(error: &Error) -> Broken {
    Broken(match error {
        Error::ConnectionClosed | Error::AlreadyClosed => "the server closed the connection".to_owned(),
        Error::Io(error) => format!("the connection broke: {}", error.kind()),
        Error::Capacity(_) => "a message is larger than allowed".to_owned(),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => "the connection broke".to_owned(),
        Error::Protocol(error) => format!("the server broke the WebSocket protocol: {error}"),
        Error::Utf8(_) => "the server sent a text that is not UTF-8".to_owned(),
        _ => "the WebSocket failed".to_owned(),
    })
}

impl Transport for WebSocket {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        Pin::new(&mut self.stream).poll_ready(cx).map_err(|error| broken(&error))
    }

    fn start_send(&mut self, frame: Frame) -> Result<(), Broken> {
        let message = match frame {
            Frame::Text(text) => Message::text(text),
            Frame::Binary(bytes) => Message::Binary(bytes),
            Frame::Ping => Message::Ping(bytes::Bytes::new()),
            Frame::Pong => Message::Pong(bytes::Bytes::new()),
        };
        Pin::new(&mut self.stream).start_send(message).map_err(|error| broken(&error))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        Pin::new(&mut self.stream).poll_flush(cx).map_err(|error| broken(&error))
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, Broken>> {
        Poll::Ready(match ready!(Pin::new(&mut self.stream).poll_next(cx)) {
            Some(Ok(Message::Text(text))) => Ok(Frame::Text(text.as_str().to_owned())),
            Some(Ok(Message::Binary(bytes))) => Ok(Frame::Binary(bytes)),
            Some(Ok(Message::Ping(_))) => Ok(Frame::Ping),
            Some(Ok(Message::Pong(_) | Message::Frame(_))) => Ok(Frame::Pong),
            Some(Ok(Message::Close(_))) | None => Err(broken(&Error::ConnectionClosed)),
            Some(Err(error)) => Err(broken(&error)),
        })
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.stream).poll_close(cx).map(|_| ())
    }

    fn evidence(&self) -> Evidence {
        self.evidence.clone()
    }
}
