//! What is read of large incidents.

use super::*;
use crate::model::Incident;

const ALERTS: usize = 900;

fn large(group: &str, noted: bool) -> Ingest {
    let note = NewNote { kind: NoteKind::NewFiring, args: NoteArgs::default(), cards: None };
    let decide = Arc::new(move |known: Option<&Known>, _| Changes {
        alerts: (0..ALERTS).map(|number| alert(&format!("f{number:04}"), AlertState::Firing)).collect(),
        ..adding(known, "a", IncidentState::Firing, if noted { vec![note.clone()] } else { Vec::new() })
    });
    Ingest { decide, ..ingest(group, "a", IncidentState::Firing) }
}

/// How many alerts of each incident were read; all of them are counted.
fn read(snapshot: &Snapshot) -> Vec<usize> {
    let firing = |incident: &Incident| (incident.count(AlertState::Firing), incident.total());
    assert!(snapshot.incidents.iter().all(|(incident, _)| firing(incident) == (ALERTS, ALERTS)));
    snapshot.incidents.iter().map(|(incident, _)| incident.alerts.len()).collect()
}

#[tokio::test]
async fn a_digest_reads_in_full_only_what_is_spoken_of_and_that_in_parts() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    for n in 0..3 {
        store.ingest(large(&format!("g{n}"), false)).await.expect("committed");
    }
    store.make_digest(&room()).await.expect("committed").expect("a digest");
    let new = snapshot(&store).await;
    assert!(read(&new).iter().all(|alerts| (1..50).contains(alerts)), "{:?}", read(&new));
    let root = store.freeze(op_for(&new, OpKind::Card, "t1")).await.expect("frozen");
    // It has the one place for what is large.
    drop(new);
    store.finish(&root, "$root").await.expect("committed");

    for n in 0..3 {
        store.ingest(large(&format!("g{n}"), true)).await.expect("committed");
    }
    let first = snapshot(&store).await;
    assert_eq!(first.notes.len(), 2, "1,800 of 2,700 alerts");
    assert_eq!(read(&first).iter().filter(|alerts| **alerts == ALERTS).count(), 2);
    let reply = store.freeze(op_for(&first, OpKind::Reply, "t2")).await.expect("frozen");
    let (card, spoken) = (first.card.id.clone(), read(&first));
    drop(first);
    let again = store.snapshot_for(&card, &reply.txn_id).await.expect("read").expect("a card");
    assert_eq!((again.notes.len(), read(&again)), (2, spoken), "a plainer form counts the same");
    drop(again);
    store.finish(&reply, "$reply").await.expect("committed");
    let second = snapshot(&store).await;
    assert_eq!(second.notes.len(), 1, "the rest comes next");
    assert_eq!(read(&second).iter().filter(|alerts| **alerts == ALERTS).count(), 1);
}

/// Two rooms with a large card each: one after the other, or both would be in memory at once.
#[tokio::test]
async fn large_cards_are_read_one_at_a_time() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    for group in ["g0", "g1"] {
        let many: Vec<Alert> = (0..1_001).map(|number| alert(&format!("f{number}"), AlertState::Firing)).collect();
        let decide = Arc::new(move |known: Option<&Known>, _| Changes {
            alerts: many.clone(),
            ..adding(known, "a", IncidentState::Firing, Vec::new())
        });
        store.ingest(Ingest { decide, ..ingest(group, "a", IncidentState::Firing) }).await.expect("committed");
    }
    let due = store.due(&room()).await.expect("due").new;
    let first = store.snapshot(&due[0].card).await.expect("read").expect("a card");
    assert_eq!(first.incidents[0].0.alerts.len(), 1_001, "a card of its own has all");
    let second = store.snapshot(&due[1].card);
    tokio::pin!(second);
    let early = tokio::time::timeout(Duration::from_millis(200), &mut second).await;
    assert!(early.is_err(), "it waits");
    drop(first);
    assert!(second.await.expect("read").is_some());
}
