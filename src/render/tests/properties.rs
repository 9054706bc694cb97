//! What holds for every incident that can be, hostile ones included.

use proptest::prelude::*;

use super::rendered::{card, digest, digest_reply, green_notice, reply};
use super::{
    check::{assert_fits_encrypted, assert_sound, words_of},
    digests::assert_named,
    samples,
};
use crate::model::{
    Alert, AlertDoc, AlertState, Finding, Form, Incident, IncidentId, IncidentState, KnownSilence, Labels, Note,
    NoteKind, Seen, Taken, Timestamp,
};

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-z]{1,12}",
        2 => "[a-zA-Z0-9 ./:_-]{0,60}",
        2 => ".{0,40}",
        1 => "[\u{0}-\u{ff}\u{590}-\u{6ff}\u{200b}-\u{206f}<>&\"']{0,80}",
        1 => "[א-ת ]{0,200}",
        1 => "(<b>|</li>|</ul>|<br>|<a href=\"x\">|&lt;|&#60;|\n|]]>|<!--|x| ){0,12}",
        1 => "([a-z]{1,9}[ \n]){0,200}",
        1 => "[😀🏴\u{200d}\u{fe0f}e\u{301}]{0,150}",
    ]
}

fn url() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => Just(String::new()),
        3 => "https?://[a-z]{1,9}(:[0-9]{1,4})?/[a-z{}|\" %?&=#<>']{0,40}",
        1 => "https://[a-z]{1,5}:[a-z@]{1,5}@[a-z]{1,9}/[א-ת%2f\\\\^`]{0,9}",
        1 => "https://example\\.org/[a-z{}]{500,3000}",
        1 => "(javascript|data|ftp|https?):.{0,30}",
        1 => text(),
    ]
}

fn labels() -> impl Strategy<Value = Labels> {
    let name = prop_oneof![
        6 => prop::sample::select(vec![
            "alertname", "severity", "cluster", "namespace", "pod", "instance", "node", "job", "team",
        ]).prop_map(ToOwned::to_owned),
        1 => text(),
    ];
    let value = prop_oneof![
        3 => prop::sample::select(vec!["critical", "warning", "info", "none", "a", "b", "c"]).prop_map(ToOwned::to_owned),
        2 => text(),
    ];
    prop::collection::btree_map(name, value, 0..9)
}

fn annotations() -> impl Strategy<Value = Labels> {
    let words = prop::collection::btree_map(
        prop::sample::select(vec!["summary", "description", "message"]).prop_map(ToOwned::to_owned),
        text(),
        0..3,
    );
    let links = prop::collection::btree_map(
        prop::sample::select(vec!["logs_url", "runbook_url", "runbook", "dashboard_url", "panel_url"])
            .prop_map(ToOwned::to_owned),
        url(),
        0..4,
    );
    (words, links).prop_map(|(mut words, links)| {
        words.extend(links);
        words
    })
}

fn time() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        6 => (-100_000_i64..100_000).prop_map(|seconds| Timestamp(samples::at(12, 0).0 + seconds * 1000)),
        1 => any::<i64>().prop_map(Timestamp),
    ]
}

fn alert_state() -> impl Strategy<Value = AlertState> {
    use AlertState::{Absent, Firing, Gone, Resolved};
    prop::sample::select(vec![Firing, Firing, Resolved, Absent, Absent, Gone])
}

fn silence() -> impl Strategy<Value = KnownSilence> {
    ("[ab]", text(), time(), text()).prop_map(|(id, by, until, comment)| KnownSilence { id, by, until, comment })
}

fn seen() -> impl Strategy<Value = Option<Seen>> {
    let finding = prop_oneof![
        1 => Just(Finding::Active),
        4 => prop::collection::vec(silence(), 0..3).prop_map(|silences| Finding::Silenced { silences }),
        1 => prop::collection::vec(text(), 0..3).prop_map(|by| Finding::Inhibited { by }),
        1 => prop::collection::vec(text(), 0..3).prop_map(|by| Finding::Muted { by }),
        1 => Just(Finding::Unknown),
    ];
    let seen = (finding, prop::option::of(time())).prop_map(|(finding, unheard_since)| Seen { finding, unheard_since });
    prop::option::of(seen)
}

fn taken() -> impl Strategy<Value = Vec<Taken>> {
    let user = prop_oneof![3 => "@[a-z0-9._=/+-]{1,9}:[a-z.:-]{1,9}", 1 => text(), 1 => "@.{0,40}:.{0,40}"];
    let one = (user, text(), time(), text()).prop_map(|(user, name, at, text)| Taken { user, name, at, text });
    prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec(one, 1..6)]
}

prop_compose! {
    fn alert()(
        state in alert_state(),
        times in (time(), prop::option::of(time()), prop::option::of(time()), time()),
        labels in labels(),
        annotations in annotations(),
        urls in (url(), url(), url(), url()),
        seen in seen(),
    ) -> Alert {
        Alert {
            fingerprint: String::new(),
            state,
            starts_at: times.0,
            ends_at: times.1,
            absent_since: times.2,
            changed_at: times.3,
            seen,
            doc: AlertDoc {
                labels,
                annotations,
                generator_url: urls.0,
                starts_at: None,
                dashboard_url: urls.1,
                panel_url: urls.2,
                values: String::new(),
                silence_url: urls.3,
            },
        }
    }
}

prop_compose! {
    fn incident()(
        mut alerts in prop::collection::vec(alert(), 0..12),
        copies in prop_oneof![4 => Just(1_usize), 1 => 1_usize..60],
        state in prop::sample::select(vec![
            IncidentState::Firing, IncidentState::Firing, IncidentState::Quiet, IncidentState::Unlisted,
            IncidentState::Resolved, IncidentState::Stale, IncidentState::Gone,
        ]),
        group_labels in labels(),
        external_url in url(),
        truncated in prop_oneof![Just(0_u64), any::<u64>()],
        times in (time(), time(), prop::option::of(time())),
        taken in taken(),
    ) -> Incident {
        alerts = alerts.iter().cycle().take(alerts.len() * copies).cloned().collect();
        for (number, alert) in alerts.iter_mut().enumerate() {
            alert.fingerprint = number.to_string();
        }
        let mut incident = samples::incident(alerts);
        incident.state = state;
        incident.doc.group_labels = group_labels;
        incident.doc.external_url = external_url;
        incident.doc.truncated = truncated;
        incident.taken = taken;
        (incident.opened_at, incident.last_notified_at, incident.closed_at) = times;
        incident
    }
}

fn note() -> impl Strategy<Value = Note> {
    let kinds = vec![
        NoteKind::NewFiring,
        NoteKind::Back,
        NoteKind::Again,
        NoteKind::PartlyResolved,
        NoteKind::Resolved,
        NoteKind::Reminder,
        NoteKind::Escalation,
    ];
    (prop::sample::select(kinds), prop::collection::vec("[0-9]", 0..5), any::<u32>(), time()).prop_map(
        |(kind, fingerprints, flaps, at)| {
            let mut note = samples::note(kind, &[]);
            (note.args.fingerprints, note.args.flaps, note.at) = (fingerprints, flaps, at);
            note
        },
    )
}

/// Incidents of one room, some of them alike.
fn incidents() -> impl Strategy<Value = Vec<Incident>> {
    let some = prop::collection::vec(incident(), 1..8);
    let copies = prop_oneof![6 => Just(1_usize), 1 => 2_usize..30];
    (some, copies).prop_map(|(mut some, copies)| {
        // Large incidents are tried alone; here many are.
        for incident in &mut some {
            incident.alerts.truncate(8);
        }
        let mut all: Vec<Incident> = some.iter().cycle().take(some.len() * copies).cloned().collect();
        for (number, incident) in all.iter_mut().enumerate() {
            incident.id = IncidentId(format!("{number:03}"));
        }
        all
    })
}

/// A quarter of the usual number of cases, since each makes many messages; `PROPTEST_CASES` asks for more.
fn config() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig { failure_persistence: None, cases: usual.cases.div_ceil(4), ..usual }
}

fn forms() -> impl Strategy<Value = Form> {
    prop::sample::select(&Form::ALL[..])
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_card_is_sound(incident in incident(), root_at in prop::option::of(time()), now in time(), form in forms()) {
        let message = card(&samples::style(), &incident, root_at, now, form);
        assert_sound(&message);
        assert_fits_encrypted(&message);
        if form == Form::OneLine {
            prop_assert!(!message.html.contains('<') && !message.body.contains('\n'));
        }
        if form == Form::Counts {
            prop_assert!(!message.html.contains("<a "));
            prop_assert_ne!(&message, &card(&samples::style(), &incident, root_at, now, Form::Full), "as it was refused");
        }
        prop_assert_eq!(&message, &card(&samples::style(), &incident, root_at, now, form));
    }

    #[test]
    fn every_reply_is_sound(
        incident in incident(),
        notes in prop::collection::vec(note(), 0..4),
        now in time(),
        form in forms(),
    ) {
        let notes: Vec<&Note> = notes.iter().collect();
        let message = reply(&samples::style(), &incident, &notes, None, now, form);
        assert_sound(&message);
        assert_fits_encrypted(&message);
        if form == Form::Counts {
            prop_assert_ne!(&message, &reply(&samples::style(), &incident, &notes, None, now, Form::Full), "as it was refused");
        }
    }

    #[test]
    fn every_digest_is_sound(
        incidents in incidents(),
        root_at in prop::option::of(time()),
        now in time(),
        form in forms(),
        must_hold_all: bool,
    ) {
        let all: Vec<&Incident> = incidents.iter().collect();
        let digest = digest(&samples::style(), &all, root_at, now, form, must_hold_all);
        assert_sound(&digest.message);
        assert_fits_encrypted(&digest.message);
        assert_named(&digest, &incidents);
        prop_assert!(form == Form::OneLine || !digest.named.is_empty());
        let listed = digest.message.body.lines().filter(|line| line.starts_with("- ")).count();
        prop_assert_eq!(listed, digest.message.html.matches("<li>").count());
        if form == Form::OneLine {
            prop_assert!(!digest.message.html.contains('<') && !digest.message.body.contains('\n'));
        }
        let mut once = digest.named.clone();
        once.sort();
        once.dedup();
        prop_assert_eq!(once.len(), digest.named.len());
        let html = ruma_html::Html::parse(&digest.message.html);
        html.sanitize_with(&ruma_html::SanitizerConfig::strict());
        prop_assert_eq!(words_of(&digest.message.html).concat(), text_of(&html));
    }

    #[test]
    fn every_digest_reply_and_green_notice_is_sound(
        incidents in incidents(),
        notes in prop::collection::vec((note(), "00[0-9]"), 0..20),
        now in time(),
        form in forms(),
    ) {
        let all: Vec<&Incident> = incidents.iter().collect();
        let notes: Vec<Note> = notes.into_iter().map(|(note, id)| Note { incident: IncidentId(id), ..note }).collect();
        let notes: Vec<&Note> = notes.iter().collect();
        let style = samples::style();
        let message = digest_reply(&style, &all, &notes, None, now, form);
        for message in [&message, &green_notice(&style, &all, now)] {
            assert_sound(message);
            assert_fits_encrypted(message);
        }
        if form == Form::Counts {
            prop_assert_ne!(&message, &digest_reply(&style, &all, &notes, None, now, Form::Full), "as it was refused");
        }
    }

    /// The sanitiser of the Matrix clients finds nothing to take away.
    #[test]
    fn clients_keep_all_of_it(incident in incident(), now in time()) {
        let message = card(&samples::style(), &incident, None, now, Form::Full);
        let html = ruma_html::Html::parse(&message.html);
        html.sanitize_with(&ruma_html::SanitizerConfig::strict());
        prop_assert_eq!(words_of(&message.html).concat(), text_of(&html));
    }
}

fn text_of(html: &ruma_html::Html) -> String {
    fn collect(node: &ruma_html::NodeRef, text: &mut String) {
        if let Some(words) = node.as_text() {
            // Line breaks of the source, between the items of a list, are not text.
            text.push_str(&words.borrow().replace('\n', ""));
        }
        for child in node.children() {
            collect(&child, text);
        }
    }
    let mut text = String::new();
    for node in html.children() {
        collect(&node, &mut text);
    }
    text
}
