//! `[matrix]`

use std::collections::BTreeMap;

use url::Url;

use super::credential::{ca_file, conflict, secret};
use crate::{
    config::{
        homeserver::Homeserver,
        reader::{BadValue, Item, Section},
        schema::{Credential, Matrix, NO_HOMESERVER, NO_USER, Proxy},
        secret::{Secret, SecretKind},
        values::{is_server_name, user_id},
    },
    model::RoomAddress,
};

pub(super) fn read(matrix: &Section<'_>) -> Matrix {
    let required = matrix.reader.purpose.needs_account();
    let expected = "a URL such as \"https://matrix.example.org\", or a server name such as \"example.org\"";
    let homeserver = matrix.require(required, "homeserver", expected, homeserver);
    let user_id = matrix.require(required, "user_id", "a user id such as \"@alerts:example.org\"", user_id);
    Matrix {
        homeserver: homeserver.unwrap_or_else(|| Homeserver::parse(NO_HOMESERVER).expect("a constant URL")),
        user_id: user_id.unwrap_or_else(|| NO_USER.to_owned()),
        credential: credential(matrix),
        recovery_key: one_secret(matrix, ["recovery_key", "recovery_key_file"], SecretKind::Password),
        store_passphrase: one_secret(matrix, ["store_passphrase", "store_passphrase_file"], SecretKind::Password),
        ca_file: matrix.read("ca_file", "the path of a file", ca_file),
        proxy: proxy(matrix),
        aliases: aliases(&matrix.section("aliases")),
    }
}

fn one_secret(matrix: &Section<'_>, keys: [&str; 2], kind: SecretKind) -> Option<Secret> {
    match keys.map(|key| matrix.item(key)) {
        [None, None] => None,
        [Some(one), None] | [None, Some(one)] => secret(&one, kind),
        [Some(one), Some(two)] => conflict(&one, &two),
    }
}

/// Returns `None` without an error if none is set: `login` may have stored a session.
fn credential(matrix: &Section<'_>) -> Option<Credential> {
    let [tokens, passwords] = [["access_token", "access_token_file"], ["password", "password_file"]]
        .map(|keys| keys.iter().filter_map(|key| matrix.item(key)).collect::<Vec<_>>());
    match (tokens.as_slice(), passwords.as_slice()) {
        ([], []) => None,
        ([token], []) => secret(token, SecretKind::Token).map(Credential::AccessToken),
        ([], [password]) => secret(password, SecretKind::Password).map(Credential::Password),
        ([one, two, ..], _) | ([], [one, two, ..]) | ([one], [two, ..]) => conflict(one, two),
    }
}

/// Whether `https://` in front makes it a URL: it helps `localhost:8008`, and not a user id or a sentence.
fn lacks_scheme(text: &str) -> bool {
    let host = text.split('/').next().unwrap_or_default();
    let is_scheme = host.ends_with(':');
    !text.contains("://")
        && is_server_name(host)
        && !is_scheme
        && Homeserver::parse(&format!("https://{text}")).is_some()
}

fn homeserver(item: &Item<'_>) -> Result<Homeserver, BadValue> {
    let text = item.text().ok_or(BadValue::Unexpected)?;
    if let Some(homeserver) = Homeserver::parse(text) {
        return Ok(homeserver);
    }
    if lacks_scheme(text) {
        return Err(BadValue::Because(format!("found {}, expected a URL: put https:// in front of it", item.found())));
    }
    let url = Url::parse(text).map_err(|_| BadValue::Unexpected)?;
    if !url.username().is_empty() || url.password().is_some() {
        let advice = "leave it out, the receiver signs in as matrix.user_id with its own credential";
        return Err(BadValue::Because(format!("holds a user name or password: {advice}")));
    }
    Err(BadValue::Unexpected)
}

/// The URL may hold user name and password, so no error quotes it.
fn proxy(matrix: &Section<'_>) -> Proxy {
    let keys = ["proxy", "proxy_file"];
    let Some(secret) = one_secret(matrix, keys, SecretKind::Token) else { return Proxy::Environment };
    if secret.expose() == "none" {
        return Proxy::None;
    }
    let url = Url::parse(secret.expose()).ok();
    if url.is_none_or(|url| !matches!(url.scheme(), "http" | "https") || !url.has_host()) {
        let item = keys.iter().find_map(|key| matrix.item(key));
        if let Some(item) = item {
            item.fault("expected an http or https URL such as \"http://proxy.example.org:3128\", or \"none\"");
        }
    }
    Proxy::Url(secret)
}

fn aliases(aliases: &Section<'_>) -> BTreeMap<RoomAddress, RoomAddress> {
    let mut pins = BTreeMap::new();
    for name in aliases.names() {
        let room = aliases.read(name, "the id of a room (!…)", |item| {
            let room = item.text().and_then(|text| RoomAddress::parse(text).ok());
            room.filter(|room| !room.is_alias()).ok_or(BadValue::Unexpected)
        });
        let (alias, item) = (RoomAddress::parse(name).ok().filter(RoomAddress::is_alias), aliases.item(name));
        match (alias, room) {
            (Some(alias), Some(room)) => {
                pins.insert(alias, room);
            }
            (None, _) => {
                if let Some(item) = item {
                    item.fault("the name is not an alias such as \"#ops:example.org\"");
                }
            }
            (_, None) => {}
        }
    }
    pins
}
