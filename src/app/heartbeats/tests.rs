//! A route with one heartbeat, its webhooks by the real rules, and a clock that the test moves.

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::{
    clock::Clock,
    config::Purpose,
    health::Health,
    intake::{decode, reconcile},
    metrics::Metrics,
    model::{AlertState, Incident, IncidentState},
    store::Ingest,
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);

struct Scene {
    folder: TempDir,
    clock: Clock,
    ticker: Ticker,
}

fn config(timeout: &str, more: &str) -> Arc<Config> {
    let text = format!(
        "[routes.default]\nrooms = [\"!room:example.org\"]\n{more}\
         [[routes.default.heartbeats]]\nname = \"prometheus\"\nmatch = {{ alertname = \"Watchdog\" }}\n\
         by = [\"cluster\"]\ntimeout = \"{timeout}\"\n"
    );
    Arc::new(Config::parse(&text, "test", Purpose::Render).expect("a config"))
}

async fn app(folder: &TempDir, config: Arc<Config>, clock: Clock) -> Arc<App> {
    let metrics = Arc::new(Metrics::new(&[], &[], "v", "c"));
    let health = Arc::new(Health::default());
    let store = Store::open(folder.path(), clock.clone(), Arc::clone(&metrics), Arc::clone(&health)).await;
    health.update(|health| health.started_at = Some(clock.now()));
    Arc::new(App::new(Arc::new(http::Front::new(config, clock, metrics, health)), store.expect("a store")))
}

/// Of the only replica.
fn ticker_of(app: Arc<App>) -> Ticker {
    let store = app.store.clone();
    Ticker::new(app, Box::new(move || Some(store.clone())), "A".to_owned())
}

impl Scene {
    async fn new() -> Self {
        Self::with(config("15m", "")).await
    }

    async fn with(config: Arc<Config>) -> Self {
        let (folder, clock) = (tempfile::tempdir().expect("a folder"), Clock::manual(Timestamp(1_795_371_600_000)));
        let app = app(&folder, config, clock.clone()).await;
        Self { folder, clock, ticker: ticker_of(app) }
    }

    fn app(&self) -> &Arc<App> {
        &self.ticker.app
    }

    /// A restart after the receiver was stopped for so long. The last commit may be older than the last beat.
    async fn restarts_after(self, away: Duration) -> Self {
        self.app().store.close().await;
        let Self { folder, clock, ticker } = self;
        let config = ticker.app.config();
        drop(ticker);
        clock.advance(away);
        let app = app(&folder, config, clock.clone()).await;
        Self { folder, clock, ticker: ticker_of(app) }
    }

    async fn posts(&self, alerts: &[Value]) -> crate::store::Ingested {
        let body = json!({ "receiver": "r", "groupKey": "g", "alerts": alerts }).to_string();
        let mut webhook = decode(body.as_bytes()).expect("a webhook");
        let config = self.app().config();
        let route = config.routes.values().next().expect("a route");
        let beats = heartbeats::split(&mut webhook, route);
        let (key, rooms) = (
            crate::model::IncidentKey {
                route: route.name.clone(),
                receiver: "r".to_owned(),
                group_key: "g".to_owned(),
            },
            route.rooms.clone(),
        );
        let (name, hash, alerts) = (route.name.clone(), webhook.content_hash.clone(), beats.alerts);
        let ingest = Ingest {
            key,
            body: body.into_bytes(),
            content_hash: hash,
            by_receiver: false,
            rooms,
            decide: Arc::new(move |known, now| {
                let rules = Rules::of(&config.routes[&name], &config.display);
                if alerts.is_empty() {
                    return reconcile(known, &webhook, &rules, now);
                }
                heartbeats::reconcile_rest(known, &webhook, &alerts, &rules, now)
            }),
            resolved: Vec::new(),
            settle: Box::new(|_, _| None),
            beats: beats.switches,
        };
        self.app().store.ingest(ingest).await.expect("committed")
    }

    async fn beats(&self) {
        self.posts(&[watchdog("firing", "one")]).await;
    }

    async fn ends(&self) {
        self.posts(&[watchdog("resolved", "one")]).await;
    }

    async fn ticks(&mut self) {
        self.ticker.tick().await;
        assert!(!self.ticker.has_failed);
    }

    /// Time passes in ticks.
    async fn passes(&mut self, time: Duration) {
        let end = self.clock.now().plus(time);
        while self.clock.now() < end {
            self.clock.advance(SECOND.min(end.since(self.clock.now())));
            self.ticks().await;
        }
    }

    /// Skips the ticks in between, as far as no gap comes of it.
    async fn passes_quickly(&mut self, time: Duration) {
        let end = self.clock.now().plus(time);
        while self.clock.now() < end {
            self.clock.advance((5 * SECOND).min(end.since(self.clock.now())));
            self.ticks().await;
        }
    }

    async fn alarms(&self) -> Vec<Incident> {
        let mut found = Vec::new();
        for switch in self.app().store.heartbeats().await.expect("read") {
            found.extend(self.incident(&switch.key).await);
        }
        found
    }

    async fn incident(&self, key: &SwitchKey) -> Option<Incident> {
        self.app().store.incident_of(&key.incident()).await.expect("read")
    }

    async fn state(&self) -> Option<IncidentState> {
        let all = self.alarms().await;
        assert!(all.len() < 2, "one alarm: {all:#?}");
        all.first().map(|incident| incident.state)
    }
}

fn watchdog(status: &str, cluster: &str) -> Value {
    json!({ "status": status, "labels": { "alertname": "Watchdog", "cluster": cluster } })
}

#[tokio::test]
async fn silence_raises_an_alarm_once_and_a_beat_ends_it() {
    let mut scene = Scene::new().await;
    scene.passes_quickly(20 * MINUTE).await;
    assert_eq!(scene.state().await, None, "armed by the first beat");
    scene.beats().await;
    scene.passes_quickly(14 * MINUTE).await;
    assert_eq!(scene.state().await, None);
    scene.passes_quickly(MINUTE).await;
    assert_eq!(scene.state().await, Some(IncidentState::Firing));
    let incident = scene.alarms().await.remove(0);
    let alert = &incident.alerts[0];
    assert_eq!(
        alert.doc.annotations["summary"],
        "No heartbeat from prometheus (one) for 15 min: alerts may not reach this room"
    );
    assert_eq!((incident.severity, alert.state), (0, AlertState::Firing));
    scene.passes_quickly(10 * MINUTE).await;
    let later = scene.alarms().await.remove(0);
    assert_eq!((later.id, later.rev), (incident.id.clone(), incident.rev), "nothing is said again");
    scene.beats().await;
    scene.passes(SECOND).await;
    let ended = scene.alarms().await.remove(0);
    assert_eq!((ended.id, ended.state), (incident.id, IncidentState::Resolved));
    let silent = ended.alerts[0].ends_at.expect("an end").since(ended.alerts[0].starts_at);
    assert_eq!(silent.as_secs().div_ceil(60), 25, "from the last beat to the next");
    assert_eq!(scene.app().store.heartbeats().await.expect("read")[0].missing_since, None);
}

#[tokio::test]
async fn a_resolved_beat_is_an_alarm_unless_another_alertmanager_beats() {
    let mut scene = Scene::new().await;
    scene.beats().await;
    scene.passes_quickly(4 * MINUTE).await;
    scene.ends().await;
    scene.passes_quickly(50 * SECOND).await;
    // The other one of the cluster.
    scene.beats().await;
    scene.passes_quickly(2 * MINUTE).await;
    assert_eq!(scene.state().await, None);
    scene.ends().await;
    scene.passes_quickly(30 * SECOND).await;
    // The first word of it counts.
    scene.ends().await;
    scene.passes_quickly(30 * SECOND).await;
    assert_eq!(scene.state().await, Some(IncidentState::Firing));
    let said = scene.alarms().await.remove(0).alerts[0].doc.annotations["summary"].clone();
    assert_eq!(said, "No heartbeat from prometheus (one) for 3 min: alerts may not reach this room");
}

#[tokio::test]
async fn a_resolved_beat_arms_nothing() {
    let scene = Scene::new().await;
    scene.ends().await;
    assert_eq!(scene.app().store.heartbeats().await.expect("read"), []);
}

#[tokio::test]
async fn beats_that_repeat_are_seen_and_leave_one_row() {
    let mut scene = Scene::new().await;
    for _ in 0..40 {
        scene.beats().await;
        scene.passes_quickly(MINUTE).await;
    }
    assert_eq!(scene.state().await, None);
    let ingested = scene.posts(&[watchdog("firing", "one")]).await;
    assert_eq!((ingested.outcome.as_str(), ingested.incident), ("beat", None));
}

#[tokio::test]
async fn a_beat_counts_also_where_the_rest_of_its_group_repeats() {
    let mut scene = Scene::new().await;
    let other = json!({ "status": "firing", "labels": { "alertname": "A" } });
    for round in 0..30 {
        let ingested = scene.posts(&[other.clone(), watchdog("firing", "one")]).await;
        assert_eq!(ingested.outcome.as_str(), if round == 0 { "opened" } else { "unchanged" });
        scene.passes_quickly(MINUTE).await;
    }
    assert_eq!(scene.state().await, None);
}

#[tokio::test]
async fn switches_are_apart_and_their_number_is_bounded() {
    let mut scene = Scene::new().await;
    let all: Vec<Value> = (0..250).map(|n| watchdog("firing", &format!("c{n:03}"))).collect();
    assert_eq!(scene.posts(&all).await.unarmed, 50);
    assert_eq!(scene.posts(&all[..100]).await.unarmed, 0);
    for key in scene.app().store.heartbeats().await.expect("read").into_iter().skip(2).map(|switch| switch.key) {
        assert!(
            http::heartbeats::forget(scene.app(), &scene.app().store, &scene.app().config(), key)
                .await
                .expect("committed")
        );
    }
    scene.posts(&all[..1]).await;
    scene.passes_quickly(14 * MINUTE).await;
    scene.posts(&all[..1]).await;
    scene.passes_quickly(MINUTE).await;
    let alarms = scene.alarms().await;
    assert_eq!(alarms.len(), 1, "the other one beats");
}

#[tokio::test]
async fn an_hour_down_is_no_alarm_but_silence_after_it_is() {
    let mut scene = Scene::new().await;
    scene.beats().await;
    scene.passes(5 * SECOND).await;
    let mut scene = scene.restarts_after(60 * MINUTE).await;
    scene.ticks().await;
    assert_eq!(scene.state().await, None);
    scene.passes_quickly(14 * MINUTE + 50 * SECOND).await;
    assert_eq!(scene.state().await, None);
    scene.passes_quickly(10 * SECOND).await;
    assert_eq!(scene.state().await, Some(IncidentState::Firing));
    let said = scene.alarms().await.remove(0).alerts[0].doc.annotations["summary"].clone();
    assert!(said.contains("for 1 h 15 min"), "{said}");
}

#[tokio::test]
async fn restarts_without_end_are_not_an_excuse_without_end() {
    let mut scene = Scene::new().await;
    scene.beats().await;
    for round in 1.. {
        scene = scene.restarts_after(SECOND).await;
        scene.passes_quickly(2 * MINUTE).await;
        if scene.state().await.is_some() {
            assert!((8..=10).contains(&round), "after {round} rounds");
            break;
        }
        assert!(round < 20, "never");
    }
    // And it stays one alarm.
    let before = scene.alarms().await;
    let mut scene = scene.restarts_after(60 * MINUTE).await;
    scene.passes_quickly(20 * MINUTE).await;
    let after = scene.alarms().await;
    assert_eq!((&before[0].id, before[0].rev), (&after[0].id, after[0].rev));
}

#[tokio::test]
async fn a_machine_that_slept_and_a_time_of_503_give_grace_and_a_clock_that_is_set_changes_nothing() {
    for case in ["slept", "503", "503 until the store is back"] {
        let mut scene = Scene::new().await;
        scene.beats().await;
        scene.passes_quickly(10 * MINUTE).await;
        match case {
            "slept" => scene.clock.advance(60 * MINUTE),
            "503" => {
                // Each try of Alertmanager is refused.
                for _ in 0..60 {
                    scene.app().refusals.note_at(scene.clock.now());
                    scene.passes_quickly(MINUTE).await;
                }
            }
            _ => {
                for _ in 0..60 {
                    scene.app().refusals.note_at(scene.clock.now());
                    scene.clock.advance(MINUTE);
                }
            }
        }
        scene.ticks().await;
        assert_eq!(scene.state().await, None, "{case}");
        scene.passes_quickly(13 * MINUTE).await;
        assert_eq!(scene.state().await, None, "{case}");
        scene.passes_quickly(3 * MINUTE).await;
        assert_eq!(scene.state().await, Some(IncidentState::Firing), "{case}");
    }
    for jump in [-86_400_000, 86_400_000] {
        let mut scene = Scene::new().await;
        scene.beats().await;
        scene.clock.jump(jump);
        scene.passes_quickly(14 * MINUTE).await;
        assert_eq!(scene.state().await, None, "{jump}");
        scene.passes_quickly(MINUTE).await;
        assert_eq!(scene.state().await, Some(IncidentState::Firing), "{jump}");
    }
}

#[tokio::test]
async fn a_reload_changes_timeouts_and_drops_what_is_not_watched_any_more() {
    let mut scene = Scene::new().await;
    scene.beats().await;
    scene.passes_quickly(6 * MINUTE).await;
    scene.app().reload(config("5m", ""));
    scene.ticks().await;
    assert_eq!(scene.state().await, Some(IncidentState::Firing));
    let key = scene.app().store.heartbeats().await.expect("read").remove(0).key;
    scene.app().reload(config("1h", ""));
    scene.ticks().await;
    assert_eq!(scene.state().await, Some(IncidentState::Firing), "no beat came");
    let text = "[routes.default]\nrooms = [\"!room:example.org\"]\n";
    scene.app().reload(Arc::new(Config::parse(text, "test", Purpose::Render).expect("a config")));
    scene.ticks().await;
    assert_eq!(scene.app().store.heartbeats().await.expect("read"), []);
    assert_eq!(scene.incident(&key).await.map(|incident| incident.state), Some(IncidentState::Gone));
    assert!(!scene.ticker.has_some, "nothing is read while nothing is watched");
    scene.ticks().await;
    assert_eq!(scene.app().health.snapshot().heartbeats, []);
}

#[tokio::test]
async fn what_is_not_alertmanager_s_is_not_judged_by_polls_nor_by_time() {
    let mut scene = Scene::new().await;
    scene.beats().await;
    scene.passes_quickly(15 * MINUTE).await;
    let route = RouteName::parse("default").expect("a name");
    let store = &scene.app().store;
    assert_eq!(store.receivers_with_open(&route, Timestamp(0)).await.expect("read"), Vec::<String>::new());
    assert_eq!(store.close_stale(&route, Duration::ZERO).await.expect("committed"), 0);
    assert_eq!(scene.state().await, Some(IncidentState::Firing));
}

#[tokio::test]
async fn what_still_misses_reminds_and_what_was_closed_otherwise_comes_again() {
    let mut scene = Scene::new().await;
    scene.beats().await;
    scene.passes_quickly(15 * MINUTE).await;
    let first = scene.alarms().await.remove(0).id;
    let posted = "UPDATE card SET root_event = '$root', root_at = 1, spoke_at = 1, dirty_since = NULL";
    scene.app().store.run_sql(posted).await;
    scene.passes_quickly(2 * MINUTE).await;
    let room = crate::model::RoomAddress::parse("!room:example.org").expect("a room");
    assert_eq!(scene.app().store.due(&room).await.expect("read").notes.len(), 1, "remind_after has passed");
    assert_eq!(scene.alarms().await.remove(0).id, first);
    scene.app().store.run_sql("UPDATE incident SET state = 'stale', closed_at = 1").await;
    scene.passes_quickly(2 * MINUTE).await;
    let second = scene.alarms().await.remove(0);
    assert_eq!(second.state, IncidentState::Firing);
    assert_ne!(second.id, first);
}

#[test]
fn a_gap_in_which_another_replica_led_is_not_one() {
    let missed = |is_absence| Missed { gap: Gap { from: Timestamp(0), to: Timestamp(60_000) }, is_absence };
    for (is_absence, leader, heard) in [
        (true, Some("B"), true),
        // This replica leads again, or nobody does: nobody else was there.
        (true, Some("A"), false),
        (true, None, false),
        // Webhooks that it refused went nowhere else.
        (false, Some("B"), false),
    ] {
        assert_eq!(missed(is_absence).others_heard(leader, "A"), heard, "{is_absence} {leader:?}");
    }
}

#[tokio::test]
async fn a_follower_shows_what_is_missing_and_raises_nothing() {
    let mut scene = Scene::new().await;
    scene.beats().await;
    scene.clock.advance(16 * MINUTE);
    let leader = std::mem::replace(&mut scene.ticker.term, Box::new(|| None));
    scene.ticker.tick().await;
    let shown = |scene: &Scene| scene.app().health.snapshot().heartbeats;
    let armed = |scene: &Scene| shown(scene)[0].armed.expect("armed");
    assert_eq!(armed(&scene).missing_since, None);
    // The late tick has given it a timeout.
    for minute in 0..16 {
        scene.clock.advance(MINUTE);
        scene.ticker.ticked_at = scene.clock.now();
        scene.ticker.tick().await;
        assert_eq!(armed(&scene).missing_since, None, "{minute}");
    }
    scene.ticker.term = leader;
    scene.ticker.tick().await;
    assert!(armed(&scene).missing_since.is_some(), "the leader raises it");
}
