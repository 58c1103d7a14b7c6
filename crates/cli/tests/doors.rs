//! What each door lets in, where it sends it, and what it answers when it does not.

use handover_testkit::{
    Act, Answer, Client, DOORS, DeadPort, Directory, Door, GatewayBuilder, GatewayProcess, HttpProxyNode, Origin,
    Response, basic, bounded,
};

fn gateway() -> GatewayBuilder {
    GatewayProcess::of(env!("CARGO_BIN_EXE_handover")).ordered()
}

/// Checks an answer of the gateway's own: all of its parts.
fn is_error(answer: &Response, status: u16, code: &str, body: &str, what: &str) {
    assert_eq!((answer.status(), answer.code(), answer.text().trim_end()), (status, code, body), "{what}");
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"), "{what}");
    let proxy_status = answer.header("proxy-status").unwrap_or_default();
    assert!(proxy_status.to_ascii_lowercase().starts_with("handover"), "{what}: Proxy-Status {proxy_status:?}");
}

async fn forward(gateway: &GatewayProcess, door: Door, target: &str, credentials: Option<&str>) -> Response {
    let header = credentials.map(|value| format!("Proxy-Authorization: {value}\r\n")).unwrap_or_default();
    let mut client = Client::connect(gateway.addr()).await;
    if door == Door::Connect {
        let answer = client.tunnel(target, &header).await.expect("an answer");
        if answer.status() != 200 {
            return answer;
        }
        return client.request(format!("GET / HTTP/1.1\r\nHost: {target}\r\n\r\n")).await.expect("an answer");
    }
    let lines = door.lines(gateway.addr(), "GET", target, "/");
    client.request(format!("{lines}{header}\r\n")).await.expect("an answer")
}

#[tokio::test]
async fn the_forward_doors_read_platform_and_account_from_the_credentials() {
    for door in [Door::Forward, Door::Connect] {
        bounded(async {
            let origin = Origin::answering("served").await;
            let gateway = gateway().node("direct").token("tok").start().await;
            let target = origin.addr().to_string();
            let cases = [
                ("Default.Tom:tok", "Tom"),
                (".Tom:tok", "Tom"),
                ("Default:tok", ""),
                ("Default.:tok", ""),
                ("Default.bEA:234:tok", "bEA:234"),
                ("Default:bEA.234:tok", "bEA.234"),
                ("Default.a.b:c:tok", "a.b:c"),
            ];
            for (n, (credentials, account)) in cases.into_iter().enumerate() {
                let answer = forward(&gateway, door, &target, Some(&basic(credentials))).await;
                assert_eq!(answer.text(), "served", "{door:?} {credentials}");
                let rows = gateway.rows(|rows| rows.len() == n + 1).await;
                let of = |row: &&handover_testkit::Row| {
                    (row.text("platform_name"), row.text("account")) == ("Default", account)
                };
                assert!(rows.iter().any(|row| of(&row)), "{door:?} {credentials}: {rows:#?}");
            }
            let lower_case = basic("Default:tok").replacen("Basic", "bAsIc", 1);
            assert_eq!(forward(&gateway, door, &target, Some(&lower_case)).await.text(), "served", "{door:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn the_forward_doors_turn_others_away() {
    for door in [Door::Forward, Door::Connect] {
        bounded(async {
            let origin = Origin::answering("never").await;
            let gateway = gateway().node("direct").token("tok").start().await;
            let target = origin.addr().to_string();
            let no_colon = basic("tok");
            let three_fields = format!("{} x", basic("Default:tok"));
            for malformed in
                [None, Some("Basic"), Some("Basic %%%"), Some("Bearer tok"), Some(&no_colon), Some(&three_fields)]
            {
                let answer = forward(&gateway, door, &target, malformed).await;
                is_error(
                    &answer,
                    407,
                    "AUTH_REQUIRED",
                    "Proxy authentication required",
                    &format!("{door:?} {malformed:?}"),
                );
                let challenge = answer.header("proxy-authenticate").unwrap_or_default();
                assert!(challenge.starts_with("Basic realm="), "{door:?}: {challenge:?}");
            }
            for wrong in ["Default:wrong", "Default:tok2", "Default:to", "Default:", "tok:Default"] {
                let answer = forward(&gateway, door, &target, Some(&basic(wrong))).await;
                is_error(&answer, 403, "AUTH_FAILED", "Proxy authentication failed", &format!("{door:?} {wrong}"));
            }
            let answer = forward(&gateway, door, &target, Some(&basic("Nimbus.Tom:tok"))).await;
            is_error(&answer, 404, "PLATFORM_NOT_FOUND", "Platform not found", &format!("{door:?}"));
            assert_eq!(origin.accepted(), 0, "{door:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn the_reverse_form_reads_its_segments() {
    bounded(async {
        let origin = Origin::scripted(|arrival| Act::Answer(Answer::ok(arrival.head.target().to_owned()))).await;
        let gateway = gateway().node("direct").token("tok").start().await;
        let host = origin.addr();
        let cases = [
            (format!("/tok/Default.Tom/http/{host}/a/b?c=d"), "/a/b?c=d", "Tom"),
            (format!("/tok/.Tom/http/{host}/"), "/", "Tom"),
            (format!("/tok/Default/http/{host}"), "/", ""),
            (format!("/tok/Default./http/{host}?q=1"), "/?q=1", ""),
            (format!("/tok/./http/{host}/a%2Fb//c/?x=%20/y"), "/a%2Fb//c/?x=%20/y", ""),
            (format!("/tok/Default.ops%2Fprod%3Feu%231/http/{host}/x"), "/x", "ops/prod?eu#1"),
            (format!("/%74ok/Default:a.b/http/{}/y", host.to_string().replace(':', "%3A")), "/y", "a.b"),
        ];
        for (n, (url, path, account)) in cases.iter().enumerate() {
            let answer = Client::once(gateway.addr(), format!("GET {url} HTTP/1.1\r\nHost: gateway\r\n\r\n")).await;
            assert_eq!((answer.status(), answer.text().as_str()), (200, *path), "{url}");
            let rows = gateway.rows(|rows| rows.len() == n + 1).await;
            let of = |row: &&handover_testkit::Row| {
                row.text("platform_name") == "Default" && row.text("account") == *account
            };
            assert!(rows.iter().any(|row| of(&row)), "{url}: {rows:#?}");
        }
        assert!(origin.requests().iter().all(|r| r.head.all("host") == [host.to_string()]), "Host is the target's");
    })
    .await;
}

#[tokio::test]
async fn the_reverse_form_turns_others_away() {
    bounded(async {
        let gateway = gateway().node("direct").token("tok").start().await;
        let not_parsed = (400, "URL_PARSE_ERROR", "Failed to parse request URL");
        let no_protocol = (400, "INVALID_PROTOCOL", "Protocol must be http or https");
        let no_host = (400, "INVALID_HOST", "Invalid or empty host");
        let not_let_in = (403, "AUTH_FAILED", "Proxy authentication failed");
        for (url, (status, code, body)) in [
            ("/wrong/Default/http/h/", not_let_in),
            ("//Default/http/h/", not_let_in),
            ("/x", not_let_in),
            ("/wrong", not_let_in),
            ("/tok", not_parsed),
            ("/tok/Default/http", not_parsed),
            ("/tok/De%zzfault/http/h/", not_parsed),
            ("/tok/Default/http/h%/", not_parsed),
            ("/tok/Default/ftp/h/", no_protocol),
            ("/tok/Default/ws/h/", no_protocol),
            ("/tok/Default//h/", no_protocol),
            ("/tok/Default/http//path", no_host),
            ("/tok/Default/http/user@h/", no_host),
            ("/tok/Default/http/a:b:c/", no_host),
            ("/tok/Default/http/h:99999/", no_host),
            ("/tok/Default/http/h:/", no_host),
            ("/tok/Default/http/a%20b/", no_host),
            ("/tok/Default/http/a%2Fb/", no_host),
            ("/tok/Default/http/a%0d%0ab/", no_host),
            ("/tok/Nimbus/http/h/", (404, "PLATFORM_NOT_FOUND", "Platform not found")),
        ] {
            let answer = Client::once(gateway.addr(), format!("GET {url} HTTP/1.1\r\nHost: gateway\r\n\r\n")).await;
            is_error(&answer, status, code, body, url);
        }
    })
    .await;
}

#[tokio::test]
async fn without_a_token_anyone_may_come_in() {
    bounded(async {
        let origin = Origin::answering("served").await;
        let gateway = gateway().node("direct").start().await;
        let target = origin.addr().to_string();
        for token in ["", "-", "anything", "a%2Fb"] {
            let url = format!("/{token}/Default.Tom/http/{target}/");
            let answer = Client::once(gateway.addr(), format!("GET {url} HTTP/1.1\r\nHost: gateway\r\n\r\n")).await;
            assert_eq!(answer.text(), "served", "{url}");
        }
        for door in [Door::Forward, Door::Connect] {
            for credentials in [None, Some(basic("Default.Tom:whatever"))] {
                let answer = forward(&gateway, door, &target, credentials.as_deref()).await;
                assert_eq!(answer.text(), "served", "{door:?} {credentials:?}");
            }
        }
        let rows = gateway.rows(|rows| rows.len() == 8).await;
        assert_eq!(rows.iter().filter(|row| row.text("account") == "Tom").count(), 6, "{rows:#?}");
    })
    .await;
}

#[tokio::test]
async fn errors_of_the_nodes_have_their_codes_in_every_door() {
    for door in DOORS {
        bounded(async {
            let (dead, origin) = (DeadPort::new(), Origin::answering("never").await);
            let failing = gateway().node(&format!("http://{}#dead", dead.addr())).start().await;
            let answer = door.get(failing.addr(), origin.addr()).await;
            is_error(&answer, 502, "UPSTREAM_CONNECT_FAILED", "Failed to connect to upstream", &format!("{door:?}"));
            let silent = HttpProxyNode::start(handover_testkit::NodeAct::Hang, Directory::new()).await;
            let slow = gateway().node(&silent.tagged("a")).platform("CONNECT_TIMEOUT", "200ms").start().await;
            let answer = door.get(slow.addr(), origin.addr()).await;
            let body = "Upstream connection or response timed out";
            is_error(&answer, 504, "UPSTREAM_TIMEOUT", body, &format!("{door:?}"));
            let empty = gateway().node("direct").platform("TAG_FILTERS", "^nothing$").start().await;
            let answer = door.get(empty.addr(), origin.addr()).await;
            is_error(&answer, 503, "NO_AVAILABLE_NODES", "No available nodes for routing", &format!("{door:?}"));
        })
        .await;
    }
}

#[tokio::test]
async fn a_failed_request_leaves_its_connection_usable() {
    bounded(async {
        let (dead, origin) = (DeadPort::new(), Origin::answering("served").await);
        let gateway = gateway().node("direct").start().await;
        let mut client = Client::connect(gateway.addr()).await;
        for _ in 0..3 {
            let failing = Door::Forward.lines(gateway.addr(), "GET", &dead.addr().to_string(), "/") + "\r\n";
            assert_eq!(client.request(failing).await.expect("an answer").status(), 502);
            let working = Door::Forward.lines(gateway.addr(), "GET", &origin.addr().to_string(), "/") + "\r\n";
            assert_eq!(client.request(working).await.expect("an answer").text(), "served");
        }
    })
    .await;
}

#[tokio::test]
async fn routes_go_to_their_platforms_by_host_and_whole_segments() {
    bounded(async {
        let origin = |name: &'static str| Origin::answering(name);
        let (api, site, rest) = (origin("api").await, origin("site").await, origin("rest").await);
        let config = format!(
            "[[node]]\ntag = \"api-1\"\nkind = \"origin\"\nurl = \"{}\"\n\
             [[node]]\ntag = \"site-1\"\nkind = \"origin\"\nurl = \"{}\"\n\
             [[node]]\ntag = \"rest-1\"\nkind = \"origin\"\nurl = \"{}\"\n\
             [[platform]]\nname = \"api\"\ntag_filters = [\"^api-\"]\n\
             [[platform]]\nname = \"site\"\ntag_filters = [\"^site-\"]\n\
             [[platform]]\nname = \"rest\"\ntag_filters = [\"^rest-\"]\n\
             [[route]]\nhost = \"api.example.com\"\npath = \"/v1/\"\nplatform = \"api\"\n\
             [[route]]\nhost = \"www.example.com\"\npath = \"/\"\nplatform = \"site\"\n\
             [[route]]\npath = \"/shared\"\nplatform = \"rest\"\n",
            api.url(),
            site.url(),
            rest.url()
        );
        let gateway = gateway().config(&config).start().await;
        for (host, path, expected) in [
            ("api.example.com", "/v1/users", "api"),
            ("API.Example.COM:80", "/v1/", "api"),
            ("api.example.com", "/v1", "api"),
            ("www.example.com", "/anything", "site"),
            ("other.example.com", "/shared/x", "rest"),
            ("other.example.com", "/shared?x", "rest"),
        ] {
            let answer = Client::once(gateway.addr(), format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
            assert_eq!((answer.status(), answer.text().as_str()), (200, expected), "{host}{path}");
        }
        for (host, path) in [("api.example.com", "/v1x"), ("other.example.com", "/sharedx"), ("api.example.com", "/v2")]
        {
            let answer = Client::once(gateway.addr(), format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
            assert_eq!((answer.status(), answer.code()), (400, "URL_PARSE_ERROR"), "{host}{path}");
        }
        assert!(api.requests().iter().all(|r| r.head.target().starts_with("/v1")), "the path is passed on as it is");
    })
    .await;
}

#[tokio::test]
async fn the_control_plane_is_the_gateways_own() {
    bounded(async {
        let origin = Origin::answering("the origin's").await;
        let gateway = gateway().origin(&origin.tagged("a")).start().await;
        let get = |path: &str| Client::once(gateway.addr(), format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
        let health = get("/healthz").await;
        assert_eq!((health.status(), health.text().trim_end()), (200, "{\"status\":\"ok\"}"));
        for path in ["/healthz", "/api", "/api/x", "/ui", "/ui/", "/metrics"] {
            assert_ne!(get(path).await.text(), "the origin's", "{path}");
        }
        assert_eq!(get("/healthzz").await.text(), "the origin's");
        assert_eq!(origin.request_count(), 1);
    })
    .await;
}

#[tokio::test]
async fn one_connection_to_an_origin_serves_many_requests() {
    for door in [Door::Forward, Door::Reverse] {
        bounded(async {
            let origin = Origin::answering("served").await;
            let gateway = gateway().node("direct").env("HANDOVER_WORKERS", "1").start().await;
            let target = origin.addr().to_string();
            let mut client = Client::connect(gateway.addr()).await;
            let get = door.lines(gateway.addr(), "GET", &target, "/") + "\r\n";
            let head = door.lines(gateway.addr(), "HEAD", &target, "/") + "\r\n";
            for _ in 0..5 {
                assert_eq!(client.request(&get).await.expect("an answer").text(), "served", "{door:?}");
                let answer = client.request(&head).await.expect("an answer");
                assert_eq!((answer.status(), answer.header("content-length")), (200, Some("6")), "{door:?}");
            }
            // Pipelined requests are answered in their order.
            client.send(get.repeat(5)).await.expect("sent");
            for _ in 0..5 {
                assert_eq!(client.read_response("GET").await.expect("an answer").text(), "served", "{door:?}");
            }
            assert_eq!((origin.accepted(), origin.request_count()), (1, 15), "{door:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn a_path_that_begins_with_the_token_reaches_no_origin_of_a_route() {
    bounded(async {
        let (origin, target) = (Origin::answering("route").await, Origin::answering("target").await);
        let gateway = gateway().node("direct").origin(&origin.tagged("a")).token("tok").start().await;
        let path = format!("/tok/Default/http/{}/", target.addr());
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        assert_eq!(Client::once(gateway.addr(), get(&path)).await.text(), "target");
        assert_eq!(Client::once(gateway.addr(), get("/tok/else")).await.code(), "URL_PARSE_ERROR");
        assert_eq!(Client::once(gateway.addr(), get("/token/x")).await.text(), "route");
        assert_eq!(origin.request_count(), 1, "the token stayed here");
    })
    .await;
}
