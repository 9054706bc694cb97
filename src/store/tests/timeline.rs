//! The store's own time, and what is ordered by its counter.

use super::{migration::store_of_0_1_0, *};

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
const DAY_MS: i64 = 86_400_000;
const NOW: Timestamp = Timestamp(1_800_000_000_000);

async fn open_at(folder: &Path, clock: &Clock) -> Store {
    let metrics = Arc::new(Metrics::new(&[], &[], "v", "c"));
    Store::open(folder, clock.clone(), metrics, Arc::new(Health::default())).await.expect("a store")
}

async fn run(store: &Store, sql: &'static str) {
    let work = store
        .writer
        .write(move |connection, _| Box::pin(async move { Ok(sqlx::query(sql).execute(connection).await.map(drop)?) }));
    work.await.expect("committed");
}

/// What is over is over for good: firing again, it is another incident.
fn opening(group: &str, fingerprint: &str) -> Ingest {
    let name = fingerprint.to_owned();
    Ingest {
        decide: Arc::new(move |known, _| {
            let open = known.filter(|known| known.incident.closed_at.is_none());
            adding(open, &name, IncidentState::Firing, Vec::new())
        }),
        ..ingest(group, fingerprint, IncidentState::Firing)
    }
}

async fn stale(store: &Store, after: Duration) -> usize {
    store.close_stale(&RouteName::parse("default").expect("a name"), after).await.expect("committed")
}

#[tokio::test]
async fn an_incident_closed_by_a_clock_that_was_ahead_does_not_hide_the_open_one() {
    let folder = TempDir::new().expect("a folder");
    let store = open_at(folder.path(), &Clock::manual(NOW)).await;
    store.ingest(opening("g", "a")).await.expect("committed");
    store.ingest(ingest("g", "a", IncidentState::Resolved)).await.expect("committed");
    run(&store, "UPDATE incident SET opened_at = opened_at + 864000000").await;
    let second = store.ingest(opening("g", "a")).await.expect("committed").incident;
    let third = store.ingest(opening("g", "b")).await.expect("the open one is found, not made twice").incident;
    assert_eq!(second, third);
    store.ingest(ingest("g", "a", IncidentState::Resolved)).await.expect("committed");
    let fourth = store.ingest(unchanged("g")).await.expect("committed").incident;
    assert_eq!(fourth, second, "of those that are over, the one that changed last");
}

#[tokio::test]
async fn a_wall_clock_that_is_set_closes_and_forgets_nothing_and_keeps_nothing() {
    let (folder, clock) = (TempDir::new().expect("a folder"), Clock::manual(NOW));
    let store = open_at(folder.path(), &clock).await;
    store.ingest(opening("open", "a")).await.expect("committed");
    clock.jump(30 * DAY_MS);
    assert_eq!((stale(&store, DAY).await, store.prune(7 * DAY).await.expect("committed")), (0, 0));
    clock.jump(-60 * DAY_MS);
    clock.advance(DAY);
    assert_eq!(stale(&store, DAY).await, 1, "a day has passed, whatever the clock shows");
    clock.jump(60 * DAY_MS);
    run(&store, "UPDATE card SET dirty_since = NULL").await;
    clock.advance(6 * DAY);
    assert_eq!(store.prune(7 * DAY).await.expect("committed"), 0);
    clock.jump(-60 * DAY_MS);
    clock.advance(2 * DAY);
    assert!(store.prune(7 * DAY).await.expect("committed") > 0);
}

#[tokio::test]
async fn time_goes_on_over_a_restart_whatever_the_wall_clock_shows() {
    for (wall, away) in [(9 * DAY_MS, HOUR), (-9 * DAY_MS, Duration::ZERO), (60_000, Duration::from_mins(1))] {
        let (folder, clock) = (TempDir::new().expect("a folder"), Clock::manual(NOW));
        let store = open_at(folder.path(), &clock).await;
        store.ingest(opening("g", "a")).await.expect("committed");
        clock.advance(HOUR);
        store.close().await;
        drop(store);
        let later = Clock::manual(NOW.plus(HOUR).moved(wall));
        let store = open_at(folder.path(), &later).await;
        assert_eq!(later.now(), NOW.plus(HOUR).plus(away), "{wall}");
        // PostgreSQL's clock is believed for a short while.
        let is_counted = is_shared() && away == Duration::from_mins(1);
        assert_eq!(later.has_counted_since(NOW), is_counted, "{wall}");
        assert_eq!(stale(&store, 3 * HOUR).await, 0, "{wall}: nothing is closed at once");
        later.advance(2 * HOUR);
        assert_eq!(stale(&store, 3 * HOUR).await, 1, "{wall}");
        let card = snapshot(&store).await.incidents.remove(0).0;
        assert_eq!(card.closed_at, Some(later.wall()), "{wall}: shown by the wall clock");
    }
}

/// A store that 0.1.0 left, with what a clock three days ahead has once written to it.
const AHEAD: &str = include_str!("store_0_1_0.sql");

#[tokio::test]
async fn a_store_of_0_1_0_goes_on_from_what_it_last_heard() {
    // It looks at SQLite's file.
    if is_shared() {
        return;
    }
    // Right, two days ahead, and right after a while in which nothing ran.
    for (wall, closed) in [(HOUR, 0), (2 * DAY, 0), (2 * HOUR, 1)] {
        let (folder, clock) = (TempDir::new().expect("a folder"), Clock::manual(NOW.plus(wall)));
        store_of_0_1_0(folder.path(), AHEAD).await;
        let store = open_at(folder.path(), &clock).await;
        assert_eq!(clock.now(), NOW.plus(HOUR.min(wall)), "{wall:?}");
        // Heard of at NOW, and an hour before.
        assert_eq!(stale(&store, 2 * HOUR + Duration::from_secs(1)).await, 0, "{wall:?}");
        clock.advance(HOUR * closed);
        assert_eq!(stale(&store, 3 * HOUR).await, usize::try_from(closed).expect("few"), "{wall:?}");
        let ahead: i64 = sqlx::query_scalar(
            "SELECT (SELECT count(*) FROM incident WHERE opened_at > $1 OR closed_at > $1 OR heard_at > $1) \
             + (SELECT count(*) FROM note WHERE at > $1) + (SELECT count(*) FROM card WHERE spoke_at > $1) \
             + (SELECT count(*) FROM notification WHERE at > $1)",
        )
        .bind(clock.now().0)
        .fetch_one(&store.readers.pool)
        .await
        .expect("read");
        assert_eq!(ahead, 0, "{wall:?}: nothing lies ahead");
        let first = store.ingest(opening("ahead", "a")).await.expect("committed").incident;
        assert_eq!(store.ingest(opening("ahead", "b")).await.expect("committed").incident, first);
    }
}

#[tokio::test]
async fn a_store_of_0_1_0_under_a_clock_set_back_to_long_ago_is_as_heard_just_now() {
    // It looks at SQLite's file.
    if is_shared() {
        return;
    }
    let (folder, clock) = (TempDir::new().expect("a folder"), Clock::manual(Timestamp(1_000)));
    store_of_0_1_0(folder.path(), AHEAD).await;
    let store = open_at(folder.path(), &clock).await;
    assert_eq!(stale(&store, HOUR).await, 0);
    clock.advance(HOUR);
    assert_eq!(stale(&store, HOUR).await, 2);
    // And once more: now the time is known.
    store.close().await;
    drop(store);
    let again = Clock::manual(NOW);
    open_at(folder.path(), &again).await;
    assert_eq!(again.now(), Timestamp(1_000).plus(2 * HOUR));
}
