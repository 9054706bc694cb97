//! The later life of a card: messages of its own, a new card for an old one, a first event that is gone; and who goes
//! first when all wait.

use super::*;
use crate::{
    delivery::{gate::Priority, lane::waiting::REFRESH_EVERY},
    store::{DueCard, DueCards, DueNotes},
};

const DAY: Duration = Duration::from_hours(24);
const PACE: Duration = Duration::from_millis(700);

fn text(sent: &Sent) -> &str {
    let content = sent.content.get("m.new_content").unwrap_or(&sent.content);
    content["body"].as_str().expect("a body")
}

fn first_line(sent: &Sent) -> &str {
    text(sent).lines().next().expect("a line")
}

fn room(address: &str) -> RoomAddress {
    RoomAddress::parse(address).expect("a room")
}

const DAY_MS: i64 = 86_400_000;

fn manual() -> Clock {
    Clock::manual(Timestamp(1_800_000_000_000))
}

impl House {
    fn lost(&self) -> u64 {
        let counted = |(_, name): &(RoomAddress, RoomName)| {
            self.context.metrics.room_events.with_label_values(&[name.as_str(), "card", "lost"]).get()
        };
        self.config().rooms().iter().map(counted).sum()
    }

    fn redact(&self, event: &str) {
        self.transport.gone.lock().expect("a lock").push(event.to_owned());
    }

    fn looks(&self) -> usize {
        self.transport.looks.lock().expect("a lock").len()
    }

    /// A card whose incident has changed, and the lanes start again.
    async fn restarted_with(before: &str, redacted: Option<&str>, after: &str) -> (Self, Vec<Sent>) {
        let mut house = House::new(ROOM).await;
        house.start();
        house.post(before).await;
        let posted = house.settled().await.len();
        house.stop().await;
        if let Some(event) = redacted {
            house.redact(event);
        }
        house.start();
        house.post(after).await;
        let sent = house.settled().await.split_off(posted);
        (house, sent)
    }
}

#[tokio::test]
async fn with_updates_post_each_piece_of_news_is_a_message_and_nothing_is_edited() {
    let mut house = House::with(ROOM, Clock::system(), "updates = \"post\"").await;
    house.start();
    for alerts in ["a", "a b", "a", "a -b", "a b", "-a -b", "a"] {
        house.post(alerts).await;
        house.settled().await;
    }
    let sent = house.settled().await;
    assert!(sent.iter().all(|sent| sent.content.get("m.relates_to").is_none()), "{sent:#?}");
    let told: Vec<(&str, &str)> =
        sent.iter().map(|sent| (sent.content["msgtype"].as_str().expect("a type"), first_line(sent))).collect();
    let expected = [
        ("m.text", "🟠 WARNING A a"),
        ("m.text", "🟠 A: new on b"),
        // That b is no longer listed is not worth a message.
        ("m.notice", "🟢 A: b resolved after 10 min"),
        ("m.text", "🟠 A: firing again on b (2nd time)"),
        ("m.notice", "🟢 RESOLVED A after 10 min · 2 alerts"),
        ("m.text", "🟠 A: firing again on a (3rd time)"),
    ];
    assert_eq!(told, expected);
    assert!(text(&sent[1]).contains("2 firing"), "the newest state: {}", text(&sent[1]));
    assert!(house.looks() == 0, "nothing hangs on the first message");
}

#[tokio::test]
async fn what_waits_in_an_outage_is_one_message_of_the_newest_state() {
    let mut house = House::with(ROOM, Clock::system(), "updates = \"post\"").await;
    house.start();
    house.post("a b").await;
    house.settled().await;
    house.stop().await;
    house.post("a b c").await;
    house.post("a b c d").await;
    house.post("a b c -d").await;
    house.post("a -b c -d").await;
    house.start();
    let sent = house.settled().await;
    assert_eq!(kinds(&sent), ["card m.text"; 2]);
    assert!(text(&sent[1]).starts_with("🟠 A: new on c\n🟢 A: b and d resolved"), "{}", text(&sent[1]));
    assert!(text(&sent[1]).contains("2 firing, 2 resolved"), "{}", text(&sent[1]));
    let due = house.context.store.due(&room(ROOM)).await.expect("due");
    assert_eq!(due, DueCards::default());
}

#[tokio::test]
async fn a_message_of_its_own_is_exactly_once_and_steps_down() {
    let mut house = House::with(ROOM, Clock::system(), "updates = \"post\"").await;
    house.start();
    house.post("a").await;
    house.settled().await;
    let again = [Err(Reason::NoAnswer), Ok(()), Err(Reason::TooLarge), Err(Reason::BadEvent), Err(Reason::BadEvent)];
    house.script(&again.map(Some));
    house.post("a b").await;
    let sent = house.settled().await;
    assert_eq!((&sent[1].txn_id, &sent[1].content), (&sent[2].txn_id, &sent[2].content));
    house.post("a b c").await;
    let sent = house.settled().await;
    assert_eq!(kinds(&sent[3..]), ["card m.text failed"; 3]);
    assert_eq!(text(&sent[5]), "🟠 A: new on c", "the plainest form");
    // A retry has nothing to edit, so that it begins anew.
    let (dead, _) = house.context.store.dead_letters().await.expect("read");
    house.context.store.retry_dead_letter(&dead[0].op.txn_id).await.expect("committed");
    let sent = house.settled().await;
    assert_eq!((sent.len(), first_line(&sent[6])), (7, "🟠 WARNING A · 3 firing"));
}

#[tokio::test]
async fn with_updates_post_a_digest_and_a_notice_of_many_leave_nothing_behind() {
    let mut house = House::with(ROOM, Clock::system(), "updates = \"post\"\ndigest_above = 2").await;
    for group in ["a", "b", "c"] {
        house.post_group(group, group).await;
    }
    house.start();
    assert_eq!(house.settled().await.len(), 1, "a digest");
    house.post_group("a", "a x").await;
    let sent = house.settled().await;
    assert!(first_line(&sent[1]).contains("new on x"), "{}", text(&sent[1]));
    for group in ["d", "e", "f"] {
        house.post_group(group, group).await;
        house.settled().await;
    }
    house.stop().await;
    for group in ["d", "e", "f"] {
        house.post_group(group, &format!("-{group}")).await;
    }
    house.start();
    let sent = house.settled().await;
    assert_eq!(kinds(&sent[5..]), ["card m.notice"], "one notice and no edits: {sent:#?}");
}

#[tokio::test]
async fn an_old_card_goes_on_on_a_new_one() {
    let mut house = House::at(ROOM, manual()).await;
    house.start();
    house.post("a").await;
    house.settled().await;
    house.context.clock.advance(DAY);
    house.post("a b").await;
    house.settled().await;
    house.post("-a -b").await;
    let sent = house.settled().await;
    assert_eq!(
        kinds(&sent),
        ["card m.text", "card m.text", "m.replace m.notice", "m.thread m.notice", "m.replace m.notice"]
    );
    assert_eq!(first_line(&sent[1]), "🟠 WARNING A · 2 firing");
    assert_eq!(sent[2].content["m.relates_to"]["event_id"], "$1");
    assert_eq!(
        text(&sent[2]),
        "⏩ A: continued below, on a newer card\nContinued: https://matrix.to/#/%21one%3Aexample.org/%242"
    );
    let html = sent[2].content["m.new_content"]["formatted_body"].as_str().expect("HTML");
    assert!(html.contains("<a href=\"https://matrix.to/#/%21one%3Aexample.org/%242\">"), "{html}");
    assert_eq!(sent[2].content["m.mentions"], serde_json::json!({}));
    for later in &sent[3..] {
        assert_eq!(later.content["m.relates_to"]["event_id"], "$2", "only the new card");
    }
    assert!(house.context.store.due(&room(ROOM)).await.expect("due").edits.is_empty());
}

#[tokio::test]
async fn a_wall_clock_set_ahead_makes_no_card_old() {
    let mut house = House::at(ROOM, manual()).await;
    house.start();
    house.post("a").await;
    house.settled().await;
    house.context.clock.jump(10 * DAY_MS);
    house.post("a b").await;
    let sent = house.settled().await;
    assert_eq!(kinds(&sent), ["card m.text", "m.thread m.text", "m.replace m.text"]);
}

#[tokio::test]
async fn a_wall_clock_set_back_keeps_no_green_note_waiting() {
    let mut house = House::with(ROOM, manual(), "digest_above = 2").await;
    house.start();
    for group in ["d", "e", "f"] {
        house.post_group(group, group).await;
        house.settled().await;
    }
    house.stop().await;
    for group in ["d", "e", "f"] {
        house.post_group(group, &format!("-{group}")).await;
    }
    house.context.clock.jump(-3 * DAY_MS);
    house.context.clock.advance(Duration::from_secs(2));
    house.start();
    let sent = house.settled().await;
    assert_eq!(kinds(&sent[3..4]), ["card m.notice"], "{sent:#?}");
}

#[tokio::test]
async fn what_waits_for_an_old_card_is_not_said_there_any_more() {
    let mut house = House::at(ROOM, manual()).await;
    house.start();
    house.post("a").await;
    house.settled().await;
    house.context.clock.advance(DAY.checked_sub(Duration::from_mins(1)).expect("positive"));
    // A reply is on its way and given back, while the card is posted anew.
    house.stop().await;
    house.post("a b").await;
    house.context.clock.advance(Duration::from_mins(1));
    house.script(&[Some(Err(Reason::Unreachable))]);
    house.start();
    while house.sent().len() < 2 {
        sleep(Duration::from_millis(5)).await;
    }
    house.post("a b c").await;
    let sent = house.settled().await;
    assert_eq!(kinds(&sent[1..]), ["m.thread m.text failed", "card m.text", "m.replace m.notice"]);
    assert_eq!(first_line(&sent[2]), "🟠 WARNING A · 3 firing");
}

#[tokio::test]
async fn an_old_card_whose_follower_goes_on_a_digest_points_there() {
    let mut house = House::at(ROOM, manual()).await;
    house.start();
    house.post_group("a", "a").await;
    house.settled().await;
    house.stop().await;
    house.context.clock.advance(DAY);
    house.script(&[Some(Err(Reason::RateLimited))]);
    house.post_group("a", "a b").await;
    house.post_group("c", "c").await;
    house.start();
    let sent = house.settled().await;
    assert_eq!(kinds(&sent[1..]), ["card m.text failed", "card m.text", "m.replace m.notice"]);
    assert!(text(&sent[2]).starts_with('🌩'), "{}", text(&sent[2]));
    assert!(text(&sent[3]).ends_with("%243"), "{}", text(&sent[3]));
}

#[tokio::test]
async fn a_redacted_card_is_followed_by_a_new_one_with_the_next_news() {
    let mut house = House::new(ROOM).await;
    house.start();
    house.post("a").await;
    house.settled().await;
    let news = RoomChanges { redacted: vec!["$7".to_owned(), "$1".to_owned()], gap: false };
    house.transport.news.lock().expect("a lock").insert(room(ROOM), news);
    house.post("a").await;
    assert_eq!(house.settled().await.len(), 1, "no news");
    house.post("a b").await;
    house.settled().await;
    house.post("a -b").await;
    let sent = house.settled().await;
    assert_eq!(kinds(&sent), ["card m.text", "card m.text", "m.thread m.notice", "m.replace m.text"]);
    assert_eq!(sent[3].content["m.relates_to"]["event_id"], "$2");
    assert_eq!((house.lost(), house.looks()), (1, 0));
}

#[tokio::test]
async fn what_happened_while_nobody_looked_is_found_out_before_something_hangs_on_it() {
    let (house, sent) = House::restarted_with("a", Some("$1"), "a b").await;
    assert_eq!(kinds(&sent), ["card m.text"]);
    assert_eq!(first_line(&sent[0]), "🟠 WARNING A · 2 firing");
    assert_eq!((house.lost(), house.looks()), (1, 1));

    let (house, sent) = House::restarted_with("a", None, "a b").await;
    assert_eq!(kinds(&sent), ["m.thread m.text", "m.replace m.text"]);
    assert_eq!((house.lost(), house.looks()), (0, 1), "once for a card");
    // The timeline had a gap.
    let gap = RoomChanges { gap: true, ..RoomChanges::default() };
    house.transport.news.lock().expect("a lock").insert(room(ROOM), gap);
    house.redact("$1");
    house.post("a b c").await;
    let sent = house.settled().await;
    assert_eq!(kinds(&sent[3..]), ["card m.text"]);
    assert_eq!((house.lost(), house.looks()), (1, 2));
}

#[tokio::test]
async fn a_homeserver_that_cannot_be_asked_holds_the_gate_and_nothing_is_lost() {
    let mut house = House::new(ROOM).await;
    house.start();
    house.post("a").await;
    house.settled().await;
    house.stop().await;
    for reason in [Reason::Unreachable, Reason::RateLimited, Reason::RoomRefused] {
        *house.transport.blind.lock().expect("a lock") = Some(reason);
        house.start();
        house.post(if reason == Reason::RateLimited { "a" } else { "a b" }).await;
        house.settled().await;
        house.stop().await;
    }
    assert_eq!(
        kinds(&house.sent()),
        ["card m.text", "m.thread m.text", "m.replace m.text", "m.replace m.text", "m.replace m.text"]
    );
    assert_eq!((house.lost(), house.looks()), (0, 5), "tried again, but for the room's own refusal");
}

#[tokio::test]
async fn refused_for_its_lost_root_what_fires_is_posted_anew_at_once_and_what_is_over_is_left() {
    for (news, expected) in [
        ("a b", &["m.thread m.text failed", "card m.text"][..]),
        ("-a", &["m.thread m.notice failed"]),
        ("", &["m.replace m.notice failed"]),
    ] {
        let mut house = House::new(ROOM).await;
        house.start();
        house.post("a").await;
        house.settled().await;
        house.redact("$1");
        house.script(&[Some(Err(Reason::BadEvent))]);
        house.post(news).await;
        let sent = house.settled().await;
        assert_eq!(kinds(&sent[1..]), expected, "{news:?}");
        assert_eq!((house.lost(), house.context.metrics.dead_letters.with_label_values(&["bad_event"]).get()), (1, 0));
        house.post("a c").await;
        assert_eq!(kinds(&house.settled().await[sent.len()..]).len(), if news == "a b" { 2 } else { 1 }, "{news:?}");
    }
}

#[tokio::test]
async fn a_refusal_for_another_reason_still_steps_down() {
    let mut house = House::new(ROOM).await;
    house.start();
    house.post("a").await;
    house.settled().await;
    house.script(&[Some(Err(Reason::BadEvent))]);
    house.post("a b").await;
    let sent = house.settled().await;
    assert_eq!(kinds(&sent[1..]), ["m.thread m.text failed", "m.thread m.text", "m.replace m.text"]);
    assert_eq!(house.lost(), 0);
}

#[tokio::test]
async fn a_digest_that_is_gone_is_posted_anew_without_what_is_over() {
    let mut house = House::new(ROOM).await;
    for n in 0..9 {
        house.post_group(&format!("g{n}"), &format!("p{n}")).await;
    }
    house.start();
    house.settled().await;
    house.post_group("g3", "-p3").await;
    let before = house.settled().await.len();
    let news = RoomChanges { redacted: vec!["$1".to_owned()], gap: false };
    house.transport.news.lock().expect("a lock").insert(room(ROOM), news);
    house.post_group("g4", "p4 more").await;
    let sent = house.settled().await;
    assert_eq!(kinds(&sent[before..]), ["card m.text"]);
    assert!(first_line(&sent[before]).contains("8 incidents"), "{}", text(&sent[before]));
    assert!(!text(&sent[before]).contains("p3"), "{}", text(&sent[before]));
}

/// A digest too long for one event goes out in parts, also while more waits than one takes.
#[tokio::test]
async fn what_is_too_long_for_a_digest_goes_out_in_parts() {
    let mut house = House::new(ROOM).await;
    for n in 0..300 {
        house.post_group(&format!("g{n:03}"), &format!("pod-{n:03}-{}", "x".repeat(90))).await;
    }
    house.start();
    let sent = house.settled().await;
    assert!((2..20).contains(&sent.len()), "{} events", sent.len());
    assert!(sent.iter().all(|sent| sent.accepted), "each at the first try");
}

/// Events are accepted no faster than [`PACE`], so that each is one's turn at the gate.
#[tokio::test]
async fn under_a_limit_the_most_severe_goes_first_across_rooms_then_the_oldest() {
    let mut house = House::new("!zero:x,!one:x,!two:x,!three:x,!four:x").await;
    *house.transport.pace.lock().expect("a lock") = Some(PACE);
    house.start();
    house.post_to(vec![room("!zero:x")], "z", "z", "critical").await;
    while house.sent().is_empty() {
        sleep(Duration::from_millis(5)).await;
    }
    for (address, severity) in
        [("!one:x", "info"), ("!two:x", "warning"), ("!three:x", "warning"), ("!four:x", "critical")]
    {
        house.post_to(vec![room(address)], address, "a", severity).await;
        sleep(Duration::from_millis(5)).await;
    }
    // A lane that waits already finds something more urgent to wait with.
    sleep(REFRESH_EVERY).await;
    house.post_to(vec![room("!one:x")], "more", "b", "critical").await;
    let sent = house.settled().await;
    let order: Vec<&str> = sent.iter().filter(|sent| sent.accepted).map(|sent| sent.room.as_str()).collect();
    assert_eq!(order, ["!zero:x", "!four:x", "!one:x", "!two:x", "!three:x"]);
}

#[test]
fn what_rings_goes_by_severity_and_all_else_by_age() {
    let due =
        |severity, since| DueCard { card: CardId(String::new()), severity, dirty_since: Timestamp(since), notes: None };
    let notes =
        |loud, card: DueCard| DueCard { notes: Some(DueNotes { loud, green: !loud, oldest: Timestamp(0) }), ..card };
    let mut all =
        DueCards { edits: vec![due(0, 3), due(0, 2)], notes: vec![notes(false, due(0, 4))], ..DueCards::default() };
    assert_eq!(
        plan::priority(&all),
        Priority { severity: Priority::CALM, since: Timestamp(2), edit: Some(Timestamp(2)) }
    );
    all.notes.push(notes(true, due(1, 8)));
    assert_eq!(plan::priority(&all), Priority { severity: 1, since: Timestamp(8), edit: Some(Timestamp(2)) });
    all.new = vec![due(1, 7), due(2, 1)];
    assert_eq!(plan::priority(&all), Priority { severity: 1, since: Timestamp(7), edit: Some(Timestamp(2)) });
}
