//! Answers: last of all, once, and never in a card's way.

use super::*;
use crate::store::NewAnswer;

impl Harness {
    async fn answer(&self, room: &str, event_type: &str, txn: &str) {
        let txn_id = TxnId(txn.to_owned());
        let content = serde_json::json!({
            "msgtype": "m.notice", "body": "silenced", "matrix_alertmanager_receiver": { "op": txn }
        });
        let answer = NewAnswer {
            act: "act".to_owned(),
            room: RoomAddress::parse(room).expect("a room"),
            card: None,
            event_type: event_type.to_owned(),
            content: content.to_string(),
            txn_id,
            at: self.context.clock.now(),
            unasked: None,
        };
        self.context.store.freeze_answer(answer).await.expect("committed");
    }

    /// Waits until no room has an answer to send.
    async fn answered(&self) -> Vec<Sent> {
        for _ in 0..1_000 {
            let mut left = false;
            for (room, _) in self.config().rooms() {
                left |= self.context.store.next_answer(&room).await.expect("read").is_some();
            }
            if !left {
                return self.sent();
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("not answered: {:#?}", self.sent());
    }

    fn counted(&self, outcome: &str) -> u64 {
        let name = self.room_context().name;
        self.context.metrics.room_events.with_label_values(&[name.as_str(), "answer", outcome]).get()
    }
}

fn txns(sent: &[Sent]) -> Vec<&str> {
    sent.iter().filter(|sent| sent.txn_id.as_str().len() < 9).map(|sent| sent.txn_id.as_str()).collect()
}

#[tokio::test]
async fn answers_follow_the_cards_in_their_order() {
    let mut harness = Harness::new(ROOM).await;
    harness.answer(ROOM, "m.reaction", "first").await;
    harness.answer(ROOM, "m.room.message", "second").await;
    harness.post("a").await;
    harness.start();
    let sent = harness.answered().await;
    assert_eq!(sent.len(), 3);
    assert_eq!(txns(&sent[1..]), ["first", "second"], "the card goes first although it came last");
    assert_eq!(sent[1].event_type, "m.reaction");
    assert!(sent[0].event_type == "m.room.message" && sent[2].event_type == "m.room.message");
    assert_eq!(harness.counted("sent"), 2);
}

#[tokio::test]
async fn a_commit_wakes_the_lane() {
    let mut harness = Harness::new(ROOM).await;
    harness.start();
    sleep(Duration::from_millis(50)).await;
    harness.answer(ROOM, "m.room.message", "first").await;
    assert_eq!(txns(&harness.answered().await), ["first"]);
}

#[tokio::test]
async fn behind_a_rate_limit_all_rooms_cards_go_before_any_answer() {
    const TWO: &str = "!two:example.org";
    let mut harness = Harness::new(&format!("{ROOM},{TWO}")).await;
    harness.script(&[Some(Err(Reason::RateLimited))]);
    *harness.transport.pace.lock().expect("a lock") = Some(Duration::from_millis(200));
    harness.answer(ROOM, "m.room.message", "first").await;
    harness.start();
    // The answer was refused: sends are scarce.
    while harness.sent().is_empty() {
        sleep(Duration::from_millis(5)).await;
    }
    for group in ["g", "h", "i"] {
        let room = RoomAddress::parse(TWO).expect("a room");
        harness.post_to(vec![room], group, "a", "warning").await;
    }
    let sent = harness.answered().await;
    let accepted: Vec<&Sent> = sent.iter().filter(|sent| sent.accepted).collect();
    let (last, cards) = accepted.split_last().expect("some");
    assert_eq!(last.txn_id.as_str(), "first");
    assert!(!cards.is_empty() && cards.iter().all(|sent| sent.room.as_str() == TWO));
}

/// The gate is open, but the next event may be the one that is too many.
#[tokio::test]
async fn after_a_rate_limit_an_answer_waits_for_cards_of_other_rooms() {
    const TWO: &str = "!two:example.org";
    let mut harness = Harness::new(&format!("{ROOM},{TWO}")).await;
    let two = RoomAddress::parse(TWO).expect("a room");
    let error = SendError { retry_after: Some(Duration::ZERO), ..scripted(Reason::RateLimited) };
    harness.context.gate.close(&error);
    harness.answer(ROOM, "m.room.message", "first").await;
    harness.post_to(vec![two.clone()], "g", "a", "warning").await;
    let lane = |room: &str| {
        let room = RoomAddress::parse(room).expect("a room");
        tokio::spawn(Lane::new(room, harness.context.clone(), harness.stop.clone()).run())
    };
    let first = lane(ROOM);
    sleep(Duration::from_millis(1_500)).await;
    assert!(harness.sent().is_empty(), "a card is due");
    let second = lane(TWO);
    let sent = harness.answered().await;
    assert!(sent[0].room == two && txns(&sent[1..]) == ["first"]);
    harness.stop().await;
    for lane in [first, second] {
        lane.await.expect("no panic");
    }
}

#[tokio::test]
async fn one_in_doubt_goes_out_again_under_its_transaction_id() {
    for reason in [Reason::NoAnswer, Reason::ServerError, Reason::Unreadable] {
        let mut harness = Harness::new(ROOM).await;
        harness.script(&[Some(Err(reason))]);
        harness.answer(ROOM, "m.room.message", "first").await;
        harness.start();
        assert_eq!(txns(&harness.answered().await), ["first", "first"], "{reason:?}");
        assert_eq!(*harness.transport.searches.lock().expect("a lock"), 0);
        assert_eq!((harness.counted("failed"), harness.counted("sent")), (1, 1));
    }
}

#[tokio::test]
async fn where_transactions_are_forgotten_the_room_is_searched_first() {
    for arrived in [true, false] {
        let mut harness = Harness::new(ROOM).await;
        *harness.transport.forgets.lock().expect("a lock") = true;
        harness.script(&[Some(Err(Reason::NoAnswer))]);
        if arrived {
            harness.transport.arrived.lock().expect("a lock").push(TxnId("first".to_owned()));
        }
        harness.answer(ROOM, "m.room.message", "first").await;
        harness.start();
        let sent = harness.answered().await;
        assert_eq!(txns(&sent).len(), if arrived { 1 } else { 2 });
        assert_eq!(harness.counted("adopted"), u64::from(arrived));
        assert!(*harness.transport.searches.lock().expect("a lock") > 0);
        assert_eq!(harness.context.metrics.possible_duplicates.get(), 0);
    }
}

/// Another device cannot repeat a transaction id, and a reaction cannot be found: sending it twice is harmless.
#[tokio::test]
async fn a_reaction_is_never_searched_for() {
    let mut harness = Harness::new(ROOM).await;
    *harness.transport.forgets.lock().expect("a lock") = true;
    harness.script(&[Some(Err(Reason::NoAnswer)), Some(Err(Reason::BadEvent))]);
    harness.answer(ROOM, "m.reaction", "first").await;
    harness.start();
    assert_eq!(txns(&harness.answered().await), ["first", "first"]);
    assert_eq!(*harness.transport.searches.lock().expect("a lock"), 0);
}

#[tokio::test]
async fn what_surely_did_not_arrive_is_as_if_never_tried() {
    let mut harness = Harness::new(ROOM).await;
    *harness.transport.forgets.lock().expect("a lock") = true;
    harness.script(&[Some(Err(Reason::Unreachable)), Some(Err(Reason::RateLimited))]);
    harness.answer(ROOM, "m.room.message", "first").await;
    harness.start();
    assert_eq!(txns(&harness.answered().await), ["first"; 3]);
    assert_eq!(*harness.transport.searches.lock().expect("a lock"), 0, "nothing was in doubt");
}

#[tokio::test]
async fn a_refused_answer_is_given_up_and_the_next_one_goes_out() {
    let mut harness = Harness::new(ROOM).await;
    harness.script(&[Some(Err(Reason::BadEvent))]);
    harness.answer(ROOM, "m.room.message", "first").await;
    harness.answer(ROOM, "m.room.message", "second").await;
    harness.start();
    assert_eq!(txns(&harness.answered().await), ["first", "second"]);
    assert_eq!((harness.counted("refused"), harness.counted("sent")), (1, 1));
}

/// The homeserver fails on the answer alone.
#[tokio::test]
async fn a_poisoned_answer_holds_no_card() {
    let mut harness = Harness::new(ROOM).await;
    let room = RoomAddress::parse(ROOM).expect("a room");
    harness.transport.poisoned.lock().expect("a lock").insert(room.clone(), 1);
    harness.answer(ROOM, "m.room.message", "first").await;
    harness.start();
    while harness.sent().is_empty() {
        sleep(Duration::from_millis(5)).await;
    }
    assert!(harness.context.gate.is_open(), "an answer alone says nothing about cards");
    for group in ["g", "h", "i"] {
        harness.post_group(group, "a").await;
        harness.settled().await;
    }
    let sent = harness.answered().await;
    assert_eq!(sent.iter().filter(|sent| sent.accepted).count(), 3);
    assert!(sent.iter().filter(|sent| !sent.accepted).all(|sent| sent.txn_id.as_str() == "first"));
    assert_eq!(harness.counted("refused"), 1);
    assert!(harness.context.health.snapshot().rooms[&room].hold.is_none(), "the room was not held");
}

/// Reactions may need more power than messages.
#[tokio::test]
async fn an_answer_that_the_room_refuses_holds_no_card() {
    let clock = Clock::manual(Timestamp(1_800_000_000_000));
    let mut harness = Harness::at(ROOM, clock.clone()).await;
    harness.script(&[Some(Err(Reason::RoomRefused))]);
    harness.answer(ROOM, "m.reaction", "first").await;
    harness.start();
    while harness.sent().is_empty() {
        sleep(Duration::from_millis(5)).await;
    }
    harness.post("a").await;
    let sent = harness.settled_within(100).await;
    assert_eq!(sent.len(), 2, "the card does not wait for the answer's next try");
    assert!(harness.context.health.snapshot().rooms.values().all(|room| room.hold.is_none()));
}

#[tokio::test]
async fn a_room_without_a_route_is_not_answered() {
    let mut harness = Harness::new(ROOM).await;
    harness.answer("!gone:example.org", "m.room.message", "first").await;
    let gone = RoomAddress::parse("!gone:example.org").expect("a room");
    let lane = Lane::new(gone.clone(), harness.context.clone(), harness.stop.clone());
    timeout(Duration::from_secs(5), lane.run()).await.expect("it drains at once");
    assert!(harness.sent().is_empty());
    assert!(harness.context.store.next_answer(&gone).await.expect("read").is_some());
    harness.start();
    harness.stop().await;
}

/// A command that answers the reply means that alert.
#[tokio::test]
async fn a_reply_about_one_alert_names_it() {
    let mut harness = Harness::new(ROOM).await;
    harness.start();
    for alerts in ["a", "a b", "a b c d"] {
        harness.post(alerts).await;
        harness.settled().await;
    }
    let mut named = Vec::new();
    for (n, sent) in harness.sent().iter().enumerate() {
        let target = harness.context.store.act_target(&format!("${}", n + 1)).await.expect("read");
        let relation = sent.content["m.relates_to"]["rel_type"].as_str().unwrap_or("card").to_owned();
        named.push((relation, target.expect("one of ours").alert));
    }
    let about = |relation: &str, alert: Option<&str>| (relation.to_owned(), alert.map(ToOwned::to_owned));
    let expected = [
        about("card", None),
        about("m.thread", Some("b")),
        about("m.replace", None),
        about("m.thread", None),
        about("m.replace", None),
    ];
    assert_eq!(named, expected);
}
