//! Environment beats file, `MAR_` beats the short names, and a credential replaces all lower ones.

use super::{Config, REQUIRED, load};
use crate::config::{Auth, Credential};

/// Variables, by name and value.
type Env<'a> = &'a [(&'a str, &'a str)];

const FILE_TOKEN: &str = "access_token = \"file\"";

/// The required keys with `matrix` in the middle of `[matrix]`, and `rest` at the end.
fn file(matrix: &str, rest: &str) -> String {
    format!("{}\n{rest}", REQUIRED.replace("[routes", &format!("{matrix}\n[routes")))
}

fn credential(config: &Config) -> String {
    match &config.matrix.credential {
        Some(Credential::AccessToken(secret)) => format!("token {}", secret.expose()),
        Some(Credential::Password(secret)) => format!("password {}", secret.expose()),
        None => "none".to_owned(),
    }
}

fn auth(config: &Config) -> String {
    match &config.http.auth {
        Auth::Bearer(secret) => format!("bearer {}", secret.expose()),
        Auth::Basic { username, password } => format!("basic {username} {}", password.expose()),
        Auth::None => "none".to_owned(),
    }
}

#[test]
fn plain_keys() {
    let text = file("", "[http]\nlisten = \"127.0.0.1:1\"\n[store]\npath = \"/file\"");
    let config = load(
        &text,
        &[
            ("MATRIX_USER_ID", "@short:example.org"),
            ("MATRIX_HOMESERVER", "https://short"),
            ("MAR_MATRIX__HOMESERVER", "https://long"),
            ("MAR_HTTP__LISTEN", "127.0.0.1:2"),
            ("MATRIX_ROOM_ID", "!short:example.org"),
        ],
    )
    .expect("no fault");
    assert_eq!(config.matrix.homeserver.as_str(), "https://long/");
    assert_eq!(config.matrix.user_id, "@short:example.org");
    assert_eq!(config.http.listen.port(), 2);
    assert_eq!(config.store.path.to_str(), Some("/file"));
    assert_eq!(config.rooms()[0].0.as_str(), "!short:example.org");
    assert_eq!(config.rooms().len(), 1);
}

#[test]
fn credentials() {
    let table: [(&str, Env<'_>, &str); 9] = [
        ("", &[], "none"),
        (FILE_TOKEN, &[], "token file"),
        (FILE_TOKEN, &[("MATRIX_PASSWORD", "short")], "password short"),
        (FILE_TOKEN, &[("MATRIX_ACCESS_TOKEN", "short")], "token short"),
        (FILE_TOKEN, &[("MATRIX_PASSWORD", "short"), ("MAR_MATRIX__ACCESS_TOKEN", "long")], "token long"),
        ("password = \"file\"", &[("MAR_MATRIX__ACCESS_TOKEN", "long")], "token long"),
        ("access_token_file = \"/does/not/exist\"", &[("MATRIX_ACCESS_TOKEN", "short")], "token short"),
        (FILE_TOKEN, &[("MAR_MATRIX", "{ password = \"table\" }")], "password table"),
        (FILE_TOKEN, &[("MATRIX_PASSWORD", "")], "token file"),
    ];
    for (matrix, env, expected) in table {
        let config = load(&file(matrix, ""), env).unwrap_or_else(|faults| panic!("{env:?}: {faults:?}"));
        assert_eq!(credential(&config), expected, "{matrix} {env:?}");
    }
}

#[test]
fn webhook_authentication_as_a_whole() {
    let bearer = "[http]\nauth = { bearer_token = \"file\" }";
    let basic = "[http.auth]\nusername = \"u\"\npassword = \"file\"";
    let table: [(&str, Env<'_>, &str); 9] = [
        ("", &[], "none"),
        ("", &[("WEBHOOK_TOKEN", "short")], "bearer short"),
        (bearer, &[], "bearer file"),
        (basic, &[], "basic u file"),
        (basic, &[("WEBHOOK_TOKEN", "short")], "bearer short"),
        (bearer, &[("MAR_HTTP__AUTH", "none")], "none"),
        ("", &[("MAR_HTTP__AUTH", "none"), ("WEBHOOK_TOKEN", "short")], "none"),
        (bearer, &[("MAR_HTTP__AUTH__USERNAME", "u"), ("MAR_HTTP__AUTH__PASSWORD", "long")], "basic u long"),
        ("[http]\nauth = \"none\"", &[("WEBHOOK_TOKEN", "short")], "bearer short"),
    ];
    for (http, env, expected) in table {
        let config = load(&file("", http), env).unwrap_or_else(|faults| panic!("{env:?}: {faults:?}"));
        assert_eq!(auth(&config), expected, "{http} {env:?}");
    }
    let halves = load(&file("", basic), &[("MAR_HTTP__AUTH__USERNAME", "other")]).expect_err("no password of its own");
    assert_eq!(
        halves,
        ["MAR_HTTP__AUTH__USERNAME: http.auth: a username without a password: set password or password_file"]
    );
}

#[test]
fn two_of_one_family_at_one_level() {
    let table: [(&str, &str, Env<'_>, &str); 6] = [
        (
            "access_token = \"a\"\npassword = \"b\"",
            "",
            &[],
            "config.toml:6: matrix.password: given together with matrix.access_token (config.toml:5), keep one of the two",
        ),
        (
            "password = \"a\"\npassword_file = \"b\"",
            "",
            &[],
            "config.toml:6: matrix.password_file: given together with matrix.password (config.toml:5), keep one of the two",
        ),
        (
            "",
            "",
            &[("MATRIX_ACCESS_TOKEN", "a"), ("MATRIX_PASSWORD_FILE", "b")],
            "MATRIX_PASSWORD_FILE: matrix.password_file: given together with matrix.access_token (MATRIX_ACCESS_TOKEN), \
             keep one of the two",
        ),
        (
            "",
            "",
            &[("WEBHOOK_TOKEN", "a"), ("WEBHOOK_TOKEN_FILE", "b")],
            "WEBHOOK_TOKEN_FILE: http.auth.bearer_token_file: given together with http.auth.bearer_token \
             (WEBHOOK_TOKEN), keep one of the two",
        ),
        (
            "",
            "[http]\nauth = { bearer_token = \"a\", username = \"u\", password = \"b\" }",
            &[],
            "config.toml:10: http.auth.username: given together with http.auth.bearer_token (config.toml:10), keep one of \
             the two",
        ),
        (
            "",
            "[http]\nauth = { username = \"u\", password = \"b\", password_file = \"c\" }",
            &[],
            "config.toml:10: http.auth.password_file: given together with http.auth.password (config.toml:10), keep one of \
             the two",
        ),
    ];
    for (matrix, rest, env, expected) in table {
        let faults = load(&file(matrix, rest), env).expect_err(expected);
        assert_eq!(faults, [expected]);
    }
}
