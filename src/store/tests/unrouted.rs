//! What the config no longer routes.

use super::*;

fn route(name: &str) -> RouteName {
    RouteName::parse(name).expect("a route")
}

fn other_room() -> RoomAddress {
    RoomAddress::parse("!other:example.org").expect("a room")
}

/// What each route leads to.
fn routing(routes: &[(&str, &[RoomAddress])]) -> Routing {
    routes.iter().map(|(name, rooms)| (route(name), rooms.to_vec())).collect()
}

/// One more alert of a group of this route.
fn of_route(name: &str, group: &str, fingerprint: &str) -> Ingest {
    Ingest {
        key: IncidentKey { route: route(name), ..key(group) },
        ..ingest(group, fingerprint, IncidentState::Firing)
    }
}

async fn post(store: &Store, name: &str, group: &str, fingerprint: &str) {
    store.ingest(of_route(name, group, fingerprint)).await.expect("committed");
}

/// Freezes what the room is due next.
async fn frozen(store: &Store, kind: OpKind, txn: &str) -> Op {
    store.freeze(op_for(&snapshot(store).await, kind, txn)).await.expect("frozen")
}

async fn posted(store: &Store, name: &str, group: &str) {
    post(store, name, group, "a").await;
    let txn = format!("{name} {group}");
    let op = frozen(store, OpKind::Card, &txn).await;
    store.finish(&op, &format!("${txn}")).await.expect("recorded");
}

async fn closed(store: &Store, routes: &[(&str, &[RoomAddress])]) -> (usize, u64, usize) {
    let unrouted = store.close_unrouted(&routing(routes)).await.expect("committed");
    (unrouted.cards, unrouted.incidents, unrouted.rooms.len())
}

async fn open_incidents(store: &Store) -> i64 {
    let open = sqlx::query_scalar("SELECT count(*) FROM incident WHERE closed_at IS NULL");
    open.fetch_one(&store.readers.pool).await.expect("counted")
}

#[tokio::test]
async fn what_is_routed_is_left_alone() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    posted(&store, "default", "g").await;
    post(&store, "default", "h", "a").await;
    assert_eq!(closed(&store, &[("default", &[other_room(), room()])]).await, (0, 0, 0));
    assert_eq!((due_kinds(&store).await, open_incidents(&store).await), ((1, 0, 0), 2));
}

#[tokio::test]
async fn a_posted_card_owes_one_last_edit_and_an_unposted_one_nothing() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    posted(&store, "default", "g").await;
    post(&store, "default", "g", "b").await;
    post(&store, "default", "h", "a").await;
    assert_eq!(due_kinds(&store).await, (1, 1, 0), "something new, and something to say");
    assert_eq!(closed(&store, &[("default", &[other_room()])]).await, (2, 2, 1));
    assert_eq!(due_kinds(&store).await, (0, 0, 1));
    let last = snapshot(&store).await;
    assert!(last.card.state == CardState::Unrouted && last.notes.is_empty());
    let edit = frozen(&store, OpKind::Edit, "last").await;
    assert_eq!(due_kinds(&store).await, (0, 0, 0));
    store.finish(&edit, "$last").await.expect("recorded");
    assert_eq!(due_kinds(&store).await, (0, 0, 0));
    assert_eq!(closed(&store, &[("default", &[other_room()])]).await, (0, 0, 0), "once");
    // The route is still there, but no room shows them: their next notification opens them again, in its new rooms.
    assert_eq!(open_incidents(&store).await, 0);
    post(&store, "default", "g", "c").await;
    assert_eq!(due_kinds(&store).await, (1, 0, 0));
    assert_eq!(snapshot(&store).await.card.root_event, None);
}

#[tokio::test]
async fn incidents_of_a_route_that_is_gone_are_closed_and_others_in_the_room_are_not() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    posted(&store, "default", "g").await;
    posted(&store, "ops", "g").await;
    assert_eq!(closed(&store, &[("default", &[room()])]).await, (1, 1, 0), "its room is served");
    assert_eq!(due_kinds(&store).await, (0, 0, 1));
    let last = snapshot(&store).await;
    assert_eq!((last.incidents[0].0.key.route.as_str(), last.incidents[0].0.state), ("ops", IncidentState::Stale));
    assert_eq!(open_incidents(&store).await, 1);
}

/// The room is written to once it is known what it shows.
#[tokio::test]
async fn what_is_on_its_way_is_waited_for() {
    for (sent, arrives) in [(OpKind::Card, true), (OpKind::Card, false), (OpKind::Edit, true), (OpKind::Edit, false)] {
        let folder = TempDir::new().expect("a folder");
        let Fixture { store, .. } = open(folder.path()).await;
        if sent == OpKind::Edit {
            posted(&store, "default", "g").await;
            let quiet = Ingest {
                decide: Arc::new(|known, _| adding(known, "b", IncidentState::Firing, Vec::new())),
                ..of_route("default", "g", "b")
            };
            store.ingest(quiet).await.expect("committed");
        } else {
            post(&store, "default", "g", "a").await;
        }
        let op = frozen(&store, sent, "under way").await;
        assert_eq!(closed(&store, &[("default", &[other_room()])]).await.2, 1, "its lane must go on");
        if arrives {
            store.finish(&op, "$event").await.expect("recorded");
        } else {
            store.requeue(&op).await.expect("thawed");
        }
        let owes = arrives || sent == OpKind::Edit;
        assert_eq!(due_kinds(&store).await, (0, 0, usize::from(owes)), "{sent:?} {arrives}");
        let behind = store.stats(&[room()]).await.expect("stats").waiting;
        assert_eq!(behind, i64::from(owes), "{sent:?} {arrives}");
        if owes {
            assert_eq!(snapshot(&store).await.card.state, CardState::Unrouted);
        }
    }
}

#[tokio::test]
async fn a_digest_goes_on_without_what_is_not_routed_any_more() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    for (name, group) in [("default", "g"), ("default", "h"), ("ops", "i"), ("ops", "j")] {
        post(&store, name, group, "a").await;
    }
    store.make_digest(&room()).await.expect("committed").expect("a digest");
    let root = frozen(&store, OpKind::Card, "root").await;
    store.finish(&root, "$root").await.expect("recorded");
    post(&store, "ops", "i", "b").await;
    assert_eq!(closed(&store, &[("default", &[room()])]).await, (1, 2, 0));
    assert_eq!(due_kinds(&store).await, (0, 0, 1), "nothing is said of what is gone");
    let left = snapshot(&store).await;
    let routes: Vec<&str> = left.incidents.iter().map(|(incident, _)| incident.key.route.as_str()).collect();
    assert_eq!((routes, left.card.state), (vec!["default", "default"], CardState::Live));
    // And then the rest of it.
    assert_eq!(closed(&store, &[]).await, (1, 2, 1));
    assert_eq!(snapshot(&store).await.card.state, CardState::Unrouted);
}

#[tokio::test]
async fn a_room_that_is_given_up_owes_nothing_more() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    posted(&store, "default", "g").await;
    post(&store, "default", "h", "a").await;
    let op = frozen(&store, OpKind::Card, "doubtful").await;
    store.mark_in_doubt(&op.txn_id, "no answer").await.expect("committed");
    assert_eq!(closed(&store, &[]).await, (2, 2, 1));
    assert_eq!(store.give_up_room(&room(), "refused").await.expect("committed"), 1);
    assert_eq!(due_kinds(&store).await, (0, 0, 0));
    assert_eq!(store.open_ops(&room()).await.expect("read").unfinished, None);
    assert_eq!(closed(&store, &[]).await, (0, 0, 0));
}

#[tokio::test]
async fn what_one_of_several_rooms_still_shows_stays_open() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    let both = Ingest { rooms: vec![room(), other_room()], ..of_route("default", "g", "a") };
    store.ingest(both).await.expect("committed");
    assert_eq!(closed(&store, &[("default", &[other_room()])]).await, (1, 0, 0));
    assert_eq!(open_incidents(&store).await, 1);
}

/// The new card that was to say where the old one goes on is dropped.
#[tokio::test]
async fn an_old_card_whose_successor_never_came_is_told_itself() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    posted(&store, "default", "g").await;
    let old: String = sqlx::query_scalar("SELECT id FROM card").fetch_one(&store.readers.pool).await.expect("a card");
    let opened_again = Ingest {
        decide: Arc::new(move |known, _| Changes {
            reposts: vec![crate::model::CardId(old.clone())],
            ..adding(known, "b", IncidentState::Firing, Vec::new())
        }),
        ..of_route("default", "g", "b")
    };
    store.ingest(opened_again).await.expect("committed");
    assert_eq!(due_kinds(&store).await, (1, 0, 0), "the new one");
    assert_eq!(closed(&store, &[]).await, (1, 1, 1));
    assert_eq!(due_kinds(&store).await, (0, 0, 1), "the old one");
    let last = snapshot(&store).await;
    assert!(last.card.state == CardState::Unrouted && last.card.root_event.is_some());
}

/// A notice speaks of many cards; one that comes back must leave nothing to say on those that are closed.
#[tokio::test]
async fn a_notice_that_comes_back_says_nothing_of_closed_cards() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    for group in ["g", "h"] {
        posted(&store, "default", group).await;
        post(&store, "default", group, "b").await;
    }
    let mut cards = Vec::new();
    for due in store.due(&room()).await.expect("due").notes {
        cards.push(store.snapshot(&due.card).await.expect("read").expect("a card"));
    }
    let notes = cards.iter().flat_map(|card| card.notes.iter().map(|note| note.id)).collect();
    let op = store.freeze(NewOp { notes, ..op_for(&cards[0], OpKind::Notice, "notice") }).await.expect("frozen");
    assert_eq!(closed(&store, &[]).await.0, 2);
    store.requeue(&op).await.expect("thawed");
    assert_eq!(due_kinds(&store).await, (0, 0, 2));
}
