//! Ops: frozen, given back, and in which order.

use super::*;

/// A clock that was ahead puts a later event before an earlier one; the counter does not, and reading back ends at what
/// it names.
#[tokio::test]
async fn what_was_recorded_before_an_op_is_known_by_the_counter() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, clock, .. } = open(folder.path()).await;
    let mut ops = Vec::new();
    for group in ["a", "b", "c"] {
        clock.advance(Duration::from_mins(1));
        store.ingest(ingest(group, "x", IncidentState::Firing)).await.expect("committed");
        let new = NewOp { first_try: clock.now(), ..op_for(&snapshot(&store).await, OpKind::Card, group) };
        let op = store.freeze(new).await.expect("frozen");
        if group == "b" {
            store.park(&op.txn_id, "no answer", Timestamp(0)).await.expect("committed");
        } else {
            store.finish(&op, &format!("${group}")).await.expect("committed");
        }
        ops.push(op);
    }
    // As if the clock had been an hour ahead for the first, and behind for the last.
    let jumps = "UPDATE op SET ended_at = CASE txn_id WHEN 'a' THEN ended_at + 3600000 ELSE 1 END WHERE state = 'done'";
    store
        .write(move |connection, _| {
            Box::pin(async move {
                sqlx::query(jumps).execute(connection).await?;
                Ok(())
            })
        })
        .await
        .expect("committed");
    let recorded = store.recorded(&room(), ops[1].frozen_seq, ops[1].first_try.expect("tried")).await.expect("read");
    assert_eq!((recorded.before.as_deref(), recorded.later), (Some("$a"), vec!["$c".to_owned()]));
    assert_eq!(store.last_recorded(&room()).await.expect("read").as_deref(), Some("$c"));
}

#[tokio::test]
async fn a_requeued_op_is_due_again_with_its_notes_and_age() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, clock, .. } = open(folder.path()).await;
    store.ingest(ingest("g", "a", IncidentState::Firing)).await.expect("committed");
    let root = store.freeze(op_for(&snapshot(&store).await, OpKind::Card, "t1")).await.expect("frozen");
    store.finish(&root, "$root").await.expect("recorded");
    let since = clock.now();
    store.ingest(ingest("g", "b", IncidentState::Firing)).await.expect("committed");
    let reply = store.freeze(op_for(&snapshot(&store).await, OpKind::Reply, "t2")).await.expect("frozen");
    clock.advance(Duration::from_mins(10));
    store.ingest(ingest("g", "c", IncidentState::Firing)).await.expect("committed");
    store.requeue(&reply).await.expect("thawed");
    let thawed = snapshot(&store).await;
    assert_eq!(thawed.notes.len(), 2);
    assert_eq!(thawed.card.dirty_since, Some(since));
    assert_eq!(store.open_ops(&room()).await.expect("read").unfinished, None);
}

#[tokio::test]
async fn what_was_frozen_survives_a_restart_as_it_was() {
    let folder = TempDir::new().expect("a folder");
    let fixture = open(folder.path()).await;
    fixture.store.ingest(ingest("g", "a", IncidentState::Firing)).await.expect("committed");
    let op = op_for(&snapshot(&fixture.store).await, OpKind::Card, "t1");
    let frozen: Op = fixture.store.freeze(op).await.expect("frozen");
    fixture.store.close().await;
    drop(fixture);
    let Fixture { store, .. } = open(folder.path()).await;
    assert_eq!(store.open_ops(&room()).await.expect("read").unfinished, Some(frozen));
    let second = store.ingest(ingest("h", "a", IncidentState::Firing)).await.expect("committed");
    assert!(second.incident.is_some());
    let refused = store.freeze(op_for(&snapshot(&store).await, OpKind::Card, "t2")).await;
    assert!(matches!(refused, Err(StoreError::Database(_))), "a room has one unfinished op: {refused:?}");
}

#[tokio::test]
async fn one_commit_records_an_event_and_freezes_the_next_or_does_neither() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    for group in ["a", "b"] {
        store.ingest(ingest(group, "x", IncidentState::Firing)).await.expect("committed");
    }
    let due = store.due(&room()).await.expect("due").new;
    let mut news = Vec::new();
    for (card, txn) in due.iter().zip(["a", "b"]) {
        let snapshot = store.snapshot(&card.card).await.expect("read").expect("a card");
        news.push(op_for(&snapshot, OpKind::Card, txn));
    }
    let (next, first) = (news.remove(1), news.remove(0));
    let first = store.freeze(first).await.expect("frozen");
    let twice = NewOp { txn_id: first.txn_id.clone(), ..next.clone() };
    store.finish_and_freeze(&first, "$a", twice).await.expect_err("the id is taken");
    assert_eq!(store.open_ops(&room()).await.expect("read").unfinished.map(|op| op.txn_id), Some(first.txn_id.clone()));
    assert_eq!(store.root_event_of(&first.card).await.expect("read"), None);
    let (_, frozen) = store.finish_and_freeze(&first, "$a", next).await.expect("committed");
    assert_eq!(store.open_ops(&room()).await.expect("read").unfinished, Some(frozen));
    assert_eq!(store.root_event_of(&first.card).await.expect("read").as_deref(), Some("$a"));
    assert!(store.due(&room()).await.expect("due").new.is_empty());
}
