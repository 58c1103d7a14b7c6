//! The key-value providers against servers that speak the API: what rotates, what each method sends and answers, and the
//! nine ways in which the original went wrong.
#![cfg(feature = "classworks")]

mod api;
mod hazards;
mod local;
mod rotation;

use handover_client::kv::{KvBuilder, KvProvider};
use handover_client::{Client, ClientBuilder};
use handover_testkit::{KV_TOKEN, KvSeen, KvServer, KvStore};
use serde_json::json;

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

/// A value that cannot be written as JSON.
struct Broken;

impl serde::Serialize for Broken {
    fn serialize<S: serde::Serializer>(&self, _serializer: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("a mistake of the program"))
    }
}
