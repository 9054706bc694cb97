//! New incidents in a room without limits, from the webhook until a second user's sync shows them, beside a bare PUT into
//! the same room that the same user sees. Each takes its turn half a pace after the other.

use std::time::{Duration, Instant};

use tokio::{task::JoinSet, time::sleep_until};

use super::{
    Extent,
    load::{Connection, Request, TOKEN},
    subject::Subject,
    table::{Figures, Table},
    watcher::{Putter, Watcher},
};
use crate::harness::{Homeserver, NewRoom, Receiver, Room, User};

/// Alerts in a group: the usual card, not the largest.
const ALERTS: usize = 5;
/// Every so many incidents of the fast pace are critical.
const CRITICAL: usize = 10;

/// How often a new incident comes, and how many make a round.
struct Pace {
    each: Duration,
    named: &'static str,
    count: usize,
    quick: usize,
    wanted: &'static str,
    with_criticals: bool,
}

const PACES: [Pace; 3] = [
    Pace {
        each: Duration::from_secs(3),
        named: "one each 3 s",
        count: 6,
        quick: 1,
        wanted: "≤ 1.4",
        with_criticals: false,
    },
    Pace {
        each: Duration::from_millis(500),
        named: "one each 500 ms",
        count: 20,
        quick: 4,
        wanted: "≤ 1.5",
        with_criticals: false,
    },
    Pace {
        each: Duration::from_millis(150),
        named: "one each 150 ms",
        count: 60,
        quick: 10,
        wanted: "",
        with_criticals: true,
    },
];

pub async fn measure(subject: &Subject, synapse: &Homeserver, extent: Extent, table: &mut Table) {
    let mut stage = Stage::new(subject, synapse, extent).await;
    for pace in &PACES {
        let mut sides = Sides::default();
        for _ in 0..extent.incident_rounds {
            let round = stage.round(pace, if extent.quick { pace.quick } else { pace.count }).await;
            sides.ours.0.push(round.ours.median());
            sides.put.0.push(round.put.median());
            sides.events.0.push(round.events);
            if pace.with_criticals {
                sides.critical.0.push(round.critical.median());
            }
        }
        sides.report(pace, extent, table);
    }
}

/// Of each round its median, and the events that it made.
#[derive(Default)]
struct Sides {
    ours: Figures,
    critical: Figures,
    put: Figures,
    events: Figures,
}

impl Sides {
    fn report(&self, pace: &Pace, extent: Extent, table: &mut Table) {
        let what = |figure: &str| format!("new incidents, limits lifted, {}: {figure}", pace.named);
        let put = format!("{}: a bare PUT", self.put);
        let ratio = self.ours.by(&self.put);
        table.row(&what("webhook to seen in the room, p50, ms"), &self.ours, &put, &ratio, pace.wanted);
        if pace.with_criticals {
            let ratio = self.critical.by(&self.put);
            table.row(&what("criticals among them, p50, ms"), &self.critical, &put, &ratio, "none waits");
            let count = if extent.quick { pace.quick } else { pace.count };
            table.row(&what("events"), &self.events, &format!("{count} incidents"), &"", "calm for the reader");
        }
    }
}

#[derive(Default)]
struct Round {
    ours: Figures,
    critical: Figures,
    put: Figures,
    events: f64,
}

/// A receiver with a room for each round, since what came before decides what is gathered, and who looks on.
struct Stage {
    receiver: Receiver,
    bot: User,
    watcher: Watcher,
    rooms: Vec<(String, Room)>,
    /// Counts the groups of all rounds.
    group: u64,
}

impl Stage {
    async fn new(subject: &Subject, synapse: &Homeserver, extent: Extent) -> Self {
        let (bot, sre) = (synapse.user("alerts").await, synapse.user("sre").await);
        // Storms are gathered as by default.
        let mut builder = subject.receiver(&bot, "!nowhere:localhost").without("routes.default").webhook_token(TOKEN);
        let mut rooms = Vec::new();
        for n in 0..PACES.len() * extent.incident_rounds {
            let (room, route) = (Room::with(&sre, &bot, NewRoom::named("ops")).await, format!("r{n}"));
            builder = builder.route(&route, &[&room.id]);
            rooms.push((route, room));
        }
        let receiver = builder.start().await;
        receiver.wait_metric("last_sync_timestamp_seconds", &[], |at| at > 0.0).await;
        let watcher = Watcher::start(&sre).await;
        Self { receiver, bot, watcher, rooms, group: 0 }
    }

    async fn round(&mut self, pace: &Pace, count: usize) -> Round {
        let (route, room) = self.rooms.pop().expect("a room for each round");
        let putter = Putter::new(&self.bot, &room.id);
        // Opens its connection.
        let (mark, _) = putter.put().await;
        self.watcher.seen(&mark).await;
        let (posts, puts) = self.turns(pace, count, &route, &putter).await;
        let mut round = Round::default();
        for (name, critical, sent) in posts {
            let took = self.watcher.seen(&name).await.saturating_duration_since(sent);
            round.ours.push_millis(took);
            if critical {
                round.critical.push_millis(took);
            }
        }
        for (mark, sent) in puts {
            round.put.push_millis(self.watcher.seen(&mark).await.saturating_duration_since(sent));
        }
        self.receiver.wait_metric("outbox_ops", &[("state", "waiting")], |waiting| waiting < 0.5).await;
        round.events = room.view().await.by_bot().filter(|event| !Putter::is_from(&event.content)).count() as f64;
        self.watcher.forget();
        round
    }

    /// Webhook and PUT in turns; whether each is critical and when each was sent.
    async fn turns(
        &mut self,
        pace: &Pace,
        count: usize,
        route: &str,
        putter: &Putter,
    ) -> (Vec<(String, bool, Instant)>, Vec<(String, Instant)>) {
        let port = self.receiver.url().rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
        // One that waits for its answer does not hold up the next.
        let (mut posts, mut puts) = (JoinSet::new(), JoinSet::new());
        let mut at = tokio::time::Instant::now();
        for turn in 0..count {
            sleep_until(at).await;
            self.group += 1;
            let (group, critical) = (self.group, pace.with_criticals && turn % CRITICAL == CRITICAL - 1);
            let mut request = Request::in_route(route, ALERTS, critical);
            posts.spawn(async move {
                let mut connection = Connection::to(port).await;
                let sent = Instant::now();
                connection.accepted(request.about(group)).await;
                (Request::name(group), critical, sent)
            });
            sleep_until(at + pace.each / 2).await;
            let putter = putter.clone();
            puts.spawn(async move { putter.put().await });
            at += pace.each;
        }
        (posts.join_all().await, puts.join_all().await)
    }
}
