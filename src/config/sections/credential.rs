//! Secrets, set by value or by the path of a file, and the certificates to trust.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::config::{
    reader::{BadValue, Item},
    secret::{self, Secret, SecretKind},
    values::text,
};

/// The secret that `item` sets: by value or, if the key ends in `_file`, by the path of a file. `None` after an error, or
/// for a file that must not be read.
pub(super) fn secret(item: &Item<'_>, kind: SecretKind) -> Option<Secret> {
    if item.path.ends_with("_file") {
        return from_file(item, kind);
    }
    let of_kind = |secret: Secret| secret.of_kind(kind).map_err(BadValue::Because);
    item.read("a string of one line, not empty", |item| text(item).map(Secret::new).and_then(of_kind))
}

/// The secret in the file that `item` names.
pub(super) fn from_file(item: &Item<'_>, kind: SecretKind) -> Option<Secret> {
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

const PEM: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// A file of certificates. Checks that it exists; it is read again when a client is created.
pub(super) fn ca_file(item: &Item<'_>) -> Result<PathBuf, BadValue> {
    let path = PathBuf::from(text(item)?);
    if item.reads_secrets() {
        let pem =
            fs::read(&path).map_err(|error| BadValue::Because(format!("cannot read {}: {error}", path.display())))?;
        if !pem.windows(PEM.len()).any(|part| part == PEM) {
            return Err(BadValue::Because(format!("{} holds no PEM certificate", path.display())));
        }
    }
    Ok(path)
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
