//! The sources, read into drafts: file, then environment, then flags, so that the stronger one has the last word.
//!
//! Nothing is decided here: each value is checked by its key's form, names that no key has are refused with the nearest one.

use super::keys::{
    COMMAND_VARIABLES, ENV_PLATFORM_PREFIX, ENV_PREFIX, Key, NodeDraft, PLATFORM, PlatformDraft, ROOT, Root,
    RouteDraft, env_name, flag_of, platform_env_keys,
};
use super::value::{Draft, Raw, one_line};
use super::{ConfigError, Flags, Place};

mod file;
mod nearest;

pub(super) use file::Document;

/// The name of the platform that always exists.
pub(super) const DEFAULT_PLATFORM: &str = "Default";

/// All scopes as they were read, and what was wrong on the way.
pub(super) struct Drafts {
    pub(super) root: Draft<Root>,
    pub(super) nodes: Vec<Draft<NodeDraft>>,
    /// The first is the platform `Default`, once [`Drafts::read`] is through.
    pub(super) platforms: Vec<Draft<PlatformDraft>>,
    pub(super) routes: Vec<Draft<RouteDraft>>,
    pub(super) errors: Vec<ConfigError>,
}

impl Drafts {
    /// Reads all sources; `file` is the text of the configuration file, if there is one.
    pub(super) fn read(file: Option<&Document<'_>>, env: &[(String, String)], flags: &Flags) -> Self {
        let mut drafts = Self {
            root: Draft::new(ROOT, Place::Default, String::new()),
            nodes: Vec::new(),
            platforms: Vec::new(),
            routes: Vec::new(),
            errors: Vec::new(),
        };
        if let Some(document) = file {
            document.read_into(&mut drafts);
        }
        drafts.put_default_platform_first();
        for (name, value) in env {
            drafts.read_variable(name, value);
        }
        drafts.read_flags(flags);
        drafts
    }

    fn put_default_platform_first(&mut self) {
        match self.platforms.iter().position(|platform| platform.values.name == DEFAULT_PLATFORM) {
            Some(index) => self.platforms[..=index].rotate_right(1),
            None => {
                let mut draft = Draft::new(PLATFORM, Place::Default, "platform.".into());
                draft.values.name = DEFAULT_PLATFORM.into();
                self.platforms.insert(0, draft);
            }
        }
    }

    fn read_variable(&mut self, name: &str, value: &str) {
        if !name.starts_with(ENV_PREFIX) || COMMAND_VARIABLES.iter().any(|(own, _)| *own == name) {
            return;
        }
        let (raw, place) = (Raw::Word(value.to_owned()), Place::Env(name.to_owned()));
        if let Some(key) = ROOT.iter().find(|key| env_name(ENV_PREFIX, key.name) == name) {
            self.root.set(key, &raw, place, &mut self.errors);
        } else if let Some(key) = platform_env_keys().find(|key| env_name(ENV_PLATFORM_PREFIX, key.name) == name) {
            self.platforms[0].set(key, &raw, place, &mut self.errors);
        } else {
            let all = ROOT.iter().map(|key| env_name(ENV_PREFIX, key.name));
            let all = all.chain(platform_env_keys().map(|key| env_name(ENV_PLATFORM_PREFIX, key.name)));
            self.errors.push(ConfigError {
                source: Place::Env(one_line(name)),
                key: String::new(),
                found: "a variable that is not known".into(),
                allowed: nearest::advice(ENV_PREFIX, name, all, "variables"),
            });
        }
    }

    fn read_flags(&mut self, flags: &Flags) {
        let single = [("listen", &flags.listen), ("data_dir", &flags.data_dir), ("proxy_token", &flags.token)];
        for (key, value) in single {
            if let Some(value) = value {
                self.set_root_by_flag(key, &Raw::Word(value.clone()));
            }
        }
        for (key, values) in [("nodes", &flags.nodes), ("origins", &flags.origins)] {
            if !values.is_empty() {
                let item = |value: &String| (Raw::Word(value.clone()), flag_place(key));
                self.set_root_by_flag(key, &Raw::List(values.iter().map(item).collect()));
            }
        }
        if let Some(value) = &flags.max_retries {
            let key = find(PLATFORM, "max_retries");
            self.platforms[0].set(key, &Raw::Word(value.clone()), flag_place(key.name), &mut self.errors);
        }
    }

    fn set_root_by_flag(&mut self, key: &str, raw: &Raw) {
        let key = find(ROOT, key);
        self.root.set(key, raw, flag_place(key.name), &mut self.errors);
    }
}

fn find<T>(keys: &'static [Key<T>], name: &str) -> &'static Key<T> {
    keys.iter()
        .find(|key| key.name == name)
        .expect("names of keys in this file are in the table: tests go through each")
}

fn flag_place(key: &str) -> Place {
    Place::Flag(flag_of(key).expect("only keys that have a flag are set by one"))
}
