//! The later life of a card: `updates = "post"`, a new card for an old one, a first event that is gone; and which lane
//! goes first when all wait.

use super::*;
use crate::{
    delivery::{lane::waiting::REFRESH_EVERY, plan, queue::Priority},
    model::{Conclusion, Found},
    store::{DueCard, DueCards, DueNotes, Judge, Judged, OpenCursor},
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

impl Harness {
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
        let mut harness = Harness::new(ROOM).await;
        harness.start();
        harness.post(before).await;
        let posted = harness.settled().await.len();
        harness.stop().await;
        if let Some(event) = redacted {
            harness.redact(event);
        }
        harness.start();
        harness.post(after).await;
        let sent = harness.settled().await.split_off(posted);
        (harness, sent)
    }
}

#[tokio::test]
async fn with_updates_post_each_change_is_a_message_and_nothing_is_edited() {
    let mut harness = Harness::with(ROOM, Clock::system(), "updates = \"post\"").await;
    harness.start();
    for alerts in ["a", "a b", "a", "a -b", "a b", "-a -b", "a"] {
        harness.post(alerts).await;
        harness.settled().await;
    }
    let sent = harness.settled().await;
    assert!(sent.iter().all(|sent| sent.content.get("m.relates_to").is_none()), "{sent:#?}");
    let shown: Vec<(&str, &str)> =
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
    assert_eq!(shown, expected);
    assert!(text(&sent[1]).contains("2 firing"), "the newest state: {}", text(&sent[1]));
    assert!(harness.looks() == 0, "nothing refers to the first message");
}

#[tokio::test]
async fn what_waits_in_an_outage_is_one_message_of_the_newest_state() {
    let mut harness = Harness::with(ROOM, Clock::system(), "updates = \"post\"").await;
    harness.start();
    harness.post("a b").await;
    harness.settled().await;
    harness.stop().await;
    harness.post("a b c").await;
    harness.post("a b c d").await;
    harness.post("a b c -d").await;
    harness.post("a -b c -d").await;
    harness.start();
    let sent = harness.settled().await;
    assert_eq!(kinds(&sent), ["card m.text"; 2]);
    assert!(text(&sent[1]).starts_with("🟠 A: new on c\n🟢 A: b and d resolved"), "{}", text(&sent[1]));
    assert!(text(&sent[1]).contains("2 firing, 2 resolved"), "{}", text(&sent[1]));
    let due = harness.context.store.due(&room(ROOM)).await.expect("due");
    assert_eq!(due, DueCards::default());
}

#[tokio::test]
async fn with_updates_post_a_message_is_sent_once_and_in_plainer_forms() {
    let mut harness = Harness::with(ROOM, Clock::system(), "updates = \"post\"").await;
    harness.start();
    harness.post("a").await;
    harness.settled().await;
    let again = [Err(Reason::NoAnswer), Ok(()), Err(Reason::TooLarge), Err(Reason::BadEvent), Err(Reason::BadEvent)];
    harness.script(&again.map(Some));
    harness.post("a b").await;
    let sent = harness.settled().await;
    assert_eq!((&sent[1].txn_id, &sent[1].content), (&sent[2].txn_id, &sent[2].content));
    harness.post("a b c").await;
    let sent = harness.settled().await;
    assert_eq!(kinds(&sent[3..]), ["card m.text failed"; 3]);
    assert_eq!(text(&sent[5]), "🟠 A: new on c", "the plainest form");
    // A retry has nothing to edit, so that it posts a new card.
    let (dead, _) = harness.context.store.dead_letters().await.expect("read");
    harness.context.store.retry_dead_letter(&dead[0].op.txn_id).await.expect("committed");
    let sent = harness.settled().await;
    assert_eq!((sent.len(), first_line(&sent[6])), (7, "🟠 WARNING A · 3 firing"));
}

#[tokio::test]
async fn with_updates_post_a_digest_and_a_notice_of_many_leave_nothing_behind() {
    let mut harness = Harness::with(ROOM, Clock::system(), "updates = \"post\"\ndigest_above = 2").await;
    for group in ["a", "b", "c"] {
        harness.post_group(group, group).await;
    }
    harness.start();
    assert_eq!(harness.settled().await.len(), 1, "a digest");
    harness.post_group("a", "a x").await;
    let sent = harness.settled().await;
    assert!(first_line(&sent[1]).contains("new on x"), "{}", text(&sent[1]));
    for group in ["d", "e", "f"] {
        harness.post_group(group, group).await;
        harness.settled().await;
    }
    harness.stop().await;
    for group in ["d", "e", "f"] {
        harness.post_group(group, &format!("-{group}")).await;
    }
    harness.start();
    let sent = harness.settled().await;
    assert_eq!(kinds(&sent[5..]), ["card m.notice"], "one notice and no edits: {sent:#?}");
}

#[tokio::test]
async fn an_old_card_goes_on_on_a_new_one() {
    let mut harness = Harness::at(ROOM, manual()).await;
    harness.start();
    harness.post("a").await;
    harness.settled().await;
    harness.context.clock.advance(DAY);
    harness.post("a b").await;
    harness.settled().await;
    harness.post("-a -b").await;
    let sent = harness.settled().await;
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
    assert!(harness.context.store.due(&room(ROOM)).await.expect("due").edits.is_empty());
}

#[tokio::test]
async fn a_wall_clock_set_ahead_makes_no_card_old() {
    let mut harness = Harness::at(ROOM, manual()).await;
    harness.start();
    harness.post("a").await;
    harness.settled().await;
    harness.context.clock.jump(10 * DAY_MS);
    harness.post("a b").await;
    let sent = harness.settled().await;
    assert_eq!(kinds(&sent), ["card m.text", "m.thread m.text", "m.replace m.text"]);
}

#[tokio::test]
async fn a_wall_clock_set_back_keeps_no_green_note_waiting() {
    let mut harness = Harness::with(ROOM, manual(), "digest_above = 2").await;
    harness.start();
    for group in ["d", "e", "f"] {
        harness.post_group(group, group).await;
        harness.settled().await;
    }
    harness.stop().await;
    for group in ["d", "e", "f"] {
        harness.post_group(group, &format!("-{group}")).await;
    }
    harness.context.clock.jump(-3 * DAY_MS);
    harness.context.clock.advance(Duration::from_secs(2));
    harness.start();
    let sent = harness.settled().await;
    assert_eq!(kinds(&sent[3..4]), ["card m.notice"], "{sent:#?}");
}

#[tokio::test]
async fn what_waits_for_an_old_card_is_not_said_there_any_more() {
    let mut harness = Harness::at(ROOM, manual()).await;
    harness.start();
    harness.post("a").await;
    harness.settled().await;
    harness.context.clock.advance(DAY.checked_sub(Duration::from_mins(1)).expect("positive"));
    // A reply is on its way and given back, while a new card takes its place.
    harness.stop().await;
    harness.post("a b").await;
    harness.context.clock.advance(Duration::from_mins(1));
    harness.script(&[Some(Err(Reason::Unreachable))]);
    harness.start();
    while harness.sent().len() < 2 {
        sleep(Duration::from_millis(5)).await;
    }
    harness.post("a b c").await;
    let sent = harness.settled().await;
    assert_eq!(kinds(&sent[1..]), ["m.thread m.text failed", "card m.text", "m.replace m.notice"]);
    assert_eq!(first_line(&sent[2]), "🟠 WARNING A · 3 firing");
}

#[tokio::test]
async fn an_old_card_whose_follower_goes_on_a_digest_points_there() {
    let mut harness = Harness::at(ROOM, manual()).await;
    harness.start();
    harness.post_group("a", "a").await;
    harness.settled().await;
    harness.stop().await;
    harness.context.clock.advance(DAY);
    harness.script(&[Some(Err(Reason::RateLimited))]);
    harness.post_group("a", "a b").await;
    harness.post_group("c", "c").await;
    harness.start();
    let sent = harness.settled().await;
    assert_eq!(kinds(&sent[1..]), ["card m.text failed", "card m.text", "m.replace m.notice"]);
    assert!(text(&sent[2]).starts_with('🌩'), "{}", text(&sent[2]));
    assert!(text(&sent[3]).ends_with("%243"), "{}", text(&sent[3]));
}

#[tokio::test]
async fn a_redacted_card_is_followed_by_a_new_one_with_the_next_change() {
    let mut harness = Harness::new(ROOM).await;
    harness.start();
    harness.post("a").await;
    harness.settled().await;
    let changes = RoomChanges { redacted: vec!["$7".to_owned(), "$1".to_owned()], gap: false };
    harness.transport.changes.lock().expect("a lock").insert(room(ROOM), changes);
    harness.post("a").await;
    assert_eq!(harness.settled().await.len(), 1, "nothing has changed");
    harness.post("a b").await;
    harness.settled().await;
    harness.post("a -b").await;
    let sent = harness.settled().await;
    assert_eq!(kinds(&sent), ["card m.text", "card m.text", "m.thread m.notice", "m.replace m.text"]);
    assert_eq!(sent[3].content["m.relates_to"]["event_id"], "$2");
    assert_eq!((harness.lost(), harness.looks()), (1, 0));
}

#[tokio::test]
async fn what_happened_unseen_is_found_out_before_an_edit_or_a_reply() {
    let (harness, sent) = Harness::restarted_with("a", Some("$1"), "a b").await;
    assert_eq!(kinds(&sent), ["card m.text"]);
    assert_eq!(first_line(&sent[0]), "🟠 WARNING A · 2 firing");
    assert_eq!((harness.lost(), harness.looks()), (1, 1));

    let (harness, sent) = Harness::restarted_with("a", None, "a b").await;
    assert_eq!(kinds(&sent), ["m.thread m.text", "m.replace m.text"]);
    assert_eq!((harness.lost(), harness.looks()), (0, 1), "once for a card");
    // The timeline had a gap.
    let gap = RoomChanges { gap: true, ..RoomChanges::default() };
    harness.transport.changes.lock().expect("a lock").insert(room(ROOM), gap);
    harness.redact("$1");
    harness.post("a b c").await;
    let sent = harness.settled().await;
    assert_eq!(kinds(&sent[3..]), ["card m.text"]);
    assert_eq!((harness.lost(), harness.looks()), (1, 2));
}

#[tokio::test]
async fn a_homeserver_that_cannot_be_asked_holds_the_gate_and_nothing_is_lost() {
    let mut harness = Harness::new(ROOM).await;
    harness.start();
    harness.post("a").await;
    harness.settled().await;
    harness.stop().await;
    for reason in [Reason::Unreachable, Reason::RateLimited, Reason::RoomRefused] {
        *harness.transport.blind.lock().expect("a lock") = Some(reason);
        harness.start();
        harness.post(if reason == Reason::RateLimited { "a" } else { "a b" }).await;
        harness.settled().await;
        harness.stop().await;
    }
    assert_eq!(
        kinds(&harness.sent()),
        ["card m.text", "m.thread m.text", "m.replace m.text", "m.replace m.text", "m.replace m.text"]
    );
    assert_eq!((harness.lost(), harness.looks()), (0, 5), "tried again, but for the room's own refusal");
}

#[tokio::test]
async fn refused_for_its_lost_root_what_fires_is_posted_at_once_and_what_is_over_is_left() {
    for (change, expected) in [
        ("a b", &["m.thread m.text failed", "card m.text"][..]),
        ("-a", &["m.thread m.notice failed"]),
        ("", &["m.replace m.notice failed"]),
    ] {
        let mut harness = Harness::new(ROOM).await;
        harness.start();
        harness.post("a").await;
        harness.settled().await;
        harness.redact("$1");
        harness.script(&[Some(Err(Reason::BadEvent))]);
        harness.post(change).await;
        let sent = harness.settled().await;
        assert_eq!(kinds(&sent[1..]), expected, "{change:?}");
        assert_eq!(
            (harness.lost(), harness.context.metrics.dead_letters.with_label_values(&["bad_event"]).get()),
            (1, 0)
        );
        harness.post("a c").await;
        assert_eq!(
            kinds(&harness.settled().await[sent.len()..]).len(),
            if change == "a b" { 2 } else { 1 },
            "{change:?}"
        );
    }
}

#[tokio::test]
async fn a_refusal_for_another_reason_still_steps_down() {
    let mut harness = Harness::new(ROOM).await;
    harness.start();
    harness.post("a").await;
    harness.settled().await;
    harness.script(&[Some(Err(Reason::BadEvent))]);
    harness.post("a b").await;
    let sent = harness.settled().await;
    assert_eq!(kinds(&sent[1..]), ["m.thread m.text failed", "m.thread m.text", "m.replace m.text"]);
    assert_eq!(harness.lost(), 0);
}

#[tokio::test]
async fn a_digest_that_is_gone_is_posted_again_without_what_is_over() {
    let mut harness = Harness::new(ROOM).await;
    for n in 0..9 {
        harness.post_group(&format!("g{n}"), &format!("p{n}")).await;
    }
    harness.start();
    harness.settled().await;
    harness.post_group("g3", "-p3").await;
    let before = harness.settled().await.len();
    let changes = RoomChanges { redacted: vec!["$1".to_owned()], gap: false };
    harness.transport.changes.lock().expect("a lock").insert(room(ROOM), changes);
    harness.post_group("g4", "p4 more").await;
    let sent = harness.settled().await;
    assert_eq!(kinds(&sent[before..]), ["card m.text"]);
    assert!(first_line(&sent[before]).contains("8 incidents"), "{}", text(&sent[before]));
    assert!(!text(&sent[before]).contains("p3"), "{}", text(&sent[before]));
}

/// A digest too long for one event goes out in parts, also while more waits than one takes.
#[tokio::test]
async fn what_is_too_long_for_a_digest_goes_out_in_parts() {
    let mut harness = Harness::new(ROOM).await;
    for n in 0..300 {
        harness.post_group(&format!("g{n:03}"), &format!("pod-{n:03}-{}", "x".repeat(90))).await;
    }
    harness.start();
    let sent = harness.settled().await;
    assert!((2..20).contains(&sent.len()), "{} events", sent.len());
    assert!(sent.iter().all(|sent| sent.accepted), "each at the first try");
}

/// Events are accepted no faster than [`PACE`], so that each is one's turn at the gate.
#[tokio::test]
async fn under_a_limit_the_most_severe_goes_first_across_rooms_then_the_oldest() {
    let mut harness = Harness::new("!zero:x,!one:x,!two:x,!three:x,!four:x").await;
    let transport = Arc::clone(&harness.transport);
    let pace = |pace| *transport.pace.lock().expect("a lock") = Some(pace);
    // After the first one nothing is accepted until all is there.
    pace(Duration::from_hours(1));
    harness.start();
    harness.post_to(vec![room("!zero:x")], "z", "z", "critical").await;
    while harness.sent().is_empty() {
        sleep(Duration::from_millis(5)).await;
    }
    for (address, severity) in [("!one:x", "info"), ("!two:x", "warning"), ("!three:x", "warning")] {
        harness.post_to(vec![room(address)], address, "a", severity).await;
        sleep(Duration::from_millis(5)).await;
    }
    // A lane that waits already finds something more urgent to wait with.
    sleep(REFRESH_EVERY).await;
    harness.post_to(vec![room("!one:x")], "more", "b", "critical").await;
    harness.post_to(vec![room("!four:x")], "four", "a", "critical").await;
    sleep(8 * REFRESH_EVERY).await;
    pace(PACE);
    let sent = harness.settled().await;
    let order: Vec<&str> = sent.iter().filter(|sent| sent.accepted).map(|sent| sent.room.as_str()).collect();
    assert_eq!(order, ["!zero:x", "!one:x", "!four:x", "!two:x", "!three:x"]);
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

/// Its room knows what fires from the card before, which only said that Alertmanager had lost it.
#[tokio::test]
async fn the_card_after_one_that_was_gone_is_a_notice_until_something_begins() {
    let clock = manual();
    let mut harness = Harness::at(ROOM, clock.clone()).await;
    harness.start();
    harness.post("a").await;
    harness.settled().await;
    let (store, config) = (harness.context.store.clone(), harness.config());
    let route = RouteName::parse("default").expect("a name");
    let page = store.open_page(&route, "r", &mut OpenCursor::default()).await.expect("read");
    let gone = Found { fingerprint: "a".to_owned(), conclusion: Conclusion::Gone, starts_at: None };
    let judged = Judged { incident: page[0].id.clone(), found: vec![gone], refresh: false };
    let judge: Judge = Arc::new(move |incident, found, now| intake::found(incident, found, &config.display, 0, now));
    let mark = store.poll_mark().await.expect("read");
    assert_eq!(store.apply_found(mark, vec![judged], judge).await.expect("committed").changed, 1);
    harness.settled().await;
    clock.advance(DAY);
    harness.post("a").await;
    harness.settled().await;
    harness.post("a b").await;
    let sent = harness.settled().await;
    assert_eq!(
        kinds(&sent),
        ["card m.text", "m.replace m.notice", "card m.notice", "m.thread m.text", "m.replace m.text"]
    );
    assert_eq!(first_line(&sent[1]).split(" A ").next(), Some("⚪ NO LONGER IN ALERTMANAGER"));
}
