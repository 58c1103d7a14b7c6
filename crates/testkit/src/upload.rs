//! Sends a body of any size without ever having it in memory.

use std::io;

use crate::client::{Client, Response};
use crate::pattern::pattern_at;

/// Bytes of body written at a time, and in one chunk of the chunked coding.
const PIECE_BYTES: usize = 64 * 1024;

/// How the body's end is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// `Content-Length`.
    Length,
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// A request whose body is so many bytes of the [pattern](crate::pattern_at).
#[derive(Clone, Debug)]
pub struct Upload {
    /// The first line and the header lines, each with its CRLF, without those of the body and without the empty line.
    pub head: String,
    /// Body length in bytes.
    pub bytes: u64,
    /// How its end is told.
    pub framing: Framing,
    /// Whether to send `Expect: 100-continue` and wait for it.
    pub expect: bool,
}

impl Upload {
    /// Sends it and reads the answer. When the other side answers or ends before the body's end, that is the answer.
    ///
    /// # Errors
    /// Those of reading the answer. Not cancel safe.
    pub async fn send(&self, client: &mut Client) -> io::Result<Response> {
        client.send(self.head_bytes()).await?;
        if self.expect {
            let head = client.read_head().await?;
            if head.status() != 100 {
                return Ok(Response { head, ..Response::default() });
            }
        }
        // A write that fails is told by the answer (or its absence), which is read either way.
        let _ = self.send_body(client).await;
        client.read_response("POST").await
    }

    /// The head, byte for byte.
    #[must_use]
    pub fn head_bytes(&self) -> String {
        let framing = match self.framing {
            Framing::Length => format!("Content-Length: {}\r\n", self.bytes),
            Framing::Chunked => "Transfer-Encoding: chunked\r\n".to_owned(),
        };
        let expect = if self.expect { "Expect: 100-continue\r\n" } else { "" };
        format!("{}{framing}{expect}\r\n", self.head)
    }

    /// Sends the body only. Not cancel safe.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn send_body(&self, client: &mut Client) -> io::Result<()> {
        let mut offset = 0;
        while offset < self.bytes {
            let left = usize::try_from(self.bytes - offset).unwrap_or(usize::MAX);
            let piece = pattern_at(offset, left.min(PIECE_BYTES));
            match self.framing {
                Framing::Length => client.send(piece).await?,
                Framing::Chunked => {
                    client.send(format!("{:x}\r\n", piece.len())).await?;
                    client.send(piece).await?;
                    client.send("\r\n").await?;
                }
            }
            offset += piece.len() as u64;
        }
        if self.framing == Framing::Chunked {
            client.send("0\r\n\r\n").await?;
        }
        Ok(())
    }
}
