//! The connection is cut at every byte of a request, plain and inside TLS.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use handover_client::{Fate, Sent};
use handover_testkit::{Authority, End, Origin, TEST_DEADLINE, reset, within};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Reads `bytes` of what each connection says, and ends it. What was read of the last one is told.
struct Cutting {
    url: String,
    bytes: Arc<AtomicU64>,
    read: Arc<AtomicU64>,
    task: tokio::task::AbortHandle,
}

impl Cutting {
    async fn start(authority: Option<&Authority>, how: End) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let scheme = if authority.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.local_addr().expect("bound"));
        let acceptor = authority.map(|authority| authority.acceptor(&["127.0.0.1"], &["http/1.1"]));
        let (bytes, read) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (limit, seen) = (Arc::clone(&bytes), Arc::clone(&read));
        let task = tokio::spawn(async move {
            while let Ok((mut tcp, _)) = listener.accept().await {
                let limit = limit.load(Ordering::SeqCst);
                match &acceptor {
                    None => {
                        take(&mut tcp, limit, &seen).await;
                        if how == End::Reset { reset(&tcp) } else { drop(tcp.shutdown().await) }
                    }
                    Some(acceptor) => {
                        let Ok(mut tls) = acceptor.accept(tcp).await else { continue };
                        take(&mut tls, limit, &seen).await;
                        let (tcp, _) = tls.get_mut();
                        if how == End::Reset { reset(tcp) } else { drop(tcp.shutdown().await) }
                    }
                }
            }
        });
        Self { url, bytes, read, task: task.abort_handle() }
    }
}

impl Drop for Cutting {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn take(io: &mut (impl AsyncRead + Unpin), limit: u64, seen: &AtomicU64) {
    seen.store(0, Ordering::SeqCst);
    for _ in 0..limit {
        if io.read_u8().await.is_err() {
            return;
        }
        seen.fetch_add(1, Ordering::SeqCst);
    }
}

/// For every cut in the first 300 bytes: a request goes to the second server only if the first has read nothing of it, and what
/// is said to be unsent was not read.
async fn a_cut_at_every_byte(is_tls: bool, how: End) {
    let authority = is_tls.then(Authority::new);
    let cutting = Cutting::start(authority.as_ref(), how).await;
    let whole = Origin::answering("whole").await;
    let mut builder = super::rotation([cutting.url.as_str(), &whole.url()]);
    if let Some(authority) = &authority {
        builder = builder.ca_certificate_file(authority.file());
    }
    let client = builder.budget(None).build().expect("valid");
    let (mut unsent, mut unknown) = (0, 0);
    for cut in 0..=300 {
        cutting.bytes.store(cut, Ordering::SeqCst);
        let before = whole.request_count();
        // Head and body together are more than 300 bytes.
        let result = client.post("/cut").header("x-id", cut.to_string()).body("b".repeat(300)).send().await;
        let again = whole.request_count() - before;
        match result {
            Ok(answer) => {
                let first = answer.record().attempts().next().expect("one at least");
                assert_eq!((first.sent(), again), (Sent::No, 1), "{cut}: {:?}", answer.record());
                assert_eq!(cutting.read.load(Ordering::SeqCst), 0, "{cut}: said to be unsent, and read");
                unsent += 1;
            }
            Err(error) => {
                assert_eq!((error.fate(), again), (Fate::Unknown, 0), "{cut}: {error}");
                unknown += 1;
            }
        }
    }
    assert!(unknown >= 300, "{unsent} unsent, {unknown} unknown");
}

#[tokio::test]
async fn a_connection_cut_at_every_byte_never_lets_a_post_arrive_twice() {
    within(TEST_DEADLINE, "all cuts", async {
        a_cut_at_every_byte(false, End::Fin).await;
        a_cut_at_every_byte(false, End::Reset).await;
    })
    .await;
}

#[tokio::test]
async fn a_tls_connection_cut_at_every_byte_never_lets_a_post_arrive_twice() {
    within(TEST_DEADLINE, "all cuts", async {
        a_cut_at_every_byte(true, End::Fin).await;
        a_cut_at_every_byte(true, End::Reset).await;
    })
    .await;
}
