//! An answer: its head, its body as it comes, and the record of how it was got.

use std::fmt;
use std::future::{Future as _, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use http::header::CONTENT_LENGTH;
use http::response::Parts;
use http::{HeaderMap, Response, StatusCode, Version};
use http_body::Body as _;
use tokio::time::{Instant, Sleep, sleep};
use url::Url;

use crate::answer_body::AnswerBody;
use crate::call::Call;
use crate::endpoint::Endpoint;
use crate::error::{Error, Kind};
use crate::record::Record;
use crate::shared::Shared;

/// An answer. Its body comes as it is read; dropping it unread closes its connection.
pub struct Answer(Box<Inner>);

struct Inner {
    head: Parts,
    body: AnswerBody,
    record: Record,
    endpoint: Arc<Endpoint>,
    idle: Idle,
}

/// How long a body may be silent.
struct Idle {
    timeout: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Answer {
    pub(crate) fn new(
        response: Response<AnswerBody>,
        record: Record,
        endpoint: Arc<Endpoint>,
        shared: &Shared,
        call: &Call,
    ) -> Self {
        #[cfg(any(feature = "gzip", feature = "br", feature = "zstd"))]
        let response = if call.decodes { crate::decode::decoded(&call.method, response) } else { response };
        #[cfg(not(any(feature = "gzip", feature = "br", feature = "zstd")))]
        let _ = call;
        let (head, body) = response.into_parts();
        let idle = Idle { timeout: shared.body_idle_timeout, timer: None };
        Self(Box::new(Inner { head, body, record, endpoint, idle }))
    }

    /// Its status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.head.status
    }

    /// Its fields.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.0.head.headers
    }

    /// The version of HTTP it came in.
    #[must_use]
    pub fn version(&self) -> Version {
        self.0.head.version
    }

    /// The endpoint that gave it, without credentials.
    #[must_use]
    pub fn endpoint(&self) -> &Url {
        &self.0.endpoint.url
    }

    pub(crate) fn endpoint_handle(&self) -> &Arc<Endpoint> {
        &self.0.endpoint
    }

    /// The address of the socket it came from: the endpoint's, or that of a proxy before it.
    #[must_use]
    pub fn remote_addr(&self) -> Option<SocketAddr> {
        self.0.record.decisive()?.address()
    }

    /// What happened on the way to it, attempt by attempt.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.0.record
    }

    /// The length of the body in bytes, where the server said it: of the answer to a HEAD too, which has none.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        let said = || self.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
        said().or_else(|| self.0.body.size_hint().exact())
    }

    /// The answer, if its status is below 400.
    ///
    /// # Errors
    /// With a status of 400 or more: an error that [`is_status`](Error::is_status) and still holds the answer.
    pub fn error_for_status(self) -> Result<Self, Error> {
        if self.status().as_u16() < 400 { Ok(self) } else { Err(Error::status_of(self)) }
    }

    /// The next piece of the body; `None` behind the last one.
    ///
    /// # Errors
    /// If the body breaks off, or is silent for longer than the client's `body_idle_timeout`.
    ///
    /// # Cancel safety
    /// Nothing is lost if it is dropped; the next call goes on.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Error>> {
        let inner = &mut *self.0;
        loop {
            let Poll::Ready(frame) = Pin::new(&mut inner.body).poll_frame(cx) else {
                ready!(inner.idle.poll(cx));
                let silent = format!("nothing came for {:?}", inner.idle.timeout);
                inner.body = AnswerBody::empty();
                return Poll::Ready(Err(inner.broke(io::Error::new(io::ErrorKind::TimedOut, silent))));
            };
            inner.idle.timer = None;
            match frame {
                None => return Poll::Ready(Ok(None)),
                Some(Err(error)) => return Poll::Ready(Err(inner.broke(error))),
                // Trailers are no part of the content.
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => return Poll::Ready(Ok(Some(data))),
                    Err(_) => {}
                },
            }
        }
    }

    /// The whole body.
    ///
    /// # Errors
    /// As [`chunk`](Self::chunk).
    ///
    /// # Cancel safety
    /// Dropping it drops the answer and closes its connection.
    pub async fn bytes(mut self) -> Result<Bytes, Error> {
        let Some(first) = self.chunk().await? else { return Ok(Bytes::new()) };
        let Some(second) = self.chunk().await? else { return Ok(first) };
        let mut whole = BytesMut::with_capacity(first.len() + second.len());
        whole.extend_from_slice(&first);
        whole.extend_from_slice(&second);
        while let Some(piece) = self.chunk().await? {
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    }

    /// The whole body as text. What is not UTF-8 is replaced by `U+FFFD`.
    ///
    /// # Errors
    /// As [`chunk`](Self::chunk).
    ///
    /// # Cancel safety
    /// As [`bytes`](Self::bytes).
    pub async fn text(self) -> Result<String, Error> {
        let bytes = self.bytes().await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The whole body, read as JSON.
    ///
    /// # Errors
    /// As [`chunk`](Self::chunk), and an error that [`is_decode`](Error::is_decode) if the body is not that.
    ///
    /// # Cancel safety
    /// As [`bytes`](Self::bytes).
    #[cfg(feature = "json")]
    pub async fn json<T: serde::de::DeserializeOwned>(self) -> Result<T, Error> {
        let (record, status) = (self.record().clone(), self.status());
        let bytes = self.bytes().await?;
        let decoded = serde_json::from_slice(&bytes);
        decoded.map_err(|error| Error::new(Kind::Decode, error).with_record(&record).with_status(status))
    }

    /// The body piece by piece.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, Error>> + Send + Unpin {
        Pieces(self)
    }

    /// The head, and the body as an [`http_body::Body`], which knows no idle timeout.
    #[must_use]
    pub fn into_parts(self) -> (Parts, AnswerBody) {
        (self.0.head, self.0.body)
    }
}

impl Inner {
    fn broke(&self, error: impl Into<crate::body::BoxError>) -> Error {
        Error::new(Kind::Body, error).with_record(&self.record).with_status(self.head.status)
    }
}

impl Idle {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timeout = self.timeout;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(timeout)));
        if timer.deadline() < Instant::now() {
            return Poll::Ready(());
        }
        timer.as_mut().poll(cx)
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Answer");
        shown.field("status", &self.status()).field("endpoint", &self.endpoint().as_str());
        shown.field("record", self.record()).finish()
    }
}

/// A body as a stream.
struct Pieces(Answer);

impl Stream for Pieces {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_chunk(cx).map(Result::transpose)
    }
}
