//! What each method sends and answers, and the codes and texts of its failures.

use handover_client::Fate;
use handover_client::kv::{KeyQuery, KvCode, KvProvider, SortBy};
use handover_testkit::{Act, Answer, DeadPort, KV_READ_ONLY_TOKEN, KV_TOKEN, KvServer, Origin, bounded};
use serde_json::{Value, json};

use super::{built, cloud, pair, plain};

#[tokio::test]
async fn each_method_sends_what_the_original_sends() {
    bounded(async {
        let (store, [server, _]) = pair().await;
        store.put("a b/c", json!(7));
        let provider = built(cloud([&server]));
        provider.load_namespace_info().await.expect("info");
        provider.update_namespace_info(&json!({ "name": "x" })).await.expect_err("no such path");
        provider.load_data("a b/c").await.expect("there");
        provider.save_data("a b/c", &json!({ "x": [1, 2] })).await.expect("saved");
        provider.load_keys(&KeyQuery::default()).await.expect("keys");
        let query = KeyQuery { sort_by: SortBy::UpdatedAt, descending: true, limit: 2, skip: 1 };
        provider.load_keys(&query).await.expect("keys");
        let seen = server.requests();
        let lines: Vec<_> = seen.iter().map(|seen| format!("{} {}", seen.head.method, seen.head.uri)).collect();
        assert_eq!(
            lines,
            [
                "GET /kv/_info",
                "PUT /kv/_info",
                "GET /kv/a%20b%2Fc",
                "POST /kv/a%20b%2Fc",
                "GET /kv/_keys?sortBy=key&sortDir=asc&limit=100&skip=0",
                "GET /kv/_keys?sortBy=updatedAt&sortDir=desc&limit=2&skip=1",
            ]
        );
        for seen in &seen {
            assert_eq!(seen.head.headers["accept"], "application/json");
            assert_eq!(seen.head.headers["x-app-token"], KV_TOKEN);
            assert!(!seen.head.headers.contains_key("x-site-key"));
        }
        assert_eq!(seen[3].head.headers["content-type"], "application/json");
        assert_eq!(&seen[3].body[..], br#"{"x":[1,2]}"#);
    })
    .await;
}

#[tokio::test]
async fn a_site_key_is_sent_in_base64_where_there_is_no_token() {
    bounded(async {
        let (_, [server, _]) = pair().await;
        let with = |token: &str| {
            let builder = KvProvider::kv_server(&server.url()).site_key("班级-1").token(token).client(plain());
            built(builder)
        };
        with("").load_data("k").await.expect_err("the server knows no site keys");
        with(KV_TOKEN).load_data("k").await.expect("there");
        with(KV_TOKEN).check().await;
        let seen = server.requests();
        assert_eq!(seen[0].head.headers["x-site-key"], "54+t57qnLTE=");
        assert!(!seen[0].head.headers.contains_key("x-app-token"));
        assert!(!seen[1].head.headers.contains_key("x-site-key"));
        assert_eq!(seen[2].head.headers["x-site-key"], "54+t57qnLTE=", "the connection test has no token");
        assert!(!seen[2].head.headers.contains_key("x-app-token"));
    })
    .await;
}

/// What one method comes to, as its code and message; `Ok` has what was answered.
async fn outcome(provider: &KvProvider, method: &str) -> Result<Value, (KvCode, String)> {
    let done = match method {
        "info" => provider.load_namespace_info().await,
        "update" => provider.update_namespace_info(&json!({})).await,
        "load" => provider.load_data("k").await,
        "save" => provider.save_data("k", &json!(2)).await.map(|()| json!(true)),
        _ => provider.load_keys(&KeyQuery::default()).await.map(|page| json!(page)),
    };
    done.map_err(|error| (error.code(), error.message().to_owned()))
}

#[tokio::test]
async fn each_failure_has_the_code_and_the_text_of_the_original() {
    bounded(async {
        use KvCode::{NamespaceError, NetworkError, NotFound, PermissionDenied, SaveError, Unauthorized};
        // What the server says is shown; without that, what the last column says.
        let table = [
            ("info", 404, NamespaceError, None, "获取命名空间信息失败"),
            ("info", 503, NamespaceError, None, "获取命名空间信息失败"),
            ("update", 404, NamespaceError, None, "更新命名空间信息失败"),
            ("load", 404, NotFound, Some("数据不存在"), "数据不存在"),
            ("load", 401, NetworkError, None, "服务器连接失败"),
            ("load", 403, NetworkError, None, "服务器连接失败"),
            ("load", 500, NetworkError, None, "服务器连接失败"),
            ("save", 403, SaveError, None, "保存失败"),
            ("save", 404, SaveError, None, "保存失败"),
            ("save", 500, SaveError, None, "保存失败"),
            ("keys", 404, NotFound, None, "服务器连接失败"),
            ("keys", 403, PermissionDenied, None, "服务器连接失败"),
            ("keys", 401, Unauthorized, None, "服务器连接失败"),
            ("keys", 400, NetworkError, None, "服务器连接失败"),
            ("keys", 502, NetworkError, None, "服务器连接失败"),
        ];
        for (method, status, code, fixed, silent) in table {
            for (body, message) in [
                (r#"{"success":false,"message":"原因"}"#, fixed.unwrap_or("原因")),
                (r#"{"success":false}"#, silent),
                ("<html>", silent),
            ] {
                let server = Origin::scripted(move |_| Act::Answer(Answer::status(status, body))).await;
                let builder = KvProvider::kv_server(&server.url()).token(KV_TOKEN).client(plain());
                let got = outcome(&built(builder), method).await;
                assert_eq!(got, Err((code, message.to_owned())), "{method} {status} {body}");
            }
        }
        for (method, code, message) in [
            ("info", NamespaceError, "获取命名空间信息失败"),
            ("load", NetworkError, "服务器连接失败"),
            ("save", SaveError, "保存失败"),
            ("keys", NetworkError, "服务器连接失败"),
        ] {
            let dead = DeadPort::new();
            let provider = built(KvProvider::kv_server(&format!("http://{}", dead.addr())).client(plain()));
            assert_eq!(outcome(&provider, method).await, Err((code, message.to_owned())), "{method} refused");
        }
    })
    .await;
}

#[tokio::test]
async fn the_servers_own_words_come_through() {
    bounded(async {
        let (store, servers) = pair().await;
        let provider = built(cloud(&servers));
        let page = provider.load_keys(&KeyQuery::default()).await.expect("keys");
        assert_eq!((page.keys, page.total_rows, page.current_page.count), (vec!["k".to_owned()], 1, 1));
        assert_eq!(provider.load_namespace_info().await.expect("info")["hasAccount"], false);
        provider.save_data("new", &Value::Null).await.expect("saved");
        assert_eq!(store.value("new"), Some(json!({})));
        assert_eq!(provider.load_data("new").await.expect("there"), json!({}));
        let reader = built(cloud(&servers).token(KV_READ_ONLY_TOKEN));
        let error = reader.save_data("k", &1).await.expect_err("read only");
        let shown = json!({ "code": "SAVE_ERROR", "message": "当前token为只读模式,无法修改数据" });
        assert_eq!(error.to_json(), json!({ "success": false, "error": shown }));
        assert_eq!((error.fate(), error.status().map(|status| status.as_u16())), (Fate::Answered, Some(403)));
        let nobody = built(cloud(&servers).token(""));
        let error = nobody.load_keys(&KeyQuery::default()).await.expect_err("no token");
        assert_eq!(error.to_string(), format!("UNAUTHORIZED: 需要提供有效的token ({})", servers[0].url()));
    })
    .await;
}

#[tokio::test]
async fn the_url_for_others_has_the_key_and_the_token_in_it() {
    bounded(async {
        let (_, servers) = pair().await;
        let provider = built(cloud(&servers).token("t&k"));
        let expected = format!("{}/kv/a%20b?token=t%26k", servers[0].url());
        assert_eq!(provider.key_cloud_url("a b").await.expect("a url"), expected);
        let error = built(cloud(&servers).token("")).key_cloud_url("a").await.expect_err("no token");
        assert_eq!(error.code(), KvCode::ConfigError);
        assert!(!format!("{provider:?}").contains("t&k"));
    })
    .await;
}

#[tokio::test]
async fn the_connection_test_asks_until_one_is_good_and_says_how_it_went() {
    bounded(async {
        let (_, servers) = pair().await;
        let urls = servers.each_ref().map(KvServer::url);
        let check = built(cloud(&servers)).check().await;
        let first = format!("服务器连接正常 延迟{}ms\n服务器: {}", check.duration.as_millis(), urls[0]);
        assert_eq!((check.is_good(), check.to_string()), (true, first));
        // A body that does not say success is a failure, whatever the status.
        let odd = Origin::scripted(|_| Act::Answer(Answer::ok(r#"{"status":"error"}"#))).await;
        let provider = built(cloud([]).servers([odd.url(), urls[1].clone()]));
        let check = provider.check().await;
        assert!(check.is_good() && check.servers.len() == 2, "{check}");
        assert_eq!(check.servers[0].error.as_deref(), Some("服务器响应异常"));
        servers[0].fail(503);
        servers[1].down().await;
        let check = built(cloud(&servers)).check().await;
        assert!(!check.is_good() && check.to_string().ends_with("所有服务器均连接失败"), "{check}");
        servers[0].fail(401);
        let check = built(cloud(&servers)).check().await;
        assert!(!check.is_good() && check.servers.len() == 1 && check.servers[0].is_final, "{check}");
    })
    .await;
}
