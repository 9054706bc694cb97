//! Which links a message has, and what their URLs look like.

use super::rendered::card;
use super::samples::{alert, at, incident, style};
use crate::{
    config::{Display, Links, Rewrite},
    model::{Alert, Form, Incident},
    render::{
        Style,
        links::{alert_links, link::LinkKind},
    },
};

/// The links of a card as the plain body tells them.
fn links_of(style: &Style, incident: &Incident) -> Vec<String> {
    let message = card(style, incident, None, at(12, 30), Form::Full);
    super::check::assert_sound(&message);
    message.body.lines().filter(|line| line.contains("://")).map(ToOwned::to_owned).collect()
}

fn logs(url: &str) -> Option<String> {
    let alert = alert("1", &[], &[("logs_url", url)]);
    alert_links::of_kind(&style(), &incident(Vec::new()), &alert, LinkKind::Logs).map(|link| link.url)
}

#[test]
fn what_is_raw_is_encoded_and_what_is_encoded_stays() {
    let cases = [
        (
            "https://g.example.org/e?q={a=\"b\"} |= \"x y\"",
            "https://g.example.org/e?q=%7Ba=%22b%22%7D%20%7C=%20%22x%20y%22",
        ),
        ("https://g.example.org/e?q=%7Ba%3D%22b%22%7D", "https://g.example.org/e?q=%7Ba%3D%22b%22%7D"),
        ("https://g.example.org/e?q=100%&r=%7", "https://g.example.org/e?q=100%25&r=%257"),
        ("https://g.example.org/e?q=%7b{", "https://g.example.org/e?q=%7b%7B"),
        ("  https://g.example.org/a b#c d\n", "https://g.example.org/a%20b#c%20d"),
        ("https://g.example.org/ü?q=ü", "https://g.example.org/%C3%BC?q=%C3%BC"),
        ("https://bücher.example/", "https://xn--bcher-kva.example/"),
        ("HTTPS://G.example.org", "https://g.example.org/"),
        ("http://[2001:db8::1]:3000/x", "http://[2001:db8::1]:3000/x"),
    ];
    for (raw, wanted) in cases {
        assert_eq!(logs(raw).as_deref(), Some(wanted), "{raw}");
    }
    assert_eq!(logs(&format!("https://g.example.org/{}", "x".repeat(5000))), None, "too long to open");
    assert_eq!(logs("http://{x}/"), None, "no host");
}

#[test]
fn every_kind_in_order() {
    let mut alert = alert(
        "1",
        &[("alertname", "X")],
        &[
            ("dashboard", "https://d.example.org/3"),
            ("runbook", "https://r.example.org/2"),
            ("logs_url", "https://l.example.org/"),
        ],
    );
    alert.doc.generator_url = "https://s.example.org/".to_owned();
    alert.doc.panel_url = "https://p.example.org/2".to_owned();
    alert.doc.silence_url = "https://grafana.example.org/silence/new".to_owned();
    let mut incident = incident(vec![alert]);
    let wanted = [
        "Logs: https://l.example.org/",
        "Source: https://s.example.org/",
        "Runbook: https://r.example.org/2",
        "Dashboard: https://d.example.org/3",
        "Panel: https://p.example.org/2",
        "Silence: https://grafana.example.org/silence/new",
    ];
    assert_eq!(links_of(&style(), &incident), wanted);

    let doc = &mut incident.alerts[0].doc;
    doc.dashboard_url = "https://d.example.org/2".to_owned();
    for (name, url) in [("runbook_url", "https://r.example.org/1"), ("panel_url", "https://p.example.org/1")] {
        doc.annotations.insert(name.to_owned(), url.to_owned());
    }
    let links = links_of(&style(), &incident);
    assert_eq!(
        links[2..5],
        ["Runbook: https://r.example.org/1", "Dashboard: https://d.example.org/2", "Panel: https://p.example.org/1",]
    );
}

#[test]
fn a_silence_has_all_labels_filled_in() {
    let of = |pairs: &[(&str, &str)], external_url: &str| {
        let mut incident = incident(vec![alert("1", pairs, &[])]);
        incident.doc.external_url = external_url.to_owned();
        let link = links_of(&style(), &incident).pop()?;
        let (base, filter) = link.split_once("#/silences/new?filter=").unwrap();
        assert!(!filter.contains('+'));
        Some((base.to_owned(), urlencoding::decode(filter).unwrap().into_owned()))
    };
    let some = |base: &str, filter: &str| Some((format!("Silence: {base}"), filter.to_owned()));
    assert_eq!(
        of(&[("b", "x + y"), ("alertname", "A")], "http://am:9093/prefix/"),
        some("http://am:9093/prefix/", "{alertname=\"A\", b=\"x + y\"}")
    );
    assert_eq!(of(&[("a", "q\"b\\n\nn")], "http://am"), some("http://am/", "{a=\"q\\\"b\\\\n\\nn\"}"));
    assert_eq!(
        of(&[("my.label", "1"), ("1x", "2")], "http://am"),
        some("http://am/", "{\"1x\"=\"2\", \"my.label\"=\"1\"}")
    );
    assert_eq!(of(&[("a", "b")], ""), None);
    assert_eq!(of(&[], "http://am"), None, "it would silence everything");
}

#[test]
fn shared_links_stand_once() {
    let with = |fingerprint: &str, runbook: &str| -> Alert {
        alert(
            fingerprint,
            &[("alertname", "X"), ("node", fingerprint)],
            &[("runbook_url", runbook), ("logs_url", "https://l.example.org/")],
        )
    };
    let mut incident = incident(vec![with("a", "https://r.example.org/1"), with("b", "https://r.example.org/2")]);
    incident.doc.external_url.clear();
    let wanted =
        ["  Runbook: https://r.example.org/1", "  Runbook: https://r.example.org/2", "Logs: https://l.example.org/"];
    assert_eq!(links_of(&style(), &incident), wanted);
    // One that no longer fires has no say.
    incident.alerts[1] = super::samples::resolved(incident.alerts[1].clone(), at(12, 20));
    assert_eq!(links_of(&style(), &incident), ["Logs: https://l.example.org/", "Runbook: https://r.example.org/1"]);
}

#[test]
fn prefixes_are_rewritten() {
    let rule = |from: &str, to: &str| Rewrite { from: from.to_owned(), to: to.to_owned() };
    let rewrite = vec![
        rule("http://Prometheus:80", "https://prometheus.example.org"),
        rule("http://am:9093/", "https://am.example.org/x/"),
        rule("http://am", "https://never.example.org"),
        rule("https://r.example.org/a", "javascript:alert(1)//"),
    ];
    let style = Style::new(&Display::default(), &Links { rewrite, grafana: None }).unwrap();
    let mut alert = alert(
        "1",
        &[("a", "b")],
        &[("runbook_url", "https://r.example.org/a/b"), ("dashboard_url", "https://r.example.org/ab")],
    );
    alert.doc.generator_url = "http://prometheus/graph?g0.expr=up".to_owned();
    let mut incident = incident(vec![alert]);
    incident.doc.external_url = "http://am:9093".to_owned();
    assert_eq!(
        links_of(&style, &incident),
        [
            "Source: https://prometheus.example.org/graph?g0.expr=up",
            "Dashboard: https://r.example.org/ab",
            "Silence: https://am.example.org/x/#/silences/new?filter=%7Ba%3D%22b%22%7D",
        ]
    );
}
