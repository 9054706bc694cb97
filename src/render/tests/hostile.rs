//! Alerts that mean harm.

use super::rendered::card;
use super::{
    check::{assert_sound, show},
    samples::{alert, at, incident, style},
};
use crate::model::Form;
use crate::{model::Incident, render::Message};

fn shown(incident: &Incident) -> Message {
    let message = card(&style(), incident, Some(at(12, 3)), at(12, 30), Form::Full);
    assert_sound(&message);
    message
}

#[test]
fn markup_stays_text() {
    let alert = alert(
        "1",
        &[
            ("alertname", "<strong>X</strong>"),
            ("severity", "<img src=x onerror=alert(1)>"),
            ("a\"b", "</code><a href='javascript:1'>"),
            ("<b>", "&lt;b&gt;"),
        ],
        &[("summary", "</span><script>alert(1)</script>"), ("description", "<h1>Hello</h1>\n\"quoted\" & 'so'")],
    );
    insta::assert_snapshot!(show(&shown(&incident(vec![alert]))));
}

#[test]
fn no_link_but_http() {
    for url in [
        "javascript:alert(1)",
        " JavaScript:alert(1)",
        "java\nscript:alert(1)",
        "data:text/html,<script>",
        "//example.org/x",
        "/graph",
        "https://",
        "https:///",
        "ftp://example.org",
        "http://[::1",
        "matrix:u/alice:example.org",
    ] {
        let alert = alert("1", &[("alertname", "X")], &[("runbook_url", url), ("logs_url", url), ("summary", "s")]);
        let html = shown(&incident(vec![alert])).html;
        assert!(!html.contains("Runbook") && !html.contains("Logs"), "{url}: {html}");
    }
}

#[test]
fn no_credentials_in_links() {
    let mut alert = alert("1", &[("alertname", "X")], &[("runbook_url", "https://bob:secret@example.org/x?a=b@c")]);
    alert.doc.generator_url = "http://token@prometheus:9090/graph".to_owned();
    let mut incident = incident(vec![alert]);
    incident.doc.external_url = "https://admin:secret@alertmanager.example.org/".to_owned();
    let message = shown(&incident);
    assert!(!message.html.contains("secret") && !message.html.contains("token"), "{}", message.html);
    assert!(message.body.contains("Runbook: https://example.org/x?a=b@c\n"), "{}", message.body);
    assert!(message.body.contains("Source: http://prometheus:9090/graph\n"));
    assert!(message.body.contains("Silence: https://alertmanager.example.org/#/silences/new?filter=%7Balertname"));
}

#[test]
fn directions_are_isolated() {
    let labels = [("alertname", "שלום"), ("severity", "critical"), ("team", "\u{202E}evil\u{202C}"), ("שם", "ערך")];
    let long = "מילה ".repeat(60);
    let alert = alert("1", &labels, &[("summary", &long), ("description", "\u{2067}abc אבג")]);
    insta::assert_snapshot!(show(&shown(&incident(vec![alert]))));
}

#[test]
fn control_characters_become_blanks() {
    let alert = alert(
        "1",
        &[("alertname", "A\u{0}B\u{1b}[31mC"), ("x", "1\r\n2\t3"), ("\u{200b}", "y"), ("z", "\u{200b}")],
        &[("summary", "one\u{7}two"), ("description", "a\u{2028}b\u{85}c")],
    );
    insta::assert_snapshot!(show(&shown(&incident(vec![alert]))), @r#"
    ⚪ <strong>FIRING</strong> <strong>A B [31mC</strong> x=1 2 3 — one two<br>
    a<br>
    b c<br>
    since 12:03 UTC · <a href="https://alertmanager.example.org/#/silences/new?filter=%7Balertname%3D%22A%00B%1B%5B31mC%22%2C%20x%3D%221%0D%5Cn2%093%22%2C%20z%3D%22%E2%80%8B%22%2C%20%22%E2%80%8B%22%3D%22y%22%7D">Silence</a>
    --
    ⚪ FIRING A B [31mC x=1 2 3 — one two
    a
    b c
    since 12:03 UTC
    Silence: https://alertmanager.example.org/#/silences/new?filter=%7Balertname%3D%22A%00B%1B%5B31mC%22%2C%20x%3D%221%0D%5Cn2%093%22%2C%20z%3D%22%E2%80%8B%22%2C%20%22%E2%80%8B%22%3D%22y%22%7D
    "#);
}
