//! The table of `cases.toml`, what holds for every value, and the table of the docs, which is made of the same cases.

use std::fmt::Write as _;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Form, LogsUrl, Problem, Range};
use crate::{model::Timestamp, render::links::url::safe};

/// 2026-11-22 12:03 UTC.
const STARTED: Timestamp = Timestamp(1_795_348_980_000);
const FROM: &str = "1795348080000";

#[derive(serde::Deserialize)]
struct Table {
    case: Vec<Case>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    what: String,
    raw: String,
    becomes: String,
    #[serde(default)]
    queries: Vec<String>,
    #[serde(default)]
    ranges: Vec<String>,
    #[serde(default)]
    problems: Vec<String>,
    #[serde(default)]
    doc: bool,
}

fn cases() -> Vec<Case> {
    toml::from_str::<Table>(include_str!("cases.toml")).expect("TOML").case
}

fn firing() -> Range {
    Range::around(STARTED, None)
}

/// The value with the range of the alert, and whether it was put in.
fn ranged(raw: &str) -> (LogsUrl, bool) {
    let mut parsed = LogsUrl::parse(raw);
    let put = parsed.put_range(firing());
    (parsed, put)
}

/// Decoded by another's hand: the states of a finished link.
fn states_of(url: &str) -> Vec<Value> {
    let url = url::Url::parse(url).expect("a URL");
    let states = url.query_pairs().filter(|(key, _)| ["panes", "left", "right"].contains(&key.as_ref()));
    states.map(|(_, value)| serde_json::from_str(&value).unwrap_or_else(|e| panic!("{e}: {value}"))).collect()
}

#[test]
fn every_case_becomes_what_it_should() {
    let cases = cases();
    assert!(cases.len() >= 60, "{}", cases.len());
    for Case { what, raw, becomes, queries, ranges, problems, .. } in cases {
        let (parsed, put) = ranged(&raw);
        let mut found: Vec<&str> = parsed.problems().iter().map(|problem| problem.as_str()).collect();
        let mut wanted: Vec<&str> = problems.iter().map(String::as_str).collect();
        found.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(found, wanted, "{what}: {raw}");
        let url = parsed.to_url();
        let came = match (parsed.broken(), put, parsed.form()) {
            (Some(_), ..) => "text",
            (None, true, _) => "ranged",
            (None, false, None) => "same",
            (None, false, Some(_)) if url == raw => "same",
            (None, false, Some(_)) => "mended",
        };
        assert_eq!(came, becomes, "{what}: {raw}\n{url}");
        if came == "text" {
            continue;
        }
        let safe = safe(&url).unwrap_or_else(|| panic!("{what}: no link: {url}"));
        let panes = parsed.panes();
        let exprs = panes.iter().flat_map(|pane| &pane.queries).map(|query| query["expr"].as_str().unwrap_or("none"));
        assert_eq!(exprs.collect::<Vec<_>>(), queries, "{what}");
        let reported = |(from, to): (&str, &str)| {
            if (from, to) == (FROM, "now") { "alert".to_owned() } else { format!("{from} {to}") }
        };
        let of_panes: Vec<String> = panes.iter().map(|pane| pane.range.map(reported).unwrap_or_default()).collect();
        assert_eq!(of_panes, ranges, "{what}");
        // What was decided is what the link says, to any reader of URLs.
        if parsed.form().is_some() {
            assert_eq!(states_of(&safe), parsed.states().cloned().collect::<Vec<_>>(), "{what}");
        }
        if parsed.form() == Some(Form::Panes) {
            let version = safe.split(['?', '&']).filter(|param| param.starts_with("schemaVersion=")).count();
            assert!(version == 1 && !safe.contains("schemaVersion=0"), "{safe}");
        }
        assert!(safe.is_ascii() && !safe.contains([' ', '"', '{', '}', '|', '<', '>', '\n']), "{what}: {safe}");
        // Twice is as good as once.
        let (again, put) = ranged(&safe);
        assert_eq!((again.to_url(), put), (safe.clone(), false), "{what}");
        assert!(
            again
                .problems()
                .iter()
                .all(|problem| { matches!(problem, Problem::NoState | Problem::NoDatasource | Problem::NoQuery) })
        );
    }
}

#[test]
fn what_is_no_state_keeps_its_bytes() {
    let raw = "https://g.example.org/x/explore?a=%41+b&schemaVersion=1&kiosk&panes=%7B%22abc%22:%7B%22datasource%22:\
               %22loki%22%7D%7D&b=%7b#c%20d";
    let (parsed, put) = ranged(raw);
    assert!(put);
    let url = parsed.to_url();
    assert!(
        url.starts_with("https://g.example.org/x/explore?a=%41+b&schemaVersion=1&kiosk&panes=%7B%22abc%22"),
        "{url}"
    );
    assert!(url.ends_with("&b=%7b#c%20d"), "{url}");
}

#[test]
fn the_range_is_around_the_alert_in_thirteen_digits() {
    let range = |starts: i64, ends: Option<i64>| Range::around(Timestamp(starts), ends.map(Timestamp)).strings();
    let pair = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    assert_eq!(range(STARTED.0, None), pair(FROM, "now"));
    assert_eq!(range(STARTED.0, Some(STARTED.0 + 60_000)), pair(FROM, "1795349340000"));
    // An end before the start, and times that no clock has.
    assert_eq!(range(STARTED.0, Some(0)), pair(FROM, "1795349280000"));
    assert_eq!(range(i64::MIN, None), pair("1000000000000", "now"));
    assert_eq!(range(i64::MAX, Some(i64::MAX)), pair("9999999999999", "9999999999999"));
}

#[test]
fn problems_have_a_word_each() {
    let mut words: Vec<&str> = Problem::ALL.iter().map(|problem| problem.as_str()).collect();
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), Problem::ALL.len());
    let (parsed, put) = ranged(&format!("https://g.example.org/{}", "x".repeat(20_000)));
    assert_eq!((parsed.broken(), put), (Some(Problem::TooLong), false));
    assert_eq!(LogsUrl::parse(&"{".repeat(1_000_000)).broken(), Some(Problem::TooLong));
}

fn expr() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => "\\{[a-z]{1,6}=\"[a-z0-9-]{0,9}\"\\}( \\|[=~] \"[a-z .+*&#?=%\\\\/'<>]{0,12}\")?",
        1 => "[ -~]{0,40}",
        1 => ".{0,20}",
    ]
}

fn time() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!("")),
        Just(json!("now-1h")),
        Just(json!("now")),
        Just(json!("1795340000000")),
        Just(json!(1_795_340_000_000_i64)),
        Just(json!({})),
        any::<i64>().prop_map(|number| json!(number)),
    ]
}

fn pane() -> impl Strategy<Value = Value> {
    let range = prop::option::of((prop::option::of(time()), prop::option::of(time())));
    (prop::collection::vec(expr(), 0..3), range, any::<u32>()).prop_map(|(exprs, range, lines)| {
        let queries: Vec<Value> = exprs.iter().map(|expr| json!({ "expr": expr, "maxLines": lines })).collect();
        let mut pane = json!({ "datasource": "loki", "queries": queries });
        if let Some((from, to)) = range {
            pane["range"] = json!({});
            for (key, time) in [("from", from), ("to", to)] {
                if let Some(time) = time {
                    pane["range"][key] = time;
                }
            }
        }
        pane
    })
}

fn state() -> impl Strategy<Value = (&'static str, Value)> {
    prop_oneof![
        pane().prop_map(|pane| ("left", pane)),
        prop::collection::btree_map("[a-z]{3}", pane(), 1..3).prop_map(|panes| ("panes", json!(panes))),
    ]
}

fn without_range(mut state: Value) -> Value {
    let panes: Vec<&mut Value> = if state.get("datasource").is_some() {
        vec![&mut state]
    } else {
        state.as_object_mut().map(|panes| panes.values_mut().collect()).unwrap_or_default()
    };
    for pane in panes {
        pane.as_object_mut().expect("a pane").remove("range");
    }
    state
}

/// Ways in which people and programs write JSON into a URL. None of them has control characters in it, or blanks other
/// than the usual one: those become usual ones, like everywhere.
fn written(json: &str, style: u8) -> String {
    let encoded =
        |c: char| if c.is_control() { urlencoding::encode(&c.to_string()).into_owned() } else { c.to_string() };
    match style {
        0 => urlencoding::encode(json).into_owned(),
        1 => url::form_urlencoded::byte_serialize(json.as_bytes()).collect(),
        // Raw: what reads as encoded, or as HTML, would be, so that alone is encoded.
        2 => json.replace('%', "%25").replace('&', "%26").chars().map(encoded).collect(),
        // As some browsers copy it.
        _ => json
            .replace('%', "%25")
            .replace('"', "%22")
            .replace(' ', "%20")
            .replace('+', "%2B")
            .replace('&', "%26")
            .replace('#', "%23")
            .chars()
            .map(encoded)
            .collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_query_stays_and_every_pane_has_a_range((name, state) in state(), style in 0_u8..4, schema: bool) {
        let schema = if schema { "schemaVersion=1&" } else { "" };
        let raw = format!("https://g.example.org/explore?{schema}{name}={}&orgId=1", written(&state.to_string(), style));
        let (parsed, _) = ranged(&raw);
        prop_assert_eq!(parsed.broken(), None, "{}", raw);
        let url = safe(&parsed.to_url()).expect("a link");
        let decoded = states_of(&url);
        prop_assert_eq!(decoded.len(), 1);
        prop_assert_eq!(without_range(decoded[0].clone()), without_range(state), "{}", raw);
        prop_assert!(parsed.panes().iter().all(|pane| pane.range.is_some()));
        prop_assert!(url.contains("orgId=1") && (name == "left" || url.contains("schemaVersion=1")));
        let (again, put) = ranged(&url);
        prop_assert_eq!((again.to_url(), put), (url, false));
    }

    /// Whatever it is, it is looked at without a panic, and twice is as good as once.
    #[test]
    fn nothing_is_too_odd(
        tail in prop_oneof![".{0,80}", "[?&=#%{}\\[\\]\":,a-f0-9 \\\\+;]{0,60}"],
        head in prop::sample::select(vec!["", "https://g.example.org/explore?panes=", "http://g/explore?left=", "https://"]),
    ) {
        let (parsed, _) = ranged(&format!("{head}{tail}"));
        if parsed.broken().is_none() {
            let url = safe(&parsed.to_url()).expect("a link");
            let (again, put) = ranged(&url);
            prop_assert_eq!(again.broken(), None, "{}", url);
            let twice = safe(&again.to_url());
            prop_assert_eq!((twice, put), (Some(url), false));
        }
    }
}

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/LOGS.md");
const BEGIN: &str = "<!-- made from src/render/links/explore/cases.toml -->\n";
const END: &str = "<!-- end -->\n";

/// The table of the docs: a value, and the link it becomes for an alert since 12:03 UTC on 22 November 2026, decoded.
fn docs_table() -> String {
    let code = |text: &str| {
        let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let flat = flat.replace("https://grafana.example.org", "…").replace('|', "\\|");
        format!("`` {flat} ``")
    };
    let mut table = "| `logs_url` | before | after |\n|---|---|---|\n".to_owned();
    for case in cases().into_iter().filter(|case| case.doc) {
        let (parsed, put) = ranged(&case.raw);
        let url = safe(&parsed.to_url()).unwrap_or_default();
        let after = match (parsed.broken(), url == case.raw) {
            (Some(problem), _) => format!("text: {problem}"),
            (None, true) => "as it is".to_owned(),
            (None, false) if put || parsed.form().is_some() => {
                let plain = url::form_urlencoded::parse(
                    format!("x={}", url.replace('&', "%26").replace('=', "%3D")).as_bytes(),
                )
                .next()
                .map(|(_, value)| value.into_owned());
                code(&plain.unwrap_or_default())
            }
            (None, false) => format!("{}, encoded", code(&url)),
        };
        let _ = writeln!(table, "| {} | {} | {after} |", case.what, code(&case.raw));
    }
    table
}

/// `UPDATE_DOCS=1` writes it.
#[test]
fn the_docs_show_what_becomes_of_links() {
    let docs = std::fs::read_to_string(DOCS).expect("docs/LOGS.md");
    let (before, rest) = docs.split_once(BEGIN).expect("the mark before the table");
    let (table, after) = rest.split_once(END).expect("the mark behind it");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(DOCS, format!("{before}{BEGIN}{}{END}{after}", docs_table())).expect("docs/LOGS.md");
    } else {
        assert_eq!(table, docs_table(), "run this test with UPDATE_DOCS=1");
    }
}
