//! From the 200 to the room: one event alone, and as many as go, against a bare client of the same Synapse.

use std::{sync::atomic::Ordering::Relaxed, time::Instant};

use serde_json::Value;

use super::{
    Extent,
    commit::Commits,
    footprint::resident,
    load::{Connection, Request, TOKEN},
    relay::Relay,
    subject::Subject,
    table::{Figures, Table, short},
};
use crate::harness::{DEADLINE, Homeserver, NewRoom, Reader, Receiver, Room, User};

/// Alerts in a group: the usual card, not the largest.
const ALERTS: usize = 5;
/// Between single deliveries, so that each finds the receiver idle.
const REST: std::time::Duration = std::time::Duration::from_millis(150);

struct Scene {
    receiver: Receiver,
    relay: Relay,
    bot: User,
    room: Room,
    webhooks: Connection,
    request: Request,
    groups: u64,
    /// Keeps its connection.
    client: reqwest::Client,
}

pub async fn measure(subject: &Subject, synapse: &Homeserver, extent: Extent, table: &mut Table) {
    let mut scene = Scene::new(subject, synapse, NewRoom::named("ops")).await;
    scene.room.wait_for("the first card", DEADLINE, |view| view.cards().len() == 1).await;
    single(&mut scene, extent, table).await;
    many(&mut scene, extent, table).await;
}

/// An encrypted room, whose other member reads it on a device with keys, beside a plain one, each with a receiver of its
/// own.
pub async fn encrypted(subject: &Subject, synapse: &Homeserver, extent: Extent, table: &mut Table) {
    let mut plain = Scene::new(subject, synapse, NewRoom::named("plain")).await;
    let mut secret = Scene::new(subject, synapse, NewRoom::named("secret").encrypted()).await;
    let (mut open, mut sealed) = (Figures::default(), Figures::default());
    for _ in 0..extent.singles {
        for (scene, figures) in [(&mut plain, &mut open), (&mut secret, &mut sealed)] {
            tokio::time::sleep(REST).await;
            let accepted = scene.post().await;
            figures.push_millis(scene.relay.ack().await.saturating_duration_since(accepted));
        }
    }
    let baseline = format!("{open}: a plain room");
    table.row("encrypted room: 200 to acknowledged, idle, ms", &sealed, &baseline, &sealed.by(&open), "");
    let (mut per_second, mut sealed_per_second) = (Figures::default(), Figures::default());
    for _ in 0..extent.room_rounds {
        per_second.0.push(plain.burst(extent.room_events).await);
        sealed_per_second.0.push(secret.burst(extent.room_events).await);
    }
    let (baseline, ratio) = (format!("{per_second}: a plain room"), sealed_per_second.by(&per_second));
    table.row("encrypted room: events into it, per second", &sealed_per_second, &baseline, &ratio, "≥ 0.8");
    let memory = |scene: &Scene| resident(scene.receiver.pid(), "VmRSS");
    let (open, sealed) = (memory(&plain), memory(&secret));
    let baseline = format!("{}: a plain room", short(open));
    table.row("encrypted room: memory after these, MiB", &short(sealed), &baseline, &short(sealed / open), "");
}

async fn single(scene: &mut Scene, extent: Extent, table: &mut Table) {
    let content = scene.contents(1).await.remove(0);
    let mut commits = Commits::of(content.to_string().len()).await;
    let before = scene.receiver.metrics().await;
    let (mut ours, mut put, mut commit) = (Figures::default(), Figures::default(), Figures::default());
    let mut until_sent = Figures::default();
    for _ in 0..extent.singles {
        tokio::time::sleep(REST).await;
        let accepted = scene.post().await;
        let exchange = scene.relay.exchange().await;
        until_sent.push_millis(exchange.sent.saturating_duration_since(accepted));
        ours.push_millis(exchange.acked.saturating_duration_since(accepted));
        tokio::time::sleep(REST).await;
        let started = Instant::now();
        scene.put(&content).await;
        put.push_millis(started.elapsed());
        commit.push_millis(commits.one().await);
        scene.relay.forget();
    }
    let after = scene.receiver.metrics().await;
    let grown = |name: &str| after.sum(name, &[]) - before.sum(name, &[]);
    let recorded = 1e3 * grown("delivery_seconds_sum") / grown("delivery_seconds_count");
    let least = Figures(put.0.iter().zip(&commit.0).map(|(put, commit)| put + commit).collect());
    let baseline = format!("{least}: PUT {} + commit {}", short(put.median()), short(commit.median()));
    let wanted = format!("< {}", short(put.median() + commit.median() + 2.0));
    table.row("200 to acknowledged, idle, ms", &ours, &baseline, &ours.by(&least), &wanted);
    // The same without what the homeserver takes, which differs from one PUT to the next by more than the bound.
    let baseline = format!("{commit}: a commit");
    let wanted = format!("< {}", short(commit.median() + 2.0));
    table.row("200 to the event on the wire, idle, ms", &until_sent, &baseline, &until_sent.by(&commit), &wanted);
    table.row("delivery_seconds of these (both commits in it), mean, ms", &short(recorded), &"", &"", "");
}

async fn many(scene: &mut Scene, extent: Extent, table: &mut Table) {
    let (mut ours, mut theirs) = (Figures::default(), Figures::default());
    for _ in 0..extent.room_rounds {
        ours.0.push(scene.burst(extent.room_events).await);
        let contents = scene.contents(extent.room_events).await;
        for content in &contents {
            scene.put(content).await;
        }
        let mut acks = Vec::with_capacity(contents.len());
        for _ in &contents {
            acks.push(scene.relay.ack().await);
        }
        theirs.0.push(rate(&acks));
    }
    table.row("events into one room, per second", &ours, &theirs, &ours.by(&theirs), "≥ 0.95");
}

/// Events per second from the first acknowledgement to the last.
fn rate(acks: &[Instant]) -> f64 {
    let took = acks[acks.len() - 1].duration_since(acks[0]);
    (acks.len() - 1) as f64 / took.as_secs_f64()
}

impl Scene {
    async fn new(subject: &Subject, synapse: &Homeserver, room: NewRoom) -> Self {
        let relay = Relay::start(&synapse.url()).await;
        let (bot, sre) = (synapse.user("alerts").await, synapse.user("sre").await);
        let _reader = Reader::new(&sre).await;
        let room = Room::with(&sre, &bot, room).await;
        let builder = subject.receiver(&bot, &room.id).webhook_token(TOKEN).homeserver(&relay.url());
        let receiver = builder.start().await;
        let port = receiver.url().rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let webhooks = Connection::to(port).await;
        let request = Request::of(ALERTS);
        let mut scene = Self { receiver, relay, bot, room, webhooks, request, groups: 0, client };
        scene.post().await;
        scene.relay.ack().await;
        scene
    }

    /// A webhook of a new group; returns when the 200 came.
    async fn post(&mut self) -> Instant {
        self.groups += 1;
        self.webhooks.accepted(self.request.about(self.groups)).await;
        Instant::now()
    }

    /// New groups' cards per second. All are accepted before the first is sent: what is measured is the way to the room
    /// alone.
    async fn burst(&mut self, events: usize) -> f64 {
        self.relay.hold(true);
        for _ in 0..events {
            self.post().await;
        }
        self.relay.forget();
        self.relay.hold(false);
        let mut acks = Vec::with_capacity(events);
        for _ in 0..events {
            acks.push(self.relay.ack().await);
        }
        self.receiver.wait_metric("outbox_ops", &[("state", "waiting")], |waiting| waiting < 0.5).await;
        rate(&acks)
    }

    /// The newest messages of the room as they were sent.
    async fn contents(&self, count: usize) -> Vec<Value> {
        let room = urlencoding::encode(&self.room.id);
        let page = self.room.reader.get(&format!("/v3/rooms/{room}/messages?dir=b&limit={count}")).await;
        let events = page["chunk"].as_array().expect("events");
        events.iter().map(|event| event["content"].clone()).collect()
    }

    /// Sends as a bare client does, by the same wire.
    async fn put(&self, content: &Value) {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let (room, txn) = (urlencoding::encode(&self.room.id), NUMBER.fetch_add(1, Relaxed));
        let url = format!("{}/_matrix/client/v3/rooms/{room}/send/m.room.message/bare{txn}", self.relay.url());
        let answer = self.client.put(url).bearer_auth(&self.bot.access_token).json(content).send().await;
        let text = answer.expect("Synapse answers").error_for_status().expect("200").text().await;
        assert!(text.expect("an answer").contains("event_id"));
    }
}
