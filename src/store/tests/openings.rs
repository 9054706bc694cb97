//! First notifications of groups, which share their statements.

use tokio::sync::oneshot;

use super::*;

/// One that the short way takes: it has a content hash.
fn first(group: &str) -> Ingest {
    Ingest { content_hash: "h".to_owned(), ..ingest(group, "a", IncidentState::Firing) }
}

/// Runs these in one transaction: the writer is busy until all of them wait for it.
async fn together(store: &Store, ingests: Vec<Ingest>) -> Vec<Result<Ingested, StoreError>> {
    let count = ingests.len();
    let ((started, start), (done, release)) = (oneshot::channel(), oneshot::channel::<()>());
    let busy = tokio::spawn({
        let store = store.clone();
        async move {
            let wait = store.write(move |_, _| {
                Box::pin(async move {
                    let _ = started.send(());
                    let _ = release.await;
                    Ok(())
                })
            });
            wait.await.expect("committed");
        }
    });
    start.await.expect("the writer takes it");
    let all = futures_util::future::join_all(ingests.into_iter().map(|ingest| store.ingest(ingest)));
    let queued = async {
        while store.writer.queued() < count {
            tokio::task::yield_now().await;
        }
        done.send(()).expect("the writer waits");
    };
    let (all, ()) = tokio::join!(all, queued);
    busy.await.expect("no panic");
    all
}

/// What a store holds, without ids.
async fn content(store: &Store) -> Vec<String> {
    let mut all = Vec::new();
    for sql in [
        "SELECT at || route || group_hash || body_hash || repeats || coalesce(length(body), -1) FROM notification ORDER BY 1",
        "SELECT incident.route || receiver || group_key || incident.group_hash || incident.state || severity || opened_at \
         || heard_at || coalesce(closed_at, -1) || flaps || by_receiver || fired_at || coalesce(moved_to, '-') || doc \
         || coalesce(common, '-') || notification.group_hash FROM incident JOIN notification ON notification.id = incident.notification ORDER BY 1",
        "SELECT group_key || fingerprint || name_hash || alert.state || starts_at || coalesce(ends_at, -1) \
         || coalesce(absent_since, -1) || changed_at || coalesce(seen, '-') || alert.doc FROM alert \
         JOIN incident ON incident.id = alert.incident ORDER BY 1",
        "SELECT group_key || room || kind || card.state || card.severity || coalesce(dirty_since, -1) || shown_rev || coalesce(root_event, '-') \
         FROM card JOIN card_incident ON card_incident.card = card.id \
         JOIN incident ON incident.id = card_incident.incident ORDER BY 1",
    ] {
        let rows: Vec<String> = sqlx::query_scalar(sql).fetch_all(&store.readers.pool).await.expect("read");
        assert!(!rows.is_empty(), "{sql}");
        all.extend(rows);
    }
    all
}

#[tokio::test]
async fn what_is_written_together_is_what_each_would_write_alone() {
    let groups = || (0..7).map(|n| format!("g{n}"));
    let folders = [TempDir::new().expect("a folder"), TempDir::new().expect("a folder")];
    let [alone, shared] = [open(folders[0].path()).await, open(folders[1].path()).await];
    for (group, n) in groups().zip(0..) {
        alone.store.ingest(due::of_severity(&group, n)).await.expect("committed");
    }
    let first = |(group, n): (String, u32)| Ingest { content_hash: "h".to_owned(), ..due::of_severity(&group, n) };
    let opened = together(&shared.store, groups().zip(0..).map(first).collect()).await;
    assert!(opened.iter().all(|one| one.as_ref().is_ok_and(|one| one.outcome == Outcome::Opened)), "{opened:?}");
    assert_eq!(content(&alone.store).await, content(&shared.store).await);
    let revs: i64 = sqlx::query_scalar("SELECT count(DISTINCT rev) FROM incident")
        .fetch_one(&shared.store.readers.pool)
        .await
        .expect("read");
    assert_eq!(revs, 7);
    assert_eq!(due_kinds(&shared.store).await, (7, 0, 0));
}

#[tokio::test]
async fn two_first_notifications_of_one_group_open_one_incident() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    let ingests = ["x", "y", "x", "z"].map(first).into_iter().collect();
    let all: Vec<Ingested> = together(&store, ingests).await.into_iter().map(|one| one.expect("committed")).collect();
    assert_eq!(all[0].incident, all[2].incident);
    assert_eq!(all.iter().filter(|one| one.outcome == Outcome::Opened).count(), 3);
    let open: i64 =
        sqlx::query_scalar("SELECT count(*) FROM incident").fetch_one(&store.readers.pool).await.expect("read");
    assert_eq!(open, 3);
}

#[tokio::test]
async fn one_that_cannot_be_written_fails_alone() {
    // PostgreSQL takes no NUL; SQLite takes everything.
    const POISON: &str = "poison\0";
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    if !is_shared() {
        store
            .run_sql(
                "CREATE TRIGGER poison BEFORE INSERT ON incident WHEN NEW.group_key LIKE 'poison%' \
                 BEGIN SELECT RAISE(ABORT, 'poisoned'); END",
            )
            .await;
    }
    let all = together(&store, ["x", POISON, "y", "z"].map(first).into_iter().collect()).await;
    let failed: Vec<bool> = all.iter().map(Result::is_err).collect();
    assert_eq!(failed, [false, true, false, false]);
    let groups: Vec<String> = sqlx::query_scalar("SELECT group_key FROM incident ORDER BY 1")
        .fetch_all(&store.readers.pool)
        .await
        .expect("read");
    assert_eq!(groups, ["x", "y", "z"]);
    let notifications: i64 =
        sqlx::query_scalar("SELECT count(*) FROM notification").fetch_one(&store.readers.pool).await.expect("read");
    assert_eq!(notifications, 3);
}

#[tokio::test]
async fn what_a_moved_receiver_left_open_is_pointed_to_the_new_card() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    let on = |route: &str| Ingest {
        key: IncidentKey { route: RouteName::parse(route).expect("a route"), ..key("g") },
        by_receiver: true,
        ..first("g")
    };
    store.ingest(on("default")).await.expect("committed");
    let due = store.due(&room()).await.expect("due").new[0].card.clone();
    let snapshot = store.snapshot(&due).await.expect("read").expect("a card");
    let op = store.freeze(op_for(&snapshot, OpKind::Card, "first")).await.expect("frozen");
    store.finish(&op, "$first").await.expect("recorded");
    let to = RouteName::parse("web").expect("a route");
    let moved = Move { from: key("g").route, receiver: "r".to_owned(), to };
    assert_eq!(store.close_moved(&moved).await.expect("committed"), 1);
    together(&store, vec![on("web"), first("other")]).await.into_iter().for_each(|one| {
        one.expect("committed");
    });
    let next: Option<String> = sqlx::query_scalar("SELECT superseded_by FROM card WHERE root_event = '$first'")
        .fetch_one(&store.readers.pool)
        .await
        .expect("read");
    assert!(next.is_some());
}
