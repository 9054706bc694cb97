//! Cards that were shown, until their evidence is frozen.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    alert, config, incident,
    scripted::{Fate, Scripted, refused},
};
use crate::{
    clock::Clock,
    config::Config,
    evidence::{
        NoEvidence, ShownCard,
        make::{Maker, Piece, Wanted, question},
        show::{self, Offers, Settings, ShowContext},
    },
    health::Health,
    metrics::Metrics,
    model::{
        Alert, AlertState, Changes, EvidenceKind, Form, IncidentDoc, IncidentKey, IncidentState, IncidentWrite, OpKind,
        Outcome, Reason, RoomAddress, RouteName, Timestamp, TxnId,
    },
    render::Style,
    store::{Answer, Ingest, NewOp, Store},
};

const NOW: Timestamp = Timestamp(1_795_371_600_000);
const BOTH: &str = "[evidence]\nloki = { url = \"http://loki.example.org\" }\n\
    prometheus = { url = \"http://prometheus.example.org\" }\n\
    [routes.default.evidence]\nlogs = 7\ngraph = true\nmin_severity = \"warning\"\n";
pub(crate) const LOGS_URL: &str = "https://grafana.example.org/explore?orgId=1&left=%7B%22datasource%22%3A%22loki%22%2C\
    %22queries%22%3A%5B%7B%22expr%22%3A%22%7Bapp%3D%5C%22shop%5C%22%7D%22%2C%22refId%22%3A%22A%22%7D%5D%2C\
    %22range%22%3A%7B%22from%22%3A%22now-1h%22%2C%22to%22%3A%22now%22%7D%7D";

/// With a Logs link and an expression.
pub(crate) fn linked(alert: Alert) -> Alert {
    let mut alert = Alert { starts_at: NOW, changed_at: NOW, ..alert };
    alert.doc.annotations.insert("logs_url".to_owned(), LOGS_URL.to_owned());
    "http://prometheus:9090/graph?g0.expr=up+%3D%3D+0&g0.tab=1".clone_into(&mut alert.doc.generator_url);
    alert
}

fn room() -> RoomAddress {
    RoomAddress::parse("!room:example.org").expect("a room")
}

struct World {
    _folder: TempDir,
    store: Store,
    clock: Clock,
    metrics: Arc<Metrics>,
    scripted: Arc<Scripted>,
    offers: Offers,
    /// Of the task, until it is started.
    parts: Option<(ShowContext, mpsc::Receiver<ShownCard>)>,
    stop: CancellationToken,
}

impl World {
    async fn new(toml: &str) -> Self {
        let (folder, clock) = (TempDir::new().expect("a folder"), Clock::manual(NOW));
        let metrics = Arc::new(Metrics::new(&[], &[], "v", "c"));
        let health = Arc::new(Health::default());
        let store = Store::open(folder.path(), clock.clone(), Arc::clone(&metrics), health).await.expect("a store");
        let (config, style) = settings(toml);
        let settings: Settings = Arc::new(move || (Arc::clone(&config), Arc::clone(&style)));
        let scripted = Arc::new(Scripted::default());
        let maker = Arc::new(Maker::new(Arc::clone(&scripted) as _, Arc::clone(&scripted) as _));
        let (offers, inbox) = Offers::new(Arc::clone(&settings), Arc::clone(&metrics));
        let context =
            ShowContext { settings, store: store.clone(), maker, clock: clock.clone(), metrics: Arc::clone(&metrics) };
        let stop = CancellationToken::new();
        let parts = Some((context, inbox));
        Self { _folder: folder, store, clock, metrics, scripted, offers, parts, stop }
    }

    fn start(&mut self) -> JoinHandle<()> {
        let (context, inbox) = self.parts.take().expect("not started yet");
        tokio::spawn(show::run(context, inbox, self.stop.clone()))
    }

    /// A group fires and its card is in the room.
    async fn shown(&self, group: &str, severity: u32, alerts: Vec<Alert>) -> ShownCard {
        let route = RouteName::parse("default").expect("a name");
        let ingest = Ingest {
            key: IncidentKey { route: route.clone(), receiver: "r".to_owned(), group_key: group.to_owned() },
            body: b"{}".to_vec(),
            beats: Vec::new(),
            content_hash: String::new(),
            by_receiver: false,
            rooms: vec![room()],
            decide: Arc::new(move |_, _| Changes {
                outcome: Outcome::Opened,
                write: IncidentWrite::Insert,
                state: IncidentState::Firing,
                severity,
                closed_at: None,
                flaps: 0,
                doc: IncidentDoc::default(),
                alerts: alerts.clone(),
                forgotten: Vec::new(),
                visible: true,
                notes: Vec::new(),
                reposts: Vec::new(),
            }),
            resolved: Vec::new(),
            settle: Box::new(|_, _| None),
        };
        let incident = self.store.ingest(ingest).await.expect("committed").incident.expect("one");
        let card = self.store.due(&room()).await.expect("read").new.first().expect("a new card").card.clone();
        let snapshot = self.store.snapshot(&card).await.expect("read").expect("a card");
        let op = NewOp {
            txn_id: TxnId(format!("card-{group}")),
            card: card.clone(),
            room: room(),
            kind: OpKind::Card,
            content: "{}".to_owned(),
            rev: snapshot.rev(),
            last_edit: false,
            form: Form::Full,
            speaks: true,
            since: NOW,
            notification: snapshot.incidents[0].0.notification.clone(),
            incident: incident.clone(),
            device: None,
            first_try: NOW,
            alert: None,
            notes: Vec::new(),
        };
        let op = self.store.freeze(op).await.expect("frozen");
        let root = format!("$card-{group}");
        self.store.finish(&op, &root).await.expect("recorded");
        ShownCard { card, room: room(), incident, route, root, since: NOW }
    }

    async fn fires(&self, group: &str) -> ShownCard {
        self.shown(group, 0, vec![linked(alert("a", "critical", AlertState::Firing))]).await
    }

    fn counted(&self, kind: &str, outcome: &str) -> u64 {
        self.metrics.evidence.with_label_values(&["default", kind, outcome]).get()
    }

    /// The next piece that is frozen, which is then taken out.
    async fn frozen(&self) -> Answer {
        let next = async {
            loop {
                if let Some(answer) = self.store.next_answer(&room()).await.expect("read") {
                    self.store
                        .finish_answer(&answer, &format!("${}", answer.txn_id.as_str()))
                        .await
                        .expect("committed");
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(5), next).await.expect("a piece")
    }

    async fn until(&self, what: impl Fn(&Self) -> bool) {
        let holds = async {
            while !what(self) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(5), holds).await.expect("in time");
    }
}

fn settings(toml: &str) -> (Arc<Config>, Arc<Style>) {
    let config = config(toml);
    let style = Arc::new(Style::new(&config.display, &config.links).expect("a style"));
    (config, style)
}

#[tokio::test]
async fn log_lines_and_a_graph_are_frozen_for_the_cards_thread() {
    let mut world = World::new(BOTH).await;
    world.start();
    let card = world.fires("g").await;
    world.offers.offer(card.clone());
    let mut frozen = [world.frozen().await, world.frozen().await];
    frozen.sort_by_key(|answer| answer.unasked.as_ref().map(|unasked| unasked.kind));
    for (answer, msgtype) in frozen.iter().zip(["m.notice", "m.image"]) {
        let unasked = answer.unasked.as_ref().expect("nobody asked");
        assert_eq!((unasked.until, &unasked.route, &answer.act), (card.until(), &card.route, &card.root));
        let content: Value = serde_json::from_str(&answer.content).expect("JSON");
        assert_eq!(content["msgtype"], msgtype);
        let thread = serde_json::json!({
            "rel_type": "m.thread", "event_id": card.root, "is_falling_back": true,
            "m.in_reply_to": { "event_id": card.root },
        });
        assert_eq!(content["m.relates_to"], thread);
        assert_eq!(content["matrix_alertmanager_receiver"]["op"], answer.txn_id.as_str());
    }
    let picture: Value = serde_json::from_str(&frozen[1].content).expect("JSON");
    let expected = serde_json::json!({ "w": 1200, "h": 420, "mimetype": "image/png", "size": 3 });
    assert_eq!((&picture["info"], &picture["body"]), (&expected, &"up: 0, below 1".into()));
    assert_eq!((&picture["url"], &picture["filename"]), (&"mxc://example.org/picture".into(), &"graph.png".into()));
    let wanted = world.scripted.logs_wanted.lock().expect("a lock")[0].clone();
    assert_eq!((wanted.lines, wanted.from, wanted.to), (7, NOW.minus(Duration::from_mins(5)), NOW));
    let wanted = world.scripted.graphs_wanted.lock().expect("a lock")[0].clone();
    assert_eq!((wanted.expr.as_str(), wanted.began), ("up == 0", Some(NOW)));
}

#[tokio::test]
async fn one_first_event_gets_each_piece_once() {
    let mut world = World::new(BOTH).await;
    world.start();
    let card = world.fires("g").await;
    world.offers.offer(card.clone());
    let kinds = [world.frozen().await, world.frozen().await].map(|answer| answer.unasked.expect("evidence").kind);
    assert!(kinds.contains(&EvidenceKind::Logs) && kinds.contains(&EvidenceKind::Graph));
    world.offers.offer(card);
    world.until(|world| world.counted("logs", "failed") + world.counted("graph", "failed") == 2).await;
    assert_eq!(world.store.next_answer(&room()).await.expect("read"), None);
}

#[tokio::test]
async fn what_is_not_wanted_is_not_asked_for() {
    let logs = "[evidence]\nloki = { url = \"http://loki.example.org\" }\n[routes.default.evidence]\nlogs = 5\n";
    for (toml, severity, expected) in [(BOTH, 1, 2), (BOTH, 2, 0), (logs, 0, 1), ("", 0, 0)] {
        let mut world = World::new(toml).await;
        let alerts = vec![linked(alert("a", "warning", AlertState::Firing))];
        let card = world.shown("g", severity, alerts).await;
        world.offers.offer(card);
        let last = world.shown("last", 0, vec![linked(alert("b", "critical", AlertState::Firing))]).await;
        world.offers.offer(last);
        world.start();
        let of_last = match toml {
            BOTH => 2,
            "" => 0,
            _ => 1,
        };
        for _ in 0..expected + of_last {
            world.frozen().await;
        }
        assert_eq!(world.store.next_answer(&room()).await.expect("read"), None, "{toml} {severity}");
    }
}

#[tokio::test]
async fn what_goes_wrong_is_counted_and_the_next_card_has_its_evidence() {
    let graph = "[evidence]\nprometheus = { url = \"http://prometheus.example.org\" }\n[routes.default.evidence]\n\
        graph = true\nlogs = 0\n";
    let failed = |text: &str| Fate::Fails(NoEvidence::Failed(text.to_owned()));
    let upload = |reason| Fate::Fails(NoEvidence::NotUploaded(refused(reason, "scripted")));
    for (fate, of_upload, outcome) in [
        (failed("502"), Fate::Works, "failed"),
        (Fate::Fails(NoEvidence::Empty("nothing".to_owned())), Fate::Works, "empty"),
        (Fate::Fails(NoEvidence::TimedOut), Fate::Works, "timeout"),
        (Fate::Panics, Fate::Works, "failed"),
        (Fate::Works, upload(Reason::RateLimited), "limited"),
        (Fate::Works, upload(Reason::TooLarge), "failed"),
        (Fate::Works, Fate::Panics, "failed"),
    ] {
        let mut world = World::new(graph).await;
        world.scripted.then(std::slice::from_ref(&fate));
        world.scripted.then_uploads(&[of_upload]);
        world.start();
        world.offers.offer(world.fires("g").await);
        world.until(|world| world.counted("graph", outcome) == 1).await;
        world.offers.offer(world.fires("h").await);
        assert_eq!(world.frozen().await.act, "$card-h", "{fate:?}");
    }
}

#[tokio::test]
async fn an_alert_without_links_has_no_evidence() {
    let mut world = World::new(BOTH).await;
    world.start();
    world.offers.offer(world.shown("g", 0, vec![alert("a", "critical", AlertState::Firing)]).await);
    world.until(|world| world.counted("logs", "no_query") == 1 && world.counted("graph", "no_query") == 1).await;
    assert_eq!(world.scripted.asked.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_missing_heartbeat_has_no_evidence_and_counts_nothing() {
    let mut world = World::new(BOTH).await;
    world.start();
    let card = world.fires("g").await;
    world.store.run_sql("UPDATE incident SET receiver = '(heartbeats)'").await;
    world.offers.offer(card);
    world.offers.offer(world.fires("h").await);
    assert_eq!([world.frozen().await.act, world.frozen().await.act], ["$card-h", "$card-h"]);
    for kind in ["logs", "graph"] {
        assert_eq!(world.counted(kind, "no_query"), 0, "{kind}");
    }
    assert_eq!(world.scripted.asked.load(std::sync::atomic::Ordering::Relaxed), 3, "two questions and an upload");
}

#[tokio::test]
async fn two_pieces_at_a_time_and_a_full_queue_drops() {
    let mut world = World::new(BOTH).await;
    world.scripted.then(&vec![Fate::Hangs; 200]);
    let card = world.fires("g").await;
    let task = world.start();
    world.offers.offer(card.clone());
    world.until(|world| world.scripted.at_once.load(std::sync::atomic::Ordering::Relaxed) == 2).await;
    for _ in 0..40 {
        // Never waits.
        world.offers.offer(card.clone());
    }
    assert_eq!((world.counted("logs", "full"), world.counted("graph", "full")), (8, 8));
    // Long enough for more of them to begin, if they did.
    for _ in 0..100 {
        assert_eq!(world.store.next_answer(&room()).await.expect("read"), None);
    }
    assert_eq!(world.scripted.most_at_once.load(std::sync::atomic::Ordering::Relaxed), 2);
    world.stop.cancel();
    timeout(Duration::from_secs(1), task).await.expect("a stop waits for nothing").expect("no panic");
}

#[tokio::test]
async fn what_comes_too_late_is_not_even_asked_for() {
    let mut world = World::new(BOTH).await;
    world.start();
    let card = world.fires("g").await;
    world.clock.advance(Duration::from_secs(121));
    world.offers.offer(card);
    world.until(|world| world.counted("logs", "late") == 1 && world.counted("graph", "late") == 1).await;
    assert_eq!(world.scripted.asked.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[tokio::test]
async fn only_encrypted_rooms_may_have_it_where_the_route_says_so() {
    let toml = format!("{BOTH}encrypted_only = true\n");
    for (is_encrypted, outcome) in [(Some(false), "plain_room"), (None, "failed")] {
        let mut world = World::new(&toml).await;
        *world.scripted.is_encrypted.lock().expect("a lock") = is_encrypted;
        world.start();
        world.offers.offer(world.fires("g").await);
        world.until(|world| world.counted("logs", outcome) == 1 && world.counted("graph", outcome) == 1).await;
        assert_eq!(world.scripted.asked.load(std::sync::atomic::Ordering::Relaxed), 0, "nothing was asked for");
        *world.scripted.is_encrypted.lock().expect("a lock") = Some(true);
        world.offers.offer(world.fires("h").await);
        world.frozen().await;
        world.frozen().await;
    }
}

#[tokio::test]
async fn all_of_a_piece_has_one_deadline() {
    const DEADLINE: Duration = Duration::from_millis(100);
    let (config, style) = settings(BOTH);
    let incident = incident(vec![linked(alert("a", "critical", AlertState::Firing))]);
    let route = &config.routes[&incident.key.route];
    for (fate, upload, expected) in [
        (Fate::Hangs, Fate::Works, Some(NoEvidence::TimedOut)),
        (Fate::Works, Fate::Hangs, Some(NoEvidence::TimedOut)),
        (Fate::Works, Fate::Works, None),
    ] {
        let scripted = Arc::new(Scripted::default());
        scripted.then(&[fate]);
        scripted.then_uploads(&[upload]);
        let maker = Maker::new(Arc::clone(&scripted) as _, Arc::clone(&scripted) as _).within(DEADLINE);
        let wanted = Wanted { kind: EvidenceKind::Graph, alert: None, lines: 10, now: NOW };
        let question =
            question(&config, &style, route, &room(), &incident, &wanted).unwrap_or_else(|why| panic!("{why}"));
        let made = timeout(DEADLINE * 20, maker.make(&question)).await.expect("it ends");
        match (made, expected) {
            (Err(why), Some(expected)) => assert_eq!(why, expected),
            (Ok(Piece::Graph { bytes: 3, .. }), None) => {}
            (made, expected) => panic!("{made:?} {expected:?}"),
        }
    }
}
