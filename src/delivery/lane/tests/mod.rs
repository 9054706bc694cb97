//! Lanes against a scripted transport: it makes faults happen on cue, and proves nothing about Matrix.

mod ahead;
mod answers;
mod card_life;
mod drain;
mod escalations;
mod evidence;
mod in_doubt;
mod replicas;
mod sends;
mod storms;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, PoisonError},
};

use super::{in_doubt::InDoubt, *};
use crate::{
    clock::Clock,
    config::{Config, Purpose, Route},
    delivery::{
        BoxFuture, EventPresence, FrozenEvent, Gate, OwnEvent, ReadBack, RoomChanges, Search, Transport,
        poison::{Patience, PoisonCheck},
    },
    health::Health,
    intake::{self, Rules},
    metrics::Metrics,
    model::{IncidentId, IncidentKey, NotificationId, RoomName, RouteName, Timestamp, TxnId},
    render::Style,
    store::{Ingest, Store},
};
use serde_json::Value;
use tempfile::TempDir;

#[derive(Default)]
struct Scripted {
    /// The outcomes of the next sends; then all succeed. `None` panics.
    script: Mutex<VecDeque<Option<Result<(), Reason>>>>,
    /// Rooms that always refuse.
    refusing: Mutex<Vec<RoomAddress>>,
    /// Rooms whose homeserver fails on the events of these ops: the first so many.
    poisoned: Mutex<BTreeMap<RoomAddress, usize>>,
    sent: Mutex<Vec<Sent>>,
    /// Ops whose event is in the room although no answer said so.
    arrived: Mutex<Vec<TxnId>>,
    /// The outcomes of the next searches; then the truth.
    reads: Mutex<VecDeque<Result<ReadBack, Reason>>>,
    /// How often, and when last, it was asked whether a room is plain.
    asked: Mutex<(usize, Option<Instant>)>,
    /// How often a room was searched.
    searches: Mutex<usize>,
    device: Mutex<Option<String>>,
    /// Rooms that have another device.
    devices: Mutex<BTreeMap<RoomAddress, String>>,
    /// Rooms that no device can send to, and why.
    without_device: Mutex<BTreeMap<RoomAddress, Reason>>,
    /// The least time between two events that are accepted.
    pace: Mutex<Option<Duration>>,
    accepted_at: Mutex<Option<Instant>>,
    /// Events that are no longer there.
    gone: Mutex<Vec<String>>,
    /// Events whose presence was checked.
    looks: Mutex<Vec<String>>,
    /// The outcome of the next check instead of the truth.
    blind: Mutex<Option<Reason>>,
    changes: Mutex<BTreeMap<RoomAddress, RoomChanges>>,
    /// It accepts no sends at all, whatever else works.
    accepts_nothing: Mutex<bool>,
    /// Rooms whose next event that is not poisoned gets no answer.
    mute: Mutex<Vec<RoomAddress>>,
    /// The homeserver is not known to remember transaction ids.
    forgets: Mutex<bool>,
    /// The next send is never answered.
    hangs: Mutex<bool>,
    /// How long the homeserver takes for each send.
    takes: Mutex<Duration>,
    /// The next send is answered once this is notified.
    holds: Mutex<Option<Arc<tokio::sync::Notify>>>,
}

impl Scripted {
    fn is_poisoned(&self, room: &RoomAddress, txn_id: &TxnId) -> bool {
        let poisoned = self.poisoned.lock().expect("a lock").get(room).copied().unwrap_or(0);
        let mut ops: Vec<TxnId> = Vec::new();
        for sent in self.sent.lock().expect("a lock").iter().filter(|sent| sent.room == *room) {
            if !ops.contains(&sent.txn_id) {
                ops.push(sent.txn_id.clone());
            }
        }
        ops.iter().position(|op| op == txn_id).unwrap_or(ops.len()) < poisoned
    }

    fn is_mute(&self, room: &RoomAddress) -> bool {
        let mut mute = self.mute.lock().expect("a lock");
        let at = mute.iter().position(|one| one == room);
        at.map(|at| mute.remove(at)).is_some()
    }

    /// Whether another event was accepted a moment ago.
    fn early(&self) -> bool {
        let Some(pace) = *self.pace.lock().expect("a lock") else { return false };
        let mut accepted_at = self.accepted_at.lock().expect("a lock");
        let early = accepted_at.is_some_and(|at| at.elapsed() < pace);
        if !early {
            *accepted_at = Some(Instant::now());
        }
        early
    }

    fn history(&self, room: &RoomAddress) -> ReadBack {
        let arrived = self.arrived.lock().expect("a lock");
        let sent = self.sent.lock().expect("a lock");
        let found = sent.iter().enumerate().rev();
        let found = found.filter(|(_, one)| one.room == *room && (one.accepted || arrived.contains(&one.txn_id)));
        let events = found.map(|(index, one)| OwnEvent {
            event_id: format!("${}", index + 1),
            op: Some(one.txn_id.clone()),
            incident: None,
            starts_card: one.content.get("m.relates_to").is_none(),
        });
        ReadBack { events: events.collect(), complete: true }
    }
}

fn scripted(reason: Reason) -> SendError {
    SendError {
        reason,
        retry_after: (reason == Reason::RateLimited).then_some(Duration::from_millis(300)),
        detail: "scripted".to_owned(),
    }
}

#[derive(Clone, Debug)]
struct Sent {
    room: RoomAddress,
    event_type: String,
    txn_id: TxnId,
    content: Value,
    accepted: bool,
    at: Instant,
    /// Since when an answer counts that the room is plain.
    asked_since: Option<Instant>,
}

impl Transport for Scripted {
    fn send<'a>(&'a self, room: &'a RoomAddress, event: FrozenEvent<'a>) -> BoxFuture<'a, Result<String, SendError>> {
        let next = self.script.lock().unwrap_or_else(PoisonError::into_inner).pop_front().unwrap_or(Some(Ok(())));
        let refused = self.refusing.lock().unwrap_or_else(PoisonError::into_inner).contains(room);
        let early = self.early();
        let outcome = match next {
            _ if early => Err(Reason::RateLimited),
            _ if refused => Err(Reason::RoomRefused),
            _ if *self.accepts_nothing.lock().expect("a lock") => Err(Reason::ServerError),
            _ if self.is_poisoned(room, event.txn_id) => Err(Reason::ServerError),
            _ if self.is_mute(room) => Err(Reason::NoAnswer),
            next => next.expect("a scripted panic"),
        };
        let content = serde_json::from_str(event.content).expect("JSON");
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let event_type = event.event_type.to_owned();
        let accepted = outcome.is_ok();
        sent.push(Sent {
            room: room.clone(),
            event_type,
            txn_id: event.txn_id.clone(),
            content,
            accepted,
            at: Instant::now(),
            asked_since: event.asked_since,
        });
        let event = format!("${}", sent.len());
        if std::mem::take(&mut *self.hangs.lock().expect("a lock")) {
            return Box::pin(std::future::pending());
        }
        let held = self.holds.lock().expect("a lock").take();
        let takes = *self.takes.lock().expect("a lock");
        Box::pin(async move {
            if !takes.is_zero() {
                sleep(takes).await;
            }
            if let Some(held) = held {
                held.notified().await;
            }
            outcome.map(|()| event).map_err(scripted)
        })
    }

    fn ask_ahead<'a>(&'a self, _: &'a RoomAddress, enough: Option<Instant>) -> BoxFuture<'a, ()> {
        let mut asked = self.asked.lock().expect("a lock");
        if asked.1.zip(enough).is_none_or(|(at, enough)| at < enough) {
            *asked = (asked.0 + 1, Some(Instant::now()));
        }
        Box::pin(std::future::ready(()))
    }

    fn read_back<'a>(&'a self, room: &'a RoomAddress, _: Search<'a>) -> BoxFuture<'a, Result<ReadBack, SendError>> {
        *self.searches.lock().expect("a lock") += 1;
        let next = self.reads.lock().expect("a lock").pop_front().unwrap_or_else(|| Ok(self.history(room)));
        Box::pin(async move { next.map_err(scripted) })
    }

    fn event_presence<'a>(
        &'a self,
        _: &'a RoomAddress,
        event: &'a str,
    ) -> BoxFuture<'a, Result<EventPresence, SendError>> {
        self.looks.lock().expect("a lock").push(event.to_owned());
        let gone = self.gone.lock().expect("a lock").iter().any(|gone| gone == event);
        let blind = self.blind.lock().expect("a lock").take();
        Box::pin(async move {
            match blind {
                Some(reason) => Err(scripted(reason)),
                None => Ok(if gone { EventPresence::Missing } else { EventPresence::Present }),
            }
        })
    }

    fn take_room_changes(&self, room: &RoomAddress) -> RoomChanges {
        self.changes.lock().expect("a lock").remove(room).unwrap_or_default()
    }

    fn has_room_changes(&self, room: &RoomAddress) -> bool {
        self.changes.lock().expect("a lock").contains_key(room)
    }

    fn remembers_transactions(&self) -> bool {
        !*self.forgets.lock().expect("a lock")
    }

    fn device(&self, room: &RoomAddress) -> Option<String> {
        if let Some(device) = self.devices.lock().expect("a lock").get(room) {
            return Some(device.clone());
        }
        Some(self.device.lock().expect("a lock").clone().unwrap_or_else(|| "DEVICE".to_owned()))
    }

    fn connected<'a>(&'a self, room: &'a RoomAddress) -> BoxFuture<'a, Result<String, SendError>> {
        let refused = self.without_device.lock().expect("a lock").get(room).copied();
        Box::pin(
            async move { refused.map_or_else(|| Ok(self.device(room).expect("a device")), |why| Err(scripted(why))) },
        )
    }
}

pub(super) struct Harness {
    _folder: TempDir,
    settings: watch::Sender<Arc<Settings>>,
    context: LaneContext,
    transport: Arc<Scripted>,
    stop: CancellationToken,
    lanes: Vec<tokio::task::JoinHandle<()>>,
    patience: Patience,
}

const ROOM: &str = "!one:example.org";

/// An op that was just frozen.
pub(super) fn sample_op() -> Op {
    Op {
        txn_id: TxnId("op".to_owned()),
        card: CardId("card".to_owned()),
        room: RoomAddress::parse(ROOM).expect("a room"),
        kind: OpKind::Card,
        content: "{}".to_owned(),
        rev: 1,
        form: Form::Full,
        last_edit: false,
        speaks: true,
        since: Timestamp(0),
        notification: NotificationId("notification".to_owned()),
        incident: IncidentId("incident".to_owned()),
        device: None,
        state: OpState::InFlight,
        first_try: None,
        attempts: 1,
        frozen_seq: 0,
        alone: false,
    }
}

impl Harness {
    async fn new(rooms: &str) -> Self {
        Self::at(rooms, Clock::system()).await
    }

    pub(super) async fn at(rooms: &str, clock: Clock) -> Self {
        Self::with(rooms, clock, "").await
    }

    /// `default`: keys of the route.
    async fn with(rooms: &str, clock: Clock, default: &str) -> Self {
        let folder = TempDir::new().expect("a folder");
        let env = BTreeMap::from(
            [
                ("MATRIX_HOMESERVER", "https://matrix.example.org"),
                ("MATRIX_USER_ID", "@bot:example.org"),
                ("MATRIX_ACCESS_TOKEN", "t"),
                ("MATRIX_ROOM_ID", rooms),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        let file = folder.path().join("config.toml");
        std::fs::write(&file, format!("[routes.default]\n{default}\n")).expect("written");
        let config = Config::load(Some(&file), &env, Purpose::Serve).expect("a config");
        let metrics = Arc::new(Metrics::new(&[], &[], "v", "c"));
        let health = Arc::new(Health::new(&config.rooms()));
        let store = Store::open(folder.path(), clock.clone(), Arc::clone(&metrics), Arc::clone(&health))
            .await
            .expect("a store");
        let style = Arc::new(Style::new(&config.display, &config.links).expect("a style"));
        let gate = Arc::new(Gate::new(clock.clone(), Arc::clone(&metrics), Arc::clone(&health)));
        let transport = Arc::new(Scripted::default());
        let settings = watch::Sender::new(Arc::new(Settings::new(Arc::new(config), style)));
        let context = LaneContext {
            settings: settings.subscribe(),
            store,
            transport: Arc::clone(&transport) as Arc<dyn Transport>,
            gate,
            clock,
            metrics,
            health,
            on_shown: Arc::new(|_| {}),
        };
        let patience = Patience { tries: 2, ..Patience::default() };
        Self {
            _folder: folder,
            settings,
            context,
            transport,
            stop: CancellationToken::new(),
            lanes: Vec::new(),
            patience,
        }
    }

    pub(super) fn room_context(&self) -> RoomContext {
        let (room, _) = self.config().rooms().remove(0);
        RoomContext::new(room, &self.context, self.stop.clone())
    }

    fn script(&self, outcomes: &[Option<Result<(), Reason>>]) {
        *self.transport.script.lock().expect("a lock") = outcomes.iter().copied().collect();
    }

    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.settings.borrow().config)
    }

    fn start(&mut self) {
        for (room, _) in self.config().rooms() {
            let mut lane = Lane::new(room, self.context.clone(), self.stop.clone());
            lane.failures.in_doubt = InDoubt::new(self.context.clock.now(), PoisonCheck::new(self.patience));
            self.lanes.push(tokio::spawn(lane.run()));
        }
    }

    async fn stop(&mut self) {
        std::mem::take(&mut self.stop).cancel();
        for lane in self.lanes.drain(..) {
            lane.await.expect("no panic");
        }
    }

    /// `a` fires, `-a` is resolved.
    async fn post(&self, alerts: &str) {
        self.post_group("g", alerts).await;
    }

    async fn post_group(&self, group: &str, alerts: &str) {
        let rooms = self.config().routes[&RouteName::parse("default").expect("a name")].rooms.clone();
        self.post_to(rooms, group, alerts, "warning").await;
    }

    async fn post_to(&self, rooms: Vec<RoomAddress>, group: &str, alerts: &str, severity: &str) {
        let alerts: Vec<Value> = alerts
            .split_whitespace()
            .map(|word| {
                let (status, name) = word.strip_prefix('-').map_or(("firing", word), |name| ("resolved", name));
                serde_json::json!({
                    "status": status, "fingerprint": name, "labels": { "alertname": "A", "pod": name, "severity": severity },
                    "startsAt": "2026-11-22T12:00:00Z",
                    "endsAt": if status == "firing" { "0001-01-01T00:00:00Z" } else { "2026-11-22T12:10:00Z" }
                })
            })
            .collect();
        let body = serde_json::json!({ "receiver": "r", "groupKey": group, "alerts": alerts }).to_string();
        let webhook = intake::decode(body.as_bytes()).expect("a webhook");
        let config = self.config();
        let route: &Route = &config.routes[&RouteName::parse("default").expect("a name")];
        let key = IncidentKey { route: route.name.clone(), receiver: "r".to_owned(), group_key: group.to_owned() };
        let content_hash = webhook.content_hash.clone();
        let decide = Arc::new(move |known: Option<&crate::model::Known>, now| {
            let route = config.routes.values().next().expect("a route");
            intake::reconcile(known, &webhook, &Rules::of(route, &config.display), now)
        });
        let (resolved, settle) = (Vec::new(), Box::new(|_: &crate::model::Known, _| None));
        let ingest = Ingest {
            key,
            body: Vec::new(),
            content_hash,
            by_receiver: false,
            rooms,
            decide,
            resolved,
            settle,
            beats: Vec::new(),
        };
        self.context.store.ingest(ingest).await.expect("committed");
    }

    fn sent(&self) -> Vec<Sent> {
        self.transport.sent.lock().expect("a lock").clone()
    }

    async fn is_due(&self, room: &RoomAddress) -> bool {
        let due = self.context.store.due(room).await.expect("due");
        !(due.new.is_empty() && due.notes.is_empty() && due.edits.is_empty())
    }

    /// Waits until nothing is left to do in any room that does not always refuse.
    async fn settled(&self) -> Vec<Sent> {
        self.settled_within(1_000).await
    }

    /// The same, checked this many times, 10 ms apart.
    async fn settled_within(&self, looks: usize) -> Vec<Sent> {
        for _ in 0..looks {
            let refusing = self.transport.refusing.lock().expect("a lock").clone();
            let mut left = false;
            for (room, _) in self.config().rooms() {
                let due = self.is_due(&room).await;
                let open = self.context.store.open_ops(&room).await.expect("read");
                let (unfinished, parked) = (open.unfinished.is_some(), open.parked.is_some());
                // Asked again: an op may have been requeued since, and then neither of the first two was seen.
                left |= !refusing.contains(&room) && (due || unfinished || parked || self.is_due(&room).await);
            }
            if !left {
                return self.sent();
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("not settled: {:#?}", self.sent());
    }
}

fn kinds(sent: &[Sent]) -> Vec<String> {
    sent.iter()
        .map(|sent| {
            let relation = sent.content["m.relates_to"]["rel_type"].as_str().unwrap_or("card");
            format!(
                "{} {}{}",
                relation,
                sent.content["msgtype"].as_str().expect("a type"),
                if sent.accepted { "" } else { " failed" }
            )
        })
        .collect()
}
