//! What people ask for in a room, on a real Synapse and real Alertmanagers: done once and answered, whatever breaks meanwhile.

mod kills;
mod missed;
mod peers;
mod reach;
mod silencing;
mod taking;
mod unreachable;

use std::{path::Path, time::Duration};

use jiff::Timestamp;
use serde_json::Value;

use crate::harness::{
    AlertToPost, Alertmanager, AlertmanagerConfig, DEADLINE, Receiver, ReceiverBuilder, RoomView, Scene, User,
    eventually, view::Message,
};

/// Longer than some polls take, and than an edit.
const QUIET: Duration = Duration::from_secs(5);
const ACTIONS: &str = "[actions]\nallow = { power = 50 }\n";
const N01: &[(&str, &str)] = &[("alertname", "DiskFull"), ("instance", "n01"), ("severity", "critical")];
const N02: &[(&str, &str)] = &[("alertname", "DiskFull"), ("instance", "n02"), ("severity", "critical")];

/// A receiver that acts, its Alertmanager, and somebody beside the room's creator who may act.
struct Stage {
    scene: Scene,
    oncall: User,
    receiver: Receiver,
    alertmanager: Alertmanager,
}

impl Stage {
    async fn new() -> Self {
        Self::by(&Alertmanager::debian()).await
    }

    /// With this program of Alertmanager.
    async fn by(program: &Path) -> Self {
        let scene = Scene::new().await;
        let receiver = ReceiverBuilder::of(&scene);
        Self::of(scene, receiver, |config| config.run_by(program)).await.started().await
    }

    /// All but the receiver runs.
    async fn of(
        scene: Scene,
        receiver: ReceiverBuilder,
        config: impl FnOnce(AlertmanagerConfig) -> AlertmanagerConfig,
    ) -> Self {
        let oncall = joined(&scene, "oncall", 50).await;
        let receiver = receiver.toml(ACTIONS).unstarted();
        let webhook = AlertmanagerConfig::webhook(&receiver.webhook_url("default"));
        let alertmanager = Alertmanager::start(config(webhook)).await;
        Self { scene, oncall, receiver, alertmanager }
    }

    async fn started(mut self) -> Self {
        start(&mut self.receiver, &[self.alertmanager.url()]).await;
        self
    }

    /// Has these alerts fire in one group and waits for a card that shows them all; returns its id.
    async fn fires(&self, alerts: &[&[(&str, &str)]]) -> String {
        fires(&self.scene, &self.alertmanager, alerts).await
    }

    async fn says(&self, who: &User, card: &str, text: &str) -> String {
        who.say_in_thread(&self.scene.room.id, card, text).await
    }

    async fn wait_for(&self, what: &str, condition: impl Fn(&RoomView) -> bool) -> RoomView {
        self.scene.room.wait_for(what, DEADLINE, condition).await
    }

    /// Waits for as many silences in force; returns them.
    async fn silences(&self, number: usize) -> Vec<Value> {
        eventually(&format!("{number} silences"), DEADLINE, async || {
            Some(in_force(&self.alertmanager).await).filter(|silences| silences.len() == number)
        })
        .await
    }
}

async fn start(receiver: &mut Receiver, urls: &[String]) {
    receiver.reconfigure(&format!("[alertmanager]\nurls = {urls:?}\npoll = \"2s\"\n"));
    receiver.spawn();
    receiver.ready().await.unwrap_or_else(|failure| panic!("{failure}"));
}

/// Somebody who has joined, with this power level.
async fn joined(scene: &Scene, name: &str, power: i64) -> User {
    let (user, room) = (scene.synapse.user(name).await, &scene.room.id);
    scene.sre.invite(room, &user).await;
    user.join(room).await;
    scene.sre.set_power(room, &user, power).await;
    user
}

async fn fires(scene: &Scene, alertmanager: &Alertmanager, alerts: &[&[(&str, &str)]]) -> String {
    let posted: Vec<AlertToPost> = alerts.iter().map(|labels| AlertToPost::firing(labels)).collect();
    alertmanager.post_alerts(&posted).await;
    let instances = alerts.iter().flat_map(|labels| labels.iter().filter(|(name, _)| *name == "instance"));
    let instances: Vec<&str> = instances.map(|(_, value)| *value).collect();
    let name = alerts[0][0].1;
    let card = |view: &RoomView| {
        let all = |card: &Message| card.first_line().contains(name) && instances.iter().all(|one| card.has(one));
        view.cards().into_iter().find(all)
    };
    let view = scene.room.wait_for("the card", DEADLINE, |view| card(view).is_some()).await;
    card(&view).expect("a card").event_id().to_owned()
}

/// The silences of an Alertmanager that are not over.
async fn in_force(alertmanager: &Alertmanager) -> Vec<Value> {
    let silences = alertmanager.silences().await;
    silences.as_array().into_iter().flatten().filter(|one| one["status"]["state"] != "expired").cloned().collect()
}

/// The receiver's mark in a comment.
fn mark(silence: &Value) -> &str {
    let comment = silence["comment"].as_str().unwrap_or_default();
    comment.rsplit_once(" [mar:").unwrap_or_else(|| panic!("no mark: {silence:#}")).1
}

/// How long a silence still lasts, in minutes.
fn minutes_left(silence: &Value) -> i64 {
    let ends: Timestamp = silence["endsAt"].as_str().and_then(|at| at.parse().ok()).expect("a time");
    ends.duration_since(Timestamp::now()).as_secs().div_euclid(60)
}

/// `alertname=DiskFull`, sorted; only equality is expected.
fn matchers(silence: &Value) -> Vec<String> {
    let matchers = silence["matchers"].as_array().expect("matchers");
    let text = |matcher: &Value| {
        assert_eq!(
            (&matcher["isRegex"], &matcher["isEqual"]),
            (&Value::from(false), &Value::from(true)),
            "{silence:#}"
        );
        format!("{}={}", matcher["name"].as_str().expect("a name"), matcher["value"].as_str().expect("a value"))
    };
    let mut matchers: Vec<String> = matchers.iter().map(text).collect();
    matchers.sort();
    matchers
}

fn message(view: &RoomView, card: &str) -> Message {
    view.cards().into_iter().find(|message| message.event_id() == card).expect("the card")
}

/// Whether the receiver has marked a command as done.
fn is_ticked(view: &RoomView, command: &str) -> bool {
    let tick = |event: &&crate::harness::RoomEvent| {
        event.sender == view.bot && event.related("m.annotation") == Some(command) && !event.redacted
    };
    view.events.iter().filter(tick).count() == 1
}

/// The receiver's notices that answer a command.
fn answers(view: &RoomView, command: &str) -> Vec<Message> {
    let of_all = view.cards().into_iter().flat_map(|card| view.thread_of(card.event_id()));
    of_all.filter(|reply| reply.event.in_reply_to() == Some(command) && reply.msgtype() == "m.notice").collect()
}

/// The one answer, once the command is marked as done.
fn done(view: &RoomView, command: &str) -> Option<Message> {
    let answers = answers(view, command);
    assert!(answers.len() <= 1, "answered twice:\n{}", view.text());
    answers.into_iter().next().filter(|_| is_ticked(view, command))
}
