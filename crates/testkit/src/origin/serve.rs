//! Serving one connection of a scripted origin.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::answer::{Act, After, Answer, Body, Continue, End, Greeting};
use super::{Arrival, Shared};
use crate::pattern::pattern_at;
use crate::socket::{Socket, reset};
use crate::wire::{Head, Wire};

/// Serves a connection to its end. Errors of the socket end it silently: the other side's view is what tests look at.
pub(super) async fn connection(tcp: TcpStream, number: usize, shared: Arc<Shared>) {
    let ledger = shared.ledger.clone();
    let _ = Connection::greet(tcp, number, shared).await;
    ledger.ended(number);
}

struct Connection {
    wire: Wire<Socket>,
    number: usize,
    shared: Arc<Shared>,
}

impl Connection {
    async fn greet(mut tcp: TcpStream, number: usize, shared: Arc<Shared>) -> io::Result<()> {
        tcp.set_nodelay(true)?;
        match (shared.greeting)(number) {
            Greeting::Serve => {
                let socket = match &shared.tls {
                    Some(acceptor) => Socket::Tls(Box::new(acceptor.accept(tcp).await?.into())),
                    None => Socket::Plain(tcp),
                };
                Self { wire: Wire::new(socket), number, shared }.serve().await
            }
            Greeting::End(how) => end(Socket::Plain(tcp), how).await,
            Greeting::ReadThen(bytes, how) => {
                let mut read = vec![0; bytes];
                tcp.read_exact(&mut read).await?;
                shared.ledger.raw(number, &read);
                end(Socket::Plain(tcp), how).await
            }
            Greeting::Hang => std::future::pending().await,
            Greeting::Say(bytes, how) => {
                tcp.write_all(bytes).await?;
                end(Socket::Plain(tcp), how).await
            }
        }
    }

    async fn serve(mut self) -> io::Result<()> {
        let mut hang_up = self.shared.hang_up.subscribe();
        loop {
            let head = tokio::select! {
                biased;
                head = self.wire.read_head() => self.kept(head)?,
                _ = hang_up.changed() => return end(self.wire.io, End::Fin).await,
            };
            let Some(head) = head else { return Ok(()) };
            let request = self.shared.ledger.request(self.number, head.clone());
            let act = (self.shared.script)(Arrival { connection: self.number, request, head: &head });
            match self.perform(act, request, &head).await? {
                After::KeepAlive => {}
                After::End(how) => return end(self.wire.io, how).await,
            }
        }
    }

    /// Records the bytes that are no request when the connection ended inside them.
    fn kept<T>(&mut self, read: io::Result<T>) -> io::Result<T> {
        if read.is_err() {
            let bytes = self.wire.take_buffered();
            self.shared.ledger.raw(self.number, &bytes);
        }
        read
    }

    async fn perform(&mut self, act: Act, request: usize, head: &Head) -> io::Result<After> {
        match act {
            Act::Answer(answer) => {
                self.read_body(request, head, u64::MAX).await?;
                self.answer(answer, head.method() == "HEAD").await
            }
            Act::AnswerEarly(answer) => {
                self.answer(answer, head.method() == "HEAD").await?;
                Ok(After::End(End::Fin))
            }
            Act::EndAfter(bytes, how) => {
                self.read_body(request, head, bytes).await?;
                Ok(After::End(how))
            }
            Act::Hang => std::future::pending().await,
            Act::HoldThen(gate, how) => {
                self.read_body(request, head, u64::MAX).await?;
                gate.wait().await;
                Ok(After::End(how))
            }
            Act::Say(bytes, how) => {
                self.read_body(request, head, u64::MAX).await?;
                self.wire.io.write_all(&bytes).await?;
                Ok(After::End(how))
            }
            Act::WebSocketEcho => self.websocket_echo(head).await,
            Act::SwitchTo(protocol) => self.switch(protocol).await,
        }
    }

    async fn read_body(&mut self, request: usize, head: &Head, limit: u64) -> io::Result<()> {
        if limit > 0 && head.header("expect").is_some_and(|e| e.eq_ignore_ascii_case("100-continue")) {
            match &self.shared.continues {
                Continue::Never => {}
                Continue::AtOnce => self.wire.io.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?,
                Continue::Held(gate) => {
                    gate.wait().await;
                    self.wire.io.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
                }
            }
        }
        let (ledger, number) = (&self.shared.ledger, self.number);
        let sink = |data: &[u8]| ledger.body(number, request, data);
        let trailers = self.wire.read_body(head.request_framing(), limit, sink).await?;
        ledger.complete(number, request, trailers);
        Ok(())
    }

    async fn answer(&mut self, answer: Answer, bodiless: bool) -> io::Result<After> {
        if let Some(gate) = &answer.held {
            gate.wait().await;
        }
        let mut head = answer.head_bytes();
        if let Some((bytes, how)) = answer.cut {
            if let Body::Whole(body) | Body::UntilClose(body) = &answer.body {
                head.extend_from_slice(body);
            }
            self.wire.io.write_all(&head[..bytes.min(head.len())]).await?;
            return Ok(After::End(how));
        }
        self.wire.io.write_all(&head).await?;
        if bodiless {
            return Ok(answer.after);
        }
        let until_close = matches!(answer.body, Body::UntilClose(_));
        self.body(answer.body).await?;
        Ok(if until_close { After::End(End::Fin) } else { answer.after })
    }

    async fn body(&mut self, body: Body) -> io::Result<()> {
        match body {
            Body::Whole(bytes) | Body::UntilClose(bytes) => self.wire.io.write_all(&bytes).await,
            Body::Chunked(bytes, trailers) => {
                self.chunk(&bytes).await?;
                let lines: String = trailers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
                self.wire.io.write_all(format!("0\r\n{lines}\r\n").as_bytes()).await
            }
            Body::Stream(mut pieces) => {
                while let Some(piece) = pieces.recv().await {
                    self.chunk(&piece).await?;
                }
                self.wire.io.write_all(b"0\r\n\r\n").await
            }
            Body::Pattern(length) => {
                let mut offset = 0;
                while offset < length {
                    let left = usize::try_from(length - offset).unwrap_or(usize::MAX);
                    let piece = pattern_at(offset, left);
                    self.wire.io.write_all(piece).await?;
                    offset += piece.len() as u64;
                }
                Ok(())
            }
        }
    }

    async fn chunk(&mut self, bytes: &Bytes) -> io::Result<()> {
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend_from_slice(bytes);
        chunk.extend_from_slice(b"\r\n");
        self.wire.io.write_all(&chunk).await
    }

    async fn websocket_echo(&mut self, head: &Head) -> io::Result<After> {
        let accept = derive_accept_key(head.header("sec-websocket-key").unwrap_or_default().as_bytes());
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        self.wire.io.write_all(head.as_bytes()).await?;
        let early = self.wire.take_buffered().to_vec();
        let io = &mut self.wire.io;
        let mut socket = WebSocketStream::from_partially_read(io, early, Role::Server, None).await;
        while let Some(Ok(message)) = socket.next().await {
            // A close is answered by the library itself; sending it again would be an error.
            if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
                break;
            }
        }
        Ok(After::End(End::Fin))
    }

    async fn switch(&mut self, protocol: &str) -> io::Result<After> {
        let head = format!("HTTP/1.1 101 Switching Protocols\r\nUpgrade: {protocol}\r\nConnection: Upgrade\r\n\r\n");
        self.wire.io.write_all(head.as_bytes()).await?;
        loop {
            let bytes = self.wire.take_buffered();
            self.shared.ledger.raw(self.number, &bytes);
            self.wire.io.write_all(&bytes).await?;
            if self.wire.fill().await? == 0 {
                return Ok(After::End(End::Fin));
            }
        }
    }
}

/// Ends a connection the scripted way.
pub(crate) async fn end(mut socket: Socket, how: End) -> io::Result<()> {
    match how {
        End::Reset => reset(socket.tcp()),
        End::Fin => {
            socket.shutdown().await?;
            let mut rest = [0; 4096];
            while socket.read(&mut rest).await? > 0 {}
        }
    }
    Ok(())
}
