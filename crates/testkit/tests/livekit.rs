//! The LiveKit mock does what its protocol says, seen from a raw client.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use handover_testkit::{Client, Gate, LivekitMock, Response, bounded};
use serde_json::{Value, json};

const CREATE: &str = "/twirp/livekit.RoomService/CreateRoom";

fn addr(mock: &LivekitMock, listener: usize) -> SocketAddr {
    mock.url(listener).strip_prefix("http://").expect("it is plain HTTP").parse().expect("an address")
}

fn post(path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    )
}

/// CreateRoom with a token and these directives.
async fn create(mock: &LivekitMock, listener: usize, directives: &Value) -> Response {
    let headers = format!("Authorization: Bearer t\r\nX-Lk-Mock: {directives}\r\n");
    Client::once(addr(mock, listener), post(CREATE, &headers, r#"{"name":"room"}"#)).await
}

fn body(response: &Response) -> Value {
    serde_json::from_slice(&response.body).expect("the body is JSON")
}

#[tokio::test]
async fn a_room_is_created_and_the_region_that_served_names_itself() {
    bounded(async {
        let mock = LivekitMock::start(2).await;
        let answer = create(&mock, 1, &json!({})).await;
        assert_eq!((answer.status(), answer.header("x-lk-mock-region")), (200, Some("1")));
        let room = body(&answer);
        assert_eq!(room["name"], "room");
        assert!(room["sid"].as_str().is_some_and(|sid| sid.starts_with("RM_")));
        let seen = &mock.requests(1)[0];
        assert_eq!((&seen.head.headers["authorization"], mock.requests(0).len()), (&"Bearer t".parse().unwrap(), 0));
        assert_eq!(&seen.body[..], br#"{"name":"room"}"#);
        let replaced = create(&mock, 0, &json!({"response": {"sid": "RM_other"}})).await;
        assert_eq!(body(&replaced), json!({"sid": "RM_other"}));
        let unknown = post("/twirp/livekit.Egress/Nothing", "X-Lk-Mock: {\"skipAuth\":true}\r\n", "{}");
        let unknown = Client::once(addr(&mock, 0), unknown).await;
        assert_eq!((unknown.status(), unknown.body.len()), (200, 0));
        let health = Client::once(addr(&mock, 0), "GET /_test/health HTTP/1.1\r\nHost: h\r\n\r\n").await;
        assert_eq!((health.status(), mock.all_requests().len()), (200, 3));
    })
    .await;
}

#[tokio::test]
async fn only_the_listed_regions_fail_with_the_status_and_its_twirp_code() {
    bounded(async {
        let mock = LivekitMock::start(2).await;
        let directives = json!({"failRegions": [0], "failStatus": 400});
        let failed = create(&mock, 0, &directives).await;
        assert_eq!((failed.status(), failed.header("x-lk-mock-region")), (400, None));
        assert_eq!(body(&failed), json!({"code": "invalid_argument", "msg": "mock failure (status 400)"}));
        assert_eq!(create(&mock, 1, &directives).await.status(), 200);
        assert_eq!(create(&mock, 0, &json!({"failRegions": [0]})).await.status(), 503);
    })
    .await;
}

#[tokio::test]
async fn a_dropped_request_ends_the_connection_without_a_byte() {
    bounded(async {
        let mock = LivekitMock::start(1).await;
        let mut client = Client::connect(addr(&mock, 0)).await;
        let headers = "X-Lk-Mock: {\"failRegions\":[0],\"failMode\":\"drop\",\"skipAuth\":true}\r\n";
        client.send(post(CREATE, headers, "{}")).await.unwrap();
        assert_eq!(client.read_to_end().await.unwrap(), b"");
        assert_eq!(mock.requests(0).len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_stalling_region_stalls_alone_and_a_delay_is_everywhere() {
    bounded(async {
        let mock = LivekitMock::start(2).await;
        let stall = "X-Lk-Mock-Skip-Auth: true\r\nX-Lk-Mock-Delay-Ms: 150\r\nX-Lk-Mock: {\"failRegions\":[0],\"failMode\":\"delay\"}\r\n";
        let delay = "X-Lk-Mock: {\"skipAuth\":true,\"delayMs\":150}\r\n";
        for (listener, headers, status, waits) in
            [(0, stall, 503, true), (1, stall, 200, false), (0, delay, 200, true), (1, delay, 200, true)]
        {
            let began = Instant::now();
            let answer = Client::once(addr(&mock, listener), post(CREATE, headers, "{}")).await;
            assert_eq!(answer.status(), status);
            assert_eq!(began.elapsed() >= Duration::from_millis(150), waits, "{headers} at {listener}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_token_is_needed_before_anything_else_and_a_pin_comes_before_a_failure() {
    bounded(async {
        let mock = LivekitMock::start(2).await;
        let failing = "X-Lk-Mock: {\"failRegions\":[0]}\r\n";
        let anonymous = Client::once(addr(&mock, 0), post(CREATE, failing, "{}")).await;
        assert_eq!((anonymous.status(), &body(&anonymous)["code"]), (401, &json!("unauthenticated")));
        let pinned = json!({"failRegions": [0, 1], "pinnedRegions": ["region-1"]});
        let pin = create(&mock, 0, &pinned).await;
        assert_eq!((pin.status(), pin.text().as_str()), (451, "project not allowed in this region."));
        assert_eq!(create(&mock, 1, &pinned).await.status(), 503);
        let garbled = Client::once(addr(&mock, 0), post(CREATE, "Authorization: Bearer t\r\n", "{")).await;
        assert_eq!((garbled.status(), &body(&garbled)["code"]), (400, &json!("malformed")));
    })
    .await;
}

async fn discover(mock: &LivekitMock, directives: &Value) -> Response {
    let request = format!("GET /settings/regions HTTP/1.1\r\nHost: h\r\nX-Lk-Mock: {directives}\r\n\r\n");
    Client::once(addr(mock, 0), request).await
}

#[tokio::test]
async fn the_discovery_lists_every_region_or_those_pinned_or_fails() {
    bounded(async {
        let mock = LivekitMock::start(2).await;
        let list = discover(&mock, &json!({})).await;
        assert_eq!((list.status(), list.header("cache-control")), (200, Some("max-age=0")));
        let (first, second) = (mock.url(0), mock.url(1));
        let all = json!({"regions": [
            {"region": "region-0", "url": first},
            {"region": "region-1", "url": second, "distance": "1"},
        ]});
        assert_eq!(body(&list), all);
        let pinned = discover(&mock, &json!({"pinnedRegions": ["region-1"]})).await;
        assert_eq!(body(&pinned), json!({"regions": [{"region": "region-1", "url": second}]}));
        let nowhere = discover(&mock, &json!({"pinnedRegions": ["region-99"]})).await;
        assert_eq!(body(&nowhere), json!({"regions": []}));
        assert_eq!(discover(&mock, &json!({"regionsStatus": 500})).await.status(), 500);
        assert_eq!((mock.discoveries().len(), mock.all_requests().len()), (4, 0));
        mock.cache_control("max-age=60");
        mock.advertise([("eu".to_owned(), "wss://eu.example".to_owned())]);
        let pushed = discover(&mock, &json!({})).await;
        assert_eq!(pushed.header("cache-control"), Some("max-age=60"));
        assert_eq!(body(&pushed), json!({"regions": [{"region": "eu", "url": "wss://eu.example"}]}));
    })
    .await;
}

#[tokio::test]
async fn a_held_discovery_waits_for_its_gate() {
    bounded(async {
        let (mock, gate) = (LivekitMock::start(1).await, Gate::new());
        mock.hold_discovery(&gate);
        let mut client = Client::connect(addr(&mock, 0)).await;
        client.send("GET /settings/regions HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
        mock.until(|mock| mock.discoveries().len() == 1).await;
        client.stays_silent(Duration::from_millis(100)).await;
        gate.open();
        assert_eq!(client.read_response("GET").await.unwrap().status(), 200);
    })
    .await;
}

#[tokio::test]
async fn a_listener_that_is_down_refuses_and_comes_back_on_its_port() {
    bounded(async {
        let mock = LivekitMock::start(1).await;
        let mut kept = Client::connect(addr(&mock, 0)).await;
        kept.request("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
        for _ in 0..3 {
            mock.down(0).await;
            let refused = tokio::net::TcpStream::connect(addr(&mock, 0)).await.unwrap_err();
            assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
            mock.up(0);
            assert_eq!(create(&mock, 0, &json!({})).await.status(), 200);
        }
        assert_eq!(kept.read_to_end().await.unwrap_or_default(), b"");
    })
    .await;
}
