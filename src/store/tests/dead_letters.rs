//! Dead letters: listed, tried again, dropped.

use super::*;

/// Freezes the next op of the due card and buries it.
async fn mark_dead(store: &Store, kind: OpKind, txn: &str) -> Op {
    let new = NewOp { content: r#"{"body":"x"}"#.to_owned(), ..op_for(&snapshot(store).await, kind, txn) };
    let op = store.freeze(new).await.expect("frozen");
    store.mark_dead(&op, "too_large: 413", None).await.expect("buried");
    op
}

async fn ids(store: &Store) -> Vec<String> {
    let (letters, total) = store.dead_letters().await.expect("read");
    assert_eq!(usize::try_from(total), Ok(letters.len()));
    letters.iter().map(|letter| letter.op.txn_id.as_str().to_owned()).collect()
}

fn id(txn: &str) -> TxnId {
    TxnId(txn.to_owned())
}

async fn follows(store: &Store, txn: &str) -> Option<Follows> {
    store.retry_dead_letter(&id(txn)).await.expect("committed").map(|(_, follows)| follows)
}

async fn firing(store: &Store, group: &str, fingerprint: &str) {
    store.ingest(ingest(group, fingerprint, IncidentState::Firing)).await.expect("committed");
}

#[tokio::test]
async fn a_dead_letter_keeps_its_content_until_it_is_dropped() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    assert!(ids(&store).await.is_empty());
    firing(&store, "g", "a").await;
    let op = mark_dead(&store, OpKind::Card, "t1").await;
    firing(&store, "h", "a").await;
    store.freeze(op_for(&snapshot(&store).await, OpKind::Card, "alive")).await.expect("frozen");
    assert_eq!(ids(&store).await, ["t1"]);
    let letter = store.dead_letter(&op.txn_id).await.expect("read").expect("a dead letter");
    assert_eq!((letter.op.content.as_str(), letter.error.as_str()), (r#"{"body":"x"}"#, "too_large: 413"));
    assert_eq!((letter.op.state, letter.at), (OpState::Dead, Timestamp(1_000_000)));

    for other in ["alive", "nobody", ""] {
        assert_eq!(store.dead_letter(&id(other)).await.expect("read"), None);
        assert_eq!(store.drop_dead_letter(&id(other)).await.expect("committed"), None);
        assert_eq!(follows(&store, other).await, None);
    }
    assert!(store.open_ops(&room()).await.expect("read").unfinished.is_some(), "what is under way was left alone");
    assert_eq!(store.drop_dead_letter(&op.txn_id).await.expect("committed"), Some(letter));
    assert!(ids(&store).await.is_empty());
    assert_eq!(store.drop_dead_letter(&op.txn_id).await.expect("committed"), None);
    assert_eq!(due_kinds(&store).await, (0, 0, 0), "a dropped one makes nothing due");
    let content: String = sqlx::query_scalar("SELECT content FROM op WHERE txn_id = 't1' AND state = 'refused'")
        .fetch_one(&store.readers.pool)
        .await
        .expect("still an op");
    assert_eq!(content, "");
}

#[tokio::test]
async fn a_retried_card_is_new_again_and_a_retried_edit_is_due() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    firing(&store, "g", "a").await;
    let op = mark_dead(&store, OpKind::Card, "t1").await;
    assert_eq!(due_kinds(&store).await, (0, 0, 0));
    let mut wake = store.wake_ups(&room());
    wake.mark_unchanged();
    assert_eq!(follows(&store, "t1").await, Some(Follows::Card));
    assert!(wake.has_changed().expect("open"), "the lanes are woken");
    assert_eq!(due_kinds(&store).await, (1, 0, 0));
    assert_eq!(follows(&store, "t1").await, None, "once");
    let again = snapshot(&store).await;
    assert!(again.is_behind() && again.card.dirty_since == Some(op.since));
    let card = store.freeze(op_for(&again, OpKind::Card, "t2")).await.expect("frozen");
    store.finish(&card, "$root").await.expect("committed");
    assert_eq!(due_kinds(&store).await, (0, 0, 0));

    firing(&store, "g", "b").await;
    mark_dead(&store, OpKind::Reply, "t3").await;
    mark_dead(&store, OpKind::Edit, "t4").await;
    assert_eq!((ids(&store).await, due_kinds(&store).await), (vec!["t3".to_owned(), "t4".to_owned()], (0, 0, 0)));
    // Both come to the same edit.
    assert_eq!(follows(&store, "t4").await, Some(Follows::Edit));
    assert_eq!(follows(&store, "t3").await, Some(Follows::Edit));
    assert_eq!(due_kinds(&store).await, (0, 0, 1));
    let edit = store.freeze(op_for(&snapshot(&store).await, OpKind::Edit, "t5")).await.expect("frozen");
    store.finish(&edit, "$edit").await.expect("committed");
    assert_eq!((ids(&store).await.len(), due_kinds(&store).await), (0, (0, 0, 0)));
}

#[tokio::test]
async fn a_retried_card_whose_incident_has_moved_to_a_digest_brings_the_digest_up_to_date() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    firing(&store, "g", "a").await;
    mark_dead(&store, OpKind::Card, "t1").await;
    firing(&store, "g", "b").await;
    firing(&store, "h", "a").await;
    store.make_digest(&room()).await.expect("committed").expect("a digest");
    let digest = store.freeze(op_for(&snapshot(&store).await, OpKind::Card, "t2")).await.expect("frozen");
    store.finish(&digest, "$digest").await.expect("committed");
    while due_kinds(&store).await.1 > 0 {
        let notes = snapshot(&store).await;
        store.drop_notes(&notes.card.id, notes.notes.iter().map(|note| note.id).collect()).await.expect("committed");
    }
    assert_eq!(follows(&store, "t1").await, Some(Follows::Edit));
    assert_eq!(due_kinds(&store).await, (0, 0, 1));
    assert_eq!(snapshot(&store).await.card.id, digest.card);
}
