//! The KV server answers as Classworks' own does, and counts what it executes.

use handover_testkit::{Client, KV_READ_ONLY_TOKEN, KV_TOKEN, KvFault, KvServer, KvStore, Response, bounded};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// A request with a token; the body is JSON when there is one.
async fn ask(server: &KvServer, method: &str, target: &str, body: &str) -> Response {
    ask_with(server, method, target, &format!("x-app-token: {KV_TOKEN}\r\n"), body).await
}

async fn ask_with(server: &KvServer, method: &str, target: &str, headers: &str, body: &str) -> Response {
    let length = body.len();
    let head = format!("{method} {target} HTTP/1.1\r\nHost: h\r\n{headers}Content-Length: {length}\r\n\r\n");
    Client::once(server.addr(), head + body).await
}

fn json_of(response: &Response) -> Value {
    serde_json::from_slice(&response.body).expect("the body is JSON")
}

fn message(response: &Response) -> (u16, String) {
    let body = json_of(response);
    assert_eq!(body["success"], false);
    (response.status(), body["message"].as_str().expect("an error has a message").to_owned())
}

#[tokio::test]
async fn a_value_is_written_read_described_and_deleted_once() {
    bounded(async {
        let store = KvStore::new();
        let server = KvServer::start(&store).await;
        assert_eq!(message(&ask(&server, "GET", "/kv/a%20b", "").await), (404, "未找到键名为 'a b' 的记录".into()));
        let first = json_of(&ask(&server, "POST", "/kv/a%20b", "[1,2]").await);
        let second = json_of(&ask(&server, "POST", "/kv/a%20b", "{\"x\":1}").await);
        assert_eq!((&first["created"], &second["created"]), (&json!(true), &json!(false)));
        assert_ne!(first["updatedAt"], second["updatedAt"]);
        assert_eq!(json_of(&ask(&server, "GET", "/kv/a%20b", "").await), json!({"x": 1}));
        let metadata = json_of(&ask(&server, "GET", "/kv/a%20b/metadata", "").await);
        assert_eq!((&metadata["createdAt"], &metadata["updatedAt"]), (&first["updatedAt"], &second["updatedAt"]));
        for nothing in ["", "null", "\"\""] {
            ask(&server, "POST", "/kv/empty", nothing).await;
            assert_eq!(store.value("empty"), Some(json!({})));
        }
        assert_eq!(ask(&server, "DELETE", "/kv/a%20b", "").await.status(), 204);
        assert_eq!(ask(&server, "DELETE", "/kv/a%20b", "").await.status(), 404);
        assert_eq!((server.writes().of("a b"), store.writes().of("a b"), store.keys()), (4, 4, vec!["empty".into()]));
    })
    .await;
}

#[tokio::test]
async fn a_token_is_found_in_four_places_and_a_read_only_one_writes_nothing() {
    bounded(async {
        let store = KvStore::new();
        let server = KvServer::start(&store).await;
        let bearer = format!("Authorization: Bearer {KV_TOKEN}\r\n");
        assert_eq!(ask_with(&server, "GET", "/kv/_info", &bearer, "").await.status(), 200);
        let query = format!("/kv/_info?token={KV_TOKEN}");
        assert_eq!(ask_with(&server, "GET", &query, "", "").await.status(), 200);
        let body = format!("{{\"token\":\"{KV_TOKEN}\"}}");
        assert_eq!(ask_with(&server, "POST", "/kv/k", "", &body).await.status(), 200);
        let anonymous = ask_with(&server, "GET", "/kv/k", "", "").await;
        assert_eq!(message(&anonymous), (401, "需要提供有效的token".into()));
        let wrong = ask_with(&server, "GET", "/kv/k", "x-app-token: x\r\n", "").await;
        assert_eq!(message(&wrong), (401, "无效的token".into()));
        let read_only = format!("x-app-token: {KV_READ_ONLY_TOKEN}\r\n");
        assert_eq!(ask_with(&server, "GET", "/kv/k", &read_only, "").await.status(), 200);
        for (method, path) in [("POST", "/kv/k"), ("DELETE", "/kv/k"), ("POST", "/kv/_batchimport")] {
            let refused = ask_with(&server, method, path, &read_only, "{\"a\":1}").await;
            assert_eq!(message(&refused), (403, "当前token为只读模式,无法修改数据".into()));
        }
        assert_eq!(store.writes().total(), 1);
    })
    .await;
}

#[tokio::test]
async fn the_paths_around_the_values_answer_as_the_real_server() {
    bounded(async {
        let store = KvStore::new();
        let server = KvServer::start(&store).await;
        let probe = ask_with(&server, "HEAD", "/", "", "").await;
        assert_eq!(probe.status(), 200);
        assert_eq!(json_of(&ask_with(&server, "GET", "/check", "", "").await)["status"], "success");
        assert_eq!(json_of(&ask(&server, "GET", "/kv/_token", "").await)["isReadOnly"], false);
        let missing = ask(&server, "PUT", "/kv/_info", "{}").await;
        assert_eq!(message(&missing), (404, "找不到路径: /kv/_info".into()));
        assert_eq!(message(&ask(&server, "GET", "/nowhere", "").await), (404, "找不到路径: /nowhere".into()));
        let imported = json_of(&ask(&server, "POST", "/kv/_batchimport", "{\"b\":1,\"a\":2,\"c\":3}").await);
        assert_eq!(imported["data"]["summary"], json!({"total": 3, "successful": 3, "failed": 0}));
        assert_eq!(ask(&server, "POST", "/kv/_batchimport", "{}").await.status(), 400);
        let page = json_of(&ask(&server, "GET", "/kv/_keys?sortBy=key&sortDir=desc&limit=2&skip=1", "").await);
        let expected =
            json!({"keys": ["b", "a"], "total_rows": 2, "current_page": {"limit": 2, "skip": 1, "count": 2}});
        assert_eq!(page, expected);
        let list = json_of(&ask(&server, "GET", "/kv/?limit=1", "").await);
        assert_eq!((&list["items"][0]["key"], &list["total_rows"]), (&json!("a"), &json!(3)));
    })
    .await;
}

#[tokio::test]
async fn a_fault_says_whether_the_request_was_executed() {
    bounded(async {
        let (shared, mine) = (KvStore::new(), KvStore::new());
        let (first, second, alone) =
            (KvServer::start(&shared).await, KvServer::start(&shared).await, KvServer::start(&mine).await);
        first.fail(503);
        assert_eq!(ask(&first, "POST", "/kv/k", "1").await.status(), 503);
        assert_eq!((first.writes().of("k"), first.requests().len()), (0, 1));
        first.fault(Some(KvFault::ExecuteThenStatus(500)));
        assert_eq!(ask(&first, "POST", "/kv/k", "1").await.status(), 500);
        assert_eq!(json_of(&ask(&second, "GET", "/kv/k", "").await), 1);
        ask(&second, "POST", "/kv/k", "2").await;
        assert_eq!((first.writes().of("k"), second.writes().of("k"), shared.writes().of("k")), (1, 1, 2));
        assert_eq!(ask(&alone, "GET", "/kv/k", "").await.status(), 404);
        for (fault, executed) in [(KvFault::Drop, 0), (KvFault::ExecuteThenDrop, 1)] {
            alone.fault(Some(fault));
            let mut client = Client::connect(alone.addr()).await;
            let post = format!("POST /kv/k?token={KV_TOKEN} HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n1");
            client.send(post).await.unwrap();
            assert_eq!((client.read_to_end().await.unwrap(), mine.writes().of("k")), (Vec::new(), executed));
        }
        alone.fault(None);
        assert_eq!(ask(&alone, "GET", "/kv/k", "").await.status(), 200);
    })
    .await;
}

#[tokio::test]
async fn a_delayed_write_waits_and_one_that_the_server_takes_down_with_it_is_not_executed() {
    bounded(async {
        let store = KvStore::new();
        let server = KvServer::start(&store).await;
        server.delay(Duration::from_millis(100));
        let began = Instant::now();
        assert_eq!(ask(&server, "POST", "/kv/k", "1").await.status(), 200);
        assert!(began.elapsed() >= Duration::from_millis(100));
        server.delay(Duration::from_secs(3600));
        let mut client = Client::connect(server.addr()).await;
        let post = format!("POST /kv/k?token={KV_TOKEN} HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n2");
        client.send(post).await.unwrap();
        server.until_requests(2).await;
        server.down().await;
        assert!(client.read_to_end().await.unwrap_or_default().is_empty());
        let refused = tokio::net::TcpStream::connect(server.addr()).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        server.up();
        server.delay(Duration::ZERO);
        assert_eq!(json_of(&ask(&server, "GET", "/kv/k", "").await), 1);
        assert_eq!((store.writes().of("k"), server.requests().len()), (1, 3));
    })
    .await;
}
