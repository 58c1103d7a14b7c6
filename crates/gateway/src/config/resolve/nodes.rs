//! All nodes of all sources, with unique tags.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::drafts::Drafts;
use super::super::keys::{KINDS, Listed, NodeDraft, Root};
use super::super::url::{parse_node_url, parse_origin_url, tag_of};
use super::super::value::{Draft, one_line};
use super::super::{ConfigError, NodeConfig, NodeKind, Place};

/// The nodes that the configuration will have, without those that could not be read.
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
    let root = &drafts.root;
    // A `node` that is no list of tables may have been any node.
    let tables_broken = errors.iter().any(|error| error.key == "node");
    let mut placed: Vec<Placed> = Vec::new();
    for draft in &drafts.nodes {
        let node = node_of(draft, errors);
        if !overridden(root, if is_origin(draft) { "origins" } else { "nodes" }) {
            placed.push(Placed::of_table(draft, node));
        }
    }
    for (key, list) in [("nodes", &root.values.nodes), ("origins", &root.values.origins)] {
        placed.extend(
            list.iter().map(|Listed { node, tag }| Placed::of(node.clone(), tag.clone(), key, root.place(key))),
        );
    }
    check_tags(&placed, errors);
    check_addresses(&placed, root, errors);
    let lists_broken = root.is_broken("nodes") || root.is_broken("origins");
    let broken = tables_broken || lists_broken || placed.iter().any(|placed| placed.node.is_none());
    if placed.is_empty() && !broken {
        let node = NodeConfig::new(NodeKind::Direct, String::new(), 0, None, None);
        placed.push(Placed::of(Some(node), None, "nodes", Place::Default));
    }
    Declared {
        nodes: placed.into_iter().filter_map(|placed| placed.node).collect(),
        origins_without_file: overridden(root, "origins"),
        broken,
    }
}

/// A node, if it could be read, with the keys that say where it is and what it is called.
struct Placed {
    node: Option<NodeConfig>,
    tag: Option<String>,
    key: String,
    place: Place,
    tag_key: String,
    tag_place: Place,
}

impl Placed {
    /// A node that one URL says all of.
    fn of(node: Option<NodeConfig>, tag: Option<String>, key: &str, place: Place) -> Self {
        Self { node, tag, key: key.into(), place: place.clone(), tag_key: key.into(), tag_place: place }
    }

    fn of_table(draft: &Draft<NodeDraft>, node: Option<NodeConfig>) -> Self {
        let NodeDraft { tag, url, .. } = &draft.values;
        let written = tag.clone().or_else(|| tag_of(url.as_deref()?));
        let tag_key = if draft.places.contains_key("tag") { "tag" } else { "url" };
        Self {
            tag: node.as_ref().map(|node| node.tag.clone()).or(written),
            node,
            key: "node.url".into(),
            place: draft.place("url"),
            tag_key: format!("node.{tag_key}"),
            tag_place: draft.place(tag_key),
        }
    }
}

fn is_origin(draft: &Draft<NodeDraft>) -> bool {
    draft.values.kind.is_some_and(|index| KINDS[index] == "origin")
}

fn overridden(root: &Draft<Root>, list: &str) -> bool {
    matches!(root.places.get(list), Some(Place::Env(_) | Place::Flag(_)))
}

/// The node of a table, if all of it could be read: from a guess no error should follow that nobody made.
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
    let before = errors.len();
    let parsed = if kind == Some("origin") { parse_origin_url(url) } else { parse_node_url(url) };
    let mut node = match parsed {
        Ok(node) => node,
        // A kind that could not be read may have been origin, whose URL has another form.
        Err(_) if draft.is_broken("kind") && parse_origin_url(url).is_ok() => return None,
        Err(error) => {
            errors.push(draft.error("url", format!("\"{}\"", one_line(url)), error.to_string()));
            return None;
        }
    };
    if let Some(kind) = kind.filter(|kind| *kind != node.kind.as_str()) {
        let says = node.kind.as_str();
        let allowed = format!("the URL is one of kind {says}: change one of them");
        errors.push(draft.error("kind", format!("\"{kind}\""), allowed));
    }
    if let Some(tag) = &draft.values.tag {
        if url.contains('#') && *tag != node.tag {
            let allowed = format!("the URL ends with another, #{}", one_line(&node.tag));
            errors.push(draft.error("tag", format!("\"{}\"", one_line(tag)), allowed));
        }
        tag.clone_into(&mut node.tag);
    }
    let whole = errors.len() == before && !draft.is_broken("kind") && !draft.is_broken("tag");
    whole.then_some(node)
}

fn check_tags(placed: &[Placed], errors: &mut Vec<ConfigError>) {
    let mut first: BTreeMap<&str, &Place> = BTreeMap::new();
    for Placed { tag, tag_key, tag_place, .. } in placed {
        let Some(tag) = tag else { continue };
        if let Some(other) = first.get(tag.as_str()) {
            errors.push(ConfigError {
                source: tag_place.clone(),
                key: tag_key.clone(),
                found: format!("the tag \"{}\" again", one_line(tag)),
                allowed: format!("each node has its own tag, and this one is at {other}; add a tag, in a URL #name"),
            });
        } else {
            first.insert(tag, tag_place);
        }
    }
}

/// A node that is the gateway itself would send it every request again, until something gives way.
fn check_addresses(placed: &[Placed], root: &Draft<Root>, errors: &mut Vec<ConfigError>) {
    if root.is_broken("listen") {
        return;
    }
    let listen = root.values.listen;
    for Placed { node, key, place, .. } in placed {
        let Some(node) = node.as_ref().filter(|node| node.is_at(listen)) else { continue };
        errors.push(ConfigError {
            source: place.clone(),
            key: key.clone(),
            found: format!("\"{}\", this gateway's own address", one_line(&node.url_shown())),
            allowed: format!("allowed: another address than listen has, {listen}: every request would come back"),
        });
    }
}
