//! A replica takes over: plain rooms keep the device that all replicas share, encrypted ones get this replica's.

use super::*;

const PLAIN: &str = "!plain:example.org";
const SECRET: &str = "!secret:example.org";

fn address(room: &str) -> RoomAddress {
    RoomAddress::parse(room).expect("a room")
}

impl Harness {
    fn set_device(&self, room: &str, device: &str) {
        self.transport.devices.lock().expect("a lock").insert(address(room), device.to_owned());
    }

    fn search_count(&self) -> usize {
        *self.transport.searches.lock().expect("a lock")
    }

    fn sent_to(&self, room: &str) -> Vec<Sent> {
        self.sent().into_iter().filter(|sent| sent.room.as_str() == room).collect()
    }

    /// The op of each room is in flight, and its event has arrived, when the replica that leads is killed.
    async fn killed(rooms: &[&str]) -> Self {
        let harness = Self::at(&rooms.join(","), Clock::manual(Timestamp(1_800_000_000_000))).await;
        harness.set_device(PLAIN, "SHARED");
        harness.set_device(SECRET, "FIRST");
        for room in rooms {
            *harness.transport.hangs.lock().expect("a lock") = true;
            harness.post_to(vec![address(room)], room, "a", "warning").await;
            let mut lane = Lane::new(address(room), harness.context.clone(), harness.stop.clone());
            lane.failures.in_doubt = InDoubt::new(harness.context.clock.now(), PoisonCheck::new(harness.patience));
            let lane = tokio::spawn(lane.run());
            for _ in 0..1_000 {
                if !harness.sent_to(room).is_empty() {
                    break;
                }
                sleep(Duration::from_millis(5)).await;
            }
            lane.abort();
            let _ = lane.await;
            let txn = harness.sent_to(room)[0].txn_id.clone();
            harness.transport.arrived.lock().expect("a lock").push(txn);
        }
        // The lease has to end.
        harness.context.clock.advance(Duration::from_secs(5));
        harness.set_device(SECRET, "SECOND");
        harness
    }

    fn adopted(&self) -> u64 {
        let rooms = self.config().rooms();
        let counted = |name: &RoomName| {
            self.context.metrics.room_events.with_label_values(&[name.as_str(), OpKind::Card.as_str(), "adopted"]).get()
        };
        rooms.iter().map(|(_, name)| counted(name)).sum()
    }
}

#[tokio::test]
async fn what_was_in_flight_to_a_plain_room_is_repeated_without_reading_it() {
    let mut harness = Harness::killed(&[PLAIN]).await;
    harness.start();
    harness.settled().await;
    let sent = harness.sent_to(PLAIN);
    assert_eq!((sent.len(), harness.search_count(), harness.context.metrics.possible_duplicates.get()), (2, 0, 0));
    assert_eq!(sent[0].txn_id, sent[1].txn_id);
}

/// Dendrite.
#[tokio::test]
async fn where_transactions_are_forgotten_a_plain_room_is_read_as_well() {
    let mut harness = Harness::killed(&[PLAIN]).await;
    *harness.transport.forgets.lock().expect("a lock") = true;
    harness.start();
    harness.settled().await;
    assert_eq!((harness.sent_to(PLAIN).len(), harness.search_count(), harness.adopted()), (1, 1, 1));
}

#[tokio::test]
async fn what_was_in_flight_to_an_encrypted_room_is_searched_for_there() {
    let mut harness = Harness::killed(&[SECRET]).await;
    harness.start();
    harness.settled().await;
    assert_eq!((harness.sent_to(SECRET).len(), harness.search_count(), harness.adopted()), (1, 1, 1));
    assert_eq!(harness.context.metrics.possible_duplicates.get(), 0);
}

#[tokio::test]
async fn what_this_replica_cannot_decrypt_is_repeated_once_and_counted() {
    let mut harness = Harness::killed(&[SECRET]).await;
    let unread = OwnEvent { event_id: "$x".to_owned(), op: None, incident: None, starts_card: false };
    let read = ReadBack { events: vec![unread], complete: true };
    harness.transport.reads.lock().expect("a lock").push_back(Ok(read));
    // It fails once more: by now this device has sent it, and the homeserver remembers that.
    harness.script(&[Some(Err(Reason::NoAnswer))]);
    harness.start();
    harness.settled().await;
    let sent = harness.sent_to(SECRET);
    assert_eq!((sent.len(), harness.search_count(), harness.context.metrics.possible_duplicates.get()), (3, 1, 1));
    assert!(sent.iter().all(|one| one.txn_id == sent[0].txn_id));
}

/// A replica without its device serves plain rooms, and counts nothing as repeated that it has not sent.
#[tokio::test]
async fn a_room_that_has_no_device_here_waits_alone() {
    let mut harness = Harness::killed(&[SECRET, PLAIN]).await;
    let without = &harness.transport.without_device;
    without.lock().expect("a lock").insert(address(SECRET), Reason::KeysNotReady);
    harness.start();
    let hold = |harness: &Harness| harness.context.health.snapshot().rooms[&address(SECRET)].hold.clone();
    for _ in 0..1_000 {
        if hold(&harness).is_some() && harness.sent_to(PLAIN).len() == 2 {
            break;
        }
        sleep(Duration::from_millis(10)).await;
    }
    assert!(hold(&harness).is_some_and(|hold| hold.reason.contains("keys_not_ready")), "{:?}", hold(&harness));
    assert_eq!(harness.sent_to(PLAIN).len(), 2, "the other room goes on");
    assert!(harness.context.gate.is_open());
    assert_eq!((harness.search_count(), harness.context.metrics.possible_duplicates.get()), (0, 0));
    harness.stop().await;
    harness.transport.without_device.lock().expect("a lock").clear();
    harness.start();
    harness.settled().await;
    assert_eq!((harness.sent_to(SECRET).len(), harness.adopted()), (1, 1));
}
