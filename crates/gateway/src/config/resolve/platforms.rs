//! Platforms with their nodes, and the routes that lead to them.

use std::collections::{BTreeMap, BTreeSet};

use super::super::drafts::{DEFAULT_PLATFORM, Drafts};
use super::super::keys::{PlatformDraft, RouteDraft};
use super::super::value::{Draft, one_line};
use super::super::{ConfigError, NodeConfig, Place, PlatformConfig, RouteConfig};
use super::nodes::Declared;

/// The platform that serves origins for which nobody wrote a platform or route.
const ORIGINS_PLATFORM: &str = "origins";

/// Platforms and routes, with valid indexes.
pub(super) struct Pools {
    pub(super) platforms: Vec<PlatformConfig>,
    pub(super) routes: Vec<RouteConfig>,
}

/// Builds all platforms and routes.
pub(super) fn pools(drafts: &Drafts, declared: &Declared, errors: &mut Vec<ConfigError>) -> Pools {
    let filters_broken = errors.iter().any(|error| error.key == "platform.tag_filters");
    check_names(&drafts.platforms, errors);
    let mut routes = routes(drafts, errors);
    let mut platforms: Vec<PlatformConfig> =
        drafts.platforms.iter().map(|draft| platform(draft, is_routed(&routes, draft), &declared.nodes)).collect();
    if !declared.broken && !filters_broken {
        for (draft, platform) in drafts.platforms.iter().zip(&platforms) {
            check_nodes(draft, platform, &declared.nodes, errors);
        }
        for (draft, (index, _)) in drafts.routes.iter().zip(&routes) {
            if let Some(platform) = index.and_then(|index| platforms.get(index)) {
                check_routed(draft, platform, declared, errors);
            }
        }
    }
    add_implicit(drafts, declared, &mut platforms, &mut routes);
    Pools { platforms, routes: finished(routes) }
}
