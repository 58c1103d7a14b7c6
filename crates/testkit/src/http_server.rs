//! A small HTTP/1.1 server for the mocks that answer from what a request says (its whole body included), unlike
//! [`Origin`](crate::Origin), whose scripts decide from the head. It can leave its port, which then refuses, and come back to it.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::port::DeadPort;

/// What becomes of a request.
pub(crate) enum Reply {
    /// It is answered.
    Answer(Response<Bytes>),
    /// The connection is closed without an answer.
    Drop,
}

impl Reply {
    /// A JSON value.
    pub(crate) fn json(status: u16, value: &Value) -> Self {
        Self::body(status, "application/json", value.to_string())
    }

    /// A text.
    pub(crate) fn text(status: u16, text: &str) -> Self {
        Self::body(status, "text/plain; charset=utf-8", text.to_owned())
    }

    fn body(status: u16, kind: &str, body: impl Into<Bytes>) -> Self {
        let response = Response::builder().status(status).header(CONTENT_TYPE, kind).body(body.into());
        Self::Answer(response.expect("the mocks check the statuses that tests give"))
    }

    /// With one more header.
    pub(crate) fn header(self, name: &'static str, value: &str) -> Self {
        match self {
            Self::Answer(mut response) => {
                let value = value.parse().expect("the mocks' header values are plain text");
                response.headers_mut().insert(name, value);
                Self::Answer(response)
            }
            Self::Drop => Self::Drop,
        }
    }
}

/// A reply that is still being made.
pub(crate) type Replying = Pin<Box<dyn Future<Output = Reply> + Send>>;
type Handler = dyn Fn(Request<Bytes>) -> Replying + Send + Sync;

/// Whether the port is served.
enum Port {
    Up(JoinHandle<()>),
    Down(DeadPort),
    /// Only while it goes from one to the other.
    Between,
}

/// The running server. It ends, with all its connections, when it is dropped.
pub(crate) struct HttpServer {
    addr: SocketAddr,
    handler: Arc<Handler>,
    port: Mutex<Port>,
}

impl HttpServer {
    /// Binds a free loopback port.
    ///
    /// # Panics
    /// When no port is free. Cancel safe.
    pub(crate) async fn bind() -> TcpListener {
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a loopback port is free")
    }

    /// Serves on a listener.
    pub(crate) fn start(
        listener: TcpListener,
        handler: impl Fn(Request<Bytes>) -> Replying + Send + Sync + 'static,
    ) -> Self {
        let addr = listener.local_addr().expect("the listener is bound");
        let handler: Arc<Handler> = Arc::new(handler);
        let port = Mutex::new(Port::Up(tokio::spawn(accept(listener, Arc::clone(&handler)))));
        Self { addr, handler, port }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Closes the listener and every connection; the port refuses until [`up`](Self::up). Not cancel safe.
    pub(crate) async fn down(&self) {
        match self.replace(Port::Between) {
            Port::Up(task) => {
                task.abort();
                // It ends by being aborted; the wait is for its sockets to be closed.
                let _ = task.await;
                self.replace(Port::Down(DeadPort::once_free(self.addr).await));
            }
            other => drop(self.replace(other)),
        }
    }

    /// Serves on its port again.
    pub(crate) fn up(&self) {
        let port = match self.replace(Port::Between) {
            Port::Down(dead) => Port::Up(tokio::spawn(accept(dead.listen(), Arc::clone(&self.handler)))),
            other => other,
        };
        self.replace(port);
    }

    fn replace(&self, port: Port) -> Port {
        std::mem::replace(&mut self.port.lock().unwrap_or_else(PoisonError::into_inner), port)
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        if let Port::Up(task) = self.replace(Port::Between) {
            task.abort();
        }
    }
}

async fn accept(listener: TcpListener, handler: Arc<Handler>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((tcp, _)) = accepted else { return };
                connections.spawn(serve(tcp, Arc::clone(&handler)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(tcp: TcpStream, handler: Arc<Handler>) {
    let _ = tcp.set_nodelay(true);
    let service = service_fn(|request| answer(request, &*handler));
    // Errors of a connection end it silently: the other side's view is what tests look at.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(tcp), service).await;
}

async fn answer(request: Request<Incoming>, handler: &Handler) -> io::Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    match handler(Request::from_parts(head, body)).await {
        Reply::Answer(response) => Ok(response.map(Full::new)),
        // hyper closes the connection on an error of the service, with nothing written.
        Reply::Drop => Err(io::ErrorKind::ConnectionAborted.into()),
    }
}
