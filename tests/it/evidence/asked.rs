//! `!logs` and `!graph`: by who may and may not, often, and where the room is not encrypted.

use serde_json::json;

use super::{SIZE, card, graphs, group, size_of, sources};
use crate::harness::{DEADLINE, Manner, Receiver, ReceiverBuilder, RoomView, Scene, Source, User, view::Message};

/// Between two questions that a room is answered.
const READ: i64 = 10_000;

struct World {
    scene: Scene,
    member: User,
    receiver: Receiver,
    source: Source,
    card: String,
}

impl World {
    /// One card, without evidence beside it, and a member of power 0.
    async fn new(scene: Scene, toml: &str) -> Self {
        let source = Source::start().await;
        let member = scene.synapse.user("member").await;
        scene.sre.invite(&scene.room.id, &member).await;
        member.join(&scene.room.id).await;
        let toml = format!("{}{toml}", sources(&source.url(), &source.url()));
        let receiver = ReceiverBuilder::of(&scene).toml(&toml).start().await;
        receiver.accept("default", group("DiskFull")).await;
        let view = scene.room.wait_for("a card", DEADLINE, |view| card(view, "DiskFull").is_some()).await;
        let card = card(&view, "DiskFull").expect("a card").event_id().to_owned();
        Self { scene, member, receiver, source, card }
    }

    async fn says(&self, who: &User, text: &str) -> String {
        who.say_in_thread(&self.scene.room.id, &self.card, text).await
    }

    /// Waits for what answers a command.
    async fn answer(&self, command: &str) -> Message {
        let answers = |view: &RoomView| {
            let mut all = view.thread_of(&self.card);
            all.retain(|reply| reply.event.in_reply_to() == Some(command));
            all
        };
        let view = self.scene.room.wait_for("an answer", DEADLINE, |view| !answers(view).is_empty()).await;
        let mut found = answers(&view);
        assert_eq!(found.len(), 1, "once:\n{}", view.text());
        found.remove(0)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_ask_gets_lines_and_a_picture_one_every_ten_seconds() {
    let world = World::new(Scene::new().await, "[actions]\n").await;
    let asked = jiff::Timestamp::now().as_millisecond();
    let lines = world.says(&world.member, "!logs 20").await;
    let graph = world.says(&world.member, "!graph").await;
    let lines = world.answer(&lines).await;
    assert_eq!(lines.msgtype(), "m.notice");
    assert!(lines.first_line().starts_with("📜 Logs") && lines.has(crate::harness::source::LINE), "{}", lines.body());
    let graph = world.answer(&graph).await;
    let later = graph.event.origin_server_ts - asked;
    assert!(later >= READ, "{later} ms after the first question");
    assert_eq!(graph.content["info"]["w"], json!(SIZE.0));
    let (_, png) = world.scene.sre.download(graph.content["url"].as_str().expect("an upload")).await;
    assert_eq!(size_of(&png), SIZE);
    let asked = world.source.asked();
    let of_loki: Vec<_> = asked.iter().filter(|asked| asked.contains("/loki/api/v1/query_range")).collect();
    assert_eq!((of_loki.len(), asked.len() > 1), (1, true), "{asked:?}");
    for act in ["logs", "graph"] {
        world.receiver.wait_metric("acts_total", &[("act", act), ("outcome", "done")], |count| count == 1.0).await;
    }
    assert_eq!(world.receiver.metric("evidence_total", &[]).await, 0.0, "counted is what nobody asked for");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_is_refused_and_no_source_is_asked() {
    let world = World::new(Scene::new().await, "[actions]\nread = { power = 50 }\n").await;
    let asked = world.says(&world.member, "!graph").await;
    let answer = world.answer(&asked).await;
    assert!(answer.first_line().starts_with('❌') && answer.has("needs power level 50"), "{}", answer.body());
    assert!(world.source.asked().is_empty(), "{:?}", world.source.asked());
    let asked = world.says(&world.scene.sre, "!graph").await;
    assert_eq!(world.answer(&asked).await.msgtype(), "m.image");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_room_gets_nothing_where_only_encrypted_ones_may() {
    let toml = "[actions]\n[routes.default.evidence]\nencrypted_only = true\nmin_severity = \"warning\"\n";
    let world = World::new(Scene::new().await, toml).await;
    let asked = world.says(&world.scene.sre, "!logs").await;
    let answer = world.answer(&asked).await;
    assert!(answer.has("shown in encrypted rooms only, and this one is not"), "{}", answer.body());
    let view = world.scene.room.view().await;
    assert!(graphs(&view, &world.card).is_empty() && super::pieces(&view) == 0, "{}", view.text());
    assert!(world.source.asked().is_empty(), "{:?}", world.source.asked());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_hangs_is_answered_so_and_holds_up_no_other_command() {
    let world = World::new(Scene::new().await, "[actions]\n").await;
    world.source.answers(Manner::Hangs);
    let asked = world.says(&world.scene.sre, "!logs").await;
    let taken = world.says(&world.scene.sre, "!ack").await;
    let ticked = |view: &RoomView| view.events.iter().any(|event| event.related("m.annotation") == Some(&taken));
    let view = world.scene.room.wait_for("taken", DEADLINE, ticked).await;
    let tick = view.events.iter().find(|event| event.related("m.annotation") == Some(&taken)).expect("it is there");
    let answer = world.answer(&asked).await;
    assert!(tick.origin_server_ts < answer.event.origin_server_ts, "taken meanwhile");
    assert!(answer.has("Loki did not answer within 10 s"), "{}", answer.body());
}
