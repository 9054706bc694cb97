//! Incidents that nobody takes.

use super::{takings::take, *};
use crate::model::CardId;

const AFTER: Duration = Duration::from_mins(10);

fn step(step: usize, min_severity: u32) -> EscalationStep {
    EscalationStep {
        route: RouteName::parse("default").expect("a route"),
        step,
        after: AFTER,
        min_severity,
        concerns: Arc::new(|alert| alert.state == AlertState::Firing && alert.fingerprint != "mild"),
    }
}

/// The groups that a step is taken for, as the task does it.
async fn escalated(store: &Store, step: &EscalationStep) -> Vec<String> {
    let due = store.escalation_candidates(step, None).await.expect("read");
    let due = due.into_iter().map(|one| one.incident).collect();
    let mut groups = Vec::new();
    for incident in store.escalate(step, due).await.expect("committed") {
        groups.push(
            sqlx::query_scalar("SELECT group_key FROM incident WHERE id = $1")
                .bind(incident.as_str())
                .fetch_one(&store.readers.pool)
                .await
                .expect("read"),
        );
    }
    groups
}

async fn notes(store: &Store) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM note WHERE kind = 'escalation'")
        .fetch_one(&store.readers.pool)
        .await
        .expect("read")
}

async fn opened(store: &Store, group: &str, alert: &str) -> IncidentId {
    let ingested = store.ingest(ingest(group, alert, IncidentState::Firing)).await.expect("committed");
    ingested.incident.expect("an incident")
}

async fn post(store: &Store, txn: &str) -> CardId {
    let snapshot = snapshot(store).await;
    let op = store.freeze(op_for(&snapshot, OpKind::Card, txn)).await.expect("frozen");
    store.finish(&op, &format!("${txn}")).await.expect("recorded");
    op.card
}

#[tokio::test]
async fn each_step_is_taken_once_whatever_restarts() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, clock, .. } = open(folder.path()).await;
    opened(&store, "g", "a").await;
    clock.advance(AFTER.checked_sub(Duration::from_millis(1)).expect("longer"));
    assert_eq!(escalated(&store, &step(0, 0)).await, [""; 0], "too early");
    clock.advance(Duration::from_millis(1));
    assert_eq!(escalated(&store, &step(0, 0)).await, ["g"]);
    assert_eq!((escalated(&store, &step(0, 0)).await.len(), notes(&store).await), (0, 1));
    assert_eq!(escalated(&store, &step(1, 0)).await, ["g"], "the next step counts for itself");
    store.close().await;
    drop(store);
    let Fixture { store, clock, .. } = open(folder.path()).await;
    clock.advance(2 * AFTER);
    assert_eq!((escalated(&store, &step(0, 0)).await.len(), notes(&store).await), (0, 2), "after a restart");
}

#[tokio::test]
async fn only_what_fires_severely_and_is_not_taken() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, clock, .. } = open(folder.path()).await;
    take(&store, &opened(&store, "taken", "a").await, "@u:x", 1).await;
    opened(&store, "mild", "mild").await;
    opened(&store, "over", "a").await;
    opened(&store, "due", "a").await;
    let other = IncidentKey { route: RouteName::parse("other").expect("a route"), ..key("other route") };
    store.ingest(Ingest { key: other, ..ingest("g", "a", IncidentState::Firing) }).await.expect("committed");
    store.ingest(ingest("over", "a", IncidentState::Resolved)).await.expect("committed");
    store.ingest(ingest("quiet", "a", IncidentState::Quiet)).await.expect("committed");
    clock.advance(AFTER);
    let candidates = store.escalation_candidates(&step(0, 0), None).await.expect("read").len();
    assert_eq!((escalated(&store, &step(0, 0)).await, candidates), (vec!["due".to_owned()], 2));
    // What began to fire before the start waits for the first poll.
    let began = clock.now().minus(AFTER);
    for (fired_after, expected) in [(began, 0), (began.minus(Duration::from_millis(1)), 2)] {
        let found = store.escalation_candidates(&step(1, 0), Some(fired_after)).await.expect("read");
        assert_eq!(found.len(), expected, "fired after {fired_after:?}");
    }
}

#[tokio::test]
async fn an_incident_that_reopens_is_due_once_more_and_counts_from_there() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, clock, .. } = open(folder.path()).await;
    opened(&store, "g", "a").await;
    clock.advance(AFTER);
    assert_eq!(escalated(&store, &step(0, 0)).await, ["g"]);
    store.ingest(ingest("g", "a", IncidentState::Resolved)).await.expect("committed");
    store.ingest(ingest("g", "a", IncidentState::Firing)).await.expect("committed");
    clock.advance(AFTER / 2);
    store.ingest(ingest("g", "a", IncidentState::Firing)).await.expect("committed");
    assert_eq!(escalated(&store, &step(0, 0)).await, [""; 0], "its time begins with the reopening");
    clock.advance(AFTER / 2);
    assert_eq!(escalated(&store, &step(0, 0)).await, ["g"], "and not with what changed since");
}

/// The first event of a new card, or of a digest, mentions nobody of the step.
#[tokio::test]
async fn whom_to_call_goes_with_the_incident_to_another_card() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, clock, .. } = open(folder.path()).await;
    for group in ["one", "other"] {
        opened(&store, group, "a").await;
    }
    clock.advance(AFTER);
    assert_eq!(escalated(&store, &step(0, 0)).await.len(), 2);
    let digest = store.make_digest(&room()).await.expect("committed").expect("a digest");
    let shown = store.snapshot(&digest).await.expect("read").expect("a card");
    assert_eq!(shown.notes.iter().filter(|note| note.kind == NoteKind::Escalation).count(), 2);
    let last = shown.incidents[1].0.id.clone();
    store.split_digest(&digest, vec![last.clone()]).await.expect("committed");
    let left = store.snapshot(&digest).await.expect("read").expect("a card").notes;
    assert!(left.iter().all(|note| note.incident != last) && left.len() == 1, "{left:?}");
    assert_eq!(notes(&store).await, 2);
}

#[tokio::test]
async fn a_card_that_is_posted_again_still_calls() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, clock, .. } = open(folder.path()).await;
    opened(&store, "g", "a").await;
    let old = post(&store, "old").await;
    clock.advance(AFTER);
    assert_eq!(escalated(&store, &step(0, 0)).await, ["g"]);
    // One op says it, and is requeued after another card took the place of its own.
    let waiting = snapshot(&store).await;
    let op = store.freeze(op_for(&waiting, OpKind::Reply, "reply")).await.expect("frozen");
    let reposts = vec![old];
    let again = Ingest {
        decide: Arc::new(move |known, _| Changes {
            reposts: reposts.clone(),
            ..adding(known, "b", IncidentState::Firing, Vec::new())
        }),
        ..ingest("g", "b", IncidentState::Firing)
    };
    store.ingest(again).await.expect("committed");
    store.requeue(&op).await.expect("committed");
    let due = store.due(&room()).await.expect("due");
    let new = store.snapshot(&due.new[0].card).await.expect("read").expect("a card");
    assert_eq!(new.notes.iter().map(|note| note.kind).collect::<Vec<_>>(), [NoteKind::Escalation]);
}
