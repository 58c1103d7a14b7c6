//! Events that came, and who gets them: each handler is registered once and outlives every connection.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::mpsc;
use url::Url;

use super::protocol::Arrived;

/// An event of the server.
#[derive(Debug)]
pub struct Event {
    name: String,
    args: Vec<Value>,
    attachments: Vec<Bytes>,
    endpoint: Url,
    id: Option<String>,
    answer: Option<Answer>,
}

impl Event {
    pub(crate) fn new(arrived: Arrived, endpoint: Url, id: Option<String>, answer: Option<Answer>) -> Self {
        let Arrived { name, args, attachments, .. } = arrived;
        Self { name, args, attachments, endpoint, id, answer }
    }

    /// Its name; `message` for what comes on a plain WebSocket.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its arguments. Bytes in them are base64; [`attachments`](Self::attachments) has them as they came.
    #[must_use]
    pub fn args(&self) -> &[Value] {
        &self.args
    }

    /// Its first argument; `null` if it has none.
    #[must_use]
    pub fn data(&self) -> &Value {
        self.args.first().unwrap_or(&Value::Null)
    }

    /// Its first argument as a type of yours.
    ///
    /// # Errors
    /// If it does not fit.
    pub fn json<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        T::deserialize(self.data())
    }

    /// The bytes that came with it, in order.
    #[must_use]
    pub fn attachments(&self) -> &[Bytes] {
        &self.attachments
    }

    /// Who sent it.
    #[must_use]
    pub fn endpoint(&self) -> &Url {
        &self.endpoint
    }

    /// What it is known again by when it comes from a second server, if it carries such an id.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Answers it, if the server waits for an answer and none was given: whether that is so. The answer goes out on the
    /// connection that the event came on, or not at all.
    pub fn answer(&self, value: impl Serialize) -> bool {
        let Some(answer) = &self.answer else { return false };
        let Ok(value) = serde_json::to_value(value) else { return false };
        if answer.is_given.swap(true, Ordering::Relaxed) {
            return false;
        }
        answer.to.try_send(Given { connection: answer.connection, ack: answer.ack, args: vec![value] }).is_ok()
    }
}

/// Where the answer to an event goes.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) to: mpsc::Sender<Given>,
    pub(crate) connection: u64,
    pub(crate) ack: u64,
    pub(crate) is_given: AtomicBool,
}

/// The answer to an event.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) connection: u64,
    pub(crate) ack: u64,
    pub(crate) args: Vec<Value>,
}

/// Names a handler, to take it away again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HandlerId(u64);

type Handler = Arc<dyn Fn(&Event) + Send + Sync>;

/// The handlers of a socket.
#[derive(Default)]
pub(crate) struct Handlers {
    by_event: Mutex<BTreeMap<String, Vec<(HandlerId, Handler)>>>,
    next: AtomicU64,
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handlers").finish_non_exhaustive()
    }
}

impl Handlers {
    pub(crate) fn add(&self, event: &str, handler: impl Fn(&Event) + Send + Sync + 'static) -> HandlerId {
        let id = HandlerId(self.next.fetch_add(1, Ordering::Relaxed));
        self.with(|handlers| handlers.entry(event.to_owned()).or_default().push((id, Arc::new(handler))));
        id
    }

    /// Takes a handler away; whether it was there.
    pub(crate) fn remove(&self, id: HandlerId) -> bool {
        self.with(|handlers| {
            let before: usize = handlers.values().map(Vec::len).sum();
            handlers.values_mut().for_each(|list| list.retain(|(known, _)| *known != id));
            handlers.retain(|_, list| !list.is_empty());
            handlers.values().map(Vec::len).sum::<usize>() < before
        })
    }

    /// Calls those that wait for it, in the order in which they were registered. One that panics changes nothing for the
    /// others, and nothing for the socket.
    pub(crate) fn call(&self, event: &Event) {
        let handlers: Vec<Handler> = self.with(|handlers| {
            let list = handlers.get(event.name()).map(Vec::as_slice).unwrap_or_default();
            list.iter().map(|(_, handler)| Arc::clone(handler)).collect()
        });
        for handler in handlers {
            // What a handler left half done is its own; the event is not changed by it.
            if catch_unwind(AssertUnwindSafe(|| handler(event))).is_err() {
                tracing::error!(event = event.name(), "a handler of the socket panicked");
            }
        }
    }

    fn with<T>(&self, look: impl FnOnce(&mut BTreeMap<String, Vec<(HandlerId, Handler)>>) -> T) -> T {
        look(&mut self.by_event.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Ids that are remembered: the history that a Classworks server keeps per device (1000 events) is what it can send again.
const IDS_MAX: usize = 1024;

/// Bytes of an id that is remembered. A longer one is no id but a body, and 1024 of them would be a leak.
const ID_BYTES_MAX: usize = 256;

/// Knows events again that a second connection brings while the first is still there. One connection may bring an id twice:
/// that is the server's own will. Servers that count their events begin anew when they are started, so nothing is known again
/// once the connection that brought it was lost.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    first: HashMap<String, u64>,
    order: VecDeque<String>,
}

impl Seen {
    /// Whether it is new, as far as can be known, on this connection.
    pub(crate) fn is_new(&mut self, id: &str, connection: u64) -> bool {
        if id.len() > ID_BYTES_MAX {
            return true;
        }
        if let Some(first) = self.first.get(id) {
            return *first == connection;
        }
        if self.order.len() >= IDS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.first.remove(&oldest);
        }
        self.first.insert(id.to_owned(), connection);
        self.order.push_back(id.to_owned());
        true
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.first.clear();
        self.order.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn event(name: &str) -> Event {
        let arrived = Arrived { name: name.to_owned(), args: vec![], attachments: vec![], ack: None };
        Event::new(arrived, Url::parse("http://a").unwrap(), None, None)
    }

    #[test]
    fn a_handler_that_panics_stops_no_other() {
        let handlers = Handlers::default();
        let calls = Arc::new(AtomicUsize::new(0));
        handlers.add("e", |_| panic!("on purpose"));
        let counted = Arc::clone(&calls);
        let id = handlers.add("e", move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        handlers.call(&event("e"));
        handlers.call(&event("other"));
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        assert!(handlers.remove(id));
        assert!(!handlers.remove(id));
        handlers.call(&event("e"));
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn an_event_is_known_again_on_another_connection_only() {
        let mut seen = Seen::default();
        assert!(seen.is_new("a", 1));
        assert!(seen.is_new("a", 1), "the same server may say it twice");
        assert!(!seen.is_new("a", 2));
        for n in 0..IDS_MAX {
            assert!(seen.is_new(&n.to_string(), 1));
        }
        assert!(seen.is_new("a", 2), "the memory is bounded");
        assert_eq!(seen.first.len(), IDS_MAX);
        let long = "x".repeat(ID_BYTES_MAX + 1);
        assert!(seen.is_new(&long, 1) && seen.is_new(&long, 2));
    }
}
