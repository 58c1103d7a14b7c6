//! Raw bytes against the gateway: what a parser could be talked into, and what must never be passed on.

use handover_testkit::{
    Act, Answer, Body, Bytes, Client, Directory, Door, GatewayBuilder, GatewayProcess, HttpProxyNode, NodeAct, Origin,
    RequestSeen, Response, bounded,
};

/// The doors whose requests the gateway reads: what flows in a tunnel is not its business.
const READ: [Door; 2] = [Door::Forward, Door::Reverse];

fn gateway() -> GatewayBuilder {
    GatewayProcess::of(env!("CARGO_BIN_EXE_handover")).ordered()
}

struct Case {
    gateway: GatewayProcess,
    origin: Origin,
}

impl Case {
    async fn with(origin: Origin) -> Self {
        Self { gateway: gateway().node("direct").start().await, origin }
    }

    async fn new() -> Self {
        Self::with(Origin::answering("served").await).await
    }

    fn lines(&self, door: Door, method: &str) -> String {
        door.lines(self.gateway.addr(), method, &self.origin.addr().to_string(), "/")
    }

    /// Sends these bytes on a connection of their own, and a harmless request behind them that tells when all was
    /// answered; the answers without that last one.
    async fn raw(&self, bytes: impl AsRef<[u8]>) -> Vec<Response> {
        let mut client = Client::connect(self.gateway.addr()).await;
        // The gateway may have answered and closed before it has read everything.
        let _ = client.send(bytes).await;
        let _ = client.send("GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await;
        let mut answers = Vec::new();
        while let Ok(answer) = client.read_response("GET").await {
            answers.push(answer);
        }
        if answers.last().is_some_and(|answer| answer.text().trim_end() == "{\"status\":\"ok\"}") {
            answers.pop();
        }
        answers
    }

    /// Checks that these bytes are answered with this status (alone), reach nobody, and that the next request is served.
    async fn refused(&self, bytes: impl AsRef<[u8]>, status: u16, what: &str) {
        let before = self.origin.request_count();
        let answers = self.raw(bytes).await;
        assert_eq!(answers.iter().map(Response::status).collect::<Vec<_>>(), [status], "{what}");
        assert_eq!(self.origin.request_count(), before, "{what}: it reached the origin");
        let next = self.raw(self.lines(Door::Forward, "GET") + "\r\n").await;
        assert_eq!(next[0].text(), "served", "{what}: the next request is served");
    }

    fn last(&self) -> RequestSeen {
        self.origin.requests().pop().expect("a request came")
    }
}

#[tokio::test]
async fn hop_by_hop_fields_end_here_in_both_directions() {
    for door in READ {
        bounded(async {
            let origin = Origin::scripted(|_| {
                let answer =
                    Answer::ok("served").header("Connection", "X-Private, keep-alive").header("X-Private", "1");
                let answer = answer.header("Keep-Alive", "timeout=5").header("Proxy-Authenticate", "Basic");
                Act::Answer(answer.header("Upgrade", "h2c").header("X-Public", "1"))
            })
            .await;
            let case = Case::with(origin).await;
            let fields = "Connection: X-Hop\r\nConnection:\r\nConnection: , close,x-other\r\nX-Hop: 1\r\nX-Other: 1\r\n\
                          Keep-Alive: 300\r\nProxy-Connection: keep-alive\r\nTE: trailers, gzip\r\nUpgrade: h2c\r\n\
                          Proxy-Authenticate: x\r\nX-Kept: 1\r\n\r\n";
            let answers = case.raw(case.lines(door, "GET") + fields).await;
            let answer = String::from_utf8_lossy(&answers[0].head.raw).to_ascii_lowercase();
            assert!(answer.contains("x-public: 1"), "{door:?}: {answer}");
            for gone in ["x-private", "keep-alive", "proxy-authenticate", "upgrade"] {
                assert!(!answer.contains(gone), "{door:?}: {gone} in {answer}");
            }
            let head = case.last().head;
            assert_eq!(head.header("x-kept"), Some("1"), "{door:?}");
            for gone in ["x-hop", "x-other", "keep-alive", "proxy-connection", "proxy-authenticate", "upgrade"] {
                assert_eq!(head.header(gone), None, "{door:?}: {gone}");
            }
            assert!(head.header("te").is_none_or(|te| te == "trailers"), "{door:?}: {head:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn connection_may_not_nominate_what_routes_frames_or_authorises() {
    for door in READ {
        bounded(async {
            let case = Case::new().await;
            for name in [
                "Host",
                "Content-Length",
                "authorization",
                "Cookie",
                "X-Forwarded-For",
                "X-Forwarded-Host",
                "Via",
                ":path",
            ] {
                let bytes = case.lines(door, "GET") + &format!("Connection: keep-alive, {name}\r\n\r\n");
                case.refused(bytes, 400, &format!("{door:?}: Connection: {name}")).await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn what_tells_who_the_client_is_stays_here() {
    for door in READ {
        bounded(async {
            let case = Case::new().await;
            let names = [
                "Forwarded",
                "X-Forwarded-For",
                "X-Forwarded-Host",
                "X-Forwarded-Proto",
                "X-Forwarded-Port",
                "X-Forwarded-Server",
                "Via",
                "X-Real-IP",
                "X-Client-IP",
                "True-Client-IP",
                "CF-Connecting-IP",
                "X-Handover-Account",
            ];
            let fields: String = names.iter().map(|name| format!("{name}: 10.1.2.3\r\n")).collect();
            case.raw(case.lines(door, "GET") + &fields + "\r\n").await;
            let head = case.last().head;
            for name in names {
                assert_eq!(head.header(name), None, "{door:?}: {name}");
            }
            assert!(!String::from_utf8_lossy(&head.raw).contains("10.1.2.3"), "{door:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn ambiguous_body_framing_is_refused() {
    for door in READ {
        bounded(async {
            let case = Case::new().await;
            for fields in [
                "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
                "Content-Length: +4\r\n\r\nabcd",
                "Content-Length: \r\n\r\n",
                "Content-Length: 4, 5\r\n\r\nabcd",
                "Content-Length: -1\r\n\r\n",
                "Content-Length: 99999999999999999999999\r\n\r\n",
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
                "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
                "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
                "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
                "Transfer-Encoding: \r\n\r\n0\r\n\r\n",
                "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
            ] {
                case.refused(case.lines(door, "POST") + fields, 400, &format!("{door:?}: {fields:?}")).await;
            }
            let old = case.lines(door, "POST").replace("HTTP/1.1", "HTTP/1.0");
            let old = old + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
            case.refused(old, 400, &format!("{door:?}: chunked in HTTP/1.0")).await;
        })
        .await;
    }
}

#[tokio::test]
async fn a_length_beside_chunked_is_refused_and_the_connection_closed() {
    for door in READ {
        bounded(async {
            let case = Case::new().await;
            for both in [
                "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
                "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
            ] {
                let smuggled = case.lines(Door::Forward, "GET").replace(" HTTP/1.1", "smuggled HTTP/1.1") + "\r\n";
                let bytes = case.lines(door, "POST") + both + "5\r\nhello\r\n0\r\n\r\n" + &smuggled;
                let answers = case.raw(bytes).await;
                let statuses: Vec<_> = answers.iter().map(|answer| answer.status()).collect();
                assert_eq!(
                    (statuses.as_slice(), case.origin.request_count()),
                    (&[400][..], 0),
                    "{door:?}: {answers:?}"
                );
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_body_that_was_not_read_is_never_the_next_request() {
    bounded(async {
        let case = Case::new().await;
        let smuggled = case.lines(Door::Forward, "GET") + "\r\n";
        let length = format!("Content-Length: {}\r\n\r\n", smuggled.len());
        for first in [
            "POST /-/Default/ftp/h/ HTTP/1.1\r\nHost: h\r\n",
            "POST /-/Nimbus/http/h/ HTTP/1.1\r\nHost: h\r\n",
            "POST /healthz HTTP/1.1\r\nHost: h\r\n",
            "POST http://127.0.0.1:1/ HTTP/1.1\r\nHost: h\r\n",
        ] {
            // One body that could be read to its end, and one that cannot: then the connection has to end instead.
            for length in [length.as_str(), "Content-Length: 100000000\r\n\r\n"] {
                let answers = case.raw(format!("{first}{length}{smuggled}")).await;
                assert_eq!(answers.iter().filter(|answer| answer.text() == "served").count(), 0, "{first:?}");
            }
        }
        assert_eq!(case.origin.request_count(), 0);
    })
    .await;
}

#[tokio::test]
async fn chunks_that_are_not_by_the_letter_end_the_request() {
    for door in READ {
        bounded(async {
            let case = Case::new().await;
            for body in [
                "5\nhello\r\n0\r\n\r\n",
                "0x5\r\nhello\r\n0\r\n\r\n",
                "5;a\nb\r\nhello\r\n0\r\n\r\n",
                "5\r\nhello0\r\n\r\n",
                "-5\r\nhello\r\n0\r\n\r\n",
                "5 \rx\nhello\r\n0\r\n\r\n",
                "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
                "g\r\n",
                "5\r\nhel",
            ] {
                let head = case.lines(door, "POST") + "Transfer-Encoding: chunked\r\n\r\n";
                let answers = case.raw(head + body).await;
                assert!(answers.iter().all(|answer| answer.status() >= 400), "{door:?} {body:?}: {answers:?}");
                assert!(case.origin.requests().iter().all(|r| !r.complete), "{door:?} {body:?}: it arrived whole");
            }
            let good = case.lines(door, "POST") + "Transfer-Encoding: chunked\r\n\r\n5;x=\"y\"\r\nhello\r\n0\r\n\r\n";
            assert_eq!(case.raw(good).await[0].text(), "served", "{door:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn lines_that_are_not_by_the_letter_are_refused() {
    for door in READ {
        bounded(async {
            let case = Case::new().await;
            let lines = case.lines(door, "GET");
            for (what, bytes) in [
                ("space before the colon", format!("{lines}X-A : 1\r\n\r\n")),
                ("folded line", format!("{lines}X-A: 1\r\n folded\r\n\r\n")),
                ("empty name", format!("{lines}: 1\r\n\r\n")),
                ("NUL in a value", format!("{lines}X-A: a\0b\r\n\r\n")),
                ("bare CR in a value", format!("{lines}X-A: a\rb\r\n\r\n")),
                ("bare LF", lines.replace("\r\n", "\n") + "\n"),
                ("one bare LF", format!("{lines}X-A: 1\n\r\n")),
                ("no colon", format!("{lines}nonsense\r\n\r\n")),
                ("space in the target", lines.replacen("/ HTTP", "/a b HTTP", 1) + "\r\n"),
                ("unknown version", lines.replace("HTTP/1.1", "HTTP/2.0") + "\r\n"),
            ] {
                case.refused(bytes, 400, &format!("{door:?}: {what}")).await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn host_is_one_and_is_the_targets() {
    bounded(async {
        let case = Case::new().await;
        let target = case.origin.addr();
        for (what, bytes) in [
            ("no Host", format!("GET http://{target}/ HTTP/1.1\r\n\r\n")),
            ("two", format!("GET http://{target}/ HTTP/1.1\r\nHost: {target}\r\nHost: {target}\r\n\r\n")),
            ("invalid", format!("GET http://{target}/ HTTP/1.1\r\nHost: a b\r\n\r\n")),
            ("in reverse form", format!("GET /-/Default/http/{target}/ HTTP/1.1\r\nHost: a/b\r\n\r\n")),
            ("userinfo", format!("GET http://user:pass@{target}/ HTTP/1.1\r\nHost: {target}\r\n\r\n")),
            ("no authority", "GET http:///x HTTP/1.1\r\nHost: h\r\n\r\n".to_owned()),
        ] {
            case.refused(bytes, 400, what).await;
        }
        case.raw(format!("GET http://{target}/x HTTP/1.1\r\nHost: other.test\r\n\r\n")).await;
        assert_eq!(case.last().head.all("host"), [target.to_string()], "the target's, not the client's");
    })
    .await;
}

#[tokio::test]
async fn connect_takes_a_host_and_a_port_and_nothing_else() {
    bounded(async {
        let case = Case::new().await;
        let target = case.origin.addr();
        for line in
            ["127.0.0.1", "127.0.0.1:0", "127.0.0.1:99999", "127.0.0.1:", ":80", "/", "user@127.0.0.1:80", "[::1:80"]
        {
            case.refused(format!("CONNECT {line} HTTP/1.1\r\nHost: h\r\n\r\n"), 400, line).await;
        }
        let absolute = format!("CONNECT http://{target}/ HTTP/1.1\r\nHost: {target}\r\n\r\n");
        case.refused(absolute, 400, "absolute-form").await;
        for body in ["Content-Length: 4\r\n\r\nbody", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"] {
            let bytes = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{body}");
            case.refused(bytes, 400, body).await;
        }
        let mut client = Client::connect(case.gateway.addr()).await;
        let answer = client.tunnel(&target.to_string(), "").await.expect("an answer");
        assert_eq!((answer.status(), answer.header("content-length")), (200, None));
        assert_eq!(answer.header("transfer-encoding"), None);
    })
    .await;
}

#[tokio::test]
async fn credentials_for_the_gateway_go_no_further() {
    bounded(async {
        let origin = Origin::answering("served").await;
        let node = HttpProxyNode::start(NodeAct::Relay, Directory::new()).await;
        let gateway = gateway().node(&node.tagged("a")).token("sesame").start().await;
        let target = origin.addr().to_string();
        let secret = handover_testkit::basic("Default.Tom:sesame");
        let header = format!("Proxy-Authorization: {secret}\r\n");
        let forward = Door::Forward.lines(gateway.addr(), "GET", &target, "/");
        Client::once(gateway.addr(), format!("{forward}{header}\r\n")).await;
        let mut tunnel = Client::connect(gateway.addr()).await;
        assert_eq!(tunnel.tunnel(&target, &header).await.expect("an answer").status(), 200);
        // The reverse form has the token in its path, and a page reached by it says so in its Referer.
        let path = format!("/sesame/Default.Tom/http/{target}/page");
        let referer = format!("Referer: http://{}{path}\r\n", gateway.addr());
        let get = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{header}{referer}\r\n", gateway.addr());
        assert_eq!(Client::once(gateway.addr(), get).await.text(), "served");
        drop(tunnel);
        let heads = origin.requests().into_iter().chain(node.requests()).map(|r| r.head.raw);
        for head in heads {
            let head = String::from_utf8_lossy(&head).into_owned();
            assert!(!head.contains("sesame") && !head.contains(&secret), "passed on: {head}");
        }
        let rows = gateway.rows(|rows| rows.len() == 3).await;
        assert!(!format!("{rows:?}").contains("sesame"), "logged: {rows:#?}");
        assert!(!(gateway.stderr() + &gateway.stdout()).contains("sesame"), "printed");
    })
    .await;
}

#[tokio::test]
async fn trailers_cannot_frame_route_or_authorise() {
    for door in READ {
        bounded(async {
            let origin = Origin::scripted(|_| {
                let trailers = vec![("Content-Length", "1"), ("Set-Cookie", "a=b"), ("X-Sum", "1")];
                let answer = Answer::ok("").header("Trailer", "Content-Length, Set-Cookie, X-Sum");
                Act::Answer(answer.body(Body::Chunked(Bytes::from_static(b"data"), trailers)))
            })
            .await;
            let case = Case::with(origin).await;
            let names =
                ["Content-Length", "Transfer-Encoding", "Host", "Authorization", "Cookie", "Proxy-Authorization"];
            let trailers: String = names.iter().map(|name| format!("{name}: 1\r\n")).collect();
            let declared = format!("TE: trailers\r\nTrailer: X-Sum, {}\r\n", names.join(", "));
            let head = case.lines(door, "POST") + &declared + "Transfer-Encoding: chunked\r\n\r\n";
            let bytes = format!("{head}4\r\nbody\r\n0\r\nX-Sum: 4\r\n{trailers}\r\n");
            let answer = Client::once(case.gateway.addr(), bytes).await;
            assert!(answer.trailers.iter().all(|(name, _)| !name.eq_ignore_ascii_case("content-length")), "{door:?}");
            let seen = case.last();
            let came: Vec<_> = seen.trailers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
            assert_eq!(came, ["x-sum"], "{door:?}");
            assert_eq!((seen.head.header("authorization"), seen.head.header("cookie")), (None, None), "{door:?}");
        })
        .await;
    }
}
