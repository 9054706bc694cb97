//! `[http]`

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use super::{admin, auth};
use crate::config::{
    reader::{BadValue, Item, Section},
    schema::{Auth, Http, Tls},
    values::{boolean, number, text},
};

const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9088);
const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;
/// A body of fewer bytes cannot hold a single alert.
const LEAST_BODY_BYTES: usize = 1024;
/// The budget of all bodies in flight; Alertmanager's largest are a hundredth of it.
const MOST_BODY_BYTES: usize = 64 * 1024 * 1024;

pub(super) fn read(http: &Section<'_>) -> Http {
    let listen = http
        .read("listen", "an address and a port such as \"127.0.0.1:9088\" or \"[::]:9088\"", |item| {
            item.text().and_then(|text| text.parse().ok()).ok_or(BadValue::Unexpected)
        })
        .unwrap_or(LISTEN);
    let max_body_bytes =
        http.read("max_body_bytes", "a whole number of bytes, 1024 or more", body_bytes).unwrap_or(MAX_BODY_BYTES);
    let allow_unauthenticated = http.read("allow_unauthenticated", "true or false", boolean).unwrap_or(false);
    let auth = auth::read(http);
    if matches!(auth, Some(Auth::None)) && !allow_unauthenticated && http.reader.purpose.needs_rooms() {
        forbid_open_access(http, listen);
    }
    let (tls, admin) = (tls(http), admin::read(http, listen));
    Http { listen, max_body_bytes, allow_unauthenticated, auth: auth.unwrap_or(Auth::None), tls, admin }
}

fn body_bytes(item: &Item<'_>) -> Result<usize, BadValue> {
    let bytes = number(item, LEAST_BODY_BYTES)?;
    if bytes > MOST_BODY_BYTES {
        return Err(BadValue::Because(format!(
            "found {bytes}, expected at most {MOST_BODY_BYTES} (64 MiB): decoding takes several times as much memory"
        )));
    }
    Ok(bytes)
}

/// Reads the paths alone; the files are checked where they are used.
fn tls(http: &Section<'_>) -> Option<Tls> {
    let is_table = http.item("tls").is_some_and(|item| item.section().is_ok());
    let tls = http.section("tls");
    let file = |key| tls.require(is_table, key, "the path of a PEM file", |item| text(item).map(PathBuf::from));
    let (cert_file, key_file) = (file("cert_file"), file("key_file"));
    Some(Tls { cert_file: cert_file?, key_file: key_file? })
}

/// Requires authentication by default, since everybody who reaches the port can write into the rooms.
fn forbid_open_access(http: &Section<'_>, listen: SocketAddr) {
    if listen.ip().to_canonical().is_loopback() {
        return;
    }
    if let Some(item) = http.item("listen") {
        item.fault(format!(
            "{listen} can be reached from other hosts and http.auth is \"none\": set http.auth or WEBHOOK_TOKEN, \
             or http.allow_unauthenticated = true"
        ));
    }
}
