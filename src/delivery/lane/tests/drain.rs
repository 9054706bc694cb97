//! Rooms that the config no longer names, and others that it names from now on.

use std::collections::BTreeSet;

use super::*;
use crate::store::Routing;

const TWO: &str = "!one:example.org,!two:example.org";

fn room(address: &str) -> RoomAddress {
    RoomAddress::parse(address).expect("a room")
}

impl Harness {
    /// Changes the rooms of the route as a reload does.
    async fn reload(&self, rooms: &str) {
        let mut config = (*self.config()).clone();
        let gone = config.rooms().into_iter().map(|(room, _)| room);
        let route = config.routes.values_mut().next().expect("a route");
        route.rooms = rooms.split(',').map(room).collect();
        let routing: Routing = [(route.name.clone(), route.rooms.clone())].into();
        let style = Arc::clone(&self.settings.borrow().style);
        let settings = Settings::new(Arc::new(config), style);
        self.settings.send_replace(Arc::new(settings.clone().and_rooms(gone)));
        self.context.store.close_unrouted(&routing).await.expect("committed");
        self.settings.send_replace(Arc::new(settings));
    }

    /// The lane of the nth room has ended by itself.
    async fn ended(&mut self, lane: usize) {
        let lane = self.lanes.remove(lane);
        timeout(Duration::from_secs(10), lane).await.expect("in time").expect("no panic");
    }

    fn start_with(&mut self, room: RoomAddress, patience: Duration) {
        let mut lane = Lane::new(room, self.context.clone(), self.stop.clone());
        // One refusal, or the test would wait for the pauses in between.
        lane.failures.drain = Some(Drain { patience, refusals: 1, ..Drain::default() });
        self.lanes.push(tokio::spawn(lane.run()));
    }
}

fn words(sent: &Sent) -> &str {
    sent.content["m.new_content"]["body"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_room_that_is_unrouted_gets_a_last_edit_and_its_lane_ends() {
    let mut harness = Harness::new(TWO).await;
    harness.start();
    harness.post("a").await;
    assert_eq!(harness.settled().await.len(), 2);
    harness.reload("!two:example.org").await;
    harness.ended(0).await;
    let sent = harness.sent();
    assert_eq!(kinds(&sent)[2..], ["m.replace m.notice"]);
    assert_eq!(
        (sent[2].room.as_str(), words(&sent[2])),
        ("!one:example.org", "🔌 A: no longer routed here, and no longer updated")
    );
    // The other one goes on alone.
    harness.post("a b").await;
    let sent = harness.settled().await.split_off(3);
    assert!(sent.iter().all(|sent| sent.room.as_str() == "!two:example.org"), "{sent:#?}");
    assert_eq!(kinds(&sent), ["m.thread m.text", "m.replace m.text"]);
}

#[tokio::test]
async fn a_room_that_comes_back_gets_a_new_card_and_an_added_one_its_first() {
    let mut harness = Harness::new(ROOM).await;
    harness.start();
    harness.post("a").await;
    harness.settled().await;
    harness.reload("!two:example.org").await;
    harness.ended(0).await;
    harness.reload("!one:example.org,!two:example.org").await;
    harness.start();
    // No room showed it any more, so that its next notification is shown whatever it says.
    harness.post("a b").await;
    let sent = harness.settled().await.split_off(2);
    assert_eq!(kinds(&sent), ["card m.text", "card m.text"]);
    assert!(
        sent.iter().all(|sent| sent.content["body"].as_str().is_some_and(|body| body.contains("2 firing"))),
        "{sent:#?}"
    );
}

/// Its lane has not even begun to end when the next reload names it again.
#[tokio::test]
async fn a_lane_that_was_about_to_end_goes_on() {
    let mut harness = Harness::new(ROOM).await;
    harness.start();
    harness.post("a").await;
    harness.settled().await;
    harness.reload("!two:example.org").await;
    harness.reload(ROOM).await;
    harness.post("a b").await;
    let mut sent = kinds(&harness.settled().await);
    // The new card goes before the last edit of the old one where both wait.
    sent[1..].sort();
    assert_eq!(sent, ["card m.text", "card m.text", "m.replace m.notice"]);
    assert_eq!(harness.lanes.iter().filter(|lane| lane.is_finished()).count(), 0);
}

#[tokio::test]
async fn a_room_that_refuses_is_given_up_and_an_outage_is_waited_out() {
    for outage in [false, true] {
        let mut harness = Harness::new(ROOM).await;
        harness.start();
        harness.post("a").await;
        harness.settled().await;
        harness.stop().await;
        harness.reload("!two:example.org").await;
        if outage {
            harness.script(&[Some(Err(Reason::Unreachable)); 3]);
        } else {
            harness.transport.refusing.lock().expect("a lock").push(room(ROOM));
        }
        // Shorter than the outage.
        harness.start_with(room(ROOM), if outage { Duration::from_millis(100) } else { Duration::from_mins(1) });
        let lane = harness.lanes.remove(0);
        timeout(Duration::from_mins(1), lane).await.expect("in time").expect("no panic");
        assert!(!harness.is_due(&room(ROOM)).await);
        assert_eq!(harness.context.store.open_ops(&room(ROOM)).await.expect("read").unfinished, None);
        // Where the patience ends between the answer and its record, the event goes out again under its transaction id.
        let sent = harness.sent();
        let shown = sent.iter().skip(1).filter(|sent| sent.accepted).map(|sent| &sent.txn_id).collect::<BTreeSet<_>>();
        assert_eq!(shown.len(), usize::from(outage), "{sent:#?}");
    }
}

/// With `updates = "post"` the last edit is still an edit.
#[tokio::test]
async fn a_room_with_updates_post_gets_its_last_edit() {
    let mut harness = Harness::new(TWO).await;
    let mut config = (*harness.config()).clone();
    config.routes.values_mut().for_each(|route| route.updates = crate::config::Updates::Post);
    let style = Arc::clone(&harness.settings.borrow().style);
    harness.settings.send_replace(Arc::new(Settings::new(Arc::new(config), style)));
    harness.start();
    harness.post("a").await;
    harness.settled().await;
    harness.reload("!two:example.org").await;
    harness.ended(0).await;
    assert_eq!(kinds(&harness.sent())[2..], ["m.replace m.notice"]);
}
