//! The hazards of the original, B1 to B9: each test would fail on it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use handover_client::kv::{KeyQuery, KvCode, KvError, KvProvider};
use handover_client::{
    ClientBuilder, FailbackParts, FailbackPolicy, Fate, Observer, Order, Policy, PolicyParts, Probe, RequestOver,
};
use handover_testkit::{Act, Answer, End, KV_TOKEN, KvFault, KvServer, KvStore, Origin, bounded};
use serde_json::json;

use super::{Broken, built, cloud, pair, plain, values};

fn attempts(error: &KvError) -> Vec<(String, bool)> {
    let record = error.record().expect("servers were tried");
    record.attempts().map(|attempt| (attempt.endpoint().to_owned(), attempt.status().is_some())).collect()
}

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
