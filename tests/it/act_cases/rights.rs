//! Who may act, and who may undo.

use std::time::Instant;

use super::{World, answers, matchers};
use crate::harness::{DEADLINE, RoomView};

const NO_RIGHT: &str = "This needs power level 50 or to be listed in actions.allow.users; yours is 0";

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_is_refused_once_and_who_may_silences() {
    let world = World::new().await;
    let (room, card) = (world.room().to_owned(), world.fires(&["n01", "n02"]).await);

    world.member.react(&room, &card, "🔕").await;
    let refusal = world.answered(&card, NO_RIGHT).await;
    assert!(refusal.first_line().starts_with('❌') && refusal.mentions() == Some(vec![]), "{refusal:?}");
    world.member.say_in_thread(&room, &card, "!silence").await;
    world.member.react(&room, &card, "✅").await;
    world.acts_are("silence", "denied", 2.0).await;
    world.acts_are("take", "denied", 1.0).await;
    // To ask is everybody's right.
    let why = world.member.say_in_thread(&room, &card, "!why").await;
    world.wait("an answer", |view| view.thread_of(&card).iter().any(|m| m.event.in_reply_to() == Some(&why))).await;
    let view = world.settled(&card).await;
    assert_eq!(answers(&view, &card, "❌").len(), 1, "{}", view.text());
    assert_eq!(world.made().await, 0);

    for user in [&world.moderator, &world.oncall] {
        let began = Instant::now();
        let reaction = user.react(&room, &card, "🔕").await;
        let silences = world.silences_are(1).await;
        eprintln!("silenced after {:?}", began.elapsed());
        assert_eq!(matchers(&silences[0]), [r#"alertname="DiskFull""#]);
        assert_eq!(silences[0]["createdBy"], user.user_id.as_str());
        let comment = silences[0]["comment"].as_str().unwrap_or_default();
        assert!(comment.starts_with("silenced from a Matrix room [mar:") && comment.ends_with("/0]"), "{comment}");
        let line = format!("silenced by {} until ", user.local());
        world.wait("silenced", |view| view.card().first_line().starts_with("🔕") && view.card().has(&line)).await;
        user.redact(&room, &reaction).await;
        world.silences_are(0).await;
        world.wait("fires again", |view| view.card().first_line().starts_with("🔴")).await;
    }
    let line = world
        .receiver
        .wait_log(&["INFO", "act ended", "outcome=\"done\"", "kind=\"silence\"", &world.oncall.user_id, &room])
        .await;
    assert!(["route=default", "incident=", "act="].iter().all(|field| line.contains(field)), "{line}");
    world.acts_are("silence", "done", 2.0).await;
    world.acts_are("undo", "done", 2.0).await;
    // One line for each act that was carried out or refused.
    let denied =
        world.receiver.logs().lines().filter(|line| line.contains("act ended") && line.contains("denied")).count();
    assert_eq!(denied, 1, "{}", world.receiver.log_tail());
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_has_left_the_room_silences_nothing() {
    let mut world = World::new().await;
    let (room, card) = (world.room().to_owned(), world.fires(&["n01"]).await);
    world.settled(&card).await;
    world.receiver.sigterm(DEADLINE).await;
    world.moderator.react(&room, &card, "🔕").await;
    world.moderator.leave(&room).await;
    world.receiver.restart().await;
    world.answered(&card, "Only members of this room may do this").await;
    assert_eq!(world.made().await, 0);
}

/// The silence is one, and lasts until nobody wants it any more.
#[tokio::test(flavor = "multi_thread")]
async fn two_people_at_once_share_a_silence_and_take_both() {
    let world = World::new().await;
    let (room, card) = (world.room().to_owned(), world.fires(&["n01"]).await);
    let (first, second) =
        tokio::join!(world.moderator.react(&room, &card, "🔕"), world.oncall.react(&room, &card, "🔕"));
    tokio::join!(world.moderator.react(&room, &card, "✅"), world.oncall.react(&room, &card, "👀"));
    world.silences_are(1).await;
    world.wait("taken by both", |view| view.card().has("taken by ") && view.card().has(" and 1 other")).await;
    world.wait("silenced", |view| view.card().first_line().starts_with("🔕")).await;
    let answered = |view: &RoomView| view.text().matches("silenced until").count() == 2;
    world.wait("both are answered", answered).await;
    world.moderator.redact(&room, &first).await;
    world.receiver.wait_log(&["act ended", "kind=\"undo\"", &world.moderator.user_id]).await;
    world.silences_are(1).await;
    world.oncall.redact(&room, &second).await;
    world.wait("fires again", |view| view.card().first_line().starts_with("🔴")).await;
    assert_eq!((world.made().await, world.silences().await.len()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_a_reaction_ends_that_act_and_no_other() {
    let world = World::new().await;
    let (room, card) = (world.room().to_owned(), world.fires(&["n01"]).await);
    let taking = world.moderator.react(&room, &card, "✅").await;
    let silence = world.oncall.react(&room, &card, "🔕").await;
    let taken = format!("taken by {}", world.moderator.local());
    let silenced = format!("silenced by {}", world.oncall.local());
    let both = |view: &RoomView| view.card().has(&taken) && view.card().has(&silenced);
    world.wait("taken and silenced", both).await;

    // Power 0 may redact here, and may still not act.
    world.scene.sre.change_power(&room, |levels| levels["redact"] = 0.into()).await;
    world.member.redact(&room, &silence).await;
    world.answered(&card, "This needs power level 50").await;
    let view = world.settled(&card).await;
    assert!(both(&view), "{}", view.text());
    assert_eq!(world.silences().await.len(), 1);

    // Somebody else who may act.
    world.scene.sre.redact(&room, &taking).await;
    let given_back = |view: &RoomView| !view.card().has(&taken) && view.card().has(&silenced);
    world.wait("given back, and still silenced", given_back).await;
    let command = world.oncall.say_in_thread(&room, &card, "!unsilence").await;
    world.ticked(&command).await;
    world.silences_are(0).await;

    // A moderator who removes somebody else's silence.
    let silence = world.oncall.react(&room, &card, "🔕\u{FE0F}").await;
    world.silences_are(1).await;
    world.wait("silenced again", |view| view.card().has(&silenced)).await;
    world.moderator.redact(&room, &silence).await;
    world.silences_are(0).await;
    world.wait("fires again", |view| view.card().first_line().starts_with("🔴")).await;
}
