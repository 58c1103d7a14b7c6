//! Platforms with their nodes, and the routes that lead to them.

use std::collections::{BTreeMap, BTreeSet};

use handover_core::{Policy, Replay};

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
    check_names(&drafts.platforms, errors);
    let mut routes = routes(drafts, errors);
    let mut platforms = Vec::new();
    for (index, draft) in drafts.platforms.iter().enumerate() {
        platforms.push(platform(draft, is_routed(&routes, drafts, index), &declared.nodes, errors));
    }
    // With a filter missing a platform seems to have more nodes than it has.
    let known = |index: usize| !drafts.platforms[index].is_broken("tag_filters");
    for (index, platform) in platforms.iter().enumerate().filter(|(index, _)| known(*index)) {
        check_nodes(&drafts.platforms[index], platform, &declared.nodes, errors);
    }
    for (draft, (index, _)) in drafts.routes.iter().zip(&routes) {
        if let Some(index) = index.filter(|index| known(*index)) {
            check_routed(draft, &platforms[index], declared, errors);
        }
    }
    add_implicit(drafts, declared, &mut platforms, &mut routes);
    Pools { platforms, routes: finished(routes) }
}

/// Names are unique, and `Default` is written in one way.
fn check_names(drafts: &[Draft<PlatformDraft>], errors: &mut Vec<ConfigError>) {
    let mut first: BTreeMap<&str, Place> = BTreeMap::new();
    for draft in drafts {
        let name = draft.values.name.as_str();
        let shown = format!("\"{}\"", one_line(name));
        if name.is_empty() {
            if !draft.places.contains_key("name") {
                errors.push(draft.error("name", "nothing", "write the platform's name: name = \"api\""));
            }
        } else if let Some(other) = first.get(name) {
            let allowed = format!("each platform has its own name, and this one is at {other}");
            errors.push(draft.error("name", format!("{shown} again"), allowed));
        } else if name != DEFAULT_PLATFORM && name.eq_ignore_ascii_case(DEFAULT_PLATFORM) {
            errors.push(draft.error("name", shown, "the platform that always exists is written Default"));
        } else {
            first.insert(name, draft.place("name"));
        }
    }
}

/// A route with the index of its platform, which is missing if there is none of that name.
type Leading = (Option<usize>, RouteConfig);

fn routes(drafts: &Drafts, errors: &mut Vec<ConfigError>) -> Vec<Leading> {
    let mut seen: BTreeMap<(Option<&str>, String), Place> = BTreeMap::new();
    let mut routes = Vec::new();
    for draft in &drafts.routes {
        let index = platform_index(drafts, draft, errors);
        let RouteDraft { host, path, .. } = &draft.values;
        let same = (host.as_deref(), path.trim_end_matches('/').to_owned());
        let whole = !draft.is_broken("host") && !draft.is_broken("path");
        if let Some(other) = seen.get(&same).filter(|_| whole) {
            let allowed = format!("each host and path has one route, and this one is at {other}");
            errors.push(draft.error("path", format!("the route \"{}\" again", one_line(path)), allowed));
        } else if whole {
            seen.insert(same, draft.header.clone());
        }
        routes.push((index, RouteConfig { host: host.clone(), path: path.clone(), platform: index.unwrap_or(0) }));
    }
    routes
}

fn platform_index(drafts: &Drafts, route: &Draft<RouteDraft>, errors: &mut Vec<ConfigError>) -> Option<usize> {
    let name = &route.values.platform;
    if route.is_broken("platform") {
        return None;
    }
    if name.is_empty() {
        errors.push(route.error("platform", "nothing", "write the name of the platform that serves these requests"));
        return None;
    }
    let index = drafts.platforms.iter().position(|platform| platform.values.name == *name);
    if index.is_none() {
        let names: BTreeSet<_> = drafts.platforms.iter().map(|platform| one_line(&platform.values.name)).collect();
        let names = names.into_iter().filter(|name| !name.is_empty()).collect::<Vec<_>>().join(", ");
        errors.push(route.error(
            "platform",
            format!("\"{}\"", one_line(name)),
            format!("no platform has that name; there are: {names}"),
        ));
    }
    index
}

/// Whether a route leads to the platform: then it means origins when it has no filters. `Default` never does, because all
/// who name no platform get it for their forward requests.
fn is_routed(routes: &[Leading], drafts: &Drafts, index: usize) -> bool {
    drafts.platforms[index].values.name != DEFAULT_PLATFORM && routes.iter().any(|(own, _)| *own == Some(index))
}

fn platform(
    draft: &Draft<PlatformDraft>,
    routed: bool,
    nodes: &[NodeConfig],
    errors: &mut Vec<ConfigError>,
) -> PlatformConfig {
    let values = &draft.values;
    let has = |node: &NodeConfig| match values.tag_filters.as_slice() {
        [] => node.kind.is_origin() == routed,
        filters => filters.iter().all(|filter| filter.is_match(&node.tag)),
    };
    PlatformConfig {
        name: values.name.clone(),
        policy: policy(draft, errors),
        retry_budget_percent: values.retry_budget_percent,
        tag_filters: values.tag_filters.clone(),
        nodes: (0..nodes.len()).filter(|index| has(&nodes[*index])).collect(),
    }
}

/// The policy; what is wrong between its parts is an error at the key that the core names.
fn policy(draft: &Draft<PlatformDraft>, errors: &mut Vec<ConfigError>) -> Policy {
    let parts = draft.values.policy;
    if !parts.retry_statuses.is_empty() && parts.replay == Replay::Unsent {
        let allowed = "an answer proves that the request was sent: set replay to \"idempotent\" or \"always\" as well";
        errors.push(draft.error("retry_statuses", "statuses with replay = \"unsent\"", allowed));
    }
    Policy::try_new(parts).unwrap_or_else(|error| {
        for problem in error.problems() {
            let key = if problem.field == "max_attempts" { "max_retries" } else { problem.field };
            errors.push(draft.error(key, problem.found.clone(), format!("allowed: {}", problem.allowed)));
        }
        Policy::default()
    })
}

/// A platform's nodes all carry or all are the target: a request could not go to any of them otherwise.
fn check_nodes(
    draft: &Draft<PlatformDraft>,
    platform: &PlatformConfig,
    nodes: &[NodeConfig],
    errors: &mut Vec<ConfigError>,
) {
    let of =
        |origin: bool| platform.nodes.iter().map(|index| &nodes[*index]).find(|node| node.kind.is_origin() == origin);
    if let (Some(origin), Some(carrying)) = (of(true), of(false)) {
        let found = format!("filters that match \"{}\" and \"{}\"", one_line(&origin.tag), one_line(&carrying.tag));
        let allowed = "the first is an origin and the second carries: a platform has nodes of one sort";
        errors.push(draft.error("tag_filters", found, allowed));
    }
}

/// A platform that a route leads to can serve.
fn check_routed(
    route: &Draft<RouteDraft>,
    platform: &PlatformConfig,
    declared: &Declared,
    errors: &mut Vec<ConfigError>,
) {
    let shown = format!("\"{}\"", one_line(&platform.name));
    if platform.nodes.is_empty() {
        // The nodes that could not be read may be its nodes.
        if declared.broken {
            return;
        }
        let replaced = if declared.origins_without_file {
            " (origins from the environment or flags replace the file's)"
        } else {
            ""
        };
        let allowed = format!("a route leads to origins, and this platform has no node{replaced}");
        errors.push(route.error("platform", shown, allowed));
    } else if let Some(node) =
        platform.nodes.iter().map(|index| &declared.nodes[*index]).find(|node| !node.kind.is_origin())
    {
        let allowed =
            format!("a route leads to origins, and node \"{}\" of this platform carries", one_line(&node.tag));
        errors.push(route.error("platform", shown, allowed));
    }
}

/// Origins that nobody routes get the platform `origins`, with the policy of `Default`, and the route `/`: those of the
/// file if it has no route at all, those of the environment and flags always, because routes cannot be written there.
fn add_implicit(drafts: &Drafts, declared: &Declared, platforms: &mut Vec<PlatformConfig>, routes: &mut Vec<Leading>) {
    let origins: Vec<usize> =
        (0..declared.nodes.len()).filter(|index| declared.nodes[*index].kind.is_origin()).collect();
    let wanted = declared.origins_without_file || drafts.routes.is_empty();
    let taken = routes.iter().any(|(_, route)| route.host.is_none() && route.path == "/");
    if origins.is_empty() || !wanted || taken {
        return;
    }
    let index = platforms.iter().position(|platform| platform.name == ORIGINS_PLATFORM).unwrap_or(platforms.len());
    if index == platforms.len() {
        let like = &platforms[0];
        platforms.push(PlatformConfig {
            name: ORIGINS_PLATFORM.into(),
            policy: like.policy,
            retry_budget_percent: like.retry_budget_percent,
            tag_filters: Vec::new(),
            nodes: origins,
        });
    }
    routes.push((Some(index), RouteConfig { host: None, path: "/".into(), platform: index }));
}

/// The most specific first: those with a host, then those with more segments; among equals the order of the file.
fn finished(routes: Vec<Leading>) -> Vec<RouteConfig> {
    let mut routes: Vec<RouteConfig> = routes.into_iter().map(|(_, route)| route).collect();
    let segments = |route: &RouteConfig| route.path.split('/').filter(|segment| !segment.is_empty()).count();
    routes.sort_by_key(|route| (route.host.is_none(), std::cmp::Reverse(segments(route))));
    routes
}
