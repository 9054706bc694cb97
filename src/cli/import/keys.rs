//! The keys of metio's config.yaml, flat and in the order of the file. What metio cannot read is an error here as well.

use std::collections::HashSet;

use super::values::Value;
use crate::cli::support::yaml::{NodeRef, Tree, YamlError};

pub(super) const ROOMS: &str = "matrix.room-mapping";
pub(super) const EXTERNAL: &str = "templating.external-url-mapping";
pub(super) const GENERATOR: &str = "templating.generator-url-mapping";
pub(super) const COMPUTED: &str = "templating.computed-values";

/// The shape of a key's value.
#[derive(Clone, Copy)]
enum Shape {
    Text,
    Port,
    Switch,
    /// A table of names and texts.
    Table,
    /// A list of conditions and values.
    Computed,
}

/// Every key that metio knows.
const KEYS: [(&str, Shape); 17] = [
    ("http.address", Shape::Text),
    ("http.port", Shape::Port),
    ("http.alerts-path-prefix", Shape::Text),
    ("http.metrics-path", Shape::Text),
    ("http.metrics-enabled", Shape::Switch),
    ("http.basic-username", Shape::Text),
    ("http.basic-password", Shape::Text),
    ("matrix.homeserver-url", Shape::Text),
    ("matrix.user-id", Shape::Text),
    ("matrix.access-token", Shape::Text),
    ("matrix.proxy", Shape::Text),
    (ROOMS, Shape::Table),
    (EXTERNAL, Shape::Table),
    (GENERATOR, Shape::Table),
    (COMPUTED, Shape::Computed),
    ("templating.firing-template", Shape::Text),
    ("templating.resolved-template", Shape::Text),
];

/// Bound of one table or list.
pub(super) const MAX_ENTRIES: usize = 1000;

/// A key, or an entry of a table or list; one line of the report.
pub(super) struct Key {
    /// `matrix.room-mapping.ops`, `templating.computed-values[2]`, …
    pub(super) path: String,
    /// The last part alone, as it stands in the file.
    pub(super) name: String,
    /// From 1.
    pub(super) line: usize,
    /// Of an entry of a list: in words, what it does.
    pub(super) value: Value,
    /// The entry of [`KEYS`] that it belongs to; `None` if metio does not know the key.
    known: Option<&'static str>,
}

pub(super) struct Keys(Vec<Key>);

impl Keys {
    /// # Errors
    /// With every place where the file differs from such a config.
    pub(super) fn of(tree: &Tree<'_>) -> Result<Self, Vec<YamlError>> {
        let mut reader = Reader { tree, keys: Vec::new(), seen: HashSet::new(), faults: Vec::new() };
        reader.file();
        if tree.exhausted() {
            return Err(vec![YamlError::at(tree.place(tree.documents()[0]), "aliases make too much of this file")]);
        }
        if reader.faults.is_empty() { Ok(Self(reader.keys)) } else { Err(reader.faults) }
    }

    /// The key at `path`, even if it holds nothing.
    pub(super) fn get(&self, path: &'static str) -> Option<&Key> {
        self.entries(path).next()
    }

    /// The entries of the table or list at `path`.
    pub(super) fn entries(&self, path: &'static str) -> impl Iterator<Item = &Key> {
        self.0.iter().filter(move |key| key.known == Some(path))
    }

    pub(super) fn unknown(&self) -> impl Iterator<Item = &Key> {
        self.0.iter().filter(|key| key.known.is_none())
    }
}

struct Reader<'t> {
    tree: &'t Tree<'t>,
    keys: Vec<Key>,
    /// Paths in lower case.
    seen: HashSet<String>,
    faults: Vec<YamlError>,
}

impl Reader<'_> {
    fn file(&mut self) {
        let documents = self.tree.documents();
        let root = match documents.as_slice() {
            [root] => *root,
            [] => return self.faults.push(YamlError::start("there is nothing in it")),
            [_, second, ..] => return self.fault(*second, "a second document; metio reads one alone".to_owned()),
        };
        for (name, found, line) in self.pairs(root, "the file") {
            let prefix = format!("{}.", name.to_ascii_lowercase());
            if KEYS.iter().any(|(key, _)| key.starts_with(&prefix)) {
                for (key, found, line) in self.pairs(found, &name) {
                    self.key(format!("{name}.{key}"), key, found, line);
                }
            } else {
                self.add(name.clone(), name, line, Value::Nothing, None);
            }
        }
    }

    fn add(&mut self, path: String, name: String, line: usize, value: Value, known: Option<&'static str>) {
        self.keys.push(Key { path, name, line, value, known });
    }

    /// Names, values and lines of a mapping; none if it is empty.
    fn pairs(&mut self, map: NodeRef, what: &str) -> Vec<(String, NodeRef, usize)> {
        let pairs = self.bounded(map, self.tree.pairs(map), what, "a mapping");
        if let Some((place, key)) = self.tree.key_twice(map) {
            self.faults.push(YamlError::at(place, format!("the key {key:?} stands twice")));
        }
        let mut read = Vec::new();
        for (key, value) in pairs {
            match self.tree.scalar(key).map(|key| key.text.to_owned()) {
                Some(name) if name == "<<" => {
                    self.fault(key, format!("{what}: merge keys (<<) are not read here: write out what they bring"));
                }
                Some(name) => read.push((name, value, self.tree.place(key).line)),
                None => self.fault(key, format!("{what}: expected names for keys")),
            }
        }
        read
    }

    /// The entries of a list or mapping; none if they are too many, or if it is not one, which is an error unless it is null.
    fn bounded<T>(&mut self, at: NodeRef, entries: Option<Vec<T>>, what: &str, expected: &str) -> Vec<T> {
        match entries {
            Some(entries) if entries.len() <= MAX_ENTRIES => return entries,
            Some(_) => self.fault(at, format!("{what}: more than {MAX_ENTRIES} entries")),
            None if self.tree.scalar(at).is_some() && self.tree.text(at).is_none() => {}
            None => self.fault(at, format!("{what}: expected {expected}")),
        }
        Vec::new()
    }

    fn key(&mut self, path: String, name: String, found: NodeRef, line: usize) {
        // Go's JSON, which metio's YAML becomes, compares keys without regard to case.
        if !self.seen.insert(path.to_ascii_lowercase()) {
            self.fault(found, format!("{path}: stands twice, and metio does not tell letters by their case"));
            return;
        }
        let Some((known, shape)) = KEYS.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(&path)) else {
            return self.add(path, name, line, Value::Nothing, None);
        };
        match shape {
            Shape::Table => {
                for (name, found, line) in self.pairs(found, &path) {
                    let path = format!("{known}.{name}");
                    let value = self.value(found, &path);
                    self.add(path, name, line, value, Some(known));
                }
            }
            Shape::Computed => self.computed(found),
            Shape::Text | Shape::Port | Shape::Switch => {
                let value = self.value(found, &path);
                let expected = value.text().and_then(|text| match shape {
                    Shape::Port if !text.parse().is_ok_and(|port: u16| port > 0) => Some("a number from 1 to 65535"),
                    Shape::Switch if boolean(text).is_none() => Some("true or false"),
                    _ => None,
                });
                if let Some(expected) = expected {
                    self.fault(found, format!("{path}: expected {expected}"));
                }
                self.add(path, name, line, value, Some(known));
            }
        }
    }

    fn value(&mut self, found: NodeRef, path: &str) -> Value {
        match self.tree.scalar(found) {
            Some(scalar) if scalar.text.is_empty() && self.tree.is_tagged(found) => Value::Tag,
            Some(_) => self.tree.text(found).map_or(Value::Nothing, Value::of),
            None => {
                self.fault(found, format!("{path}: expected a text"));
                Value::Nothing
            }
        }
    }

    fn computed(&mut self, list: NodeRef) {
        let items = self.bounded(list, self.tree.items(list), COMPUTED, "a list");
        for (index, item) in items.into_iter().enumerate() {
            let path = format!("{COMPUTED}[{index}]");
            let (mut sets, mut when) = (Vec::new(), Vec::new());
            for (name, found, _) in self.pairs(item, &path) {
                match name.as_str() {
                    "values" => sets.extend(self.pairs(found, &path).into_iter().map(|(name, ..)| name)),
                    "when-matching-labels" => when.extend(self.conditions(found, &path, "label")),
                    "when-matching-annotations" => when.extend(self.conditions(found, &path, "annotation")),
                    "when-matching-status" => {
                        when.extend(self.value(found, &path).text().map(|status| format!("the status is {status}")));
                    }
                    _ => {}
                }
            }
            let when = if when.is_empty() { String::new() } else { format!(" where {}", when.join(" and ")) };
            let value = Value::Text(format!("sets {}{when}", sets.join(", ")));
            self.add(path.clone(), path, self.tree.place(item).line, value, Some(COMPUTED));
        }
    }

    fn conditions(&mut self, found: NodeRef, path: &str, what: &str) -> Vec<String> {
        let pairs = self.pairs(found, path);
        let condition = |(name, found, _)| {
            let value = self.value(found, path);
            format!("the {what} {name} is {}", value.text().unwrap_or("empty"))
        };
        pairs.into_iter().map(condition).collect()
    }

    fn fault(&mut self, at: NodeRef, text: String) {
        self.faults.push(YamlError::at(self.tree.place(at), text));
    }
}

/// A boolean of YAML 1.1.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "y" => Some(true),
        "false" | "no" | "off" | "n" => Some(false),
        _ => None,
    }
}
