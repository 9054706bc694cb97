//! Secrets, set by value or by the path of a file.

use std::path::Path;

use crate::config::{
    reader::{BadValue, Item},
    secret::{self, Secret, SecretKind},
    values::text,
};

/// The secret that `item` sets: by value or, if the key ends in `_file`, by the path of a file. `None` after an error, or
/// for a file that must not be read.
pub(super) fn secret(item: &Item<'_>, kind: SecretKind) -> Option<Secret> {
    let of_kind = |secret: Secret| secret.of_kind(kind).map_err(BadValue::Because);
    if !item.path.ends_with("_file") {
        return item.read("a string of one line, not empty", |item| text(item).map(Secret::new).and_then(of_kind));
    }
    let path = item.read("the path of a file", text)?;
    if !item.reads_secrets() {
        return None;
    }
    item.read("", |_| {
        let line = secret::read_line(Path::new(&path)).map_err(BadValue::Because)?;
        let named = |why| format!("{path} {why}");
        Secret::from_file(&line, path.clone().into()).of_kind(kind).map_err(|why| BadValue::Because(named(why)))
    })
}

pub(super) const USERNAME: &str = "a user name, without a colon";

/// A user name of HTTP's basic authentication (RFC 7617: the first colon ends it).
pub(super) fn username(item: &Item<'_>) -> Result<String, BadValue> {
    text(item).and_then(|name| if name.contains(':') { Err(BadValue::Unexpected) } else { Ok(name) })
}

/// Reports two keys that exclude each other.
pub(super) fn conflict<T>(one: &Item<'_>, two: &Item<'_>) -> Option<T> {
    two.fault(format!("given together with {}, keep one of the two", one.place()));
    None
}
