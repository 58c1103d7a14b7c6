//! Serving one connection of a scripted HTTP/2 origin: one task drives the connection, one more per stream performs the script.

use std::sync::Arc;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{Connection, SendResponse};
use http::{Request, Response};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{H2Act, H2Answer, H2Arrival, H2Seen, Leave, Shared};
use crate::origin::{End, end};
use crate::socket::Socket;

/// Streams a client may have open at once: above the few hundred concurrent requests of the tests, so that none waits at the
/// client for a place.
const STREAMS_MAX: u32 = 10_000;

/// Flow-control window of a stream and of the connection, in bytes: above every body of the tests, so that only the socket
/// makes a client wait.
const WINDOW_BYTES: u32 = 64 * 1024 * 1024;

/// What a stream's task asks of the connection.
enum Ask {
    Leave(Leave),
    End(End),
}

/// Serves a connection to its end. Errors end it silently: the other side's view is what tests look at.
pub(super) async fn connection(tcp: TcpStream, number: usize, shared: Arc<Shared>) {
    let _ = tcp.set_nodelay(true);
    let socket = match &shared.tls {
        None => Socket::Plain(tcp),
        Some(acceptor) => match acceptor.accept(tcp).await {
            Ok(tls) => Socket::Tls(Box::new(tls.into())),
            Err(_) => return,
        },
    };
    // The connection owns its socket and does not give it back: a second descriptor ends it the scripted way.
    let Ok(twin) = SockRef::from(socket.tcp()).try_clone() else { return };
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(STREAMS_MAX);
    builder.initial_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES);
    let Ok(connection) = builder.handshake(socket).await else { return };
    if let Some(how) = drive(connection, number, &shared).await
        && let Ok(tcp) = TcpStream::from_std(twin.into())
    {
        let _ = end(Socket::Plain(tcp), how).await;
    }
}

/// Drives it until it is over; gives the end that a script asked for.
async fn drive(mut connection: Connection<Socket, Bytes>, number: usize, shared: &Arc<Shared>) -> Option<End> {
    let (asks, mut asked) = mpsc::unbounded_channel();
    let mut leave = shared.leave.subscribe();
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            accepted = connection.accept() => {
                let (request, respond) = accepted?.ok()?;
                streams.spawn(perform(request, respond, number, Arc::clone(shared), asks.clone()));
            }
            Ok(()) = leave.changed() => {
                let how = *leave.borrow_and_update();
                how.into_iter().for_each(|how| announce(&mut connection, how));
            }
            Some(ask) = asked.recv() => match ask {
                Ask::Leave(how) => announce(&mut connection, how),
                Ask::End(how) => return Some(how),
            },
            Some(_) = streams.join_next() => {}
        }
    }
}

fn announce(connection: &mut Connection<Socket, Bytes>, leave: Leave) {
    match leave {
        Leave::Graceful => connection.graceful_shutdown(),
        Leave::Abrupt(reason) => connection.abrupt_shutdown(reason),
    }
}

async fn perform(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    connection: usize,
    shared: Arc<Shared>,
    asks: mpsc::UnboundedSender<Ask>,
) -> Option<()> {
    let (head, body) = request.into_parts();
    let stream = respond.stream_id().as_u32();
    let seen = H2Seen { connection, stream, head: head.clone(), body: Vec::new(), complete: false };
    let request = shared.book.requests(|requests| {
        requests.push(seen);
        requests.len() - 1
    });
    let act = (shared.script)(H2Arrival { connection, request, stream, head: &head });
    match &act {
        H2Act::Reset(reason) => {
            respond.send_reset(*reason);
            return Some(());
        }
        H2Act::End(how) => return asks.send(Ask::End(*how)).ok(),
        _ => {}
    }
    read_whole(body, request, &shared).await?;
    let id = head.headers.get("x-id").and_then(|id| id.to_str().ok()).unwrap_or(head.uri.path());
    shared.book.executions.add(id);
    match act {
        H2Act::Answer(answer) => answer_with(answer, &mut respond, &asks).await,
        H2Act::ExecuteThenReset(reason) => {
            respond.send_reset(reason);
            Some(())
        }
        H2Act::ExecuteThenEnd(how) => asks.send(Ask::End(how)).ok(),
        H2Act::Hang | H2Act::Reset(_) | H2Act::End(_) => std::future::pending().await,
    }
}

async fn answer_with(
    answer: H2Answer,
    respond: &mut SendResponse<Bytes>,
    asks: &mpsc::UnboundedSender<Ask>,
) -> Option<()> {
    if let Some(leave) = answer.leave {
        asks.send(Ask::Leave(leave)).ok()?;
    }
    if let Some(gate) = &answer.held {
        gate.wait().await;
    }
    let mut response = Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        response = response.header(name, value);
    }
    let response = response.body(()).expect("the script's status and headers are valid");
    let mut body = respond.send_response(response, answer.body.is_empty()).ok()?;
    if !answer.body.is_empty() {
        body.send_data(answer.body, true).ok()?;
    }
    Some(())
}

/// Reads the body to its end; `None` when the client gave it up, in which case nothing is executed.
async fn read_whole(mut body: RecvStream, request: usize, shared: &Shared) -> Option<()> {
    while let Some(piece) = body.data().await {
        let piece = piece.ok()?;
        let _ = body.flow_control().release_capacity(piece.len());
        shared.book.requests(|requests| requests[request].body.extend_from_slice(&piece));
    }
    // A reset ends the data too; the trailers tell it from the end of the body.
    body.trailers().await.ok()?;
    shared.book.requests(|requests| requests[request].complete = true);
    Some(())
}
