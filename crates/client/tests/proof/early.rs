//! An answer that comes before its request was written: who goes on elsewhere with the request, or lets go of the answer,
//! sends nothing more of it. Without that a server would read, and could execute, what was executed by another meanwhile.

use std::net::SocketAddr;
use std::time::Duration;

use handover_testkit::{Act, Answer, DeadPort, Gate, Origin, bounded};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Longer than loopback's buffers hold.
const BODY_BYTES: usize = 16 << 20;

/// A server that answers after the first piece of a request and reads no more of it until it is told to.
struct Hasty {
    url: String,
    reads_on: Gate,
    /// Open when it has read all that the kernel had.
    has_read: Gate,
    /// How many bytes it had read then, and how many when the connection was over.
    counts: JoinHandle<(usize, usize)>,
}

impl Hasty {
    async fn answering(answer: &'static [u8]) -> Self {
        Self::answering_in_two(answer, b"").await
    }

    /// Says the rest of its answer when it has read what there was.
    async fn answering_in_two(answer: &'static [u8], rest: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let (reads_on, has_read) = (Gate::new(), Gate::new());
        let (told, done) = (reads_on.clone(), has_read.clone());
        let counts = tokio::spawn(async move {
            let (mut tcp, client) = listener.accept().await.expect("a connection");
            let mut piece = vec![0; 64 * 1024];
            let mut count = tcp.read(&mut piece).await.expect("a piece");
            tcp.write_all(answer).await.expect("it is there");
            told.wait().await;
            count += read_what_is_there(&mut tcp, client, &mut piece).await;
            tcp.write_all(rest).await.expect("it is there");
            done.open();
            let mut all = count;
            while let Ok(1..) = tcp.read(&mut piece).await.inspect(|bytes| all += bytes) {}
            (count, all)
        });
        Self { url, reads_on, has_read, counts }
    }
}

/// Reads until the kernel has nothing more of what the client wrote, on neither side.
async fn read_what_is_there(tcp: &mut TcpStream, client: SocketAddr, piece: &mut [u8]) -> usize {
    let mut count = 0;
    loop {
        // Loopback hands over in microseconds; nothing depends on this time, as the kernel is asked then.
        match tokio::time::timeout(Duration::from_millis(10), tcp.read(piece)).await {
            Ok(bytes) => count += bytes.expect("the connection stands"),
            Err(_) if queued_bytes(client, tcp.local_addr().expect("connected")) == 0 => return count,
            Err(_) => {}
        }
    }
}

/// What the kernel has of the client's bytes: the send queue of one socket and the receive queue of the other (proc(5)).
fn queued_bytes(client: SocketAddr, server: SocketAddr) -> u64 {
    let table = std::fs::read_to_string("/proc/self/net/tcp").expect("Linux tells");
    let hex = |text: &str| u64::from_str_radix(text, 16).expect("hexadecimal");
    let port = |place: &str| hex(place.rsplit(':').next().expect("a port"));
    let (client, server) = (u64::from(client.port()), u64::from(server.port()));
    let queues = table.lines().skip(1).map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (to_send, received) = fields[4].split_once(':').expect("two queues");
        match (port(fields[1]), port(fields[2])) {
            ends if ends == (client, server) => hex(to_send),
            ends if ends == (server, client) => hex(received),
            _ => 0,
        }
    });
    queues.sum()
}

fn assert_nothing_more((read, all): (usize, usize)) {
    assert!(read < BODY_BYTES, "the kernel held all of it, which shows nothing");
    assert_eq!(all, read, "something was written after the request was given up here");
}

#[tokio::test]
async fn a_request_that_goes_on_behind_an_early_answer_is_not_written_on_where_it_came_from() {
    bounded(async {
        let first = Hasty::answering(b"HTTP/1.1 503 no\r\ncontent-length: 0\r\n\r\n").await;
        let held = first.has_read.clone();
        let second = Origin::scripted(move |_| Act::Answer(Answer::ok("done").held_by(&held))).await;
        let client = super::rotation([first.url.clone(), second.url()]).build().expect("valid");
        // The first one makes room for more when the second has executed the request, and before it answers.
        let reads_on = async {
            second.ledger().until(|seen| seen.iter().any(|at| at.requests.iter().any(|one| one.complete))).await;
            first.reads_on.open();
        };
        let answer = tokio::join!(client.put("/").body(vec![b'x'; BODY_BYTES]).send(), reads_on).0;
        assert_eq!(answer.expect("answered by the second").status(), 200);
        assert_nothing_more(first.counts.await.expect("no panic"));
    })
    .await;
}

#[tokio::test]
async fn an_early_answer_that_failover_comes_back_to_is_read_and_nothing_is_written_meanwhile() {
    bounded(async {
        let first = Hasty::answering_in_two(b"HTTP/1.1 503 no\r\ncontent-length: 10\r\n\r\nhello", b"world").await;
        let dead = DeadPort::new();
        let client = super::rotation([first.url.clone(), format!("http://{}", dead.addr())]).build().expect("valid");
        let answer = client.put("/").body(vec![b'x'; BODY_BYTES]).send().await.expect("what the first one said");
        first.reads_on.open();
        first.has_read.wait().await;
        assert_eq!((answer.status().as_u16(), answer.text().await.expect("whole").as_str()), (503, "helloworld"));
        assert_nothing_more(first.counts.await.expect("no panic"));
    })
    .await;
}

#[tokio::test]
async fn an_early_answer_that_is_dropped_takes_the_rest_of_its_request_along() {
    bounded(async {
        let answers: [&[u8]; 2] = [
            b"HTTP/1.1 200 early\r\ncontent-length: 5\r\n\r\nhello",
            b"HTTP/1.1 200 early\r\ncontent-length: 9\r\n\r\nhello",
        ];
        for bytes in answers {
            let server = Hasty::answering(bytes).await;
            let client = super::rotation([server.url.clone()]).build().expect("valid");
            let answer = client.post("/").body(vec![b'x'; BODY_BYTES]).send().await.expect("answered");
            server.reads_on.open();
            server.has_read.wait().await;
            drop(answer);
            assert_nothing_more(server.counts.await.expect("no panic"));
        }
    })
    .await;
}
