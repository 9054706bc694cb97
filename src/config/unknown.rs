//! Reports unknown keys, each with the nearest known one.

use super::{
    env::long_name,
    faults::{ConfigFault, Origin},
    reader::Reader,
    tree::{Node, Table, Value, join},
};

/// Adds an error for each key that was not read.
pub(super) fn report(reader: &Reader) {
    let mut unknown = Vec::new();
    walk(reader, reader.tree(), "", &mut unknown);
    for (path, origin) in unknown {
        reader.push(ConfigFault::at(&origin, &path, message(reader, &path, &origin)));
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
            (None, _) => collect(node, path, unknown),
        }
    }
}

/// A table of the file is reported once, by its header; a variable always by its full path, even inside such a table.
fn collect(node: &Node, path: String, unknown: &mut Vec<(String, Origin)>) {
    let by_variable = matches!(node.origin, Origin::Variable(_)) && node.raw.is_none();
    if let Value::Table(table) = &node.value {
        let in_file = matches!(node.origin, Origin::File { .. });
        let reported_alone = |node: &Node| by_variable || (in_file && matches!(node.origin, Origin::Variable(_)));
        for (key, node) in table.iter().filter(|(_, node)| reported_alone(node)) {
            collect(node, join(&path, key), unknown);
        }
    }
    if !by_variable || !matches!(node.value, Value::Table(_)) {
        unknown.push((path, node.origin.clone()));
    }
}

fn message(reader: &Reader, path: &str, origin: &Origin) -> String {
    let Some(nearest) = nearest(reader, path) else { return "unknown key".to_owned() };
    match origin {
        Origin::Variable(_) => format!("unknown key, did you mean {nearest} ({})?", long_name(&nearest)),
        _ => format!("unknown key, did you mean {nearest}?"),
    }
}

/// The known key most similar to `path`: by the whole path or, for a key in the wrong table, by its last part.
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
