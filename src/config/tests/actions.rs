//! `[alertmanager]`, `[actions]` and `routes.X.escalate`.

use std::{sync::Arc, time::Duration};

use super::{Folder, Purpose, REQUIRED, good, load, wrong};
use crate::config::{Actions, Alertmanager, Allow, ApiAuth, Config, Escalation};

const OTHER: &str = "[routes.other]\nrooms = [\"!other:example.org\"]\n";

fn alertmanager<'a>(config: &'a Config, route: &str) -> Option<&'a Arc<Alertmanager>> {
    config.routes.iter().find(|(name, _)| name.as_str() == route).and_then(|(_, route)| route.alertmanager.as_ref())
}

fn actions<'a>(config: &'a Config, route: &str) -> Option<&'a Actions> {
    config.routes.iter().find(|(name, _)| name.as_str() == route).and_then(|(_, route)| route.actions.as_ref())
}

fn urls(alertmanager: &Alertmanager) -> Vec<&str> {
    alertmanager.urls.iter().map(url::Url::as_str).collect()
}

#[test]
fn off_until_configured() {
    let config = good("");
    assert!(config.alertmanagers().is_empty() && actions(&config, "default").is_none());
    assert!(config.routes.values().all(|route| route.escalate.is_empty()));
}

#[test]
fn an_alertmanager_of_all_routes_and_of_one() {
    let config = good(&format!(
        "{OTHER}[routes.own]\nrooms = [\"!own:example.org\"]\nalertmanager = {{ urls = [\"https://mimir/alertmanager/\"], \
         bearer_token = \"t\" }}\n[routes.none]\nrooms = [\"!none:example.org\"]\nalertmanager = false\n\
         [alertmanager]\nurls = [\"http://am-0:9093\", \"http://am-1:9093/\"]\nca_file = \"\"\n\
         headers = {{ X-Scope-OrgID = \"team a\" }}\n"
    ));
    let (shared, own) = (alertmanager(&config, "default").unwrap(), alertmanager(&config, "own").unwrap());
    assert!(Arc::ptr_eq(shared, alertmanager(&config, "other").unwrap()));
    assert_eq!(urls(shared), ["http://am-0:9093/", "http://am-1:9093/"]);
    assert_eq!((shared.poll, &shared.ca_file), (Some(Duration::from_mins(1)), &None));
    let (name, value) = &shared.headers[0];
    assert_eq!((name.as_str(), value.expose()), ("x-scope-orgid", "team a"));
    assert!(matches!(shared.auth, ApiAuth::None));
    assert_eq!(urls(own), ["https://mimir/alertmanager"]);
    assert!(matches!(&own.auth, ApiAuth::Bearer(token) if token.expose() == "t") && own.headers.is_empty());
    assert!(alertmanager(&config, "none").is_none());
    assert_eq!(config.alertmanagers().len(), 2);
}

#[test]
fn an_alertmanager_from_the_environment() {
    let env = [
        ("MAR_ALERTMANAGER__URLS", r#"["http://am:9093"]"#),
        ("MAR_ALERTMANAGER__POLL", "never"),
        ("MAR_ALERTMANAGER__HEADERS__X_SCOPE_ORGID", "1234"),
        ("MAR_ROUTES__DEFAULT__ACTIONS__ALLOW__POWER", "never"),
    ];
    let config = load(REQUIRED, &env).expect("good");
    let found = alertmanager(&config, "default").unwrap();
    assert_eq!((urls(found), found.poll), (vec!["http://am:9093/"], None));
    assert_eq!((found.headers[0].0.as_str(), found.headers[0].1.expose()), ("x-scope-orgid", "1234"));
    assert_eq!(actions(&config, "default").unwrap().allow, Allow { power: None, users: Vec::new() });
}

#[test]
fn secrets_of_an_alertmanager_are_files_that_are_watched() {
    let folder = Folder::new();
    let (password, header) = (folder.write("password", "\"pw\"\n"), folder.write("header", "value\n"));
    let ca = folder.write("ca.pem", "-----BEGIN CERTIFICATE-----\n");
    let toml = format!(
        "{REQUIRED}[alertmanager]\nurls = [\"https://am\"]\nusername = \"mar\"\npassword_file = {password:?}\n\
         header_files = {{ X-Token = {header:?} }}\nca_file = {ca:?}\n"
    );
    let config = folder.load(&toml, &[], Purpose::Serve).expect("good");
    assert_eq!(config.files(), [ca.as_path(), header.as_path(), password.as_path()]);
    let odd = config.odd_passwords();
    assert!(odd.len() == 1 && odd[0].starts_with("alertmanager.password of route default ("), "{odd:?}");
    assert!(odd[0].contains("stands in quotes") && !odd[0].contains("pw\""), "{odd:?}");
    // All of it applies at once.
    let (_, restart) = config.over(&good(""));
    assert!(restart.is_empty(), "{restart:?}");
    assert!(folder.load(&toml.replace("/header", "/nowhere"), &[], Purpose::Render).is_ok());
}

#[test]
fn wrong_alertmanagers() {
    for (more, expected) in [
        ("poll = \"60s\"", "alertmanager.urls: missing, expected a list of at least one URL"),
        ("urls = []", "found an empty list, expected at least one"),
        ("urls = [\"alertmanager:9093\"]", "found \"alertmanager:9093\", expected the URL of an Alertmanager"),
        ("urls = [\"http://u:pa55@am\"]", "leave it out and set username and password_file"),
        ("urls = [\"http://am/api/v2\"]", "expected it without the path of the API: http://am"),
        ("urls = [\"http://am/x/api/v2/\"]", "expected it without the path of the API: http://am/x"),
        ("urls = [\"http://am/#/alerts\"]", "leave out what begins with ? or #"),
        ("urls = [\"http://am\", \"http://am/\"]", "names http://am/ twice"),
        (
            "urls = [\"http://am\"]\npoll = \"500ms\"",
            "alertmanager.poll: found \"500ms\", expected a duration of a second or more",
        ),
        ("urls = [\"http://am\"]\nusername = \"x\"", "a username without a password"),
        (
            "urls = [\"http://am\"]\nbearer_token = \"x\"\npassword = \"y\"",
            "given together with alertmanager.bearer_token",
        ),
        (
            "urls = [\"http://am\"]\nheaders = { Authorization = \"Bearer pa55\" }",
            "set username and password_file, or bearer_token_file",
        ),
        ("urls = [\"http://am\"]\nheaders = { host = \"x\" }", "the host is that of the URL"),
        ("urls = [\"http://am\"]\nheaders = { Content-Type = \"x\" }", "is about the body"),
        ("urls = [\"http://am\"]\nheaders = { \"a b\" = \"x\" }", "not the name of an HTTP header"),
        ("urls = [\"http://am\"]\nheaders = { a = \"pa55ä\" }", "holds characters that a header cannot carry"),
        ("urls = [\"http://am\"]\nheaders = { a = 55 }", "found a number, expected a string"),
        ("urls = [\"http://am\"]\nheaders = { a = \"x\", A = \"y\" }", "the same header as"),
        ("urls = [\"http://am\"]\nheader_files = { a = \"/nowhere\" }", "cannot read /nowhere"),
        ("urls = [\"http://am\"]\nenabled = true", "unknown key"),
        ("url = [\"http://am\"]", "unknown key, did you mean alertmanager.urls?"),
    ] {
        let fault = wrong(&format!("[alertmanager]\n{more}\n"));
        assert!(fault.contains(expected), "{more}: {fault}");
        assert!(!fault.contains("pa55") && !fault.contains("55,"), "{fault}");
    }
    let fault = wrong("alertmanager = true\n");
    assert!(fault.contains("found true, expected a table such as { urls") && fault.contains("or false"), "{fault}");
}

#[test]
fn actions_of_all_routes_and_of_one() {
    let config = good(&format!(
        "{OTHER}[routes.own]\nrooms = [\"!own:example.org\"]\nactions = {{ allow = {{ users = [\"@a:b\"] }}, read = {{ power = 50 }}, \
         prefix = \"mar:\", silence = \"1h\", max_silence = \"1h\", reactions = false, trust_power = true }}\n\
         [routes.none]\nrooms = [\"!none:example.org\"]\nactions = false\n[actions]\n"
    ));
    assert_eq!(actions(&config, "default"), Some(&Actions::default()));
    assert_eq!(actions(&config, "other"), Some(&Actions::default()));
    let own = actions(&config, "own").unwrap();
    let hour = Duration::from_hours(1);
    assert_eq!((own.allow.power, own.allow.users.as_slice()), (Some(50), &["@a:b".to_owned()][..]));
    assert_eq!((own.read, own.prefix.as_str(), own.silence, own.max_silence), (50, "mar:", hour, hour));
    assert_eq!((own.reactions, own.trust_reactions, own.trust_power), (false, false, true));
    assert!(actions(&config, "none").is_none());
}

#[test]
fn wrong_actions() {
    for (more, expected) in [
        ("silence = \"48h\"", "actions.silence: found \"48h\", which is longer than max_silence"),
        (
            "max_silence = \"1h\"",
            "actions.max_silence: found \"1h\", which is shorter than silence, which is 2h unless set",
        ),
        ("silence = \"2\"", "expected a duration"),
        ("prefix = \"/\"", "clients take what begins with /"),
        ("prefix = \"hey bot\"", "without blanks"),
        ("prefix = \"\"", "found an empty string"),
        ("allow = { power = \"50\" }", "expected a power level such as 50, or \"never\""),
        ("allow = { users = [\"oncall\"] }", "expected a user id"),
        ("read = { power = \"never\" }", "expected a power level such as 50"),
        ("enabled = true", "unknown key"),
    ] {
        let fault = wrong(&format!("[actions]\n{more}\n"));
        assert!(fault.contains(expected), "{more}: {fault}");
    }
}

#[test]
fn escalation_is_sorted_and_calls_somebody() {
    let config = good(
        "escalate = [{ after = \"1h\", room = true }, { after = \"10m\", min_severity = \"Warning\", users = [\"@second:b\"] }]\n",
    );
    let route = config.routes.values().next().unwrap();
    let step = |minutes, min_severity, users: &[&str], room| Escalation {
        after: Duration::from_mins(minutes),
        min_severity,
        users: users.iter().map(ToString::to_string).collect(),
        room,
    };
    assert_eq!(route.escalate, [step(10, 1, &["@second:b"], false), step(60, 0, &[], true)]);
    let many = (0..50).map(|n| format!("\"@somebody-{n:02}:example.org\"")).collect::<Vec<_>>().join(", ");
    for (step, expected) in [
        ("{ after = \"10m\" }".to_owned(), "an entry that calls nobody, expected users, room = true, or both"),
        ("{ after = \"10m\", users = [] }".to_owned(), "an entry that calls nobody"),
        ("{ room = true }".to_owned(), "an entry without after, expected a duration"),
        (
            "{ after = \"0s\", room = true }".to_owned(),
            "routes.default.escalate.after: found \"0s\", expected a duration",
        ),
        ("{ after = \"1m\", room = true, min_severity = \"x\" }".to_owned(), "expected a name from display.severities"),
        ("{ after = \"1m\", user = [\"@a:b\"] }".to_owned(), "did you mean routes.default.escalate.users?"),
        (format!("{{ after = \"1m\", users = [{many}] }}"), "expected at most 800 bytes of user ids"),
        (vec!["{ after = \"1m\", room = true }"; 17].join(", "), "found 17 entries, expected 16 or fewer"),
    ] {
        let fault = wrong(&format!("escalate = [{step}]\n"));
        assert!(fault.contains(expected), "{step}: {fault}");
    }
}
