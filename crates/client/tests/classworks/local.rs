//! The store in a file, beside a server that is asked the same.

use handover_client::kv::{KeyQuery, KvCode, KvKind, KvProvider, SortBy};
use handover_testkit::{KV_TOKEN, KvServer, KvStore, bounded};
use serde_json::{Value, json};

use super::{Broken, built, plain};

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
