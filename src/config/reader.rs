//! Typed reading of the merged settings. Reading a key makes it known, so each key is named once, where it is read; a key
//! that nothing reads is unknown.

use std::{
    cell::{Ref, RefCell},
    collections::BTreeMap,
    sync::Arc,
};

use super::{
    env::short_name,
    faults::{ConfigFault, ConfigFaults, Origin},
    purpose::Purpose,
    tree::{Node, Table, Value, join},
};

/// Keys whose values no error may quote. `auth` and `query_secret` are among them because a token may be written there in
/// place of a table or a switch.
const SECRETS: [&str; 10] = [
    "access_token",
    "password",
    "recovery_key",
    "store_passphrase",
    "bearer_token",
    "auth",
    "query_secret",
    "proxy",
    "ping_url",
    "database_url",
];

/// Longest value that an error quotes, in characters.
const QUOTED: usize = 60;

pub(super) struct Reader {
    root: Table,
    pub(super) purpose: Purpose,
    /// What errors name for a missing key: the file, or the environment without one.
    place: Arc<str>,
    /// Every path that was read, and whether as a table.
    known: RefCell<BTreeMap<String, bool>>,
    faults: RefCell<Vec<ConfigFault>>,
}

/// A table that may be absent; keys of an absent table read as unset.
pub(super) struct Section<'r> {
    pub(super) reader: &'r Reader,
    pub(super) path: String,
    table: Option<&'r Table>,
}

/// A value that was set.
#[derive(Clone)]
pub(super) struct Item<'r> {
    reader: &'r Reader,
    pub(super) path: String,
    node: &'r Node,
}

/// Why a value cannot be taken.
pub(super) enum BadValue {
    /// The value is not what the key expects; the error quotes it.
    Unexpected,
    /// A text in place of "found …, expected …".
    Because(String),
}

impl Reader {
    pub(super) fn new(root: Table, purpose: Purpose, place: Arc<str>, faults: Vec<ConfigFault>) -> Self {
        Self { root, purpose, place, known: RefCell::default(), faults: RefCell::new(faults) }
    }

    pub(super) fn root(&self) -> Section<'_> {
        Section { reader: self, path: String::new(), table: Some(&self.root) }
    }

    pub(super) fn tree(&self) -> &Table {
        &self.root
    }

    /// Every path that was read; `true` for tables.
    pub(super) fn known(&self) -> Ref<'_, BTreeMap<String, bool>> {
        self.known.borrow()
    }

    pub(super) fn push(&self, fault: ConfigFault) {
        self.faults.borrow_mut().push(fault);
    }

    /// # Errors
    /// With every error found so far, if there is any.
    pub(super) fn finish<T>(self, config: T) -> Result<T, ConfigFaults> {
        let faults = self.faults.into_inner();
        if faults.is_empty() { Ok(config) } else { Err(ConfigFaults::new(faults)) }
    }

    fn know(&self, path: &str, table: bool) {
        *self.known.borrow_mut().entry(path.to_owned()).or_default() |= table;
    }
}

impl<'r> Section<'r> {
    /// The value of `key`, if it is set.
    pub(super) fn item(&self, key: &str) -> Option<Item<'r>> {
        let path = join(&self.path, key);
        self.reader.know(&path, false);
        let node = self.table?.get(key)?;
        Some(Item { reader: self.reader, path, node })
    }

    pub(super) fn section(&self, key: &str) -> Section<'r> {
        let item = self.item(key);
        match item.as_ref().map(Item::section) {
            Some(Ok(section)) => return section,
            Some(Err(_)) => item.iter().for_each(|item| item.unexpected("a table")),
            None => {}
        }
        self.absent(key)
    }

    /// The table at `key` as if it were absent: its keys become known, and read as unset.
    pub(super) fn absent(&self, key: &str) -> Section<'r> {
        let path = join(&self.path, key);
        self.reader.know(&path, true);
        Section { reader: self.reader, path, table: None }
    }

    /// Whether the table was set, even if empty.
    pub(super) fn is_there(&self) -> bool {
        self.table.is_some()
    }

    /// The names that the operator chose in this table.
    pub(super) fn names(&self) -> impl Iterator<Item = &'r str> + use<'r> {
        self.table.into_iter().flat_map(|table| table.keys().map(String::as_str))
    }

    /// The value of `key` by `parse`. `expected` completes "expected …".
    pub(super) fn read<T>(
        &self,
        key: &str,
        expected: &str,
        parse: impl FnOnce(&Item<'r>) -> Result<T, BadValue>,
    ) -> Option<T> {
        self.item(key)?.read(expected, parse)
    }

    /// As [`Self::read`]; a missing key is an error if `required`.
    pub(super) fn require<T>(
        &self,
        required: bool,
        key: &str,
        expected: &str,
        parse: impl FnOnce(&Item<'r>) -> Result<T, BadValue>,
    ) -> Option<T> {
        let item = self.item(key);
        if item.is_none() && required {
            self.missing(key, expected);
        }
        item?.read(expected, parse)
    }

    pub(super) fn missing(&self, key: &str, expected: &str) {
        let path = join(&self.path, key);
        // The key was set and its error is reported already, such as an unreadable file that its short name names.
        if self.reader.faults.borrow().iter().any(|fault| fault.text.starts_with(&format!("{path}: "))) {
            return;
        }
        let hint = short_name(&path).map_or(String::new(), |name| format!(" (or set {name})"));
        let origin = Origin::Unset(self.reader.place.clone());
        self.reader.push(ConfigFault::at(&origin, &path, format!("missing, expected {expected}{hint}")));
    }

    /// The entries of the list at `key` that `parse` takes; `each` says what every entry is.
    pub(super) fn list<T>(
        &self,
        key: &str,
        each: &str,
        parse: impl Fn(&Item<'r>) -> Result<T, BadValue>,
    ) -> Option<Vec<T>> {
        let items = self.read(key, &format!("a list, each entry {each}"), Item::items)?;
        Some(items.iter().filter_map(|item| item.read(each, &parse)).collect())
    }
}

impl<'r> Item<'r> {
    /// The value by `parse`; what it rejects is an error.
    pub(super) fn read<T>(&self, expected: &str, parse: impl FnOnce(&Self) -> Result<T, BadValue>) -> Option<T> {
        match parse(self) {
            Ok(value) => return Some(value),
            Err(BadValue::Unexpected) => self.unexpected(expected),
            Err(BadValue::Because(text)) => self.fault(text),
        }
        None
    }

    /// The value as a string; an environment variable is always one, since `1234` may be a password.
    pub(super) fn text(&self) -> Option<&'r str> {
        match &self.node.value {
            Value::Text(text) => Some(text),
            _ => self.node.raw.as_deref(),
        }
    }

    pub(super) fn integer(&self) -> Option<i64> {
        if let Value::Integer(number) = self.node.value { Some(number) } else { None }
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        if let Value::Boolean(yes) = self.node.value { Some(yes) } else { None }
    }

    /// # Errors
    /// When it is not a list.
    pub(super) fn items(&self) -> Result<Vec<Item<'r>>, BadValue> {
        let Value::List(nodes) = &self.node.value else { return Err(BadValue::Unexpected) };
        Ok(nodes.iter().map(|node| Item { reader: self.reader, path: self.path.clone(), node }).collect())
    }

    /// # Errors
    /// When it is not a table.
    pub(super) fn section(&self) -> Result<Section<'r>, BadValue> {
        let Value::Table(table) = &self.node.value else { return Err(BadValue::Unexpected) };
        self.reader.know(&self.path, true);
        Ok(Section { reader: self.reader, path: self.path.clone(), table: Some(table) })
    }

    pub(super) fn reads_secrets(&self) -> bool {
        self.reader.purpose.reads_secrets()
    }

    pub(super) fn fault(&self, text: impl std::fmt::Display) {
        self.reader.push(ConfigFault::at(&self.node.origin, &self.path, text));
    }

    /// The key and where it was set, for errors about two settings that exclude each other.
    pub(super) fn place(&self) -> String {
        format!("{} ({})", self.path, self.node.origin)
    }

    /// The value as an error may show it: in full, or only its kind if it may be a secret.
    pub(super) fn found(&self) -> String {
        let last = self.path.rsplit('.').next().unwrap_or_default();
        // A header's value may be a token.
        let secret = self.node.hidden || SECRETS.contains(&last) || self.path.contains(".headers.");
        match &self.node.value {
            Value::Text(text) if text.is_empty() => "an empty string".to_owned(),
            // A URL may carry a user name and a password.
            Value::Text(text) if text.contains('@') && (text.contains("://") || last == "homeserver") => {
                "a string with an @ in it".to_owned()
            }
            Value::Text(text) if !secret => quote(text),
            Value::Text(_) => "a string".to_owned(),
            Value::Integer(number) if !secret => number.to_string(),
            Value::Integer(_) => "a number".to_owned(),
            Value::Boolean(yes) if !secret => yes.to_string(),
            Value::Boolean(_) => "true or false".to_owned(),
            Value::Other { text, .. } if !secret => text.clone(),
            Value::Other { kind, .. } => (*kind).to_owned(),
            Value::List(_) => "a list".to_owned(),
            Value::Table(_) => "a table".to_owned(),
        }
    }

    fn unexpected(&self, expected: &str) {
        // A text in place of a table or a list may be a secret, so it is never quoted.
        let text =
            matches!(self.node.value, Value::Text(_)) && ["a table", "a list"].iter().any(|e| expected.starts_with(e));
        let found = if text { "a string".to_owned() } else { self.found() };
        let quoted =
            |text: &str| text.len() > 1 && ['"', '\''].iter().any(|q| text.starts_with(*q) && text.ends_with(*q));
        let in_quotes = matches!(&self.node.value, Value::Text(text) if quoted(text));
        let hint = if in_quotes { "; the quotes count as part of it: take them away" } else { "" };
        self.fault(format!("found {found}, expected {expected}{hint}"));
    }
}

/// `text` in quotes, cut, on one line.
fn quote(text: &str) -> String {
    let cut: String = text.chars().take(QUOTED).collect();
    let more = if cut.len() < text.len() { "…" } else { "" };
    format!("{cut:?}{more}")
}
