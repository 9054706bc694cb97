//! Which cards are due, and in which order.

use super::*;
use crate::{
    model::{Conclusion, Found},
    store::cards::due::{EDITS, MOST_SEVERE_FIRST, NEW, OLDEST_FIRST, sql_of_due},
};

pub(super) fn of_severity(group: &str, severity: u32) -> Ingest {
    Ingest {
        decide: Arc::new(move |known, _| Changes { severity, ..adding(known, "a", IncidentState::Firing, Vec::new()) }),
        ..ingest(group, "a", IncidentState::Firing)
    }
}

async fn new_groups(store: &Store) -> Vec<Vec<String>> {
    let mut groups = Vec::new();
    for due in store.due(&room()).await.expect("due").new {
        let card = store.snapshot(&due.card).await.expect("read").expect("a card");
        let worst = card.incidents.iter().map(|(incident, _)| incident.severity).min();
        assert_eq!(worst, Some(due.severity), "{}", due.card.as_str());
        groups.push(card.incidents.into_iter().map(|(incident, _)| incident.key.group_key).collect());
    }
    groups
}

#[tokio::test]
async fn the_most_severe_goes_first_whatever_it_was_before() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, clock, .. } = open(folder.path()).await;
    for (group, severity) in [("calm", 3), ("old", 2), ("young", 2), ("worse", 4), ("better", 0)] {
        clock.advance(Duration::from_secs(1));
        store.ingest(of_severity(group, severity)).await.expect("committed");
    }
    assert_eq!(new_groups(&store).await, [["better"], ["old"], ["young"], ["calm"], ["worse"]]);
    for (group, severity) in [("worse", 1), ("better", 5)] {
        store.ingest(of_severity(group, severity)).await.expect("committed");
    }
    assert_eq!(new_groups(&store).await, [["worse"], ["old"], ["young"], ["calm"], ["better"]]);
}

#[tokio::test]
async fn a_digest_goes_by_the_most_severe_that_is_on_it() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    for (group, severity) in [("a", 3), ("b", 1), ("c", 4)] {
        store.ingest(of_severity(group, severity)).await.expect("committed");
    }
    let digest = store.make_digest(&room()).await.expect("committed").expect("a digest");
    store.ingest(of_severity("d", 2)).await.expect("committed");
    assert_eq!(new_groups(&store).await, [&["a", "b", "c"][..], &["d"]]);
    // What moves to a further one takes its severity along.
    let all = store.snapshot(&digest).await.expect("read").expect("a card").incidents;
    let moved = all.iter().filter(|(incident, _)| incident.key.group_key != "a");
    store.split_digest(&digest, moved.map(|(incident, _)| incident.id.clone()).collect()).await.expect("committed");
    assert_eq!(new_groups(&store).await, [&["b", "c"][..], &["d"], &["a"]]);
    // And what becomes severe is looked for on it.
    store.ingest(of_severity("a", 0)).await.expect("committed");
    assert_eq!(new_groups(&store).await, [&["a"][..], &["b", "c"], &["d"]]);
}

/// Found by a poll, without a notification.
#[tokio::test]
async fn what_is_found_to_be_less_severe_goes_later() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    let incident = store.ingest(of_severity("a", 1)).await.expect("committed").incident.expect("an incident");
    store.ingest(of_severity("b", 2)).await.expect("committed");
    let judge: Judge = Arc::new(|_, _, _| {
        let changes = adding(None, "a", IncidentState::Firing, Vec::new());
        Some(Changes { severity: 3, write: IncidentWrite::Update, ..changes })
    });
    let found = vec![Found { fingerprint: "a".to_owned(), conclusion: Conclusion::Gone, starts_at: None }];
    let mark = store.poll_mark().await.expect("read");
    store.apply_found(mark, vec![Judged { incident, found, refresh: false }], judge).await.expect("committed");
    assert_eq!(new_groups(&store).await, [["b"], ["a"]]);
}

#[tokio::test]
async fn a_digest_without_its_most_severe_incident_goes_later() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    let ops = IncidentKey { route: RouteName::parse("ops").expect("a route"), ..key("o") };
    store.ingest(Ingest { key: ops, ..of_severity("o", 0) }).await.expect("committed");
    store.ingest(of_severity("a", 3)).await.expect("committed");
    store.make_digest(&room()).await.expect("committed").expect("a digest");
    store.ingest(of_severity("b", 2)).await.expect("committed");
    assert_eq!(new_groups(&store).await, [&["o", "a"][..], &["b"]]);
    store.close_unrouted(&[(key("").route, vec![room()])].into()).await.expect("committed");
    assert_eq!(new_groups(&store).await, [["b"], ["a"]]);
}

#[tokio::test]
async fn what_is_posted_again_goes_by_what_is_still_open() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    let send = async |kind: OpKind, event: &str| {
        let op = store.freeze(op_for(&snapshot(&store).await, kind, event)).await.expect("frozen");
        store.finish(&op, event).await.expect("recorded");
    };
    for (group, severity) in [("a", 0), ("b", 3)] {
        store.ingest(of_severity(group, severity)).await.expect("committed");
    }
    store.make_digest(&room()).await.expect("committed").expect("a digest");
    send(OpKind::Card, "$digest").await;
    let over = |known: Option<&Known>, _| adding(known, "a", IncidentState::Resolved, Vec::new());
    store.ingest(Ingest { decide: Arc::new(over), ..of_severity("a", 0) }).await.expect("committed");
    send(OpKind::Edit, "$edit").await;
    store.orphan_cards(&room(), vec!["$digest".to_owned()]).await.expect("committed");
    for (group, severity) in [("b", 3), ("c", 2)] {
        store.ingest(of_severity(group, severity)).await.expect("committed");
    }
    assert_eq!(new_groups(&store).await, [["c"], ["b"]]);
}

#[tokio::test]
async fn cards_of_earlier_versions_have_the_severity_of_their_incidents() {
    const ROWS: &str = "INSERT INTO notification (id, at, route, group_hash, body_hash) VALUES ('N', 1, 'default', 'h', 'b'); \
         INSERT INTO incident (id, route, receiver, group_key, group_hash, state, severity, opened_at, heard_at, flaps, rev, \
         notification, doc) SELECT id, 'default', 'r', id, id, 'firing', severity, 1, 1, 0, 1, 'N', \
         '{\"group_labels\":{},\"external_url\":\"\"}' \
         FROM (SELECT 'a' AS id, 3 AS severity UNION VALUES ('b', 1), ('c', 2)); \
         INSERT INTO card (id, room, kind, dirty_since) VALUES ('one', '!room:example.org', 'incident', 1), \
         ('more', '!room:example.org', 'digest', 1); \
         INSERT INTO card_incident (card, incident, shown_rev) VALUES ('one', 'c', 0), ('more', 'a', 0), ('more', 'b', 0)";
    // It makes SQLite's file.
    if is_shared() {
        return;
    }
    let folder = TempDir::new().expect("a folder");
    migration::store_of_0_1_0(folder.path(), ROWS).await;
    let Fixture { store, .. } = open(folder.path()).await;
    assert_eq!(new_groups(&store).await, [&["a", "b"][..], &["c"]]);
}

#[tokio::test]
async fn new_cards_are_counted_as_far_as_it_matters() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    for n in 0..70 {
        store.ingest(ingest(&format!("g{n}"), "a", IncidentState::Firing)).await.expect("committed");
    }
    let listed = store.due(&room()).await.expect("due").new;
    assert_eq!(listed.len(), 64);
    for (enough, beyond) in [(8, 0), (63, 0), (64, 1), (66, 3), (69, 6), (100, 6), (usize::MAX, 6)] {
        assert_eq!(store.new_beyond(&room(), &listed, enough).await.expect("counted"), beyond, "{enough}");
    }
    assert_eq!(store.new_beyond(&room(), &listed[..63], 100).await.expect("not counted"), 0, "the list is whole");
}

/// However many are due.
#[tokio::test]
async fn lists_are_read_in_the_order_of_an_index() {
    // It looks at SQLite's file.
    if is_shared() {
        return;
    }
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    for (which, order, index) in [
        (NEW, MOST_SEVERE_FIRST, "SEARCH card USING INDEX card_new (room=?"),
        (EDITS, OLDEST_FIRST, "SEARCH card USING INDEX card_behind (room=?"),
    ] {
        let sql = format!("EXPLAIN QUERY PLAN {}", sql_of_due(which, order));
        let plan: Vec<(i64, i64, i64, String)> =
            sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(&store.readers.pool).await.expect("a plan");
        assert!(plan.iter().any(|step| step.3.starts_with(index)), "{plan:?}");
        assert!(!plan.iter().any(|step| step.3.contains("TEMP B-TREE")), "{plan:?}");
    }
}
