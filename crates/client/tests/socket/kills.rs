//! Two Socket.IO servers, of which the one that serves is killed again and again while messages are sent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use handover_client::socket::{Cause, Event, FailoverSocket, State, Transports};
use handover_testkit::{SocketIoOptions, SocketIoServer, journal_executions, within};
use serde_json::json;
use tokio::sync::watch;
use url::Url;

use crate::{client, connected_to, hasty, join, journal};

/// Messages that must have been acknowledged before the next kill, so that fifty kills have 500 of them and more.
const ACKNOWLEDGED_PER_ROUND: usize = 12;

/// Tasks that send, one message at a time each.
const SENDERS: usize = 6;

/// Fifty starts of node at 0.2 s on an idle machine; two cores are shared by the whole suite.
const DEADLINE: Duration = Duration::from_secs(240);

/// What was said of each message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Said {
    Acknowledged,
    Unknown,
    NotSent,
}

#[derive(Clone)]
struct Book {
    said: Arc<Mutex<BTreeMap<String, Said>>>,
    acknowledged: Arc<watch::Sender<usize>>,
}

impl Book {
    fn new() -> Self {
        Self { said: Arc::default(), acknowledged: Arc::new(watch::Sender::new(0)) }
    }

    fn note(&self, id: String, said: Said) {
        assert_eq!(self.said.lock().unwrap().insert(id, said), None);
        if said == Said::Acknowledged {
            self.acknowledged.send_modify(|count| *count += 1);
        }
    }

    async fn more(&self, count: usize) {
        let mut acknowledged = self.acknowledged.subscribe();
        let goal = *acknowledged.borrow() + count;
        acknowledged.wait_for(|count| *count >= goal).await.expect("self holds the sender");
    }

    fn count(&self, said: Said) -> usize {
        self.said.lock().unwrap().values().filter(|found| **found == said).count()
    }
}

async fn send(socket: FailoverSocket, book: Book, sender: usize, mut end: watch::Receiver<bool>) {
    for number in 0.. {
        let id = format!("{sender}-{number}");
        let said = match socket.emit_with_ack("message", json!({"id": id})).await {
            Ok(answer) => {
                assert_eq!(answer["id"], id.as_str(), "the answer of another message");
                Said::Acknowledged
            }
            Err(error) if error.is_not_sent() => Said::NotSent,
            Err(error) => {
                assert!(error.is_unknown());
                assert!(!error.to_string().contains("better server"), "going back cost a message: {error}");
                Said::Unknown
            }
        };
        book.note(id, said);
        if *end.borrow_and_update() {
            return;
        }
    }
}

fn is_at(socket: &FailoverSocket, url: &str) -> bool {
    match socket.state() {
        State::Connected { endpoint } | State::Switching { from: endpoint, .. } => {
            endpoint.as_str().trim_end_matches('/') == url
        }
        _ => false,
    }
}

/// How often each key's change was heard of.
type Counts = BTreeMap<String, usize>;

/// Counts how often each key's change was heard of.
fn count_keys() -> (Arc<Mutex<Counts>>, impl Fn(&Event) + Send + Sync + 'static) {
    let counts = Arc::new(Mutex::new(Counts::new()));
    let keep = Arc::clone(&counts);
    let handler = move |event: &Event| {
        let key = event.data()["content"]["key"].as_str().unwrap_or_default().to_owned();
        *keep.lock().unwrap().entry(key).or_default() += 1;
    };
    (counts, handler)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_message_was_executed_once_while_servers_are_killed_fifty_times() {
    within(DEADLINE, "fifty kills", survives(50, Transports::WebSocket)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn polling_loses_and_repeats_no_acknowledged_message_either() {
    within(DEADLINE, "ten kills", survives(10, Transports::Polling)).await;
}

async fn survives(kills: usize, transports: Transports) {
    let (_directory, journal) = journal();
    // Some time between execution and acknowledgement, so that kills fall between the two.
    let options = SocketIoOptions { ack_delay: Duration::from_millis(5), ..SocketIoOptions::default() };
    let mut servers = [
        SocketIoServer::start(None, &journal, options.clone()).await,
        SocketIoServer::start(None, &journal, options).await,
    ];
    let urls = [servers[0].url(), servers[1].url()];
    let moves = Arc::new(Mutex::new(Vec::new()));
    let (keys, handler) = count_keys();
    let noted = Arc::clone(&moves);
    let socket = hasty(FailoverSocket::socketio(&client(urls.iter().map(String::as_str))))
        .transports(transports)
        .join(join)
        .on("kv-key-changed", handler)
        .catch_up(move |resumed| {
            noted.lock().unwrap().push((resumed.from().clone(), resumed.to().clone(), resumed.cause()));
            async {}
        })
        .open()
        .unwrap();
    let (book, end) = (Book::new(), watch::Sender::new(false));
    let senders: Vec<_> =
        (0..SENDERS).map(|sender| tokio::spawn(send(socket.clone(), book.clone(), sender, end.subscribe()))).collect();
    for kill in 0..kills {
        // It goes back to the first server, under load, and that is killed. In every fourth round the other one is, which
        // serves meanwhile.
        if kill % 4 != 3 {
            connected_to(&socket, &urls[0]).await;
        }
        socket.emit("change-key", json!({"key": format!("key-{kill}")})).await.unwrap();
        book.more(ACKNOWLEDGED_PER_ROUND).await;
        let at = usize::from(is_at(&socket, &urls[1]));
        servers[at].kill().await;
        servers[at].restart().await;
    }
    connected_to(&socket, &urls[0]).await;
    book.more(ACKNOWLEDGED_PER_ROUND).await;
    end.send_replace(true);
    for sender in senders {
        sender.await.unwrap();
    }
    check_messages(&book, &journal_executions(&journal), kills);
    check_moves(&moves.lock().unwrap(), kills);
    let keys: Vec<_> = keys.lock().unwrap().iter().map(|(key, n)| (key.clone(), *n)).collect();
    assert!(keys.len() > kills / 2, "{} events came", keys.len());
    assert!(keys.iter().all(|(_, n)| *n == 1), "a handler was called twice for one event: {keys:?}");
    check_quiet(&socket).await;
    assert!(is_at(&socket, &urls[0]), "back at the first server");
}

fn check_messages(book: &Book, executions: &BTreeMap<String, usize>, kills: usize) {
    let [acknowledged, unknown, not_sent] =
        [Said::Acknowledged, Said::Unknown, Said::NotSent].map(|said| book.count(said));
    println!("{acknowledged} acknowledged, {unknown} unknown, {not_sent} not sent");
    assert!(acknowledged >= kills * ACKNOWLEDGED_PER_ROUND, "{acknowledged}");
    let mut wrong = Vec::new();
    for (id, said) in book.said.lock().unwrap().iter() {
        let executed = executions.get(id).copied().unwrap_or_default();
        let is_right = match said {
            Said::Acknowledged => executed == 1,
            Said::Unknown => executed <= 1,
            Said::NotSent => executed == 0,
        };
        if !is_right {
            wrong.push((id.clone(), *said, executed));
        }
    }
    assert_eq!(wrong, []);
    assert!(unknown > 0, "no kill fell between execution and answer: the test shows nothing");
}

/// Each move began where the last one ended, and there is one for each time the socket came back.
fn check_moves(moves: &[(Url, Url, Cause)], kills: usize) {
    let back = moves.iter().filter(|(_, _, cause)| *cause == Cause::Failback).count();
    println!("{} moves, {back} of them back", moves.len());
    assert!(moves.len() - back >= kills, "{} moves", moves.len());
    assert!(back >= kills / 4, "{back} of {} moves were back to a better server", moves.len());
    for pair in moves.windows(2) {
        assert_eq!(pair[0].1, pair[1].0, "a catch-up is missing or doubled");
    }
}

/// When all is quiet, each event is heard once, and handlers were not added by fifty connections.
async fn check_quiet(socket: &FailoverSocket) {
    let got = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&got);
    socket.on("pushed", move |event| keep.lock().unwrap().push(event.data()["number"].as_u64()));
    let answer = socket.emit_with_ack("push", json!({"n": 5})).await.unwrap();
    assert_eq!(answer, json!({"pushed": 5}));
    assert_eq!(*got.lock().unwrap(), [1, 2, 3, 4, 5].map(Some));
}
