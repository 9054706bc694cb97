//! The samples on which every template is tried: made-up incidents of all kinds, including hostile ones.

use serde_json::Value as Json;

use crate::{
    config::TemplateName,
    model::{
        Alert, AlertDoc, AlertState, CardId, CardKind, Finding, Form, Incident, IncidentDoc, IncidentId, IncidentKey,
        IncidentState, KnownSilence, Labels, LeftOut, Note, NoteArgs, NoteKind, NotificationId, RouteName, Seen, Taken,
        Timestamp,
    },
    render::{
        message::Message,
        request::{MessageKind, Request, built_in, view},
        style::Style,
    },
};

/// One sample.
pub(super) struct Sample {
    pub(super) name: &'static str,
    /// The templates that it is for.
    pub(super) kind: [TemplateName; 2],
    pub(super) view: Json,
    pub(super) built_in: Message,
}

/// 22 November 2026, 12:00 UTC.
const NOON: i64 = 1_795_348_800_000;

fn noon(minutes: i64) -> Timestamp {
    Timestamp(NOON + minutes * 60_000)
}

pub(super) fn all(style: &Style) -> Vec<Sample> {
    let card = MessageKind::Card { must_hold_all: true };
    let mut samples = Vec::new();
    for (name, incident) in incidents() {
        samples.extend(sample(style, name, &request(card, CardKind::Incident, &[&incident], &[])));
    }
    let all: Vec<Incident> = incidents().into_iter().map(|(_, incident)| incident).collect();
    let refs: Vec<&Incident> = all.iter().collect();
    let over: Vec<&Incident> = refs.iter().filter(|one| one.state == IncidentState::Resolved).copied().collect();
    for (name, incidents) in
        [("a digest of everything", &refs[..]), ("a digest of two", &refs[..2]), ("a digest that is over", &over[..])]
    {
        samples.extend(sample(style, name, &request(card, CardKind::Digest, incidents, &[])));
    }
    for (name, incident, kind) in [
        ("a reply: new alerts", several(), NoteKind::NewFiring),
        ("a reply: firing again", several(), NoteKind::Again),
        ("a reply: reported again", several(), NoteKind::Back),
        ("a reply: nobody took it", several(), NoteKind::Escalation),
        ("a reply: a reminder", several(), NoteKind::Reminder),
        ("a reply: partly resolved", several(), NoteKind::PartlyResolved),
        ("a reply: resolved", resolved_one(), NoteKind::Resolved),
        ("a reply: hostile labels", hostile(), NoteKind::NewFiring),
    ] {
        let (incidents, note) = ([&incident], note(kind));
        samples.extend(sample(style, name, &request(MessageKind::Reply, CardKind::Incident, &incidents, &[&note])));
    }
    let notes: Vec<Note> =
        all.iter().map(|incident| Note { incident: incident.id.clone(), ..note(NoteKind::NewFiring) }).collect();
    let notes: Vec<&Note> = notes.iter().collect();
    let request = request(MessageKind::Reply, CardKind::Digest, &refs, &notes);
    samples.extend(sample(style, "a reply in a digest's thread", &request));
    samples
}

/// The incidents of the card samples, by name.
pub(super) fn incidents() -> Vec<(&'static str, Incident)> {
    vec![
        ("one alert firing", incident("01", vec![crash_loop()])),
        ("several alerts", several()),
        ("one alert resolved", resolved_one()),
        ("partly resolved", incident("04", vec![node(1), over(node(2))])),
        ("no longer reported", incident("05", vec![gone(node(1)), gone(node(2))])),
        ("taken", taken()),
        ("silenced", silenced()),
        ("some left out by Alertmanager", truncated()),
        ("no news", stale()),
        ("forty alerts", incident("08", (1..=40).map(node).collect())),
        ("no labels at all", bare()),
        ("hostile labels", hostile()),
    ]
}

fn sample(style: &Style, name: &'static str, request: &Request<'_>) -> Option<Sample> {
    let (built_in, _) = built_in(style, request);
    Some(Sample { name, kind: request.templates()?, view: view(style, request), built_in })
}

fn request<'a>(
    kind: MessageKind<'a>,
    card: CardKind,
    incidents: &'a [&'a Incident],
    notes: &'a [&'a Note],
) -> Request<'a> {
    Request { kind, card, incidents, notes, root_at: Some(noon(3)), now: noon(30), form: Form::Full }
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn alert(fingerprint: &str, pairs: &[(&str, &str)], annotations: &[(&str, &str)]) -> Alert {
    Alert {
        fingerprint: fingerprint.to_owned(),
        state: AlertState::Firing,
        starts_at: noon(3),
        ends_at: None,
        absent_since: None,
        changed_at: noon(3),
        seen: None,
        doc: AlertDoc {
            labels: labels(pairs),
            annotations: labels(annotations),
            generator_url: "https://prometheus.example.org/graph?g0.expr=up".to_owned(),
            ..AlertDoc::default()
        },
    }
}

fn over(alert: Alert) -> Alert {
    Alert { state: AlertState::Resolved, ends_at: Some(noon(25)), changed_at: noon(25), ..alert }
}

fn gone(alert: Alert) -> Alert {
    Alert { state: AlertState::Absent, absent_since: Some(noon(20)), changed_at: noon(20), ..alert }
}

fn crash_loop() -> Alert {
    alert(
        "crash",
        &[
            ("alertname", "PodCrashLooping"),
            ("severity", "critical"),
            ("namespace", "media"),
            ("pod", "jellyfin-0"),
            ("container", "jellyfin"),
        ],
        &[
            ("summary", "Pod media/jellyfin-0 is crash looping"),
            ("description", "Restarted 5 times in the last 15 minutes.\nLook at the logs first."),
            ("runbook_url", "https://runbooks.example.org/crash"),
            ("logs_url", "https://grafana.example.org/explore?left=%7B%7D"),
        ],
    )
}

fn node(number: u32) -> Alert {
    let name = format!("worker{number:02}");
    let mut alert = alert(
        &name,
        &[
            ("alertname", "NodeDiskPressure"),
            ("severity", "warning"),
            ("cluster", "the-cluster"),
            ("job", "node-exporter"),
            ("instance", &name),
        ],
        &[
            ("summary", &format!("disk usage above 90%, only {number}.1% remaining")),
            ("runbook_url", "https://runbooks.example.org/disk"),
            ("logs_url", &format!("https://grafana.example.org/explore?node={name}")),
        ],
    );
    alert.starts_at = noon(3 + i64::from(number % 5));
    alert
}

fn several() -> Incident {
    incident("02", vec![node(1), over(node(2)), gone(node(3)), node(4)])
}

fn resolved_one() -> Incident {
    incident("03", vec![over(crash_loop())])
}

fn taken() -> Incident {
    let taken = |user: &str, name: &str, text: &str| Taken {
        user: user.to_owned(),
        name: name.to_owned(),
        at: noon(10),
        text: text.to_owned(),
    };
    let mut incident = incident("11", vec![crash_loop()]);
    incident.taken =
        vec![taken("@alice:example.org", "Alice", "looking at the node"), taken("@bob:example.org", "<b>Bob</b>", "")];
    incident
}

fn silenced() -> Incident {
    let silence = KnownSilence {
        id: "1b7e1a9c".to_owned(),
        by: "Alice".to_owned(),
        until: noon(120),
        comment: "disk is being replaced".to_owned(),
    };
    let finding = Finding::Silenced { silences: vec![silence] };
    let seen = Some(Seen { finding, unheard_since: None });
    incident("12", [node(1), node(2)].map(|node| Alert { seen: seen.clone(), ..gone(node) }).into())
}

fn truncated() -> Incident {
    let mut incident = incident("06", vec![over(node(1)), over(node(2))]);
    incident.state = IncidentState::Unlisted;
    incident.closed_at = None;
    incident.doc.truncated = 3;
    incident
}

fn stale() -> Incident {
    let mut incident = incident("07", vec![node(1)]);
    incident.state = IncidentState::Stale;
    incident.closed_at = Some(noon(30));
    incident
}

fn bare() -> Incident {
    let mut alert = alert("bare", &[], &[]);
    alert.doc.generator_url.clear();
    let mut incident = incident("09", vec![alert]);
    incident.doc = IncidentDoc::default();
    incident
}

/// An incident whose texts must come out as text, whatever a template does with them.
fn hostile() -> Incident {
    let long = "x".repeat(3000);
    let alert = alert(
        "hostile",
        &[
            ("alertname", "<script>alert(1)</script>"),
            ("severity", "</strong><h1>"),
            ("instance", "\"><a href=\"javascript:alert(1)\">click</a>"),
            ("direction", "\u{202e}txet \u{5e9}\u{5dc}\u{5d5}\u{5dd}"),
            ("{{ now }}", "{% for x in y %}"),
            ("long", &long),
        ],
        &[
            ("summary", "<img src=x onerror=alert(1)> & <b>bold</b>\u{7}"),
            ("description", "line one\r\nline two\n</ul></li><table><tr><td>"),
            ("runbook_url", "javascript:alert(1)"),
            ("logs_url", "https://user:secret@grafana.example.org/explore"),
        ],
    );
    incident("10", vec![alert])
}

fn note(kind: NoteKind) -> Note {
    Note {
        id: 1,
        card: CardId("sample".to_owned()),
        incident: IncidentId("02".to_owned()),
        kind,
        at: noon(25),
        notification: NotificationId("sample".to_owned()),
        args: NoteArgs { fingerprints: Vec::new(), flaps: 2, gap_ms: Some(3_600_000), step: None },
    }
}

fn incident(id: &str, alerts: Vec<Alert>) -> Incident {
    let any = |state| alerts.iter().any(|alert| alert.state == state);
    let state = match (any(AlertState::Firing), any(AlertState::Absent)) {
        (true, _) => IncidentState::Firing,
        (false, true) => IncidentState::Quiet,
        (false, false) => IncidentState::Resolved,
    };
    Incident {
        id: IncidentId(id.to_owned()),
        key: IncidentKey {
            route: RouteName::parse("default").expect("a route's name"),
            receiver: "matrix".to_owned(),
            group_key: "{}:{}".to_owned(),
        },
        state,
        severity: 0,
        opened_at: noon(3),
        last_notified_at: noon(25),
        closed_at: (state == IncidentState::Resolved).then(|| noon(25)),
        flaps: 0,
        rev: 1,
        notification: NotificationId("sample".to_owned()),
        doc: IncidentDoc {
            group_labels: labels(&[("alertname", "Sample")]),
            external_url: "https://alertmanager.example.org".to_owned(),
            ..IncidentDoc::default()
        },
        alerts,
        left_out: LeftOut::default(),
        taken: Vec::new(),
    }
}
