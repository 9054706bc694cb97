//! Events that may or may not be in the room.

use super::*;
use crate::clock::Mark;
use crate::model::{IncidentId, OpState, Timestamp};

const HOUR: Duration = Duration::from_hours(1);

impl House {
    fn searches(&self) -> usize {
        *self.transport.searches.lock().expect("a lock")
    }

    fn reads(&self, outcomes: Vec<Result<ReadBack, Reason>>) {
        *self.transport.reads.lock().expect("a lock") = outcomes.into();
    }

    fn poison(&self, room: &str, ops: usize) {
        let room = RoomAddress::parse(room).expect("a room");
        self.transport.poisoned.lock().expect("a lock").insert(room, ops);
    }

    async fn until(&self, what: &str, condition: impl AsyncFn() -> bool) {
        for _ in 0..4_000 {
            if condition().await {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("not so: {what}: {:#?}", self.sent());
    }

    fn events(&self, outcome: &str) -> u64 {
        let rooms = self.config().rooms();
        let each = rooms.iter().flat_map(|(_, name)| OpKind::ALL.map(|kind| (name, kind)));
        let count = |(name, kind): (&RoomName, OpKind)| {
            self.context.metrics.room_events.with_label_values(&[name.as_str(), kind.as_str(), outcome]).get()
        };
        each.map(count).sum()
    }

    fn duplicates(&self) -> u64 {
        self.context.metrics.possible_duplicates.get()
    }

    /// A card whose send was not answered, `ago` before lanes start again.
    async fn doubtful(arrived: bool, ago: Duration) -> Self {
        let clock = Clock::manual(Timestamp(1_800_000_000_000));
        let mut house = Self::with(ROOM, clock, "repost_after = \"never\"").await;
        house.script(&[Some(Err(Reason::NoAnswer))]);
        house.start();
        house.post("a").await;
        house.until("in doubt", async || house.events("failed") == 1).await;
        house.stop().await;
        if arrived {
            let txn = house.sent()[0].txn_id.clone();
            house.transport.arrived.lock().expect("a lock").push(txn);
        }
        house.context.clock.advance(ago);
        house
    }
}

#[tokio::test]
async fn what_the_homeserver_remembers_is_sent_again_without_reading() {
    let mut house = House::doubtful(false, Duration::from_mins(1)).await;
    house.start();
    let sent = house.settled().await;
    assert_eq!((sent.len(), house.searches(), house.duplicates()), (2, 0, 0));
    assert_eq!(sent[0].txn_id, sent[1].txn_id);
}

#[tokio::test]
async fn what_has_been_forgotten_but_is_in_the_room_is_adopted() {
    for (ago, device) in [(25 * HOUR, None), (Duration::from_mins(1), Some("OTHER")), (HOUR, None)] {
        let mut house = House::doubtful(true, ago).await;
        *house.transport.device.lock().expect("a lock") = device.map(str::to_owned);
        house.start();
        let sent = house.settled().await;
        assert_eq!((sent.len(), house.events("adopted"), house.duplicates()), (1, 1, 0), "{ago:?} {device:?}");
        house.post("a b").await;
        let sent = house.settled().await;
        assert_eq!(sent[1].content["m.relates_to"]["event_id"], "$1", "the card is known");
    }
}

#[tokio::test]
async fn a_clock_set_back_makes_nobody_remember_for_longer() {
    let mut house = House::doubtful(true, 25 * HOUR).await;
    house.context.clock.jump(-25 * 3_600_000);
    house.start();
    assert_eq!((house.settled().await.len(), house.events("adopted"), house.duplicates()), (1, 1, 0));
}

#[tokio::test]
async fn where_nobody_counted_the_time_the_room_is_asked() {
    let mut house = House::doubtful(true, Duration::from_mins(1)).await;
    // The machine was started in between, and its clock was set back.
    let clock = &house.context.clock;
    assert!(!clock.resume(&Mark { boot: None, ..clock.mark() }).is_sure);
    clock.advance(Duration::from_millis(1));
    house.start();
    assert_eq!((house.settled().await.len(), house.events("adopted"), house.duplicates()), (1, 1, 0));
}

#[tokio::test]
async fn what_is_not_in_the_room_is_sent_once_more() {
    let mut house = House::doubtful(false, 25 * HOUR).await;
    // The next try fails as well: this one the homeserver remembers, so there is nothing to read.
    house.script(&[Some(Err(Reason::NoAnswer))]);
    house.start();
    let sent = house.settled().await;
    assert_eq!(kinds(&sent), ["card m.text failed", "card m.text failed", "card m.text"]);
    assert!(sent.iter().all(|one| one.txn_id == sent[0].txn_id));
    assert_eq!((house.searches(), house.duplicates()), (1, 0));
}

#[tokio::test]
async fn what_cannot_be_found_out_is_sent_again_and_counted() {
    let unread = OwnEvent { event_id: "$x".to_owned(), op: None, incident: None, starts_card: false };
    for read in [ReadBack::default(), ReadBack { events: vec![unread], complete: true }] {
        let mut house = House::doubtful(true, 25 * HOUR).await;
        house.reads(vec![Ok(read)]);
        house.start();
        assert_eq!((house.settled().await.len(), house.duplicates()), (2, 1));
    }
}

#[tokio::test]
async fn a_room_that_cannot_be_read_for_now_is_waited_for() {
    for reason in [Reason::ServerError, Reason::RateLimited, Reason::TokenRejected] {
        let mut house = House::doubtful(true, 25 * HOUR).await;
        house.reads(vec![Err(reason)]);
        house.start();
        assert_eq!((house.settled().await.len(), house.searches(), house.duplicates()), (1, 2, 0), "{reason:?}");
    }
}

#[tokio::test]
async fn a_card_that_only_a_later_state_of_the_store_knew_is_adopted() {
    let mut house = House::at(ROOM, Clock::manual(Timestamp(1_800_000_000_000))).await;
    house.post("a").await;
    let due = house.context.store.due(&RoomAddress::parse(ROOM).expect("a room")).await.expect("due").new;
    let snapshot = house.context.store.snapshot(&due[0].card).await.expect("read").expect("a card");
    let found = |id: &str, incident: &IncidentId, starts_card| OwnEvent {
        event_id: id.to_owned(),
        op: Some(TxnId(format!("lost {id}"))),
        incident: Some(incident.clone()),
        starts_card,
    };
    let incident = &snapshot.incidents[0].0.id;
    let events = vec![
        found("$reply", incident, false),
        found("$root", incident, true),
        found("$x", &IncidentId("?".into()), true),
    ];
    house.reads(vec![Ok(ReadBack { events, complete: true })]);
    house.context.clock.advance(HOUR);
    house.start();
    let sent = house.settled().await;
    assert_eq!(kinds(&sent), ["m.replace m.text"]);
    assert_eq!(sent[0].content["m.relates_to"]["event_id"], "$root");
    assert_eq!(house.events("adopted"), 1);
}

/// Two rooms; the homeserver fails on what the first is sent, and the second goes on all the time.
async fn poisoned(ops: usize) -> House {
    let mut house = House::new("!one:example.org,!two:example.org").await;
    house.poison(ROOM, ops);
    house.start();
    house
}

/// Lets the second room have news until the first has so many ops parked.
async fn news_until_parked(house: &House, times: u64) {
    for n in 0..100 {
        if house.events("parked") >= times {
            return;
        }
        house.post(if n % 2 == 0 { "a b" } else { "a -b" }).await;
        sleep(Duration::from_millis(150)).await;
    }
    panic!("not parked: {:#?}", house.sent());
}

fn in_first(sent: Vec<Sent>) -> Vec<Sent> {
    sent.into_iter().filter(|one| one.room.as_str() == ROOM).collect()
}

#[tokio::test]
async fn an_event_that_alone_fails_is_parked_and_sent_plainer_once_it_is_surely_absent() {
    let house = poisoned(1).await;
    house.post("a").await;
    news_until_parked(&house, 1).await;
    let sent = in_first(house.settled().await);
    // How many tries it takes until the other room has had an event between two of them is a matter of load.
    let tries = sent.iter().take_while(|one| one.txn_id == sent[0].txn_id).count();
    assert!(tries >= 2 && sent[..tries].iter().all(|one| !one.accepted), "{sent:#?}");
    assert_eq!(kinds(&sent)[tries], "card m.text", "{sent:#?}");
    assert!(kinds(&sent)[tries + 1..].iter().all(|kind| kind.starts_with("m.")), "one root: {sent:#?}");
    assert!(house.context.health.snapshot().account_hold.is_none());
    assert_eq!(house.duplicates(), 0);
}

#[tokio::test]
async fn a_parked_event_that_is_in_the_room_is_adopted() {
    let house = poisoned(1).await;
    house.post("a").await;
    house.until("sent", async || !in_first(house.sent()).is_empty()).await;
    let txn = in_first(house.sent())[0].txn_id.clone();
    house.transport.arrived.lock().expect("a lock").push(txn);
    news_until_parked(&house, 1).await;
    let sent = in_first(house.settled().await);
    assert_eq!(house.events("adopted"), 1);
    let tries = sent.iter().take_while(|one| one.txn_id == sent[0].txn_id).count();
    assert!(kinds(&sent)[tries..].iter().all(|kind| kind.starts_with("m.")), "no second root: {sent:#?}");
}

#[tokio::test]
async fn a_parked_event_of_which_nothing_is_known_holds_only_its_card() {
    let house = poisoned(1).await;
    house.reads(vec![Ok(ReadBack::default())]);
    house.post("a").await;
    news_until_parked(&house, 1).await;
    house.until("looked for", async || house.searches() == 1).await;
    house.post("a b c").await;
    house.post_group("other", "z").await;
    let others = async || in_first(house.sent()).iter().filter(|one| one.accepted).count() == 1;
    house.until("the other card", others).await;
    let room = RoomAddress::parse(ROOM).expect("a room");
    assert!(house.context.store.due(&room).await.expect("due") == crate::store::DueCards::default());
    let (_, next) = house.context.store.next_parked(&room).await.expect("read").expect("still parked");
    assert!(next > house.context.clock.now().plus(Duration::from_secs(5)), "not at once again");
    assert!(house.context.store.stats(&[room]).await.expect("stats").ops.contains(&(OpState::Parked, 1)));
}

#[tokio::test]
async fn a_parked_event_of_which_nothing_is_ever_known_is_sent_again_and_counted() {
    let mut house = House::at("!one:example.org,!two:example.org", Clock::manual(Timestamp(1_800_000_000_000))).await;
    house.poison(ROOM, 1);
    house.reads(std::iter::repeat_with(|| Ok(ReadBack::default())).take(20).collect());
    house.start();
    house.post("a").await;
    // The op has seen two failures, of which the second is hopeless, as one is from now on.
    news_until_parked(&house, 1).await;
    house.until("looked for", async || house.searches() == 1).await;
    for looks in 2..6 {
        house.context.clock.advance(Duration::from_mins(10));
        // News wakes the lanes: they sleep by the real clock.
        house.post(if looks % 2 == 0 { "a b" } else { "a -b" }).await;
        house.until("looked for again", async || house.searches() >= looks).await;
    }
    assert_eq!((house.duplicates(), house.events("parked")), (0, 1), "not before an hour of looking");
    house.context.clock.advance(HOUR);
    house.post("a b c").await;
    house.until("sent again and parked again", async || house.events("parked") == 2).await;
    assert_eq!(house.duplicates(), 1);
    let card = || in_first(house.sent()).into_iter().filter(|one| one.content.get("m.relates_to").is_none());
    assert!(card().all(|one| one.txn_id == card().next().expect("one").txn_id), "under its own transaction id");
    let tries = card().count();
    house.poison(ROOM, 0);
    house.context.clock.advance(Duration::from_mins(10));
    house.post("a b c d").await;
    house.until("looked for again", async || house.searches() >= 7).await;
    assert_eq!((card().count(), house.duplicates()), (tries, 1), "another hour begins");
    house.context.clock.advance(HOUR);
    house.post("a b c d e").await;
    house.until("in the room", async || in_first(house.sent()).iter().any(|one| one.accepted)).await;
    let sent = in_first(house.settled().await);
    assert_eq!(sent.iter().filter(|one| one.accepted && one.content.get("m.relates_to").is_none()).count(), 1);
    assert_eq!(house.duplicates(), 2);
}

#[tokio::test]
async fn an_event_that_fails_in_every_form_becomes_a_dead_letter() {
    let house = poisoned(3).await;
    house.post("a").await;
    news_until_parked(&house, 3).await;
    house
        .until("dead", async || house.context.metrics.dead_letters.with_label_values(&["server_error"]).get() == 1)
        .await;
}

/// Once it was frozen, a plainer form is an op like any other: its lane asks for it again until it is acknowledged.
#[tokio::test]
async fn a_plainer_form_that_ends_in_doubt_is_sent_again() {
    let house = poisoned(1).await;
    let room = RoomAddress::parse(ROOM).expect("a room");
    house.transport.mute.lock().expect("a lock").push(room);
    house.post("a").await;
    news_until_parked(&house, 1).await;
    let sent = in_first(house.settled().await);
    let tries = sent.iter().take_while(|one| one.txn_id == sent[0].txn_id).count();
    let plainer = &sent[tries..];
    assert!(!plainer[0].accepted && plainer[1].accepted, "{sent:#?}");
    assert_eq!(plainer[0].txn_id, plainer[1].txn_id);
}

/// Syncs and reads succeed, and no send does.
#[tokio::test]
async fn a_homeserver_that_takes_no_sends_at_all_is_waited_for() {
    let mut house = House::new(ROOM).await;
    *house.transport.takes_nothing.lock().expect("a lock") = true;
    house.start();
    for group in ["one", "two", "three"] {
        house.post_group(group, "a b").await;
    }
    let health = Arc::clone(&house.context.health);
    let clock = house.context.clock.clone();
    let syncs = tokio::spawn(async move {
        loop {
            health.update(|health| health.last_sync = Some(clock.now()));
            sleep(Duration::from_millis(20)).await;
        }
    });
    // One op is set aside, and the next is tried more often than there is patience for.
    house.until("given up on several times", async || house.sent().len() >= 5).await;
    let room = RoomAddress::parse(ROOM).expect("a room");
    assert_eq!(house.context.store.stats(std::slice::from_ref(&room)).await.expect("stats").ops.len(), 2);
    assert_eq!(house.events("parked"), 1, "one finds out: {:#?}", house.sent());
    assert_eq!(house.context.metrics.dead_letters.with_label_values(&["server_error"]).get(), 0);
    let forms: std::collections::BTreeSet<TxnId> = house.sent().into_iter().map(|one| one.txn_id).collect();
    assert_eq!(forms.len(), 2, "no plainer forms");
    assert!(house.context.health.snapshot().account_hold.is_some(), "and it shows");
    *house.transport.takes_nothing.lock().expect("a lock") = false;
    let sent = house.settled_within(9_000).await;
    syncs.abort();
    let shown: Vec<&Sent> = sent.iter().filter(|one| one.accepted).collect();
    assert!(forms.iter().all(|form| shown.iter().any(|one| one.txn_id == *form)), "as they were meant: {sent:#?}");
    assert!(shown.iter().all(|one| one.content["body"].as_str().expect("a body").lines().count() > 1));
    assert_eq!(house.duplicates(), 0);
}

/// What a fault of the homeserver has killed comes back by itself: at 0.1.0 it took an operator.
#[tokio::test]
async fn a_dead_letter_of_a_server_fault_is_tried_again_by_itself() {
    let mut house = House::at("!one:example.org,!two:example.org", Clock::manual(Timestamp(1_800_000_000_000))).await;
    house.poison(ROOM, 3);
    house.start();
    let [one, two] = [ROOM, "!two:example.org"].map(|room| vec![RoomAddress::parse(room).expect("a room")]);
    house.post_to(one, "g", "a", "warning").await;
    let dead = || house.context.metrics.dead_letters.with_label_values(&["server_error"]).get() == 1;
    for n in 0..200 {
        if dead() {
            break;
        }
        // The other room has an event all the time.
        house.post_to(two.clone(), "other", if n % 2 == 0 { "y z" } else { "y -z" }, "warning").await;
        sleep(Duration::from_millis(150)).await;
    }
    assert!(dead(), "{:#?}", house.sent());
    house.poison(ROOM, 0);
    house.settled().await;
    let cards = || {
        let cards = in_first(house.sent()).into_iter().filter(|one| one.accepted);
        cards
            .filter(|one| {
                one.content["body"].as_str().is_some_and(|body| body.split_whitespace().any(|word| word == "a"))
            })
            .count()
    };
    assert_eq!(cards(), 0, "not before its time");
    house.context.clock.advance(Duration::from_mins(11));
    // Lanes sleep by the real clock; a commit wakes them.
    house.post_to(two, "other", "x y", "warning").await;
    house.until("in the room", async || cards() == 1).await;
    let (letters, left) = house.context.store.dead_letters().await.expect("read");
    assert_eq!((letters.len(), left), (0, 0));
}

/// A homeserver of which nobody knows that it remembers is asked for the event before it is sent again.
#[tokio::test]
async fn a_homeserver_that_may_forget_is_read_before_each_resend() {
    for (arrived, expected) in [(true, (1, 1, 1)), (false, (2, 1, 0))] {
        let mut house = House::doubtful(arrived, Duration::from_mins(1)).await;
        *house.transport.forgets.lock().expect("a lock") = true;
        house.start();
        let sent = house.settled().await;
        assert_eq!((sent.len(), house.searches(), house.events("adopted")), expected, "{arrived}");
        assert_eq!(house.duplicates(), 0);
    }
    let mut house = House::doubtful(true, Duration::from_mins(1)).await;
    *house.transport.forgets.lock().expect("a lock") = true;
    house.reads(vec![Ok(ReadBack::default())]);
    house.start();
    house.settled().await;
    assert_eq!(house.duplicates(), 1, "what cannot be known is counted");
}
