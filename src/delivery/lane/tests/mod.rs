//! Lanes against a scripted transport: it makes faults happen on cue, and proves nothing about Matrix.

mod card_life;
mod drain;
mod in_doubt;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, PoisonError},
};

use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::{
    config::{Config, Purpose, Route},
    delivery::{BoxFuture, EventPresence, OwnEvent, ReadBack, RoomChanges, Search},
    intake::{self, Rules},
    model::{IncidentKey, OpState, Reason, RouteName, SendError},
    render::Style,
    store::Ingest,
};

#[derive(Default)]
struct Scripted {
    /// What the next sends come to; then all succeed. `None` panics.
    script: Mutex<VecDeque<Option<Result<(), Reason>>>>,
    /// Rooms that always refuse.
    refusing: Mutex<Vec<RoomAddress>>,
    /// Rooms whose homeserver fails on the events of these ops: the first so many.
    poisoned: Mutex<BTreeMap<RoomAddress, usize>>,
    sent: Mutex<Vec<Sent>>,
    /// Ops whose event is in the room although no answer said so.
    arrived: Mutex<Vec<TxnId>>,
    /// What reading back comes to; then the truth.
    reads: Mutex<VecDeque<Result<ReadBack, Reason>>>,
    /// How often a room was read back.
    searches: Mutex<usize>,
    device: Mutex<Option<String>>,
    /// So far apart must events be that are accepted.
    pace: Mutex<Option<Duration>>,
    accepted_at: Mutex<Option<Instant>>,
    /// Events that are no longer there.
    gone: Mutex<Vec<String>>,
    /// Events that were looked at.
    looks: Mutex<Vec<String>>,
    /// What the next look comes to instead of the truth.
    blind: Mutex<Option<Reason>>,
    news: Mutex<BTreeMap<RoomAddress, RoomChanges>>,
    /// It takes no sends at all, whatever else works.
    takes_nothing: Mutex<bool>,
    /// Rooms whose next event that is not poisoned gets no answer.
    mute: Mutex<Vec<RoomAddress>>,
    /// The homeserver is not known to remember transaction ids.
    forgets: Mutex<bool>,
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
    txn_id: TxnId,
    content: Value,
    accepted: bool,
}

impl Transport for Scripted {
    fn send<'a>(
        &'a self,
        room: &'a RoomAddress,
        txn_id: &'a TxnId,
        content: &'a str,
    ) -> BoxFuture<'a, Result<String, SendError>> {
        let next = self.script.lock().unwrap_or_else(PoisonError::into_inner).pop_front().unwrap_or(Some(Ok(())));
        let refused = self.refusing.lock().unwrap_or_else(PoisonError::into_inner).contains(room);
        let early = self.early();
        let outcome = match next {
            _ if early => Err(Reason::RateLimited),
            _ if refused => Err(Reason::RoomRefused),
            _ if *self.takes_nothing.lock().expect("a lock") => Err(Reason::ServerError),
            _ if self.is_poisoned(room, txn_id) => Err(Reason::ServerError),
            _ if self.is_mute(room) => Err(Reason::NoAnswer),
            next => next.expect("a scripted panic"),
        };
        let content = serde_json::from_str(content).expect("JSON");
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.push(Sent { room: room.clone(), txn_id: txn_id.clone(), content, accepted: outcome.is_ok() });
        let event = format!("${}", sent.len());
        Box::pin(async move { outcome.map(|()| event).map_err(scripted) })
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

    fn news(&self, room: &RoomAddress) -> RoomChanges {
        self.news.lock().expect("a lock").remove(room).unwrap_or_default()
    }

    fn remembers_transactions(&self) -> bool {
        !*self.forgets.lock().expect("a lock")
    }

    fn device(&self) -> Option<String> {
        Some(self.device.lock().expect("a lock").clone().unwrap_or_else(|| "DEVICE".to_owned()))
    }

    fn connected(&self) -> BoxFuture<'_, Result<String, SendError>> {
        Box::pin(async { Ok(self.device().expect("a device")) })
    }
}

struct House {
    _folder: TempDir,
    settings: watch::Sender<Arc<Settings>>,
    context: LaneContext,
    transport: Arc<Scripted>,
    stop: CancellationToken,
    lanes: Vec<tokio::task::JoinHandle<()>>,
    patience: Patience,
}

const ROOM: &str = "!one:example.org";

impl House {
    async fn new(rooms: &str) -> Self {
        Self::at(rooms, Clock::system()).await
    }

    async fn at(rooms: &str, clock: Clock) -> Self {
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

    fn script(&self, outcomes: &[Option<Result<(), Reason>>]) {
        *self.transport.script.lock().expect("a lock") = outcomes.iter().copied().collect();
    }

    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.settings.borrow().config)
    }

    fn start(&mut self) {
        for (room, _) in self.config().rooms() {
            let mut lane = Lane::new(room, self.context.clone(), self.stop.clone());
            lane.patience = self.patience;
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
        let digest = webhook.content_hash.clone();
        let decide = Box::new(move |known: Option<&crate::model::Known>, now| {
            let route = config.routes.values().next().expect("a route");
            intake::reconcile(known, &webhook, &Rules::of(route, &config.display), now)
        });
        let (resolved, settle) = (Vec::new(), Box::new(|_: &crate::model::Known, _| None));
        let ingest = Ingest { key, body: Vec::new(), digest, by_receiver: false, rooms, decide, resolved, settle };
        self.context.store.ingest(ingest).await.expect("committed");
    }

    fn sent(&self) -> Vec<Sent> {
        self.transport.sent.lock().expect("a lock").clone()
    }

    async fn is_due(&self, room: &RoomAddress) -> bool {
        let due = self.context.store.due(room).await.expect("due");
        !(due.new.is_empty() && due.notes.is_empty() && due.edits.is_empty())
    }

    /// Waits until nothing is left to do in any room that does not refuse.
    async fn settled(&self) -> Vec<Sent> {
        self.settled_within(1_000).await
    }

    /// The same, looked at so many times, 10 ms apart.
    async fn settled_within(&self, looks: usize) -> Vec<Sent> {
        for _ in 0..looks {
            let refusing = self.transport.refusing.lock().expect("a lock").clone();
            let mut left = false;
            for (room, _) in self.config().rooms() {
                let due = self.is_due(&room).await;
                let unfinished = self.context.store.unfinished(&room).await.expect("read").is_some();
                let parked = self.context.store.next_parked(&room).await.expect("read").is_some();
                // Asked again: an op may have been thawed since, and then neither of the first two was seen.
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

#[tokio::test]
async fn a_card_its_reply_its_edit_and_its_end() {
    let mut house = House::new(ROOM).await;
    house.start();
    house.post("a").await;
    house.settled().await;
    house.post("a b").await;
    house.settled().await;
    house.post("-a -b").await;
    let sent = house.settled().await;
    assert_eq!(
        kinds(&sent),
        ["card m.text", "m.thread m.text", "m.replace m.text", "m.thread m.notice", "m.replace m.notice"]
    );
    assert_eq!(sent[3].content["m.relates_to"]["event_id"], "$1");
    assert_eq!(sent[3].content["m.relates_to"]["m.in_reply_to"]["event_id"], "$2");
    assert_eq!(sent[4].content["m.relates_to"]["event_id"], "$1");
    assert!(sent.iter().all(|sent| sent.content["matrix_alertmanager_receiver"]["op"] == sent.txn_id.as_str()));
}

#[tokio::test]
async fn what_was_over_before_it_could_be_shown_is_one_resolved_card() {
    let mut house = House::new(ROOM).await;
    house.post("a").await;
    house.post("a b").await;
    house.post("-a -b").await;
    house.start();
    assert_eq!(kinds(&house.settled().await), ["card m.notice"]);
}

#[tokio::test]
async fn an_outage_is_followed_by_the_newest_state_not_by_a_replay() {
    let mut house = House::new(ROOM).await;
    house.script(&[Some(Err(Reason::Unreachable))]);
    house.start();
    house.post("a").await;
    while house.sent().is_empty() {
        sleep(Duration::from_millis(5)).await;
    }
    house.post("-a").await;
    let sent = house.settled().await;
    assert_eq!(kinds(&sent), ["card m.text failed", "card m.notice"]);
    assert_ne!(sent[0].txn_id, sent[1].txn_id, "what surely did not arrive is frozen anew");
}

#[tokio::test]
async fn an_op_in_doubt_goes_out_again_as_it_was() {
    for reason in [Reason::NoAnswer, Reason::ServerError, Reason::Unreadable] {
        let mut house = House::new(ROOM).await;
        // Once in doubt, not even a definite fault that is not its own thaws it.
        house.script(&[Some(Err(reason)), Some(Err(Reason::RateLimited))]);
        house.start();
        house.post("a").await;
        while house.sent().is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
        house.post("-a").await;
        let sent = house.settled().await;
        assert_eq!(
            kinds(&sent),
            ["card m.text failed", "card m.text failed", "card m.text", "m.thread m.notice", "m.replace m.notice"],
            "{reason:?}"
        );
        assert!(sent[..3].iter().all(|s| s.txn_id == sent[0].txn_id && s.content == sent[0].content));
    }
}

#[tokio::test]
async fn what_is_refused_is_sent_plainer_and_then_set_aside() {
    let mut house = House::new(ROOM).await;
    house.script(&[Some(Err(Reason::TooLarge)), Some(Err(Reason::BadEvent)), Some(Err(Reason::BadEvent))]);
    house.start();
    house.post("a").await;
    let sent = house.settled().await;
    assert_eq!(kinds(&sent), ["card m.text failed"; 3]);
    let dead = house.context.store.stats(&[]).await.expect("stats").ops;
    assert_eq!(dead, [(OpState::Dead, 1)]);
    house.post("a b").await;
    assert_eq!(kinds(&house.settled().await)[3..], ["card m.text"], "its next news gets through");
}

#[tokio::test]
async fn a_rate_limit_holds_the_account_and_merges_what_waits() {
    let mut house = House::new("!one:example.org,!two:example.org").await;
    house.script(&[Some(Err(Reason::RateLimited))]);
    house.post("a").await;
    house.start();
    while house.sent().is_empty() {
        sleep(Duration::from_millis(5)).await;
    }
    house.post("a b").await;
    let sent = house.settled().await;
    let accepted: Vec<&Sent> = sent.iter().filter(|sent| sent.accepted).collect();
    assert_eq!(house.context.metrics.rate_limited.get(), 1);
    // The room that was refused shows both alerts on its first card.
    let refused = &sent.iter().find(|sent| !sent.accepted).expect("one").room;
    let of_refused: Vec<Sent> = accepted.iter().filter(|s| s.room == *refused).map(|s| (*s).clone()).collect();
    assert_eq!(kinds(&of_refused), ["card m.text"]);
    assert!(house.context.health.snapshot().account_hold.is_none());
}

#[tokio::test]
async fn a_room_that_refuses_holds_nobody_else() {
    let mut house = House::new("!one:example.org,!two:example.org").await;
    let first = RoomAddress::parse("!one:example.org").expect("a room");
    house.transport.refusing.lock().expect("a lock").push(first.clone());
    house.start();
    house.post("a").await;
    let sent = house.settled().await;
    assert_eq!(sent.iter().filter(|sent| sent.accepted).count(), 1);
    let hold = loop {
        match house.context.health.snapshot().rooms[&first].hold.clone() {
            Some(hold) => break hold,
            None => sleep(Duration::from_millis(5)).await,
        }
    };
    assert!(hold.reason.contains("room_refused"), "{hold:?}");
    assert!(house.context.health.snapshot().account_hold.is_none());
    assert_eq!(house.context.store.due(&first).await.expect("due").new.len(), 1, "nothing is dropped");
}

#[tokio::test]
async fn a_panic_in_a_lane_is_caught_and_the_lane_goes_on() {
    let mut house = House::new(ROOM).await;
    house.script(&[None]);
    house.start();
    house.post("a").await;
    assert_eq!(kinds(&house.settled().await), ["card m.text"]);
    assert_eq!(house.context.metrics.lane_panics.get(), 1);
}
