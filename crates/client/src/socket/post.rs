//! Where the application gives its messages in: bounded, timed, and told what became of each.

use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::error::SendError;
use super::letter::{Gate, Letter, Revoked};
use super::protocol::Content;

/// The way from the application to the socket. Clones share its bounds.
#[derive(Clone, Debug)]
pub(crate) struct Post {
    letters: mpsc::Sender<Letter>,
    /// Messages whose callers wait.
    count: Arc<Semaphore>,
    /// Their bytes.
    bytes: Arc<Semaphore>,
    bytes_max: usize,
    /// How long a message may take if it does not say.
    limit: Duration,
}

impl Post {
    /// A way for at most `count_max` messages at a time, of `bytes_max` together, and its other end.
    pub(crate) fn new(count_max: usize, bytes_max: usize, limit: Duration) -> (Self, mpsc::Receiver<Letter>) {
        let (letters, receiver) = mpsc::channel(count_max.max(1));
        let semaphore = |permits: usize| Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)));
        (Self { letters, count: semaphore(count_max), bytes: semaphore(bytes_max), bytes_max, limit }, receiver)
    }

    /// A message to send; nothing happens before it is awaited.
    pub(crate) fn sending<T: Outcome>(&self, content: Result<Content, SendError>) -> Sending<T> {
        Sending {
            post: self.clone(),
            content,
            limit: self.limit,
            is_idempotent: false,
            may_wait: true,
            outcome: PhantomData,
        }
    }

    fn admit(&self, content: &Content) -> Result<[OwnedSemaphorePermit; 2], SendError> {
        let full = |_| SendError::full();
        let len = content.len();
        if len > self.bytes_max {
            return Err(SendError::invalid("the message is larger than all that may wait"));
        }
        let bytes = u32::try_from(len).map_err(|_| SendError::invalid("the message is too large"))?;
        let count = Arc::clone(&self.count).try_acquire_owned().map_err(full)?;
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(bytes).map_err(full)?;
        Ok([count, bytes])
    }
}

/// What a message that was delivered gives back.
pub(crate) trait Outcome: Sized + Send + 'static {
    const WANTS_ACK: bool;

    fn new(answer: Value) -> Self;
}

impl Outcome for () {
    const WANTS_ACK: bool = false;

    fn new(_: Value) -> Self {}
}

impl Outcome for Value {
    const WANTS_ACK: bool = true;

    fn new(answer: Value) -> Self {
        answer
    }
}

/// A message that is sent when it is awaited.
///
/// Awaiting it gives `Ok` when the server acknowledged it (or, where no answer is wanted, when it was written), and otherwise
/// a [`SendError`], which knows whether it was sent.
///
/// # Cancel safety
/// Dropping the future takes the message back if no connection has it yet: it is not sent then. If one has it, the message
/// may arrive, and is not sent again.
#[must_use = "a message is sent when it is awaited"]
#[derive(Debug)]
pub struct Sending<T> {
    post: Post,
    content: Result<Content, SendError>,
    limit: Duration,
    is_idempotent: bool,
    may_wait: bool,
    outcome: PhantomData<fn() -> T>,
}

impl<T> Sending<T> {
    /// Says that executing it twice is the same as once, because of what it does or because the server knows it again by an
    /// id that it carries. Only then it is sent again when its connection broke before the answer.
    pub fn idempotent(mut self) -> Self {
        self.is_idempotent = true;
        self
    }

    /// How long it may take, waiting for a connection included. The default is the socket's.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Fails at once if there is no connection, and does not go over to the next one.
    pub fn now_or_never(mut self) -> Self {
        self.may_wait = false;
        self
    }
}

impl<T: Outcome> IntoFuture for Sending<T> {
    type Output = Result<T, SendError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let content = self.content?;
            let permits = self.post.admit(&content)?;
            let (reply, answer) = oneshot::channel();
            let gate = RevokedOnDrop(Arc::default());
            let letter = Letter {
                content,
                wants_ack: T::WANTS_ACK,
                is_idempotent: self.is_idempotent,
                may_wait: self.may_wait,
                is_tainted: false,
                gate: Arc::clone(&gate.0),
                reply,
            };
            give_in(&self.post.letters, letter)?;
            let answer = outcome(&gate.0, answer, self.limit).await;
            drop(permits);
            answer.map(T::new)
        })
    }
}

fn give_in(letters: &mpsc::Sender<Letter>, letter: Letter) -> Result<(), SendError> {
    letters.try_send(letter).map_err(|error| match error {
        mpsc::error::TrySendError::Full(_) => SendError::full(),
        mpsc::error::TrySendError::Closed(_) => SendError::not_sent("the socket is closed").closed(),
    })
}

async fn outcome(
    gate: &Gate,
    mut answer: oneshot::Receiver<Result<Value, SendError>>,
    limit: Duration,
) -> Result<Value, SendError> {
    let given_up = |revoked, why| match revoked {
        Revoked::NotSent => SendError::not_sent(why),
        Revoked::MaybeSent => SendError::unknown(why),
    };
    match tokio::time::timeout(limit, &mut answer).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(given_up(gate.revoke(), "the socket is closed").closed()),
        Err(_) => {
            let revoked = gate.revoke();
            // An answer that came with the end of the time is an answer.
            let late = answer.try_recv();
            late.unwrap_or_else(|_| Err(given_up(revoked, "its time limit passed").timed_out()))
        }
    }
}

/// Gives the message up when nobody waits for it any more.
struct RevokedOnDrop(Arc<Gate>);

impl Drop for RevokedOnDrop {
    fn drop(&mut self) {
        self.0.revoke();
    }
}

/// The content of an event.
pub(crate) fn event(name: &str, value: impl serde::Serialize) -> Result<Content, SendError> {
    let value = serde_json::to_value(value).map_err(|_| SendError::invalid("the value cannot be written as JSON"))?;
    let args = if value.is_null() { vec![] } else { vec![value] };
    Ok(event_of(name, args))
}

/// The content of an event with any number of arguments.
pub(crate) fn event_of(name: &str, args: Vec<Value>) -> Content {
    let mut parts = Vec::with_capacity(1 + args.len());
    parts.push(Value::from(name));
    parts.extend(args);
    Content::Event(Value::Array(parts).to_string())
}
