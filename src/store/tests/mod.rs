//! SQLite in a temp folder is the fake.

use std::{path::Path, sync::Arc, time::Duration};

use tempfile::TempDir;

use super::{
    db::{database::Database, test_database::is_shared},
    *,
};
use crate::{
    clock::Clock,
    config,
    health::Health,
    metrics::Metrics,
    model::{
        Alert, AlertDoc, AlertKey, AlertState, CardState, Changes, Form, IncidentDoc, IncidentId, IncidentKey,
        IncidentState, IncidentWrite, Known, Labels, NewNote, NoteArgs, NoteKind, NotificationId, Op, OpKind, OpState,
        Outcome, RoomAddress, RouteName, Timestamp, TxnId,
    },
};

mod acts;
mod addresses;
mod answers;
mod checkpoints;
mod common;
mod dead_letters;
mod due;
mod elsewhere;
mod escalations;
mod found;
mod heartbeats;
mod lease;
mod migration;
mod opening;
mod openings;
mod ops;
mod overview;
mod repeats;
mod rerouted;
mod retention;
mod sample;
mod scans;
mod takings;
mod timeline;
mod unrouted;
mod wakes;

struct Fixture {
    store: Store,
    metrics: Arc<Metrics>,
    clock: Clock,
}

async fn open(folder: &Path) -> Fixture {
    let clock = Clock::manual(Timestamp(1_000_000));
    let metrics = Arc::new(Metrics::new(&[], &[], "v", "c"));
    let health = Arc::new(Health::default());
    let store = Store::open(folder, clock.clone(), Arc::clone(&metrics), health).await.expect("a store");
    Fixture { store, metrics, clock }
}

/// Another replica, on PostgreSQL.
async fn open_beside(store: &Store, folder: &Path, clock: Clock, metrics: Arc<Metrics>) -> Store {
    let config = config::Store {
        path: folder.to_owned(),
        retention: Duration::ZERO,
        database_url: match &store.database {
            Database::Postgres(url) => Some(url.clone()),
            Database::Sqlite(_) => None,
        },
        replica: "other".to_owned(),
    };
    Store::open_as_configured(&config, clock, metrics, Arc::new(Health::default())).await.expect("a store")
}

fn room() -> RoomAddress {
    RoomAddress::parse("!room:example.org").expect("a room")
}

fn key(group: &str) -> IncidentKey {
    IncidentKey {
        route: RouteName::parse("default").expect("a route"),
        receiver: "r".to_owned(),
        group_key: group.to_owned(),
    }
}

fn alert(fingerprint: &str, state: AlertState) -> Alert {
    Alert {
        fingerprint: fingerprint.to_owned(),
        state,
        starts_at: Timestamp(1),
        ends_at: (state == AlertState::Resolved).then_some(Timestamp(2)),
        absent_since: None,
        changed_at: Timestamp(3),
        seen: None,
        doc: AlertDoc::default(),
    }
}

/// Adds one alert (or resolves the incident) whatever is known.
fn adding(known: Option<&Known>, fingerprint: &str, state: IncidentState, notes: Vec<NewNote>) -> Changes {
    let of = if state.is_open() { AlertState::Firing } else { AlertState::Resolved };
    Changes {
        outcome: if known.is_some() { Outcome::Changed } else { Outcome::Opened },
        write: if known.is_some() { IncidentWrite::Update } else { IncidentWrite::Insert },
        state,
        severity: 0,
        closed_at: (!state.is_open()).then_some(Timestamp(1_000_000)),
        flaps: 0,
        doc: IncidentDoc::default(),
        alerts: vec![alert(fingerprint, of)],
        forgotten: Vec::new(),
        visible: true,
        notes,
        reposts: Vec::new(),
    }
}

fn ingest(group: &str, fingerprint: &str, state: IncidentState) -> Ingest {
    let fingerprint = fingerprint.to_owned();
    let note = NewNote { kind: NoteKind::NewFiring, args: NoteArgs::default(), cards: None };
    Ingest {
        key: key(group),
        body: b"{}".to_vec(),
        content_hash: String::new(),
        rooms: vec![room()],
        decide: Arc::new(move |known, _| {
            let notes = if known.is_some() { vec![note.clone()] } else { Vec::new() };
            adding(known, &fingerprint, state, notes)
        }),
        by_receiver: false,
        resolved: Vec::new(),
        settle: Box::new(|_, _| None),
        beats: Vec::new(),
    }
}

fn unchanged(group: &str) -> Ingest {
    Ingest {
        decide: Arc::new(|known, _| Changes {
            outcome: Outcome::Unchanged,
            write: IncidentWrite::Update,
            alerts: Vec::new(),
            visible: false,
            ..adding(known, "", IncidentState::Firing, Vec::new())
        }),
        ..ingest(group, "", IncidentState::Firing)
    }
}

fn op_for(snapshot: &Snapshot, kind: OpKind, txn: &str) -> NewOp {
    let (incident, _) = &snapshot.incidents[0];
    NewOp {
        txn_id: TxnId(txn.to_owned()),
        card: snapshot.card.id.clone(),
        room: room(),
        kind,
        content: "{}".to_owned(),
        rev: snapshot.rev(),
        last_edit: kind == OpKind::Edit && snapshot.card.state.owes_last_edit(),
        form: Form::Full,
        speaks: true,
        since: snapshot.card.dirty_since.expect("due"),
        notification: incident.notification.clone(),
        incident: incident.id.clone(),
        device: Some("D".to_owned()),
        first_try: Timestamp(5),
        notes: snapshot.notes.iter().map(|note| note.id).collect(),
        alert: None,
    }
}

/// A clock that was ahead once has left a closed incident "from the future": the group's webhooks still find the open one,
/// and after it the one that closed last.
#[tokio::test]
async fn an_open_incident_comes_first_whatever_the_clock_said() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, clock, .. } = open(folder.path()).await;
    let reported = |open: bool| {
        let state = if open { IncidentState::Firing } else { IncidentState::Resolved };
        let again = ingest("g", "x", state);
        Ingest {
            decide: Arc::new(move |known, _| {
                // What is over stays over; what fires again opens again.
                let known = known.filter(|known| known.incident.state.is_open());
                adding(known, "x", state, Vec::new())
            }),
            ..again
        }
    };
    store.ingest(reported(true)).await.expect("committed");
    store.ingest(reported(false)).await.expect("committed");
    let ahead = "UPDATE incident SET opened_at = opened_at + 864000000, closed_at = closed_at + 864000000";
    store
        .write(move |connection, _| {
            Box::pin(async move {
                sqlx::query(ahead).execute(connection).await?;
                Ok(())
            })
        })
        .await
        .expect("committed");
    clock.advance(Duration::from_secs(1));
    let opened = store.ingest(reported(true)).await.expect("committed").incident.expect("an incident");
    for open in [true, true, false] {
        let found = store.ingest(reported(open)).await.expect("no second open incident").incident;
        assert_eq!(found.as_ref(), Some(&opened), "not the one from the future");
    }
    let after = store.ingest(ingest("g", "y", IncidentState::Resolved)).await.expect("committed").incident;
    assert_eq!(after, Some(opened), "the one that closed last");
}

async fn due_kinds(store: &Store) -> (usize, usize, usize) {
    let due = store.due(&room()).await.expect("due");
    (due.new.len(), due.notes.len(), due.edits.len())
}

async fn snapshot(store: &Store) -> Snapshot {
    let due = store.due(&room()).await.expect("due");
    let card = due.new.iter().chain(&due.notes).chain(&due.edits).next().expect("a due card").card.clone();
    store.snapshot(&card).await.expect("read").expect("a card")
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_webhooks_share_commits_and_lose_nothing() {
    let folder = TempDir::new().expect("a folder");
    let fixture = open(folder.path()).await;
    let before = fixture.metrics.store_commit_seconds.get_sample_count();
    let posts = (0..64).map(|n| {
        let (store, group) = (fixture.store.clone(), format!("g{}", n % 4));
        tokio::spawn(async move { store.ingest(ingest(&group, &format!("f{n}"), IncidentState::Firing)).await })
    });
    for post in posts.collect::<Vec<_>>() {
        post.await.expect("no panic").expect("committed");
    }
    let commits = fixture.metrics.store_commit_seconds.get_sample_count() - before;
    assert!(commits < 32, "{commits} commits for 64 webhooks that came at once");
    let due = fixture.store.due(&room()).await.expect("due");
    assert_eq!(due.new.len(), 4);
    let mut alerts = 0;
    for card in due.new {
        alerts += fixture.store.snapshot(&card.card).await.expect("read").expect("a card").incidents[0].0.alerts.len();
    }
    assert_eq!(alerts, 64);
}

#[tokio::test]
async fn what_waits_to_be_said_on_a_card_has_a_bound_and_the_newest_is_kept() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    store.ingest(ingest("g", "a", IncidentState::Firing)).await.expect("committed");
    let reported = |from: i64, to: i64| Ingest {
        decide: Arc::new(move |known, _| {
            let args = |n: i64| NoteArgs { fingerprints: vec![n.to_string()], ..NoteArgs::default() };
            let note = |n| NewNote { kind: NoteKind::NewFiring, args: args(n), cards: None };
            adding(known, "a", IncidentState::Firing, (from..to).map(note).collect())
        }),
        ..ingest("g", "a", IncidentState::Firing)
    };
    let waiting = async || snapshot(&store).await.notes.iter().map(|note| note.args.fingerprints[0].clone()).collect();
    store.ingest(reported(0, cards::save::NOTES)).await.expect("committed");
    let all: Vec<String> = waiting().await;
    assert_eq!((all.len(), all[0].as_str()), (1_000, "0"));
    store.ingest(reported(cards::save::NOTES, cards::save::NOTES + 3)).await.expect("committed");
    let newest: Vec<String> = waiting().await;
    assert_eq!((newest.len(), newest[0].as_str(), newest[999].as_str()), (1_000, "3", "1002"));
}

#[tokio::test]
async fn a_card_goes_from_new_to_notes_to_edits_to_done() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    store.ingest(ingest("g", "a", IncidentState::Firing)).await.expect("committed");
    assert_eq!(due_kinds(&store).await, (1, 0, 0));
    let root = store.freeze(op_for(&snapshot(&store).await, OpKind::Card, "t1")).await.expect("frozen");
    assert_eq!(due_kinds(&store).await, (0, 0, 0));
    // News while the first event is under way must not get lost when it is acknowledged.
    store.ingest(ingest("g", "b", IncidentState::Firing)).await.expect("committed");
    store.finish(&root, "$root").await.expect("recorded");
    assert_eq!(due_kinds(&store).await, (0, 1, 0));
    let reply = store.freeze(op_for(&snapshot(&store).await, OpKind::Reply, "t2")).await.expect("frozen");
    store.finish(&reply, "$reply").await.expect("recorded");
    assert_eq!(due_kinds(&store).await, (0, 0, 1));
    let behind = snapshot(&store).await;
    assert_eq!(behind.card.last_reply.as_deref(), Some("$reply"));
    assert!(behind.is_behind() && behind.notes.is_empty());
    let edit = store.freeze(op_for(&behind, OpKind::Edit, "t3")).await.expect("frozen");
    store.finish(&edit, "$edit").await.expect("recorded");
    assert_eq!(due_kinds(&store).await, (0, 0, 0));
    assert_eq!(store.stats(&[room()]).await.expect("stats").oldest, None);
}

#[tokio::test]
async fn digests_that_wait_do_not_grow_without_end() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    for n in 0..450 {
        store.ingest(ingest(&format!("g{n}"), "a", IncidentState::Firing)).await.expect("committed");
    }
    // As in an outage, in which nothing that was made gets sent.
    let mut sizes = Vec::new();
    while let Some(digest) = store.make_digest(&room()).await.expect("committed") {
        sizes.push(store.snapshot(&digest).await.expect("read").expect("a digest").incidents.len());
    }
    assert_eq!(sizes, [200, 200, 50]);
}

#[tokio::test]
async fn a_failed_job_undoes_itself_alone() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    // An update without an incident fails after its notification was inserted.
    let bad = store.ingest(unchanged("nobody"));
    let good = store.ingest(ingest("g", "a", IncidentState::Firing));
    let (bad, good) = tokio::join!(bad, good);
    assert!(bad.is_err());
    good.expect("committed");
    let count: i64 =
        sqlx::query_scalar("SELECT count(*) FROM notification").fetch_one(&store.readers.pool).await.expect("counted");
    assert_eq!(count, 1);
}

#[tokio::test]
async fn a_dead_letter_lets_the_card_go_on() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    store.ingest(ingest("g", "a", IncidentState::Firing)).await.expect("committed");
    let op = store.freeze(op_for(&snapshot(&store).await, OpKind::Card, "t1")).await.expect("frozen");
    store.mark_dead(&op, "too_large", None).await.expect("buried");
    assert_eq!(due_kinds(&store).await, (0, 0, 0));
    assert_eq!(store.stats(&[room()]).await.expect("stats").ops, [(OpState::Dead, 1)]);
    store.ingest(ingest("g", "b", IncidentState::Firing)).await.expect("committed");
    assert_eq!(due_kinds(&store).await, (1, 0, 0), "its next news is tried again");
}

#[tokio::test]
async fn pruning_counts_from_closing_and_spares_what_is_open_or_unshown() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, clock, .. } = open(folder.path()).await;
    store.ingest(ingest("shown", "a", IncidentState::Resolved)).await.expect("committed");
    let op = store.freeze(op_for(&snapshot(&store).await, OpKind::Card, "t1")).await.expect("frozen");
    store.finish(&op, "$1").await.expect("recorded");
    store.ingest(ingest("unshown", "a", IncidentState::Resolved)).await.expect("committed");
    store.ingest(ingest("open", "a", IncidentState::Firing)).await.expect("committed");
    let day = Duration::from_hours(24);
    store.prune(7 * day).await.expect("pruned");
    let groups = async || -> Vec<String> {
        sqlx::query_scalar("SELECT group_key FROM incident ORDER BY group_key")
            .fetch_all(&store.readers.pool)
            .await
            .expect("read")
    };
    assert_eq!(groups().await, ["open", "shown", "unshown"]);
    clock.advance(8 * day);
    store.prune(7 * day).await.expect("pruned");
    assert_eq!(groups().await, ["open", "unshown"]);
    let left: i64 =
        sqlx::query_scalar("SELECT count(*) FROM card").fetch_one(&store.readers.pool).await.expect("counted");
    assert_eq!(left, 2);
}

/// `digest_above` may be more than a list of what is due holds: what it has no room for is counted.
#[tokio::test]
async fn what_a_list_of_due_cards_has_no_room_for_is_counted() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    let resolved = |group: &str, kind| Ingest {
        decide: Arc::new(move |known, _| {
            adding(known, "a", IncidentState::Resolved, vec![NewNote { kind, args: NoteArgs::default(), cards: None }])
        }),
        ..ingest(group, "a", IncidentState::Resolved)
    };
    let posted = async |n: usize| {
        let op = store.freeze(op_for(&snapshot(&store).await, OpKind::Card, &n.to_string())).await.expect("frozen");
        store.finish(&op, &format!("${n}")).await.expect("recorded");
    };
    for n in 0..70 {
        store.ingest(ingest(&format!("g{n:02}"), "a", IncidentState::Firing)).await.expect("committed");
    }
    let due = store.due(&room()).await.expect("due");
    assert_eq!((due.new.len(), due.green_beyond), (64, 0));
    for n in 0..70 {
        posted(n).await;
    }
    for n in 0..70 {
        let kind = if n == 69 { NoteKind::NewFiring } else { NoteKind::Resolved };
        store.ingest(resolved(&format!("g{n:02}"), kind)).await.expect("committed");
    }
    let due = store.due(&room()).await.expect("due");
    assert_eq!((due.notes.len(), due.green_beyond), (64, 5), "one of the six makes phones ring");
}

#[tokio::test]
async fn numbers_go_on_after_a_restart() {
    let folder = TempDir::new().expect("a folder");
    let revs = async |store: &Store| -> Vec<i64> {
        sqlx::query_scalar("SELECT rev FROM incident ORDER BY rev").fetch_all(&store.readers.pool).await.expect("read")
    };
    let first = open(folder.path()).await;
    first.store.ingest(ingest("g", "a", IncidentState::Firing)).await.expect("committed");
    first.store.ingest(ingest("g", "b", IncidentState::Firing)).await.expect("committed");
    let before = revs(&first.store).await;
    first.store.close().await;
    drop(first);
    let second = open(folder.path()).await;
    second.store.ingest(ingest("h", "a", IncidentState::Firing)).await.expect("committed");
    let after = revs(&second.store).await;
    assert!(after.len() == 2 && after[1] > before[0], "{before:?} {after:?}");
    let ids: (IncidentId, NotificationId) = {
        let got = second.store.ingest(unchanged("h")).await.expect("committed");
        (got.incident.expect("known"), got.notification)
    };
    assert!(!ids.0.as_str().is_empty() && !ids.1.as_str().is_empty());
}
