//! Several incidents in one message.

use super::rendered::{digest, digest_reply, green_notice};
use super::{
    cards::{design, without_urls},
    check::{assert_sound, show, words_of},
    samples::{absent, at, note, style},
    storms::{firing, nine, nth, over, storm},
};
use crate::{
    model::{Form, Incident, IncidentId, IncidentState, Note, NoteKind},
    render::{MAX_BYTES, Message, digest::storm::Digest, text},
};

fn refs(incidents: &[Incident]) -> Vec<&Incident> {
    incidents.iter().collect()
}

fn shown(incidents: &[Incident], must_hold_all: bool) -> Digest {
    let digest = digest(&style(), &refs(incidents), Some(at(12, 31)), at(12, 50), Form::Full, must_hold_all);
    assert_sound(&digest.message);
    assert_named(&digest, incidents);
    digest
}

/// What is said to be named has a line of its own with its name in it.
pub(super) fn assert_named(digest: &Digest, incidents: &[Incident]) {
    let lines: Vec<&str> = digest.message.body.lines().filter(|line| line.starts_with("- ")).collect();
    assert!(lines.len() >= digest.named.len(), "{} lines for {} named", lines.len(), digest.named.len());
    for (line, id) in lines.iter().zip(&digest.named) {
        let incident = incidents.iter().find(|incident| incident.id == *id).expect("one that was given");
        if let [alert] = &*incident.alerts {
            let name = text::clean(alert.doc.labels.get("alertname").map_or("", String::as_str));
            assert!(name.chars().count() > 30 || line.contains(&name), "{name} is not in {line}");
        }
    }
}

fn first_line(message: &Message) -> &str {
    message.body.lines().next().unwrap()
}

#[test]
fn as_the_design_shows_it() {
    let nine = nine();
    let message = shown(&nine, false).message;
    let wanted = r#"
🌩 <strong>9 incidents</strong>, 2 critical: KubeNodeNotReady controlplane2, PodCrashLooping media · 6 more firing · 1 resolved
<ul>
<li>🔴 <strong>KubeNodeNotReady</strong> controlplane2 — node has been unready for 15 min · <a href="…">Logs</a></li>
<li>🔴 <strong>PodCrashLooping</strong> media · 12 firing — restarted 5 times in 15 min · <a href="…">Logs</a></li>
"#;
    assert!(without_urls(&message.html).starts_with(&design(wanted)), "{}", message.html);
    assert!(message.html.contains("<li>🟢 <del>TargetDown</del> node-exporter resolved after 3 min</li>\n</ul>"));
    assert!(without_urls(&message.html).ends_with(r#"</ul>since 12:31 UTC · <a href="…">Alertmanager</a>"#));
    insta::assert_snapshot!(show(&message));

    let mut firing = nine;
    firing[1] = nth(8, vec![super::storms::firing("9", "TargetDown", "info", &[("job", "node-exporter")], "")]);
    assert_eq!(
        first_line(&shown(&firing, false).message),
        "🌩 9 incidents, 2 critical: KubeNodeNotReady controlplane2, PodCrashLooping media · 7 more firing"
    );
}

#[test]
fn two() {
    insta::assert_snapshot!(show(&shown(&storm(8, 3)[6..], false).message));
}

#[test]
fn every_state() {
    let place = [("namespace", "media"), ("pod", "jellyfin-0"), ("cluster", "the-cluster")];
    let alert = |name| firing("1", name, "critical", &place, "is down");
    let quiet = nth(1, vec![absent(alert("Silenced"), at(12, 40))]);
    let mut unlisted = over(vec![nth(2, vec![alert("CutOff")])]).remove(0);
    (unlisted.state, unlisted.doc.truncated) = (IncidentState::Unlisted, 3);
    let mut stale = nth(3, vec![alert("Forgotten")]);
    stale.state = IncidentState::Stale;
    let mut late = nth(4, vec![alert("Late")]);
    late.alerts[0].starts_at = at(12, 45);
    let resolved = over(vec![nth(5, vec![alert("Over"), firing("2", "Over", "info", &place, "")])]).remove(0);
    let all = [resolved, stale, unlisted, quiet, late, nth(6, vec![alert("Early")])];
    insta::assert_snapshot!(show(&shown(&all, true).message));
    insta::assert_snapshot!(show(&shown(&all[..4], true).message));
    assert_eq!(
        first_line(&shown(&all[3..4], true).message),
        "🔕 1 incident in the-cluster, no longer reported: Silenced media/jellyfin-0"
    );
}

#[test]
fn all_resolved() {
    insta::assert_snapshot!(show(&shown(&over(nine()), true).message));
}

#[test]
fn what_reads_the_same_is_told_apart() {
    let volume = |number, claim| {
        nth(number, vec![firing("1", "Full", "warning", &[("namespace", "media"), ("claim", claim)], "97% used")])
    };
    let body = shown(&[volume(1, "films"), volume(2, "music")], false).message.body;
    assert_eq!(body.lines().next().unwrap(), "🌩 2 incidents, all warning: Full media claim=films, media claim=music");
    assert!(body.contains("- 🟠 Full media claim=films — 97% used"), "{body}");
}

#[test]
fn sixty() {
    let digest = shown(&storm(60, 5), false);
    assert_eq!(digest.named.len(), 60);
    insta::assert_snapshot!(show(&digest.message));
}

#[test]
fn ordinary_incidents_fit_by_the_hundred() {
    let storm = storm(200, 5);
    let digest = shown(&storm, false);
    assert!(digest.named.len() >= 100, "{} named", digest.named.len());
    let counted = format!("🌩 {} incidents, 10 critical: ", digest.named.len());
    assert!(first_line(&digest.message).starts_with(&counted), "{}", first_line(&digest.message));
    insta::assert_snapshot!(show(&digest.message));
}

/// What one digest leaves out is named by the next.
#[test]
fn a_storm_of_200_groups_takes_two_or_three_digests() {
    let mut left = storm(200, 5);
    let mut digests = 0;
    while !left.is_empty() {
        let digest = shown(&left, false);
        assert!(!digest.named.is_empty());
        left.retain(|incident| !digest.named.contains(&incident.id));
        digests += 1;
    }
    assert!((2..=3).contains(&digests), "{digests} digests");
}

#[test]
fn what_must_hold_all_counts_what_it_cannot_name() {
    let storm = storm(400, 5);
    let digest = shown(&storm, true);
    let left = 400 - digest.named.len();
    assert!(left > 0 && digest.named.len() >= 100);
    assert!(digest.message.body.contains(&format!("- +{left} more: {left} firing\n")), "{}", digest.message.body);
    assert!(first_line(&digest.message).starts_with("🌩 400 incidents, 20 critical: "));
    let plainer = super::rendered::digest(&style(), &refs(&storm), None, at(12, 50), Form::Counts, false);
    assert_eq!(plainer.named, digest.named);
    let plainest = super::rendered::digest(&style(), &refs(&storm), None, at(12, 50), Form::OneLine, false);
    assert_eq!(plainest.message.body, first_line(&digest.message));
    assert_eq!((plainest.message.html.contains('<'), plainest.named.len()), (false, 0));
}

/// Links go first, those of what is critical last; then what happened; a name is never left out for either.
#[test]
fn stepping_down() {
    let links = |html: &str| html.matches(">Logs").count();
    let mut seen = Vec::new();
    for count in [10, 20, 30, 40, 60, 80, 100, 120] {
        let digest = shown(&storm(count, 1), false);
        assert_eq!(digest.named.len(), count);
        let html = &digest.message.html;
        seen.push((count, links(html), html.matches("15 minutes").count(), digest.message.bytes() <= MAX_BYTES));
    }
    insta::assert_debug_snapshot!(seen);
}

fn of(incident: &Incident, kind: NoteKind, fingerprints: &[&str]) -> Note {
    let mut note = note(kind, fingerprints);
    note.incident = IncidentId(incident.id.0.clone());
    note
}

fn said(incidents: &[Incident], notes: &[Note]) -> Message {
    let notes: Vec<&Note> = notes.iter().collect();
    let message = digest_reply(&style(), &refs(incidents), &notes, Some(at(12, 31)), at(14, 30), Form::Full);
    assert_sound(&message);
    message
}

#[test]
fn replies_are_merged() {
    let nine = nine();
    let notes = [
        of(&nine[1], NoteKind::Resolved, &[]),
        of(&nine[4], NoteKind::Reminder, &[]),
        of(&nine[2], NoteKind::Again, &["2"]),
        of(&nine[3], NoteKind::NewFiring, &["jellyfin-3", "jellyfin-4"]),
        of(&nine[0], NoteKind::NewFiring, &["5"]),
    ];
    insta::assert_snapshot!(show(&said(&nine, &notes)));
    insta::assert_snapshot!(show(&said(&nine, &notes[..1])));
    let notes: Vec<&Note> = notes.iter().collect();
    let plain = digest_reply(&style(), &refs(&nine), &notes, None, at(14, 30), Form::OneLine);
    assert_eq!(plain.body.lines().count(), 1);
    assert!(!digest_reply(&style(), &refs(&nine), &notes, None, at(14, 30), Form::Counts).html.contains("<a "));
    assert!(!digest_reply(&style(), &[], &notes, None, at(14, 30), Form::Full).body.is_empty());
}

#[test]
fn the_first_of_many_replies_has_long_names_and_is_a_push_notification() {
    let long = |n: u32| format!("{n}{}", "name-of-a-thing".repeat(8));
    let storm: Vec<Incident> = storm(12, 1)
        .into_iter()
        .zip(0_u32..)
        .map(|(mut one, n)| {
            for alert in &mut one.alerts {
                alert.doc.labels.insert("alertname".to_owned(), "Name".repeat(20));
                alert.doc.labels.insert("instance".to_owned(), long(n));
            }
            one.doc.group_labels = [("alertname".to_owned(), "Name".repeat(20))].into();
            one
        })
        .collect();
    let notes: Vec<Note> = storm.iter().map(|one| of(one, NoteKind::Reminder, &[])).collect();
    let first = said(&storm, &notes).body.lines().next().unwrap_or_default().to_owned();
    assert!(first.contains("(+11 more)"), "{first}");
}

#[test]
fn many_replies_are_counted() {
    let storm = over(storm(40, 1));
    let notes: Vec<Note> = storm.iter().map(|one| of(one, NoteKind::Resolved, &[])).collect();
    insta::assert_snapshot!(show(&said(&storm, &notes)));
}

#[test]
fn many_turn_green() {
    let notice = |count| {
        let storm = over(storm(count, 2));
        let message = green_notice(&style(), &refs(&storm), at(13, 0));
        assert_sound(&message);
        assert_eq!(
            message.body.lines().filter(|line| line.starts_with("- ")).count(),
            count.min(260),
            "{}",
            message.body
        );
        message
    };
    insta::assert_snapshot!(show(&notice(10)));
    for count in [60, 120, 200] {
        let message = notice(count);
        assert!(first_line(&message).starts_with(&format!("🟢 {count} incidents resolved: ")));
        assert!(
            !message.body.contains(
                "
- +"
            ),
            "{}",
            message.body
        );
        assert_eq!(words_of(&message.html).len(), count + 3);
    }
}

#[test]
fn too_many_turn_green() {
    let storm = over(storm(2000, 1));
    let message = green_notice(&style(), &refs(&storm), at(13, 0));
    assert_sound(&message);
    let named = message.body.lines().filter(|line| line.starts_with("- ")).count() - 1;
    assert!(named >= 200 && message.body.ends_with(&format!("- +{} more", 2000 - named)), "{named}");
}

#[test]
fn markup_stays_text() {
    let hostile = "<b>&lt;</li></strong>\"'";
    let place = [("namespace", hostile), ("cluster", hostile)];
    let one = |number| nth(number, vec![firing("1", hostile, "critical", &place, hostile)]);
    let storm = [one(1), one(2)];
    for message in [
        shown(&storm, false).message,
        shown(&over(storm.to_vec()), true).message,
        said(&storm, &[of(&storm[0], NoteKind::NewFiring, &["1"]), of(&storm[1], NoteKind::Reminder, &[])]),
        green_notice(&style(), &refs(&over(storm.to_vec())), at(13, 0)),
    ] {
        assert_sound(&message);
        assert!(
            !message.html.contains("<b>") && words_of(&message.html).concat().contains(hostile),
            "{}",
            message.html
        );
        assert!(message.html.matches("</li>").count() == message.html.matches("<li>").count());
    }
}
