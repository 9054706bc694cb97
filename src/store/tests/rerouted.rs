//! Receivers that take another route.

use super::*;

fn route(name: &str) -> RouteName {
    RouteName::parse(name).expect("a route")
}

fn other_room() -> RoomAddress {
    RoomAddress::parse("!other:example.org").expect("a room")
}

fn by_receiver(name: &str, group: &str, rooms: &[RoomAddress]) -> Ingest {
    Ingest {
        key: IncidentKey { route: route(name), ..key(group) },
        rooms: rooms.to_vec(),
        by_receiver: true,
        ..ingest(group, "a", IncidentState::Firing)
    }
}

async fn post_next(store: &Store, room: &RoomAddress, kind: OpKind, txn: &str) -> Snapshot {
    let due = store.due(room).await.expect("due");
    let card = due.new.first().or(due.edits.first()).expect("something due").card.clone();
    let snapshot = store.snapshot(&card).await.expect("read").expect("a card");
    let op = NewOp { room: room.clone(), ..op_for(&snapshot, kind, txn) };
    let op = store.freeze(op).await.expect("frozen");
    store.finish(&op, &format!("${txn}")).await.expect("recorded");
    snapshot
}

fn to_web() -> Move {
    Move { from: route("default"), receiver: "r".to_owned(), to: route("web") }
}

async fn open_routes(store: &Store) -> Vec<String> {
    sqlx::query_scalar("SELECT route FROM incident WHERE closed_at IS NULL ORDER BY route")
        .fetch_all(&store.readers.pool)
        .await
        .expect("read")
}

#[tokio::test]
async fn the_old_card_says_where_it_goes_on_and_then_points_there() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    store.ingest(by_receiver("default", "g", &[room()])).await.expect("committed");
    // By a URL that names its route: the receiver has no say in it.
    store.ingest(Ingest { by_receiver: false, ..by_receiver("default", "h", &[room()]) }).await.expect("committed");
    post_next(&store, &room(), OpKind::Card, "old").await;
    post_next(&store, &room(), OpKind::Card, "h").await;
    assert_eq!(store.open_receivers().await.expect("read"), [(route("default"), "r".to_owned())]);
    assert_eq!(store.close_moved(&to_web()).await.expect("committed"), 1);
    assert_eq!(store.close_moved(&to_web()).await.expect("committed"), 0);
    assert_eq!(
        (open_routes(&store).await, store.open_receivers().await.expect("read").len()),
        (vec!["default".into()], 0)
    );
    let words = post_next(&store, &room(), OpKind::Edit, "words").await;
    assert_eq!(words.card.state, CardState::Unrouted);
    assert_eq!(words.rerouted_to.as_deref(), Some("web"));
    assert_eq!(store.due(&room()).await.expect("due"), DueCards::default());

    store.ingest(by_receiver("web", "g", &[other_room()])).await.expect("committed");
    assert_eq!(store.due(&room()).await.expect("due"), DueCards::default(), "there is no card to point to yet");
    let mut wake_ups = store.wake_ups(&room());
    wake_ups.mark_unchanged();
    post_next(&store, &other_room(), OpKind::Card, "new").await;
    assert!(wake_ups.has_changed().expect("a store"), "the other room's lane sleeps");
    let link = post_next(&store, &room(), OpKind::Edit, "link").await;
    assert_eq!(
        (link.rerouted_to.as_deref(), link.continued.as_deref(), link.continued_in.as_deref()),
        (Some("web"), Some("$new"), Some(other_room().as_str()))
    );
    assert_eq!(store.due(&room()).await.expect("due"), DueCards::default());
}

#[tokio::test]
async fn what_goes_on_in_the_same_room_is_pointed_to_there() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    store.ingest(by_receiver("default", "g", &[room()])).await.expect("committed");
    post_next(&store, &room(), OpKind::Card, "old").await;
    // It has begun there already: a webhook that saw the new config before the old incident was closed.
    store.ingest(by_receiver("web", "g", &[other_room(), room()])).await.expect("committed");
    post_next(&store, &room(), OpKind::Card, "here").await;
    post_next(&store, &other_room(), OpKind::Card, "there").await;
    assert_eq!(store.close_moved(&to_web()).await.expect("committed"), 1);
    let link = post_next(&store, &room(), OpKind::Edit, "link").await;
    assert_eq!((link.continued.as_deref(), open_routes(&store).await), (Some("$here"), vec!["web".into()]));
}

#[tokio::test]
async fn a_digest_goes_on_without_what_has_moved() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    store.ingest(by_receiver("default", "g", &[room()])).await.expect("committed");
    store.ingest(Ingest { by_receiver: false, ..by_receiver("default", "h", &[room()]) }).await.expect("committed");
    store.make_digest(&room()).await.expect("committed").expect("a digest");
    post_next(&store, &room(), OpKind::Card, "digest").await;
    assert_eq!(store.close_moved(&to_web()).await.expect("committed"), 1);
    let rest = post_next(&store, &room(), OpKind::Edit, "rest").await;
    assert_eq!((rest.incidents.len(), rest.card.superseded_by), (1, None));
}
