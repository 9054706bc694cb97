//! Acts from the event to the answer, against a scripted room and a scripted Alertmanager.

mod alertmanager;
mod digests;
mod evidence;
mod kills;
mod listening;
mod rooms;
mod silences;
mod takings;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::watch;

use self::{alertmanager::FakeAlertmanager, rooms::ScriptedRooms};
use super::{ActContext, ActSettings, Limits, Listener, worker};
use crate::{
    alertmanager::client::Client,
    clock::Clock,
    config::{Alertmanager, ApiAuth, Config, Purpose},
    evidence::{make::Maker, tests::scripted::Scripted},
    health::Health,
    metrics::Metrics,
    model::{
        Alert, AlertDoc, AlertState, CardId, Changes, Form, Incident, IncidentDoc, IncidentId, IncidentKey,
        IncidentState, IncidentWrite, Labels, Op, OpKind, Outcome, RoomAddress, RoomEvent, RoomEventContent,
        RoomEvents, RouteName, Timestamp, Trust, TxnId,
    },
    render::Style,
    store::{Ingest, NewOp, Store},
};

const ALICE: &str = "@alice:example.org";
const BOB: &str = "@bob:example.org";
const ONCALL: &str = "@oncall:example.org";
const ROOM: &str = "!room:example.org";
/// 2026-11-22T18:20:00Z.
const NOW: Timestamp = Timestamp(1_795_371_600_000);

/// Everything around listener and worker.
struct World {
    folder: Arc<TempDir>,
    context: ActContext,
    clock: Clock,
    rooms: Arc<ScriptedRooms>,
    alertmanager: FakeAlertmanager,
    evidence: Arc<Scripted>,
    polls: Arc<AtomicUsize>,
    listener: Listener,
    next_event: usize,
}

impl World {
    async fn new() -> Self {
        Self::with("[actions]\nallow = { power = 50, users = [\"@oncall:example.org\"] }\n").await
    }

    async fn with(toml: &str) -> Self {
        let (folder, clock) = (Arc::new(TempDir::new().expect("a folder")), Clock::manual(NOW));
        let (rooms, alertmanager) = (Arc::new(ScriptedRooms::default()), FakeAlertmanager::start().await);
        Self::on(folder, clock, rooms, alertmanager, toml).await
    }

    async fn on(
        folder: Arc<TempDir>,
        clock: Clock,
        rooms: Arc<ScriptedRooms>,
        alertmanager: FakeAlertmanager,
        toml: &str,
    ) -> Self {
        let env = BTreeMap::from(
            [
                ("MATRIX_HOMESERVER", "https://matrix.example.org"),
                ("MATRIX_USER_ID", "@bot:example.org"),
                ("MATRIX_ACCESS_TOKEN", "t"),
                ("MATRIX_ROOM_ID", ROOM),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        let file = folder.path().join("config.toml");
        std::fs::write(&file, toml).expect("written");
        let config = Config::load(Some(&file), &env, Purpose::Serve).unwrap_or_else(|faults| panic!("{faults:?}"));
        let route = route();
        let metrics = Arc::new(Metrics::new(std::slice::from_ref(&route), &[], "v", "c"));
        let store = Store::open(folder.path(), clock.clone(), Arc::clone(&metrics), Arc::new(Health::default()))
            .await
            .expect("a store");
        let style = Arc::new(Style::new(&config.display, &config.links).expect("a style"));
        let settings = ActSettings { config: Arc::new(config), style };
        let (polls, client) = (Arc::new(AtomicUsize::new(0)), client(&alertmanager, &metrics));
        let polled = Arc::clone(&polls);
        let evidence = Arc::new(Scripted::default());
        let context = ActContext {
            settings: Arc::new(move || settings.clone()),
            store,
            rooms: Arc::clone(&rooms) as Arc<dyn super::rooms::Rooms>,
            clients: Arc::new(move |_| Some(client.clone())),
            poll_now: Arc::new(move |_| {
                polled.fetch_add(1, Ordering::Relaxed);
            }),
            clock: clock.clone(),
            metrics,
            limits: Arc::new(Limits::default()),
            evidence: Arc::new(Maker::new(Arc::clone(&evidence) as _, Arc::clone(&evidence) as _)),
            asked: watch::Sender::new(0),
        };
        let listener = Listener::new(context.clone());
        Self { folder, context, clock, rooms, alertmanager, evidence, polls, listener, next_event: 0 }
    }

    /// The same store and the same world, by another process.
    async fn restarted(self, toml: &str) -> Self {
        self.context.store.close().await;
        let Self { folder, clock, rooms, alertmanager, context, listener, .. } = self;
        drop((context, listener));
        Self::on(folder, clock, rooms, alertmanager, toml).await
    }

    fn store(&self) -> &Store {
        &self.context.store
    }

    /// A group fires, and its card is in the room; returns its incident and its first event.
    async fn fires(&self, group: &str, alerts: &[Alert]) -> (IncidentId, String) {
        let incident = self.notify(group, alerts, IncidentState::Firing).await;
        (incident, self.post_card(group).await.1)
    }

    async fn notify(&self, group: &str, alerts: &[Alert], state: IncidentState) -> IncidentId {
        let alerts = alerts.to_vec();
        let group_labels = Labels::from([("alertname".to_owned(), group.to_owned())]);
        let ingest = Ingest {
            key: IncidentKey { route: route(), receiver: "matrix".to_owned(), group_key: group.to_owned() },
            body: b"{}".to_vec(),
            content_hash: String::new(),
            by_receiver: false,
            rooms: vec![room()],
            decide: Arc::new(move |known, now| Changes {
                outcome: if known.is_some() { Outcome::Changed } else { Outcome::Opened },
                write: if known.is_some() { IncidentWrite::Update } else { IncidentWrite::Insert },
                state,
                severity: 0,
                closed_at: (!state.is_open()).then_some(now),
                flaps: 0,
                doc: IncidentDoc { group_labels: group_labels.clone(), ..IncidentDoc::default() },
                alerts: alerts.clone(),
                forgotten: Vec::new(),
                visible: true,
                notes: Vec::new(),
                reposts: Vec::new(),
            }),
            resolved: Vec::new(),
            settle: Box::new(|_, _| None),
            beats: Vec::new(),
        };
        self.store().ingest(ingest).await.expect("committed").incident.expect("an incident")
    }

    async fn post_card(&self, name: &str) -> (CardId, String) {
        let (due, op) = self.send_card().await;
        (due, self.answered(&op, name).await)
    }

    /// The homeserver says which event a card has become.
    async fn answered(&self, op: &Op, name: &str) -> String {
        let event = format!("$card-{name}");
        self.store().finish(op, &event).await.expect("recorded");
        event
    }

    /// A card that may be in the room.
    async fn send_card(&self) -> (CardId, Op) {
        let due = self.store().due(&room()).await.expect("read").new.first().expect("a new card").card.clone();
        let snapshot = self.store().snapshot(&due).await.expect("read").expect("a card");
        let (incident, _) = &snapshot.incidents[0];
        let op = NewOp {
            txn_id: TxnId(ulid::Ulid::new().to_string()),
            card: due.clone(),
            room: room(),
            kind: OpKind::Card,
            content: "{}".to_owned(),
            rev: snapshot.rev(),
            last_edit: false,
            form: Form::Full,
            speaks: true,
            since: NOW,
            notification: incident.notification.clone(),
            incident: incident.id.clone(),
            device: None,
            first_try: self.clock.now(),
            alert: None,
            notes: Vec::new(),
        };
        let op = self.store().freeze(op).await.expect("frozen");
        (due, op)
    }

    /// Something happens in the room, and is heard.
    async fn event(&mut self, sender: &str, content: RoomEventContent) -> String {
        let event = self.make(sender, content);
        let id = event.event_id.clone();
        self.hears(vec![event], false).await;
        id
    }

    fn make(&mut self, sender: &str, content: RoomEventContent) -> RoomEvent {
        self.next_event += 1;
        RoomEvent {
            event_id: format!("$event-{}", self.next_event),
            sender: sender.to_owned(),
            age: Some(Duration::ZERO),
            trust: Trust::Plain,
            megolm: None,
            content,
        }
    }

    async fn hears(&mut self, events: Vec<RoomEvent>, gap: bool) {
        let events = RoomEvents { room: room(), room_id: ROOM.to_owned(), is_encrypted: false, events, gap };
        self.listener.hear(events).await.expect("heard");
    }

    async fn works(&self) {
        worker::carry_out_due(&self.context, &route()).await.expect("carried out");
    }

    async fn says(&mut self, sender: &str, body: &str, thread: &str) -> String {
        self.event(sender, in_thread(body, thread)).await
    }

    async fn reacts(&mut self, sender: &str, key: &str, target: &str) -> String {
        let content = RoomEventContent::Reaction { target: target.to_owned(), key: key.to_owned() };
        self.event(sender, content).await
    }

    async fn redacts(&mut self, sender: &str, target: &str) -> String {
        self.event(sender, RoomEventContent::Redaction { target: target.to_owned() }).await
    }

    /// The first lines of all answers until now, oldest first; a reaction is its key.
    async fn answers(&self) -> Vec<String> {
        self.contents().await.iter().map(first_line).collect()
    }

    async fn contents(&self) -> Vec<Value> {
        let rows = self.store().test_answers().await;
        rows.iter().map(|content| serde_json::from_str(content).expect("JSON")).collect()
    }

    /// `kind state outcome` of each act in order.
    async fn acts(&self) -> Vec<String> {
        self.store().test_acts().await
    }

    async fn incident(&self, id: &IncidentId) -> Incident {
        self.store().incident_with_alerts(id).await.expect("read").expect("an incident").incident
    }

    async fn taken_by(&self, id: &IncidentId) -> Vec<String> {
        self.incident(id).await.taken.into_iter().map(|taken| taken.user).collect()
    }

    /// The listener's next look.
    async fn ticks(&mut self, after: Duration) {
        self.clock.advance(after);
        self.listener.tick().await.expect("looked");
    }

    async fn position(&self) -> Option<String> {
        self.store().room_position(ROOM).await.expect("read").map(|(position, _)| position)
    }

    fn polls(&self) -> usize {
        self.polls.load(Ordering::Relaxed)
    }

    fn count(&self, act: &str, outcome: &str) -> u64 {
        self.context.metrics.acts.with_label_values(&["default", act, outcome]).get()
    }
}

fn first_line(content: &Value) -> String {
    let key = content["m.relates_to"]["key"].as_str();
    key.map_or_else(
        || content["body"].as_str().unwrap_or_default().lines().next().unwrap_or_default().to_owned(),
        ToOwned::to_owned,
    )
}

fn in_thread(body: &str, thread: &str) -> RoomEventContent {
    RoomEventContent::Text { body: body.to_owned(), thread: Some(thread.to_owned()), reply_to: None }
}

fn in_room(body: &str) -> RoomEventContent {
    RoomEventContent::Text { body: body.to_owned(), thread: None, reply_to: None }
}

fn route() -> RouteName {
    RouteName::parse("default").expect("a name")
}

fn room() -> RoomAddress {
    RoomAddress::parse(ROOM).expect("a room")
}

fn client(alertmanager: &FakeAlertmanager, metrics: &Arc<Metrics>) -> Client {
    let urls = alertmanager.urls.iter().map(|url| url::Url::parse(url).expect("a URL")).collect();
    let config = Alertmanager { urls, auth: ApiAuth::None, headers: Vec::new(), ca_file: None, poll: None };
    Client::new(Arc::new(config), route(), Arc::clone(metrics))
}

fn alert(fingerprint: &str, labels: &[(&str, &str)]) -> Alert {
    let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Alert {
        fingerprint: fingerprint.to_owned(),
        state: AlertState::Firing,
        starts_at: NOW,
        ends_at: None,
        absent_since: None,
        changed_at: NOW,
        seen: None,
        doc: AlertDoc { labels, ..AlertDoc::default() },
    }
}

/// `A` fires on two pods, as far as the receiver and Alertmanager know.
async fn two_pods(world: &World) -> (IncidentId, String) {
    let alerts = [
        alert("1", &[("alertname", "A"), ("pod", "a"), ("team", "x")]),
        alert("2", &[("alertname", "A"), ("pod", "b"), ("team", "x")]),
    ];
    for alert in &alerts {
        world.alertmanager.fires(&alert.fingerprint, "matrix", &alert.doc.labels);
    }
    world.fires("A", &alerts).await
}
