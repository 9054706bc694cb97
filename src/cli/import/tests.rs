//! A file in, TOML and report out.

use super::{import, keys::MAX_ENTRIES};
use crate::config::{Auth, Config, Credential, Purpose};

/// Every key that metio documents.
const FULL: &str = include_str!("../../../tests/fixtures/import/metio-full.yaml");

fn imported(yaml: &str, with_secrets: bool) -> (String, String, bool) {
    let imported = import(yaml, "config.yaml", with_secrets).unwrap_or_else(|faults| panic!("{faults:#?}\n{yaml}"));
    let hand = imported.report.needs_a_hand();
    (imported.toml, imported.report.text("receiver.toml"), hand)
}

#[test]
fn every_key_of_metio() {
    let (toml, report, hand) = imported(FULL, false);
    assert!(hand);
    insta::assert_snapshot!("full_toml", toml);
    insta::assert_snapshot!("full_report", report);
    let (toml, report, _) = imported(FULL, true);
    insta::assert_snapshot!("full_toml_with_secrets", toml);
    // The names of the secrets' keys and no secret.
    for secret in ["syt_secret", "pw-of-the-hook", "proxy-password"] {
        assert!(toml.contains(secret) && !report.contains(secret), "{secret}\n{report}");
    }
    for secret in ["syt_secret", "pw-of-the-hook", "proxy-password"] {
        assert!(!imported(FULL, false).0.contains(secret), "{secret}");
    }
}

/// The least that metio starts with, as the start of a table of more.
const LEAST: &str = "http: {port: 9000, address: 127.0.0.1}\n\
                     matrix: {homeserver-url: 'https://m.example.org', user-id: '@a:example.org', access-token: t0k, \
                     room-mapping: {ops: '!a:b'}}\n\
                     templating: {firing-template: x}\n";

#[test]
fn what_needs_no_hand_serves_as_it_is() {
    let (toml, report, hand) = imported(LEAST, true);
    assert!(!hand, "{report}");
    let config = Config::parse(&toml, "receiver.toml", Purpose::Serve).expect("a good config");
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:9000");
    assert!(matches!(config.http.auth, Auth::None));
    assert!(matches!(&config.matrix.credential, Some(Credential::AccessToken(token)) if token.expose() == "t0k"));
    assert!(config.compat.room_paths && config.compat.names.is_empty() && !config.compat.query_secret);
    assert!(imported(LEAST, false).2, "the token's file is for the operator to make");
}

/// Part of a file in, a part of the report and one of the TOML out; what follows `no: ` must not be there.
fn each(cases: &[(String, &str, &str)]) {
    for (yaml, report, toml) in cases {
        let (made, reported, _) = imported(yaml, false);
        for (text, wanted) in [(&reported, report), (&made, toml)] {
            match wanted.strip_prefix("no: ") {
                Some(absent) => assert!(!text.contains(absent), "{yaml}\n{absent}\n{text}"),
                None => assert!(text.contains(wanted), "{yaml}\n{wanted}\n{text}"),
            }
        }
    }
}

#[test]
fn each_key_of_http() {
    let http = |lines: &str| format!("http:\n  port: 9000\n{lines}\n");
    each(&[
        (http(""), ":2: http.port -> http.listen: changes: without http.address", "listen = \"0.0.0.0:9000\""),
        (http("  address: '::1'"), ":3: http.address -> http.listen: kept", "listen = \"[::1]:9000\""),
        (http("  address: '[::]'"), ":3: http.address -> http.listen: kept", "listen = \"[::]:9000\""),
        (http("  address: localhost"), "changes: an address is needed here: 127.0.0.1", "listen = \"127.0.0.1:9000\""),
        (http("  address: web.example.org"), "needs your hand: an address is needed", "listen = \"127.0.0.1:9000\""),
        (http("  address: ${ADDR}"), "needs your hand: holds ${ADDR}: set it, or MAR_HTTP__LISTEN", "# listen: set it"),
        (http("  address: ''"), ":3: http.address: no counterpart: empty", "listen = \"0.0.0.0:9000\""),
        (
            "http: {}".to_owned(),
            "config.yaml: http.port -> http.listen: needs your hand: metio does not start",
            "no: listen",
        ),
        (http(""), "config.yaml: http.basic-password -> http.auth: needs your hand", "auth = { bearer_token_file ="),
        (http("  address: 127.0.0.1"), "no: http.auth", "auth = \"none\""),
        (http("  basic-username: bob"), ":3: http.basic-username: no counterpart: without", "no: bob"),
        (
            http("  basic-password: p"),
            ":3: http.basic-password -> http.auth.password_file: needs your hand: put it into",
            "auth = { username = \"alertmanager\", password_file = \"/run/secrets/webhook-password\" }",
        ),
        (
            http("  basic-password: ${P}\n  basic-username: 'b:b'"),
            "put what ${P} stands for into",
            "username = \"alertm",
        ),
        (http("  Basic-Password: p"), "http.Basic-Password -> http.auth.password_file", "password_file ="),
        (http("  alerts-path-prefix: alerts"), ":3: http.alerts-path-prefix -> /alerts: kept", "room_paths"),
        (http("  alerts-path-prefix: /hooks"), "needs your hand: it is /alerts here", "no: hooks"),
        (http("  metrics-path: /m"), "http.metrics-path: needs your hand: it is /metrics here", "no: \"/m\""),
        (http("  metrics-enabled: no"), "-> always on: changes: /metrics is served", "no: metrics"),
        (http("  colour: red"), ":3: http.colour: ignored, as metio does", "no: colour"),
    ]);
}

#[test]
fn each_key_of_matrix() {
    let matrix = |lines: &str| format!("matrix:\n{lines}\n");
    each(&[
        (matrix("  homeserver-url: m.example.org"), "changes: metio puts https://", "= \"https://m.example.org\""),
        (matrix("  homeserver-url: 'https://u:pw@m'"), "is not taken: matrix.homeserver: holds a user name", "no: pw@"),
        (
            matrix("  homeserver-url: ${HS}"),
            "holds ${HS}, and TOML takes nothing",
            "# homeserver: from the environment",
        ),
        (matrix("  user-id: alerts"), "needs your hand: is not taken: matrix.user_id: found", "# user_id: set it here"),
        (
            matrix("  user-id: '@a:${S}'"),
            "holds ${S}, and TOML takes nothing from the environment",
            "by MATRIX_USER_ID",
        ),
        (
            matrix("  access-token: ${MATRIX_ACCESS_TOKEN}"),
            ":2: matrix.access-token -> matrix.access_token, from ${MATRIX_ACCESS_TOKEN} as before: kept",
            "no: access_token_file",
        ),
        (matrix("  access-token: ${TOKEN}"), "holds ${TOKEN}, and TOML takes nothing", "by MATRIX_ACCESS_TOKEN"),
        (matrix("  access-token: a${T}"), "put what ${T} stands for into /run", "access_token_file = \"/run"),
        (matrix("  proxy: http://p:3128"), ":2: matrix.proxy -> matrix.proxy: kept", "proxy = \"http://p:3128\""),
        (matrix("  proxy: http://u:pw@p:3128"), "matrix.proxy_file: needs your hand", "proxy_file = \"/run"),
        (matrix("  proxy: socks5://p"), "is not taken: matrix.proxy: expected an http or https URL", "no: socks5"),
        (matrix(""), "config.yaml: matrix.user-id -> matrix.user_id: needs your hand", "[store]"),
        (
            matrix(""),
            "config.yaml: matrix.room-mapping -> routes: needs your hand: there are no names",
            "[routes.default]",
        ),
    ]);
}

#[test]
fn rooms_and_templating_in_each_form() {
    let rooms = |lines: &str| format!("matrix:\n  room-mapping:\n{lines}\n");
    let external = |lines: &str| format!("templating:\n  external-url-mapping:\n{lines}\n");
    each(&[
        (rooms("    ops: '!a:b'"), ":3: matrix.room-mapping.ops -> routes.ops.rooms: kept", "rooms = [\"!a:b\"]"),
        (
            rooms("    Old_Ops: '!a:b'"),
            "routes.old-ops.rooms: changes: the route is named old-ops",
            "names = { \"Old_Ops\" = \"old-ops\" }",
        ),
        (rooms("    ops: '!a:b'"), "in alertmanager.yml: url: …/alerts/ops stays", "[routes.ops]"),
        (
            rooms("    Old_Ops: '!a:b'"),
            "in alertmanager.yml: url: …/alerts/Old_Ops may stay, …/alerts/old-ops is better",
            "[routes.old-ops]",
        ),
        (
            rooms("    ops: '!a:b'") + "http: {alerts-path-prefix: hook}",
            "in alertmanager.yml: url: …/hook/ops must become …/alerts/ops",
            "[routes.ops]",
        ),
        (
            rooms("    a: '!a:b'\n    B: '!a:b'"),
            ":3: matrix.room-mapping.a -> routes.a.rooms: needs your hand: another route has this room as well",
            "[routes.b]",
        ),
        (rooms("    a/b: '!a:b'"), "needs your hand: the route is named a-b, and the old name", "no: names"),
        (
            rooms("    ops: !a:b"),
            ":3: matrix.room-mapping.ops -> routes.ops.rooms: needs your hand: a room id needs",
            "#rooms =",
        ),
        (rooms("    ops: ''"), "needs your hand: names no room", "#rooms ="),
        (rooms("    ops: a"), "needs your hand: is not taken: routes.ops.rooms: found \"a\"", "#rooms ="),
        (rooms("    ops: ${R}"), "needs your hand: holds ${R}: write the room's id", "#rooms ="),
        (
            external("    http://am:9093: https://am.example.org/"),
            ":3: templating.external-url-mapping.http://am:9093 -> links.rewrite: changes",
            "{ from = \"http://am:9093\", to = \"https://am.example.org\" },",
        ),
        // What follows the prefix begins with a slash of its own.
        (
            external("    http://am:9093/: https://am.example.org"),
            ":3: templating.external-url-mapping.http://am:9093/ -> links.rewrite: changes",
            "{ from = \"http://am:9093\", to = \"https://am.example.org\" },",
        ),
        (external("    'http://${AM}': https://am"), "needs your hand: holds ${AM}: write the URL", "no: rewrite"),
        (external("    'http://u:pw@am': https://am"), "external-url-mapping.http://…@am", "no: pw"),
        (
            rooms("    '${TEAM}': '!a:b'"),
            "needs your hand: the route is named team, and the old name cannot be taken",
            "no: names",
        ),
        (external("    am:9093: https://am"), "no counterpart: no URL that Alertmanager", "no: am:9093"),
        (
            external("    http://am: am"),
            "needs your hand: is not taken: links.rewrite.to: found \"am\"",
            "no: http://am",
        ),
        (external("    http://am: ${X}"), "needs your hand: holds ${X}: write it there", "no: http://am"),
        (external("    http://am: ''"), "no counterpart: it makes a link empty", "no: http://am"),
        (
            "templating:\n  computed-values:\n  - values: {color: red}\n    when-matching-labels: {severity: page}"
                .to_owned(),
            ":3: templating.computed-values[0]: no counterpart: sets color where the label severity is page; looks of",
            "no: color",
        ),
        ("templating:\n  firing-template: '{{ .SilenceURL }}'".to_owned(), "there .SilenceURL is links", "no: Silence"),
        ("other: 1".to_owned(), ":1: other: ignored", "no: other"),
        // Anchors are as good as what they stand for.
        (
            rooms("    a: &r '!a:b'\n    c: *r"),
            ":4: matrix.room-mapping.c -> routes.c.rooms: needs your hand",
            "[routes.c]",
        ),
    ]);
}

#[test]
fn two_mappings_of_one_prefix() {
    let yaml = "templating:\n  external-url-mapping: {'http://a': 'https://x', 'http://a/long': 'https://y'}\n  \
                generator-url-mapping: {'http://a': 'https://z', 'http://a/long': 'https://y'}\n";
    let (toml, report, _) = imported(yaml, false);
    assert!(toml.contains("[\n    { from = \"http://a/long\", to = \"https://y\" },\n    { from = \"http://a\", to = \"https://x\" },\n]"), "{toml}");
    assert!(report.contains("needs your hand: the same prefix leads to \"https://x\" already"), "{report}");
}

#[test]
fn what_is_no_such_config_is_told_with_its_place() {
    for (yaml, expected) in [
        ("", "1:1: there is nothing in it"),
        ("[]", "1:1: the file: expected a mapping"),
        ("http: 5", "1:7: http: expected a mapping"),
        ("http:\n  port: [1]", "2:9: http.port: expected a text"),
        ("http:\n  port: 0", "2:9: http.port: expected a number from 1 to 65535"),
        ("http:\n  port: abc", "2:9: http.port: expected a number"),
        ("http:\n  metrics-enabled: perhaps", "2:20: http.metrics-enabled: expected true or false"),
        ("http:\n\tport: 1", "2:"),
        ("http: {port: 1, Port: 2}", "1:23: http.Port: stands twice, and metio does not tell letters by their case"),
        ("http: {port: 1}\nhttp: {port: 2}", "2:1: the key \"http\" stands twice"),
        ("matrix:\n  room-mapping:\n    a: '!a:b'\n    a: '!c:d'", "4:5: the key \"a\" stands twice"),
        ("http: {port: 1}\n---\nhttp: {port: 2}", "3:1: a second document; metio reads one alone"),
        ("base: &b {port: 1}\nhttp: {<<: *b}", "2:8: http: merge keys (<<) are not read here"),
        ("http: {[a]: 1}", "1:8: http: expected names for keys"),
        ("http: {port: *nothing}", "1:14: "),
        ("matrix: {room-mapping: [a]}", "1:24: matrix.room-mapping: expected a mapping"),
        ("templating: {computed-values: {a: b}}", "1:31: templating.computed-values: expected a list"),
        ("http: {port: 1", "1:"),
    ] {
        let faults = import(yaml, "config.yaml", false).map(|imported| imported.toml).expect_err(yaml);
        assert!(faults[0].starts_with(expected), "{yaml}\n{faults:#?}");
    }
}

#[test]
fn tables_and_lists_have_a_bound() {
    let rooms = |n: usize| {
        let entries: Vec<String> = (0..n).map(|n| format!("    a{n}: '!a:b'\n")).collect();
        format!("matrix:\n  room-mapping:\n{}", entries.concat())
    };
    let computed = |n: usize| format!("templating:\n  computed-values:\n{}", "  - {}\n".repeat(n));
    for yaml in [rooms(MAX_ENTRIES), computed(MAX_ENTRIES)] {
        assert!(import(&yaml, "config.yaml", false).is_ok());
    }
    for yaml in [rooms(MAX_ENTRIES + 1), computed(MAX_ENTRIES + 1)] {
        let faults = import(&yaml, "config.yaml", false).map(|imported| imported.toml).expect_err("too many");
        assert!(faults[0].starts_with("3:") && faults[0].ends_with("more than 1000 entries"), "{faults:?}");
    }
}

/// Aliases that stand for ever more, and names that mean to steer the terminal or leave their comment.
#[test]
fn hostile_files_do_no_harm() {
    use std::fmt::Write as _;
    let mut laughs = String::from("a0: &a0 [lol, lol]\n");
    for level in 1..60 {
        let _ = writeln!(laughs, "a{level}: &a{level} [*a{0}, *a{0}, *a{0}]", level - 1);
    }
    assert!(imported(&laughs, false).1.contains("a59: ignored"));
    // Many entries that are each one large mapping: either there is an end to looking, or there are too many.
    let large: String = (0..MAX_ENTRIES).map(|n| n.to_string() + ": 1, ").collect();
    for many in [MAX_ENTRIES, 20_000] {
        let entries = "  - *v
"
        .repeat(many);
        let bomb = format!(
            "v: &v {{values: &w {{{large}}}, b: *w}}
templating:
  computed-values:
{entries}"
        );
        assert_eq!(import(&bomb, "config.yaml", false).is_ok(), many == MAX_ENTRIES);
    }
    let yaml = "\"\\e[31m\\nx = 1\": 1\nmatrix:\n  \"\\e[2J\": 1\n  user-id: \"a\\n[http]\\nlisten = 1\"\n  \
                room-mapping:\n    \"a\\n[log]\\nfilter=1 \\\" \": \"!r\\u007f:b\"\n    \"\\u202e\\\"'\": \"!q:b\"\n";
    let (toml, report, _) = imported(yaml, false);
    assert!(!report.contains(['\x1b', '\u{202e}']) && !toml.contains('\x1b'), "{report}\n{toml}");
    let config = Config::parse(&toml, "receiver.toml", Purpose::Render).expect("taken");
    assert_eq!(config.log.filter, "info");
    assert_eq!(config.compat.names.len(), 1, "{toml}");
}
