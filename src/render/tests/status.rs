//! The status page as text.

use std::time::Duration;

use super::samples::{absent, alert, at, crash_loop, disk_pressure, incident, labels, style};
use crate::{
    model::{AlertState, Timestamp},
    render::status::{
        Backlog, Bar, DeliveryRow, IncidentRow, LetterRow, Level, Link, List, Part, Picture, RoomRow, SCRIPT, STYLE,
        StatementRow, StatusPage, Times, WaitingRow, event_link, room_link, short, summarize, words,
    },
};

const EVIL: &str = "</main><script>alert(1)</script><img src=x onerror=alert(1)>\" onclick='x' \u{202e}&amp;";

fn times() -> Times {
    Times::new("Europe/Berlin", at(12, 30), 0)
}

/// A page with this text wherever there is text from elsewhere.
fn page(text: &str) -> StatusPage {
    let moment = times().at(at(12, 3));
    let link = || Link { words: words(text), url: Some(event_link("!room:example.org", "$event", "example.org")) };
    let summary = summarize(&style(), &crash_loop(), &[(AlertState::Firing, 1)], false);
    let summary =
        crate::render::status::IncidentSummary { name: words(text), place: words(text), what: words(text), ..summary };
    StatusPage {
        level: Level::Degraded,
        reasons: vec![words(text), words(text)],
        replica: (!text.is_empty()).then(|| words(text)),
        parts: vec![Part {
            name: "Homeserver",
            level: Level::Degraded,
            words: words(text),
            details: vec![words(text)],
            last: Some(("Last one", moment.clone())),
            runbook: Some("Homeserver down"),
        }],
        rooms: vec![RoomRow {
            room: link(),
            address: words(text),
            level: Level::Degraded,
            words: words(text),
            since: Some(moment.clone()),
            until: Some(times().at(at(12, 31))),
            notice: words(text),
            runbook: Some("Rate limited"),
            waiting: 3,
            oldest: Some(moment.clone()),
        }],
        backlog: Backlog {
            level: Level::Ok,
            words: words(text),
            events: vec![words(text)],
            runbook: None,
            cards: List::of(
                vec![WaitingRow { summary: summary.clone(), others: 2, room: link(), since: moment.clone() }],
                3,
            ),
        },
        deliveries: vec![DeliveryRow { at: moment.clone(), room: link(), event: link(), took: short(Duration::ZERO) }],
        picture: Picture {
            span: Duration::from_hours(6),
            each: Duration::from_mins(5),
            bars: vec![Bar { accepted: 2.0, delivered: 1.0, seconds: 0.5 }; 72],
        },
        incidents: Some(List::of(
            vec![IncidentRow {
                summary,
                statements: vec![StatementRow { words: words(text), at: moment.clone(), said: words(text) }],
                route: "default".to_owned(),
                since: moment.clone(),
                heard: moment.clone(),
                cards: vec![link(), Link { url: None, ..link() }],
            }],
            60,
        )),
        letters: Some(List::of(
            vec![LetterRow {
                at: moment.clone(),
                room: link(),
                kind: "edit",
                says: words(text),
                reason: words(text),
                id: words(text),
            }],
            1,
        )),
        version: "0.1.0".to_owned(),
        started: Some(moment.clone()),
        made: moment,
    }
}

/// Everything between `<` and `>`, script and style sheet left out.
fn tags(html: &str) -> Vec<&str> {
    let mut tags = Vec::new();
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        let end = at + rest[at..].find('>').expect("a whole tag");
        tags.push(&rest[at + 1..end]);
        rest = &rest[end + 1..];
        for (tag, end) in [("style", "</style"), ("script", "</script")] {
            if tags.last() == Some(&tag) {
                rest = &rest[rest.find(end).expect("its end")..];
            }
        }
    }
    tags
}

/// The same tags, whatever the text in between is made of.
#[test]
fn text_from_elsewhere_never_becomes_markup() {
    let (plain, evil) = (page("plain").html().expect("a page"), page(EVIL).html().expect("a page"));
    assert!(tags(&plain).len() > 100);
    assert_eq!(tags(&plain), tags(&evil));
    assert!(!evil.contains('\u{202e}'));
}

/// The policy lets no attribute bring style or script, and knows style sheet and script by their hashes.
#[test]
fn the_page_keeps_to_its_policy() {
    let html = page("plain").html().expect("a page");
    for tag in tags(&html) {
        let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        let name_of = |attribute: &str| attribute.split_once('=').map(|(name, _)| name.to_owned());
        let names: Vec<_> = attributes.split(' ').filter_map(name_of).collect();
        assert!(!names.iter().any(|name| name.starts_with("on") || name == "style"), "<{tag}>");
        if name == "a" {
            assert!(attributes.starts_with("href=\"https://matrix.to/#/"), "<{tag}>");
        }
    }
    assert!(html.contains(&format!("<style>{STYLE}</style>")) && html.contains(&format!("<script>{SCRIPT}</script>")));
    for text in [STYLE, SCRIPT] {
        assert!(!text.contains("</") && !text.contains("<!--") && !text.contains('\r'));
    }
    assert!(!STYLE.contains("url(") && !STYLE.contains("@import"), "nothing is loaded from elsewhere");
}

#[test]
fn what_a_reader_is_told() {
    let html = page("plain").html().expect("a page");
    for wanted in [
        "<title>Degraded · alerts to Matrix</title>",
        "<html lang=\"en\">",
        "<time datetime=\"2026-11-22T13:03:00+01:00\" title=\"2026-11-22 13:03:00 CET\">27 min ago</time>",
        "tried again <time datetime=\"2026-11-22T13:31:00+01:00\" title=\"2026-11-22 13:31:00 CET\">in 1 min</time>",
        "What to do: docs/RUNBOOK.md, “Homeserver down”.",
        "and 59 more, less severe or newer",
        "and 2 more</p>",
        "1 held",
        "aria-label=\"Webhooks accepted: 144, at most 2 in 5 min\"",
        "aria-label=\"Time to the room: 500 ms on average, at most 500 ms\"",
    ] {
        assert!(html.contains(wanted), "{wanted} in\n{html}");
    }
    let quiet = StatusPage { picture: Picture { bars: vec![Bar::default(); 60], ..page("").picture }, ..page("") };
    assert!(quiet.html().expect("a page").contains("aria-label=\"Webhooks accepted: none\""));
    let blind = StatusPage { incidents: None, letters: None, ..page("") };
    assert_eq!(blind.html().expect("a page").matches("The store does not answer in time.").count(), 2);
}

#[test]
fn links_lead_to_the_event_whatever_the_ids_are_made_of() {
    assert_eq!(
        event_link("!a/b?c:example.org", "$e#f", "example.org:8448"),
        "https://matrix.to/#/%21a%2Fb%3Fc%3Aexample.org/%24e%23f?via=example.org%3A8448"
    );
    assert_eq!(room_link("!v12", "example.org"), "https://matrix.to/#/%21v12?via=example.org");
}

#[test]
fn an_incident_is_told_by_what_is_known_of_it() {
    let firing = |count| vec![(AlertState::Firing, count)];
    let summary = summarize(&style(), &crash_loop(), &firing(1), false);
    assert_eq!(
        (summary.emoji.as_str(), summary.word.as_str(), summary.name.as_str()),
        ("🔴", "CRITICAL", "PodCrashLooping")
    );
    assert_eq!((summary.place.as_str(), summary.counts.as_str()), ("media/jellyfin-0", "1 firing"));
    assert_eq!(summary.what, "Pod media/jellyfin-0 is crash looping");

    let counts = [(AlertState::Absent, 1), (AlertState::Firing, 2), (AlertState::Resolved, 1)];
    let summary = summarize(&style(), &disk_pressure(), &counts, false);
    assert_eq!((summary.name.as_str(), summary.what.as_str()), ("NodeDiskPressure", ""));
    assert_eq!(summary.counts, "2 firing, 1 no longer reported, 1 resolved");

    // A few of many: nothing that the others may belie.
    let summary = summarize(&style(), &crash_loop(), &firing(700), false);
    assert_eq!((summary.name.as_str(), summary.what.as_str(), summary.place.as_str()), ("700 alerts", "", ""));
    let mut grouped = crash_loop();
    grouped.doc.group_labels = labels(&[("alertname", "PodCrashLooping"), ("namespace", "media")]);
    grouped.doc.truncated = 3;
    let summary = summarize(&style(), &grouped, &firing(1000), true);
    assert_eq!((summary.name.as_str(), summary.place.as_str()), ("PodCrashLooping", "media"));
    assert_eq!(summary.counts, "1000+ firing, 3 not listed");

    let gone = absent(alert("a", &[("alertname", "A"), ("severity", "critical")], &[]), at(12, 0));
    let summary = summarize(&style(), &incident(vec![gone]), &[(AlertState::Absent, 1)], false);
    assert_eq!((summary.emoji.as_str(), summary.word.as_str()), ("🔕", "no longer reported"));
}

#[test]
fn times_near_and_exact() {
    let times = times();
    for (at, expected) in [(at(12, 30), "just now"), (at(12, 27), "3 min ago"), (at(13, 40), "in 1 h 10 min")] {
        assert_eq!(times.at(at).near, expected);
    }
    assert_eq!(times.now().exact, "2026-11-22 13:30:00 CET");
    // No time that comes from elsewhere is beyond what can be summary.
    for odd in [i64::MIN, i64::MAX] {
        assert!(!times.at(Timestamp(odd)).exact.is_empty());
    }
    for (milliseconds, expected) in
        [(0, "0 ms"), (999, "999 ms"), (3_240, "3.2 s"), (59_990, "60.0 s"), (840_000, "14 min")]
    {
        assert_eq!(short(Duration::from_millis(milliseconds)), expected);
    }
}
