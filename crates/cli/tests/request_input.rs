//! `handover request` where what it is given is odd: files that change, pipes that are late, lines that cannot be meant,
//! redirects, proxies.

#[path = "command/run.rs"]
#[allow(dead_code, reason = "each test uses its part")]
mod command;

use std::path::Path;

use command::{ended, handover, run};
use handover_testkit::{Act, Answer, DeadPort, Gate, H2Act, H2Answer, H2Origin, Origin, bounded};

/// A named pipe.
fn pipe(directory: &Path) -> String {
    let path = directory.join("pipe");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).expect("a pipe can be made");
    path.to_str().expect("UTF-8").to_owned()
}

#[tokio::test]
async fn a_pipe_is_waited_for_and_no_longer_than_the_deadline() {
    bounded(async {
        let directory = tempfile::tempdir().expect("a directory");
        let pipe = pipe(directory.path());
        let origin = Origin::answering("taken").await;
        let late =
            run(["request", "POST", "/", "-e", &origin.url(), "--data-file", &pipe, "--deadline", "300ms"]).await;
        assert_eq!(late.code, Some(4), "{late:?}");
        assert!(late.stderr.contains("timeout"), "{late:?}");
        assert!(origin.requests().iter().all(|request| !request.complete), "nothing is no body");
        let child =
            handover(["request", "POST", "/", "-e", &origin.url(), "--data-file", &pipe]).spawn().expect("built");
        // The writer comes when the request is there already.
        origin.ledger().until(|connections| connections.len() == 2).await;
        let writing = tokio::task::spawn_blocking(move || std::fs::write(pipe, "late"));
        let ended = ended(child).await;
        writing.await.expect("no panic").expect("somebody reads");
        assert_eq!((ended.code, ended.text()), (Some(0), "taken"), "{ended:?}");
        assert_eq!(origin.requests().last().expect("two came").body, b"late");
    })
    .await;
}

#[tokio::test]
async fn a_file_that_changes_between_attempts_is_not_sent_as_something_it_never_was() {
    bounded(async {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("body.txt");
        let file = path.to_str().expect("UTF-8").to_owned();
        for change in ["much longer than it was", "other", ""] {
            std::fs::write(&path, "whole").expect("writable");
            let gate = Gate::new();
            let held = gate.clone();
            let first = Origin::scripted(move |_| Act::Answer(Answer::status(500, "").held_by(&held))).await;
            let second = Origin::answering("taken").await;
            let endpoints = ["-e", &first.url(), "-e", &second.url()].map(str::to_owned);
            let arguments = ["request", "POST", "/", "--data-file", &file].map(str::to_owned);
            let child = handover(arguments.into_iter().chain(endpoints)).spawn().expect("built");
            first.ledger().until(|seen| seen.iter().any(|c| c.requests.iter().any(|r| r.complete))).await;
            if change.is_empty() {
                std::fs::remove_file(&path).expect("it is there");
            } else {
                // Another file of the same name, so that even a coarse clock cannot hide it.
                std::fs::write(directory.path().join("new"), change).expect("writable");
                std::fs::rename(directory.path().join("new"), &path).expect("on the same disk");
            }
            gate.open();
            let ended = ended(child).await;
            assert_eq!(ended.code, Some(4), "{change:?}: {ended:?}");
            assert!(ended.stderr.contains("body.txt"), "{change:?}: {ended:?}");
            assert!(!ended.stderr.contains("the caller gave the request up"), "{change:?}: {ended:?}");
            assert!(second.requests().iter().all(|request| !request.complete), "{change:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn every_hop_of_a_redirect_is_shown_and_one_that_is_not_followed_is_told() {
    bounded(async {
        let there = Origin::answering("there").await;
        let place = format!("{}/there", there.url());
        let here = Origin::scripted(move |_| Act::Answer(Answer::status(302, "").header("location", &place))).await;
        let followed = run(["request", "GET", "/", "-e", &here.url(), "-L", "1"]).await;
        assert_eq!(
            (followed.code, followed.text(), followed.stderr.lines().count()),
            (Some(0), "there", 2),
            "{followed:?}"
        );
        let json = run(["request", "GET", "/", "-e", &here.url(), "-L", "1", "--json"]).await.json();
        let statuses: Vec<_> =
            json["record"]["attempts"].as_array().expect("a list").iter().map(|a| &a["status"]).collect();
        assert_eq!((statuses, &json["record"]["fate"]), (vec![&302.into(), &200.into()], &"answered".into()));
        let round = Origin::scripted(|_| Act::Answer(Answer::status(302, "").header("location", "/again"))).await;
        let ended = run(["request", "GET", "/", "-e", &round.url(), "-L", "2"]).await;
        assert!(ended.stderr.contains("the redirect to /again was not followed"), "{ended:?}");
        assert_eq!((ended.code, round.request_count()), (Some(0), 3));
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_before_anything_is_sent_and_without_secrets() {
    bounded(async {
        let origin = Origin::answering("never").await;
        let url = origin.url();
        let many: Vec<_> = (1..=33).flat_map(|port| ["-e".to_owned(), format!("http://127.0.0.1:{port}")]).collect();
        let cases = [
            (vec!["-e", "sekret:@127.0.0.1:1"], "begins with http:// or https://"),
            (vec!["-e", "http://h/#part"], "has a fragment"),
            (vec!["-e", &url, "--proxy", "sekret:x@[bad"], "the proxy `[bad` cannot be read"),
            (vec!["-e", &url, "--discover", "http://x/"], "--discover: a path"),
            (vec!["-e", &url, "--discover", ""], "--discover: a path"),
            (vec!["-e", &url, "-L", "101"], "101 is not in 0..=100"),
            (many.iter().map(String::as_str).collect(), "33 were given"),
            (vec!["-e", &url, "-H", "Host: a", "-H", "Host: b"], "the field Host must be one"),
            (vec!["-e", &url, "-H", "Host:"], "the field Host must be one"),
        ];
        for (arguments, expected) in cases {
            let ended = run(["request", "GET", "/"].into_iter().chain(arguments.iter().copied())).await;
            assert_ne!(ended.code, Some(0), "{arguments:?}: {ended:?}");
            assert!(ended.stderr.contains(expected), "{arguments:?}: {ended:?}");
            assert!(!ended.stderr.contains("sekret"), "{ended:?}");
        }
        assert_eq!(origin.accepted(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_proxy_that_fails_is_named_and_one_that_cannot_be_used_is_told() {
    bounded(async {
        let (dead, origin) = (DeadPort::new(), Origin::answering("direct").await);
        let proxy = dead.addr().to_string();
        let ended_at_proxy = run(["request", "GET", "/", "-e", &origin.url(), "--proxy", &proxy]).await;
        assert_eq!(ended_at_proxy.code, Some(3));
        assert!(ended_at_proxy.stderr.contains(&format!("proxy {proxy}: connection refused")), "{ended_at_proxy:?}");
        for value in ["ftp://u:sekret@h", "http://u:sekret@[bad"] {
            let mut command = handover(["request", "GET", "/", "-e", &origin.url()]);
            let told = ended(command.env("HTTP_PROXY", value).spawn().expect("built")).await;
            assert_eq!((told.code, told.text()), (Some(0), "direct"), "{told:?}");
            assert!(told.stderr.contains("HTTP_PROXY names no proxy that can be used"), "{told:?}");
            assert!(!told.stderr.contains("sekret"), "{told:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn http_2_is_spoken_without_tls_where_it_is_asked_for() {
    bounded(async {
        let origin = H2Origin::scripted(|_| H2Act::Answer(H2Answer::ok("two"))).await;
        let ended = run(["request", "GET", "/", "-e", &origin.url(), "--http2-prior-knowledge"]).await;
        assert_eq!((ended.code, ended.text()), (Some(0), "two"), "{ended:?}");
    })
    .await;
}
