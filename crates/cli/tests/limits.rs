//! Limits on what a client may take, and the targets that nobody may reach through the gateway.

use handover_testkit::{
    Act, Answer, Client, DOORS, Door, GatewayBuilder, GatewayProcess, Origin, Response, Upload, bounded,
};
use tokio::task::JoinSet;

fn gateway() -> GatewayBuilder {
    GatewayProcess::of(env!("CARGO_BIN_EXE_handover")).ordered()
}

async fn served(gateway: &GatewayProcess, origin: &Origin) {
    assert_eq!(Door::Forward.get(gateway.addr(), origin.addr()).await.text(), "served");
}

#[tokio::test]
async fn heads_beyond_the_limits_are_answered_431() {
    bounded(async {
        let origin = Origin::answering("served").await;
        let limits = gateway().node("direct").env("HANDOVER_LIMITS_HEADER_BYTES_MAX", "16KiB");
        let gateway = limits.env("HANDOVER_LIMITS_HEADER_COUNT_MAX", "50").start().await;
        for door in [Door::Forward, Door::Reverse] {
            let lines = door.lines(gateway.addr(), "GET", &origin.addr().to_string(), "/");
            let many: String = (0..60).map(|n| format!("X-{n}: 1\r\n")).collect();
            let long = format!("X-Long: {}\r\n", "x".repeat(20_000));
            for fields in [many, long] {
                let answer = Client::once(gateway.addr(), format!("{lines}{fields}\r\n")).await;
                assert_eq!(answer.status(), 431, "{door:?}");
            }
            let fine: String = (0..40).map(|n| format!("X-{n}: {}\r\n", "x".repeat(200))).collect();
            let answer = Client::once(gateway.addr(), format!("{lines}{fine}\r\n")).await;
            assert_eq!(answer.text(), "served", "{door:?}");
        }
        let target =
            Door::Forward.lines(gateway.addr(), "GET", &origin.addr().to_string(), &format!("/{}", "x".repeat(20_000)));
        let answer = Client::once(gateway.addr(), target + "\r\n").await;
        assert!([414, 431].contains(&answer.status()), "{}", answer.status());
        assert_eq!(origin.request_count(), 2);
        served(&gateway, &origin).await;
    })
    .await;
}

#[tokio::test]
async fn a_slow_head_is_given_up_and_stops_nobody_else() {
    bounded(async {
        let origin = Origin::answering("served").await;
        let limits = gateway().node("direct").env("HANDOVER_WORKERS", "1");
        let gateway = limits.env("HANDOVER_LIMITS_HEADER_TIMEOUT", "500ms").start().await;
        let mut slow = Vec::new();
        for begun in ["", "G", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: h\r\nX-A: "] {
            let mut client = Client::connect(gateway.addr()).await;
            client.send(begun).await.expect("sent");
            slow.push((begun, client));
        }
        // A body that never comes holds its own connection only.
        let mut body = Client::connect(gateway.addr()).await;
        let lines = Door::Forward.lines(gateway.addr(), "POST", &origin.addr().to_string(), "/");
        body.send(format!("{lines}Content-Length: 10\r\n\r\nhalf")).await.expect("sent");
        served(&gateway, &origin).await;
        for (begun, mut client) in slow {
            let end = String::from_utf8_lossy(&client.read_to_end().await.unwrap_or_default()).into_owned();
            assert!(end.is_empty() || end.starts_with("HTTP/1.1 408 "), "{begun:?}: {end}");
        }
        served(&gateway, &origin).await;
    })
    .await;
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    bounded(async {
        let origin = Origin::answering("served").await;
        let gateway = gateway().node("direct").env("HANDOVER_LIMITS_IDLE_TIMEOUT", "300ms").start().await;
        let mut client = Client::connect(gateway.addr()).await;
        let lines = Door::Forward.lines(gateway.addr(), "GET", &origin.addr().to_string(), "/");
        assert_eq!(client.request(lines + "\r\n").await.expect("an answer").text(), "served");
        assert!(client.read_to_end().await.expect("a FIN").is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_client_may_not_take_every_connection() {
    bounded(async {
        let origin = Origin::answering("served").await;
        let limits = gateway().node("direct").env("HANDOVER_LIMITS_CONNECTIONS_PER_CLIENT_MAX", "4");
        let gateway = limits.start().await;
        let mut clients = Vec::new();
        let lines = Door::Forward.lines(gateway.addr(), "GET", &origin.addr().to_string(), "/") + "\r\n";
        for _ in 0..4 {
            let mut client = Client::connect(gateway.addr()).await;
            assert_eq!(client.request(&lines).await.expect("an answer").text(), "served");
            clients.push(client);
        }
        let mut fifth = Client::connect(gateway.addr()).await;
        let answer = fifth.request(&lines).await;
        assert!(answer.is_err() || answer.is_ok_and(|a| [429, 503].contains(&a.status())), "the fifth is turned away");
        drop(clients.pop());
        // Its place is free once the gateway has seen the end, which nothing tells the client: so it asks again.
        loop {
            let mut client = Client::connect(gateway.addr()).await;
            if client.request(&lines).await.is_ok_and(|answer| answer.text() == "served") {
                break;
            }
        }
    })
    .await;
}

/// The answer to `GET /` at `target` through `door`, or to CONNECT when that is no 2xx.
async fn ask(door: Door, gateway: &GatewayProcess, target: &str) -> Response {
    match door.enter(gateway.addr(), target).await {
        Ok(mut client) => {
            let get = door.lines(gateway.addr(), "GET", target, "/") + "\r\n";
            client.request(get).await.expect("an answer")
        }
        Err(answer) => answer,
    }
}

#[tokio::test]
async fn private_targets_are_refused_where_the_gateway_is_open_to_others() {
    bounded(async {
        let origin = Origin::answering("never").await;
        let port = origin.addr().port();
        let own = gateway().node("direct").env("HANDOVER_ALLOW_PRIVATE_TARGETS", "false").start().await;
        for door in DOORS {
            for host in [
                "127.0.0.1",
                "localhost",
                "LOCALHOST.",
                "x.localhost",
                "127.1",
                "0x7f.0.0.1",
                "2130706433",
                "0.0.0.0",
                "[::1]",
                "[::ffff:127.0.0.1]",
                "[::]",
                "169.254.169.254",
                "[fe80::1]",
                "10.0.0.1",
                "192.168.1.1",
                "172.16.0.1",
                "100.64.0.1",
                "[fd00::1]",
                "224.0.0.1",
                "255.255.255.255",
            ] {
                let target = format!("{host}:{port}");
                let answer = ask(door, &own, &target).await;
                assert_eq!((answer.status(), answer.code()), (403, "TARGET_DENIED"), "{door:?} {host}");
            }
        }
        assert_eq!(origin.accepted(), 0);
    })
    .await;
}

#[tokio::test]
async fn slow_readers_and_writers_do_not_stop_others() {
    bounded(async {
        let body = handover_testkit::Body::Pattern;
        let origin = Origin::scripted(move |arrival| {
            let large = arrival.head.target() == "/large";
            Act::Answer(if large { Answer::ok("").body(body(32 * 1024 * 1024)) } else { Answer::ok("served") })
        })
        .await;
        let gateway = gateway().node("direct").env("HANDOVER_WORKERS", "1").start().await;
        let target = origin.addr().to_string();
        let mut stuck = Vec::new();
        for door in DOORS {
            // One that asks for much and reads nothing, and one that begins a large upload and goes no further.
            let mut reader = door.enter(gateway.addr(), &target).await.expect("direct lets it in");
            reader.send(door.lines(gateway.addr(), "GET", &target, "/large") + "\r\n").await.expect("sent");
            let mut writer = door.enter(gateway.addr(), &target).await.expect("direct lets it in");
            let head = door.lines(gateway.addr(), "POST", &target, "/");
            let framing = handover_testkit::Framing::Length;
            let upload = Upload { head, bytes: 1_000_000, framing, expect: false };
            writer.send(upload.head_bytes() + "begun").await.expect("sent");
            stuck.extend([reader, writer]);
        }
        let mut others = JoinSet::new();
        for n in 0..30 {
            let (gateway, origin) = (gateway.addr(), origin.addr());
            others.spawn(async move { DOORS[n % 3].get(gateway, origin).await.text() });
        }
        assert!(others.join_all().await.iter().all(|text| text == "served"));
        drop(stuck);
    })
    .await;
}

#[tokio::test]
async fn without_file_descriptors_it_says_so_and_serves_again_when_there_are_some() {
    use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
    bounded(async {
        let origin = Origin::answering("served").await;
        let gateway = gateway().node("direct").env("HANDOVER_WORKERS", "1").start().await;
        served(&gateway, &origin).await;
        let open = std::fs::read_dir(format!("/proc/{}/fd", gateway.pid())).expect("it runs").count() as u64;
        let pid = Pid::from_raw(i32::try_from(gateway.pid()).expect("a process id")).expect("not zero");
        let few = Rlimit { current: Some(open + 8), ..getrlimit(Resource::Nofile) };
        prlimit(Some(pid), Resource::Nofile, few).expect("it is ours");
        let mut crowd = Vec::new();
        for _ in 0..40 {
            crowd.push(Client::connect(gateway.addr()).await);
        }
        gateway.stderr_until("no file descriptor left; raise its limit (ulimit -n)").await;
        drop(crowd);
        served(&gateway, &origin).await;
    })
    .await;
}

#[tokio::test]
async fn with_few_file_descriptors_some_are_kept_for_the_nodes() {
    use std::os::unix::fs::PermissionsExt;
    bounded(async {
        let origin = Origin::answering("served").await;
        let directory = tempfile::tempdir().expect("a temporary directory");
        let script = directory.path().join("limited");
        let text = format!("#!/bin/sh\nulimit -n 64\nexec {} \"$@\"\n", env!("CARGO_BIN_EXE_handover"));
        std::fs::write(&script, text).expect("the directory is writable");
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
        let limited = GatewayProcess::of(script.to_str().expect("a plain path"));
        let gateway = limited.node("direct").env("HANDOVER_WORKERS", "1").start().await;
        gateway.stderr_until("clients at a time are let in, not 10000").await;
        let mut first = Client::connect(gateway.addr()).await;
        let mut crowd = Vec::new();
        for _ in 0..60 {
            crowd.push(Client::connect(gateway.addr()).await);
        }
        let lines = Door::Forward.lines(gateway.addr(), "GET", &origin.addr().to_string(), "/");
        assert_eq!(first.request(lines + "\r\n").await.expect("an answer").text(), "served");
    })
    .await;
}
