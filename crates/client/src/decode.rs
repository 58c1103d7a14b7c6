//! Answers that come compressed are decoded as they are read (`Content-Encoding`, RFC 9110 §8.4).
//!
//! `Accept-Encoding` is added where the caller set none. What is decoded is what the answer says it is: codings are undone
//! from the last one inwards, as far as they are known; the others stay, and stay named. Left alone is what cannot be
//! decoded: answers without content (HEAD, 204, 304) and parts of one (206).
//!
//! Nothing is held but one piece and the decoders' windows, so that a small body that grows without end costs time and no
//! memory; how much of it is read is the reader's choice.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, RANGE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body::{Body, Frame};
use tokio::io::{AsyncRead, BufReader};
use tokio_util::io::{StreamReader, poll_read_buf};

use crate::answer_body::AnswerBody;
use crate::body::BoxError;

/// Largest piece that a decoded body yields, in bytes: a few pages, so that neither calls nor memory count.
const PIECE_BYTES_MAX: usize = 16 * 1024;

/// How many codings of one answer are undone: nobody means more than one, and each has a window in memory.
const CODINGS_MAX: usize = 4;

/// Largest window of zstd, as a power of two of bytes: 8 MiB, which RFC 9659 sets for this use. The library's own limit of
/// 128 MiB is what an answer could make every reader allocate.
#[cfg(feature = "zstd")]
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// What this build can decode, best first where a server has no preference of its own.
const CODINGS: &[(Coding, &str)] = &[
    #[cfg(feature = "zstd")]
    (Coding::Zstd, "zstd"),
    #[cfg(feature = "br")]
    (Coding::Brotli, "br"),
    #[cfg(feature = "gzip")]
    (Coding::Gzip, "gzip"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    #[cfg(feature = "zstd")]
    Zstd,
    #[cfg(feature = "br")]
    Brotli,
    #[cfg(feature = "gzip")]
    Gzip,
    Identity,
}

impl Coding {
    fn parse(name: &str) -> Option<Self> {
        match name {
            "identity" | "" => Some(Self::Identity),
            // RFC 9110 §8.4.1.3: the old name means the same.
            #[cfg(feature = "gzip")]
            "x-gzip" => Some(Self::Gzip),
            _ => CODINGS.iter().find(|(_, known)| *known == name).map(|(coding, _)| *coding),
        }
    }
}

/// Says what can be decoded, unless the caller said what it wants. Of a part nobody could decode anything.
pub(crate) fn accept(headers: &mut HeaderMap) {
    if headers.contains_key(ACCEPT_ENCODING) || headers.contains_key(RANGE) {
        return;
    }
    let names: Vec<_> = CODINGS.iter().map(|(_, name)| *name).collect();
    headers.insert(ACCEPT_ENCODING, HeaderValue::try_from(names.join(", ")).expect("names are visible ASCII"));
}

/// The answer with its body decoded, as far as its codings are known.
pub(crate) fn decoded(method: &Method, mut response: Response<AnswerBody>) -> Response<AnswerBody> {
    if !has_whole_content(method, response.status()) || response.body().is_end_stream() {
        return response;
    }
    let Some(mut names) = codings(response.headers()) else { return response };
    let mut known = Vec::new();
    while known.len() < CODINGS_MAX
        && let Some(coding) = names.last().and_then(|name| Coding::parse(name))
    {
        names.pop();
        if coding != Coding::Identity {
            known.push(coding);
        }
    }
    if known.is_empty() {
        return response;
    }
    let headers = response.headers_mut();
    headers.remove(CONTENT_LENGTH);
    headers.remove(CONTENT_ENCODING);
    if !names.is_empty() {
        let rest = HeaderValue::try_from(names.join(", ")).expect("it was part of a field");
        headers.insert(CONTENT_ENCODING, rest);
    }
    response.map(|body| AnswerBody::other(Decoded::new(body, &known)))
}

fn has_whole_content(method: &Method, status: StatusCode) -> bool {
    let none = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED, StatusCode::PARTIAL_CONTENT];
    method != Method::HEAD && !status.is_informational() && !none.contains(&status)
}

/// The codings of an answer in the order in which they were applied; `None` if there are none that can be read.
fn codings(headers: &HeaderMap) -> Option<Vec<String>> {
    let mut names = Vec::new();
    for value in headers.get_all(CONTENT_ENCODING) {
        names.extend(value.to_str().ok()?.split(',').map(|name| name.trim().to_ascii_lowercase()));
    }
    (!names.is_empty()).then_some(names)
}

/// A body that is decoded as it is read.
struct Decoded {
    state: State,
    source: Source,
}

enum State {
    /// Whether there is anything to decode is not known yet: an empty body is empty in every coding.
    Begins(Vec<Coding>),
    Flows {
        reader: Pin<Box<dyn AsyncRead + Send>>,
        piece: BytesMut,
    },
    /// The content is over; what is left of the body is read to its end, so that its connection can be used again.
    Ends,
    Over,
}

impl Decoded {
    fn new(body: AnswerBody, codings: &[Coding]) -> Self {
        let encoded = Encoded { body, first: None, is_over: false, trailers: None };
        Self { state: State::Begins(codings.to_vec()), source: Source(Arc::new(Mutex::new(encoded))) }
    }

    /// One step; `None` if another one is to be taken.
    fn step(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Step, BoxError>>> {
        match &mut self.state {
            State::Begins(codings) => {
                let has_content = ready!(self.source.encoded().poll_first(cx))?;
                self.state = if has_content {
                    State::Flows { reader: reader(self.source.clone(), codings), piece: BytesMut::new() }
                } else {
                    State::Ends
                };
                Poll::Ready(None)
            }
            State::Flows { reader, piece } => {
                piece.reserve(PIECE_BYTES_MAX);
                let mut limited = bytes::BufMut::limit(std::mem::take(piece), PIECE_BYTES_MAX);
                let read = poll_read_buf(reader.as_mut(), cx, &mut limited);
                *piece = limited.into_inner();
                if ready!(read)? == 0 {
                    self.state = State::Ends;
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(Ok(Step::Frame(Frame::data(piece.split().freeze())))))
            }
            State::Ends => {
                let mut encoded = self.source.encoded();
                if let Some(more) = ready!(encoded.poll_piece(cx)) {
                    let behind = |_| "there is more behind the end of the compressed content".into();
                    return Poll::Ready(Some(Err(more.map_or_else(BoxError::from, behind))));
                }
                let trailers = encoded.trailers.take();
                drop(encoded);
                self.state = State::Over;
                Poll::Ready(trailers.map(|trailers| Ok(Step::Frame(Frame::trailers(trailers)))))
            }
            State::Over => Poll::Ready(Some(Ok(Step::Over))),
        }
    }
}

enum Step {
    Frame(Frame<Bytes>),
    Over,
}

impl Body for Decoded {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            match ready!(self.step(cx)) {
                None => {}
                Some(Ok(Step::Frame(frame))) => return Poll::Ready(Some(Ok(frame))),
                Some(Ok(Step::Over)) => return Poll::Ready(None),
                Some(Err(error)) => {
                    self.state = State::Over;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }
}

/// The decoders, the outermost coding first.
fn reader(source: Source, codings: &[Coding]) -> Pin<Box<dyn AsyncRead + Send>> {
    let mut reader: Pin<Box<dyn AsyncRead + Send>> = Box::pin(StreamReader::new(source));
    for coding in codings {
        let encoded = BufReader::with_capacity(PIECE_BYTES_MAX, reader);
        reader = match coding {
            #[cfg(feature = "gzip")]
            Coding::Gzip => {
                let mut decoder = async_compression::tokio::bufread::GzipDecoder::new(encoded);
                // RFC 1952 §2.2: several members are one content.
                decoder.multiple_members(true);
                Box::pin(decoder)
            }
            #[cfg(feature = "br")]
            Coding::Brotli => Box::pin(async_compression::tokio::bufread::BrotliDecoder::new(encoded)),
            #[cfg(feature = "zstd")]
            Coding::Zstd => {
                use async_compression::tokio::bufread::ZstdDecoder;
                let window = async_compression::zstd::DParameter::window_log_max(ZSTD_WINDOW_LOG_MAX);
                let mut decoder = ZstdDecoder::with_params(encoded, &[window]);
                // RFC 8878 §3: several frames are one content.
                decoder.multiple_members(true);
                Box::pin(decoder)
            }
            Coding::Identity => Box::pin(encoded),
        };
    }
    reader
}

/// The encoded body, for the decoders and for what comes behind them. Nobody waits for the lock: both are polled by the
/// one reader.
#[derive(Clone)]
struct Source(Arc<Mutex<Encoded>>);

struct Encoded {
    body: AnswerBody,
    /// The first piece, which was looked at.
    first: Option<Bytes>,
    /// It is not asked again behind its end: not every body can be.
    is_over: bool,
    trailers: Option<HeaderMap>,
}

impl Source {
    fn encoded(&self) -> MutexGuard<'_, Encoded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Encoded {
    /// Whether there is any content.
    fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        self.first = ready!(self.poll_piece(cx)).transpose()?;
        Poll::Ready(Ok(self.first.is_some()))
    }

    /// The next piece that is not empty.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        while !self.is_over {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => self.is_over = true,
                Some(Err(error)) => return Poll::Ready(Some(Err(io::Error::other(error)))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => return Poll::Ready(Some(Ok(data))),
                    Err(frame) => self.trailers = frame.into_trailers().ok(),
                },
            }
        }
        Poll::Ready(None)
    }
}

impl Stream for Source {
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        self.encoded().poll_piece(cx)
    }
}
