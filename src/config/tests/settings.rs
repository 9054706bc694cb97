//! What each key takes and refuses.

use std::time::Duration;

use super::{Folder, Purpose, REQUIRED, good, load, wrong};
use crate::config::{Compat, Config, Lint, LogFormat, Mentions, Proxy, Rewrite, Updates};

fn route(config: &Config) -> &crate::config::Route {
    config.routes.values().next().expect("a route")
}

#[test]
fn defaults() {
    let config = good("");
    let hours = |n| Duration::from_hours(n);
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:9088");
    assert_eq!((config.http.max_body_bytes, config.http.allow_unauthenticated), (4_194_304, false));
    assert_eq!(config.store.path.to_str(), Some("/var/lib/matrix-alertmanager-receiver"));
    assert_eq!(config.store.retention, hours(168));
    let route = route(&config);
    assert_eq!((route.name.as_str(), route.updates, route.digest_above), ("default", Updates::Thread, 8));
    assert_eq!(route.remind_after, Some(Duration::from_mins(30)));
    assert_eq!(
        (route.reopen_after, route.stale_after, route.repost_after),
        (hours(1) / 4, hours(120), Some(hours(24)))
    );
    assert_eq!((&route.receivers, &route.mentions), (&Vec::new(), &Mentions::default()));
    assert!(config.links.rewrite.is_empty());
    assert_eq!((config.display.timezone.as_str(), config.display.severities.len()), ("UTC", 3));
    assert_eq!((config.log.format, config.log.filter.as_str()), (LogFormat::Text, "info"));
}

#[test]
fn values_that_are_taken() {
    let config = good(
        r#"
receivers = ["ops", "ops"]
updates = "reply"
remind_after = "1h30m"
reopen_after = "0s"
repost_after = "never"
digest_above = 0
mentions = { min_severity = "Info", users = ["@a:b"] }
[routes.team-2]
rooms = ["!opaque-without-server"]
updates = "post"
[links]
rewrite = [{ from = "http://", to = "https://" }]
[display]
severities = [{ names = ["p1", "P2"] }, { names = ["page"], word = "PAGE" }, { names = ["info"] }]
timezone = "America/Argentina/Buenos_Aires"
[log]
format = "json"
filter = "warn,matrix_alertmanager_receiver=debug"
[http]
listen = "[::1]:0"
max_body_bytes = 1024
"#,
    );
    let route = route(&config);
    assert_eq!(route.receivers, ["ops"]);
    assert_eq!(
        (config.routes.len(), config.routes.values().last().map(|route| route.updates)),
        (2, Some(Updates::Post))
    );
    assert_eq!(route.repost_after, None);
    assert_eq!((route.updates, route.digest_above), (Updates::Reply, 0));
    assert_eq!(route.remind_after, Some(Duration::from_mins(90)));
    assert_eq!(route.reopen_after, Duration::ZERO);
    assert_eq!(route.mentions, Mentions { min_severity: Some(2), users: vec!["@a:b".to_owned()], room: false });
    assert_eq!(config.links.rewrite, [Rewrite { from: "http://".to_owned(), to: "https://".to_owned() }]);
    let severities = &config.display.severities;
    let looks: Vec<_> = severities.iter().map(|s| format!("{} {} {}", s.emoji, s.word, s.color)).collect();
    assert_eq!(looks, ["⚪ P1 #6e7781", "🔴 PAGE #d1242f", "🔵 INFO #0969da"]);
}

#[test]
fn lint_codes_that_are_off() {
    assert_eq!(good("").lint, Lint::default());
    assert_eq!(good("[lint]\nignore = [\"no_logs_url\", \"lost_label\"]\n").lint.ignore, ["no_logs_url", "lost_label"]);
    let faults =
        Folder::new().load("[lint]\nignore = [\"no_logs_link\"]\n", &[], Purpose::Render).unwrap_err().join("\n");
    assert!(faults.contains("unknown code \"no_logs_link\", expected one of no_logs_url, not_encoded, "), "{faults}");
}

#[test]
fn mentions_of_nobody() {
    for table in ["{}", "{ min_severity = \"warning\" }", "{ users = [], room = false }"] {
        assert_eq!(route(&good(&format!("mentions = {table}"))).mentions, Mentions::default(), "{table}");
    }
    let room = good("mentions = { room = true }");
    assert_eq!(route(&room).mentions, Mentions { min_severity: Some(0), users: Vec::new(), room: true });
}

/// Centuries, and more incidents than there will ever be: what is compared with them, or added to the clock, ends at its
/// own bound.
#[test]
fn values_at_the_far_end() {
    let long = "30000000000w";
    for key in ["remind_after", "reopen_after", "stale_after", "repost_after"] {
        good(&format!("{key} = \"{long}\""));
    }
    let config = good(&format!("digest_above = {}\n[store]\nretention = \"{long}\"", i64::MAX));
    let now = crate::model::Timestamp(1_700_000_000_000);
    assert!(now.minus(config.store.retention).0 < 0);
    assert_eq!(now.plus(config.store.retention).0, i64::MAX);
    assert_eq!(route(&config).digest_above, usize::try_from(i64::MAX).expect("64 bits"));
    assert_eq!(good("[http]\nmax_body_bytes = 67108864").http.max_body_bytes, 64 << 20);
    for (toml, expected) in [
        ("[http]\nmax_body_bytes = 67108865", "found 67108865, expected at most 67108864 (64 MiB)"),
        ("[http]\nmax_body_bytes = 9223372036854775807", "max_body_bytes: found 9223372036854775807, expected at most"),
        ("[http]\nmax_body_bytes = -1", "found -1, expected a whole number of bytes"),
        ("remind_after = \"99999999999999w\"", "remind_after: found \"99999999999999w\", expected a duration"),
        ("[store]\nretention = \"0s\"", "store.retention: found \"0s\", expected a duration"),
        ("stale_after = \"0s\"", "stale_after: found \"0s\", expected a duration"),
    ] {
        assert!(wrong(toml).contains(expected), "{toml}\n{}\n{expected}", wrong(toml));
    }
}

#[test]
fn values_that_are_refused() {
    let table = [
        ("updates = \"shout\"", "updates: found \"shout\", expected \"thread\", \"reply\", \"edit\" or \"post\""),
        ("remind_after = \"0s\"", "found \"0s\", expected a duration such as \"7d\", \"30m\" or \"90s\", or \"never\""),
        ("reopen_after = 15", "routes.default.reopen_after: found 15, expected a duration"),
        ("stale_after = \"never\"", "found \"never\", expected a duration"),
        ("repost_after = \"0h\"", "found \"0h\""),
        ("digest_above = -1", "found -1, expected a whole number of incidents"),
        ("digest_above = 1.5", "found 1.5"),
        ("digest_above = 99999999999999999999", "found 99999999999999999999"),
        ("receivers = \"ops\"", "found a string, expected a list"),
        ("receivers = [\"\"]", "found an empty string, expected the name of an Alertmanager receiver"),
        (
            "mentions = { min_severity = \"page me\" }",
            "expected a name from display.severities: critical, page, emergency,",
        ),
        ("mentions = { users = [\"oncall\"] }", "mentions.users: found \"oncall\", expected a user id"),
        ("mentions = true", "mentions: found true, expected a table"),
        ("[routes.Team_A]\nrooms = [\"!a:b\"]", "routes.Team_A: a route name is made of a-z, 0-9 and '-'"),
        ("[routes.a]\nrooms = []", "config.toml:8: routes.a.rooms: found an empty list, expected at least one room"),
        ("[routes.a]\nrooms = [\"ops\"]", "found \"ops\", expected a room id"),
        ("[routes.a]\nrooms = [\"!a:b\", \"!a:b\"]", "routes.a.rooms: names !a:b twice"),
        ("[routes.a]\nreceivers = []", "config.toml: routes.a.rooms: missing"),
        (
            "[http]\nlisten = \"localhost:9088\"",
            "http.listen: found \"localhost:9088\", expected an address and a port",
        ),
        ("[http]\nlisten = 2020-01-01", "found 2020-01-01"),
        ("[http]\nmax_body_bytes = 1023", "found 1023, expected a whole number of bytes, 1024 or more"),
        ("[http]\nauth = {}", "http.auth: found no credential in it"),
        ("[http]\nauth = { bearer_token = \"\" }", "found an empty string, expected a string of one line"),
        (
            "[http]\nauth = { username = \"a:b\", password = \"x\" }",
            "found \"a:b\", expected a user name, without a colon",
        ),
        ("[http]\nauth = { username = \"a\" }", "http.auth: a username without a password"),
        ("[http]\nauth = { password = \"a\" }", "http.auth: a password without a username"),
        ("[store]\npath = \"\"", "store.path: found an empty string"),
        ("[display]\ntimezone = \"Mars/Olympus\"", "found \"Mars/Olympus\", expected an IANA time zone"),
        ("[display]\nseverities = []", "display.severities: found an empty list, expected at least one entry"),
        ("[display]\nseverities = [{ word = \"X\" }]", "display.severities: an entry without names"),
        ("[display]\nseverities = [{ names = [\"a\"] }, { names = [\"A\"] }]", "names \"a\" twice"),
        (
            "[display]\nseverities = [{ names = [\"a\"], color = \"red\" }]",
            "severities.color: found \"red\", expected a color",
        ),
        (
            "[links]\nrewrite = [{ from = \"prometheus\", to = \"\" }]",
            "links.rewrite.from: found \"prometheus\", expected the start",
        ),
        ("[links]\nrewrite = [{ from = \"http://a\" }]", "links.rewrite: an entry without to"),
        ("[links]\ngrafana = { loki_datasource = \"l\" }", "links.grafana.url: missing, expected the URL of Grafana"),
        ("[links]\ngrafana = { url = \"https://g\" }", "links.grafana.loki_datasource: missing, expected the uid"),
        ("[links]\ngrafana = \"https://g\"", "links.grafana: found a string, expected a table"),
        ("[links.grafana]\nurl = \"g\"\nloki_datasource = \"l\"", "links.grafana.url: found \"g\", expected the URL"),
        ("[links.grafana]\nurl = \"https://g?x\"\nloki_datasource = \"l\"", "found \"https://g?x\", expected the URL"),
        ("[links.grafana]\nurl = \"https://u@g\"\nloki_datasource = \"l\"", "holds a user name or password"),
        (
            "[routes.default.grafana]\norg_id = 0\nurl = \"https://g\"\nloki_datasource = \"l\"",
            "grafana.org_id: found 0",
        ),
        (
            "grafana = { url = \"https://g\", loki_datasource = \"l\", labels = [\"a-b\"] }",
            "routes.default.grafana.labels: found \"a-b\", expected a label",
        ),
        (
            "grafana = { url = \"https://g\", loki_datasource = \"l\", labels = [{ alert = \"a\", loki = \"b\\\"\" }] }",
            "grafana.labels.loki: found \"b\\\"\", expected the name of a Loki label",
        ),
        ("links = [{ label = \"x\" }]", "routes.default.links: an entry without url"),
        ("links = [{ url = \"https://a\" }]", "routes.default.links: an entry without label"),
        (
            "links = [{ label = \"a word too many for a short label\", url = \"https://a\" }]",
            "links.label: found \"a word too many for a short label\", expected a word or two",
        ),
        (
            "[links]\nrewrite = [{ from = \"http://a\", to = \"javascript:x\" }]",
            "links.rewrite.to: found \"javascript:x\"",
        ),
        ("[links]\nrewrite = [{ from = \"http://a\", to = \"https://u@b\" }]", "holds a user name or password"),
        ("[log]\nfilter = \"info=loud\"", "log.filter: found \"info=loud\", expected a filter"),
        ("[log]\nformat = \"JSON\"", "found \"JSON\", expected \"text\" or \"json\""),
    ];
    for (toml, expected) in table {
        let faults = wrong(toml);
        assert!(faults.contains(expected), "{toml}\n{faults}\n{expected}");
        let lines = if toml.contains("prometheus") { 2 } else { 1 };
        assert_eq!(faults.lines().count(), lines, "{toml}\n{faults}");
    }
}

#[test]
fn urls_of_other_receivers() {
    assert_eq!(good("").compat, Compat::default());
    let toml = "[http]\nauth = { bearer_token = \"t\" }\n[compat]\nroom_paths = true\nquery_secret = true\n\
                names = { \"Old_Ops\" = \"default\", \"Ünicode name\" = \"default\" }";
    let compat = good(toml).compat;
    assert!(compat.room_paths && compat.query_secret);
    let names: Vec<_> = compat.names.iter().map(|(old, route)| (old.as_str(), route.as_str())).collect();
    assert_eq!(names, [("Old_Ops", "default"), ("Ünicode name", "default")]);
    for (toml, expected) in [
        ("room_paths = 1", "config.toml:8: compat.room_paths: found 1, expected true or false"),
        ("names = { \"a\" = \"nowhere\" }", "config.toml:8: compat.names.a: there is no route named \"nowhere\""),
        ("names = { \"a\" = \"No Route\" }", "compat.names.a: found \"No Route\", expected the name of a route"),
        ("names = { \"a\" = 1 }", "compat.names.a: found 1, expected the name of a route"),
        ("names = { default = \"default\" }", "compat.names.default: the name on the left is a route already"),
        ("names = { \"!a:b\" = \"default\" }", "the name on the left is a room: use compat.room_paths = true"),
        (
            "names = { \"a/b\" = \"default\" }",
            "compat.names.\"a/b\": the name on the left cannot be part of a URL's path",
        ),
        ("names = [\"a\"]", "compat.names: found a list, expected a table"),
        ("query_secret = true", "config.toml:8: compat.query_secret: http.auth is \"none\", so there is no secret"),
        ("room_path = true", "compat.room_path: unknown key, did you mean compat.room_paths?"),
    ] {
        let faults = wrong(&format!("[compat]\n{toml}"));
        assert!(faults.contains(expected) && faults.lines().count() == 1, "{toml}\n{faults}\n{expected}");
    }
}

#[test]
fn one_route_per_receiver() {
    let faults = wrong("receivers = [\"ops\"]\n[routes.b]\nrooms = [\"!b:b\"]\nreceivers = [\"x\", \"ops\"]");
    assert_eq!(
        faults,
        "config.toml:7: routes.default.receivers: \"ops\" is named by routes.b.receivers (config.toml:10) as well, keep \
         it in one route"
    );
}

#[test]
fn the_way_to_the_homeserver() {
    let config = good("[matrix.aliases]\n\"#ops:example.org\" = \"!abc:example.org\"");
    assert!(matches!(config.matrix.proxy, Proxy::Environment) && config.matrix.ca_file.is_none());
    let pin = config.matrix.aliases.iter().next().map(|(alias, room)| format!("{alias} {room}"));
    assert_eq!(pin.as_deref(), Some("#ops:example.org !abc:example.org"));
    let folder = Folder::new();
    let pem = folder.write("ca.pem", "text\n-----BEGIN CERTIFICATE-----\n").display().to_string();
    let other = folder.write("other", "no certificate").display().to_string();
    let with = |line: String| load(&REQUIRED.replace("[routes.default]", &format!("{line}\n[routes.default]")), &[]);
    let config = with(format!("ca_file = {pem:?}\nproxy = \"http://user:hunter2@proxy:3128\"")).expect("it is right");
    assert!(matches!(&config.matrix.proxy, Proxy::Url(url) if url.expose() == "http://user:hunter2@proxy:3128"));
    assert!(!format!("{config:?}").contains("hunter2"));
    assert!(matches!(with("proxy = \"none\"".to_owned()).expect("it is right").matrix.proxy, Proxy::None));
    for (line, expected) in [
        (format!("ca_file = {other:?}"), "holds no PEM certificate"),
        ("ca_file = \"/does/not/exist\"".to_owned(), "matrix.ca_file: cannot read /does/not/exist"),
        ("proxy = \"socks5://user:hunter2@proxy\"".to_owned(), "matrix.proxy: expected an http or https URL"),
        ("proxy = \"http://proxy\"\nproxy_file = \"x\"".to_owned(), "given together with"),
        ("aliases = { \"!a:b\" = \"!c:d\" }".to_owned(), "the name is not an alias"),
        ("aliases = { \"#a:b\" = \"#c:d\" }".to_owned(), "expected the id of a room"),
    ] {
        let faults = with(line).expect_err("a fault");
        assert!(faults.len() == 1 && faults[0].contains(expected) && !faults[0].contains("hunter2"), "{faults:?}");
    }
}

#[test]
fn tls_is_two_files_or_none() {
    assert_eq!(good("").http.tls, None);
    let tls = good("[http]\ntls = { cert_file = \"c\", key_file = \"k\" }").http.tls.expect("it is set");
    assert_eq!((tls.cert_file.to_str(), tls.key_file.to_str()), (Some("c"), Some("k")));
    for (toml, expected) in [
        ("tls = { cert_file = \"c\" }", "http.tls.key_file: missing, expected the path of a PEM file"),
        ("tls = { key_file = \"k\" }", "http.tls.cert_file: missing, expected the path of a PEM file"),
        ("tls = { cert_file = \"c\", key_file = \"\" }", "http.tls.key_file: found an empty string"),
        ("tls = true", "http.tls: found true, expected a table"),
        ("tls = { cert_file = \"c\", key_file = \"k\", ca_file = \"a\" }", "http.tls.ca_file: unknown key"),
    ] {
        let faults = wrong(&format!("[http]\n{toml}"));
        assert!(faults.lines().count() == 1 && faults.contains(expected), "{toml}\n{faults}");
    }
}

#[test]
fn account() {
    let urls = [
        ("https://matrix.example.org/", None),
        ("http://localhost:8008", None),
        ("https://example.org/matrix", None),
        ("example.org", None),
        ("example.org:8448", Some("found \"example.org:8448\", expected a URL: put https:// in front of it")),
        ("localhost:8008", Some("put https:// in front of it")),
        ("example.org/matrix", Some("put https:// in front of it")),
        ("@alerts:example.org", Some("found a string with an @ in it, expected a URL such as")),
        ("!abc:example.org", Some("expected a URL such as")),
        ("my homeserver", Some("found \"my homeserver\", expected a URL such as")),
        ("https:/example.org", Some("expected a URL such as")),
        ("mailto:ops", Some("expected a URL such as")),
        ("user@example.org", Some("expected a URL such as")),
        ("ftp://example.org", Some("found \"ftp://example.org\", expected a URL such as")),
        ("https://", Some("found \"https://\", expected a URL such as")),
        ("https://a@example.org", Some("holds a user name or password: leave it out")),
        ("https://example.org?x=1", Some("expected a URL such as")),
        ("", Some("found an empty string, expected a URL such as")),
    ];
    let users = [
        ("@alerts:example.org", None),
        ("@alerts:localhost:8448", None),
        ("alerts", Some("found \"alerts\", expected a user id such as \"@alerts:example.org\"")),
        ("@alerts", Some("expected a user id")),
        ("@:example.org", Some("expected a user id")),
        ("@a b:example.org", Some("expected a user id")),
        ("@alerts:exa/mple.org", Some("expected a user id")),
    ];
    let check = |valid: &str, value: &str, expected: Option<&str>| {
        let loaded = load(&REQUIRED.replace(valid, value), &[]);
        match (loaded, expected) {
            (Ok(_), None) => {}
            (Err(faults), Some(expected)) => assert!(faults.len() == 1 && faults[0].contains(expected), "{faults:?}"),
            (loaded, _) => panic!("{value}: {loaded:?}"),
        }
    };
    for (url, expected) in urls {
        check("https://matrix.example.org", url, expected);
    }
    for (user, expected) in users {
        check("@alerts:example.org", user, expected);
    }
}

#[test]
fn closed_by_default() {
    let open = "[http]\nlisten = \"0.0.0.0:9088\"\n";
    assert_eq!(
        wrong(open),
        "config.toml:8: http.listen: 0.0.0.0:9088 can be reached from other hosts and http.auth is \"none\": set http.auth \
         or WEBHOOK_TOKEN, or http.allow_unauthenticated = true"
    );
    good(&format!("{open}allow_unauthenticated = true"));
    good(&format!("{open}auth = {{ bearer_token = \"x\" }}"));
    good("[http]\nlisten = \"127.1.2.3:9088\"");
    good("[http]\nlisten = \"[::ffff:127.0.0.1]:9088\"");
    assert!(wrong("[http]\nlisten = \"[::]:9088\"").contains("can be reached"));
    // A credential that is wrong is one fault, not two.
    assert_eq!(wrong(&format!("{open}auth = {{ bearer_token = \"\" }}")).lines().count(), 1);
    assert!(Folder::new().load(open, &[], Purpose::Render).is_ok());
}

#[test]
fn grafana_of_all_routes_and_of_one() {
    let config = good(
        r#"
links = [{ label = "A", url = "https://a/{{ labels.x }}", when = "labels.x" }, { label = "B", url = "b" }]
grafana = { loki_datasource = "own", labels = [{ alert = "pod", loki = "k8s_pod", fallback = true }, "x"] }
[routes.b]
rooms = ["!b:b"]
[routes.none]
rooms = ["!c:c"]
grafana = { labels = [] }
[links.grafana]
url = "https://g.example.org/x"
loki_datasource = "loki"
org_id = 2
line_filter = "|= `x`"
"#,
    );
    let of = |name: &str| config.routes.values().find(|route| route.name.as_str() == name).expect("a route");
    let own = of("default").grafana.clone().expect("its own");
    assert_eq!((own.url.as_str(), own.loki_datasource.as_str(), own.org_id), ("https://g.example.org/x", "own", 2));
    assert_eq!(own.line_filter.as_deref(), Some("|= `x`"));
    let labels = |labels: &[crate::config::LokiLabel]| {
        labels
            .iter()
            .map(|l| format!("{}={}{}", l.alert, l.loki, if l.fallback { "?" } else { "" }))
            .collect::<Vec<_>>()
    };
    assert_eq!(labels(&own.labels), ["pod=k8s_pod?", "x=x"]);
    assert_eq!(of("b").grafana, config.links.grafana);
    let usual = of("b").grafana.clone().expect("that of all");
    assert_eq!(
        labels(&usual.labels),
        ["namespace=namespace", "pod=pod", "container=container", "job=job?", "instance=instance?"]
    );
    assert!(of("none").grafana.as_ref().is_some_and(|grafana| grafana.labels.is_empty()));
    let links = &of("default").links;
    assert_eq!(
        (links[0].label.as_str(), links[0].when.as_deref(), links[1].when.as_deref()),
        ("A", Some("labels.x"), None)
    );
    assert!(of("b").links.is_empty());
    assert_eq!(good("").routes.values().next().map(|route| route.grafana.clone()), Some(None));
    let many = format!("links = [{}]", "{ label = \"x\", url = \"https://a\" },".repeat(9));
    assert!(wrong(&many).contains("routes.default.links: found 9 entries, expected 8 or fewer"));
}
