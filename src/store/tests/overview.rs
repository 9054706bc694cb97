//! What the status page reads.

use sqlx::AnyPool;

use super::*;
use crate::store::{Overview, db::monitoring::KEPT};

/// On a slow machine the last one is handed out for a while, whatever was committed since.
async fn next_overview(store: &Store) -> Arc<Overview> {
    tokio::time::sleep(KEPT).await;
    store.overview(&[room()]).await.expect("read")
}

#[tokio::test]
async fn an_overview_is_bounded_and_begins_with_what_matters() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, clock, .. } = open(folder.path()).await;
    let empty = store.overview(&[room()]).await.expect("read");
    assert_eq!((empty.last_accepted, empty.incidents.len(), empty.waiting.len()), (None, 0, 0));
    for n in 0..60_u32 {
        clock.advance(Duration::from_secs(1));
        let severity = u32::from(n != 55);
        let decide = Arc::new(move |known: Option<&Known>, _| Changes {
            severity,
            alerts: (0..9).map(|alert_n| alert(&format!("f{alert_n}"), AlertState::Firing)).collect(),
            ..adding(known, "a", IncidentState::Firing, Vec::new())
        });
        let one = Ingest { decide, ..ingest(&format!("g{n:02}"), "a", IncidentState::Firing) };
        store.ingest(one).await.expect("committed");
    }
    store.ingest(ingest("over", "a", IncidentState::Resolved)).await.expect("committed");
    clock.advance(Duration::from_mins(1));
    store.ingest(unchanged("g55")).await.expect("committed");

    let overview = next_overview(&store).await;
    assert_eq!(overview.last_accepted, Some(clock.now()), "a repeat counts");
    let groups: Vec<_> = overview.incidents.iter().map(|open| open.seen.incident.key.group_key.as_str()).collect();
    assert_eq!((groups.len(), &groups[..3]), (50, &["g55", "g00", "g01"][..]));
    let first = &overview.incidents[0];
    assert_eq!(first.seen.incident.alerts.len(), 4, "a few are enough for a name");
    assert_eq!((&first.seen.counts, first.seen.has_more), (&vec![(AlertState::Firing, 9)], false));
    assert_eq!(first.cards.iter().map(|card| (&card.room, &card.event)).collect::<Vec<_>>(), [(&room(), &None)]);
    assert_eq!(overview.waiting.len(), 5);
    assert_eq!(overview.waiting[0].leads.incident.key.group_key, "g00");
    assert_eq!(overview.waiting[0].since, Timestamp(1_001_000));
    // A room that the config no longer names has no backlog.
    assert!(store.overview(&[]).await.expect("read").waiting.is_empty());
    let stats = store.stats(&[room()]).await.expect("read");
    assert_eq!(stats.oldest_by_room, [(room().as_str().to_owned(), Timestamp(1_001_000))]);
}

#[tokio::test]
async fn a_card_under_way_waits_until_it_is_acknowledged() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, clock, .. } = open(folder.path()).await;
    store.ingest(ingest("g", "a", IncidentState::Firing)).await.expect("committed");
    let op = store.freeze(op_for(&snapshot(&store).await, OpKind::Card, "t1")).await.expect("frozen");
    clock.advance(Duration::from_secs(5));
    store.ingest(ingest("g", "b", IncidentState::Firing)).await.expect("committed");
    let overview = store.overview(&[room()]).await.expect("read");
    assert_eq!(
        overview.waiting.iter().map(|card| (card.since, card.others)).collect::<Vec<_>>(),
        [(Timestamp(1_000_000), 0)]
    );
    store.finish(&op, "$root").await.expect("recorded");
    let overview = next_overview(&store).await;
    assert_eq!(overview.waiting[0].since, Timestamp(1_005_000), "the change that came meanwhile");
    assert_eq!(overview.incidents[0].cards[0].event.as_deref(), Some("$root"));
}

#[tokio::test]
async fn the_newest_dead_letters_and_how_many_there_are() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, clock, .. } = open(folder.path()).await;
    for n in 0..23 {
        clock.advance(Duration::from_secs(1));
        store.ingest(ingest(&format!("g{n:02}"), "a", IncidentState::Firing)).await.expect("committed");
        let new = op_for(&snapshot(&store).await, OpKind::Card, &format!("t{n:02}"));
        let content = r#"{"body":"* one\ntwo","m.new_content":{"body":"one\ntwo"}}"#.to_owned();
        let op = store.freeze(NewOp { content, ..new }).await.expect("frozen");
        store.mark_dead(&op, "too_large: 413", None).await.expect("buried");
    }
    let overview = store.overview(&[room()]).await.expect("read");
    assert_eq!((overview.dead_letters.len(), overview.dead_letters_in_all), (20, 23));
    assert_eq!(overview.dead_letters[0].op.txn_id.as_str(), "t22");
    assert_eq!(overview.dead_letters[0].first_line(), "one");
}

/// However many look on, webhooks and lanes have their connections, and the other way round.
#[tokio::test]
async fn those_who_look_on_and_those_who_deliver_do_not_wait_for_each_other() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    store.ingest(ingest("g", "a", IncidentState::Firing)).await.expect("committed");
    let all_of = async |pool: &AnyPool| {
        let taken = (0..pool.options().get_max_connections()).map(|_| pool.acquire());
        futures_util::future::try_join_all(taken).await.expect("connections")
    };
    let held = all_of(&store.readers.pool).await;
    store.stats(&[room()]).await.expect("read while all readers are taken");
    store.overview(&[room()]).await.expect("read while all readers are taken");
    store.dead_letters().await.expect("read while all readers are taken");
    drop(held);
    let _held = all_of(&store.monitoring.pool).await;
    assert_eq!(due_kinds(&store).await, (1, 0, 0));
    snapshot(&store).await;
}
