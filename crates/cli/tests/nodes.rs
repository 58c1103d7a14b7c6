//! Nodes that fail before anything of the request left: every such failure goes on to another node, whatever the kind of
//! the node and whatever it says, and the last error is the one the client gets.

use std::time::Duration;

use handover_testkit::{
    Act, Answer, Arrival, Authority, BlackholePort, Bytes, Client, DOORS, DeadPort, Directory, Door, End,
    GatewayBuilder, GatewayProcess, Greeting, HttpProxyNode, NodeAct, Origin, Socks5Node, SocksAct, bounded, within,
};

fn gateway() -> GatewayBuilder {
    GatewayProcess::of(env!("CARGO_BIN_EXE_handover")).ordered()
}

/// Sends a POST through `door` with a bad node before a good one, and checks that the good one served it, once.
async fn survives(door: Door, bad: &str, stages: &[&str], faults: &[&str]) {
    let origin = Origin::answering("served").await;
    let live = HttpProxyNode::relay(Directory::new()).await;
    // Only those that are to time out do it soon: a loaded machine may take a while for the others.
    let limit = if faults == ["timeout"] { "1s" } else { "20s" };
    let gateway = gateway().node(bad).node(&live.tagged("live")).platform("CONNECT_TIMEOUT", limit).start().await;
    let answer = door.post(gateway.addr(), origin.addr(), "work").await;
    assert_eq!((answer.status(), answer.text().as_str()), (200, "served"), "{door:?} {bad}");
    let row = gateway.only_row().await;
    let story_of = |stage: &&str| {
        let stage = (*stage).to_owned();
        faults.iter().map(move |fault| format!("bad: {stage} {fault} sent=no -> try_next(not_sent)"))
    };
    let stories: Vec<_> = stages.iter().flat_map(story_of).collect();
    let story = row.story();
    assert!(stories.contains(&story[0]), "{door:?} {bad}: {story:?}, expected one of {stories:?}");
    assert_eq!(story[1..], ["live: ok -> done(answered)"], "{door:?} {bad}");
    assert_eq!((live.accepted(), origin.request_count()), (1, 1), "{door:?} {bad}");
}

/// Tries all doors at the same time: most of a case is waiting, for a time limit or for the log to be written.
async fn each_door(case: impl AsyncFn(Door)) {
    tokio::join!(bounded(case(Door::Forward)), bounded(case(Door::Connect)), bounded(case(Door::Reverse)));
}

#[tokio::test]
async fn a_node_that_refuses_connect_is_left_for_another() {
    each_door(async |door| {
        for (act, faults) in [
            (NodeAct::Refuse(403), ["proxy_refused"]),
            (NodeAct::Refuse(404), ["proxy_refused"]),
            (NodeAct::Refuse(407), ["proxy_auth"]),
            (NodeAct::Refuse(500), ["proxy_refused"]),
            (NodeAct::Refuse(502), ["proxy_refused"]),
            (NodeAct::Refuse(503), ["proxy_refused"]),
            (NodeAct::Auth("someone", "else"), ["proxy_auth"]),
            (NodeAct::Say(Bytes::from_static(b"SSH-2.0-OpenSSH\r\n\r\n"), End::Fin), ["protocol"]),
            (NodeAct::EndAfterHead(End::Fin), ["closed"]),
            (NodeAct::EndAfterHead(End::Reset), ["reset"]),
            (NodeAct::Hang, ["timeout"]),
        ] {
            let node = HttpProxyNode::start(act.clone(), Directory::new()).await;
            survives(door, &node.tagged("bad"), &["proxy_handshake"], &faults).await;
            assert_eq!(node.accepted(), 1, "{door:?} {act:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_node_that_hangs_up_unread_is_left_for_another() {
    each_door(async |door| {
        for how in [End::Fin, End::Reset] {
            let node = HttpProxyNode::start(NodeAct::EndUnread(how), Directory::new()).await;
            // A FIN into which the gateway writes comes back as a reset, and a reset may come before the connect was
            // even looked at: all of these are true.
            survives(door, &node.tagged("bad"), &["dial", "proxy_handshake"], &["closed", "reset"]).await;
            assert_eq!(node.accepted(), 1, "{door:?} {how:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_socks_node_that_refuses_is_left_for_another() {
    each_door(async |door| {
        for act in [1, 2, 3, 4, 5, 6, 7, 8, 0x5b].map(SocksAct::Reply) {
            let node = Socks5Node::start(act, Directory::new()).await;
            let faults = ["proxy_refused", "refused", "unreachable", "timeout", "protocol"];
            survives(door, &node.tagged("bad"), &["proxy_handshake"], &faults).await;
            assert_eq!(node.accepted(), 1, "{door:?} {act:?}");
        }
        for (act, faults) in [
            (SocksAct::Auth("u", "p"), &["proxy_auth"][..]),
            (SocksAct::EndUnread(End::Fin), &["closed", "reset"]),
            (SocksAct::EndAfterRequest(End::Reset), &["reset"]),
            (SocksAct::Hang, &["timeout"]),
            (SocksAct::HangAfterRequest, &["timeout"]),
        ] {
            let node = Socks5Node::start(act, Directory::new()).await;
            survives(door, &node.tagged("bad"), &["proxy_handshake"], faults).await;
            assert_eq!(node.accepted(), 1, "{door:?} {act:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_node_is_asked_with_its_own_credentials_and_the_name_unresolved() {
    for door in DOORS {
        bounded(async {
            let origin = Origin::answering("served").await;
            let names = Directory::new().with("only-the-node-knows.test:80", origin.addr());
            let http = HttpProxyNode::start(NodeAct::Auth("us er", "p@ss"), names.clone()).await;
            let socks = Socks5Node::start(SocksAct::Auth("us er", "p@ss"), names).await;
            for url in
                [format!("http://us%20er:p%40ss@{}", http.addr()), format!("socks5://us%20er:p%40ss@{}", socks.addr())]
            {
                let gateway = gateway().node(&url).start().await;
                let target = "only-the-node-knows.test:80";
                let mut client = door.enter(gateway.addr(), target).await.expect("the node lets it in");
                let answer = client.request(door.lines(gateway.addr(), "GET", target, "/") + "\r\n").await;
                assert_eq!(answer.expect("an answer").text(), "served", "{door:?} {url}");
            }
            assert_eq!(http.requests()[0].head.method(), "CONNECT", "{door:?}: plain targets too");
            assert_eq!(socks.asked(), [("only-the-node-knows.test".to_owned(), 80)], "{door:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn a_blackholed_node_times_out_and_is_left_for_another() {
    for door in DOORS {
        let hole = BlackholePort::new().await;
        bounded(survives(door, &format!("http://{}#bad", hole.addr()), &["dial"], &["timeout"])).await;
    }
}

#[tokio::test]
async fn a_hedged_dial_overtakes_a_blackholed_node() {
    for door in DOORS {
        bounded(async {
            let hole = BlackholePort::new().await;
            let origin = Origin::answering("served").await;
            let live = HttpProxyNode::relay(Directory::new()).await;
            let nodes = gateway().node(&format!("http://{}#hole", hole.addr())).node(&live.tagged("live"));
            // Without the hedge the answer would come after ten minutes.
            let policy = nodes.platform("CONNECT_TIMEOUT", "10m").platform("DIAL_STAGGER", "50ms");
            let gateway = policy.start().await;
            let answer = door.post(gateway.addr(), origin.addr(), "work").await;
            assert_eq!((answer.status(), answer.text().as_str()), (200, "served"), "{door:?}");
            let story = gateway.only_row().await.story();
            assert_eq!(story.len(), 2, "{door:?}: {story:?}");
            assert!(story[0].starts_with("hole: dial lost_race sent=no"), "{door:?}: {story:?}");
            assert_eq!(story[1], "live: ok -> done(answered)", "{door:?}");
            assert_eq!(origin.request_count(), 1, "{door:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn when_every_node_failed_the_client_gets_the_last_error() {
    for door in DOORS {
        bounded(async {
            let origin = Origin::answering("never").await;
            let (hole, dead) = (BlackholePort::new().await, DeadPort::new());
            let (hole, dead) = (&format!("http://{}#hole", hole.addr()), &format!("http://{}#dead", dead.addr()));
            for (nodes, status, code) in
                [([hole, dead], 502, "UPSTREAM_CONNECT_FAILED"), ([dead, hole], 504, "UPSTREAM_TIMEOUT")]
            {
                let policy = gateway().max_retries(5).platform("CONNECT_TIMEOUT", "300ms");
                let gateway = policy.node(nodes[0]).node(nodes[1]).start().await;
                let answer = door.post(gateway.addr(), origin.addr(), "work").await;
                assert_eq!((answer.status(), answer.code()), (status, code), "{door:?} {nodes:?}");
                let story = gateway.only_row().await.story();
                assert_eq!(story.len(), 2, "no node has a request twice: {door:?} {story:?}");
                assert!(story[1].ends_with("-> stop(endpoints_exhausted)"), "{door:?} {story:?}");
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_failed_tls_handshake_with_an_origin_is_left_for_another() {
    bounded(async {
        let (trusted, stranger) = (Authority::new(), Authority::new());
        let good = Origin::builder()
            .script(|_| Act::Answer(Answer::ok("served")))
            .tls(trusted.acceptor(&["127.0.0.1"], &["http/1.1"]))
            .start()
            .await;
        let config = format!("ca_files = [{:?}]\n", trusted.file());
        let untrusted = Origin::builder().tls(stranger.acceptor(&["127.0.0.1"], &[])).start().await;
        let misnamed = Origin::builder().tls(trusted.acceptor(&["other.test"], &[])).start().await;
        let no_tls = Origin::greeting(Greeting::Say(b"HTTP/1.1 400 Bad Request\r\n\r\n", End::Fin)).await;
        for bad in [&untrusted, &misnamed, &no_tls] {
            let origins = gateway().config(&config).origin(&format!("https://{}#bad", bad.addr()));
            let gateway = origins.origin(&format!("https://{}#good", good.addr())).start().await;
            let answer = Client::once(gateway.addr(), "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx").await;
            assert_eq!(answer.text(), "served");
            let story = gateway.only_row().await.story();
            assert!(story[0].starts_with("bad: tls tls sent=no -> try_next(not_sent)"), "{story:?}");
            assert_eq!(bad.request_count(), 0);
        }
        assert_eq!(good.request_count(), 3);
    })
    .await;
}

#[tokio::test]
async fn an_https_node_carries_and_its_bad_certificate_does_not() {
    bounded(async {
        let (trusted, stranger) = (Authority::new(), Authority::new());
        let origin = Origin::answering("served").await;
        let names = Directory::new();
        let bad = HttpProxyNode::start_tls(NodeAct::Relay, names.clone(), stranger.acceptor(&["127.0.0.1"], &[])).await;
        let good = HttpProxyNode::start_tls(NodeAct::Relay, names, trusted.acceptor(&["127.0.0.1"], &[])).await;
        for door in DOORS {
            let nodes = gateway().config(&format!("ca_files = [{:?}]\n", trusted.file()));
            let nodes = nodes.node(&format!("https://{}#bad", bad.addr()));
            let gateway = nodes.node(&format!("https://{}#good", good.addr())).start().await;
            assert_eq!(door.post(gateway.addr(), origin.addr(), "work").await.text(), "served", "{door:?}");
            let story = gateway.only_row().await.story();
            assert_eq!(story[0], "bad: tls tls sent=no -> try_next(not_sent)", "{door:?}");
        }
        assert_eq!(origin.request_count(), 3);
    })
    .await;
}

#[tokio::test]
async fn a_response_that_does_not_come_in_time_is_a_timeout_and_final() {
    for door in [Door::Forward, Door::Reverse] {
        bounded(async {
            let origin = Origin::scripted(|_| Act::Hang).await;
            let nodes = (HttpProxyNode::relay(Directory::new()).await, HttpProxyNode::relay(Directory::new()).await);
            let gateway = gateway().node(&nodes.0.tagged("a")).node(&nodes.1.tagged("b"));
            let gateway = gateway.platform("RESPONSE_TIMEOUT", "200ms").start().await;
            let answer = door.get(gateway.addr(), origin.addr()).await;
            assert_eq!((answer.status(), answer.code()), (504, "UPSTREAM_TIMEOUT"), "{door:?}");
            let story = gateway.only_row().await.story();
            assert_eq!(story, ["a: await_head timeout sent=maybe -> stop(maybe_sent)"], "{door:?}");
            assert_eq!((nodes.1.accepted(), origin.request_count()), (0, 1), "{door:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn a_node_that_comes_back_serves_the_next_request() {
    bounded(async {
        let port = DeadPort::new();
        let second = Origin::answering("second").await;
        let origins = gateway().origin(&format!("http://{}#first", port.addr())).origin(&second.tagged("second"));
        let gateway = origins.start().await;
        let request = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx";
        assert_eq!(Client::once(gateway.addr(), request).await.text(), "second");
        let first = Origin::builder().script(|_| Act::Answer(Answer::ok("first"))).start_on(port.listen());
        let again = Client::once(gateway.addr(), request);
        assert_eq!(within(Duration::from_secs(20), "the answer", again).await.text(), "first");
        assert_eq!((first.request_count(), second.request_count()), (1, 1));
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_is_no_http_is_a_502_and_leaks_nothing() {
    for door in [Door::Forward, Door::Reverse] {
        for bytes in
            ["SSH-2.0-secret\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "\0\0"]
        {
            bounded(async {
                let say = move |_: Arrival<'_>| Act::Say(Bytes::from_static(bytes.as_bytes()), End::Fin);
                let origin = Origin::scripted(say).await;
                let gateway = gateway().node("direct").start().await;
                let answer = door.get(gateway.addr(), origin.addr()).await;
                let expected = (502, "UPSTREAM_REQUEST_FAILED");
                assert_eq!((answer.status(), answer.code()), expected, "{door:?} {bytes:?}");
                assert!(!answer.text().contains("secret"), "{door:?}");
                assert_eq!(gateway.only_row().await.attempts()[0].text("fault"), "protocol", "{door:?} {bytes:?}");
            })
            .await;
        }
    }
}
