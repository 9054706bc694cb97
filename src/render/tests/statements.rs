//! Who took an incident, and who silenced it until when.

use super::{
    check::{assert_sound, show},
    rendered::{card, digest_card, reply},
    samples::{absent, alert, api_down, at, crash_loop, disk_pressure, incident, note, style},
};
use crate::{
    model::{Alert, Finding, Form, Incident, KnownSilence, NoteKind, Seen, Taken},
    render::{Message, user_link},
};

fn taken(user: &str, name: &str, text: &str) -> Taken {
    Taken { user: user.to_owned(), name: name.to_owned(), at: at(12, 31), text: text.to_owned() }
}

fn alice() -> Taken {
    taken("@alice:example.org", "Alice", "looking at the node")
}

fn silence(id: &str, by: &str) -> KnownSilence {
    let comment = "disk is being replaced".to_owned();
    KnownSilence { id: id.to_owned(), by: by.to_owned(), until: at(14, 31), comment }
}

fn silenced(alert: Alert, silences: Vec<KnownSilence>) -> Alert {
    let seen = Seen { finding: Finding::Silenced { silences }, unheard_since: None };
    Alert { seen: Some(seen), ..absent(alert, at(12, 20)) }
}

fn shown(incident: &Incident, form: Form) -> Message {
    let message = card(&style(), incident, Some(at(12, 3)), at(12, 40), form);
    assert_sound(&message);
    message
}

/// The lines of a card's plain form that say what people did.
fn said(incident: &Incident) -> Vec<String> {
    let body = shown(incident, Form::Full).body;
    let ours = |line: &&str| line.starts_with("👀 taken") || line.starts_with("🔕 silenced");
    body.lines().filter(ours).map(ToOwned::to_owned).collect()
}

/// The card without its links, which other tests have.
fn set(incident: &Incident) -> String {
    let mut message = shown(incident, Form::Full);
    message.html = message.html.split(" · <a href").next().unwrap_or_default().to_owned();
    message.body = message.body.lines().filter(|line| !line.contains(": https://")).collect::<Vec<_>>().join("\n");
    show(&message)
}

#[test]
fn a_taken_card() {
    let mut incident = crash_loop();
    incident.taken = vec![alice()];
    insta::assert_snapshot!(set(&incident), @r##"
    🔴 <span data-mx-color="#d1242f"><strong>CRITICAL</strong></span> <strong>PodCrashLooping</strong> — Pod media/jellyfin-0 is crash looping<br>
    Restarted 5 times in the last 15 minutes.<br>
    <code>namespace=media</code> <code>pod=jellyfin-0</code> <code>container=jellyfin</code><br>
    👀 taken by <a href="https://matrix.to/#/@alice:example.org">Alice</a> at 12:31: looking at the node<br>
    since 12:03 UTC
    --
    🔴 CRITICAL PodCrashLooping — Pod media/jellyfin-0 is crash looping
    Restarted 5 times in the last 15 minutes.
    namespace=media pod=jellyfin-0 container=jellyfin
    👀 taken by Alice at 12:31: looking at the node
    since 12:03 UTC
    "##);
}

#[test]
fn a_card_that_was_taken_and_silenced() {
    let alerts = disk_pressure().alerts.into_iter().map(|mut alert| {
        alert.doc.annotations.remove("logs_url");
        silenced(alert, vec![silence("s1", "Alice")])
    });
    let mut incident = incident(alerts.collect());
    incident.taken = vec![taken("@alice:example.org", "", "")];
    insta::assert_snapshot!(set(&incident), @r##"
    🔕 <strong>SILENCED</strong> <strong>NodeDiskPressure</strong> the-cluster · 4 alerts<br>
    <code>mountpoint=/</code> <code>job=node-exporter</code><ul>
    <li><em>controlplane4</em> — disk usage above 90%, only 8.8% remaining</li>
    <li><em>controlplane1</em> — disk usage above 90%, only 7.1% remaining</li>
    <li><em>controlplane2</em> — disk usage above 90%, only 5% remaining</li>
    <li><em>controlplane3</em> — disk usage above 90%, only 5% remaining</li>
    </ul>
    👀 taken by <a href="https://matrix.to/#/@alice:example.org">@alice:example.org</a> at 12:31<br>
    🔕 silenced by Alice until 14:31: disk is being replaced<br>
    since 12:03 UTC
    --
    🔕 SILENCED NodeDiskPressure the-cluster · 4 alerts
    mountpoint=/ job=node-exporter
    - controlplane4 — disk usage above 90%, only 8.8% remaining
    - controlplane1 — disk usage above 90%, only 7.1% remaining
    - controlplane2 — disk usage above 90%, only 5% remaining
    - controlplane3 — disk usage above 90%, only 5% remaining
    👀 taken by @alice:example.org at 12:31
    🔕 silenced by Alice until 14:31: disk is being replaced
    since 12:03 UTC
    "##);
}

#[test]
fn who_took_it() {
    let bob = || taken("@bob:example.org", "Bob", "me too");
    for (takers, expected) in [
        (vec![alice()], "👀 taken by Alice at 12:31: looking at the node"),
        (vec![alice(), bob()], "👀 taken by Alice and 1 other at 12:31: looking at the node"),
        (vec![bob(), alice(), alice()], "👀 taken by Bob and 2 others at 12:31: me too"),
        (
            vec![alice(), bob(), bob(), bob(), bob()],
            "👀 taken by Alice and 4 or more others at 12:31: looking at the node",
        ),
        (vec![taken("@c:example.org", " \u{200b}\n", "\n")], "👀 taken by @c:example.org at 12:31"),
        (vec![taken("@c:example.org", "A\nB\u{202e}", "1\n2")], "👀 taken by A B at 12:31: 1 2"),
    ] {
        let mut incident = crash_loop();
        incident.taken = takers;
        assert_eq!(said(&incident), [expected]);
    }
    let mut incident = crash_loop();
    incident.taken = vec![taken("@c:example.org", &"n".repeat(900), &"t".repeat(900))];
    assert!(said(&incident)[0].chars().count() < 60 + 150 + 30, "{:?}", said(&incident));
}

#[test]
fn a_card_that_is_over_says_neither() {
    let mut over = api_down();
    over.taken = vec![alice()];
    assert_eq!(said(&over), [""; 0]);
    let digest = digest_card(&style(), &[&over], at(12, 40)).message;
    assert!(!digest.body.contains("Alice"), "{}", digest.body);
}

#[test]
fn plainer_forms_say_neither() {
    let mut incident = crash_loop();
    incident.taken = vec![alice()];
    for form in [Form::Counts, Form::OneLine] {
        assert!(!shown(&incident, form).body.contains("taken"), "{form:?}");
    }
}

#[test]
fn only_a_silence_of_all_that_matters_has_a_line() {
    let node = |name: &str| alert(name, &[("alertname", "X"), ("node", name)], &[]);
    let (one, other) = (|| vec![silence("s1", "Alice")], || vec![silence("s2", "Bob"), silence("s1", "Alice")]);
    let line = "🔕 silenced by Alice until 14:31: disk is being replaced";
    let cases = [
        (vec![silenced(node("a"), one()), silenced(node("b"), one())], &[line][..], "both share it"),
        (vec![silenced(node("a"), one()), silenced(node("b"), other())], &[], "another ends last"),
        (vec![silenced(node("a"), one()), absent(node("b"), at(12, 20))], &[], "one is absent for another reason"),
        (vec![silenced(node("a"), one()), node("b")], &[], "one fires"),
    ];
    for (alerts, expected, why) in cases {
        assert_eq!(said(&incident(alerts)), expected, "{why}");
    }
    let mut nameless =
        incident(vec![silenced(node("a"), vec![KnownSilence { comment: String::new(), ..silence("s", "") }])]);
    assert_eq!(said(&nameless), ["🔕 silenced until 14:31"]);
    assert!(shown(&nameless, Form::Full).body.contains("since 12:03 UTC\n"), "known, and so not \"perhaps silenced\"");
    nameless.left_out.absent = 1;
    assert_eq!(said(&nameless), [""; 0], "what was not read may be held back by another");
}

#[test]
fn in_a_digest_it_stands_at_the_end_of_the_line() {
    let mut incident = crash_loop();
    incident.taken = vec![alice(), alice()];
    let message = digest_card(&style(), &[&incident, &api_down()], at(12, 40)).message;
    assert_sound(&message);
    let line = message.body.lines().find(|line| line.contains("PodCrashLooping") && line.starts_with("- ")).unwrap();
    assert!(line.ends_with(" · 👀 Alice +1"), "{line}");
}

#[test]
fn only_a_user_id_becomes_a_link() {
    for (user, expected) in [
        ("@alice:example.org", Some("https://matrix.to/#/@alice:example.org")),
        ("@a/b+c=_.-:example.org:8448", Some("https://matrix.to/#/@a%2Fb%2Bc%3D_.-:example.org:8448")),
        ("alice:example.org", None),
        ("@alice", None),
        ("@:example.org", None),
        ("@alice:", None),
        ("@alice:example.org/?x", None),
        ("@a\"><script>:example.org", None),
        ("@a b:example.org", None),
        ("@a:example.org\u{202e}", None),
    ] {
        assert_eq!(user_link(user).as_deref(), expected, "{user}");
    }
    assert_eq!(user_link(&format!("@{}:x", "a".repeat(254))), None, "too long");
}

#[test]
fn nobody_took_it() {
    let message = |incident: &Incident, notes: &[&crate::model::Note]| {
        let message = reply(&style(), incident, notes, Some(at(12, 3)), at(12, 40), Form::Full);
        assert_sound(&message);
        message.body.lines().next().unwrap_or_default().to_owned()
    };
    let escalation = note(NoteKind::Escalation, &[]);
    assert_eq!(
        message(&crash_loop(), &[&escalation]),
        "🔴 PodCrashLooping: nobody took it, firing on media/jellyfin-0 since 12:03"
    );
    let new = note(NoteKind::NewFiring, &["controlplane4"]);
    assert_eq!(
        message(&disk_pressure(), &[&new, &escalation]),
        "🟠 NodeDiskPressure: nobody took it, firing on controlplane1 and controlplane4 since 12:03"
    );
}

/// For `scripts/picture`, which sets the folder.
#[test]
#[ignore = "makes files for a picture"]
fn cards_for_a_picture() {
    let folder = std::path::PathBuf::from(std::env::var_os("MAR_TEST_PICTURES").expect("MAR_TEST_PICTURES, a folder"));
    let mut firing = crash_loop();
    firing.taken = vec![alice()];
    let alerts = disk_pressure().alerts.into_iter().take(2).map(|alert| silenced(alert, vec![silence("s1", "Alice")]));
    let mut quiet = incident(alerts.collect());
    quiet.taken = vec![taken("@alice:example.org", "Alice", "")];
    for (n, incident) in [firing, quiet].iter().enumerate() {
        std::fs::write(folder.join(format!("acted-{n}.html")), shown(incident, Form::Full).html).expect("written");
    }
}
