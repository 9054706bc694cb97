//! `[matrix]`

use url::Url;

use super::credential::{conflict, secret};
use crate::config::{
    Credential, Matrix, Secret,
    reader::{Item, Section, Wrong},
    values::user_id,
};

/// Stand in where no server is needed; `.invalid` can never resolve (RFC 2606).
pub(in crate::config) const NO_HOMESERVER: &str = "https://homeserver.invalid/";
pub(in crate::config) const NO_USER: &str = "@receiver:homeserver.invalid";

pub(super) fn read(matrix: &Section<'_>) -> Matrix {
    let required = matrix.reader.purpose.needs_account();
    let homeserver =
        matrix.require(required, "homeserver", "a URL such as \"https://matrix.example.org\"", homeserver_url);
    let user_id = matrix.require(required, "user_id", "a user id such as \"@alerts:example.org\"", user_id);
    Matrix {
        homeserver: homeserver.unwrap_or_else(|| Url::parse(NO_HOMESERVER).expect("a constant URL")),
        user_id: user_id.unwrap_or_else(|| NO_USER.to_owned()),
        credential: credential(matrix),
        recovery_key: one_secret(matrix, ["recovery_key", "recovery_key_file"]),
        store_passphrase: one_secret(matrix, ["store_passphrase", "store_passphrase_file"]),
    }
}

fn one_secret(matrix: &Section<'_>, keys: [&str; 2]) -> Option<Secret> {
    match keys.map(|key| matrix.item(key)) {
        [None, None] => None,
        [Some(one), None] | [None, Some(one)] => secret(&one),
        [Some(one), Some(two)] => conflict(&one, &two),
    }
}

/// None is fine: a session may have been stored by `login`.
fn credential(matrix: &Section<'_>) -> Option<Credential> {
    let [tokens, passwords] = [["access_token", "access_token_file"], ["password", "password_file"]]
        .map(|keys| keys.iter().filter_map(|key| matrix.item(key)).collect::<Vec<_>>());
    match (tokens.as_slice(), passwords.as_slice()) {
        ([], []) => None,
        ([token], []) => secret(token).map(Credential::AccessToken),
        ([], [password]) => secret(password).map(Credential::Password),
        ([one, two, ..], _) | ([], [one, two, ..]) | ([one], [two, ..]) => conflict(one, two),
    }
}

fn homeserver_url(item: &Item<'_>) -> Result<Url, Wrong> {
    let text = item.text().ok_or(Wrong::Unexpected)?;
    if !text.is_empty() && !text.contains("://") {
        return Err(Wrong::Says(format!("found {}, expected a URL: put https:// in front of it", item.found())));
    }
    let url = Url::parse(text).map_err(|_| Wrong::Unexpected)?;
    if !url.username().is_empty() || url.password().is_some() {
        let advice = "leave it out, the receiver signs in as matrix.user_id with its own credential";
        return Err(Wrong::Says(format!("holds a user name or password: {advice}")));
    }
    let plain = matches!(url.scheme(), "http" | "https") && url.has_host();
    if plain && url.query().is_none() && url.fragment().is_none() { Ok(url) } else { Err(Wrong::Unexpected) }
}
