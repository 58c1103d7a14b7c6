//! The key-value providers against servers that speak the API: what rotates, what each method sends and answers, and the
//! nine ways in which the original went wrong.
#![cfg(feature = "classworks")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use handover_client::kv::{KeyQuery, KvBuilder, KvCode, KvError, KvKind, KvProvider, SortBy};
use handover_client::{
    Ask, BoxFuture, Client, ClientBuilder, Discover, DiscoverError, FailbackParts, FailbackPolicy, Fate, Observer,
    Order, Policy, PolicyParts, Probe, RequestOver,
};
use handover_testkit::{
    Act, Answer, DeadPort, End, KV_READ_ONLY_TOKEN, KV_TOKEN, KvFault, KvSeen, KvServer, KvStore, Origin, bounded,
};
use serde_json::{Value, json};

/// Two servers over one store, as the cloud has them.
async fn pair() -> (KvStore, [KvServer; 2]) {
    let store = KvStore::new();
    store.put("k", json!({ "v": 1 }));
    let servers = [KvServer::start(&store).await, KvServer::start(&store).await];
    (store, servers)
}

fn plain() -> ClientBuilder {
    Client::builder().no_proxy()
}

fn cloud<'s>(servers: impl IntoIterator<Item = &'s KvServer>) -> KvBuilder {
    let urls: Vec<_> = servers.into_iter().map(KvServer::url).collect();
    KvProvider::classworkscloud().servers(urls).token(KV_TOKEN).client(plain())
}

fn built(builder: KvBuilder) -> KvProvider {
    builder.build().expect("valid")
}

fn values(server: &KvServer) -> Vec<KvSeen> {
    server.requests().into_iter().filter(|seen| seen.head.uri.path().starts_with("/kv/")).collect()
}

fn attempts(error: &KvError) -> Vec<(String, bool)> {
    let record = error.record().expect("servers were tried");
    record.attempts().map(|attempt| (attempt.endpoint().to_owned(), attempt.status().is_some())).collect()
}

// ---- The rotation (A1.2)

/// What it shows, how each server fails, what comes of it, and how often each was asked.
type Row = (&'static str, [Option<KvFault>; 2], Result<(), KvCode>, [usize; 2]);

#[tokio::test]
async fn the_rotation_goes_on_and_ends_as_the_table_says() {
    bounded(async {
        use KvFault::{Drop, Status};
        let table: &[Row] = &[
            ("the first one serves", [None, None], Ok(()), [1, 0]),
            ("an answered 500 goes on", [Some(Status(500)), None], Ok(()), [1, 1]),
            ("an answered 503 goes on", [Some(Status(503)), None], Ok(()), [1, 1]),
            ("a closed connection goes on", [Some(Drop), None], Ok(()), [1, 1]),
            ("400 is final", [Some(Status(400)), None], Err(KvCode::NetworkError), [1, 0]),
            ("401 is final", [Some(Status(401)), None], Err(KvCode::NetworkError), [1, 0]),
            ("403 is final", [Some(Status(403)), None], Err(KvCode::NetworkError), [1, 0]),
            ("404 is final", [Some(Status(404)), None], Err(KvCode::NotFound), [1, 0]),
            ("408 is the server's verdict", [Some(Status(408)), None], Err(KvCode::NetworkError), [1, 0]),
            ("429 is final", [Some(Status(429)), None], Err(KvCode::NetworkError), [1, 0]),
            ("404 behind a 500 is final", [Some(Status(500)), Some(Status(404))], Err(KvCode::NotFound), [1, 1]),
            ("all fail", [Some(Status(500)), Some(Status(502))], Err(KvCode::NetworkError), [1, 1]),
            ("all close", [Some(Drop), Some(Drop)], Err(KvCode::NetworkError), [1, 1]),
        ];
        for (what, faults, expected, asked) in table {
            let (_, servers) = pair().await;
            for (server, fault) in servers.iter().zip(faults) {
                server.fault(*fault);
            }
            let got = built(cloud(&servers)).load_data("k").await;
            match (&got, expected) {
                (Ok(value), Ok(())) => assert_eq!(value, &json!({ "v": 1 }), "{what}"),
                (Err(error), Err(code)) => assert_eq!(error.code(), *code, "{what}: {error}"),
                _ => panic!("{what}: {got:?}"),
            }
            assert_eq!(servers.each_ref().map(|server| values(server).len()), *asked, "{what}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_that_refuses_or_hangs_costs_its_time_and_the_next_one_serves() {
    bounded(async {
        let (_, [hanging, good]) = pair().await;
        hanging.delay(Duration::from_secs(600));
        let dead = DeadPort::new();
        let urls = [format!("http://{}", dead.addr()), hanging.url(), good.url()];
        let client = plain().attempt_timeout(Duration::from_millis(500));
        let provider = built(cloud([]).servers(urls).client(client));
        assert_eq!(provider.load_data("k").await.expect("served"), json!({ "v": 1 }));
        assert_eq!((values(&hanging).len(), values(&good).len()), (1, 1));
    })
    .await;
}

/// Knows of no other endpoint, so that a policy that asks tries the same one again.
struct Nobody;

impl Discover for Nobody {
    fn discover<'a>(&'a self, _ask: Ask<'a>) -> BoxFuture<'a, Result<Vec<url::Url>, DiscoverError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

#[tokio::test]
async fn kv_server_asks_once_and_does_not_rotate() {
    bounded(async {
        let (_, [server, _]) = pair().await;
        server.fail(503);
        // This policy would ask the same server again.
        let persistent = plain().policy(Policy::regions()).discover(Nobody);
        let builder = KvProvider::kv_server(&server.url()).token(KV_TOKEN).client(persistent);
        let error = built(builder).load_data("k").await.expect_err("fails");
        assert_eq!((error.code(), error.message()), (KvCode::NetworkError, "服务器内部错误"));
        assert_eq!(server.requests().len(), 1);
        for wrong in [
            KvProvider::kv_server(""),
            KvProvider::kv_server("http://a.example").servers(["http://a.example", "http://b.example"]),
            KvProvider::classworkscloud().servers([""; 0]),
            KvProvider::classworkscloud().site_key("s"),
            KvProvider::kv_server("http://a.example").token("a\nb"),
        ] {
            assert_eq!(wrong.build().expect_err("wrong").code(), KvCode::ConfigError);
        }
    })
    .await;
}

// ---- What each method sends and answers (A1.5, A2)

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

// ---- The hazards of the original (A1.4)

/// Panics whenever a request is over.
struct Panics;

impl Observer for Panics {
    fn request_over(&self, _request: &RequestOver<'_>) {
        panic!("a callback of the caller's");
    }
}

#[tokio::test]
async fn b1_a_callback_that_fails_on_success_replays_nothing() {
    bounded(async {
        let (store, servers) = pair().await;
        let provider = built(cloud(&servers).client(plain().observer(Panics)));
        provider.save_data("k", &2).await.expect("saved");
        assert_eq!((store.writes().of("k"), values(&servers[1]).len()), (1, 0));
    })
    .await;
}

/// By speed, with a probe every 100 ms, and back to a better server at once.
fn by_speed() -> ClientBuilder {
    let policy = Policy::try_new(PolicyParts { order: Order::Fastest, ..*Policy::rotation().parts() }).expect("valid");
    let parts =
        FailbackParts { grace: Duration::ZERO, switches_per_minute: 60, preference_ttl: Duration::from_millis(1) };
    let failback = FailbackPolicy::try_new(parts).expect("valid");
    let probe = Probe::get("/check").interval(Duration::from_millis(100)).expect("/status", "success");
    plain().policy(policy).failback(failback).probe(probe)
}

#[tokio::test]
async fn b2_traffic_goes_back_to_the_better_server_although_every_request_succeeds() {
    bounded(async {
        let (_, servers) = pair().await;
        servers[1].delay(Duration::from_millis(20));
        servers[0].down().await;
        let provider = built(cloud(&servers).client(by_speed()));
        // Until the second one is preferred, as after a failover that the original made.
        while !provider.key_cloud_url("k").await.expect("a url").starts_with(&servers[1].url()) {
            provider.load_data("k").await.expect("the second one serves");
        }
        servers[0].up();
        // Steady traffic, each request a success: in the original, each renews the preference.
        while values(&servers[0]).is_empty() {
            provider.load_data("k").await.expect("one of them serves");
        }
    })
    .await;
}

#[tokio::test]
async fn b3_a_server_that_fails_fast_is_not_the_fastest() {
    bounded(async {
        let (_, servers) = pair().await;
        servers[0].fail(500);
        servers[1].delay(Duration::from_millis(20));
        let provider = built(cloud(&servers).client(by_speed()));
        provider.load_data("k").await.expect("the second one serves");
        // A round of probes begins when the one before it is over.
        for rounds in [4, 8, 12] {
            servers[0].until_requests(rounds).await;
            let url = provider.key_cloud_url("k").await.expect("a url");
            assert!(url.starts_with(&servers[1].url()), "{url}");
        }
    })
    .await;
}

#[tokio::test]
async fn b4_what_may_have_arrived_is_repeated_only_if_that_does_no_harm() {
    bounded(async {
        let (store, servers) = pair().await;
        let urls = servers.each_ref().map(KvServer::url);
        let client = plain().endpoints(&urls).attempt_timeout(Duration::from_millis(500)).build().expect("valid");
        servers[0].fault(Some(KvFault::ExecuteThenDrop));
        // Any POST: nobody knows what a second one would do.
        let import = client.post("/kv/_batchimport").header("x-app-token", KV_TOKEN).json(&json!({ "i": 1 }));
        let error = import.send().await.expect_err("unknown");
        assert_eq!((error.fate(), store.writes().of("i")), (Fate::Unknown, 1));
        servers[0].fault(None);
        servers[0].delay(Duration::from_secs(600));
        let import = client.post("/kv/_batchimport").header("x-app-token", KV_TOKEN).json(&json!({ "i": 1 }));
        let error = import.send().await.expect_err("unknown");
        assert!(error.is_timeout() && error.is_maybe_sent(), "{error}");
        assert_eq!(values(&servers[1]).len(), 0);
        // An upsert: the same value twice is that value.
        servers[0].delay(Duration::ZERO);
        servers[0].fault(Some(KvFault::ExecuteThenDrop));
        built(cloud(&servers)).save_data("k", &2).await.expect("saved");
        assert_eq!((store.value("k"), store.writes().of("k")), (Some(json!(2)), 2));
    })
    .await;
}

#[tokio::test]
async fn b5_a_request_that_is_given_up_goes_nowhere_else() {
    bounded(async {
        let (store, servers) = pair().await;
        servers[0].delay(Duration::from_secs(600));
        let provider = built(cloud(&servers));
        let of_task = provider.clone();
        let task = tokio::spawn(async move { of_task.save_data("k", &2).await });
        servers[0].until_requests(1).await;
        task.abort();
        assert!(task.await.expect_err("aborted").is_cancelled());
        // What would still go on would have to pass this one by.
        servers[0].fail(503);
        servers[0].delay(Duration::ZERO);
        provider.load_data("k").await.expect("served");
        let methods: Vec<_> = values(&servers[1]).iter().map(|seen| seen.head.method.to_string()).collect();
        assert_eq!((methods, store.writes().of("k")), (vec!["GET".to_owned()], 0));
    })
    .await;
}

/// A value that cannot be written as JSON.
struct Broken;

impl serde::Serialize for Broken {
    fn serialize<S: serde::Serializer>(&self, _serializer: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("a mistake of the program"))
    }
}

#[tokio::test]
async fn b6_a_mistake_of_the_program_asks_no_server_and_a_wrong_answer_no_second_one() {
    bounded(async {
        let (_, servers) = pair().await;
        let error = built(cloud(&servers)).save_data("k", &Broken).await.expect_err("no json");
        assert_eq!((error.code(), error.fate()), (KvCode::UnknownError, Fate::NotSent));
        assert!(error.record().is_none() && servers.iter().all(|server| server.requests().is_empty()));
        let odd = Origin::answering("<html>").await;
        let provider = built(cloud([]).servers([odd.url(), servers[1].url()]));
        let error = provider.load_data("k").await.expect_err("no json");
        assert_eq!((error.code(), error.message()), (KvCode::ServerError, "服务器响应异常"));
        assert_eq!(error.server(), Some(odd.url().as_str()));
        let error = provider.load_keys(&KeyQuery::default()).await.expect_err("no page");
        assert_eq!(error.code(), KvCode::ServerError);
        assert!(servers[1].requests().is_empty());
        for key in ["", "_info", ".."] {
            assert_eq!(provider.load_data(key).await.expect_err(key).code(), KvCode::ConfigError);
        }
    })
    .await;
}

#[tokio::test]
async fn b7_the_404_of_a_stale_server_is_its_own_word_and_no_reason_to_write() {
    bounded(async {
        let (stale, current) = (KvStore::new(), KvStore::new());
        current.put("k", json!("newer"));
        let servers = [KvServer::start(&stale).await, KvServer::start(&current).await];
        let directory = tempfile::tempdir().expect("a directory");
        let local = KvProvider::kv_local(directory.path().join("kv.db")).await.expect("opened");
        local.save_data("k", "older").await.expect("saved");
        local.save_data("mine", "only here").await.expect("saved");
        let provider = built(cloud(&servers).migrate_from(local));
        let error = provider.load_data("k").await.expect_err("not there");
        assert_eq!((error.code(), error.server()), (KvCode::NotFound, Some(servers[0].url().as_str())));
        // The other one has it: nothing is written, and its URL is the one that works.
        let url = provider.key_cloud_url("k").await.expect("a url");
        assert!(url.starts_with(&servers[1].url()), "{url}");
        assert_eq!((stale.writes().total(), current.writes().total()), (0, 0));
        // One that does not say is no 404.
        servers[1].down().await;
        let error = provider.key_cloud_url("mine").await.expect_err("not known");
        assert_eq!(error.code(), KvCode::CloudUrlError, "{error}");
        assert!(error.message().contains(&servers[1].url()), "{error}");
        assert_eq!(stale.writes().total(), 0);
        // All say that there is none: it is copied, once.
        servers[1].up();
        let url = provider.key_cloud_url("mine").await.expect("a url");
        assert!(url.starts_with(&servers[0].url()), "{url}");
        assert_eq!((stale.value("mine"), stale.writes().total()), (Some(json!("only here")), 1));
        assert_eq!(current.writes().total(), 0);
        // What is in neither has an address all the same, as in the original.
        provider.key_cloud_url("nowhere").await.expect("a url");
        assert_eq!(stale.writes().total() + current.writes().total(), 1);
    })
    .await;
}

#[tokio::test]
async fn b8_a_429_says_how_long_and_meanwhile_the_other_server_serves() {
    bounded(async {
        let (_, [_, second]) = pair().await;
        let limited = Origin::scripted(|_| {
            let answer = Answer::status(429, r#"{"success":false,"message":"请求过于频繁"}"#);
            let answer = answer.header("ratelimit", "limit=1024, remaining=0, reset=42");
            Act::Answer(answer.header("ratelimit-policy", "1024;w=60").header("retry-after", "42"))
        })
        .await;
        let provider = built(cloud([]).servers([limited.url(), second.url()]));
        let error = provider.load_data("k").await.expect_err("too many");
        assert_eq!((error.message(), error.status().map(|status| status.as_u16())), ("请求过于频繁", Some(429)));
        let (limit, secs) = (error.rate_limit(), |n| Some(Duration::from_secs(n)));
        assert_eq!((limit.limit, limit.remaining), (Some(1024), Some(0)));
        assert_eq!((limit.reset, limit.window, limit.retry_after), (secs(42), secs(60), secs(42)));
        assert_eq!(provider.load_data("k").await.expect("served"), json!({ "v": 1 }));
        assert_eq!((limited.request_count(), values(&second).len()), (1, 1));
        // A server that is alone is asked again: there is nobody else.
        let alone = built(cloud([]).servers([limited.url()]));
        for _ in 0..2 {
            alone.load_data("k").await.expect_err("too many");
        }
        assert_eq!(limited.request_count(), 3);
    })
    .await;
}

#[tokio::test]
async fn b9_the_error_has_every_server_that_was_tried() {
    bounded(async {
        let (_, servers) = pair().await;
        let urls = servers.each_ref().map(KvServer::url);
        let provider = built(cloud(&servers));
        servers[0].fail(503);
        servers[1].fail(403);
        let both = |first, second| vec![(urls[0].clone(), first), (urls[1].clone(), second)];
        let error = provider.load_keys(&KeyQuery::default()).await.expect_err("forbidden");
        assert_eq!((error.code(), attempts(&error)), (KvCode::PermissionDenied, both(true, true)));
        servers[0].down().await;
        let error = provider.load_data("k").await.expect_err("forbidden");
        assert_eq!(attempts(&error), both(false, true));
        servers[1].down().await;
        let error = provider.load_data("k").await.expect_err("nobody there");
        assert_eq!((attempts(&error), error.fate()), (both(false, false), Fate::NotSent));
        let source = std::error::Error::source(&error).expect("the client's error").to_string();
        assert!(urls.iter().all(|url| source.contains(url)) && !source.contains(KV_TOKEN), "{source}");
    })
    .await;
}

/// Counts what the client did, and keeps the templates.
#[derive(Clone, Default)]
struct Counts(Arc<AtomicUsize>, Arc<Mutex<Vec<String>>>);

impl Observer for Counts {
    fn request_over(&self, request: &RequestOver<'_>) {
        self.0.fetch_add(request.record.attempts().count(), Ordering::SeqCst);
        self.1.lock().expect("not poisoned").push(request.path_template.unwrap_or_default().to_owned());
    }
}

#[tokio::test]
async fn every_request_of_a_provider_goes_through_the_client() {
    bounded(async {
        let (_, servers) = pair().await;
        servers[0].fail(500);
        let counts = Counts::default();
        let provider = built(cloud(&servers).client(plain().observer(counts.clone())));
        provider.load_data("k").await.expect("served");
        provider.save_data("k", &1).await.expect("served");
        provider.load_keys(&KeyQuery::default()).await.expect("served");
        assert!(provider.check().await.is_good());
        assert_eq!(counts.0.load(Ordering::SeqCst), 8);
        let templates = counts.1.lock().expect("not poisoned").clone();
        assert_eq!(templates, ["/kv/{key}", "/kv/{key}", "/kv/_keys", "/check", "/check"]);
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_value() {
    bounded(async {
        let cut = Origin::scripted(|_| Act::Answer(Answer::ok(r#"{"v":1}"#).cut_after(3, End::Fin))).await;
        let error = built(cloud([]).servers([cut.url()])).load_data("k").await.expect_err("cut");
        assert_eq!((error.code(), error.message()), (KvCode::NetworkError, "服务器连接失败"));
    })
    .await;
}

// ---- The local store

#[tokio::test]
async fn a_local_store_answers_as_a_server_does() {
    bounded(async {
        let directory = tempfile::tempdir().expect("a directory");
        let store = KvStore::new();
        let server = KvServer::start(&store).await;
        let local = KvProvider::kv_local(directory.path().join("kv.db")).await.expect("opened");
        let remote = built(KvProvider::kv_server(&server.url()).token(KV_TOKEN).client(plain()));
        assert_eq!((local.kind(), remote.kind()), (KvKind::KvLocal, KvKind::KvServer));
        for provider in [&local, &remote] {
            for (key, value) in
                [("b", json!({ "x": 1 })), ("a b/作业", json!([1])), ("c", Value::Null), ("d", json!(""))]
            {
                provider.save_data(key, &value).await.expect("saved");
            }
            provider.save_data("b", &json!({ "x": 2 })).await.expect("saved");
        }
        for key in ["b", "a b/作业", "c", "d"] {
            let [one, other] = [local.load_data(key).await, remote.load_data(key).await];
            assert_eq!(one.expect("there"), other.expect("there"), "{key}");
        }
        let queries = [KeyQuery::default(), KeyQuery { descending: true, limit: 2, skip: 1, ..KeyQuery::default() }];
        for query in &queries {
            let [one, other] = [local.load_keys(query).await, remote.load_keys(query).await];
            assert_eq!(one.expect("keys"), other.expect("keys"));
        }
        for key in ["none", ""] {
            let [one, other] = [local.load_data(key).await, remote.load_data(key).await];
            let [one, other] = [one, other].map(|result| result.expect_err(key));
            assert_eq!((one.to_json(), one.status()), (other.to_json(), other.status()));
        }
        let [one, other] = [local.update_namespace_info(&1).await, remote.update_namespace_info(&1).await]
            .map(|result| result.expect_err("no such path"));
        assert_eq!((one.to_json(), one.status()), (other.to_json(), other.status()));
        for info in [local.load_namespace_info().await, remote.load_namespace_info().await] {
            let info = info.expect("info");
            assert!(info["device"]["uuid"].is_string() && info["hasAccount"] == false, "{info}");
            assert_eq!(info["device"]["createdAt"].as_str().map(str::len), Some("2026-01-01T00:00:00.000Z".len()));
        }
        assert!(local.check().await.is_good());
        assert_eq!(local.key_cloud_url("b").await.expect_err("local").code(), KvCode::CloudUrlError);
        assert_eq!(local.save_data("b", &Broken).await.expect_err("no json").code(), KvCode::UnknownError);
    })
    .await;
}

#[tokio::test]
async fn a_local_store_is_there_again_and_is_shared_with_who_else_has_it_open() {
    bounded(async {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("kv.db");
        // Made by all at once.
        let (one, two) = tokio::join!(KvProvider::kv_local(&path), KvProvider::kv_local(&path));
        let (one, two) = (one.expect("opened"), two.expect("opened"));
        let saves = (0..50).map(|n| {
            let provider = if n % 2 == 0 { one.clone() } else { two.clone() };
            tokio::spawn(async move { provider.save_data(&format!("k{n:02}"), &n).await })
        });
        for save in saves.collect::<Vec<_>>() {
            save.await.expect("no panic").expect("saved");
        }
        let device = one.load_namespace_info().await.expect("info");
        drop((one, two));
        let again = KvProvider::kv_local(&path).await.expect("opened");
        assert_eq!(again.load_namespace_info().await.expect("info"), device);
        let newest = KeyQuery { sort_by: SortBy::CreatedAt, limit: 60, ..KeyQuery::default() };
        let mut keys = again.load_keys(&newest).await.expect("keys").keys;
        keys.sort_unstable();
        assert_eq!(keys, (0..50).map(|n| format!("k{n:02}")).collect::<Vec<_>>());
    })
    .await;
}

#[tokio::test]
async fn a_file_that_is_no_such_store_is_refused_and_left_as_it_is() {
    bounded(async {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("text"), "not a database at all, but long enough to be taken for one by its size alone")
            .expect("written");
        let other = rusqlite::Connection::open(at("other")).expect("opened");
        other.execute_batch("CREATE TABLE notes (text)").expect("made");
        drop(KvProvider::kv_local(at("newer")).await.expect("opened"));
        let newer = rusqlite::Connection::open(at("newer")).expect("opened");
        newer.pragma_update(None, "user_version", 2).expect("written");
        for (name, what) in [
            ("text", "not a database"),
            ("other", "something else"),
            ("newer", "version 2"),
            ("no/such/directory", "unable to open"),
        ] {
            let error = KvProvider::kv_local(at(name)).await.expect_err(name);
            assert_eq!(error.code(), KvCode::ConfigError);
            assert!(error.message().contains(what), "{name}: {error}");
        }
        let tables: i64 = other.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).expect("counted");
        assert_eq!(tables, 1);
    })
    .await;
}

#[tokio::test]
async fn a_local_store_that_breaks_says_so() {
    bounded(async {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("kv.db");
        let local = KvProvider::kv_local(&path).await.expect("opened");
        let breaker = rusqlite::Connection::open(&path).expect("opened");
        breaker.execute_batch("INSERT INTO entries (key, value) VALUES ('bad', '{')").expect("written");
        assert_eq!(local.load_data("bad").await.expect_err("no json").code(), KvCode::UnknownError);
        breaker.execute_batch("DROP TABLE entries; DROP TABLE device").expect("dropped");
        assert_eq!(local.load_data("k").await.expect_err("gone").code(), KvCode::UnknownError);
        assert_eq!(local.load_keys(&KeyQuery::default()).await.expect_err("gone").code(), KvCode::UnknownError);
        let error = local.save_data("k", &1).await.expect_err("gone");
        assert_eq!((error.code(), error.message()), (KvCode::SaveError, "保存失败"));
        assert_eq!(local.load_namespace_info().await.expect_err("gone").code(), KvCode::NamespaceError);
        assert!(!local.check().await.is_good());
    })
    .await;
}
