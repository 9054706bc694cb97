//! `http.auth`: a word or a table; and the same keys in the table of a service that is asked.

use super::credential::{USERNAME, conflict, secret, username};
use crate::config::{
    reader::{BadValue, Item, Section},
    schema::{ApiAuth, Auth},
    secret::{Secret, SecretKind},
};

const EXPECTED: &str = "\"none\" or a table such as { bearer_token_file = \"/run/secrets/webhook-token\" } or \
                        { username = \"alertmanager\", password_file = \"/run/secrets/webhook-password\" }";

/// Returns `None` if it is set and wrong, which must not count as "no authentication".
pub(super) fn read(http: &Section<'_>) -> Option<Auth> {
    let item = http.item("auth");
    if let Some(item) = &item
        && let Ok(auth) = item.section()
    {
        return table(item, &auth);
    }
    // The keys of an absent table are read as well, which makes them known.
    keys(&http.absent("auth"));
    let none = |item: &Item<'_>| if item.text() == Some("none") { Ok(Auth::None) } else { Err(BadValue::Unexpected) };
    item.map_or(Some(Auth::None), |item| item.read(EXPECTED, none))
}

/// The credentials of a service that is asked, which stand among the other keys of its table. Without any of them requests
/// carry none; `None`: they are set and wrong.
pub(super) fn of_service(item: &Item<'_>, section: &Section<'_>) -> Option<ApiAuth> {
    let keys = keys(section);
    if keys.bearer.is_empty() && keys.username.is_none() && keys.password.is_empty() {
        return Some(ApiAuth::None);
    }
    Some(match from_keys(item, &keys)? {
        Auth::None => ApiAuth::None,
        Auth::Bearer(token) => ApiAuth::Bearer(token),
        Auth::Basic { username, password } => ApiAuth::Basic { username, password },
    })
}

/// Makes the keys of an absent table known.
pub(super) fn make_known(section: &Section<'_>) {
    keys(section);
}

struct Keys<'r> {
    bearer: Vec<Item<'r>>,
    username: Option<Item<'r>>,
    password: Vec<Item<'r>>,
}

fn keys<'r>(auth: &Section<'r>) -> Keys<'r> {
    Keys {
        bearer: ["bearer_token", "bearer_token_file"].iter().filter_map(|key| auth.item(key)).collect(),
        username: auth.item("username"),
        password: ["password", "password_file"].iter().filter_map(|key| auth.item(key)).collect(),
    }
}

fn table(item: &Item<'_>, auth: &Section<'_>) -> Option<Auth> {
    from_keys(item, &keys(auth))
}

fn from_keys(item: &Item<'_>, keys: &Keys<'_>) -> Option<Auth> {
    let first_basic = keys.username.as_ref().or(keys.password.first());
    match (keys.bearer.as_slice(), first_basic) {
        ([], None) => {
            item.fault(format!("found no credential in it, expected {EXPECTED}"));
            None
        }
        ([bearer], None) => finish(item, secret(bearer, SecretKind::Token), Auth::Bearer),
        ([bearer], Some(basic)) => conflict(bearer, basic),
        ([one, two, ..], _) => conflict(one, two),
        ([], Some(_)) => basic(item, keys),
    }
}

fn basic(item: &Item<'_>, keys: &Keys<'_>) -> Option<Auth> {
    let username = keys.username.as_ref().and_then(|item| item.read(USERNAME, username));
    if keys.username.is_none() {
        item.fault("a password without a username");
    }
    let password = match keys.password.as_slice() {
        [] => {
            item.fault("a username without a password: set password or password_file");
            return None;
        }
        [password] => secret(password, SecretKind::Password),
        [one, two, ..] => return conflict(one, two),
    };
    let username = username?;
    finish(item, password, |password| Auth::Basic { username, password })
}

/// The authentication with `secret`. Where secret files are not read, authentication is not needed either.
fn finish(item: &Item<'_>, secret: Option<Secret>, make: impl FnOnce(Secret) -> Auth) -> Option<Auth> {
    match secret {
        Some(secret) => Some(make(secret)),
        None if item.reads_secrets() => None,
        None => Some(Auth::None),
    }
}
