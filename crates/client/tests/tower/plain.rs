//! The least that carries a request: a TCP connection for each, driven by a task of its own, as real clients have it.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use handover_client::SentBody;
use http::{Request, Response, Uri, header};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

pub(crate) type Future<E> = Pin<Box<dyn std::future::Future<Output = Result<Response<Incoming>, E>> + Send>>;

#[derive(Clone)]
pub(crate) struct Plain;

#[derive(Debug)]
pub(crate) enum PlainError {
    Connect(std::io::Error),
    Exchange(hyper::Error),
}

impl PlainError {
    pub(crate) fn is_connect(&self) -> bool {
        matches!(self, Self::Connect(_))
    }
}

impl fmt::Display for PlainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_connect() { "no connection" } else { "the exchange failed" })
    }
}

impl std::error::Error for PlainError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(match self {
            Self::Connect(error) => error,
            Self::Exchange(error) => error,
        })
    }
}

impl Service<Request<SentBody>> for Plain {
    type Response = Response<Incoming>;
    type Error = PlainError;
    type Future = Future<PlainError>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), PlainError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<SentBody>) -> Self::Future {
        Box::pin(async move {
            let authority = request.uri().authority().expect("the layer puts it there").clone();
            let path = request.uri().path_and_query().expect("the layer puts it there").clone();
            *request.uri_mut() = Uri::from(path);
            request.headers_mut().insert(header::HOST, authority.as_str().parse().expect("visible"));
            let stream = TcpStream::connect(authority.as_str()).await.map_err(PlainError::Connect)?;
            let (mut sender, connection) =
                http1::handshake(TokioIo::new(stream)).await.map_err(PlainError::Exchange)?;
            tokio::spawn(connection);
            sender.send_request(request).await.map_err(PlainError::Exchange)
        })
    }
}
