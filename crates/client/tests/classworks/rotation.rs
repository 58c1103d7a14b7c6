//! The rotation of the original, as a table.

use std::time::Duration;

use handover_client::kv::{KvCode, KvProvider};
use handover_client::{Ask, BoxFuture, Discover, DiscoverError, Policy};
use handover_testkit::{DeadPort, KV_TOKEN, KvFault, bounded};
use serde_json::json;

use super::{built, cloud, pair, plain, values};

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
