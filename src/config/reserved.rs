//! Names kept for features that have not landed, and keys that are not known at all.

use super::{
    env::long_name,
    faults::{Fault, Origin},
    reader::Reader,
    tree::{Node, Table, Value, join},
};

/// Keys that mean something later, and single values of known keys. `*` is any one name. A feature that lands takes
/// its line away.
const RESERVED: [(&str, Option<&str>); 2] = [("http.tls", None), ("compat", None)];

/// Completes "<key>: …" and "<key>: <value> …".
pub(super) const TEXT: &str = "is reserved for a later version, not available in this one";

/// Whether the key at `path` (or, with a `value`, that value of it) is kept for later.
pub(super) fn is_reserved(path: &str, value: Option<&str>) -> bool {
    let matches = |pattern: &str| {
        let (pattern, path) = (pattern.split('.'), path.split('.'));
        pattern.clone().count() == path.clone().count() && pattern.zip(path).all(|(p, s)| p == "*" || p == s)
    };
    RESERVED.iter().any(|(pattern, reserved)| *reserved == value && matches(pattern))
}

/// A fault for each key that the reader was not asked for.
pub(super) fn report_unknown(reader: &Reader) {
    let mut unknown = Vec::new();
    walk(reader, reader.tree(), "", &mut unknown);
    for (path, origin) in unknown {
        reader.push(Fault::at(&origin, &path, tell(reader, &path, &origin)));
    }
}

fn walk(reader: &Reader, table: &Table, parent: &str, unknown: &mut Vec<(String, Origin)>) {
    for (key, node) in table {
        let path = join(parent, key);
        let known = reader.known().get(&path).copied();
        match (known, &node.value) {
            (Some(true), Value::Table(table)) => walk(reader, table, &path, unknown),
            (Some(true), Value::List(items)) => {
                for item in items {
                    if let Value::Table(table) = &item.value {
                        walk(reader, table, &path, unknown);
                    }
                }
            }
            (Some(_), _) => {}
            // Nothing is asked of it: `[compat]` with all of its lines commented out is harmless.
            (None, Value::Table(table)) if table.is_empty() && is_reserved(&path, None) => {}
            (None, _) => collect(node, path, unknown),
        }
    }
}

/// A table of the file is told once, by its header; a variable always by its full path, which is its name, also where
/// its key lies in such a table.
fn collect(node: &Node, path: String, unknown: &mut Vec<(String, Origin)>) {
    let by_variable = matches!(node.origin, Origin::Variable(_)) && node.raw.is_none();
    let reserved = is_reserved(&path, None);
    if let Value::Table(table) = &node.value
        && !reserved
    {
        let in_file = matches!(node.origin, Origin::File { .. });
        let told_alone = |node: &Node| by_variable || (in_file && matches!(node.origin, Origin::Variable(_)));
        for (key, node) in table.iter().filter(|(_, node)| told_alone(node)) {
            collect(node, join(&path, key), unknown);
        }
    }
    if reserved || !by_variable || !matches!(node.value, Value::Table(_)) {
        unknown.push((path, node.origin.clone()));
    }
}

fn tell(reader: &Reader, path: &str, origin: &Origin) -> String {
    if is_reserved(path, None) {
        return TEXT.to_owned();
    }
    let Some(nearest) = nearest(reader, path) else { return "unknown key".to_owned() };
    match origin {
        Origin::Variable(_) => format!("unknown key, did you mean {nearest} ({})?", long_name(&nearest)),
        _ => format!("unknown key, did you mean {nearest}?"),
    }
}

/// The known key most like `path`, by the whole path or, for a key in the wrong table, nearly as good by its last
/// part.
fn nearest(reader: &Reader, path: &str) -> Option<String> {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let likeness = |candidate: &str| {
        let whole = strsim::normalized_damerau_levenshtein(path, candidate);
        let part = strsim::normalized_damerau_levenshtein(&last(path), &last(candidate));
        whole.max(0.9 * part)
    };
    let known = reader.known();
    known.keys().max_by(|a, b| likeness(a).total_cmp(&likeness(b))).cloned()
}
