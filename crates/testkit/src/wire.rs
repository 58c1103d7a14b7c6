//! Reading HTTP/1.1 off a socket byte for byte: heads as they came, bodies by piece, and nothing tidied away.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest head read here: above every limit the tests provoke, so that the gateway's limit is what is seen.
const HEAD_BYTES_MAX: usize = 1024 * 1024;

/// Bytes asked of the socket at a time: large enough that 256 MiB pass quickly in a build without optimisation.
const READ_BYTES: usize = 128 * 1024;

/// A head (of a request or a response) as it came, and its parts.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// Every byte of it, the empty line included.
    pub raw: Bytes,
    /// The first line, without its end.
    pub first_line: String,
    /// Names (as they came) and values (trimmed), in order.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// Takes a raw head apart. What is no header line is kept as a name without a value.
    #[must_use]
    pub fn parse(raw: Bytes) -> Self {
        let text = String::from_utf8_lossy(&raw).into_owned();
        let mut lines = text.split("\r\n");
        let first_line = lines.next().unwrap_or_default().to_owned();
        let headers = lines.filter(|line| !line.is_empty()).map(|line| {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            (name.to_owned(), value.trim().to_owned())
        });
        Self { headers: headers.collect(), first_line, raw }
    }

    /// The first value of `name`, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    /// Every value of `name`, in any case, in order.
    #[must_use]
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }

    /// A request's method.
    #[must_use]
    pub fn method(&self) -> &str {
        self.first_line.split(' ').next().unwrap_or_default()
    }

    /// A request's target, as it came.
    #[must_use]
    pub fn target(&self) -> &str {
        self.first_line.split(' ').nth(1).unwrap_or_default()
    }

    /// A response's status, 0 when there is none.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.first_line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
    }

    /// How the body of a request with this head ends (RFC 9112 §6.3).
    #[must_use]
    pub fn request_framing(&self) -> BodyFraming {
        self.declared_framing().unwrap_or(BodyFraming::None)
    }

    /// How the body of a response with this head to `method` ends (RFC 9112 §6.3).
    #[must_use]
    pub fn response_framing(&self, method: &str) -> BodyFraming {
        let status = self.status();
        let bodiless = method == "HEAD" || status < 200 || status == 204 || status == 304;
        if bodiless || (method == "CONNECT" && status < 300) {
            return BodyFraming::None;
        }
        self.declared_framing().unwrap_or(BodyFraming::UntilClose)
    }

    fn declared_framing(&self) -> Option<BodyFraming> {
        if self.header("transfer-encoding").is_some_and(|v| v.to_ascii_lowercase().contains("chunked")) {
            return Some(BodyFraming::Chunked);
        }
        self.header("content-length").and_then(|v| v.parse().ok()).map(BodyFraming::Length)
    }
}

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// There is no body.
    None,
    /// By its length in bytes.
    Length(u64),
    /// By the last chunk and the trailers behind it.
    Chunked,
    /// By the end of the connection.
    UntilClose,
}

/// A stream with the bytes read ahead of what was asked for.
#[derive(Debug)]
pub struct Wire<S> {
    /// The stream itself; writing to it does not disturb the reading.
    pub io: S,
    buffer: BytesMut,
}

impl<S: AsyncRead + Unpin> Wire<S> {
    /// Reads from `io`, of which nothing was read before.
    pub fn new(io: S) -> Self {
        Self { io, buffer: BytesMut::new() }
    }

    /// The bytes that were read and not yet asked for, and the stream.
    pub fn into_parts(self) -> (S, Bytes) {
        (self.io, self.buffer.freeze())
    }

    /// Reads what is there, at least one byte; 0 is the end. Cancel safe: what was read stays here.
    ///
    /// # Errors
    /// Those of the stream.
    pub async fn fill(&mut self) -> io::Result<usize> {
        self.buffer.reserve(READ_BYTES);
        self.io.read_buf(&mut self.buffer).await
    }

    /// Takes what was read and not yet asked for.
    pub fn take_buffered(&mut self) -> Bytes {
        self.buffer.split().freeze()
    }

    /// Reads a head; `None` when the stream ends before its first byte. Cancel safe.
    ///
    /// # Errors
    /// Those of the stream; `UnexpectedEof` inside the head; `InvalidData` above 1 MiB.
    pub async fn read_head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                return Ok(Some(Head::parse(self.buffer.split_to(at + 4).freeze())));
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the head does not end"));
            }
            if self.fill().await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// Reads exactly `length` bytes. Cancel safe.
    ///
    /// # Errors
    /// Those of the stream; `UnexpectedEof` when it ends before.
    pub async fn read_exactly(&mut self, length: usize) -> io::Result<Bytes> {
        while self.buffer.len() < length {
            if self.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.buffer.split_to(length).freeze())
    }

    /// Reads a body piece by piece into `sink`, stopping early after `limit` bytes, and gives the trailers.
    ///
    /// Not cancel safe: where in the chunked coding the reading stood is lost.
    ///
    /// # Errors
    /// Those of the stream; `UnexpectedEof` when it ends before the body; `InvalidData` for a bad chunk.
    pub async fn read_body(
        &mut self,
        framing: BodyFraming,
        limit: u64,
        mut sink: impl FnMut(&[u8]),
    ) -> io::Result<Vec<(String, String)>> {
        let mut left = limit;
        match framing {
            BodyFraming::None => {}
            BodyFraming::Length(length) => self.pass(length.min(limit), &mut sink).await?,
            BodyFraming::UntilClose => while self.pass_some(&mut left, &mut sink).await? {},
            BodyFraming::Chunked => return self.read_chunks(left, &mut sink).await,
        }
        Ok(Vec::new())
    }

    async fn read_chunks(&mut self, mut left: u64, sink: &mut impl FnMut(&[u8])) -> io::Result<Vec<(String, String)>> {
        loop {
            let line = self.read_line().await?;
            let size = u64::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16);
            let size = size.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("chunk size {line:?}")))?;
            if size == 0 {
                return self.read_trailers().await;
            }
            self.pass(size.min(left), sink).await?;
            left -= size.min(left);
            if left == 0 {
                return Ok(Vec::new());
            }
            self.read_exactly(2).await?;
        }
    }

    async fn read_trailers(&mut self) -> io::Result<Vec<(String, String)>> {
        let mut trailers = Vec::new();
        loop {
            let line = self.read_line().await?;
            if line.is_empty() {
                return Ok(trailers);
            }
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            trailers.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    /// Reads a line, without its CRLF. Cancel safe.
    ///
    /// # Errors
    /// Those of the stream; `UnexpectedEof` when it ends before.
    pub async fn read_line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n") {
                let line = self.buffer.split_to(at + 2);
                return Ok(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            if self.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn pass(&mut self, length: u64, sink: &mut impl FnMut(&[u8])) -> io::Result<()> {
        let mut left = length;
        while left > 0 {
            if !self.pass_some(&mut left, sink).await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    /// Hands over what is there, at most `left`; false at the end of the stream or of `left`.
    async fn pass_some(&mut self, left: &mut u64, sink: &mut impl FnMut(&[u8])) -> io::Result<bool> {
        if *left == 0 || (self.buffer.is_empty() && self.fill().await? == 0) {
            return Ok(false);
        }
        let now = usize::try_from(*left).unwrap_or(usize::MAX).min(self.buffer.len());
        sink(&self.buffer.split_to(now));
        *left -= now as u64;
        Ok(true)
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_chunked_body_with_trailers_is_read_to_its_end_and_no_further() {
        let bytes: &[u8] = b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-Sum: 5\r\n\r\nNEXT";
        let mut wire = Wire::new(bytes);
        let mut body = Vec::new();
        let trailers =
            wire.read_body(BodyFraming::Chunked, u64::MAX, |data| body.extend_from_slice(data)).await.expect("valid");
        assert_eq!(body, b"abcde");
        assert_eq!(trailers, [("X-Sum".to_owned(), "5".to_owned())]);
        assert_eq!(&wire.read_exactly(4).await.expect("valid")[..], b"NEXT");
    }

    #[tokio::test]
    async fn a_head_keeps_every_byte_and_finds_headers_in_any_case() {
        let bytes: &[u8] = b"GET /a HTTP/1.1\r\nHOST: h\r\nx: 1\r\nX:2\r\n\r\nrest";
        let mut wire = Wire::new(bytes);
        let head = wire.read_head().await.expect("valid").expect("there");
        assert_eq!(&head.raw[..], &bytes[..bytes.len() - 4]);
        assert_eq!((head.method(), head.target(), head.header("host")), ("GET", "/a", Some("h")));
        assert_eq!(head.all("X"), ["1", "2"]);
    }

    #[tokio::test]
    async fn a_body_cut_short_is_an_error() {
        let mut wire = Wire::new(&b"abc"[..]);
        let cut = wire.read_body(BodyFraming::Length(4), u64::MAX, |_| {}).await.expect_err("it is cut");
        assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof);
    }
}
