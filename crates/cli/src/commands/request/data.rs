//! A request's body from a file, read as it is sent.
//!
//! A regular file is opened anew for every attempt and has a length; a pipe, a terminal or stdin is read once. Reading
//! happens on a thread that may block: a file on a slow disk, or a terminal at which nobody types, must not keep the
//! request's timers from running.

use std::fs::{File, Metadata};
use std::future::Future as _;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::Bytes;
use handover_client::Body;
use http_body::{Frame, SizeHint};
use tokio::task::{JoinHandle, spawn_blocking};

/// How much is read at once, in bytes: large enough that handing work to another thread does not count, small enough that
/// a few such pieces are no memory to speak of.
const PIECE_BYTES: u64 = 64 * 1024;

/// The body that is in this file; `-` is stdin.
///
/// # Errors
/// If it cannot be opened.
pub(super) fn open(path: &Path) -> io::Result<Body> {
    if path == Path::new("-") {
        let stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        return Ok(Body::from_http(FileBody { state: State::Open(stdin), left: None }));
    }
    let about = std::fs::metadata(path)?;
    if about.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory"));
    }
    if !about.is_file() {
        // Opening a named pipe takes until somebody writes to it: that counts into the request's time.
        return Ok(Body::from_http(FileBody { state: State::Closed(path.to_owned(), None), left: None }));
    }
    File::open(path)?;
    if about.len() == 0 {
        return Ok(Body::default());
    }
    let (path, mark) = (path.to_owned(), Mark::of(&about)?);
    Ok(Body::replayable_http(move || FileBody {
        state: State::Closed(path.clone(), Some(mark)),
        left: Some(mark.length),
    }))
}

/// By which a file is known to be the one that it was: an attempt must not send what another one did not.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Mark {
    length: u64,
    modified: SystemTime,
    file: (u64, u64),
}

impl Mark {
    fn of(about: &Metadata) -> io::Result<Self> {
        Ok(Self { length: about.len(), modified: about.modified()?, file: (about.dev(), about.ino()) })
    }
}

/// Opens the file, if it still is what it was.
fn reopen(path: &Path, mark: Option<Mark>) -> io::Result<File> {
    let again = |error: io::Error| io::Error::new(error.kind(), format!("{} cannot be read: {error}", path.display()));
    let file = File::open(path).map_err(again)?;
    let Some(mark) = mark else { return Ok(file) };
    if Mark::of(&file.metadata().map_err(again)?)? != mark {
        return Err(io::Error::other(format!("{} was changed after it was first opened", path.display())));
    }
    Ok(file)
}

struct FileBody {
    state: State,
    /// Of the length that was promised; `None` where none was.
    left: Option<u64>,
}

enum State {
    Closed(PathBuf, Option<Mark>),
    Open(File),
    Reading(JoinHandle<io::Result<(File, Bytes)>>),
    Ended,
}

impl FileBody {
    /// How much is wanted next.
    fn wanted(&self) -> usize {
        let wanted = self.left.map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
        usize::try_from(wanted).expect("a piece fits into memory")
    }

    /// What was read becomes a frame; nothing is the end, which may come too early.
    fn read(&mut self, file: File, piece: Bytes) -> Option<io::Result<Frame<Bytes>>> {
        self.state = State::Ended;
        if piece.is_empty() {
            let is_early = self.left.is_some_and(|left| left > 0);
            let why = "the file became shorter while it was sent";
            return is_early.then(|| Err(io::Error::new(io::ErrorKind::UnexpectedEof, why)));
        }
        self.left = self.left.map(|left| left.saturating_sub(piece.len() as u64));
        // What was added to the file meanwhile is beyond the length that was promised.
        if self.left != Some(0) {
            self.state = State::Open(file);
        }
        Some(Ok(Frame::data(piece)))
    }
}

impl http_body::Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let wanted = self.wanted();
        loop {
            match std::mem::replace(&mut self.state, State::Ended) {
                State::Closed(path, mark) => {
                    self.state = State::Reading(spawn_blocking(move || piece(reopen(&path, mark)?, wanted)));
                }
                State::Open(file) => self.state = State::Reading(spawn_blocking(move || piece(file, wanted))),
                State::Reading(mut reading) => {
                    let Poll::Ready(read) = Pin::new(&mut reading).poll(cx) else {
                        self.state = State::Reading(reading);
                        return Poll::Pending;
                    };
                    let (file, piece) = match read.unwrap_or_else(|error| Err(io::Error::other(error))) {
                        Ok(read) => read,
                        Err(error) => return Poll::Ready(Some(Err(error))),
                    };
                    return Poll::Ready(self.read(file, piece));
                }
                State::Ended => return Poll::Ready(None),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// Reads once, which for a pipe may be less than there will be.
fn piece(mut file: File, wanted: usize) -> io::Result<(File, Bytes)> {
    let mut buffer = vec![0; wanted];
    loop {
        match file.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(read) => {
                buffer.truncate(read);
                return Ok((file, buffer.into()));
            }
        }
    }
}
