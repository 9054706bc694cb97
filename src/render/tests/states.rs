//! A card in every state.

use super::rendered::card;
use super::{
    check::{assert_sound, show},
    samples::{absent, alert, api_down, at, crash_loop, disk_pressure, incident, resolved, style},
};
use crate::{
    config,
    model::{Alert, Form, Incident, IncidentState},
    render::{Style, StyleError},
};

fn shown(incident: &Incident) -> String {
    show(&card(&style(), incident, Some(at(12, 3)), at(12, 30), Form::Full))
}

fn first_line(incident: &Incident) -> String {
    let message = card(&style(), incident, Some(at(12, 3)), at(12, 30), Form::Full);
    assert_sound(&message);
    message.body.lines().next().unwrap().to_owned()
}

#[test]
fn quiet() {
    let mut one = crash_loop();
    one.alerts[0] = absent(one.alerts[0].clone(), at(12, 20));
    one.state = IncidentState::Quiet;
    insta::assert_snapshot!(shown(&one));

    let mut several = disk_pressure();
    several.alerts.retain(|alert| !alert.fingerprint.ends_with('2'));
    several.alerts = several.alerts.into_iter().map(|alert| absent(alert, at(12, 25))).collect();
    several.state = IncidentState::Quiet;
    insta::assert_snapshot!(shown(&several));

    several.alerts[0] = resolved(several.alerts[0].clone(), at(12, 25));
    assert_eq!(first_line(&several), "🔕 NO LONGER REPORTED NodeDiskPressure the-cluster · 2 alerts, 1 resolved");
}

#[test]
fn unlisted() {
    let mut incident = api_down();
    incident.state = IncidentState::Unlisted;
    incident.doc.truncated = 20;
    insta::assert_snapshot!(shown(&incident));
}

#[test]
fn stale() {
    let mut one = crash_loop();
    one.state = IncidentState::Stale;
    assert_eq!(first_line(&one), "⚪ NO NEWS PodCrashLooping since 12:25 UTC — Pod media/jellyfin-0 is crash looping");
    let mut several = disk_pressure();
    several.state = IncidentState::Stale;
    insta::assert_snapshot!(shown(&several));
}

#[test]
fn several_resolved() {
    let mut incident = disk_pressure();
    incident.alerts = incident.alerts.into_iter().map(|alert| resolved(alert, at(12, 25))).collect();
    incident.state = IncidentState::Resolved;
    insta::assert_snapshot!(shown(&incident));
}

#[test]
fn some_are_not_listed() {
    let mut incident = crash_loop();
    incident.doc.truncated = 7;
    assert_eq!(
        first_line(&incident),
        "🔴 CRITICAL PodCrashLooping · 1 firing, 7 not listed — Pod media/jellyfin-0 is crash looping"
    );
}

#[test]
fn severities() {
    let of = |severity: &str| -> Alert { alert(severity, &[("alertname", "X"), ("severity", severity)], &[]) };
    assert_eq!(first_line(&incident(vec![of("page")])), "🔴 CRITICAL X");
    assert_eq!(first_line(&incident(vec![of(" Info")])), "🔵 INFO X");
    assert_eq!(first_line(&incident(vec![of("major")])), "⚪ MAJOR X");
    assert_eq!(first_line(&incident(vec![of("")])), "⚪ FIRING X");
    assert_eq!(first_line(&incident(vec![of("a\nvery long word for a severity")])), "⚪ A VERY LONG WORD… X");
    assert_eq!(first_line(&incident(vec![of("info"), of("critical")])), "🔴 CRITICAL X · 2 firing");
    assert_eq!(first_line(&incident(vec![of("major"), of("minor")])), "⚪ FIRING X · 2 firing");
    // What is absent does not fire, so it does not lead.
    let gone = absent(of("critical"), at(12, 20));
    assert_eq!(first_line(&incident(vec![of("warning"), gone])), "🟠 WARNING X · 1 firing, 1 no longer reported");
}

#[test]
fn times_in_the_zone_of_the_reader() {
    let berlin = config::Display { timezone: "Europe/Berlin".to_owned(), ..config::Display::default() };
    let style = Style::new(&berlin, &config::Links::default()).unwrap();
    let mut incident = crash_loop();
    let last_line = |incident: &Incident| {
        let message = card(&style, incident, Some(at(12, 3)), at(12, 30), Form::Counts);
        message.body.lines().find(|line| line.contains("CET")).unwrap().to_owned()
    };
    assert_eq!(last_line(&incident), "since 13:03 CET");
    // In Berlin it is tomorrow already.
    incident.alerts[0].starts_at = at(23, 30);
    assert_eq!(last_line(&incident), "since 23 Nov 00:30 CET");
    incident.alerts[0] = resolved(incident.alerts[0].clone(), at(22, 0));
    incident.state = IncidentState::Resolved;
    assert_eq!(last_line(&incident), "23 Nov 00:30 CET", "an end before the start is no negative time");
}

#[test]
fn a_zone_that_does_not_exist() {
    let nowhere = config::Display { timezone: "Europe/Nowhere".to_owned(), ..config::Display::default() };
    let error: StyleError = Style::new(&nowhere, &config::Links::default()).unwrap_err();
    assert!(error.to_string().contains("Europe/Nowhere"));
}
