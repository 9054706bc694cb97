//! What is reported as resolved in one incident and held by others.

use super::*;

/// A payload of `group` that reports these as resolved, whatever else it says of its own incident.
fn resolving(group: &str, route: &str, fingerprints: &[String]) -> Ingest {
    let key = IncidentKey { route: RouteName::parse(route).expect("a route"), ..key(group) };
    let over = fingerprints.to_vec();
    let quiet = NewNote { kind: NoteKind::Resolved, args: NoteArgs::default(), cards: None };
    Ingest {
        key,
        resolved: keys(fingerprints),
        settle: Box::new(move |known, now| {
            let held = known.incident.alerts.iter().filter(|alert| over.contains(&alert.fingerprint));
            let alerts: Vec<Alert> =
                held.map(|held| Alert { state: AlertState::Resolved, ends_at: Some(now), ..held.clone() }).collect();
            (!alerts.is_empty())
                .then(|| Changes { alerts, ..adding(Some(known), "", IncidentState::Resolved, vec![quiet.clone()]) })
        }),
        ..ingest(group, "own", IncidentState::Firing)
    }
}

/// Of alerts without a name.
fn keys(fingerprints: &[String]) -> Vec<AlertKey> {
    fingerprints.iter().map(|fingerprint| AlertKey::of(fingerprint, &Labels::new())).collect()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

async fn open_groups(store: &Store) -> Vec<String> {
    sqlx::query_scalar("SELECT route || '/' || group_key FROM incident WHERE closed_at IS NULL ORDER BY 1")
        .fetch_all(&store.readers.pool)
        .await
        .expect("read")
}

#[tokio::test]
async fn every_open_incident_of_the_route_that_holds_it_is_touched_and_no_other() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, clock, .. } = open(folder.path()).await;
    for (route, group, alert) in
        [("default", "old", "x"), ("default", "other", "y"), ("ops", "old", "x"), ("default", "older", "x")]
    {
        let key = IncidentKey { route: RouteName::parse(route).expect("a route"), ..key(group) };
        store.ingest(Ingest { key, ..ingest(group, alert, IncidentState::Firing) }).await.expect("committed");
    }
    clock.advance(Duration::from_mins(1));
    let reported = store.ingest(resolving("new", "default", &names(&["x", "nobody"]))).await.expect("committed");
    assert_eq!((reported.elsewhere, reported.outcome), (2, Outcome::Opened));
    assert_eq!(open_groups(&store).await, ["default/new", "default/other", "ops/old"]);
    // The cards are due, with the note that their own resolve would have had.
    let due: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM note JOIN card ON card.id = note.card JOIN incident ON incident.id = note.incident \
         WHERE note.kind = 'resolved' AND card.dirty_since IS NOT NULL AND incident.notification = $1",
    )
    .bind(reported.notification.as_str())
    .fetch_one(&store.readers.pool)
    .await
    .expect("read");
    assert_eq!(due, 2);
    // A retry finds nothing left to do.
    let again = store.ingest(resolving("new", "default", &names(&["x", "nobody"]))).await.expect("committed");
    assert_eq!(again.elsewhere, 0);
}

/// The shortcut for repeats looks at nothing but the own content hash.
#[tokio::test]
async fn a_repeat_to_its_own_incident_is_none_while_another_holds_what_it_resolves() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    let repeat = || Ingest {
        resolved: keys(&names(&["x"])),
        settle: resolving("g", "default", &names(&["x"])).settle,
        ..repeats::repeating("g", "d")
    };
    store.ingest(repeat()).await.expect("committed");
    store.ingest(ingest("old", "x", IncidentState::Firing)).await.expect("committed");
    let reported = store.ingest(repeat()).await.expect("committed");
    assert_eq!((reported.elsewhere, reported.outcome), (1, Outcome::Changed));
    assert_eq!(open_groups(&store).await, ["default/g"]);
    let body: Option<Vec<u8>> = sqlx::query_scalar("SELECT body FROM notification WHERE id = $1")
        .bind(reported.notification.as_str())
        .fetch_one(&store.readers.pool)
        .await
        .expect("a notification that its incident names");
    assert!(body.is_some());
    assert_eq!(store.ingest(repeat()).await.expect("committed").elsewhere, 0);
}

#[tokio::test]
async fn the_look_up_goes_by_its_index() {
    // It looks at SQLite's file.
    if is_shared() {
        return;
    }
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    let plan: Vec<(i64, i64, i64, String)> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "EXPLAIN QUERY PLAN WITH wanted (name_hash, fingerprint) AS (VALUES (1, 'a'), (2, 'b')) SELECT 1 {}",
        incidents::find::UNRESOLVED
    )))
    .fetch_all(&store.readers.pool)
    .await
    .expect("a plan");
    let by_both = "SEARCH alert USING INDEX alert_named (name_hash=? AND fingerprint=?)";
    assert!(plan.iter().any(|step| step.3 == by_both), "{plan:?}");
}

#[tokio::test]
async fn an_alert_that_an_earlier_version_wrote_is_found_as_well() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    store.ingest(ingest("old", "x", IncidentState::Firing)).await.expect("committed");
    store.run_sql("UPDATE alert SET name_hash = 0").await;
    let reported = store.ingest(resolving("new", "default", &names(&["x"]))).await.expect("committed");
    assert_eq!(reported.elsewhere, 1);
    // It is written as this version does.
    let unhashed: i64 = sqlx::query_scalar("SELECT count(*) FROM alert WHERE name_hash = 0")
        .fetch_one(&store.readers.pool)
        .await
        .expect("read");
    assert_eq!(unhashed, 0);
}

/// A label is taken out of `group_by`: what were many groups is one, and ends as one. The writer serves others in between.
#[tokio::test]
async fn thousands_of_groups_that_one_notification_ends_share_no_transaction() {
    const MANY: usize = 1_000;
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    let fingerprints: Vec<String> = (0..MANY).map(|n| format!("{n:05}")).collect();
    for chunk in fingerprints.chunks(200) {
        let ingests = chunk.iter().map(|one| store.ingest(ingest(one, one, IncidentState::Firing)));
        assert!(futures_util::future::join_all(ingests).await.iter().all(Result::is_ok));
    }
    let (reported, other) = tokio::join!(store.ingest(resolving("new", "default", &fingerprints)), async {
        // Queued behind the first part of it.
        tokio::task::yield_now().await;
        store.ingest(ingest("late", "z", IncidentState::Firing)).await.expect("committed");
        open_groups(&store).await.len()
    });
    assert_eq!(reported.expect("committed").elsewhere, MANY);
    assert!(other > 2, "the other one waited for all of it");
    assert_eq!(open_groups(&store).await, ["default/late", "default/new"]);
}
