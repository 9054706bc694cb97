//! Rooms that the config no longer names, and others that it names from now on.

use super::*;
use crate::store::Routing;

const TWO: &str = "!one:example.org,!two:example.org";

fn room(address: &str) -> RoomAddress {
    RoomAddress::parse(address).expect("a room")
}

impl House {
    /// As a reload does it: these are the rooms of the route from now on.
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
        tokio::time::timeout(Duration::from_secs(10), lane).await.expect("in time").expect("no panic");
    }

    fn start_with(&mut self, room: RoomAddress, patience: Duration) {
        let mut lane = Lane::new(room, self.context.clone(), self.stop.clone());
        // One refusal, or the test would wait for the pauses in between.
        lane.drain = Some(Drain { patience, refusals: 1, ..Drain::default() });
        self.lanes.push(tokio::spawn(lane.run()));
    }
}

fn words(sent: &Sent) -> &str {
    sent.content["m.new_content"]["body"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_room_that_is_gone_is_told_so_and_its_lane_ends() {
    let mut house = House::new(TWO).await;
    house.start();
    house.post("a").await;
    assert_eq!(house.settled().await.len(), 2);
    house.reload("!two:example.org").await;
    house.ended(0).await;
    let sent = house.sent();
    assert_eq!(kinds(&sent)[2..], ["m.replace m.notice"]);
    assert_eq!(
        (sent[2].room.as_str(), words(&sent[2])),
        ("!one:example.org", "🔌 A: no longer routed here, and no longer updated")
    );
    // The other one goes on alone.
    house.post("a b").await;
    let sent = house.settled().await.split_off(3);
    assert!(sent.iter().all(|sent| sent.room.as_str() == "!two:example.org"), "{sent:#?}");
    assert_eq!(kinds(&sent), ["m.thread m.text", "m.replace m.text"]);
}

#[tokio::test]
async fn a_room_that_comes_back_gets_a_new_card_and_an_added_one_its_first() {
    let mut house = House::new(ROOM).await;
    house.start();
    house.post("a").await;
    house.settled().await;
    house.reload("!two:example.org").await;
    house.ended(0).await;
    house.reload("!one:example.org,!two:example.org").await;
    house.start();
    // No room showed it any more, so that its next notification is news whatever it says.
    house.post("a b").await;
    let sent = house.settled().await.split_off(2);
    assert_eq!(kinds(&sent), ["card m.text", "card m.text"]);
    assert!(
        sent.iter().all(|sent| sent.content["body"].as_str().is_some_and(|body| body.contains("2 firing"))),
        "{sent:#?}"
    );
}

/// Its lane has not even begun to end when the next reload names it again.
#[tokio::test]
async fn a_lane_that_was_about_to_end_goes_on() {
    let mut house = House::new(ROOM).await;
    house.start();
    house.post("a").await;
    house.settled().await;
    house.reload("!two:example.org").await;
    house.reload(ROOM).await;
    house.post("a b").await;
    let mut sent = kinds(&house.settled().await);
    // The new card goes before the last edit of the old one where both wait.
    sent[1..].sort();
    assert_eq!(sent, ["card m.text", "card m.text", "m.replace m.notice"]);
    assert_eq!(house.lanes.iter().filter(|lane| lane.is_finished()).count(), 0);
}

#[tokio::test]
async fn a_room_that_refuses_is_given_up_and_an_outage_is_waited_out() {
    for outage in [false, true] {
        let mut house = House::new(ROOM).await;
        house.start();
        house.post("a").await;
        house.settled().await;
        house.stop().await;
        house.reload("!two:example.org").await;
        if outage {
            house.script(&[Some(Err(Reason::Unreachable)); 3]);
        } else {
            house.transport.refusing.lock().expect("a lock").push(room(ROOM));
        }
        // Shorter than the outage.
        house.start_with(room(ROOM), if outage { Duration::from_millis(100) } else { Duration::from_mins(1) });
        let lane = house.lanes.remove(0);
        tokio::time::timeout(Duration::from_mins(1), lane).await.expect("in time").expect("no panic");
        assert!(!house.is_due(&room(ROOM)).await);
        assert_eq!(house.context.store.unfinished(&room(ROOM)).await.expect("read"), None);
        let told = house.sent().iter().skip(1).filter(|sent| sent.accepted).count();
        assert_eq!(told, usize::from(outage), "{:#?}", house.sent());
    }
}

/// Refusals of before, and faults that are not the room's, do not count.
#[tokio::test]
async fn only_refusals_of_the_room_itself_give_it_up() {
    let mut house = House::new(ROOM).await;
    let mut lane = Lane::new(room(ROOM), house.context.clone(), house.stop.clone());
    lane.refusals = 7;
    lane.drain = Some(Drain::default());
    for reason in [Reason::KeysNotReady, Reason::ServerError, Reason::BadEvent] {
        lane.note_refusal(reason);
    }
    assert!(!lane.must_end());
    for _ in 0..2 {
        lane.note_refusal(Reason::RoomRefused);
    }
    assert!(lane.must_end());
    house.stop().await;
}

/// The last edit is one also where news are messages.
#[tokio::test]
async fn a_room_whose_news_are_messages_is_told_by_an_edit() {
    let mut house = House::new(TWO).await;
    let mut config = (*house.config()).clone();
    config.routes.values_mut().for_each(|route| route.updates = crate::config::Updates::Post);
    let style = Arc::clone(&house.settings.borrow().style);
    house.settings.send_replace(Arc::new(Settings::new(Arc::new(config), style)));
    house.start();
    house.post("a").await;
    house.settled().await;
    house.reload("!two:example.org").await;
    house.ended(0).await;
    assert_eq!(kinds(&house.sent())[2..], ["m.replace m.notice"]);
}
