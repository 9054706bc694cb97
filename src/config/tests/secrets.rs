//! Secrets: where they are read from, and that nothing ever prints them.

use super::{Config, Folder, Purpose, REQUIRED, good, variables};
use crate::config::Credential;

const NEEDLE: &str = "hunter2";

#[test]
fn files() {
    let table: [(&[u8], Result<&str, &str>); 11] = [
        (b"hunter2", Ok("hunter2")),
        (b"hunter2\n", Ok("hunter2")),
        (b"hunter2\r\n", Ok("hunter2")),
        (b"hunter2 blank", Ok("hunter2 blank")),
        (b"hunter2\n\n", Err("must hold a single line and no control characters")),
        (b"hunter2\nmore\n", Err("must hold a single line and no control characters")),
        (b"", Err("is empty")),
        (b"\n", Err("is empty")),
        (b"hunter2\xff", Err("is not UTF-8 text")),
        (b"\xff\xfeh\0u\0", Err("is UTF-16 text, expected UTF-8")),
        (
            b"\xef\xbb\xbfhunter2",
            Err("begins with a byte order mark, which some editors write: save it as UTF-8 without one"),
        ),
    ];
    for (content, expected) in table {
        let folder = Folder::new();
        let path = folder.write("secret", content);
        let password = format!("password_file = {:?}\n[routes", path.display().to_string());
        let toml = format!(
            "{}[http]\nauth = {{ bearer_token_file = \"/does/not/exist\" }}",
            REQUIRED.replace("[routes", &password)
        );
        let env = [("WEBHOOK_TOKEN", "overrides the file's")];
        match (folder.load(&toml, &env, Purpose::Serve), expected) {
            (Ok(config), Ok(expected)) => {
                let Some(Credential::Password(password)) = &config.matrix.credential else { panic!("no password") };
                assert_eq!(password.expose(), expected);
                assert_eq!(password.file(), Some(path.as_path()));
            }
            (Err(faults), Err(expected)) => {
                assert_eq!(faults, [format!("config.toml:5: matrix.password_file: secret {expected}")]);
            }
            (loaded, expected) => panic!("{content:?}: {loaded:?}, expected {expected:?}"),
        }
    }
}

/// A fault names what came with the copying of a token and where it stands, never the token.
#[test]
fn tokens_with_something_else_about_them() {
    let quotes = "stands in quotes, which count as part of it (docker's --env-file keeps them): take them away";
    let blank = "begins or ends with a blank: take it away";
    let bearer = "begins with the word Bearer, which is not part of a token: take it away";
    let odd = [
        (" hunter2", blank),
        ("hunter2\u{a0}", blank),
        ("\"hunter2\"", quotes),
        ("'hunter2'", quotes),
        ("Bearer hunter2", bearer),
        ("bearer hunter2", bearer),
        ("\u{feff}hunter2", "begins with a byte order mark, which some editors write: save it as UTF-8 without one"),
    ];
    for (value, expected) in odd {
        let folder = Folder::new();
        let path = folder.write("secret", format!("{value}\n")).display().to_string();
        for (name, value, key, file) in [
            ("MATRIX_ACCESS_TOKEN", value, "matrix.access_token", ""),
            ("WEBHOOK_TOKEN", value, "http.auth.bearer_token", ""),
            ("MATRIX_ACCESS_TOKEN_FILE", &path, "matrix.access_token_file", "secret "),
            ("WEBHOOK_TOKEN_FILE", &path, "http.auth.bearer_token_file", "secret "),
        ] {
            let faults = folder.load(REQUIRED, &[(name, value)], Purpose::Serve).expect_err(value);
            assert_eq!(faults, [format!("{name}: {key}: {file}{expected}")]);
        }
        let value = toml::Value::from(value).to_string();
        let toml = REQUIRED.replace("[routes", &format!("access_token = {value}\n[routes"));
        let faults = folder.load(&toml, &[], Purpose::Serve).expect_err(&value);
        assert_eq!(faults, [format!("config.toml:5: matrix.access_token: {expected}")]);
    }
    let proxy = [("MAR_MATRIX__PROXY", "'\"http://hunter2@proxy:3128\"'")];
    let faults = Folder::new().load(REQUIRED, &proxy, Purpose::Serve).expect_err("quotes");
    assert_eq!(faults, [format!("MAR_MATRIX__PROXY: matrix.proxy: {quotes}")]);
    for good in ["hunter2", "syt_aGVsbG8_x'y\"z", "Bearers"] {
        assert!(Folder::new().load(REQUIRED, &[("MATRIX_ACCESS_TOKEN", good)], Purpose::Serve).is_ok(), "{good}");
    }
}

/// A person may have chosen these: they cause a warning, not a fault.
#[test]
fn passwords_with_something_else_about_them_are_taken_with_a_warning() {
    let folder = Folder::new();
    let path = folder.write("secret", " hunter2 \n").display().to_string();
    let env = [
        ("MATRIX_PASSWORD", "\"hunter2\""),
        ("MAR_MATRIX__RECOVERY_KEY", "'\"hunter2\"'"),
        ("MAR_MATRIX__STORE_PASSPHRASE_FILE", path.as_str()),
        ("MAR_HTTP__ADMIN__LISTEN", "127.0.0.1:9089"),
        ("MAR_HTTP__ADMIN__USERNAME", "me"),
        ("MAR_HTTP__ADMIN__PASSWORD", " hunter2"),
        ("MAR_HTTP__AUTH__USERNAME", "am"),
        ("MAR_HTTP__AUTH__PASSWORD", "hunter2"),
    ];
    let config = folder.load(REQUIRED, &env, Purpose::Serve).expect("no fault");
    assert!(matches!(&config.matrix.credential, Some(Credential::Password(word)) if word.expose() == "\"hunter2\""));
    let odd = config.odd_passwords();
    let [admin, password, key, passphrase] = odd.as_slice() else { panic!("{odd:#?}") };
    assert!(admin.starts_with("http.admin.password: begins or ends with a blank"), "{admin}");
    assert!(password.starts_with("matrix.password: stands in quotes"), "{password}");
    assert!(key.starts_with("matrix.recovery_key: stands in quotes"), "{key}");
    assert!(passphrase.starts_with(&format!("matrix.store_passphrase ({path}): begins or ends with a blank")));
    assert!(odd.iter().all(|line| !line.contains(NEEDLE)), "{odd:#?}");
    let faults = folder.load(REQUIRED, &[("MATRIX_PASSWORD", "\u{feff}hunter2")], Purpose::Serve).expect_err("a mark");
    assert!(faults[0].starts_with("MATRIX_PASSWORD: matrix.password: begins with a byte order mark"), "{faults:?}");
}

#[test]
fn the_keys_of_encrypted_rooms() {
    let folder = Folder::new();
    let path = folder.write("key", "EsTj hunter2\n").display().to_string();
    let toml = REQUIRED.replace("[routes", &format!("recovery_key_file = {path:?}\nstore_passphrase = \"a\"\n[routes"));
    let env = [("MATRIX_ACCESS_TOKEN", "t"), ("MAR_MATRIX__STORE_PASSPHRASE_FILE", path.as_str())];
    let config = folder.load(&toml, &env, Purpose::Serve).expect("no fault");
    let exposed = |secret: &Option<crate::config::Secret>| secret.as_ref().map(|secret| secret.expose().to_owned());
    assert_eq!(exposed(&config.matrix.recovery_key).as_deref(), Some("EsTj hunter2"));
    // A whole setting of the environment beats the file's, however each is written.
    assert_eq!(exposed(&config.matrix.store_passphrase).as_deref(), Some("EsTj hunter2"));
    assert!(!format!("{config:?}").contains(NEEDLE));
    let twice = "[matrix]\nrecovery_key = \"hunter2\"\nrecovery_key_file = \"x\"";
    let faults = folder.load(twice, &[], Purpose::Render).expect_err("two").join("\n");
    assert!(faults.contains("matrix.recovery_key") && faults.contains("keep one of the two"), "{faults}");
    assert!(!faults.contains(NEEDLE), "{faults}");
}

#[test]
fn a_file_that_cannot_be_read() {
    let folder = Folder::new();
    let toml = format!("{REQUIRED}[http]\nauth = {{ bearer_token_file = \"/does/not/exist\" }}\n");
    let faults = folder.load(&toml, &[], Purpose::Serve).expect_err("no such file");
    assert_eq!(faults.len(), 1);
    let expected = "config.toml:8: http.auth.bearer_token_file: cannot read /does/not/exist: No such file";
    assert!(faults[0].starts_with(expected), "{}", faults[0]);
    assert!(folder.load(&toml, &[], Purpose::Render).is_ok());
}

#[test]
fn faults_never_quote_a_secret() {
    let folder = Folder::new();
    let mount = folder.write("mount", NEEDLE).display().to_string();
    let n = NEEDLE;
    let files = [
        format!("[matrix]\naccess_token = [\"{n}\"]"),
        format!("[matrix]\npassword = {{ a = \"{n}\" }}"),
        format!("[matrix]\nacces_token = \"{n}\""),
        format!("[matrix]\naccess_token = \"{n}\\nmore\""),
        format!("[matrix]\naccess_token = \"{n}\"\npassword = \"{n}\""),
        format!("[matrix]\naccess_token = \"{n}"),
        format!("[matrix]\naccess_token = {n}"),
        format!("[matrix]\naccess_token = \"{n}\"\naccess_token = \"{n}\""),
        format!("matrix = \"{n}\""),
        format!("[matrix]\nrecovery_key = [\"{n}\"]"),
        format!("[matrix]\nstore_passphrase = {{ a = \"{n}\" }}"),
        format!("[matrix]\nstore_passphrase = \"{n}\\nmore\""),
        format!("[matrix]\nhomeserver = \"https://user:{n}@example.org\""),
        format!("[matrix]\nhomeserver = \"https://user:{n}@exa mple.org\""),
        format!("[matrix]\nhomeserver = \"user:{n}@example.org\""),
        format!("[matrix]\nproxy = \"https://user:{n}@example.org\""),
        format!("[links]\nrewrite = [{{ from = \"http://user:{n}@a\", to = \"ftp://user:{n}@b\" }}]"),
        format!("[http]\nauth = \"{n}\""),
        format!("[compat]\nquery_secret = \"{n}\""),
        format!("[http.auth]\nbearer_token = [\"{n}\"]"),
        format!("[http.auth]\nusername = \"u\"\npassword = \"{n}\\u0000\""),
        format!("[http.auth]\npassword = \"{n}\""),
        "[matrix]\npassword = 4711".to_owned(),
        "[matrix]\npassword = 4711.5".to_owned(),
        "[http]\nauth = 4711".to_owned(),
    ];
    for toml in &files {
        let faults = folder.load(toml, &[], Purpose::Serve).expect_err(toml).join("\n");
        assert!(!faults.contains(n) && !faults.contains("4711"), "{toml}\n{faults}");
    }
    let variables = [
        ("MAR_MATRIX", format!("{{ access_token = \"{n}\" ")),
        ("MAR_MATRIX__ACCES_TOKEN", n.to_owned()),
        ("MAR_HTTP__AUTH", n.to_owned()),
        ("MAR_HTTP", n.to_owned()),
        ("MAR_MATRIX__ACCESS_TOKEN", format!("{n}\nmore")),
        // The wrong mount.
        ("MATRIX_HOMESERVER_FILE", mount.clone()),
        ("MATRIX_USER_ID_FILE", mount.clone()),
        ("MATRIX_ROOM_ID_FILE", mount),
    ];
    for (name, value) in &variables {
        let faults = folder.load(REQUIRED, &[(name, value)], Purpose::Serve).expect_err(name).join("\n");
        assert!(!faults.contains(n), "{name}\n{faults}");
    }
}

#[test]
fn kinds_are_told_in_place_of_values() {
    let faults = super::wrong("[http]\nauth = 5").replace(", expected \"none\" or a table such as", "|");
    assert!(faults.starts_with("config.toml:8: http.auth: found a number| "), "{faults}");
    let faults = Folder::new().load("[matrix]\npassword = true", &[], Purpose::Render).expect_err("not a string");
    assert_eq!(
        faults,
        ["config.toml:2: matrix.password: found true or false, expected a string of one line, not empty"]
    );
}

#[test]
fn debug_prints_no_secret() {
    let env = [("MATRIX_PASSWORD", NEEDLE), ("WEBHOOK_TOKEN", NEEDLE)];
    let config = Folder::new().load(REQUIRED, &env, Purpose::Serve).expect("no fault");
    let debug = format!("{config:?}{config:#?}");
    assert!(debug.contains("***") && !debug.contains(NEEDLE), "{debug}");
    assert!(!format!("{:?}", good("")).contains("***"));
    let faults = Config::load(None, &variables(&[("MATRIX_PASSWORD", NEEDLE)]), Purpose::Serve).expect_err("no user");
    assert!(!format!("{faults:?}{faults}").contains(NEEDLE));
}
