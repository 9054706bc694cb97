//! Which lanes a commit wakes.

use tokio::{
    sync::{oneshot, watch},
    time::{sleep, timeout},
};

use super::*;
use crate::model::ResolvedRoom;

const ROOMS: [&str; 3] = ["!a:example.org", "!b:example.org", "!c:example.org"];

fn rooms() -> [RoomAddress; 3] {
    ROOMS.map(|room| RoomAddress::parse(room).expect("a room"))
}

fn watched(store: &Store) -> [watch::Receiver<u64>; 3] {
    rooms().map(|room| store.wake_ups(&room))
}

/// Which of the rooms were woken since they were asked about last.
fn woken(watched: &mut [watch::Receiver<u64>; 3]) -> [bool; 3] {
    watched.each_mut().map(|wake| {
        let is_woken = wake.has_changed().expect("a store");
        wake.mark_unchanged();
        is_woken
    })
}

fn into_rooms(group: &str, fingerprint: &str, rooms: &[RoomAddress]) -> Ingest {
    Ingest { rooms: rooms.to_owned(), ..ingest(group, fingerprint, IncidentState::Firing) }
}

#[tokio::test]
async fn a_webhook_wakes_the_rooms_that_it_leaves_behind_and_no_others() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    let rooms = rooms();
    let mut watched = watched(&store);
    for content_hash in ["", "the short way takes it"] {
        let first = into_rooms(&format!("g{content_hash}"), "a", &rooms[..1]);
        store.ingest(Ingest { content_hash: content_hash.to_owned(), ..first }).await.expect("committed");
        assert_eq!(woken(&mut watched), [true, false, false], "a new card");
    }
    store.ingest(into_rooms("g", "b", &rooms[..1])).await.expect("committed");
    assert_eq!(woken(&mut watched), [true, false, false], "a change");
    store.ingest(into_rooms("g", "c", &rooms[..2])).await.expect("committed");
    assert_eq!(woken(&mut watched), [true, true, false], "a room more");
    store.ingest(into_rooms("h", "d", &rooms[1..])).await.expect("committed");
    assert_eq!(woken(&mut watched), [false, true, true], "a new card in two rooms");
    let quiet = Ingest { rooms: rooms[..2].to_owned(), ..unchanged("g") };
    store.ingest(quiet).await.expect("committed");
    assert_eq!(woken(&mut watched), [false; 3], "nothing to show");
}

#[tokio::test]
async fn something_new_is_announced_before_it_is_committed() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    let rooms = rooms();
    let (mut watched, mut coming) = (watched(&store), rooms.each_ref().map(|room| store.coming(room)));
    let first = |group| Ingest { content_hash: "h".to_owned(), ..into_rooms(group, "a", &rooms[..1]) };
    let (done, release) = oneshot::channel::<()>();
    let busy = store.write(move |_, _| {
        Box::pin(async move {
            release.await.ok();
            Ok(())
        })
    });
    let new = store.ingest(first("g"));
    let seen = async {
        coming[0].changed().await.expect("a store");
        assert_eq!(woken(&mut watched), [false; 3], "nothing is committed yet");
        done.send(()).expect("the writer waits");
    };
    let seen = timeout(Duration::from_secs(3), seen);
    let (busy, new, seen) = tokio::join!(busy, new, seen);
    seen.expect("announced");
    busy.expect("committed");
    new.expect("committed");
    assert_eq!(woken(&mut watched), [true, false, false]);
    assert_eq!(woken(&mut coming), [false; 3], "once, and to nobody else");
    store.ingest(first("g")).await.expect("committed");
    assert_eq!(woken(&mut coming), [false; 3], "what repeats is nothing new");
}

#[tokio::test]
async fn a_card_that_the_room_has_by_another_address_wakes_the_lane_of_that_address() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    let (room, alias) = (rooms()[0].clone(), RoomAddress::parse("#a:example.org").expect("an alias"));
    for address in [room.clone(), alias.clone()] {
        store.set_resolved_room(address, ResolvedRoom::new(room.as_str())).await.expect("committed");
    }
    store.ingest(into_rooms("g", "a", std::slice::from_ref(&room))).await.expect("committed");
    let by_id = store.wake_ups(&room);
    store.ingest(into_rooms("g", "b", std::slice::from_ref(&alias))).await.expect("committed");
    assert!(by_id.has_changed().expect("a store"), "its card is there");
}

#[tokio::test]
async fn another_replica_is_sent_which_rooms_to_wake() {
    // SQLite has no replicas.
    if !is_shared() {
        return;
    }
    let folders = (TempDir::new().expect("a folder"), TempDir::new().expect("a folder"));
    let Fixture { store: one, clock, metrics } = open(folders.0.path()).await;
    let other = open_beside(&one, folders.1.path(), clock, metrics).await;
    let rooms = rooms();
    let mut watched = watched(&other);
    // What comes before it listens is found by its look each second, which wakes all. So there is a quiet second to find.
    let found = timeout(Duration::from_mins(1), async {
        for n in 0.. {
            let _ = woken(&mut watched);
            one.ingest(into_rooms(&format!("g{n}"), "a", &rooms[1..2])).await.expect("committed");
            while !watched[1].has_changed().expect("a store") {
                sleep(Duration::from_millis(5)).await;
            }
            if woken(&mut watched) == [false, true, false] {
                return;
            }
        }
    });
    found.await.expect("one room alone is woken");
}

#[tokio::test]
async fn a_commit_that_nobody_was_notified_of_is_found_behind_one_of_this_process() {
    // SQLite has no replicas.
    if !is_shared() {
        return;
    }
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    let rooms = rooms();
    let mut other_room = store.wake_ups(&rooms[0]);
    // What other replicas commit, without what they notify of it. A commit of this process follows each time.
    let commits = [
        "INSERT INTO meta (key, value) VALUES ('wake/one', '1')",
        "UPDATE meta SET value = '2' WHERE key = 'wake/one'",
        "INSERT INTO meta (key, value) VALUES ('wake/two', '2')",
    ];
    for (n, commit) in commits.into_iter().enumerate() {
        other_room.mark_unchanged();
        store.run_sql(commit).await;
        store.ingest(into_rooms(&format!("g{n}"), "a", &rooms[1..2])).await.expect("committed");
        timeout(Duration::from_mins(1), other_room.changed()).await.expect("the look finds it").expect("a store");
    }
}
