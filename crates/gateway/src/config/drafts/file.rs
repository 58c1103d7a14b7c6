//! The configuration file: TOML with the place of every key and value.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::super::keys::{Key, NODE, PLATFORM, ROOT, ROUTE};
use super::super::value::{Draft, Raw, one_line};
use super::super::{ConfigError, Place};
use super::{Drafts, nearest};

/// A parsed file that knows where its lines begin.
pub(in super::super) struct Document<'a> {
    path: &'a str,
    text: &'a str,
    line_starts: Vec<usize>,
    table: DeTable<'a>,
}

/// The tables of the file that there can be several of.
const LISTS: [&str; 3] = ["node", "platform", "route"];

impl<'a> Document<'a> {
    /// Parses a file's text; `path` is what errors call it.
    ///
    /// # Errors
    /// The first place that is not TOML: what follows it cannot be relied on.
    pub(in super::super) fn parse(path: &'a str, text: &'a str) -> Result<Self, ConfigError> {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        let line_starts = std::iter::once(0).chain(ends).collect();
        let mut document = Self { path, text, line_starts, table: DeTable::new() };
        match DeTable::parse(text) {
            Ok(table) => {
                document.table = table.into_inner();
                Ok(document)
            }
            Err(error) => Err(ConfigError {
                source: document.place(error.span().map_or(0, |span| span.start)),
                key: String::new(),
                found: "text that is not TOML".into(),
                allowed: error.message().split_whitespace().collect::<Vec<_>>().join(" "),
            }),
        }
    }

    /// Line and column of an offset.
    fn place(&self, offset: usize) -> Place {
        let line = self.line_starts.partition_point(|start| *start <= offset);
        let start = self.line_starts[line - 1];
        let column = self.text.get(start..offset).map_or(0, |text| text.chars().count()) + 1;
        Place::File { path: self.path.to_owned(), line, column }
    }

    /// Stores all that the file says.
    pub(super) fn read_into(&self, drafts: &mut Drafts) {
        let Drafts { root, nodes, platforms, routes, errors } = drafts;
        let mut reader = Reader { document: self, errors };
        for (name, value) in &self.table {
            match &**name.get_ref() {
                "node" => reader.list(NODE, name, value, nodes),
                "platform" => reader.list(PLATFORM, name, value, platforms),
                "route" => reader.list(ROUTE, name, value, routes),
                _ => reader.entry(ROOT, root, "", name, value),
            }
        }
    }
}

/// A name with its place.
type Name<'a> = Spanned<std::borrow::Cow<'a, str>>;

struct Reader<'a, 'e> {
    document: &'a Document<'a>,
    errors: &'e mut Vec<ConfigError>,
}

impl Reader<'_, '_> {
    /// Reads `[[name]]` tables.
    fn list<T: Default>(
        &mut self,
        keys: &'static [Key<T>],
        name: &Name<'_>,
        value: &Spanned<DeValue<'_>>,
        drafts: &mut Vec<Draft<T>>,
    ) {
        let Some(array) = value.get_ref().as_array() else {
            return self.not_tables(name, value);
        };
        for item in array.iter() {
            let Some(table) = item.get_ref().as_table() else {
                self.not_tables(name, item);
                continue;
            };
            let header = self.document.place(item.span().start);
            let mut draft = Draft::new(keys, header, format!("{}.", name.get_ref()));
            for (name, value) in table {
                self.entry(keys, &mut draft, "", name, value);
            }
            drafts.push(draft);
        }
    }

    fn not_tables(&mut self, name: &Name<'_>, value: &Spanned<DeValue<'_>>) {
        self.errors.push(ConfigError {
            source: self.document.place(name.span().start),
            key: name.get_ref().to_string(),
            found: kind(value.get_ref()).into(),
            allowed: format!("allowed: tables, each headed [[{}]]", name.get_ref()),
        });
    }

    /// Reads one key of a scope; `above` is the table it stands in, with its dot.
    fn entry<T: Default>(
        &mut self,
        keys: &'static [Key<T>],
        draft: &mut Draft<T>,
        above: &str,
        name: &Name<'_>,
        value: &Spanned<DeValue<'_>>,
    ) {
        let full = format!("{above}{}", name.get_ref());
        if let Some(key) = keys.iter().find(|key| key.name == full) {
            let (raw, place) = (self.raw(value.get_ref()), self.document.place(value.span().start));
            return draft.set(key, &raw, place, self.errors);
        }
        let inside = format!("{full}.");
        let is_table = keys.iter().any(|key| key.name.starts_with(&inside));
        match value.get_ref().as_table() {
            Some(table) if is_table => {
                for (name, value) in table {
                    self.entry(keys, draft, &inside, name, value);
                }
            }
            _ if is_table => self.errors.push(ConfigError {
                source: self.document.place(name.span().start),
                key: full.clone(),
                found: kind(value.get_ref()).into(),
                allowed: format!("allowed: a table, headed [{full}]"),
            }),
            _ => self.unknown(keys, &draft.prefix, &full, name),
        }
    }

    fn unknown<T>(&mut self, keys: &'static [Key<T>], prefix: &str, full: &str, name: &Name<'_>) {
        let known = keys.iter().map(|key| key.name.to_owned());
        let lists = LISTS.iter().filter(|_| prefix.is_empty()).map(|name| format!("[[{name}]]"));
        self.errors.push(ConfigError {
            source: self.document.place(name.span().start),
            key: format!("{prefix}{}", one_line(full)),
            found: "a key that is not known".into(),
            allowed: nearest::advice("", full, known.chain(lists), "keys"),
        });
    }

    fn raw(&self, value: &DeValue<'_>) -> Raw {
        match value {
            DeValue::String(text) => Raw::Text(text.to_string()),
            DeValue::Integer(number) => {
                Raw::Number(u64::from_str_radix(number.as_str(), number.radix()).ok(), number.to_string())
            }
            DeValue::Boolean(value) => Raw::Switch(*value),
            DeValue::Array(array) => {
                let item =
                    |item: &Spanned<DeValue<'_>>| (self.raw(item.get_ref()), self.document.place(item.span().start));
                Raw::List(array.iter().map(item).collect())
            }
            other => Raw::Other(kind(other)),
        }
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
