//! A key-value store behind several servers: the Classworks KV API, with failover by [`Client`] and nothing else.
//!
//! Three providers answer alike. `classworkscloud` goes through its servers in order, `kv-server` has one server and one
//! attempt, `kv-local` is a SQLite file. Errors carry the codes and the texts that Classworks shows to its users.
//!
//! What is different from the original, on purpose:
//!
//! - A 404 is one server's word. It is final, as every 4xx is, but the error names the server that said it, and nothing is
//!   written because of it: before a local value is copied to the cloud, **every** server is asked, and one that does not
//!   answer forbids the copy. Otherwise a replica that lags behind would have a newer value overwritten by an older one.
//! - A write that may have arrived is written again, at the next server: an upsert of the same value does no harm. Where
//!   the servers have a store each, the value may be in more than one of them afterwards.
//! - An answer that is no JSON is a fault of that answer ([`KvCode::ServerError`]), not a reason to ask another server.
//! - 429 is told with the limits that the server named ([`KvError::rate_limit`]); for as long as its `Retry-After` says,
//!   requests go to the other servers.
//!
//! ```no_run
//! # async fn example() -> Result<(), handover_client::kv::KvError> {
//! use handover_client::kv::{KvCode, KvProvider};
//!
//! let store = KvProvider::classworkscloud().token("secret").build()?;
//! store.save_data("homework", &serde_json::json!({ "math": "p. 12" })).await?;
//! match store.load_data("homework").await {
//!     Ok(value) => println!("{value}"),
//!     Err(error) if error.code() == KvCode::NotFound => println!("{:?} has none", error.server()),
//!     Err(error) => return Err(error),
//! }
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use crate::builder::ClientBuilder;
use crate::client::Client;

mod check;
mod error;
mod keys;
mod local;
mod remote;

pub use check::{Check, CheckedServer};
pub use error::{KvCode, KvError, RateLimit};
pub use keys::{KeyPage, KeyQuery, PageOfKeys, SortBy};

use keys::checked;
use local::Local;
use remote::{Credentials, Remote};

/// The servers of Classworks' cloud, in its order.
pub const CLASSWORKS_SERVERS: [&str; 2] = ["https://kv-service.houlang.cloud", "https://kv-service.wuyuan.dev"];

/// A store of JSON values by key. Cheap to clone; clones share connections and health.
#[derive(Clone)]
pub struct KvProvider(Arc<Backend>);

enum Backend {
    Remote(Remote),
    Local(Local),
}

/// Which provider it is, by the name that Classworks' settings have for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KvKind {
    /// `classworkscloud`: several servers, with failover.
    ClassworksCloud,
    /// `kv-server`: one server, one attempt.
    KvServer,
    /// `kv-local`: a file.
    KvLocal,
}

impl KvKind {
    /// The name in Classworks' settings.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClassworksCloud => "classworkscloud",
            Self::KvServer => "kv-server",
            Self::KvLocal => "kv-local",
        }
    }
}

impl KvProvider {
    /// Classworks' cloud: [`CLASSWORKS_SERVERS`], unless others are named.
    pub fn classworkscloud() -> KvBuilder {
        KvBuilder::new(KvKind::ClassworksCloud, CLASSWORKS_SERVERS.map(str::to_owned).to_vec())
    }

    /// One server. A request has one attempt.
    pub fn kv_server(url: &str) -> KvBuilder {
        KvBuilder::new(KvKind::KvServer, vec![url.to_owned()])
    }

    /// A SQLite file, which is made if it is not there. Other processes may have it open too.
    ///
    /// # Errors
    /// [`KvCode::ConfigError`] if the file cannot be opened, is no such store, or is one of a newer version.
    ///
    /// # Cancel safety
    /// Opening goes on in the background; the file is as it was, or a store.
    pub async fn kv_local(path: impl Into<PathBuf>) -> Result<Self, KvError> {
        Ok(Self(Arc::new(Backend::Local(Local::open(path.into()).await?))))
    }

    /// Which provider it is.
    #[must_use]
    pub fn kind(&self) -> KvKind {
        match &*self.0 {
            Backend::Remote(remote) => remote.kind,
            Backend::Local(_) => KvKind::KvLocal,
        }
    }

    /// What is known of the device whose store it is.
    ///
    /// # Errors
    /// [`KvCode::NamespaceError`].
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    pub async fn load_namespace_info(&self) -> Result<Value, KvError> {
        match &*self.0 {
            Backend::Remote(remote) => remote.load_namespace_info().await,
            Backend::Local(local) => local.namespace_info().await,
        }
    }

    /// Changes what is known of the device. Servers of version 1.3 have no such path, and `kv-local` neither.
    ///
    /// # Errors
    /// [`KvCode::NamespaceError`].
    ///
    /// # Cancel safety
    /// Dropping it gives the request up; it may have arrived.
    pub async fn update_namespace_info<T: Serialize + ?Sized>(&self, info: &T) -> Result<Value, KvError> {
        let info = serde_json::to_value(info).map_err(KvError::unserialisable)?;
        match &*self.0 {
            Backend::Remote(remote) => remote.update_namespace_info(&info).await,
            Backend::Local(_) => Err(local::no_namespace()),
        }
    }

    /// The value of a key.
    ///
    /// # Errors
    /// [`KvCode::NotFound`], of which [`KvError::server`] says whose word it is; [`KvCode::NetworkError`];
    /// [`KvCode::ServerError`] if the answer is no JSON; [`KvCode::ConfigError`] for a key that cannot be one.
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    pub async fn load_data(&self, key: &str) -> Result<Value, KvError> {
        let key = checked(key)?;
        match &*self.0 {
            Backend::Remote(remote) => remote.load_data(key).await,
            Backend::Local(local) => local.load(key).await,
        }
    }

    /// Gives a key this value. The API keeps `{}` where it is given `null` or `""`.
    ///
    /// # Errors
    /// [`KvCode::SaveError`]; [`KvError::fate`] says whether it may have been done. [`KvCode::UnknownError`] if the value
    /// is no JSON, [`KvCode::ConfigError`] for a key that cannot be one.
    ///
    /// # Cancel safety
    /// Dropping it gives the write up; it may have been done. In `kv-local`, one that has begun is finished.
    pub async fn save_data<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<(), KvError> {
        let key = checked(key)?;
        let value = serde_json::to_value(value).map_err(KvError::unserialisable)?;
        match &*self.0 {
            Backend::Remote(remote) => remote.save_data(key, &value).await,
            Backend::Local(local) => local.save(key, &value).await,
        }
    }

    /// A page of the keys.
    ///
    /// # Errors
    /// [`KvCode::NotFound`], [`KvCode::PermissionDenied`], [`KvCode::Unauthorized`], [`KvCode::NetworkError`];
    /// [`KvCode::ServerError`] if the answer is no such page.
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    pub async fn load_keys(&self, query: &KeyQuery) -> Result<KeyPage, KvError> {
        match &*self.0 {
            Backend::Remote(remote) => remote.load_keys(query).await,
            Backend::Local(local) => local.keys(query).await,
        }
    }

    /// A URL at which others read the key's value. **It has the token in it.**
    ///
    /// With a local store to [`migrate_from`](KvBuilder::migrate_from), a value that is only there is copied to the cloud
    /// first: if every server says that it has none.
    ///
    /// # Errors
    /// [`KvCode::ConfigError`] without a token; [`KvCode::CloudUrlError`] if there is no server, or if a value that is in
    /// the local store could not be copied, or a server did not say whether it has one.
    ///
    /// # Cancel safety
    /// Dropping it gives the copy up; it may have been done.
    pub async fn key_cloud_url(&self, key: &str) -> Result<String, KvError> {
        let key = checked(key)?;
        match &*self.0 {
            Backend::Remote(remote) => remote.key_cloud_url(key).await,
            Backend::Local(_) => Err(KvError::new(KvCode::CloudUrlError, "a local store has no address in the cloud")),
        }
    }

    /// Whether the servers are good: each is asked in turn until one is. Its `Display` is the text that Classworks shows.
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    pub async fn check(&self) -> Check {
        match &*self.0 {
            Backend::Remote(remote) => remote.check().await,
            Backend::Local(local) => local.check().await,
        }
    }
}

impl fmt::Debug for KvProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("KvProvider");
        shown.field("kind", &self.kind());
        match &*self.0 {
            Backend::Remote(remote) => shown.field("client", &remote.client),
            Backend::Local(local) => shown.field("path", &local.path()),
        };
        shown.finish()
    }
}

/// A provider with servers, being set up. What is wrong is told by [`build`](Self::build).
#[must_use = "nothing happens before it is built"]
pub struct KvBuilder {
    kind: KvKind,
    servers: Vec<String>,
    token: Option<String>,
    site_key: Option<String>,
    client: Option<ClientBuilder>,
    local: Option<KvProvider>,
}

impl KvBuilder {
    fn new(kind: KvKind, servers: Vec<String>) -> Self {
        Self { kind, servers, token: None, site_key: None, client: None, local: None }
    }

    /// The servers, in order of priority, instead of the known ones.
    pub fn servers<S: AsRef<str>>(mut self, servers: impl IntoIterator<Item = S>) -> Self {
        self.servers = servers.into_iter().map(|server| server.as_ref().to_owned()).collect();
        self
    }

    /// The token, sent as `x-app-token`. An empty one is none.
    pub fn token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned()).filter(|token| !token.is_empty());
        self
    }

    /// The site key, sent in Base64 as `x-site-key` where there is no token. Only a `kv-server` has one.
    pub fn site_key(mut self, key: &str) -> Self {
        self.site_key = Some(key.to_owned()).filter(|key| !key.is_empty());
        self
    }

    /// A client being set up, for what is not said here: timeouts, order and probes, certificates, observers. The servers
    /// are added to it.
    pub fn client(mut self, client: ClientBuilder) -> Self {
        self.client = Some(client);
        self
    }

    /// A local store whose values are copied to the cloud when their address there is asked for.
    pub fn migrate_from(mut self, local: KvProvider) -> Self {
        self.local = Some(local);
        self
    }

    /// The provider.
    ///
    /// # Errors
    /// [`KvCode::ConfigError`] with all that is wrong.
    pub fn build(self) -> Result<KvProvider, KvError> {
        let wrong = |what: String| KvError::new(KvCode::ConfigError, what);
        if self.kind == KvKind::KvServer && self.servers.len() != 1 {
            return Err(wrong(format!("kv-server has one server, {} are given", self.servers.len())));
        }
        if self.kind == KvKind::ClassworksCloud && self.site_key.is_some() {
            return Err(wrong("site_key: classworkscloud has none, it knows tokens only".to_owned()));
        }
        let credentials = Credentials::new(self.token, self.site_key)?;
        let client = self.client.unwrap_or_else(Client::builder).endpoints(&self.servers).build();
        let client = client.map_err(|error| wrong(error.to_string()))?;
        let local = self.local;
        Ok(KvProvider(Arc::new(Backend::Remote(Remote { kind: self.kind, client, credentials, local }))))
    }
}
