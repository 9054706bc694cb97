//! `lint-rules`: what it finds in a folder of rules, and that `--fix` changes the values and nothing else.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use super::{Ran, bare};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/lint-rules").join(name)
}

fn lint(args: &[&str]) -> Ran {
    bare(&[&["lint-rules"][..], args].concat(), &[])
}

fn lint_fixture(name: &str, args: &[&str]) -> Ran {
    let path = fixture(name);
    lint(&[args, &[path.to_str().expect("UTF-8")]].concat())
}

/// `line rule code`, with a plus where there is a corrected value.
fn found(ran: &Ran) -> Vec<String> {
    let faults: Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("no JSON: {}", ran.all()));
    let fault = |fault: &Value| {
        let text = |key: &str| fault[key].as_str().expect("text").to_owned();
        let plus = if fault["mended"].is_string() { "+" } else { "" };
        format!("{} {} {plus}{}", fault["line"], text("rule"), text("code"))
    };
    faults.as_array().expect("a list").iter().map(fault).collect()
}

/// A folder with copies of these fixtures.
fn copies(names: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::TempDir::new().expect("a folder");
    for name in names {
        fs::copy(fixture(name), folder.path().join(name)).expect("a fixture");
    }
    folder
}

#[test]
fn good_rules_are_silent() {
    let ran = lint_fixture("good.yaml", &[]);
    ran.says(0, &[&["3 alerting rules in 1 file: 0 faults"]]);
    assert_eq!(ran.out, "");
    lint_fixture("good.yaml", &["--datasource", "loki"]).says(0, &[]);
    // What is right by itself can still be elsewhere.
    let strict = ["--format", "json", "--datasource", "other", "--grafana", "https://grafana.example.com"];
    let ran = lint_fixture("good.yaml", &strict);
    assert_eq!(
        found(ran.says(1, &[])),
        [
            "15 Up +wrong_datasource",
            "15 Up +wrong_host",
            "29 Aggregated +wrong_datasource",
            "29 Aggregated +wrong_host",
            "44 Elsewhere wrong_host",
        ]
    );
}

#[test]
fn help_and_docs_name_the_keys_of_the_json() {
    let ran = lint_fixture("faults.yaml", &["--format", "json"]);
    let faults: Value = serde_json::from_str(&ran.out).expect("JSON");
    let keys: BTreeSet<&str> = faults[0].as_object().expect("an object").keys().map(String::as_str).collect();
    let help = lint(&["--help"]).out;
    let docs = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/COMMANDS.md")).expect("docs/COMMANDS.md");
    for (text, before) in [(&help, "An array of {"), (&docs, "prints an array of `{")] {
        let (_, list) = text.split_once(before).expect("the keys");
        let (list, _) = list.split_once('}').expect("their end");
        let named = list.split([',', ' ', '\n']).filter(|word| !word.is_empty());
        assert_eq!(named.collect::<BTreeSet<_>>(), keys, "{before}");
    }
}

#[test]
fn each_fault_has_its_line_and_code() {
    let ran = lint_fixture("faults.yaml", &["--format", "json"]);
    assert_eq!(
        found(ran.says(1, &[])),
        [
            "4 Bare no_logs_url",
            "4 Bare no_summary",
            "4 Bare no_severity",
            "6 Unknown no_summary",
            "9 Unknown unknown_severity",
            "12 Unknown unknown_label",
            "18 Lost lost_label",
            "24 Unclosed template",
            "25  no_rule",
            "32 Shared +not_encoded",
            "32 Sharing +not_encoded",
            "39 \u{1b}[31mHostile\u{202e} unknown_severity",
            "42 \u{1b}[31mHostile\u{202e} not_a_url",
        ]
    );
    let path = fixture("faults.yaml").display().to_string();
    let ran = lint_fixture("faults.yaml", &["--severity", "critcal", "--label", "pdo"]);
    ran.says(
        1,
        &[
            &[&format!("{path}:4: group \"faults\", rule \"Bare\": no logs_url")],
            &[&format!("{path}:18: group \"faults\", rule \"Lost\": "), "\"namespace\"", "keeps only job"],
            &[
                &format!("{path}:32: "),
                "\"Shared\"",
                "not percent-encoded; mended: https://",
                "{{ $labels.namespace }}",
            ],
            &["7 alerting rules in 1 file: 11 faults"],
        ],
    );
    assert!(!ran.out.contains(['\u{1b}', '\u{202e}']), "{}", ran.all());
    // What several rules share is not touched.
    let folder = copies(&["faults.yaml"]);
    let copy = folder.path().join("faults.yaml");
    lint(&["--fix", copy.to_str().expect("UTF-8")]).says(1, &[&["\"Sharing\"", "not fixed: it is shared"]]);
    assert_eq!(fs::read(copy).expect("it is there"), fs::read(fixture("faults.yaml")).expect("a fixture"));
}

#[test]
fn fix_changes_the_values_and_nothing_else() {
    let folder = copies(&["styles.yaml", "crlf.yaml"]);
    let file = |name: &str| folder.path().join(name);
    let text = |path: &Path| fs::read_to_string(path).expect("a file");
    fs::set_permissions(file("styles.yaml"), fs::Permissions::from_mode(0o640)).expect("ours");
    let pattern = folder.path().join("*.yaml").display().to_string();
    let args = ["--grafana", "https://grafana.example.org", "--datasource", "loki", &pattern];

    lint(&args).says(1, &[&["\"Missing\"", "no logs_url; mended: "], &["10 alerting rules in 2 files: 12 faults"]]);
    let ran = lint(&[&["--fix"][..], &args].concat());
    ran.says(
        0,
        &[&["\"Literal\"", "refId", "; fixed: https://"], &["10 alerting rules in 2 files: 0 faults, 12 fixed"]],
    );
    for (name, expected) in [("styles.yaml", "styles.fixed.yaml"), ("crlf.yaml", "crlf.fixed.yaml")] {
        assert_eq!(text(&file(name)), text(&fixture(expected)), "{name}");
        let promtool = Command::new("promtool").args(["check", "rules"]).arg(file(name)).output().expect("promtool");
        assert!(promtool.status.success(), "{promtool:?}");
    }
    let mode = fs::metadata(file("styles.yaml")).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 2, "nothing is left beside them");
    lint(&args).says(0, &[&["0 faults"]]);
}

/// By the command line and by the config alike.
#[test]
fn fix_leaves_what_is_switched_off() {
    let folder = copies(&["styles.yaml"]);
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (rules, config) = (path("styles.yaml"), path("config.toml"));
    let text = || fs::read_to_string(&rules).expect("a file");
    let reset = || fs::copy(fixture("styles.yaml"), &rules).expect("a fixture");
    let fix = |args: &[&str]| {
        let whole = ["--fix", "--grafana", "https://grafana.example.org", "--datasource", "loki"];
        lint(&[&whole[..], args, &[rules.as_str()]].concat())
    };
    // What is corrected by itself is left by itself: one rule lacks the version.
    let fixed = fs::read_to_string(fixture("styles.fixed.yaml")).expect("a fixture");
    let quoted = "{summary: x, logs_url: \"https://grafana.example.org/explore?";
    let unversioned = fixed.replace(&format!("{quoted}schemaVersion=1&"), quoted);
    assert_ne!(fixed, unversioned);
    fs::write(&config, "[lint]\nignore = [\"no_schema_version\"]\n").expect("ours");
    let counts = "8 alerting rules in 1 file: 0 faults, 9 fixed; switched off: 1 no_schema_version";
    for args in [&["--ignore", "no_schema_version"][..], &["--config", config.as_str()]] {
        reset();
        fix(args).says(0, &[&[counts]]);
        assert_eq!(text(), unversioned, "{args:?}");
    }
    // What cannot be left is not corrected, and that is said.
    reset();
    let ran = fix(&["--ignore", "not_encoded", "--ignore", "no_logs_url", "--ignore", "encoded_hole"]);
    let why = "(not fixed: that would correct what is switched off as well: not_encoded)";
    ran.says(
        1,
        &[
            &["\"DoubleQuoted\"", "no schemaVersion=1", why],
            &["\"Literal\"", "refId", why],
            &["8 alerting rules in 1 file: 2 faults; switched off: 1 encoded_hole, 1 no_logs_url, 6 not_encoded"],
        ],
    );
    assert!(!ran.out.contains("; mended: ") && !ran.out.contains("; fixed: "), "{}", ran.all());
    assert_eq!(text(), fs::read_to_string(fixture("styles.yaml")).expect("a fixture"));
    // Nothing is said where nothing is left out.
    let ran = lint_fixture("good.yaml", &["--ignore", "no_schema_version"]);
    assert!(ran.says(0, &[]).err.ends_with(": 0 faults\n"), "{}", ran.all());
}

/// With the Grafana and the datasource of the examples required, and no label or severity named.
#[test]
fn the_rules_that_come_with_the_receiver_are_clean() {
    let pattern = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus/*rule*.yaml").display().to_string();
    let ran = lint(&["--grafana", "https://grafana.example.org", "--datasource", "loki", &pattern]);
    ran.says(0, &[&["alerting rules in 2 files: 0 faults"]]);
    assert_eq!((ran.out.as_str(), ran.err.lines().count()), ("", 1), "{}", ran.all());
    let elsewhere = lint(&["--format", "json", "--datasource", "elsewhere", &pattern]);
    let reported = found(elsewhere.says(1, &[]));
    assert!(reported.len() >= 50 && reported.iter().all(|fault| fault.ends_with(" +wrong_datasource")), "{reported:?}");
}

#[test]
fn severities_may_come_from_the_config() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let config = folder.path().join("config.toml");
    fs::write(&config, "[display]\nseverities = [{ names = [\"critical\", \"sev1\"] }]\n").expect("ours");
    let config = config.to_str().expect("UTF-8");
    let rule = "groups: [{name: g, rules: [{alert: A, expr: up, labels: {severity: SEV1}, annotations: {summary: x, \
                logs_url: 'https://x.example.org'}}]}]";
    let file = folder.path().join("rule.yaml");
    fs::write(&file, rule).expect("ours");
    let file = file.to_str().expect("UTF-8");
    lint(&[file]).says(1, &[&["unknown severity \"SEV1\"", "critical"]]);
    lint(&["--config", config, file]).says(0, &[]);
    lint(&["--config", "/nowhere", file]).says(2, &[&["/nowhere", "cannot read"]]);
}

#[test]
fn what_cannot_be_looked_at_does_not_pass() {
    let folder = copies(&["good.yaml"]);
    let path = |name: &str| folder.path().join(name).display().to_string();
    for (name, text) in [("bad.yaml", "groups:\n- name: [\n"), ("other.yaml", "kind: ConfigMap\n"), ("empty.yaml", "")]
    {
        fs::write(path(name), text).expect("ours");
    }
    for (args, words) in [
        (&[path("none.yaml")][..], &["none.yaml", "cannot read", "No such file"][..]),
        (&[path("no*.yml")], &["no file matches"]),
        (&[folder.path().display().to_string()], &["is a folder"]),
        (&[path("bad.yaml"), path("good.yaml")], &["bad.yaml:2:"]),
        (&[path("other.yaml"), path("empty.yaml")], &["no rule in any of the files"]),
        (&["--fix".to_owned(), "-".to_owned()], &["standard input cannot be edited"]),
        (&["--grafana".to_owned(), "grafana".to_owned(), path("good.yaml")], &["expected the address of a Grafana"]),
        (&[], &["required"]),
    ] {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        lint(&args).says(2, &[words]);
    }
    let all = path("*.yaml");
    fs::remove_file(path("bad.yaml")).expect("ours");
    lint(&[&all]).says(0, &[&["other.yaml: no rules"], &["3 alerting rules in 3 files: 0 faults"]]);
}

#[test]
fn standard_input_is_read() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_matrix-alertmanager-receiver"))
        .args(["lint-rules", "--format", "json", "-"])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(&fs::read(fixture("faults.yaml")).expect("a fixture")).expect("it reads");
    drop(stdin);
    let ran = Ran::of(child.wait_with_output().expect("it ends"), &[]);
    assert_eq!(found(ran.says(1, &[])).len(), 13);
    assert!(ran.out.contains("\"file\": \"standard input\""), "{}", ran.out);
    // As the help lists them.
    let faults: Value = serde_json::from_str(&ran.out).expect("JSON");
    let help = lint(&["--help"]).out;
    let listed = help.split_once("An array of {").and_then(|(_, rest)| rest.split_once('}')).expect("a list").0;
    let listed: BTreeSet<&str> = listed.split(',').map(str::trim).collect();
    assert_eq!(listed, faults[0].as_object().expect("an object").keys().map(String::as_str).collect());
}
