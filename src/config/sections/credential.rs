//! Secrets, given as they are or as the path of a file that holds them.

use std::path::Path;

use crate::config::{
    reader::{BadValue, Item},
    secret::{self, Secret, SecretKind},
    values::text,
};

/// The secret that `item` gives: by its value, or, where the key ends in `_file`, by the path of a file. `None` when
/// that is a fault, or a file that is not to be read.
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

/// Two of one family at one level: nobody can tell which one is meant.
pub(super) fn conflict<T>(one: &Item<'_>, two: &Item<'_>) -> Option<T> {
    two.fault(format!("given together with {}, keep one of the two", one.place()));
    None
}
