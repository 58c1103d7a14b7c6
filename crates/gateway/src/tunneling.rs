//! Hands an opened tunnel to the client's connection, and writes its log row when it ends.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use handover_core::{Fault, Stage};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::body::ResponseBody;
use crate::client_io::ClientStream;
use crate::ledger::Ledger;
use crate::node::InFlight;
use crate::plan::View;
use crate::serve::Client;
use crate::trip::Opened;
use crate::tunnel::{self, Carried, End, TunnelError};
use crate::worker::Worker;
use handover_wire::dial::{Stream, fault_of};

/// A tunnel that waits for the client's connection to finish its response.
pub(crate) struct Takeover {
    pub(crate) stream: Stream,
    pub(crate) early: Bytes,
    pub(crate) in_flight: InFlight,
    pub(crate) ledger: Box<Ledger>,
}

impl Takeover {
    /// Carries the tunnel on the client's socket until it ends.
    pub(crate) async fn carry(self, worker: &Worker, client: ClientStream, early_client: Bytes) {
        let idle = worker.view().config.limits.tunnel_idle_timeout;
        let Takeover { stream, early, in_flight, ledger } = self;
        run(client, stream, early_client, early, idle, ledger).await;
        drop(in_flight);
    }
}

fn established() -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Empty);
    response.extensions_mut().insert(ReasonPhrase::from_static(b"Connection Established"));
    response
}

/// Says 200; the connection's own task goes on with the tunnel.
pub(crate) fn accept_http1(opened: Opened, client: &Rc<Client>, _view: &View) -> Response<ResponseBody> {
    let Opened { dialled, in_flight, mut ledger } = opened;
    ledger.answered(200, None);
    client.takeover.replace(Some(Takeover { stream: dialled.io, early: dialled.early, in_flight, ledger }));
    established()
}

/// Says 200 on a stream of HTTP/2; a task of its own goes on with the tunnel.
pub(crate) fn accept_http2(opened: Opened, mut request: Request<Incoming>, view: &View) -> Response<ResponseBody> {
    let Opened { dialled, in_flight, mut ledger } = opened;
    ledger.answered(200, None);
    let idle = view.config.limits.tunnel_idle_timeout;
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::task::spawn_local(async move {
        match upgrade.await {
            Ok(upgraded) => run(TokioIo::new(upgraded), dialled.io, Bytes::new(), dialled.early, idle, ledger).await,
            // The client went away before its stream was a tunnel; the ledger's end says so.
            Err(_) => drop(ledger),
        }
        drop(in_flight);
    });
    Response::new(ResponseBody::Empty)
}

async fn run(
    client: impl End,
    target: Stream,
    early_client: Bytes,
    early_target: Bytes,
    idle: Duration,
    mut ledger: Box<Ledger>,
) {
    let Carried { egress, ingress, error } = tunnel::carry(client, target, early_client, early_target, idle).await;
    (ledger.egress, ledger.ingress) = (egress, ingress);
    let attempt = ledger.answering();
    ledger.detail(attempt).written_bytes = egress;
    match error {
        // A quiet end, a client that broke off and a tunnel that was never used speak against nobody.
        None => ledger.close(true),
        Some(TunnelError::Client(error)) => {
            ledger.broke(Stage::Tunnel, Fault::Cancelled, error.raw_os_error(), &format!("the client: {error}"));
            ledger.close(true);
        }
        Some(TunnelError::Idle) => {
            ledger.broke(Stage::Tunnel, Fault::Timeout, None, "nothing moved for the tunnel's idle timeout");
            ledger.close(true);
        }
        Some(TunnelError::Target(error)) => {
            let (fault, errno) = fault_of(&error);
            ledger.broke(Stage::Tunnel, fault, errno, &error.to_string());
            ledger.close(false);
        }
    }
}

impl End for Stream {
    fn plain(&self) -> Option<&TcpStream> {
        match self {
            Stream::Tcp(_) => Some(self.tcp()),
            _ => None,
        }
    }
}

impl End for TokioIo<Upgraded> {
    fn plain(&self) -> Option<&TcpStream> {
        None
    }
}
