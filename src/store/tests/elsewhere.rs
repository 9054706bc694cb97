//! One alert in several groups of a route.

use super::*;

/// The rules in short: what is over is resolved, and an incident without anything else is over.
fn resolving(known: &Known, over: &[Over], now: Timestamp) -> Changes {
    let alerts: Vec<Alert> = known
        .incident
        .alerts
        .iter()
        .filter(|held| held.state != AlertState::Resolved)
        .filter(|held| Over::of(over, &held.fingerprint, held.starts_at).is_some())
        .map(|held| Alert { state: AlertState::Resolved, ends_at: Some(now), ..held.clone() })
        .collect();
    let resolved = known.incident.count(AlertState::Resolved) + alerts.len();
    let is_over = resolved == known.incident.alerts.len();
    let note = NewNote { kind: NoteKind::Resolved, args: NoteArgs::default(), cards: None };
    Changes {
        outcome: Outcome::Resolved,
        state: if is_over { IncidentState::Resolved } else { known.incident.state },
        closed_at: is_over.then_some(now),
        news: !alerts.is_empty(),
        notes: vec![note],
        alerts,
        ..adding(Some(known), "", IncidentState::Firing, Vec::new())
    }
}

/// A group that reports these alerts resolved, at a time when the alerts of [`alert`] have begun.
fn over(group: &str, fingerprints: &[String], ends_at: Timestamp) -> Ingest {
    let mut over: Vec<Over> = fingerprints
        .iter()
        .map(|fingerprint| Over { fingerprint: fingerprint.clone(), ends_at: Some(ends_at) })
        .collect();
    over.sort_by(|a, b| a.fingerprint.cmp(&b.fingerprint));
    Ingest {
        elsewhere: Some(Elsewhere { over, decide: Box::new(resolving) }),
        ..ingest(group, &fingerprints[0], IncidentState::Resolved)
    }
}

async fn open_groups(store: &Store) -> Vec<String> {
    let mut connection = store.readers.acquire().await.expect("a reader");
    sqlx::query_scalar("SELECT group_key FROM incident WHERE closed_at IS NULL ORDER BY group_key")
        .fetch_all(&mut *connection)
        .await
        .expect("groups")
}

fn one(fingerprint: &str) -> Vec<String> {
    vec![fingerprint.to_owned()]
}

#[tokio::test]
async fn what_is_over_is_so_in_every_open_incident_of_the_route() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    for (group, fingerprint) in [("new", "a"), ("old", "a"), ("other", "b")] {
        store.ingest(ingest(group, fingerprint, IncidentState::Firing)).await.expect("committed");
    }
    let strange = IncidentKey { route: RouteName::parse("strange").expect("a route"), ..key("strange") };
    store
        .ingest(Ingest { key: strange, ..ingest("strange", "a", IncidentState::Firing) })
        .await
        .expect("committed");
    // It ended before what the others hold began.
    let ingested = store.ingest(over("new", &one("a"), Timestamp(0))).await.expect("committed");
    assert_eq!((ingested.elsewhere, open_groups(&store).await), (0, vec!["old".into(), "other".into(), "strange".into()]));

    let ingested = store.ingest(over("new", &one("a"), Timestamp(2))).await.expect("committed");
    assert_eq!((ingested.elsewhere, open_groups(&store).await), (1, vec!["other".into(), "strange".into()]));
    let due = store.due(&room()).await.expect("due");
    assert_eq!(due.new.len(), 4, "each has its card still, and says so");
    // A twin of it changes nothing.
    let ingested = store.ingest(over("new", &one("a"), Timestamp(2))).await.expect("committed");
    assert_eq!(ingested.elsewhere, 0);
}

/// A repeat is known by its digest and not looked at any closer; what is new to another incident is seen all the same.
#[tokio::test]
async fn a_mere_repeat_takes_effect_elsewhere() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    let told = || Ingest {
        elsewhere: over("new", &one("b"), Timestamp(2)).elsewhere,
        ..repeating("new", "same")
    };
    store.ingest(told()).await.expect("committed");
    store.ingest(ingest("old", "b", IncidentState::Firing)).await.expect("committed");
    let ingested = store.ingest(told()).await.expect("committed");
    assert_eq!((ingested.elsewhere, open_groups(&store).await), (1, vec!["new".into()]));
    let body: Option<Vec<u8>> = sqlx::query_scalar("SELECT body FROM notification WHERE id = $1")
        .bind(ingested.notification.as_str())
        .fetch_one(&mut *store.readers.acquire().await.expect("a reader"))
        .await
        .expect("a notification");
    assert!(body.is_some(), "what made something change is kept");
}

/// A label is taken out of `group_by`: what were many groups is one, and ends as one.
#[tokio::test]
async fn thousands_of_groups_that_one_notification_ends_take_a_few_transactions() {
    const MANY: usize = 2_000;
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    let fingerprints: Vec<String> = (0..MANY).map(|n| format!("{n:05}")).collect();
    for chunk in fingerprints.chunks(200) {
        let ingests = chunk.iter().map(|one| store.ingest(ingest(one, one, IncidentState::Firing)));
        let all = futures_util::future::join_all(ingests).await;
        assert!(all.iter().all(Result::is_ok));
    }
    let started = std::time::Instant::now();
    let ingested = store.ingest(over("new", &fingerprints, Timestamp(2))).await.expect("committed");
    println!("{MANY} groups ended within {:?}", started.elapsed());
    assert_eq!((ingested.elsewhere, open_groups(&store).await), (MANY, Vec::<String>::new()));
}

#[tokio::test]
async fn alerts_are_found_by_their_fingerprint() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    let plan: Vec<(i64, i64, i64, String)> = sqlx::query_as(
        "EXPLAIN QUERY PLAN SELECT alert.incident FROM alert CROSS JOIN incident WHERE incident.id = alert.incident \
         AND incident.closed_at IS NULL AND alert.state <> 'resolved' AND incident.route = 'r' \
         AND alert.fingerprint IN ('a', 'b')",
    )
    .fetch_all(&mut *store.readers.acquire().await.expect("a reader"))
    .await
    .expect("a plan");
    assert!(plan[0].3.contains("alert_held (fingerprint=?)"), "{plan:?}");
}
