//! What the page makes of the state of things.

use std::{collections::BTreeMap, sync::Arc};

use tempfile::TempDir;

use super::*;
use crate::{
    clock::Clock,
    config::Purpose,
    health::{ArmedSwitch, Delivery, Health, Hold, Replica, Trust},
    http,
    metrics::Metrics,
    model::{NoKeys, RouteName, SwitchKey},
    store::Store,
};

const NOW: Timestamp = Timestamp(1_795_305_600_000);

/// An app that nobody serves, with two rooms, and the folder of its store.
async fn app() -> (App, TempDir) {
    let folder = TempDir::new().expect("a folder");
    let env = [
        ("MATRIX_HOMESERVER", "https://matrix.example.org"),
        ("MATRIX_USER_ID", "@alerts:example.org"),
        ("MATRIX_ACCESS_TOKEN", "syt_secret"),
        ("MATRIX_ROOM_ID", "!abc:example.org,#ops:example.org"),
    ];
    let env: BTreeMap<_, _> = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let config = Config::load(None, &env, Purpose::Serve).expect("a config");
    let (clock, metrics) = (Clock::manual(NOW), Arc::new(Metrics::new(&[], &[], "v", "c")));
    let health = Arc::new(Health::new(&config.rooms()));
    health.update(|health| {
        health.started_at = Some(NOW);
        health.writer_beat = Some(NOW);
        health.last_sync = Some(NOW);
        health.connected = true;
    });
    let store = Store::open(folder.path(), clock.clone(), Arc::clone(&metrics), Arc::clone(&health)).await;
    (App::new(Arc::new(http::Front::new(Arc::new(config), clock, metrics, health)), store.expect("a store")), folder)
}

fn room() -> RoomAddress {
    RoomAddress::parse("#ops:example.org").expect("an alias")
}

fn hold(reason: &str, rate_limit: bool) -> Hold {
    Hold { reason: reason.to_owned(), rate_limit, since: NOW, until: Some(NOW.plus(Duration::from_secs(20))) }
}

/// One that beats, one that is missing, one that is called resolved, and one that never came.
fn heartbeats() -> Vec<Heartbeat> {
    let minutes = |minutes| NOW.minus(Duration::from_mins(minutes));
    let of = |name: &str, cluster: &str, armed| Heartbeat {
        key: SwitchKey {
            route: RouteName::parse("default").expect("a name"),
            name: name.to_owned(),
            labels: [("cluster".to_owned(), cluster.to_owned())].into(),
        },
        armed,
    };
    let armed = |beat_at, missing_since, is_resolved| {
        Some(ArmedSwitch { beat_at, due: minutes(0).plus(Duration::from_mins(14)), is_resolved, missing_since })
    };
    vec![
        of("prometheus", "a", armed(minutes(1), None, false)),
        of("prometheus", "b<i>", armed(minutes(20), Some(minutes(5)), false)),
        of("loki", "", armed(minutes(2), None, true)),
        of("other", "", None),
    ]
}

#[tokio::test]
async fn each_heartbeat_has_a_line() {
    let (app, _folder) = app().await;
    app.health.update(|health| health.heartbeats = heartbeats());
    let page = made(&app).await;
    let part = page.parts.iter().find(|part| part.name == "Heartbeats").expect("a part");
    let expected = [
        "default/other: no beat yet",
        "default/prometheus (b<i>): missing, alarm raised 5 min ago, last beat 20 min ago",
        "default/loki: Alertmanager calls it resolved, last beat 2 min ago, alarm in 14 min",
        "default/prometheus (a): beats, last 1 min ago, alarm in 14 min without another",
    ];
    assert_eq!(part.details, expected);
    let shown = page.html().expect("a page");
    assert!(shown.contains("b&#60;i&#62;") && !shown.contains("b<i>"), "labels are escaped");
}

async fn made(app: &App) -> StatusPage {
    page(app, &app.settings()).await.expect("a page")
}

type Change = fn(&mut crate::health::State);

/// Whatever is the matter, the page's verdict is that of `/healthz`, and its first line says what it is.
#[tokio::test]
async fn the_verdict_is_that_of_healthz_and_says_why() {
    let cases: [(Change, Level, &str, Option<&str>); 10] = [
        (|_| {}, Level::Ok, "Webhooks are taken, and every room shows all that was accepted.", None),
        (
            |health| health.store_fault = Some("disk full".to_owned()),
            Level::Failing,
            "Accepting: Webhooks cannot be committed: disk full",
            Some("Disk full"),
        ),
        (|health| health.stopping = true, Level::Failing, "Accepting: Shutting down", None),
        (
            |health| health.account_hold = Some(hold("rate_limited: 429", true)),
            Level::Degraded,
            "Homeserver: The homeserver limits our rate; what waits is sent when it allows",
            Some("Rate limited"),
        ),
        (
            |health| health.account_hold = Some(hold("token_rejected: M_UNKNOWN_TOKEN", false)),
            Level::Degraded,
            "Homeserver: token_rejected: M_UNKNOWN_TOKEN",
            Some("Token expired or rotated"),
        ),
        (
            |health| health.homeserver_fault = Some("cannot connect to @x:example.org".to_owned()),
            Level::Degraded,
            "Homeserver: Cannot connect to @x:example.org",
            Some("Homeserver down"),
        ),
        (
            |health| {
                let room = health.rooms.get_mut(&room()).expect("known");
                room.hold = Some(hold("room_refused: not joined", false));
            },
            Level::Degraded,
            "Room default/2 is held: room_refused: not joined",
            Some("Wrong room id, or not in the room"),
        ),
        (
            |health| {
                let room = health.rooms.get_mut(&room()).expect("known");
                (room.no_keys, health.no_keys) = (Some(NoKeys::StoreLost), Some(NoKeys::StoreLost));
            },
            Level::Degraded,
            "Room default/2 is held: Encrypted, and the keys of this device are no longer in store.path",
            Some("An encrypted room is held"),
        ),
        (
            |health| health.trust = Trust::Unsigned("no recovery key".to_owned()),
            Level::Degraded,
            "Encryption: Clients show a warning: no recovery key",
            Some("Clients show a warning"),
        ),
        (
            |health| health.heartbeats = heartbeats(),
            Level::Degraded,
            "Heartbeats: Missing: default/prometheus (1 of 2); alerts may not reach us",
            Some("A heartbeat is missing"),
        ),
    ];
    for (change, level, first, heading) in cases {
        let (app, _folder) = app().await;
        app.health.update(change);
        let page = made(&app).await;
        let (report, _) = health::take(&app, &app.settings(), MatrixIds::Blanked).await;
        assert_eq!((page.level, page.level.as_str()), (level, report.status.as_str()), "{first}");
        assert!(page.reasons[0].starts_with(first), "{:?}, not {first}", page.reasons);
        let headings: Vec<_> = page
            .parts
            .iter()
            .map(|part| part.runbook)
            .chain(page.rooms.iter().map(|room| room.runbook))
            .flatten()
            .collect();
        assert_eq!(headings.first().copied(), heading, "{first}");
        let html = page.html().expect("a page");
        assert!(!html.contains("syt_secret"));
        app.store.close().await;
    }
}

#[test]
fn every_heading_that_is_named_is_in_the_runbook() {
    let runbook_md = include_str!("../../../../docs/RUNBOOK.md");
    let reasons = [
        "rate_limited",
        "token_rejected",
        "account_refused",
        "room_refused",
        "keys_not_ready",
        "unreachable",
        "no_answer",
        "server_error",
        "unreadable",
        "not_ready",
    ];
    let named = reasons.map(|reason| runbook(&format!("{reason}: why")).expect("a heading"));
    let others = ["Disk full", "Backlog", "Dead letters", "An encrypted room is held", "Clients show a warning"];
    for heading in named.iter().chain(&others) {
        assert!(runbook_md.contains(&format!("\n## {heading}\n")), "{heading}");
    }
    assert_eq!(runbook("something else"), None);
}

#[tokio::test]
async fn held_rooms_come_first_and_lead_to_the_room_behind_the_alias() {
    let (app, _folder) = app().await;
    let page_before = made(&app).await;
    let links: Vec<_> =
        page_before.rooms.iter().map(|row| (row.room.words.as_str(), row.room.url.as_deref())).collect();
    let by_id = Some("https://matrix.to/#/%21abc%3Aexample.org?via=example.org");
    assert_eq!(links, [("default/1", by_id), ("default/2", None)], "nobody knows yet where the alias leads");
    let place = crate::model::ResolvedRoom { first: "!old".to_owned(), successor: Some("!new".to_owned()) };
    app.store.set_resolved_room(room(), place).await.expect("committed");
    app.health.update(|health| {
        health.rooms.get_mut(&room()).expect("known").hold = Some(hold("room_refused: not joined", false));
        health.delivered(Delivery {
            at: NOW,
            took: Duration::from_millis(120),
            room: room(),
            kind: OpKind::Edit,
            event: "$event".to_owned(),
        });
    });
    let page = made(&app).await;
    let first = &page.rooms[0];
    assert_eq!((first.room.words.as_str(), first.level), ("default/2", Level::Degraded));
    assert_eq!(first.room.url.as_deref(), Some("https://matrix.to/#/%21new?via=example.org"));
    assert_eq!(first.until.as_ref().map(|until| until.near.as_str()), Some("in 20 s"));
    let delivery = &page.deliveries[0];
    assert_eq!((delivery.event.words.as_str(), delivery.took.as_str()), ("edit", "120 ms"));
    assert_eq!(delivery.event.url.as_deref(), Some("https://matrix.to/#/%21new/%24event?via=example.org"));
    app.store.close().await;
}

#[tokio::test]
async fn each_replica_says_who_it_is_and_who_leads() {
    let (app, _folder) = app().await;
    assert_eq!(made(&app).await.replica, None, "the only one");
    let show = |leader: Option<&str>, leads, nobody_for| {
        let nobody_since = Some(NOW.minus(Duration::from_secs(nobody_for))).filter(|_| nobody_for > 0);
        let leader = leader.map(ToOwned::to_owned);
        let replica = Replica { name: "B".to_owned(), leads, leader, nobody_since };
        app.health.update(|health| health.replica = Some(replica));
    };
    for (leader, leads, nobody_for, heading, runbook) in [
        (Some("A"), false, 0, "replica B, leader is A", None),
        (Some("B"), true, 0, "replica B leads", None),
        (None, false, 60, "replica B, nobody has led for 60 s, so that nothing gets into rooms", Some("Nobody leads")),
    ] {
        show(leader, leads, nobody_for);
        let page = made(&app).await;
        assert_eq!(page.replica.as_deref(), Some(heading));
        assert!(page.html().expect("a page").contains(heading), "{heading}");
        let part = page.parts.iter().find(|part| part.name == "Leader");
        assert_eq!(part.and_then(|part| part.runbook), runbook, "{heading}");
    }
}
