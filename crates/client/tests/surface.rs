//! What a request looks like when it arrives, and the ways there: paths, fields, credentials, proxies and TLS.

use handover_client::{Client, ClientBuilder, Fault, Order, Policy, PolicyParts, Stage};
use handover_testkit::{
    Act, Answer, Authority, Directory, HttpProxyNode, NodeAct, Origin, Socks5Node, SocksAct, bounded,
};
use http::{HeaderMap, HeaderValue, Method};

/// `user:secret`, as `Authorization: Basic` has it.
const BASIC: &str = "Basic dXNlcjpzZWNyZXQ=";

fn builder<E: AsRef<str>>(endpoints: impl IntoIterator<Item = E>) -> ClientBuilder {
    Client::builder().endpoints(endpoints).policy(Policy::rotation()).no_proxy()
}

fn client(endpoint: &str) -> Client {
    builder([endpoint]).build().expect("valid")
}

/// The URL with these credentials before its host.
fn with(credentials: &str, url: &str) -> String {
    url.replacen("://", &format!("://{credentials}@"), 1)
}

#[tokio::test]
async fn paths_keep_the_endpoints_prefix_and_queries_are_added() {
    bounded(async {
        let (origin, other) = (Origin::answering("yes").await, Origin::answering("yes").await);
        let (plain, prefixed) = (client(&origin.url()), client(&format!("{}/api/v2/", other.url())));
        let requests = [
            (plain.get("/kv/x?a=1"), "/kv/x?a=1"),
            (plain.get("kv"), "/kv"),
            (plain.get(""), "/"),
            (plain.get("/kv/作业 1"), "/kv/%E4%BD%9C%E4%B8%9A%201"),
            (plain.get("/a%2Fb//c/../d"), "/a%2Fb//c/../d"),
            (plain.get("/").query([("a b", "c&d"), ("ü", "=")]), "/?a+b=c%26d&%C3%BC=%3D"),
            (plain.get("/x").query::<&str, &str>([]), "/x"),
        ];
        for (at, (request, expected)) in requests.into_iter().enumerate() {
            request.send().await.expect("answered");
            assert_eq!(origin.requests()[at].head.target(), expected);
        }
        let requests = [
            (prefixed.get("/kv/x?a=1"), "/api/v2/kv/x?a=1"),
            (prefixed.get("/"), "/api/v2/"),
            (prefixed.get("/x?y=1").query([("z", "2")]), "/api/v2/x?y=1&z=2"),
        ];
        for (at, (request, expected)) in requests.into_iter().enumerate() {
            request.send().await.expect("answered");
            assert_eq!(other.requests()[at].head.target(), expected);
        }
        let methods =
            [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];
        for method in methods {
            plain.request(method.clone(), "/").send().await.expect("answered");
            assert_eq!(origin.requests().last().expect("there").head.method(), method.as_str());
        }
    })
    .await;
}

#[tokio::test]
async fn fields_arrive_as_they_were_given_and_the_requests_own_win() {
    bounded(async {
        let origin = Origin::answering("yes").await;
        let mut defaults = HeaderMap::new();
        defaults.insert("x-default", HeaderValue::from_static("1"));
        defaults.insert("x-both", HeaderValue::from_static("client"));
        let client = builder([origin.url()]).default_headers(defaults).user_agent("tests/1").build().expect("valid");
        let mut own = HeaderMap::new();
        own.insert("x-both", HeaderValue::from_static("request"));
        own.append("x-twice", HeaderValue::from_static("a"));
        own.append("x-twice", HeaderValue::from_static("b"));
        client.get("/").headers(own).header("x-added", "1").header("x-added", "2").send().await.expect("answered");
        let head = origin.requests().remove(0).head;
        let host = origin.addr().to_string();
        for (name, expected) in [
            ("x-default", vec!["1"]),
            ("x-both", vec!["request"]),
            ("x-twice", vec!["a", "b"]),
            ("x-added", vec!["1", "2"]),
            ("user-agent", vec!["tests/1"]),
            ("host", vec![host.as_str()]),
            ("accept-encoding", vec!["zstd, br, gzip"]),
        ] {
            assert_eq!(head.all(name), expected, "{name}");
        }
        // Nothing that nobody asked for.
        assert_eq!(head.headers.len(), 9, "{:?}", head.headers);
        client.get("/").header("host", "other.example").send().await.expect("answered");
        assert_eq!(origin.requests()[1].head.all("host"), ["other.example"]);
        client.get("/").header("user-agent", "own").send().await.expect("answered");
        assert_eq!(origin.requests()[2].head.all("user-agent"), ["own"]);
    })
    .await;
}

#[tokio::test]
async fn credentials_of_a_url_of_a_request_and_of_a_token() {
    bounded(async {
        let origin = Origin::answering("yes").await;
        let (plain, own) = (client(&origin.url()), client(&with("user:secret", &origin.url())));
        let requests = [
            (plain.get("/"), None),
            (plain.get("/").basic_auth("user", "secret"), Some(BASIC)),
            (plain.get("/").bearer_auth("token"), Some("Bearer token")),
            (own.get("/"), Some(BASIC)),
            (own.get("/").bearer_auth("token"), Some("Bearer token")),
        ];
        for (at, (request, expected)) in requests.into_iter().enumerate() {
            request.send().await.expect("answered");
            assert_eq!(origin.requests()[at].head.header("authorization"), expected, "{at}");
        }
        let encoded = client(&with("us%40er:p%3Aw", &origin.url()));
        encoded.get("/").send().await.expect("answered");
        assert_eq!(origin.requests()[5].head.header("authorization"), Some("Basic dXNAZXI6cDp3"));
    })
    .await;
}

#[tokio::test]
async fn each_endpoint_gets_the_credentials_of_its_own_url_only() {
    bounded(async {
        let one = Origin::scripted(|_| Act::Answer(Answer::status(503, "no"))).await;
        let two = Origin::answering("yes").await;
        let client = builder([with("user:secret", &one.url()), two.url()]).build().expect("valid");
        client.get("/").send().await.expect("answered");
        assert_eq!(one.requests()[0].head.header("authorization"), Some(BASIC));
        assert_eq!(two.requests()[0].head.header("authorization"), None);
    })
    .await;
}

#[tokio::test]
async fn a_request_that_cannot_be_sent_is_an_error_before_anything_is_tried() {
    let client = client("http://127.0.0.1:9");
    let requests = [
        client.get("/").header("bad name", "x"),
        client.get("/").header("x", "bad\nvalue"),
        client.get("https://user:secret@other.example/x"),
        client.get("/").bearer_auth("bad\nvalue"),
    ];
    for request in requests {
        let error = request.send().await.expect_err("it cannot be sent");
        assert!(error.is_builder() && error.is_not_sent() && error.record().is_none(), "{error}");
        assert!(!error.to_string().contains("secret") && !format!("{error:?}").contains("secret"), "{error:?}");
    }
}

#[tokio::test]
async fn an_http_proxy_carries_plain_requests_in_a_tunnel_with_its_own_credentials() {
    bounded(async {
        let origin = Origin::answering("yes").await;
        let names = Directory::new().with("service.test:80", origin.addr());
        let proxy = HttpProxyNode::start(NodeAct::Auth("user", "secret"), names).await;
        let url = |credentials: &str| with(credentials, &format!("http://{}", proxy.addr()));
        let client = builder(["http://service.test"]).proxy(&url("user:secret")).build().expect("valid");
        let answer = client.get("/x").send().await.expect("answered");
        assert_eq!((answer.status().as_u16(), answer.remote_addr()), (200, Some(proxy.addr())));
        let (tunnel, request) = (proxy.requests().remove(0).head, origin.requests().remove(0).head);
        assert_eq!((tunnel.method(), tunnel.target()), ("CONNECT", "service.test:80"));
        assert_eq!(tunnel.header("proxy-authorization"), Some(BASIC));
        assert_eq!((request.target(), request.header("host")), ("/x", Some("service.test")));
        assert_eq!(request.header("proxy-authorization"), None, "they are the proxy's");
        // The wrong ones, and a proxy that cannot reach the target: nothing was sent.
        let client = builder(["http://service.test"]).proxy(&url("user:wr0ng")).build().expect("valid");
        let error = client.post("/").body("x").send().await.expect_err("407");
        let first = error.record().expect("tried").attempts().next().expect("there");
        assert_eq!((first.stage(), first.fault()), (Stage::ProxyHandshake, Some(Fault::ProxyAuth)));
        assert!(error.is_not_sent() && error.is_connect(), "{error}");
        assert!(!format!("{error} {error:?}").contains("wr0ng"));
        let client = builder(["http://unknown.test"]).proxy(&url("user:secret")).build().expect("valid");
        let error = client.post("/").body("x").send().await.expect_err("502");
        let first = error.record().expect("tried").attempts().next().expect("there");
        assert_eq!((first.stage(), first.fault()), (Stage::ProxyHandshake, Some(Fault::ProxyRefused)));
        assert!(error.is_not_sent(), "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_socks_proxy_gets_the_name_and_the_tunnel_carries_tls() {
    bounded(async {
        let authority = Authority::new();
        let origin = Origin::builder().script(|_| Act::Answer(Answer::ok("yes")));
        let origin = origin.tls(authority.acceptor(&["service.test"], &["http/1.1"])).start().await;
        let names = Directory::new().with("service.test:443", origin.addr());
        for (act, credentials) in [(SocksAct::Relay, ""), (SocksAct::Auth("user", "secret"), "user:secret@")] {
            let proxy = Socks5Node::start(act, names.clone()).await;
            let client = builder(["https://service.test"]).ca_certificate_file(authority.file());
            let client = client.proxy(&format!("socks5://{credentials}{}", proxy.addr())).build().expect("valid");
            let answer = client.get("/").send().await.expect("answered");
            assert_eq!(answer.text().await.expect("whole"), "yes");
            assert_eq!(proxy.asked(), [("service.test".to_owned(), 443)]);
        }
    })
    .await;
}

#[tokio::test]
async fn the_environment_says_which_proxy_unless_the_client_does() {
    // The child: the same test in a process of its own, whose environment is the matter.
    if let Ok(endpoint) = std::env::var("HANDOVER_TEST_ENDPOINT") {
        let client = Client::builder().endpoints([endpoint]).policy(Policy::rotation()).build().expect("valid");
        assert_eq!(client.get("/").send().await.expect("answered").status(), 200);
        return;
    }
    bounded(async {
        let origin = Origin::answering("yes").await;
        let names = Directory::new().with("service.test:80", origin.addr());
        let proxy = HttpProxyNode::start(NodeAct::Auth("user", "secret"), names).await;
        let url = with("user:secret", &format!("http://{}", proxy.addr()));
        let own = origin.url();
        for (endpoint, variables, through_proxy) in [
            ("http://service.test", vec![("HTTP_PROXY", url.as_str())], 1),
            ("http://service.test", vec![("http_proxy", url.as_str())], 1),
            ("http://service.test", vec![("ALL_PROXY", url.as_str()), ("NO_PROXY", "other.test")], 1),
            (own.as_str(), vec![("HTTP_PROXY", url.as_str()), ("NO_PROXY", "127.0.0.1,other.test")], 0),
            (own.as_str(), vec![("HTTPS_PROXY", url.as_str())], 0),
        ] {
            let before = proxy.accepted();
            let mut child = tokio::process::Command::new(std::env::current_exe().expect("it runs"));
            for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUEST_METHOD"] {
                child.env_remove(name).env_remove(name.to_lowercase());
            }
            child.args(["--exact", "the_environment_says_which_proxy_unless_the_client_does"]);
            let child = child.env("HANDOVER_TEST_ENDPOINT", endpoint).envs(variables.clone()).kill_on_drop(true);
            let output = child.output().await.expect("it starts");
            assert!(output.status.success(), "{variables:?}: {}", String::from_utf8_lossy(&output.stdout));
            assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "it ran");
            assert_eq!(proxy.accepted() - before, through_proxy, "{variables:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn tls_wants_an_authority_that_is_trusted_and_the_right_name() {
    bounded(async {
        let authority = Authority::new();
        let start = |name: &'static str| {
            let origin = Origin::builder().script(|_| Act::Answer(Answer::ok("yes")));
            origin.tls(authority.acceptor(&[name], &["http/1.1"])).start()
        };
        let (right, wrong) = (start("127.0.0.1").await, start("other.test").await);
        let https = |origin: &Origin| origin.url().replace("http:", "https:");
        let pem = std::fs::read(authority.file()).expect("readable");
        for client in [
            builder([https(&right)]).ca_certificate_pem(&pem),
            builder([https(&right)]).ca_certificate_file(authority.file()),
        ] {
            let client = client.only_these_ca().build().expect("valid");
            assert_eq!(client.get("/").send().await.expect("answered").status(), 200);
        }
        let unknown = builder([https(&right)]).build().expect("valid");
        let misnamed = builder([https(&wrong)]).ca_certificate_pem(&pem).build().expect("valid");
        for client in [unknown, misnamed] {
            let error = client.post("/").body("x").send().await.expect_err("not trusted");
            let first = error.record().expect("tried").attempts().next().expect("there");
            assert_eq!((first.stage(), first.fault()), (Stage::Tls, Some(Fault::Tls)), "{error}");
            assert!(error.is_not_sent() && error.is_connect() && first.message().is_some(), "{error}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_servers_that_ask() {
    bounded(async {
        let (authority, directory) = (Authority::new(), tempfile::tempdir().expect("writable"));
        let origin = Origin::builder().script(|_| Act::Answer(Answer::ok("yes")));
        let origin = origin.tls(authority.acceptor_for_known(&["127.0.0.1"], &["http/1.1"])).start().await;
        let url = origin.url().replace("http:", "https:");
        let (certificate, key) = authority.files(&["client.test"], directory.path());
        let read = |path| std::fs::read(path).expect("readable");
        let builder = || builder([&url]).ca_certificate_file(authority.file());
        let known = builder().client_certificate_pem(&read(certificate), &read(key)).build().expect("valid");
        assert_eq!(known.get("/").send().await.expect("answered").status(), 200);
        let unknown = builder().build().expect("valid");
        unknown.get("/").send().await.expect_err("nobody knows it");
        assert_eq!(origin.request_count(), 1);
    })
    .await;
}

#[test]
fn all_that_is_wrong_with_a_client_is_told_at_once_and_without_passwords() {
    let client =
        builder(["ftp://h", "http://user:secret@h/?q"]).ca_certificate_pem(b"no certificate").user_agent("a\nb");
    let client = client.proxy("gopher://user:secret@h").client_certificate_pem(b"", b"");
    let error = client.build().expect_err("all of it is wrong");
    assert_eq!(error.problems().len(), 6, "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");
    assert_eq!(Client::builder().build().expect_err("no endpoint").problems().len(), 1);
}

#[tokio::test]
async fn a_password_that_breaks_its_url_is_not_printed_either() {
    for sign in ['/', '?', '#'] {
        let password = format!("hunter{sign}zwei");
        for scheme in ["http", "socks5", "gopher"] {
            let url = format!("{scheme}://user:{password}@h.example");
            let endpoint = builder([&url]).build().expect_err("no port is like this");
            let proxy = builder(["http://h"]).proxy(&url).build().expect_err("no port is like this");
            let request = client("http://127.0.0.1:9").get(&url).send().await.expect_err("no port is like this");
            for said in [format!("{endpoint} {endpoint:?}"), format!("{proxy} {proxy:?}"), format!("{request:?}")] {
                assert!(!said.contains("hunter") && !said.contains("zwei"), "{said}");
            }
        }
    }
}

#[test]
fn an_order_that_a_client_cannot_keep_is_refused() {
    for (order, is_known) in [(Order::Affine, false), (Order::Spread, true), (Order::Sticky, true)] {
        let parts = PolicyParts { order, ..*Policy::rotation().parts() };
        let client = builder(["http://h"]).policy(Policy::try_new(parts).expect("valid")).build();
        assert_eq!(client.is_ok(), is_known, "{order:?}");
        assert!(client.err().is_none_or(|error| error.to_string().contains("sticky")), "it says what to take instead");
    }
}
