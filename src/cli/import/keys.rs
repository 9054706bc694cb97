//! The keys of metio's config.yaml, flat and in the order of the file; what it cannot read either is a fault.

use std::collections::HashSet;

use super::values::Value;
use crate::cli::support::yaml::{Bad, Found, Tree};

/// Keys with one value each.
const SINGLE: [&str; 12] = [
    "http.address",
    "http.port",
    "http.alerts-path-prefix",
    "http.metrics-path",
    "http.metrics-enabled",
    "http.basic-username",
    "http.basic-password",
    "matrix.homeserver-url",
    "matrix.user-id",
    "matrix.access-token",
    "matrix.proxy",
    "templating.firing-template",
];
const RESOLVED: &str = "templating.resolved-template";
/// Tables of names and texts.
pub(super) const ROOMS: &str = "matrix.room-mapping";
pub(super) const EXTERNAL: &str = "templating.external-url-mapping";
pub(super) const GENERATOR: &str = "templating.generator-url-mapping";
pub(super) const COMPUTED: &str = "templating.computed-values";
const SECTIONS: [&str; 3] = ["http", "matrix", "templating"];

/// Of one table or list; nobody has as many rooms.
pub(super) const MAX_ENTRIES: usize = 1000;

/// One line of the report.
pub(super) struct Key {
    /// `matrix.room-mapping.ops`, `templating.computed-values[2]`, …
    pub(super) path: String,
    /// The last part alone, as it stands in the file.
    pub(super) name: String,
    /// From 1.
    pub(super) line: usize,
    pub(super) value: Value,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Single,
    /// An entry of the table or list at that path; of a list the value says in words what it does.
    Entry(&'static str),
    /// Nothing that metio knows.
    Unknown,
}

pub(super) struct Keys {
    all: Vec<Key>,
}

impl Keys {
    /// # Errors
    /// With all places where it is no such config.
    pub(super) fn of(tree: &Tree<'_>) -> Result<Self, Vec<Bad>> {
        let mut reader = Reader { tree, keys: Vec::new(), seen: HashSet::new(), faults: Vec::new() };
        reader.file();
        if tree.exhausted() {
            return Err(vec![Bad::at(tree.place(tree.documents()[0]), "aliases make too much of this file")]);
        }
        if reader.faults.is_empty() { Ok(Self { all: reader.keys }) } else { Err(reader.faults) }
    }

    /// The key with one value at `path`, also if it holds nothing.
    pub(super) fn get(&self, path: &str) -> Option<&Key> {
        self.all.iter().find(|key| key.kind == Kind::Single && key.path.eq_ignore_ascii_case(path))
    }

    /// The entries of the table or list at `path`.
    pub(super) fn entries(&self, path: &'static str) -> impl Iterator<Item = &Key> {
        self.all.iter().filter(move |key| key.kind == Kind::Entry(path))
    }

    pub(super) fn unknown(&self) -> impl Iterator<Item = &Key> {
        self.all.iter().filter(|key| key.kind == Kind::Unknown)
    }
}

struct Reader<'t> {
    tree: &'t Tree<'t>,
    keys: Vec<Key>,
    /// Paths in lower case.
    seen: HashSet<String>,
    faults: Vec<Bad>,
}

impl Reader<'_> {
    fn file(&mut self) {
        let documents = self.tree.documents();
        let [root] = documents.as_slice() else {
            let fault = match documents.get(1) {
                Some(second) => Bad::at(self.tree.place(*second), "a second document; metio reads one alone"),
                None => Bad::start("there is nothing in it"),
            };
            self.faults.push(fault);
            return;
        };
        for (name, found, line) in self.pairs(*root, "the file") {
            let section = SECTIONS.iter().find(|section| section.eq_ignore_ascii_case(&name));
            match section {
                Some(_) => {
                    for (key, found, line) in self.pairs(found, &name) {
                        self.key(format!("{name}.{key}"), key, found, line);
                    }
                }
                None => self.unknown(name.clone(), name, line),
            }
        }
    }

    /// Names and values of a mapping; nothing for one that is empty.
    fn pairs(&mut self, map: Found, what: &str) -> Vec<(String, Found, usize)> {
        let Some(pairs) = self.tree.pairs(map) else {
            if !self.is_null(map) {
                self.fault(map, format!("{what}: expected a mapping"));
            }
            return Vec::new();
        };
        if pairs.len() > MAX_ENTRIES {
            self.fault(map, format!("{what}: more than {MAX_ENTRIES} entries"));
            return Vec::new();
        }
        if let Some((place, key)) = self.tree.key_twice(map) {
            self.faults.push(Bad::at(place, format!("the key {key:?} stands twice")));
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

    fn key(&mut self, path: String, name: String, found: Found, line: usize) {
        // As Go's JSON does, which metio's YAML becomes.
        if !self.seen.insert(path.to_ascii_lowercase()) {
            self.fault(found, format!("{path}: stands twice, and metio does not tell letters by their case"));
            return;
        }
        let is = |known: &&str| known.eq_ignore_ascii_case(&path);
        if SINGLE.iter().chain([&RESOLVED]).any(is) {
            let value = self.value(found, &path);
            self.check(&value, found, &path);
            self.keys.push(Key { path, name, line, value, kind: Kind::Single });
        } else if let Some(table) = [ROOMS, EXTERNAL, GENERATOR].into_iter().find(&is) {
            for (name, found, line) in self.pairs(found, &path) {
                let path = format!("{table}.{name}");
                let value = self.value(found, &path);
                self.keys.push(Key { path, name, line, value, kind: Kind::Entry(table) });
            }
        } else if is(&COMPUTED) {
            self.computed(found);
        } else {
            self.unknown(path, name, line);
        }
    }

    fn unknown(&mut self, path: String, name: String, line: usize) {
        self.keys.push(Key { path, name, line, value: Value::Nothing, kind: Kind::Unknown });
    }

    fn value(&mut self, found: Found, path: &str) -> Value {
        match self.tree.scalar(found) {
            Some(scalar) if scalar.text.is_empty() && self.tree.is_tagged(found) => Value::Tag,
            Some(_) => self.tree.text(found).map_or(Value::Nothing, Value::of),
            None => {
                self.fault(found, format!("{path}: expected a text"));
                Value::Nothing
            }
        }
    }

    /// What is no text in metio's model.
    fn check(&mut self, value: &Value, found: Found, path: &str) {
        let Some(text) = value.text() else { return };
        let is = |known: &str| known.eq_ignore_ascii_case(path);
        if is("http.port") && !text.parse().is_ok_and(|port: u16| port > 0) {
            self.fault(found, format!("{path}: expected a number from 1 to 65535"));
        }
        if is("http.metrics-enabled") && boolean(text).is_none() {
            self.fault(found, format!("{path}: expected true or false"));
        }
    }

    fn computed(&mut self, list: Found) {
        let Some(items) = self.tree.items(list) else {
            if !self.is_null(list) {
                self.fault(list, format!("{COMPUTED}: expected a list"));
            }
            return;
        };
        if items.len() > MAX_ENTRIES {
            self.fault(list, format!("{COMPUTED}: more than {MAX_ENTRIES} entries"));
            return;
        }
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
            let line = self.tree.place(item).line;
            self.keys.push(Key { name: path.clone(), path, line, value, kind: Kind::Entry(COMPUTED) });
        }
    }

    fn conditions(&mut self, found: Found, path: &str, what: &str) -> Vec<String> {
        let mut told = Vec::new();
        for (name, found, _) in self.pairs(found, path) {
            let value = self.value(found, path);
            told.push(format!("the {what} {name} is {}", value.text().unwrap_or("empty")));
        }
        told
    }

    fn is_null(&self, found: Found) -> bool {
        self.tree.scalar(found).is_some() && self.tree.text(found).is_none()
    }

    fn fault(&mut self, at: Found, text: String) {
        self.faults.push(Bad::at(self.tree.place(at), text));
    }
}

/// As YAML 1.1 has it.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "y" => Some(true),
        "false" | "no" | "off" | "n" => Some(false),
        _ => None,
    }
}
