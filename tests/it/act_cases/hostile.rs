//! Labels, comments and names that strangers chose, and an Alertmanager that repeats what it must not.

use reqwest::Method;
use serde_json::json;
use urlencoding::encode;

use super::{World, answers};
use crate::{
    harness::{AlertToPost, DEADLINE, Fault, FaultProxy, Match, Reply, RoomView, Silence, User, view::Message},
    hostile::assert_harmless,
};

const EVIL: &str = "<b>x</b>\u{202e}\u{2066}gnirts\n# head\r\n<script>alert(1)</script>[a](javascript:x) `!ack`";
const PASSWORD: &str = "hunter2-of-alertmanager";

async fn call_oneself(user: &User, name: &str) {
    let path = format!("/v3/profile/{}/displayname", encode(&user.user_id));
    user.call(Method::PUT, &path, Some(&json!({ "displayname": name }))).await.expect_ok("a name");
}

fn harmless(message: &Message) {
    let text = message.body();
    assert!(text.len() < 16_000, "{} bytes", text.len());
    for bad in ["<b>x", "<script"] {
        assert!(!message.formatted_body().contains(bad), "{bad} in {}", message.formatted_body());
    }
    // Words are words: no link is made of them. That to somebody who took it is ours.
    assert!(!message.formatted_body().contains("href=\"javascript"), "{}", message.formatted_body());
    let mut others = message.clone();
    for key in ["body", "formatted_body"] {
        let text = message.content[key].as_str().unwrap_or_default();
        others.content[key] =
            text.replace("javascript:", "").replace("https://matrix.to/#/@", "https://matrix.to/").into();
    }
    assert_harmless(&others);
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_words_come_out_escaped_and_bounded() {
    let world = World::new().await;
    let room = world.room().to_owned();
    call_oneself(&world.moderator, &format!("Eve {EVIL}").chars().take(200).collect::<String>()).await;
    let long = format!("{EVIL}{}", "A".repeat(10_000));
    let labels = [("alertname", "DiskFull"), ("instance", EVIL), ("severity", "critical"), ("long", &long)];
    world.alertmanager.post_alerts(&[AlertToPost::firing(&labels).annotation("summary", &long)]).await;
    let view = world.wait("a card", |view| !view.cards_with("DiskFull").is_empty()).await;
    let card = view.card().event_id().to_owned();

    let command = world.moderator.say_in_thread(&room, &card, &format!("!ack {long}")).await;
    world.ticked(&command).await;
    let command = world.moderator.say_in_thread(&room, &card, &format!("!silence 1h {long}")).await;
    world.ticked(&command).await;
    let silences = world.silences_are(1).await;
    let comment = silences[0]["comment"].as_str().unwrap_or_default();
    assert!(comment.chars().count() < 400 && !comment.contains(['\n', '\r', '\u{202e}']), "{comment:?}");
    let silenced = |view: &RoomView| view.card().has("taken by Eve") && view.card().has("silenced by Eve");
    harmless(&world.wait("taken and silenced", silenced).await.card());
    world.alertmanager.silence(Silence::of(&[("alertname", "DiskFull")]).by(&long, &long)).await;

    // The word itself, the name of an alert, and a wrong duration come back.
    world.moderator.say_in_thread(&room, &card, &format!("!x{}", long.replace(['\n', '\r', ' '], ""))).await;
    world.moderator.say_in_thread(&room, &card, &format!("!silence 2x{}", long.replace(['\n', '\r', ' '], ""))).await;
    world.answered(&card, "There is no !x").await;
    world.answered(&card, "is not a duration").await;
    let why = world.member.say_in_thread(&room, &card, "!why").await;
    world.answered(&card, "Last notification").await;
    for words in ["!alerts", "!silences"] {
        let question = world.member.send_text(&room, words).await;
        world.wait(words, |view| view.thread_of(&question).len() == 1).await;
    }
    let view = world.scene.room.view().await;
    let by_bot: Vec<Message> =
        view.cards().into_iter().chain(view.cards().iter().flat_map(|card| view.thread_of(card.event_id()))).collect();
    let questions = view.events.iter().filter(|event| event.sender == world.member.user_id && event.event_id != why);
    let by_bot: Vec<Message> =
        by_bot.into_iter().chain(questions.flat_map(|event| view.thread_of(&event.event_id))).collect();
    assert!(by_bot.len() >= 7, "{}", view.text());
    by_bot.iter().for_each(harmless);
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_of_alertmanager_are_in_no_answer_and_no_log() {
    let mut world = World::new().await;
    let (room, card) = (world.room().to_owned(), world.fires(&["n01"]).await);
    world.settled(&card).await;
    let proxy = FaultProxy::start(&world.alertmanager.url()).await;
    let file = world.receiver.config_path().with_file_name("password");
    std::fs::write(&file, PASSWORD).expect("written");
    world.receiver.reconfigure(&format!(
        "[alertmanager]\nurls = [{:?}]\nusername = \"mar\"\npassword_file = {:?}\n[log]\nfilter = \"trace\"\n",
        proxy.url(),
        file.to_str().expect("a UTF-8 path")
    ));
    // One that repeats what it was sent, as a proxy's error page may.
    let words = format!("\"no such user mar:{PASSWORD} {}\"", base64_of(&format!("mar:{PASSWORD}")));
    let reply = Reply::new(401, "application/json", &words);
    proxy.fault(Match::when(|request| request.path.contains("/api/v2/")), Fault::Respond(reply));
    world.receiver.restart().await;
    let command = world.moderator.say_in_thread(&room, &card, "!silence 1h").await;
    let refused = |view: &RoomView| {
        answers(view, &card, "did not accept the credentials").iter().any(|m| m.event.in_reply_to() == Some(&command))
    };
    let view = world.scene.room.wait_for("refused", 2 * DEADLINE, refused).await;
    let status = world.receiver.get("/healthz").await.body;
    for (place, text) in [("the room", view.text()), ("the log", world.receiver.logs()), ("/healthz", status)] {
        for secret in [PASSWORD.to_owned(), base64_of(&format!("mar:{PASSWORD}"))] {
            assert!(!text.contains(&secret), "a secret in {place}: {}", world.receiver.log_tail());
        }
    }
    assert_eq!(world.made().await, 0);
    world.acts_are("silence", "failed", 1.0).await;
}

fn base64_of(text: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    STANDARD.encode(text)
}
