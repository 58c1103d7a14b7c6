//! All nodes of all sources, with unique tags.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::drafts::Drafts;
use super::super::keys::{KINDS, NodeDraft, Root};
use super::super::url::{parse_node_url, parse_origin_url};
use super::super::value::{Draft, one_line};
use super::super::{ConfigError, NodeConfig, NodeKind, Place};

/// The nodes that the configuration will have.
pub(super) struct Declared {
    pub(super) nodes: Vec<NodeConfig>,
    /// Whether the origins were given in short form by the environment or flags, where no route can be written.
    pub(super) origins_without_file: bool,
    /// Whether some node could not be read, so that nothing can be said of what is missing.
    pub(super) broken: bool,
}

impl Declared {
    pub(super) fn into_nodes(self) -> Vec<Arc<NodeConfig>> {
        self.nodes.into_iter().map(Arc::new).collect()
    }
}

/// Collects the nodes: those of `[[node]]` and of the lists `nodes` and `origins`. A list that comes from the environment
/// or from flags replaces what the file has of its sort, as every stronger source does.
pub(super) fn declared(drafts: &Drafts, errors: &mut Vec<ConfigError>) -> Declared {
    let before = errors.len();
    let root = &drafts.root;
    let lists_broken = errors.iter().any(|error| error.key == "nodes" || error.key == "origins");
    let mut placed: Vec<Placed> = Vec::new();
    for draft in &drafts.nodes {
        let Some(node) = node_of(draft, errors) else { continue };
        if !overridden(root, list_of(&node)) {
            let tag_key = if draft.places.contains_key("tag") { "tag" } else { "url" };
            placed.push(Placed {
                node,
                key: "node.url".into(),
                place: draft.place("url"),
                tag_key: format!("node.{tag_key}"),
                tag_place: draft.place(tag_key),
            });
        }
    }
    for (key, nodes) in [("nodes", &root.values.nodes), ("origins", &root.values.origins)] {
        let item = |node: &NodeConfig| Placed::of(node.clone(), key, root.place(key));
        placed.extend(nodes.iter().map(item));
    }
    check_tags(&placed, errors);
    check_addresses(&placed, root, errors);
    let broken = lists_broken || errors.len() > before || drafts.nodes.iter().any(|draft| draft.values.url.is_none());
    if placed.is_empty() && !broken {
        let node = NodeConfig::new(NodeKind::Direct, String::new(), 0, None, None);
        placed.push(Placed::of(node, "nodes", Place::Default));
    }
    Declared {
        nodes: placed.into_iter().map(|placed| placed.node).collect(),
        origins_without_file: overridden(root, "origins"),
        broken,
    }
}

/// A node with the keys that say where it is and what it is called.
struct Placed {
    node: NodeConfig,
    key: String,
    place: Place,
    tag_key: String,
    tag_place: Place,
}

impl Placed {
    /// A node that one URL says all of.
    fn of(node: NodeConfig, key: &str, place: Place) -> Self {
        Self { node, key: key.into(), place: place.clone(), tag_key: key.into(), tag_place: place }
    }
}

fn list_of(node: &NodeConfig) -> &'static str {
    if node.kind.is_origin() { "origins" } else { "nodes" }
}

fn overridden(root: &Draft<Root>, list: &str) -> bool {
    matches!(root.places.get(list), Some(Place::Env(_) | Place::Flag(_)))
}

fn node_of(draft: &Draft<NodeDraft>, errors: &mut Vec<ConfigError>) -> Option<NodeConfig> {
    let kind = draft.values.kind.map(|index| KINDS[index]);
    let url = match (&draft.values.url, kind) {
        (Some(url), _) => url,
        (None, Some("direct")) => "direct",
        (None, _) if draft.places.contains_key("url") => return None,
        (None, _) => {
            let allowed = "write where the node is: url = \"socks5://127.0.0.1:1080\", or kind = \"direct\"";
            errors.push(draft.error("url", "nothing", allowed));
            return None;
        }
    };
    let parsed = if kind == Some("origin") { parse_origin_url(url) } else { parse_node_url(url) };
    let mut node = match parsed {
        Ok(node) => node,
        Err(error) => {
            errors.push(draft.error("url", format!("\"{}\"", one_line(url)), error.to_string()));
            return None;
        }
    };
    if let Some(kind) = kind.filter(|kind| *kind != node.kind.as_str()) {
        let says = node.kind.as_str();
        errors.push(draft.error(
            "kind",
            format!("\"{kind}\""),
            format!("the URL is one of kind {says}: change one of them"),
        ));
    }
    if let Some(tag) = &draft.values.tag {
        if url.contains('#') && *tag != node.tag {
            let other = one_line(&node.tag);
            errors.push(draft.error(
                "tag",
                format!("\"{}\"", one_line(tag)),
                format!("the URL ends with another, #{other}"),
            ));
        }
        tag.clone_into(&mut node.tag);
    }
    Some(node)
}

fn check_tags(placed: &[Placed], errors: &mut Vec<ConfigError>) {
    let mut first: BTreeMap<&str, &Place> = BTreeMap::new();
    for Placed { node, tag_key: key, tag_place: place, .. } in placed {
        if let Some(other) = first.get(node.tag.as_str()) {
            errors.push(ConfigError {
                source: place.clone(),
                key: key.clone(),
                found: format!("the tag \"{}\" again", one_line(&node.tag)),
                allowed: format!("each node has its own tag, and this one is at {other}; add a tag, in a URL #name"),
            });
        } else {
            first.insert(&node.tag, place);
        }
    }
}

/// A node that is the gateway itself would send it every request again, until something gives way.
fn check_addresses(placed: &[Placed], root: &Draft<Root>, errors: &mut Vec<ConfigError>) {
    if root.is_broken("listen") {
        return;
    }
    let listen = root.values.listen;
    for Placed { node, key, place, .. } in placed.iter().filter(|placed| placed.node.is_at(listen)) {
        errors.push(ConfigError {
            source: place.clone(),
            key: key.clone(),
            found: format!("\"{}\", this gateway's own address", one_line(&node.url_shown())),
            allowed: format!("allowed: another address than listen has, {listen}: every request would come back"),
        });
    }
}
