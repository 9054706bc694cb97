//! Everything that people, and those who pretend to be people, can do in a room to act on an alert, and what becomes of
//! it: on a real Synapse, with people of different power levels, and a real Alertmanager.
//!
//! `allow = { power = 50, users = ["@oncall"] }` unless a test says otherwise. "Refused" is an answer in the thread; it
//! is never followed by anything in Alertmanager.
//!
//! | what | by whom, where | what happens | test |
//! |---|---|---|---|
//! | 🔕 | power 0 | refused once; again within ten minutes: only counted | `rights` |
//! | 🔕 | power 50; power 0 and listed | silenced within seconds; removed: expired | `rights` |
//! | 🔕 | has left the room since | refused | `rights` |
//! | 🔕, ✅ | two people at once | one silence and one taking for each | `rights` |
//! | reaction removed | by its sender | that act ends, no other | `rights` |
//! | reaction removed | by a moderator | that act ends | `rights` |
//! | reaction removed | by somebody who may redact, and may not act | refused, the silence stays | `rights` |
//! | ✅ 👀 🔕 with U+FE0F or a skin tone | power 50 | as without | `reactions` |
//! | the same reaction once more, after it was removed | power 50 | counts again | `reactions` |
//! | 🔕 on a digest | power 50 | refused, and told to say which | `digests` |
//! | `!silence` in a digest's thread | power 50 | refused, and told to say which; with a name: silenced | `digests` |
//! | edited, `m.notice`, redacted before it is carried out, from the bot itself | listed | nothing | `commands` |
//! | unknown command | in our thread; in the room | answered; nothing | `commands` |
//! | `!help`, `!alerts`, `!silences` in the room | power 0 | answered in a thread, one in ten seconds | `commands` |
//! | `!silence 2`, `!silence 999d` | power 50 | refused with what would be right | `commands` |
//! | `!silence` as a reply to the message about one alert, 🔕 on it | power 50 | that alert alone, by all its labels | `commands` |
//! | `!why` in a thread | power 0 | alerts, silences, and who took it | `commands` |
//! | anything older than ten minutes | | "too late" | `acts::tests::listening` in `src/` |
//! | anything, on a card of a route without actions | power 50 | nothing | `routes` |
//! | another prefix; actions turned on and off by a reload | power 50 | takes effect at once | `routes` |
//! | command from a signed device | listed, encrypted room | done, answered encrypted | `encrypted` |
//! | command from an unsigned device, or unencrypted | listed, encrypted room | refused | `encrypted` |
//! | command, its ciphertext sent again | listed, encrypted room | once | `encrypted` |
//! | ✅; 🔕 | encrypted room | counts; refused unless `trust_reactions` | `encrypted` |
//! | `!silence` by power alone | encrypted room | refused unless `trust_power` | `encrypted` |
//! | hostile labels, comments, display names | | escaped and bounded | `hostile` |
//! | Alertmanager repeats its credentials | | blanked in answers and logs | `hostile` |

mod commands;
mod digests;
mod encrypted;
mod hostile;
mod reactions;
mod rights;
mod routes;

use std::time::Duration;

use serde_json::Value;

use crate::harness::{
    AlertToPost, Alertmanager, AlertmanagerConfig, DEADLINE, Receiver, ReceiverBuilder, RoomView, Scene, User,
    eventually, view::Message,
};

/// Longer than a sync, an act and an answer take.
const QUIET: Duration = Duration::from_secs(3);

/// A room with people of different rights, a receiver, and an Alertmanager that posts to it.
struct World {
    scene: Scene,
    /// Power 50.
    moderator: User,
    /// Power 0.
    member: User,
    /// Power 0, and in `allow.users`.
    oncall: User,
    receiver: Receiver,
    alertmanager: Alertmanager,
}

/// Somebody of this power in the scene's room.
async fn join(scene: &Scene, name: &str, power: i64) -> User {
    let user = scene.synapse.user(name).await;
    scene.sre.invite(&scene.room.id, &user).await;
    user.join(&scene.room.id).await;
    if power > 0 {
        scene.sre.set_power(&scene.room.id, &user, power).await;
    }
    user
}

impl World {
    async fn new() -> Self {
        Self::with(Scene::new().await, "").await
    }

    /// With these keys as well.
    async fn with(scene: Scene, toml: &str) -> Self {
        Self::build(scene, toml, |builder| builder, |config| config).await
    }

    async fn build(
        scene: Scene,
        toml: &str,
        receiver: impl FnOnce(ReceiverBuilder) -> ReceiverBuilder,
        alertmanager: impl FnOnce(AlertmanagerConfig) -> AlertmanagerConfig,
    ) -> Self {
        let moderator = join(&scene, "moderator", 50).await;
        let member = join(&scene, "member", 0).await;
        let oncall = join(&scene, "oncall", 0).await;
        let allow = format!("[actions]\nallow = {{ power = 50, users = [{:?}] }}\n", oncall.user_id);
        let builder = receiver(ReceiverBuilder::of(&scene).toml(&allow)).toml(toml);
        let mut receiver = builder.unstarted();
        let config = alertmanager(AlertmanagerConfig::webhook(&receiver.webhook_url("default")));
        let alertmanager = Alertmanager::start(config).await;
        receiver.reconfigure(&format!("[alertmanager]\nurls = [{:?}]\npoll = \"1s\"\n", alertmanager.url()));
        receiver.spawn();
        receiver.ready().await.unwrap_or_else(|failure| panic!("{failure}"));
        Self { scene, moderator, member, oncall, receiver, alertmanager }
    }

    fn room(&self) -> &str {
        &self.scene.room.id
    }

    /// `DiskFull` fires on these nodes, or on more of them; returns its card's event id.
    async fn fires(&self, nodes: &[&str]) -> String {
        self.alertmanager.post_alerts(&nodes.iter().map(|node| disk_full(node)).collect::<Vec<_>>()).await;
        let shown =
            |view: &RoomView| nodes.iter().all(|node| view.cards_with("DiskFull").iter().any(|card| card.has(node)));
        let view = self.scene.room.wait_for("the card", DEADLINE, shown).await;
        view.cards_with("DiskFull")[0].event_id().to_owned()
    }

    async fn wait(&self, what: &str, condition: impl Fn(&RoomView) -> bool) -> RoomView {
        self.scene.room.wait_for(what, DEADLINE, condition).await
    }

    /// Waits until the bot answers with `needle` in the thread of `root`; returns the first such answer.
    async fn answered(&self, root: &str, needle: &str) -> Message {
        let view = self.wait(&format!("{needle:?} in a thread"), |view| !answers(view, root, needle).is_empty()).await;
        answers(&view, root, needle).remove(0)
    }

    /// Waits for the mark on a command that was carried out.
    async fn ticked(&self, command: &str) {
        self.wait("the mark on a command", |view| has_tick(view, command)).await;
    }

    /// Has somebody take the card and waits until it is done: all that was said before has been looked at then, and what it
    /// asked for on this card has been carried out.
    async fn settled(&self, card: &str) -> RoomView {
        let command = self.moderator.say_in_thread(self.room(), card, "!ack to settle").await;
        self.ticked(&command).await;
        self.scene.room.view().await
    }

    /// The silences that are active in Alertmanager.
    async fn silences(&self) -> Vec<Value> {
        let mut silences: Vec<Value> = self.alertmanager.silences().await.as_array().expect("a list").clone();
        silences.retain(|silence| silence["status"]["state"] != "expired");
        silences
    }

    /// All silences that were ever made.
    async fn made(&self) -> usize {
        self.alertmanager.silences().await.as_array().expect("a list").len()
    }

    async fn silences_are(&self, count: usize) -> Vec<Value> {
        eventually(&format!("{count} active silences"), DEADLINE, async || {
            Some(self.silences().await).filter(|silences| silences.len() == count)
        })
        .await
    }

    async fn acts_are(&self, act: &str, outcome: &str, count: f64) {
        self.receiver.wait_metric("acts_total", &[("act", act), ("outcome", outcome)], |n| n == count).await;
    }

    /// All that was counted, whatever became of it.
    async fn all_acts(&self) -> f64 {
        self.receiver.metric("acts_total", &[]).await
    }
}

fn disk_full(node: &str) -> AlertToPost {
    AlertToPost::firing(&[("alertname", "DiskFull"), ("instance", node), ("severity", "critical")])
}

/// The bot's notices with `needle` in the thread of `root`.
fn answers(view: &RoomView, root: &str, needle: &str) -> Vec<Message> {
    let mut answers = view.thread_of(root);
    answers.retain(|answer| answer.msgtype() == "m.notice" && answer.has(needle));
    answers
}

fn has_tick(view: &RoomView, command: &str) -> bool {
    view.events.iter().any(|event| {
        event.event_type == "m.reaction"
            && event.sender == view.bot
            && event.related("m.annotation") == Some(command)
            && event.content["m.relates_to"]["key"] == "✅"
    })
}

/// `alertname="DiskFull" …` of a silence, sorted.
fn matchers(silence: &Value) -> Vec<String> {
    let of = |matcher: &Value| {
        assert!(matcher["isRegex"] == false && matcher["isEqual"] == true, "{silence:#}");
        format!("{}={}", matcher["name"].as_str().unwrap_or_default(), matcher["value"])
    };
    let mut matchers: Vec<String> = silence["matchers"].as_array().expect("a list").iter().map(of).collect();
    matchers.sort();
    matchers
}
