//! Settings as a tree in which every value knows where it was set, and how one tree overlays another.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::faults::{ConfigFault, Origin};

pub(super) type Table = BTreeMap<String, Node>;

/// Without `Debug`, since nodes may hold secrets.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) origin: Origin,
    pub(super) value: Value,
    /// The raw text of an environment variable, for keys that expect a string: `MAR_MATRIX__PASSWORD=1234`.
    pub(super) raw: Option<String>,
    /// Read from a secret mount: errors must not quote it, whatever the key.
    pub(super) hidden: bool,
}

#[derive(Clone)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Boolean(bool),
    /// A value that no key accepts (fractions, dates, numbers past 64 bits), kept for the error.
    Other {
        kind: &'static str,
        text: String,
    },
    List(Vec<Node>),
    Table(Table),
}

/// Settings that form one decision: set at a higher level they replace all of the lower level, since a mixture would be a
/// credential that nobody wrote.
const FAMILIES: [&[&str]; 5] = [
    &["matrix.access_token", "matrix.access_token_file", "matrix.password", "matrix.password_file"],
    &["matrix.recovery_key", "matrix.recovery_key_file"],
    &["matrix.store_passphrase", "matrix.store_passphrase_file"],
    &["http.admin.password", "http.admin.password_file"],
    &["store.database_url", "store.database_url_file"],
];

/// Tables that form one decision, for the same reason; all other tables are merged key by key.
const WHOLE: [&str; 1] = ["http.auth"];

impl Node {
    pub(super) fn new(origin: Origin, value: Value) -> Self {
        Self { origin, value, raw: None, hidden: false }
    }
}

/// The dotted path of `key` inside the table at `parent`. As in TOML, what is not a bare key stands in quotes: a key
/// `"http.listen"` at the top must not pass for the `listen` of `[http]`.
pub(super) fn join(parent: &str, key: &str) -> String {
    let bare = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    let key = if bare { key.to_owned() } else { format!("{key:?}") };
    if parent.is_empty() { key } else { format!("{parent}.{key}") }
}

/// Overlays `lower` with `upper`, which wins where both set a key.
pub(super) fn overlay(lower: &mut Table, upper: Table, parent: &str) {
    for family in FAMILIES {
        if upper.keys().any(|key| family.contains(&join(parent, key).as_str())) {
            lower.retain(|key, _| !family.contains(&join(parent, key).as_str()));
        }
    }
    for (key, node) in upper {
        let path = join(parent, &key);
        match (lower.get_mut(&key), node.value) {
            (Some(Node { value: Value::Table(below), .. }), Value::Table(above)) if !WHOLE.contains(&path.as_str()) => {
                overlay(below, above, &path);
            }
            (_, value) => {
                lower.insert(key, Node { value, ..node });
            }
        }
    }
}

/// Adds `more` to `table`, both of one level, so that a key set twice is an error.
pub(super) fn combine(table: &mut Table, more: Table, parent: &str, faults: &mut Vec<ConfigFault>) {
    for (key, node) in more {
        let path = join(parent, &key);
        match (table.get_mut(&key), node) {
            (None, node) => {
                table.insert(key, node);
            }
            (Some(Node { value: Value::Table(present), .. }), Node { value: Value::Table(added), .. }) => {
                combine(present, added, &path, faults);
            }
            (Some(present), node) => {
                let text = format!("set by {} as well, keep one of the two", present.origin);
                faults.push(ConfigFault::at(&node.origin, &path, text));
            }
        }
    }
}

/// The tree of a TOML file.
///
/// # Errors
/// With each place where it is not TOML, at most one per line: further errors on a line mostly follow from the first.
pub(super) fn parse(text: &str, path: &Arc<str>) -> Result<Table, Vec<ConfigFault>> {
    let lines =
        Lines { path, starts: std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect() };
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(convert_table(table.into_inner(), &|span| lines.origin(&span)));
    }
    let mut faults: Vec<ConfigFault> = Vec::new();
    for error in errors {
        let (line, column) = lines.position(text, error.span().map_or(0, |span| span.start));
        let origin = Origin::File { path: path.clone(), line, column: Some(column) };
        let known = faults.iter().any(|fault| matches!(&fault.origin, Origin::File { line: at, .. } if *at == line));
        if !known {
            faults.push(ConfigFault { origin, text: format!("not valid TOML: {}", error.message()) });
        }
    }
    Err(faults)
}

/// The value of an environment variable: TOML if it parses, else the bare string.
pub(super) fn parse_variable(name: &str, raw: &str) -> Node {
    let origin = Origin::Variable(name.to_owned());
    let value = match DeValue::parse(raw.trim()) {
        Ok(value) => convert(value.into_inner(), &|_| origin.clone()),
        Err(_) => Value::Text(raw.to_owned()),
    };
    Node { origin, value, raw: Some(raw.to_owned()), hidden: false }
}

struct Lines<'a> {
    path: &'a Arc<str>,
    /// The offset of each line's first byte.
    starts: Vec<usize>,
}

impl Lines<'_> {
    fn origin(&self, span: &Range<usize>) -> Origin {
        Origin::File { path: self.path.clone(), line: self.line(span.start), column: None }
    }

    fn line(&self, at: usize) -> usize {
        self.starts.partition_point(|start| *start <= at)
    }

    /// Line and column, both from 1; the column counts characters, as editors do.
    fn position(&self, text: &str, at: usize) -> (usize, usize) {
        let line = self.line(at);
        let start = self.starts.get(line.saturating_sub(1)).copied().unwrap_or(0);
        (line, text.get(start..at).map_or(1, |before| before.chars().count() + 1))
    }
}

fn convert_table(table: DeTable<'_>, origin: &dyn Fn(Range<usize>) -> Origin) -> Table {
    let entry = |(key, value): (Spanned<_>, Spanned<_>)| {
        let place = origin(key.span());
        let key: std::borrow::Cow<'_, str> = key.into_inner();
        (key.into_owned(), Node::new(place, convert(value.into_inner(), origin)))
    };
    table.into_iter().map(entry).collect()
}

fn convert(value: DeValue<'_>, origin: &dyn Fn(Range<usize>) -> Origin) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::Other { kind: "a number", text: number.to_string() },
        },
        DeValue::Float(number) => Value::Other { kind: "a number", text: number.to_string() },
        DeValue::Boolean(yes) => Value::Boolean(yes),
        DeValue::Datetime(date) => Value::Other { kind: "a date", text: date.to_string() },
        DeValue::Array(items) => {
            let node = |item: Spanned<DeValue<'_>>| Node::new(origin(item.span()), convert(item.into_inner(), origin));
            Value::List(items.into_iter().map(node).collect())
        }
        DeValue::Table(table) => Value::Table(convert_table(table, origin)),
    }
}
