//! `[evidence]`, `routes.X.evidence` and `routes.X.heartbeats`.

use std::time::Duration;

use super::{Folder, Purpose, REQUIRED, good, load, wrong};
use crate::config::{ApiAuth, Config, Heartbeat, Route, RouteEvidence, Secret};

const SOURCES: &str =
    "[evidence]\nloki = { url = \"http://loki:3100\" }\nprometheus = { url = \"http://prometheus:9090\" }\n";
const LOKI: &str = "[evidence.loki]\nurl = \"http://loki:3100\"\n";
const PROMETHEUS: &str = "[evidence.prometheus]\nurl = \"http://prometheus:9090\"\n";

fn route(config: &Config) -> &Route {
    config.routes.values().next().expect("a route")
}

#[test]
fn off_until_configured() {
    for config in [good(""), good(SOURCES)] {
        assert_eq!((&route(&config).evidence, &route(&config).heartbeats), (&None, &Vec::new()));
    }
    assert!(good("").evidence.is_none());
}

#[test]
fn sources_keep_their_path_and_have_what_an_alertmanager_has() {
    let config = good(
        "[evidence]\nloki = { url = \"https://grafana/api/datasources/proxy/uid/loki/\", bearer_token = \"t\", \
         headers = { X-Scope-OrgID = \"a\" }, ca_file = \"\" }\nredact = ['a+\\d', \"b\"]\n",
    );
    let evidence = config.evidence.expect("evidence");
    let loki = evidence.loki.expect("Loki");
    assert_eq!(loki.url.as_str(), "https://grafana/api/datasources/proxy/uid/loki");
    assert!(matches!(&loki.auth, ApiAuth::Bearer(token) if token.expose() == "t"));
    assert_eq!((loki.headers[0].0.as_str(), loki.headers[0].1.expose()), ("x-scope-orgid", "a"));
    assert_eq!(evidence.redact.iter().map(regex::Regex::as_str).collect::<Vec<_>>(), ["a+\\d", "b"]);
    assert!(evidence.prometheus.is_none() && loki.ca_file.is_none());
}

#[test]
fn evidence_of_a_route_follows_from_the_sources() {
    let all = |logs, graph| Some(RouteEvidence { logs, graph, min_severity: 0, encrypted_only: false });
    for (table, sources, expected) in [
        ("{}", SOURCES, all(10, true)),
        ("{}", LOKI, all(10, false)),
        ("{}", PROMETHEUS, all(0, true)),
        ("{ logs = 0 }", LOKI, all(0, false)),
        ("{ logs = 50, graph = false }", SOURCES, all(50, false)),
        ("{ logs = 0, graph = false }", "", all(0, false)),
        (
            "{ min_severity = \"Warning\", encrypted_only = true }",
            SOURCES,
            Some(RouteEvidence { logs: 10, graph: true, min_severity: 1, encrypted_only: true }),
        ),
    ] {
        assert_eq!(route(&good(&format!("evidence = {table}\n{sources}"))).evidence, expected, "{table} {sources}");
    }
}

#[test]
fn evidence_from_the_environment() {
    let env = [
        ("MAR_EVIDENCE__LOKI__URL", "http://loki:3100"),
        ("MAR_EVIDENCE__LOKI__HEADERS__X_SCOPE_ORGID", "1234"),
        ("MAR_ROUTES__DEFAULT__EVIDENCE__LOGS", "5"),
    ];
    let config = load(REQUIRED, &env).expect("good");
    assert_eq!(route(&config).evidence.as_ref().map(|evidence| evidence.logs), Some(5));
    let loki = config.evidence.and_then(|evidence| evidence.loki).expect("Loki");
    assert_eq!((loki.headers[0].0.as_str(), loki.headers[0].1.expose()), ("x-scope-orgid", "1234"));
}

#[test]
fn wrong_sources() {
    for (more, expected) in [
        ("", "evidence: names no source, expected loki, prometheus, or both"),
        ("redact = [\"a\"]", "evidence: names no source"),
        ("loki = {}", "evidence.loki.url: missing, expected the URL of Loki"),
        ("loki = \"http://loki:3100\"", "evidence.loki: found a string, expected a table"),
        ("loki = { url = \"loki:3100\" }", "found \"loki:3100\", expected the URL of Loki"),
        ("loki = { url = \"http://u:pa55@loki\" }", "leave it out and set username and password_file"),
        ("loki = { url = \"http://l/x/loki/api/v1\" }", "expected it without the path of the API: http://l/x"),
        ("prometheus = { url = \"http://p/api/v1/query\" }", "expected it without the path of the API: http://p"),
        ("prometheus = { url = \"http://p/graph?g0.expr=up\" }", "leave out what begins with ? or #"),
        ("loki = { url = \"http://loki\", password = \"pa55\" }", "a password without a username"),
        ("loki = { url = \"http://loki\", headers = { Host = \"x\" } }", "the host is that of the URL"),
        ("loki = { url = \"http://loki\", tenant = \"x\" }", "evidence.loki.tenant: unknown key"),
        ("loki = { url = \"http://loki\", ca_file = \"/nowhere\" }", "cannot read /nowhere"),
    ] {
        let fault = wrong(&format!("[evidence]\n{more}\n"));
        assert!(fault.contains(expected), "{more}: {fault}");
        assert!(!fault.contains("pa55") && fault.lines().count() == 1, "{fault}");
    }
}

#[test]
fn a_bad_pattern_is_named_with_its_place() {
    for (pattern, expected) in [
        ("ab(c", "evidence.redact: found \"ab(c\", not a regular expression: unclosed group (character 3)"),
        ("(?=x)", "not a regular expression: look-around"),
        ("[z-a]", "not a regular expression: invalid character class range"),
        ("a*", "found \"a*\", which matches nothing at all as well"),
        ("", "found an empty string, expected a regular expression"),
        ("(\\w{1000}){1000}", "which takes too much memory: make it simpler"),
    ] {
        let fault = wrong(&format!("{LOKI}[evidence]\nredact = [\"good\",\n'{pattern}']\n"));
        assert!(fault.contains(expected), "{pattern}: {fault}");
        assert!(fault.starts_with("config.toml:11: ") && fault.lines().count() == 1, "{fault}");
    }
    let many = vec!["\"a\""; 65].join(", ");
    assert!(
        wrong(&format!("{LOKI}[evidence]\nredact = [{many}]\n")).contains("found 65 entries, expected 64 or fewer")
    );
}

#[test]
fn wrong_evidence_of_a_route() {
    for (table, sources, expected) in [
        ("{ logs = 5 }", PROMETHEUS, "routes.default.evidence.logs: found 5, but evidence.loki is not set: set it"),
        ("{ graph = true }", LOKI, "routes.default.evidence.graph: found true, but evidence.prometheus is not set"),
        ("{ logs = 51 }", LOKI, "found 51, expected a whole number of lines from 0 to 50"),
        ("{ logs = -1 }", LOKI, "found -1, expected a whole number of lines"),
        ("{ logs = true }", LOKI, "found true, expected a whole number of lines"),
        ("{ graph = 1 }", PROMETHEUS, "found 1, expected true or false"),
        ("{ min_severity = \"loud\" }", LOKI, "expected a name from display.severities"),
        ("{ lines = 5 }", LOKI, "routes.default.evidence.lines: unknown key"),
        ("true", LOKI, "found true, expected a table"),
        ("{}", "", "routes.default.evidence: shows nothing without a source: set evidence.loki"),
        // A source that is wrong is the one thing to report.
        ("{ logs = 5 }", "[evidence.loki]\nurl = \"loki\"\n", "expected the URL of Loki"),
    ] {
        let fault = wrong(&format!("evidence = {table}\n{sources}"));
        assert!(fault.contains(expected), "{table}: {fault}");
        assert!(fault.lines().count() == 1, "{fault}");
    }
}

#[test]
fn heartbeats_of_a_route() {
    let config = good(
        "heartbeats = [{ name = \"a\", match = { alertname = \"Watchdog\", \"dotted.name\" = \"x\" }, by = [\"cluster\"], \
         timeout = \"1s\", ping_url = \"https://u:p@hc/x?y=z\" }, { name = \"Prod_1.eu-west\", match = { a = \"b\" } }]\n",
    );
    let [first, second] = route(&config).heartbeats.as_slice() else { panic!("two heartbeats") };
    let labels: Vec<_> = first.matches.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(labels, [("alertname", "Watchdog"), ("dotted.name", "x")]);
    assert_eq!((first.by.as_slice(), first.timeout), (&["cluster".to_owned()][..], Duration::from_secs(1)));
    assert_eq!(first.ping_url.as_ref().map(Secret::expose), Some("https://u:p@hc/x?y=z"));
    let minimal = Heartbeat {
        name: "Prod_1.eu-west".to_owned(),
        matches: [("a".to_owned(), "b".to_owned())].into(),
        by: Vec::new(),
        timeout: Duration::from_mins(15),
        ping_url: None,
    };
    assert_eq!(second, &minimal);
}

#[test]
fn wrong_heartbeats() {
    let entry = |more: &str| format!("{{ name = \"a\", match = {{ alertname = \"W\" }}, {more} }}");
    for (beats, expected) in [
        ("{ match = { a = \"b\" } }".to_owned(), "an entry without name, expected a word of a-z"),
        ("{ name = \"a\" }".to_owned(), "an entry without match, expected labels of the alert such as"),
        (
            "{ name = \"a\", match = {} }".to_owned(),
            "routes.default.heartbeats.match: found 0 labels, expected 1 to 16",
        ),
        ("{ name = \"a\", match = \"b\" }".to_owned(), "expected a table"),
        ("{ name = \"a\", match = { a = \"\" } }".to_owned(), "found an empty string, expected the value of a label"),
        ("{ name = \"a\", match = { \"\" = \"x\" } }".to_owned(), "an empty name, expected that of a label"),
        ("{ name = \"a b\", match = { a = \"b\" } }".to_owned(), "found \"a b\", expected a word of a-z"),
        ("{ name = \"--all\", match = { a = \"b\" } }".to_owned(), "found \"--all\", expected a word of a-z"),
        (format!("{{ name = \"{}\", match = {{ a = \"b\" }} }}", "a".repeat(41)), "expected a word of a-z"),
        (format!("{0}, {0}", entry("timeout = \"1m\"")), "\"a\" is the name of two heartbeats"),
        (entry("by = [\"\"]"), "routes.default.heartbeats.by: found an empty string, expected the name of a label"),
        (entry("by = [\"x\", \"x\"]"), "names \"x\" twice"),
        (entry("timeout = \"500ms\""), "found \"500ms\", expected a duration from \"1s\" to \"30d\""),
        (entry("timeout = \"31d\""), "found \"31d\", expected a duration"),
        (entry("timeout = 15"), "found 15, expected a duration"),
        (entry("ping_url = \"ftp://pa55\""), "ping_url: is not an http or https URL"),
        (entry("ping_url = \"pa55\""), "ping_url: is not a URL"),
        (entry("ping_url = \"https://hc/pa55#x\""), "holds a #"),
        (entry("ping_url = \"https://hc/pa 55\""), "has a blank in it"),
        (entry("ping_url = \" https://hc/pa55\""), "begins or ends with a blank"),
        (entry("ping_url = 55"), "found a number, expected a string"),
        (entry("ping_url = \"https://pa55\", ping_url_file = \"x\""), "given together with"),
        (entry("ping_url_file = \"/nowhere\""), "cannot read /nowhere"),
        (
            format!(
                "{{ name = \"a\", match = {{ {} }} }}",
                (0..17).map(|n| format!("a{n} = \"b\"")).collect::<Vec<_>>().join(", ")
            ),
            "found 17 labels, expected 1 to 16",
        ),
        (
            entry(&format!("by = [{}]", (0..17).map(|n| format!("\"a{n}\"")).collect::<Vec<_>>().join(", "))),
            "heartbeats.by: found 17 labels, expected 16 or fewer",
        ),
        (
            (0..33).map(|n| format!("{{ name = \"a{n}\", match = {{ a = \"b\" }} }}")).collect::<Vec<_>>().join(", "),
            "routes.default.heartbeats: found 33 entries, expected 32 or fewer",
        ),
        (entry("matchers = { a = \"b\" }"), "routes.default.heartbeats.matchers: unknown key"),
    ] {
        let fault = wrong(&format!("heartbeats = [{beats}]\n"));
        assert!(fault.contains(expected), "{beats}: {fault}");
        assert!(!fault.contains("pa55") && !fault.contains(" 55,") && fault.lines().count() == 1, "{fault}");
    }
}

#[test]
fn secrets_of_evidence_are_files_that_are_watched() {
    let folder = Folder::new();
    let (password, header) = (folder.write("password", "\"pw\"\n"), folder.write("tenant", "value\n"));
    let (ca, ping) = (folder.write("ca.pem", "-----BEGIN CERTIFICATE-----\n"), folder.write("url", "https://hc/x\n"));
    let toml = format!(
        "{REQUIRED}heartbeats = [{{ name = \"a\", match = {{ a = \"b\" }}, ping_url_file = {ping:?} }}]\n\
         [evidence.loki]\nurl = \"https://loki\"\nusername = \"mar\"\npassword_file = {password:?}\n\
         [evidence.prometheus]\nurl = \"https://p\"\nheader_files = {{ X-Token = {header:?} }}\nca_file = {ca:?}\n"
    );
    let config = folder.load(&toml, &[], Purpose::Serve).expect("good");
    assert_eq!(config.files(), [ca.as_path(), password.as_path(), header.as_path(), ping.as_path()]);
    let odd = config.odd_passwords();
    assert!(odd.len() == 1 && odd[0].starts_with("evidence.loki.password ("), "{odd:?}");
    assert!(odd[0].contains("stands in quotes") && !odd[0].contains("pw\""), "{odd:?}");
    let beat = &route(&config).heartbeats[0];
    assert_eq!(beat.ping_url.as_ref().map(Secret::expose), Some("https://hc/x"));
    // All of it applies at once.
    let (_, restart) = config.over(&good(""));
    assert!(restart.is_empty(), "{restart:?}");
    // Where secrets are not read, nothing is missed.
    assert!(folder.load(&toml.replace("/url", "/nowhere"), &[], Purpose::Render).is_ok());
    folder.write("url", "ftp://x\n");
    let fault = folder.load(&toml, &[], Purpose::Serve).expect_err("not http").join("\n");
    assert!(fault.contains("ping_url_file: is not an http or https URL"), "{fault}");
}
