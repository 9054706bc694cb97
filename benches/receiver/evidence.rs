//! From the 200 to the room while each card gets log lines and a graph beside it, against a receiver that shows none.

use std::time::{Duration, Instant};

use super::{
    Extent,
    load::{Connection, Request, TOKEN},
    relay::Relay,
    subject::Subject,
    table::{Figures, Table, short},
};
use crate::harness::{Homeserver, NewRoom, Receiver, Room, Source};

/// As many that no room has a storm, in which there would be no evidence.
const ROOMS: usize = 24;
/// Between single deliveries. What belongs beside a card may be made while the next one is on its way.
const REST: Duration = Duration::from_millis(150);

struct Side {
    receiver: Receiver,
    relay: Relay,
    webhooks: Connection,
    requests: Vec<Request>,
    groups: usize,
}

pub async fn measure(subject: &Subject, synapse: &Homeserver, extent: Extent, table: &mut Table) {
    let source = Source::start().await;
    let (mut off, mut on) = (Side::new(subject, synapse, None).await, Side::new(subject, synapse, Some(&source)).await);
    let (mut without, mut with) = (Figures::default(), Figures::default());
    for _ in 0..extent.singles {
        for (side, figures) in [(&mut off, &mut without), (&mut on, &mut with)] {
            tokio::time::sleep(REST).await;
            let accepted = side.post().await;
            figures.push_millis(side.relay.ack().await.saturating_duration_since(accepted));
        }
    }
    table.row("evidence: 200 to acknowledged, ms", &with, &format!("{without}: none"), &with.by(&without), "about 1");
    // The last ones are still being made.
    let all = 2.0 * on.groups as f64;
    on.receiver.wait_metric("evidence_total", &[], |count| count >= all).await;
    let shown = on.receiver.metric("evidence_total", &[("outcome", "sent")]).await;
    table.row("evidence: pieces shown meanwhile", &short(shown), &format!("{} wanted", short(all)), &"", "all");
}

impl Side {
    async fn new(subject: &Subject, synapse: &Homeserver, source: Option<&Source>) -> Self {
        let relay = Relay::start(&synapse.url()).await;
        let (bot, sre) = (synapse.user("alerts").await, synapse.user("sre").await);
        let mut builder =
            subject.receiver(&bot, "!nowhere:localhost").without("routes.default").homeserver(&relay.url());
        let mut requests = Vec::new();
        for n in 0..ROOMS {
            let (room, route) = (Room::with(&sre, &bot, NewRoom::named("ops")).await, format!("r{n}"));
            builder = builder.route(&route, &[&room.id]);
            if source.is_some() {
                builder = builder.toml(&format!("[routes.{route}.evidence]\nmin_severity = \"warning\"\n"));
            }
            requests.push(Request::with_logs(&route));
        }
        if let Some(source) = source {
            let url = source.url();
            builder =
                builder.toml(&format!("[evidence]\nloki = {{ url = {url:?} }}\nprometheus = {{ url = {url:?} }}\n"));
        }
        let receiver = builder.webhook_token(TOKEN).start().await;
        let port = receiver.url().rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
        let webhooks = Connection::to(port).await;
        let mut side = Self { receiver, relay, webhooks, requests, groups: 0 };
        side.post().await;
        side.relay.ack().await;
        side
    }

    /// A webhook of a new group, to the next room; returns when the 200 came.
    async fn post(&mut self) -> Instant {
        let request = &mut self.requests[self.groups % ROOMS];
        self.groups += 1;
        self.webhooks.accepted(request.about(self.groups as u64)).await;
        Instant::now()
    }
}
