//! Rooms that are named by another address than before.

use super::*;
use crate::model::{ResolvedRoom, RoomAddress};

fn alias() -> RoomAddress {
    RoomAddress::parse("#room:example.org").expect("an alias")
}

fn to_alias(kept: &[&str]) -> AddressChange {
    let routes = |names: &[&str]| names.iter().map(|name| RouteName::parse(name).expect("a route")).collect();
    AddressChange { from: room(), to: alias(), routes: routes(&["default"]), kept: routes(kept) }
}

async fn learn(store: &Store) {
    for address in [room(), alias()] {
        store.set_resolved_room(address, ResolvedRoom::new(room().as_str())).await.expect("committed");
    }
}

async fn posted(store: &Store, group: &str) {
    store.ingest(ingest(group, "a", IncidentState::Firing)).await.expect("committed");
    let op = store.freeze(op_for(&snapshot(store).await, OpKind::Card, group)).await.expect("frozen");
    store.finish(&op, &format!("${group}")).await.expect("recorded");
}

fn by_alias(group: &str, fingerprint: &str) -> Ingest {
    Ingest { rooms: vec![alias()], ..ingest(group, fingerprint, IncidentState::Firing) }
}

async fn cards(store: &Store) -> Vec<(String, Option<String>, bool)> {
    let rows: Vec<(String, Option<String>, Option<String>)> =
        sqlx::query_as("SELECT room, root_event, superseded_by FROM card ORDER BY id")
            .fetch_all(&store.readers.pool)
            .await
            .expect("read");
    rows.into_iter().map(|(room, root, next)| (room, root, next.is_some())).collect()
}

#[tokio::test]
async fn cards_and_what_is_on_its_way_go_on_under_the_new_address() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    posted(&store, "g").await;
    store.ingest(ingest("g", "b", IncidentState::Firing)).await.expect("committed");
    let reply = store.freeze(op_for(&snapshot(&store).await, OpKind::Reply, "r")).await.expect("frozen");
    store.mark_in_doubt(&reply.txn_id, "no answer").await.expect("committed");
    assert!(store.has_cards_of(&to_alias(&[])).await.expect("read"));
    assert_eq!(store.change_address(&to_alias(&[])).await.expect("committed"), (1, true));
    assert!(!store.has_cards_of(&to_alias(&[])).await.expect("read"));
    assert_eq!(store.open_ops(&room()).await.expect("read").unfinished, None);
    let op = store.open_ops(&alias()).await.expect("read").unfinished.expect("it is in doubt still");
    assert_eq!((op.txn_id.as_str(), op.state, &op.room), ("r", OpState::InDoubt, &alias()));
    store.ingest(by_alias("g", "c")).await.expect("committed");
    assert_eq!(cards(&store).await, [(alias().to_string(), Some("$g".to_owned()), false)]);
}

#[tokio::test]
async fn of_two_events_on_their_way_one_waits_for_the_other() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    store.ingest(ingest("g", "a", IncidentState::Firing)).await.expect("committed");
    let old = store.freeze(op_for(&snapshot(&store).await, OpKind::Card, "old")).await.expect("frozen");
    store.ingest(by_alias("h", "a")).await.expect("committed");
    let due = store.due(&alias()).await.expect("due").new[0].card.clone();
    let other = store.snapshot(&due).await.expect("read").expect("a card");
    let new = NewOp { room: alias(), ..op_for(&other, OpKind::Card, "new") };
    let new = store.freeze(new).await.expect("frozen");
    assert_eq!(store.change_address(&to_alias(&[])).await.expect("committed"), (0, false));
    assert_eq!(store.open_ops(&room()).await.expect("read").unfinished.map(|op| op.txn_id), Some(old.txn_id.clone()));
    store.finish(&new, "$new").await.expect("recorded");
    assert_eq!(store.change_address(&to_alias(&[])).await.expect("committed"), (1, true));
    assert_eq!(store.open_ops(&alias()).await.expect("read").unfinished.map(|op| op.txn_id), Some(old.txn_id));
}

#[tokio::test]
async fn what_another_route_names_by_the_old_address_stays() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    posted(&store, "g").await;
    let ops = IncidentKey { route: RouteName::parse("ops").expect("a route"), ..key("g") };
    store.ingest(Ingest { key: ops, ..ingest("g", "a", IncidentState::Firing) }).await.expect("committed");
    assert_eq!(store.change_address(&to_alias(&["ops"])).await.expect("committed"), (1, true));
    let rooms: Vec<String> = cards(&store).await.into_iter().map(|(room, ..)| room).collect();
    assert_eq!(rooms, [alias().to_string(), room().to_string()]);
}

/// A notification that comes before it is known which room the alias is makes a card of its own.
#[tokio::test]
async fn a_card_that_was_made_too_early_is_one_with_the_old_or_takes_its_place() {
    for sent in [false, true] {
        let folder = TempDir::new().expect("a folder");
        let Fixture { store, .. } = open(folder.path()).await;
        posted(&store, "g").await;
        store.ingest(by_alias("g", "b")).await.expect("committed");
        assert_eq!(cards(&store).await.len(), 2);
        if sent {
            let due = store.due(&alias()).await.expect("due").new[0].card.clone();
            let new = store.snapshot(&due).await.expect("read").expect("a card");
            let op = NewOp { room: alias(), ..op_for(&new, OpKind::Card, "new") };
            let op = store.freeze(op).await.expect("frozen");
            store.finish(&op, "$new").await.expect("recorded");
        }
        assert_eq!(store.change_address(&to_alias(&[])).await.expect("committed"), (1, true));
        let old = (alias().to_string(), Some("$g".to_owned()), sent);
        let due = store.due(&alias()).await.expect("due");
        if sent {
            assert_eq!(cards(&store).await, [old, (alias().to_string(), Some("$new".to_owned()), false)]);
            let last = store.snapshot(&due.edits[0].card).await.expect("read").expect("a card");
            assert_eq!(last.continued.as_deref(), Some("$new"), "it says where it goes on");
        } else {
            assert_eq!(cards(&store).await, [old]);
            assert_eq!((due.new.len(), due.notes.len()), (0, 1), "and says what the other would have said");
        }
    }
}

#[tokio::test]
async fn two_addresses_of_one_room_get_one_card() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    let twice = |group: &str, fingerprint: &str| Ingest {
        rooms: vec![room(), alias()],
        ..ingest(group, fingerprint, IncidentState::Firing)
    };
    store.ingest(twice("early", "a")).await.expect("committed");
    assert_eq!(cards(&store).await.len(), 2, "nobody knows yet");
    learn(&store).await;
    store.ingest(twice("g", "a")).await.expect("committed");
    store.ingest(twice("g", "b")).await.expect("committed");
    assert_eq!(cards(&store).await.len(), 3);
    // What has two goes on with both.
    store.ingest(twice("early", "b")).await.expect("committed");
    assert_eq!((cards(&store).await.len(), store.due(&alias()).await.expect("due").new.len()), (3, 1));
}

/// Webhooks that were under way when the config changed, on either side.
#[tokio::test]
async fn until_all_is_moved_a_card_is_found_by_either_address() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    learn(&store).await;
    posted(&store, "g").await;
    store.ingest(by_alias("g", "b")).await.expect("committed");
    assert_eq!(cards(&store).await.len(), 1);
    store.change_address(&to_alias(&[])).await.expect("committed");
    store.ingest(ingest("g", "c", IncidentState::Firing)).await.expect("committed");
    assert_eq!(cards(&store).await.len(), 1);
}
