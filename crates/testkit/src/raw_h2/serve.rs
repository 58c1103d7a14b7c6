//! One connection of a raw HTTP/2 server: frames in, the script's acts out.

use std::io;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::frame::{ACK, DATA, HEADER_BYTES, LAST_STREAM_MAX, PING, SETTINGS, frame, settings, window_update};
use super::{FrameSeen, RawAct, Shared};
use crate::gate::Gate;
use crate::origin::end;
use crate::socket::Socket;
use crate::wire::Wire;

/// Bytes of the client's preface (RFC 9113 §3.4).
const PREFACE_BYTES: usize = 24;

/// SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113 §6.5.2).
const INITIAL_WINDOW_SIZE: u16 = 0x4;

/// The connection's window before any WINDOW_UPDATE, in bytes (RFC 9113 §6.9.2).
const WINDOW_BYTES: u32 = 65_535;

/// Where the reading stands: kept outside the futures that read, so that one of them can be dropped at any await.
struct Reader {
    wire: Wire<Socket>,
    number: usize,
    greeted: bool,
    header: Option<FrameSeen>,
    stopped: Option<Gate>,
}

impl Reader {
    /// The next frame. Cancel safe.
    async fn next(&mut self) -> io::Result<FrameSeen> {
        if let Some(gate) = &self.stopped {
            gate.wait().await;
            self.stopped = None;
        }
        if !self.greeted {
            self.wire.read_exactly(PREFACE_BYTES).await?;
            self.greeted = true;
        }
        let mut seen = match self.header.take() {
            Some(seen) => seen,
            None => FrameSeen::parse(self.number, &self.wire.read_exactly(HEADER_BYTES).await?),
        };
        // Put back before the next await, where this future may end.
        self.header = Some(seen.clone());
        let payload = self.wire.read_exactly(seen.length).await?;
        self.header = None;
        if seen.kind != DATA {
            seen.payload = payload;
        }
        Ok(seen)
    }
}

/// Serves a connection to its end.
///
/// # Errors
/// Those of the socket, and `UnexpectedEof` at its end; nobody looks at them.
pub(super) async fn connection(
    tcp: TcpStream,
    number: usize,
    shared: &Shared,
    mut asked: mpsc::UnboundedReceiver<Vec<RawAct>>,
) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let mut socket = match &shared.tls {
        Some(acceptor) => Socket::Tls(Box::new(acceptor.accept(tcp).await?.into())),
        None => Socket::Plain(tcp),
    };
    socket.write_all(&settings(&[(INITIAL_WINDOW_SIZE, LAST_STREAM_MAX)])).await?;
    socket.write_all(&window_update(0, LAST_STREAM_MAX - WINDOW_BYTES)).await?;
    socket.flush().await?;
    let stopped = shared.unread.clone();
    let mut reader = Reader { wire: Wire::new(socket), number, greeted: false, header: None, stopped };
    loop {
        let acts = tokio::select! {
            seen = reader.next() => {
                let seen = record(seen?, shared);
                acknowledge(&seen, &mut reader).await?;
                (shared.script)(&seen)
            }
            Some(acts) = asked.recv() => acts,
        };
        for act in acts {
            match act {
                RawAct::Write(bytes) => reader.wire.io.write_all(&bytes).await?,
                RawAct::StopReading(gate) => reader.stopped = Some(gate),
                RawAct::End(how) => return end(reader.wire.io, how).await,
            }
        }
        reader.wire.io.flush().await?;
    }
}

fn record(mut seen: FrameSeen, shared: &Shared) -> FrameSeen {
    shared.book.change(|connections| {
        let frames = &mut connections[seen.connection].frames;
        seen.number = frames.len();
        frames.push(seen.clone());
    });
    seen
}

async fn acknowledge(seen: &FrameSeen, reader: &mut Reader) -> io::Result<()> {
    if (seen.kind == SETTINGS || seen.kind == PING) && seen.flags & ACK == 0 {
        let payload = if seen.kind == PING { &seen.payload[..] } else { &[] };
        reader.wire.io.write_all(&frame(seen.kind, ACK, 0, payload)).await?;
    }
    Ok(())
}
