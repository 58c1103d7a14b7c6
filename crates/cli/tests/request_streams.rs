//! `handover request` where bytes flow: large bodies in little memory, files that are sent again, pipes that close, TLS,
//! and the signal INT at every point.

#[path = "command/run.rs"]
#[allow(dead_code, reason = "each test uses its part")]
mod command;

use std::io::Write as _;
use std::process::Stdio;

use command::{ended, handover, interrupt, run};
use handover_testkit::{
    Act, Answer, Authority, BlackholePort, Body, DeadPort, End, Gate, H2Origin, Origin, bounded, is_pattern,
    pattern_at, peak_memory,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Far more than may be kept, and little enough for a build without optimisation.
const LARGE: u64 = 96 * 1024 * 1024;

/// What the process may have at its peak: the program itself (some 20 MiB without optimisation) and buffers.
const MEMORY_MAX: u64 = 48 * 1024 * 1024;

/// A file with this much of the pattern.
fn pattern_file(length: u64) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("the temporary directory is writable");
    let mut at = 0;
    while at < length {
        let piece = pattern_at(at, usize::try_from(length - at).unwrap_or(usize::MAX));
        file.write_all(piece).expect("there is room");
        at += piece.len() as u64;
    }
    file
}

fn path(file: &tempfile::NamedTempFile) -> &str {
    file.path().to_str().expect("UTF-8")
}

#[tokio::test]
async fn a_large_answer_flows_through_in_little_memory() {
    bounded(async {
        let origin = Origin::scripted(|_| Act::Answer(Answer::ok("").body(Body::Pattern(LARGE)))).await;
        let mut child = handover(["request", "GET", "/", "-e", &origin.url()]).spawn().expect("it was built");
        let (mut stdout, mut at, mut buffer) = (child.stdout.take().expect("piped"), 0, vec![0; 1 << 20]);
        while at < LARGE {
            let read = stdout.read(&mut buffer).await.expect("readable");
            assert!(read > 0 && is_pattern(at, &buffer[..read]), "at {at}");
            at += read as u64;
            // What a pipe holds may be all that is left of a process that has ended.
            if at < LARGE - (1 << 20) {
                let peak = peak_memory(child.id().expect("it runs"));
                assert!(peak < MEMORY_MAX, "{peak}");
            }
        }
        assert_eq!(ended(child).await.code, Some(0));
    })
    .await;
}

#[tokio::test]
async fn a_large_file_is_sent_with_its_length_in_little_memory_and_again_when_the_first_endpoint_fails() {
    bounded(async {
        let file = pattern_file(LARGE);
        let first = Origin::scripted(|_| Act::EndAfter(LARGE / 2, End::Fin)).await;
        let gate = Gate::new();
        let held = gate.clone();
        let second = Origin::scripted(move |_| Act::Answer(Answer::ok("taken").held_by(&held))).await;
        let arguments = ["request", "PUT", "/", "-e", &first.url(), "-e", &second.url(), "--attempt-timeout", "60s"];
        let child = handover(arguments.into_iter().chain(["--data-file", path(&file)])).spawn().expect("it was built");
        second.ledger().until(|seen| seen.iter().any(|one| one.requests.iter().any(|request| request.complete))).await;
        let peak = peak_memory(child.id().expect("it runs"));
        gate.open();
        let ran = ended(child).await;
        assert_eq!((ran.code, ran.text()), (Some(0), "taken"), "{ran:?}");
        assert!(peak < MEMORY_MAX, "{peak}");
        let seen = &second.requests()[0];
        assert!(seen.patterned && seen.body_bytes == LARGE, "{}", seen.body_bytes);
        assert_eq!(seen.head.header("content-length"), Some(&*LARGE.to_string()));
    })
    .await;
}

#[tokio::test]
async fn stdin_goes_to_the_next_endpoint_while_none_of_it_was_read_and_never_twice() {
    bounded(async {
        let (port, origin) = (DeadPort::new(), Origin::answering("taken").await);
        let refusing = format!("http://{}", port.addr());
        let send = async |endpoints: [&str; 2]| {
            let arguments =
                ["request", "PUT", "/", "-e", endpoints[0], "-e", endpoints[1], "--data-file", "-", "--json"];
            let mut child = handover(arguments).stdin(Stdio::piped()).spawn().expect("it was built");
            let mut stdin = child.stdin.take().expect("piped");
            stdin.write_all(b"from a pipe").await.expect("it reads");
            drop(stdin);
            ended(child).await
        };
        assert_eq!(send([&refusing, &origin.url()]).await.code, Some(0));
        assert_eq!(origin.requests()[0].body, b"from a pipe");
        let failing = Origin::scripted(|_| Act::EndAfter(11, End::Fin)).await;
        let ran = send([&failing.url(), &origin.url()]).await;
        let json = ran.json();
        assert_eq!((ran.code, &json["record"]["reason"]), (Some(4), &"body_consumed".into()), "{json}");
        assert_eq!(origin.request_count(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_the_command_in_order() {
    bounded(async {
        let origin = Origin::scripted(|_| Act::Answer(Answer::ok("").body(Body::Pattern(LARGE)))).await;
        let mut child = handover(["request", "GET", "/", "-e", &origin.url()]).spawn().expect("it was built");
        let mut stdout = child.stdout.take().expect("piped");
        stdout.read_exact(&mut [0; 10]).await.expect("readable");
        drop(stdout);
        let ran = ended(child).await;
        assert_eq!((ran.code, ran.stderr.lines().count()), (Some(0), 1), "{ran:?}");
    })
    .await;
}

#[tokio::test]
async fn a_piece_of_the_answer_is_shown_as_soon_as_it_comes() {
    bounded(async {
        let (answer, writer) = Answer::stream();
        let answer = std::sync::Mutex::new(Some(answer));
        let take = move || answer.lock().expect("nobody panics").take().expect("one request");
        let origin = Origin::scripted(move |_| Act::Answer(take())).await;
        let mut child = handover(["request", "GET", "/", "-e", &origin.url()]).spawn().expect("it was built");
        let mut stdout = child.stdout.take().expect("piped");
        for piece in ["one\ntwo", "three"] {
            writer.send(piece);
            let mut read = vec![0; piece.len()];
            stdout.read_exact(&mut read).await.expect("it comes while the body is open");
            assert_eq!(read, piece.as_bytes());
        }
        // And the signal cuts it off: the request was answered, which is said.
        interrupt(&child);
        let ran = ended(child).await;
        assert_eq!(ran.code, Some(130));
        assert!(ran.stderr.contains("interrupted: the request was answered"), "{}", ran.stderr);
    })
    .await;
}

#[tokio::test]
async fn interrupted_it_says_what_is_known_and_sends_nothing_more() {
    bounded(async {
        let hanging = Origin::scripted(|_| Act::Hang).await;
        let other = Origin::answering("never").await;
        let arguments = ["request", "GET", "/", "-e", &hanging.url(), "-e", &other.url(), "--json"];
        let child = handover(arguments).spawn().expect("it was built");
        hanging.ledger().until(|seen| seen.iter().any(|one| !one.requests.is_empty())).await;
        interrupt(&child);
        let ran = ended(child).await;
        let json = ran.json();
        assert_eq!((ran.code, &json["outcome"], &json["status"]), (Some(130), &"unknown".into(), &().into()), "{json}");
        assert_eq!(json["record"]["attempts"][0]["fault"], "cancelled", "{json}");
        assert!(ran.stderr.contains("interrupted: unknown"), "{}", ran.stderr);
        assert_eq!(other.accepted(), 0);
    })
    .await;
}

#[tokio::test]
async fn interrupted_while_nobody_reads_its_output_it_ends() {
    bounded(async {
        let origin = Origin::scripted(|_| Act::Answer(Answer::ok("").body(Body::Pattern(LARGE)))).await;
        let mut child = handover(["request", "GET", "/", "-e", &origin.url()]).spawn().expect("it was built");
        let stdout = child.stdout.take().expect("piped");
        // A pipe of one page: when it is full, the write that filled it waits, as a piece of the body is larger.
        rustix::pipe::fcntl_setpipe_size(&stdout, 4096).expect("nothing is in it yet");
        while rustix::io::ioctl_fionread(&stdout).expect("a pipe can be asked") < 4096 {
            tokio::task::yield_now().await;
        }
        interrupt(&child);
        let ran = ended(child).await;
        assert!(ran.code == Some(130) && ran.stderr.contains("interrupted"), "{ran:?}");
        drop(stdout);
    })
    .await;
}

#[tokio::test]
async fn interrupted_while_it_dials_nothing_was_sent() {
    bounded(async {
        let hole = BlackholePort::new().await;
        let arguments = ["request", "GET", "/", "-e", &format!("http://{}", hole.addr()), "--json"];
        let mut child = handover(arguments).spawn().expect("it was built");
        // The connection is in the kernel's table as soon as it is asked for.
        let pid = child.id().expect("it runs");
        while !dials(pid) {
            assert!(child.try_wait().expect("it can be asked").is_none(), "it goes on dialling");
            tokio::task::yield_now().await;
        }
        interrupt(&child);
        let ran = ended(child).await;
        let json = ran.json();
        assert_eq!((ran.code, &json["outcome"]), (Some(130), &"not_sent".into()), "{json}");
        assert_eq!(json["record"]["attempts"][0]["sent"], "No");
    })
    .await;
}

/// Whether this process waits for a connection: some socket of it is in the state SYN-SENT.
fn dials(pid: u32) -> bool {
    let Ok(table) = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")) else { return false };
    let Ok(descriptors) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let sockets: Vec<_> = descriptors.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok()).collect();
    table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>()).any(|columns| {
        // Column 3 is the state (02: SYN-SENT), column 9 the inode (proc(5)).
        columns[3] == "02" && sockets.iter().any(|socket| socket.as_os_str() == &*format!("socket:[{}]", columns[9]))
    })
}

#[tokio::test]
async fn http_2_is_spoken_where_the_server_chooses_it() {
    bounded(async {
        let authority = Authority::new();
        let origin = H2Origin::builder().tls(authority.acceptor(&["127.0.0.1"], &["h2"])).start().await;
        let (url, ca) = (format!("https://{}", origin.addr()), authority.file());
        let trusting = ["--cacert", ca.to_str().expect("UTF-8")];
        let shown = run(["request", "GET", "/", "-e", &url, "-i"].into_iter().chain(trusting)).await;
        assert!(shown.code == Some(0) && shown.text().starts_with("HTTP/2.0 200 OK\r\n"), "{shown:?}");
        let tested = run(["check", &url, "--json"].into_iter().chain(trusting)).await.json();
        assert!(tested["endpoints"][0]["first_byte_ms"].is_number(), "{tested}");
        assert_eq!(origin.requests().len(), 2);
    })
    .await;
}

#[tokio::test]
async fn certificates_come_from_the_flag_or_the_variable() {
    bounded(async {
        let authority = Authority::new();
        let origin = Origin::builder().script(|_| Act::Answer(Answer::ok("safe")));
        let origin = origin.tls(authority.acceptor(&["127.0.0.1"], &["http/1.1"])).start().await;
        let url = format!("https://{}", origin.addr());
        let (own, other) = (authority.file(), Authority::new());
        let own = own.to_str().expect("UTF-8");
        let arguments = ["request", "GET", "/", "-e", &url];
        assert_eq!(run(arguments.into_iter().chain(["--cacert", own])).await.text(), "safe");
        let child = handover(arguments).env("SSL_CERT_FILE", own).spawn().expect("it was built");
        assert_eq!(ended(child).await.text(), "safe");
        let child = handover(arguments).env("SSL_CERT_FILE", other.file()).spawn().expect("it was built");
        let ran = ended(child).await;
        assert_eq!((ran.code, origin.request_count()), (Some(3), 2), "nothing is sent to whom nobody vouches for");
        assert!(ran.stderr.contains("tls: tls"), "{}", ran.stderr);
    })
    .await;
}
