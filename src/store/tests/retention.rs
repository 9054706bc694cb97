//! What is forgotten, what is not, and that the file does not grow for good.

use super::*;

const DAY: Duration = Duration::from_hours(24);

/// About a group in no room, so that nothing waits to be shown.
fn roomless(group: &str, state: IncidentState, body: Vec<u8>) -> Ingest {
    Ingest { rooms: Vec::new(), body, ..ingest(group, "a", state) }
}

async fn count(store: &Store, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(&store.readers.pool).await.expect("counted")
}

/// A body that stays as long as it is.
pub(super) fn noise(bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    rand::fill(&mut noise[..]);
    noise
}

/// The write-ahead log.
fn log_bytes(folder: &Path) -> u64 {
    std::fs::metadata(folder.join("receiver.sqlite3-wal")).map_or(0, |file| file.len())
}

#[tokio::test]
async fn the_file_stops_growing() {
    // It looks at SQLite's file.
    if is_shared() {
        return;
    }
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, clock, .. } = open(folder.path()).await;
    let mut sizes = Vec::new();
    for round in 0..12 {
        for n in 0..40 {
            for state in [IncidentState::Firing, IncidentState::Resolved] {
                let webhook = roomless(&format!("{round}-{n}"), state, noise(20_000));
                store.ingest(webhook).await.expect("committed");
            }
        }
        clock.advance(8 * DAY);
        assert!(store.prune(7 * DAY).await.expect("pruned") >= 80);
        sizes.push(count(&store, "PRAGMA page_count").await);
        assert!(log_bytes(folder.path()) <= 17 << 20, "round {round}");
    }
    assert_eq!(count(&store, "SELECT count(*) FROM notification").await, 0);
    // Not before the indexes are as large as they get.
    assert!(sizes[11] <= sizes[7], "{sizes:?}");
}

/// One large batch does not leave the write-ahead log large.
#[tokio::test]
async fn the_log_is_cut_back() {
    // It looks at SQLite's file.
    if is_shared() {
        return;
    }
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    store.ingest(roomless("g", IncidentState::Firing, noise(24 << 20))).await.expect("committed");
    let before = log_bytes(folder.path());
    assert!(before > 20 << 20, "the premise: {before}");
    // It is copied beside the commits, and begins again with one of the next.
    for n in 0..1_000 {
        store.ingest(roomless(&format!("h{n}"), IncidentState::Firing, noise(4 << 10))).await.expect("committed");
        if log_bytes(folder.path()) <= 17 << 20 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{before} -> {}", log_bytes(folder.path()));
}

#[tokio::test]
async fn what_changes_nothing_is_counted_and_not_kept() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    let first = store.ingest(ingest("g", "a", IncidentState::Firing)).await.expect("committed");
    for _ in 0..50 {
        let again = store.ingest(unchanged("g")).await.expect("committed");
        assert_eq!(again.notification, first.notification);
    }
    assert_eq!(count(&store, "SELECT count(*) FROM notification").await, 1);
    assert_eq!(count(&store, "SELECT repeats FROM notification").await, 50);
}

async fn mark_dead(store: &Store, txn: &str, since: Timestamp) {
    let new = NewOp { since, ..op_for(&snapshot(store).await, OpKind::Card, txn) };
    let op = store.freeze(new).await.expect("frozen");
    store.mark_dead(&op, "too_large", None).await.expect("buried");
}

async fn dead(store: &Store) -> i64 {
    count(store, "SELECT count(*) FROM op WHERE state = 'dead'").await
}

/// Thirty days from when it was set aside, however long it had waited before.
#[tokio::test]
async fn a_dead_letter_stays_its_month_also_when_its_incident_has_moved() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, clock, .. } = open(folder.path()).await;
    store.ingest(ingest("g", "a", IncidentState::Firing)).await.expect("committed");
    clock.advance(31 * DAY);
    mark_dead(&store, "t1", Timestamp(1_000_000)).await;
    // Its next news and another incident go on a digest, which is split: the letter stays on the one card, its incident
    // goes to the other.
    store.ingest(ingest("g", "b", IncidentState::Resolved)).await.expect("committed");
    store.ingest(ingest("h", "a", IncidentState::Resolved)).await.expect("committed");
    let digest = store.make_digest(&room()).await.expect("committed").expect("a digest");
    let incident: String =
        sqlx::query_scalar("SELECT incident FROM op").fetch_one(&store.readers.pool).await.expect("one");
    store.split_digest(&digest, vec![IncidentId(incident)]).await.expect("split");
    for card in store.due(&room()).await.expect("due").new {
        let snapshot = store.snapshot(&card.card).await.expect("read").expect("a card");
        let txn = format!("shown-{}", card.card);
        let op = store.freeze(op_for(&snapshot, OpKind::Card, &txn)).await.expect("frozen");
        store.finish(&op, &format!("$of-{txn}")).await.expect("recorded");
    }
    clock.advance(29 * DAY);
    store.prune(7 * DAY).await.expect("pruned");
    assert_eq!(dead(&store).await, 1);
    let about = "SELECT count(*) FROM op JOIN incident ON incident.id = op.incident WHERE op.state = 'dead'";
    assert_eq!(count(&store, about).await, 1, "what it is about can still be shown");
    clock.advance(2 * DAY);
    store.prune(7 * DAY).await.expect("pruned");
    assert_eq!(dead(&store).await, 0);
    for table in ["SELECT count(*) FROM incident", "SELECT count(*) FROM card", "SELECT count(*) FROM op"] {
        assert_eq!(count(&store, table).await, 0, "{table}");
    }
}

/// Those of an incident that never ends would pile up.
#[tokio::test]
async fn old_dead_letters_of_an_open_incident_are_forgotten() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, clock, .. } = open(folder.path()).await;
    store.ingest(ingest("g", "a", IncidentState::Firing)).await.expect("committed");
    mark_dead(&store, "t1", Timestamp(1_000_000)).await;
    clock.advance(31 * DAY);
    store.ingest(ingest("g", "b", IncidentState::Firing)).await.expect("committed");
    mark_dead(&store, "t2", Timestamp(1_000_000)).await;
    store.prune(7 * DAY).await.expect("pruned");
    let (left, _) = store.dead_letters().await.expect("read");
    assert_eq!(left.iter().map(|letter| letter.op.txn_id.as_str()).collect::<Vec<_>>(), ["t2"]);
    assert_eq!(count(&store, "SELECT count(*) FROM incident").await, 1);
}

async fn ops(store: &Store) -> Vec<String> {
    sqlx::query_scalar("SELECT txn_id FROM op ORDER BY txn_id").fetch_all(&store.readers.pool).await.expect("read")
}

/// An edit for each time, acknowledged at once.
async fn edit(store: &Store, txn: &str) -> Op {
    store
        .ingest(Ingest {
            decide: Arc::new(|known, _| adding(known, "a", IncidentState::Firing, Vec::new())),
            ..ingest("g", "a", IncidentState::Firing)
        })
        .await
        .expect("committed");
    store
        .freeze(NewOp { first_try: store.clock.now(), ..op_for(&snapshot(store).await, OpKind::Edit, txn) })
        .await
        .expect("frozen")
}

/// A group that fires for months is edited without end; what a read-back ends at stays.
#[tokio::test]
async fn acknowledged_ops_of_a_group_that_never_closes_are_forgotten() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, clock, .. } = open(folder.path()).await;
    store.ingest(ingest("g", "a", IncidentState::Firing)).await.expect("committed");
    let root = store.freeze(op_for(&snapshot(&store).await, OpKind::Card, "0")).await.expect("frozen");
    store.finish(&root, "$0").await.expect("recorded");
    for n in 1..=4 {
        clock.advance(DAY);
        let op = edit(&store, &n.to_string()).await;
        store.finish(&op, &format!("${n}")).await.expect("recorded");
    }
    clock.advance(DAY);
    let refused = edit(&store, "5").await;
    let plainer = NewOp { first_try: clock.now(), ..op_for(&snapshot_of(&store, &refused).await, OpKind::Edit, "6") };
    let parked = store.replace(&refused, plainer, "too_large").await.expect("replaced");
    store.park(&parked.txn_id, "no answer", clock.now()).await.expect("parked");
    clock.advance(DAY);
    // Another card goes on meanwhile.
    store.ingest(ingest("h", "a", IncidentState::Firing)).await.expect("committed");
    for txn in ["7", "8"] {
        clock.advance(DAY);
        let kind = if txn == "7" { OpKind::Card } else { OpKind::Reply };
        if kind == OpKind::Reply {
            store.ingest(ingest("h", "b", IncidentState::Firing)).await.expect("committed");
        }
        let due = store.due(&room()).await.expect("due");
        let card = due.new.first().or(due.notes.first()).expect("one that is due").card.clone();
        let snapshot = store.snapshot(&card).await.expect("read").expect("a card");
        let new = NewOp { first_try: clock.now(), ..op_for(&snapshot, kind, txn) };
        let op = store.freeze(new).await.expect("frozen");
        store.finish(&op, &format!("${txn}")).await.expect("recorded");
    }
    let known = store.recorded(&room(), parked.frozen_seq, parked.first_try.expect("tried")).await.expect("read");
    assert_eq!((known.before.as_deref(), known.later.len()), (Some("$4"), 2), "the premise");

    clock.advance(DAY * 30);
    store.prune(7 * DAY).await.expect("pruned");
    assert_eq!(ops(&store).await, ["4", "6", "7", "8"]);
    assert_eq!(
        store.recorded(&room(), parked.frozen_seq, parked.first_try.expect("tried")).await.expect("read"),
        known
    );
    // Found at last.
    store.finish(&parked, "$6").await.expect("recorded");
    clock.advance(DAY * 30);
    store.prune(7 * DAY).await.expect("pruned");
    assert_eq!(ops(&store).await, ["6"], "the last one of the room");
    assert_eq!(count(&store, "SELECT count(*) FROM incident").await, 2);
}

async fn snapshot_of(store: &Store, op: &Op) -> Snapshot {
    let mut snapshot = store.snapshot(&op.card).await.expect("read").expect("a card");
    snapshot.card.dirty_since = Some(op.since);
    snapshot
}

/// One poisoned webhook does not end the writer.
#[tokio::test]
async fn a_panic_is_undone_and_the_writer_goes_on() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    let poisoned = Ingest { decide: Arc::new(|_, _| panic!("on purpose")), ..ingest("g", "a", IncidentState::Firing) };
    let good = store.ingest(ingest("h", "a", IncidentState::Firing));
    let (bad, good) = tokio::join!(store.ingest(poisoned), good);
    assert!(matches!(bad, Err(StoreError::Panic)), "{bad:?}");
    good.expect("committed beside it");
    store.ingest(ingest("g", "a", IncidentState::Firing)).await.expect("committed after it");
    assert_eq!(count(&store, "SELECT count(*) FROM notification").await, 2);
}
