//! Failover around a service of one's own: here the least that carries HTTP, a connection for each request.
//!
//! It starts a server, names a dead one before it, and sends a POST. That goes on because the service declares which of
//! its errors mean that there was no connection; without that it would end as unknown.
//!
//! ```sh
//! cargo run -p handover-client --features tower --example tower_layer
//! ```

use std::error::Error;
use std::io::Write as _;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use handover_client::{Client, ConnectErrors, Policy, Record, SentBody};
use http::{Request, Response, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tower_layer::Layer as _;
use tower_service::Service;

/// A connection for each request.
#[derive(Clone)]
struct Plain;

/// What went wrong, and whether there was a connection.
#[derive(Debug)]
enum PlainError {
    Connect(std::io::Error),
    Exchange(hyper::Error),
}

impl std::fmt::Display for PlainError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connect(error) => write!(f, "no connection: {error}"),
            Self::Exchange(error) => write!(f, "the exchange failed: {error}"),
        }
    }
}

impl Error for PlainError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Connect(error) => Some(error),
            Self::Exchange(error) => Some(error),
        }
    }
}

impl Service<Request<SentBody>> for Plain {
    type Response = Response<Incoming>;
    type Error = PlainError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Incoming>, PlainError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), PlainError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<SentBody>) -> Self::Future {
        Box::pin(async move {
            // The layer has put the endpoint's place into the URI; HTTP/1.1 has it in `Host`.
            let authority = request.uri().authority().expect("the layer puts it there").clone();
            let path = request.uri().path_and_query().expect("the layer puts it there").clone();
            *request.uri_mut() = Uri::from(path);
            let host = authority.as_str().parse().expect("an authority is visible ASCII");
            request.headers_mut().insert(header::HOST, host);
            let stream = TcpStream::connect(authority.as_str()).await.map_err(PlainError::Connect)?;
            let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
            let (mut sender, connection) = handshake.await.map_err(PlainError::Exchange)?;
            tokio::spawn(connection);
            sender.send_request(request).await.map_err(PlainError::Exchange)
        })
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let (dead, alive) = (dead_place().await?, serve().await?);
    let layer = Client::builder()
        .endpoints([format!("http://{dead}"), format!("http://{alive}")])
        .policy(Policy::at_most_once())
        .layer()?
        .evidence(ConnectErrors::new(|error: &PlainError| matches!(error, PlainError::Connect(_))));
    let mut service = layer.layer(Plain);
    let response = service.call(Request::post("/orders").body(Full::<Bytes>::from("one coffee"))?).await?;
    let record = response.extensions().get::<Record>().cloned().ok_or("the layer puts it there")?;
    let body = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
    writeln!(std::io::stdout(), "{}\n{record}", String::from_utf8_lossy(&body))?;
    Ok(())
}

/// A port at which nobody listens any more.
async fn dead_place() -> std::io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0").await?.local_addr()
}

/// A server that takes orders.
async fn serve() -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let place = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = service_fn(|request: Request<Incoming>| async move {
                let order = request.into_body().collect().await?.to_bytes();
                let said = format!("taken: {}", String::from_utf8_lossy(&order));
                Ok::<_, hyper::Error>(Response::new(Full::<Bytes>::from(said)))
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
        }
    });
    Ok(place)
}
