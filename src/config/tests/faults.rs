//! What faults say: place, key, what was found and what was expected.

use super::{Config, Folder, Purpose, REQUIRED, load, variables, wrong};

#[test]
fn several_at_once_in_the_order_of_the_file() {
    let toml = r#"
[http]
lisen = "127.0.0.1:9088"
max_body_bytes = "4 MiB"

[store]
retention = "7x"

[matrix]
homeserver = "matrix.example.org:8448"
"#;
    let faults = load(toml, &[("MAR_LOG__FORMAT", "xml")]).expect_err("many faults");
    assert_eq!(
        faults,
        [
            "config.toml:3: http.lisen: unknown key, did you mean http.listen?",
            "config.toml:4: http.max_body_bytes: found \"4 MiB\", expected a whole number of bytes, 1024 or more",
            "config.toml:7: store.retention: found \"7x\", expected a duration such as \"7d\", \"30m\" or \"90s\"",
            "config.toml:10: matrix.homeserver: found \"matrix.example.org:8448\", expected a URL: put https:// in front of it",
            "MAR_LOG__FORMAT: log.format: found \"xml\", expected \"text\" or \"json\"",
            "config.toml: matrix.user_id: missing, expected a user id such as \"@alerts:example.org\" (or set \
             MATRIX_USER_ID)",
            "config.toml: routes.default.rooms: missing, expected a list of at least one room, a room id such as \
             \"!abc:example.org\" or an alias such as \"#ops:example.org\" (or set MATRIX_ROOM_ID)",
        ]
    );
}

#[test]
fn the_nearest_key() {
    let table = [
        ("room = []", "config.toml:7: routes.default.room: unknown key, did you mean routes.default.rooms?"),
        ("mention = {}", "config.toml:7: routes.default.mention: unknown key, did you mean routes.default.mentions?"),
        ("[htpp]\nlisten = \"\"", "config.toml:7: htpp: unknown key, did you mean http?"),
        ("[store]\nlisten = \"\"", "config.toml:8: store.listen: unknown key, did you mean http.listen?"),
        ("[store]\nfilter = \"\"", "config.toml:8: store.filter: unknown key, did you mean log.filter?"),
        ("[http.auth]\nbearer = \"\"", "http.auth.bearer: unknown key, did you mean http.auth.bearer_token?"),
        (
            "mentions.user = []",
            "routes.default.mentions.user: unknown key, did you mean routes.default.mentions.users?",
        ),
        (
            "[links]\nrewrite = [{ from = \"http://a\", to = \"http://b\" },\n{ form = \"http://a\", to = \"http://b\" }]",
            "config.toml:9: links.rewrite.form: unknown key, did you mean links.rewrite.from?",
        ),
    ];
    for (toml, expected) in table {
        let faults = wrong(toml);
        assert!(faults.contains(expected), "{toml}\n{faults}\n{expected}");
    }
    let quoted = wrong("[\"http.listen\"]\n\"a\\nb\" = 1\n[http]\n\"x\\ny\" = 1");
    assert_eq!(quoted.lines().count(), 2, "{quoted}");
    assert!(quoted.contains("config.toml:7: \"http.listen\": unknown key, did you mean http.listen?"), "{quoted}");
    let both = load(&format!("{REQUIRED}[htpp]\na = 1"), &[("MAR_HTPP__LISTEN", "x")]).expect_err("two unknown keys");
    assert_eq!(both.len(), 2, "{both:#?}");
}

#[test]
fn syntax_errors_name_line_and_column() {
    let table = [
        ("[http]\nlisten \"x\"", "config.toml:2:8: not valid TOML: "),
        ("[http\nlisten = 1", "config.toml:1:6: not valid TOML: "),
        ("a = \"ä\" \"", "config.toml:1:9: not valid TOML: "),
        ("[http]\nlisten = 1\nlisten = 2", "config.toml:3:1: not valid TOML: duplicate key"),
    ];
    for (toml, expected) in table {
        let faults = load(toml, &[]).expect_err(toml);
        assert!(faults[0].starts_with(expected), "{faults:#?}");
        assert_eq!(faults.len(), 1, "{faults:#?}");
    }
    assert_eq!(load("a = \nb = \n", &[]).expect_err("two lines").len(), 2);
}

#[test]
fn a_file_that_cannot_be_read() {
    let path = std::path::Path::new("/does/not/exist.toml");
    let faults = Config::load(Some(path), &variables(&[]), Purpose::Serve).expect_err("no such file").to_string();
    assert!(faults.starts_with("/does/not/exist.toml: cannot read: No such file"), "{faults}");
    let path = Folder::new();
    let path = path.write("config.toml", b"\xff");
    assert!(Config::load(Some(&path), &variables(&[]), Purpose::Serve).is_err());
}

#[test]
fn long_values_are_cut() {
    let faults = wrong(&format!("updates = \"{}\"", "ä".repeat(500)));
    assert!(faults.contains(&format!("found \"{}\"…, expected", "ä".repeat(60))), "{faults}");
}

#[test]
fn more_mentions_than_an_event_can_hold() {
    let users =
        |count: usize| (0..count).map(|n| format!("\"@user{n:02}:example.org\"")).collect::<Vec<_>>().join(", ");
    let faults = wrong(&format!("mentions = {{ users = [{}] }}", users(50)));
    assert!(
        faults.contains("routes.default.mentions.users: names 50 users in 950 bytes, expected at most 800"),
        "{faults}"
    );
    super::good(&format!("mentions = {{ users = [{}] }}", users(42)));
}
