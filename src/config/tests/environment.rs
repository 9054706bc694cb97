//! Settings by environment variables alone.

use super::{Config, Folder, Purpose, REQUIRED, load, variables};
use crate::config::{Auth, Credential, Updates, environment, service_links};

const SHORT: [(&str, &str); 4] = [
    ("MATRIX_HOMESERVER", "https://matrix.example.org/"),
    ("MATRIX_USER_ID", "@alerts:example.org"),
    ("MATRIX_ACCESS_TOKEN", "token"),
    ("MATRIX_ROOM_ID", "!abc:example.org, #ops:example.org,"),
];

fn env(more: &[(&str, &str)]) -> Result<Config, String> {
    let all: Vec<_> = SHORT.iter().chain(more).copied().collect();
    Config::load(None, &variables(&all), Purpose::Serve).map_err(|faults| faults.to_string())
}

#[test]
fn short_names_suffice() {
    let config = env(&[("WEBHOOK_TOKEN", "hook"), ("MAR_HTTP__LISTEN", "0.0.0.0:9088")]).expect("no fault");
    assert_eq!(config.matrix.homeserver.as_str(), "https://matrix.example.org/");
    assert_eq!(config.matrix.user_id, "@alerts:example.org");
    assert!(matches!(&config.matrix.credential, Some(Credential::AccessToken(token)) if token.expose() == "token"));
    assert!(matches!(&config.http.auth, Auth::Bearer(token) if token.expose() == "hook"));
    assert_eq!(config.http.listen.to_string(), "0.0.0.0:9088");
    let rooms: Vec<_> = config.rooms().into_iter().map(|(room, name)| format!("{name} {room}")).collect();
    assert_eq!(rooms, ["default/1 !abc:example.org", "default/2 #ops:example.org"]);
}

#[test]
fn a_password_in_place_of_a_token() {
    let vars = [SHORT[0], SHORT[1], SHORT[3], ("MATRIX_PASSWORD", "1234"), ("MATRIX_ACCESS_TOKEN", "")];
    let config = Config::load(None, &variables(&vars), Purpose::Serve).expect("no fault");
    assert!(matches!(&config.matrix.credential, Some(Credential::Password(word)) if word.expose() == "1234"));
}

#[test]
fn short_names_by_file() {
    let folder = Folder::new();
    let file = |name: &str, content: &str| folder.write(name, content).display().to_string();
    let files = [
        ("MATRIX_HOMESERVER_FILE", file("homeserver", "https://matrix.example.org\n")),
        ("MATRIX_USER_ID_FILE", file("user", "@alerts:example.org")),
        ("MATRIX_ACCESS_TOKEN_FILE", file("token", "syt\r\n")),
        ("MATRIX_ROOM_ID_FILE", file("room", "!a:example.org,!b:example.org\n")),
        ("WEBHOOK_TOKEN_FILE", file("hook", "hook\n")),
    ];
    let vars: Vec<_> = files.iter().map(|(name, path)| (*name, path.as_str())).collect();
    let config = Config::load(None, &variables(&vars), Purpose::Serve).expect("no fault");
    assert_eq!(config.matrix.homeserver.as_str(), "https://matrix.example.org/");
    assert_eq!(config.rooms().len(), 2);
    let Some(Credential::AccessToken(token)) = &config.matrix.credential else { panic!("{:?}", config.matrix) };
    assert_eq!((token.expose(), token.file().map(|path| path.ends_with("token"))), ("syt", Some(true)));
    assert!(matches!(&config.http.auth, Auth::Bearer(token) if token.expose() == "hook"));
}

#[test]
fn any_key_as_toml_or_bare_string() {
    let config = env(&[
        ("MAR_CONFIG", "/etc/receiver.toml"),
        ("MAR_HTTP__LISTEN", "\"0.0.0.0:1\""),
        ("MAR_HTTP__ALLOW_UNAUTHENTICATED", "true"),
        ("MAR_HTTP__MAX_BODY_BYTES", "1_048_576"),
        ("MAR_STORE__PATH", "/data"),
        ("MAR_ROUTES__TEAM_A__ROOMS", "[\"!a:example.org\"]"),
        ("MAR_ROUTES__TEAM_A__RECEIVERS", "[\"team-a\", \"team_a\"]"),
        ("MAR_ROUTES__TEAM_A__UPDATES", "edit"),
        ("MAR_ROUTES__TEAM_A__REMIND_AFTER", "never"),
        ("MAR_ROUTES__TEAM_A__MENTIONS__ROOM", "true"),
        ("MAR_DISPLAY", "{ timezone = \"Europe/Berlin\" }"),
        ("MAR_LINKS__REWRITE", "[{ from = \"http://a\", to = \"https://b\" }]"),
        ("MAR_LOG__FILTER", ""),
        ("HOME", "/root"),
    ])
    .expect("no fault");
    assert_eq!(config.http.listen.to_string(), "0.0.0.0:1");
    assert_eq!(config.http.max_body_bytes, 1_048_576);
    assert_eq!(config.store.path.to_str(), Some("/data"));
    assert_eq!(config.display.timezone, "Europe/Berlin");
    assert_eq!(config.links.rewrite.len(), 1);
    assert_eq!(config.log.filter, "info");
    assert_eq!(config.routes.len(), 2);
    let route = config.routes.values().find(|route| route.name.as_str() == "team-a").expect("the route");
    assert_eq!(route.receivers, ["team-a", "team_a"]);
    assert_eq!((route.updates, route.remind_after), (Updates::Edit, None));
    assert_eq!((route.mentions.min_severity, route.mentions.room), (Some(0), true));
}

#[test]
fn what_looks_like_toml_is_a_string_where_one_is_meant() {
    for raw in ["1234", "true", "1979-05-27", "1.50", "[1]", "{ a = 1 }", "{}", "a b", "it's", " x", "0x10"] {
        let config =
            load(REQUIRED, &[("MAR_MATRIX__PASSWORD", raw)]).unwrap_or_else(|faults| panic!("{raw}: {faults:?}"));
        let Some(Credential::Password(password)) = &config.matrix.credential else { panic!("{raw}") };
        assert_eq!(password.expose(), raw);
    }
    let config = load(REQUIRED, &[("MAR_MATRIX__PASSWORD", "'quoted'")]).expect("no fault");
    assert!(matches!(&config.matrix.credential, Some(Credential::Password(word)) if word.expose() == "quoted"));
}

#[test]
fn faults_name_the_variable() {
    let table = [
        (
            "MAR_HTTP__LISEN",
            "x",
            "MAR_HTTP__LISEN: http.lisen: unknown key, did you mean http.listen (MAR_HTTP__LISTEN)?",
        ),
        (
            "MAR_HTPP__LISTEN",
            "x",
            "MAR_HTPP__LISTEN: htpp.listen: unknown key, did you mean http.listen (MAR_HTTP__LISTEN)?",
        ),
        (
            "MAR_ROUTES__DEFAULT__ROOM",
            "x",
            "MAR_ROUTES__DEFAULT__ROOM: routes.default.room: unknown key, did you mean routes.default.rooms \
             (MAR_ROUTES__DEFAULT__ROOMS)?",
        ),
        (
            "MAR_HTTP__MAX_BODY_BYTES",
            "many",
            "MAR_HTTP__MAX_BODY_BYTES: http.max_body_bytes: found \"many\", expected a whole number of bytes, 1024 or more",
        ),
        (
            "MAR_ROUTES__DEFAULT__ROOMS",
            "!a:example.org",
            "MAR_ROUTES__DEFAULT__ROOMS: routes.default.rooms: found a string, expected a list, each entry a room id such \
             as \"!abc:example.org\" or an alias such as \"#ops:example.org\"",
        ),
        (
            "MATRIX_ROOM_ID",
            "ops",
            "MATRIX_ROOM_ID: routes.default.rooms: found \"ops\", expected a room id such as \"!abc:example.org\" or an \
             alias such as \"#ops:example.org\"",
        ),
        (
            "MATRIX_ROOM_ID",
            " , ",
            "MATRIX_ROOM_ID: routes.default.rooms: found an empty list, expected at least one room, a room id such as \
             \"!abc:example.org\" or an alias such as \"#ops:example.org\"",
        ),
        ("MATRIX_USER_ID", "alerts\u{FFFD}", "MATRIX_USER_ID: matrix.user_id: is not valid UTF-8"),
        ("MAR_ROUTES__DEFAULT__PROXY__X", "x", "MAR_ROUTES__DEFAULT__PROXY__X: routes.default.proxy.x: unknown key"),
    ];
    for (name, value, expected) in table {
        let faults = load(REQUIRED, &[(name, value)]).expect_err(name);
        assert_eq!(faults.len(), 1, "{faults:#?}");
        assert!(faults[0].starts_with(expected), "{}\n{expected}", faults[0]);
    }
}

/// What a Service named `mar` or `mar-…` brings into every pod of its namespace.
#[test]
fn what_kubernetes_sets_for_a_service_is_ignored() {
    let links = [
        ("MAR_SERVICE_HOST", "10.96.0.1"),
        ("MAR_SERVICE_PORT", "9088"),
        ("MAR_SERVICE_PORT_HTTP", "9088"),
        ("MAR_PORT", "tcp://10.96.0.1:9088"),
        ("MAR_PORT_9088_TCP", "tcp://10.96.0.1:9088"),
        ("MAR_PORT_9088_TCP_PROTO", "tcp"),
        ("MAR_PORT_9088_TCP_PORT", "9088"),
        ("MAR_PORT_9088_TCP_ADDR", "10.96.0.1"),
        ("MAR_FOO_BAR_SERVICE_HOST", "fd00::1"),
        ("MAR_FOO_BAR_SERVICE_PORT", "53"),
        ("MAR_FOO_BAR_SERVICE_PORT_DNS_UDP", "53"),
        ("MAR_FOO_BAR_PORT", "udp://[fd00::1]:53"),
        ("MAR_FOO_BAR_PORT_53_UDP", "udp://[fd00::1]:53"),
        ("MAR_FOO_BAR_PORT_53_UDP_PROTO", "udp"),
        ("MAR_FOO_BAR_PORT_53_UDP_PORT", "53"),
        ("MAR_FOO_BAR_PORT_53_UDP_ADDR", "fd00::1"),
        ("MAR__X_SERVICE_HOST", "10.96.0.2"),
    ];
    let more: Vec<_> = links.into_iter().chain([("MAR_HTTP__LISTEN", "127.0.0.1:1")]).collect();
    let config = env(&more).expect("no fault");
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:1");
    let all = variables(&more);
    let mut names: Vec<_> = links.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    assert_eq!(service_links(&all), names);
    // What an operator may have mistyped is none of them.
    for (name, value) in [
        ("MAR_PORT", "9088"),
        ("MAR_SERVICE_HOST", "receiver"),
        ("MAR_SERVICE_PORT", "9088"),
        ("MAR_HTTP_PORT", "9088"),
        ("MAR_HTTP_LISTEN", "127.0.0.1:9088"),
        ("MAR_PORT_9088_TCP", "9088"),
        ("MAR_PORT_TCP_ADDR", "10.96.0.1"),
        ("MAR_PORT_9088_TCP_ADDR", "receiver"),
        ("MAR_MATRIX__PORT", "http://10.96.0.1:1"),
    ] {
        let faults = env(&[(name, value)]).expect_err(name);
        assert!(faults.contains(name) && faults.contains("unknown key"), "{faults}");
    }
}

/// docker's --env-file keeps the quotes.
#[test]
fn a_fault_points_to_quotes_around_a_value() {
    for (name, value) in [
        ("MATRIX_HOMESERVER", "\"https://matrix.example.org\""),
        ("MATRIX_USER_ID", "\"@alerts:example.org\""),
        ("MATRIX_ROOM_ID", "'!abc:example.org'"),
    ] {
        let faults = load(REQUIRED, &[(name, value)]).expect_err(name).join("\n");
        assert!(faults.contains(name) && faults.contains("quotes count as part of it"), "{faults}");
    }
}

#[test]
fn one_key_by_two_variables_of_one_level() {
    let folder = Folder::new();
    let homeserver = folder.write("homeserver", "https://matrix.example.org").display().to_string();
    let table = [
        (
            [("MAR_HTTP", "{ listen = \"127.0.0.1:1\" }"), ("MAR_HTTP__LISTEN", "127.0.0.1:2")],
            "http.listen: set by MAR_HTTP ",
        ),
        ([("MAR_HTTP__AUTH", "none"), ("MAR_HTTP__AUTH__BEARER_TOKEN", "x")], "http.auth: set by MAR_HTTP__AUTH "),
        (
            [("MATRIX_HOMESERVER", "https://a"), ("MATRIX_HOMESERVER_FILE", &homeserver)],
            "matrix.homeserver: set by MATRIX_HOMESERVER ",
        ),
    ];
    for (vars, expected) in table {
        let faults = load(REQUIRED, &vars).expect_err(expected);
        let expected = format!("{}: {expected}as well, keep one of the two", vars[1].0);
        assert_eq!(faults, [expected]);
    }
}

#[test]
fn without_a_file_faults_say_what_to_set() {
    let faults = Config::load(None, &variables(&[]), Purpose::Serve).expect_err("nothing is set");
    let expected = "\
environment: matrix.homeserver: missing, expected a URL such as \"https://matrix.example.org\", or a server name such as \"example.org\" (or set MATRIX_HOMESERVER)
environment: matrix.user_id: missing, expected a user id such as \"@alerts:example.org\" (or set MATRIX_USER_ID)
environment: routes.default.rooms: missing, expected a list of at least one room, a room id such as \"!abc:example.org\" \
or an alias such as \"#ops:example.org\" (or set MATRIX_ROOM_ID)";
    assert_eq!(faults.to_string(), expected);
}

#[test]
fn the_purpose_decides_what_must_be_there() {
    let nothing = variables(&[("MAR_HTTP__LISTEN", "0.0.0.0:9088"), ("MATRIX_PASSWORD_FILE", "/does/not/exist")]);
    let config = Config::load(None, &nothing, Purpose::Render).expect("no fault");
    assert_eq!(config.routes.len(), 1);
    assert!(config.matrix.credential.is_none());

    let account = variables(&SHORT[..2]);
    assert!(Config::load(None, &account, Purpose::Login).is_ok());
    assert!(Config::load(None, &account, Purpose::Serve).is_err());
    assert!(Config::load(None, &nothing, Purpose::Login).is_err());
    assert!(Config::load(None, &variables(&[("WEBHOOK_TOKEN", "t")]), Purpose::Webhook).is_ok());
    let no_file = variables(&[("WEBHOOK_TOKEN_FILE", "/nowhere/token")]);
    assert!(Config::load(None, &no_file, Purpose::Webhook).is_err());
    assert!(Config::load(None, &no_file, Purpose::Render).is_ok());
}

#[test]
fn a_value_that_cannot_be_had_is_not_missing_as_well() {
    let mut vars = SHORT.to_vec();
    vars[0] = ("MATRIX_HOMESERVER_FILE", "/does/not/exist");
    let faults = Config::load(None, &variables(&vars), Purpose::Serve).expect_err("no such file");
    assert_eq!(faults.lines().len(), 1, "{faults}");
    let expected = "MATRIX_HOMESERVER_FILE: matrix.homeserver: cannot read /does/not/exist: ";
    assert!(faults.to_string().starts_with(expected), "{faults}");
}

#[test]
fn only_variables_of_ours_are_collected() {
    let foreign =
        |name: &String| !name.starts_with("MAR_") && !name.starts_with("MATRIX_") && !name.starts_with("WEBHOOK_");
    assert!(std::env::var_os("PATH").is_some());
    assert!(!environment().keys().any(foreign));
}
