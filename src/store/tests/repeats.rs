//! The same notification again.

use super::*;

#[tokio::test]
async fn a_repeat_keeps_only_a_count_and_gets_the_first_ones_id() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, clock, .. } = open(folder.path()).await;
    let first = store.ingest(ingest("g", "a", IncidentState::Firing)).await.expect("committed");
    clock.advance(Duration::from_mins(1));
    let again = store.ingest(unchanged("g")).await.expect("committed");
    assert_eq!(again.notification, first.notification);
    let (count, repeats): (i64, i64) =
        sqlx::query_as("SELECT count(*), CAST(sum(repeats) AS BIGINT) FROM notification")
            .fetch_one(&store.readers.pool)
            .await
            .expect("counted");
    assert_eq!((count, repeats), (1, 1));
    let repeats: i64 =
        sqlx::query_scalar("SELECT heard_at FROM incident").fetch_one(&store.readers.pool).await.expect("read");
    assert_eq!(repeats, clock.now().0);
}

/// Posts with a content hash that the incident keeps; returns whether it was taken for a repeat, and the alerts handed in.
async fn hashed(store: &Store, content_hash: &str, state: IncidentState) -> Option<(bool, usize)> {
    let (seen, kept) = (Arc::new(std::sync::Mutex::new(None)), content_hash.to_owned());
    let saw = Arc::clone(&seen);
    let decide = move |known: Option<&Known>, _: Timestamp| {
        *saw.lock().expect("a lock") = known.map(|known| (known.repeated, known.incident.alerts.len()));
        let doc = IncidentDoc { content_hash: kept.clone(), ..IncidentDoc::default() };
        Changes { doc, ..adding(known, "a", state, Vec::new()) }
    };
    let posted = Ingest { content_hash: content_hash.to_owned(), decide: Arc::new(decide), ..ingest("g", "a", state) };
    store.ingest(posted).await.expect("committed");
    *seen.lock().expect("a lock")
}

#[tokio::test]
async fn only_the_last_notification_of_an_open_incident_is_repeated_without_its_alerts() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    for (content_hash, state, expected) in [
        ("one", IncidentState::Firing, None),
        ("one", IncidentState::Firing, Some((true, 0))),
        ("two", IncidentState::Firing, Some((false, 1))),
        ("one", IncidentState::Firing, Some((false, 1))),
        ("", IncidentState::Firing, Some((false, 1))),
        ("", IncidentState::Firing, Some((false, 1))),
        ("three", IncidentState::Resolved, Some((false, 1))),
        ("three", IncidentState::Resolved, Some((false, 1))),
    ] {
        assert_eq!(hashed(&store, content_hash, state).await, expected, "{content_hash} {state:?}");
    }
}

#[tokio::test]
async fn a_group_of_before_the_start_is_repeated_and_not_opened_again() {
    let (folder, other) = (TempDir::new().expect("a folder"), TempDir::new().expect("a folder"));
    let Fixture { store, .. } = open(folder.path()).await;
    let first = store.ingest(repeating("g", "d")).await.expect("committed");
    let store = if is_shared() {
        open_beside(&store, other.path(), store.clock.clone(), Arc::new(Metrics::new(&[], &[], "v", "c"))).await
    } else {
        store.close().await;
        drop(store);
        open(folder.path()).await.store
    };
    for _ in 0..2 {
        let again = store.ingest(repeating("g", "d")).await.expect("committed");
        assert_eq!(
            (again.outcome, again.incident, again.notification),
            (Outcome::Unchanged, first.incident.clone(), first.notification.clone())
        );
    }
    let kept: (i64, i64) = sqlx::query_as("SELECT count(*), CAST(sum(repeats) AS BIGINT) FROM notification")
        .fetch_one(&store.readers.pool)
        .await
        .expect("counted");
    assert_eq!(kept, (1, 2));
}

#[tokio::test]
async fn a_body_is_kept_packed_and_comes_back_as_it_was() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    let body = r#"{"status":"firing","labels":{"alertname":"A"}},"#.repeat(500).into_bytes();
    for (group, content_hash) in [("together", "d"), ("alone", "")] {
        let webhook = Ingest { body: body.clone(), ..repeating(group, content_hash) };
        let id = store.ingest(webhook).await.expect("committed").notification;
        let kept: Vec<u8> = sqlx::query_scalar("SELECT body FROM notification WHERE id = $1")
            .bind(id.as_str())
            .fetch_one(&store.readers.pool)
            .await
            .expect("read");
        assert!(kept.len() < body.len() / 10, "{} bytes", kept.len());
        assert_eq!(db::bodies::unpacked(&kept), body);
    }
}

/// As a payload that Alertmanager repeats: the content hash is kept, and nothing changes.
pub(super) fn repeating(group: &str, content_hash: &str) -> Ingest {
    let kept = content_hash.to_owned();
    let decide = move |known: Option<&Known>, _: Timestamp| {
        let visible = known.is_none_or(|known| !known.repeated);
        let outcome = if visible { Outcome::Opened } else { Outcome::Unchanged };
        let doc = IncidentDoc { content_hash: kept.clone(), ..IncidentDoc::default() };
        Changes { outcome, doc, visible, ..adding(known, "a", IncidentState::Firing, Vec::new()) }
    };
    Ingest {
        content_hash: content_hash.to_owned(),
        decide: Arc::new(decide),
        ..ingest(group, "a", IncidentState::Firing)
    }
}

#[tokio::test]
async fn what_is_heard_again_is_counted_and_dated_for_many_at_once() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, clock, .. } = open(folder.path()).await;
    let first = store.ingest(repeating("g", "d")).await.expect("committed");
    let other = store.ingest(repeating("h", "d")).await.expect("committed");
    clock.advance(Duration::from_mins(1));
    let (a, b, c) = tokio::join!(
        store.ingest(repeating("g", "d")),
        store.ingest(repeating("h", "d")),
        store.ingest(repeating("g", "d"))
    );
    for (again, of) in [(a, &first), (b, &other), (c, &first)] {
        let again = again.expect("committed");
        assert_eq!((&again.notification, &again.incident), (&of.notification, &of.incident));
        assert_eq!(again.outcome, Outcome::Unchanged);
    }
    let repeats: Vec<i64> = sqlx::query_scalar("SELECT repeats FROM notification ORDER BY id")
        .fetch_all(&store.readers.pool)
        .await
        .expect("read");
    assert_eq!(repeats, [2, 1]);
    let repeats: Vec<i64> =
        sqlx::query_scalar("SELECT heard_at FROM incident").fetch_all(&store.readers.pool).await.expect("read");
    assert_eq!(repeats, [clock.now().0; 2]);
}
