//! From drafts to a configuration: what depends on more than one key, and the promises that [`Config`] makes.

use std::thread::available_parallelism;

use super::drafts::Drafts;
use super::keys::Root;
use super::value::Draft;
use super::{Config, ConfigError, ConfigErrors};

mod files;
mod nodes;
mod platforms;

/// Connections from one address while others than this machine can connect; the key table says why.
const CONNECTIONS_PER_CLIENT_MAX: usize = 1024;

/// Checks what the forms of single keys cannot and builds the configuration.
pub(super) fn resolve(mut drafts: Drafts) -> Result<Config, ConfigErrors> {
    let mut errors = std::mem::take(&mut drafts.errors);
    let declared = nodes::declared(&drafts, &mut errors);
    let pools = platforms::pools(&drafts, &declared, &mut errors);
    check_token(&drafts.root, &mut errors);
    let tls = files::tls(&drafts.root, &mut errors);
    files::check_files(&drafts.root, &mut errors);
    if !errors.is_empty() {
        return Err(ConfigErrors::new(errors));
    }
    let root = drafts.root.values;
    let on_loopback = root.listen.ip().to_canonical().is_loopback();
    let mut limits = root.limits;
    let per_client = if on_loopback { 0 } else { CONNECTIONS_PER_CLIENT_MAX };
    limits.connections_per_client_max = root.connections_per_client_max.unwrap_or(per_client);
    Ok(Config {
        listen: root.listen,
        data_dir: root.data_dir,
        proxy_token: root.proxy_token,
        allow_private_targets: root.allow_private_targets.unwrap_or(on_loopback),
        drain_timeout: root.drain_timeout,
        forwarded: root.forwarded,
        workers: root.workers.unwrap_or_else(processors),
        tls,
        ca_files: root.ca_files,
        limits,
        log: root.log,
        nodes: declared.into_nodes(),
        platforms: pools.platforms,
        routes: pools.routes,
    })
}

/// Processors this process may use; one if the system does not say. At most what the key allows.
fn processors() -> usize {
    available_parallelism().map_or(1, usize::from).min(256)
}

fn check_token(root: &Draft<Root>, errors: &mut Vec<ConfigError>) {
    let listen = root.values.listen;
    let named = root.places.contains_key("proxy_token");
    if !named && !listen.ip().to_canonical().is_loopback() {
        errors.push(ConfigError {
            source: root.place("listen"),
            key: "proxy_token".into(),
            found: format!("none while listening on {listen}"),
            allowed: "refuse to start a proxy that others can reach and use: set proxy_token or listen on 127.0.0.1"
                .into(),
        });
    }
}
