//! What is a command, where, and what it is answered with.

use std::time::Duration;

use serde_json::json;

use super::{World, answers, disk_full, has_tick, matchers};
use crate::harness::{
    AlertToPost, DEADLINE, RoomView, Silence,
    user::{edited, in_thread},
};

#[tokio::test(flavor = "multi_thread")]
async fn edits_notices_and_what_was_withdrawn_ask_for_nothing() {
    let mut world = World::new().await;
    let (room, card) = (world.room().to_owned(), world.fires(&["n01"]).await);
    let talk = world.oncall.say_in_thread(&room, &card, "looking").await;
    world.oncall.edit(&room, &talk, "!silence").await;
    // Most clients mark the text for those who do not know edits.
    let mut edit = edited(&talk, "!silence");
    edit["body"] = json!("!silence");
    world.oncall.send(&room, edit).await;
    let mut notice = in_thread(&card, "!silence");
    notice["msgtype"] = json!("m.notice");
    world.oncall.send(&room, notice).await;
    let mut emote = in_thread(&card, "!silence");
    emote["msgtype"] = json!("m.emote");
    world.oncall.send(&room, emote).await;
    world.scene.bot.say_in_thread(&room, &card, "!silence").await;
    world.scene.bot.react(&room, &card, "🔕").await;
    world.oncall.say_in_thread(&room, &card, "why not !silence").await;
    let view = world.settled(&card).await;
    assert_eq!((world.made().await, world.all_acts().await), (0, 1.0), "{}", view.text());

    // Withdrawn before anybody has looked at it.
    world.receiver.sigterm(DEADLINE).await;
    let command = world.oncall.say_in_thread(&room, &card, "!silence").await;
    world.oncall.redact(&room, &command).await;
    let reaction = world.oncall.react(&room, &card, "🔕").await;
    world.oncall.redact(&room, &reaction).await;
    world.receiver.restart().await;
    let view = world.settled(&card).await;
    assert_eq!((world.made().await, world.all_acts().await), (0, 1.0), "{}", view.text());
    assert!(answers(&view, &card, "").is_empty(), "{}", view.text());

    // An edit of a command that was carried out changes nothing, nor does it to remove the command.
    let command = world.oncall.say_in_thread(&room, &card, "!silence 1h").await;
    world.silences_are(1).await;
    world.oncall.edit(&room, &command, "!unsilence").await;
    world.oncall.redact(&room, &command).await;
    world.settled(&card).await;
    assert_eq!(world.silences().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_command_is_answered_in_our_threads_only() {
    let world = World::new().await;
    let (room, card) = (world.room().to_owned(), world.fires(&["n01"]).await);
    let typo = world.member.say_in_thread(&room, &card, "!sielnce 2h").await;
    let answer = world.answered(&card, "There is no !sielnce; did you mean !silence?").await;
    assert_eq!(answer.event.in_reply_to(), Some(typo.as_str()));
    for words in ["!sielnce 2h", "!frobnicate", "!deploy production", "! ack", "!!", "!"] {
        world.member.send_text(&room, words).await;
    }
    // In the thread of somebody else's message it is none of ours.
    let other = world.member.send_text(&room, "lunch?").await;
    world.member.say_in_thread(&room, &other, "!ack").await;
    world.member.say_in_thread(&room, &other, "!frobnicate").await;
    world.settled(&card).await;
    // A known one that needs a card says so.
    let command = world.moderator.send_text(&room, "!silence 2h").await;
    let answer = world.answered(&command, "Reply to a card with this, or write it in the card's thread").await;
    assert_eq!(answer.event.in_reply_to(), Some(command.as_str()));
    let view = world.scene.room.view().await;
    let notices = view.by_bot().filter(|event| event.content["msgtype"] == "m.notice").count();
    assert_eq!((notices, world.made().await), (2, 0), "{}", view.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_in_the_room_are_answered_one_after_the_other() {
    let world = World::new().await;
    let room = world.room().to_owned();
    let warning: Vec<AlertToPost> = (0..25)
        .map(|n| AlertToPost::firing(&[("alertname", &format!("Mild{n:02}")), ("severity", "warning")]))
        .collect();
    world.alertmanager.post_alerts(&warning).await;
    let named = |view: &RoomView| (0..25).all(|n| view.named_at(&format!("Mild{n:02}")).is_some());
    world.wait("all", named).await;
    world.alertmanager.post_alerts(&[disk_full("n01")]).await;
    let view = world.wait("the critical one", |view| view.named_at("DiskFull").is_some()).await;
    let card = view.cards_with("DiskFull")[0].event_id().to_owned();
    let silence = world.oncall.reply(&room, &card, "!silence 90m disk is replaced").await;
    world.ticked(&silence).await;
    world.wait("silenced", |view| view.cards_with("DiskFull")[0].has("silenced by")).await;

    let asked = ["!alerts", "!silences", "!help"];
    let mut commands = Vec::new();
    for words in asked {
        commands.push(world.member.send_text(&room, words).await);
    }
    let all = |view: &RoomView| commands.iter().all(|command| view.thread_of(command).len() == 1);
    let view = world.scene.room.wait_for("three answers", 2 * DEADLINE, all).await;
    let answer = |n: usize| view.thread_of(&commands[n]).remove(0);
    let (alerts, silences, help) = (answer(0), answer(1), answer(2));
    for (n, answer) in [&alerts, &silences, &help].into_iter().enumerate() {
        assert_eq!((answer.msgtype(), answer.event.in_reply_to()), ("m.notice", Some(commands[n].as_str())));
        assert!(answer.body().len() < 8_000, "{}", answer.body());
    }
    let lines: Vec<&str> = alerts.body().lines().collect();
    assert!(lines[0].starts_with("ℹ️ 26 incidents are open here"), "{}", alerts.body());
    // Firing ones first, and no more than fit.
    assert!(lines[1].starts_with("🟠") || lines[1].starts_with("🟡"), "{}", alerts.body());
    assert!(lines.len() == 22 && lines[21] == "+6 more", "{}", alerts.body());
    assert!(silences.first_line().starts_with("🔕 1 silence is active"), "{}", silences.body());
    for needle in [world.oncall.local(), "disk is replaced", r#"alertname="DiskFull""#] {
        assert!(silences.body().contains(needle), "{needle} in {}", silences.body());
    }
    assert!(!silences.has("[mar:"), "{}", silences.body());
    for word in ["!ack", "!unack", "!silence", "!unsilence", "!why", "!alerts", "!silences"] {
        assert!(help.has(word), "{word} in {}", help.body());
    }
    // One in ten seconds, and what the homeserver takes for the first is not for the second.
    let at = |message: &crate::harness::view::Message| message.event.origin_server_ts;
    for (first, second) in [(&alerts, &silences), (&silences, &help)] {
        assert!(at(second) - at(first) > 5_000, "{} ms", at(second) - at(first));
    }
    world.acts_are("alerts", "done", 1.0).await;
    world.acts_are("help", "done", 1.0).await;

    // The silence is over: the most severe one leads.
    let unsilence = world.oncall.reply(&room, &card, "!unsilence").await;
    world.ticked(&unsilence).await;
    world.wait("fires", |view| view.cards_with("DiskFull")[0].first_line().starts_with("🔴")).await;
    let command = world.member.send_text(&room, "!alerts").await;
    let answer = world.answered(&command, "26 incidents are open here").await;
    let second = answer.body().lines().nth(1).unwrap_or_default();
    assert!(second.starts_with("🔴 DiskFull") && second.contains("n01"), "{}", answer.body());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_duration_is_refused_with_what_would_be_right() {
    let world = World::new().await;
    let (room, card) = (world.room().to_owned(), world.fires(&["n01"]).await);
    for (words, answer) in [
        ("!silence 2", "2 is not a duration; it needs a unit: !silence 2h"),
        ("!silence 2 disk", "2 is not a duration; it needs a unit: !silence 2h disk"),
        ("!silence 999d", "A silence lasts at most 24h here: !silence 24h"),
        ("!silence 0s", "0s is not a duration; it needs a unit: !silence 2h"),
        ("!silence -5m", "-5m is not a duration"),
        ("!unsilence", "No silence was made from here"),
        ("!unack", "Nobody has taken this"),
    ] {
        let command = world.moderator.say_in_thread(&room, &card, words).await;
        let answered = |view: &RoomView| {
            view.thread_of(&card).iter().any(|m| m.event.in_reply_to() == Some(&command) && m.has(answer))
        };
        let view = world.wait(&format!("{words}: {answer}"), answered).await;
        assert!(!has_tick(&view, &command), "{}", view.text());
    }
    assert_eq!(world.made().await, 0);

    // One that is good, one that extends, and one that would shorten.
    let until = async |words: &str| {
        let command = world.moderator.say_in_thread(&room, &card, words).await;
        world.ticked(&command).await;
        let silences = world.silences_are(1).await;
        let at = |key: &str| silences[0][key].as_str().expect("a time").parse::<jiff::Timestamp>().expect("a time");
        let comment = silences[0]["comment"].as_str().unwrap_or_default().to_owned();
        (at("endsAt").duration_since(jiff::Timestamp::now()).as_secs(), comment)
    };
    let (hour, comment) = until("!silence 1h disk is\nreplaced").await;
    assert!((3_500..=3_600).contains(&hour) && comment.starts_with("disk is replaced [mar:"), "{hour} {comment}");
    let (longer, _) = until("!silence 3h").await;
    assert!((10_700..=10_800).contains(&longer), "{longer}");
    let (same, _) = until("!silence 10m").await;
    assert!((10_600..=10_800).contains(&same), "{same}");
    world.answered(&card, "DiskFull silenced until").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_to_the_message_about_one_alert_silences_that_one() {
    let world = World::new().await;
    let (room, card) = (world.room().to_owned(), world.fires(&["n01"]).await);
    world.fires(&["n01", "n02"]).await;
    let about = |view: &RoomView| view.thread_of(&card).into_iter().find(|m| m.has("n02"));
    let view = world.wait("a reply about n02", |view| about(view).is_some()).await;
    let reply = about(&view).expect("a reply").event_id().to_owned();

    let mut content = in_thread(&card, "!silence 1h");
    content["m.relates_to"]["is_falling_back"] = json!(false);
    content["m.relates_to"]["m.in_reply_to"]["event_id"] = json!(reply);
    let command = world.moderator.send(&room, content).await;
    world.ticked(&command).await;
    let silences = world.silences_are(1).await;
    let all = [r#"alertname="DiskFull""#, r#"instance="n02""#, r#"severity="critical""#];
    assert_eq!(matchers(&silences[0]), all);
    let half = |view: &RoomView| view.card().first_line().starts_with("🔴") && view.card().has("1 firing, 1 silenced");
    world.wait("the other one fires on", half).await;

    let command = world.moderator.say_in_thread(&room, &card, "!unsilence").await;
    world.ticked(&command).await;
    world.silences_are(0).await;

    // So does a reaction to it.
    let reaction = world.oncall.react(&room, &reply, "🔕").await;
    assert_eq!(matchers(&world.silences_are(1).await[0]), all);
    world.wait("the other one fires on", half).await;

    // What is not a reply to it is about the whole.
    let command = world.moderator.say_in_thread(&room, &card, "!silence 1h").await;
    world.ticked(&command).await;
    let silences = world.silences_are(2).await;
    assert!(silences.iter().any(|silence| matchers(silence) == all[..1]), "{silences:#?}");
    world.wait("all silenced", |view| view.card().first_line().starts_with("🔕")).await;
    world.oncall.redact(&room, &reaction).await;
    let silences = world.silences_are(1).await;
    assert_eq!(matchers(&silences[0]), all[..1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn why_tells_what_is_known() {
    let world = World::new().await;
    let (room, card) = (world.room().to_owned(), world.fires(&["n01", "n02"]).await);
    let taking = world.moderator.say_in_thread(&room, &card, "!ack looking at the node").await;
    world.ticked(&taking).await;
    world.alertmanager.silence(Silence::of(&[("instance", "n01")]).by("bob", "disk is replaced")).await;
    world.wait("silenced", |view| view.card().has("1 firing, 1 silenced")).await;
    let command = world.member.say_in_thread(&room, &card, "!why").await;
    let answer = world.answered(&card, "Last notification from Alertmanager").await;
    assert_eq!(answer.event.in_reply_to(), Some(command.as_str()));
    let taken = format!("taken by {} ({}) at ", world.moderator.local(), world.moderator.user_id);
    for needle in [
        &taken,
        "looking at the node",
        "n01: silenced, firing since ",
        "n02: firing since ",
        "silenced by bob until ",
        "disk is replaced",
    ] {
        assert!(answer.body().contains(needle), "{needle} in {}", answer.body());
    }
}

/// Alertmanager does not answer while it is withdrawn.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_removed_before_it_is_done_is_not_done() {
    let mut world = World::new().await;
    let (room, card) = (world.room().to_owned(), world.fires(&["n01"]).await);
    world.settled(&card).await;
    world.alertmanager.kill9();
    let command = world.oncall.say_in_thread(&room, &card, "!silence 1h").await;
    // Under way: what is said after it was looked at.
    let question = world.member.send_text(&room, "!help").await;
    world.answered(&question, "!why").await;
    world.oncall.redact(&room, &command).await;
    let question = world.member.send_text(&room, "!alerts").await;
    world.answered(&question, "open here").await;
    world.alertmanager.restart().await;
    world.alertmanager.post_alerts(&[disk_full("n01")]).await;
    world
        .scene
        .room
        .assert_settled("no answer", Duration::from_secs(6), |view| answers(view, &card, "").is_empty())
        .await;
    assert_eq!(world.made().await, 0);
}
