//! A storm under Synapse's default limits: how soon each of its groups is named in the room, and in how many events.

use std::time::Duration;

use futures_util::future::join_all;

use super::{
    Extent,
    subject::Subject,
    table::{Figures, Table},
};
use crate::harness::{Alert, DEADLINE, Homeserver, NewRoom, Payload, Room};

const GROUPS: usize = 200;
const ALERTS: usize = 5;
/// Every so many groups are critical.
const CRITICAL: usize = 20;
/// All webhooks come within two seconds.
const PACE: Duration = Duration::from_millis(9);
/// Synapse's default: so many messages at once, then one in so many seconds.
const BURST: usize = 10;
const EVERY: usize = 5;

pub async fn measure(subject: &Subject, synapse: &Homeserver, extent: Extent, table: &mut Table) {
    let (mut named, mut critical, mut events) = (Figures::default(), Figures::default(), Figures::default());
    for _ in 0..extent.storms {
        let storm = Storm::of(subject, synapse).await;
        named.0.push(storm.named);
        critical.0.push(storm.critical);
        events.0.push(storm.events);
    }
    let what = |figure: &str| format!("storm of {GROUPS} groups x {ALERTS} alerts, Synapse's default limits: {figure}");
    let single = format!("{GROUPS} (one for each group, reckoned)");
    table.row(&what("events"), &events, &single, &"", "≤ 12");
    let baseline = format!("{} (one event for each group, reckoned)", (GROUPS - BURST) * EVERY);
    table.row(&what("until each is named, s"), &named, &baseline, &"", "≤ 12");
    table.row(&what("until each critical one is named, s"), &critical, &"", &"", "≤ 6");
}

/// From the first webhook, in seconds of the homeserver's clock, which is this machine's.
struct Storm {
    named: f64,
    critical: f64,
    events: f64,
}

impl Storm {
    async fn of(subject: &Subject, synapse: &Homeserver) -> Self {
        let (bot, sre) = (synapse.user("alerts").await, synapse.user("sre").await);
        let room = Room::with(&sre, &bot, NewRoom::named("storm")).await;
        synapse.set_ratelimit(&bot, None).await;
        let receiver = subject.receiver(&bot, &room.id).set("routes.default.digest_above", 8).start().await;
        receiver.wait_metric("last_sync_timestamp_seconds", &[], |at| at > 0.0).await;
        let began = jiff::Timestamp::now().as_millisecond();
        let posts = (0..GROUPS).map(|number| {
            let receiver = &receiver;
            async move {
                tokio::time::sleep(PACE * u32::try_from(number).expect("few")).await;
                receiver.accept("default", group(number)).await
            }
        });
        join_all(posts).await;
        let all = |view: &crate::harness::RoomView| (0..GROUPS).all(|number| view.named_at(&name(number)).is_some());
        room.wait_for("all of them named", 4 * DEADLINE, all).await;
        let view = room.assert_settled("all of them named", Duration::from_secs(7), all).await;
        let last = |groups: &mut dyn Iterator<Item = usize>| {
            let at = groups.filter_map(|number| view.named_at(&name(number))).max().expect("a group");
            (at - began) as f64 / 1e3
        };
        Self {
            named: last(&mut (0..GROUPS)),
            critical: last(&mut (0..GROUPS).filter(|number| is_critical(*number))),
            events: view.by_bot().count() as f64,
        }
    }
}

fn name(number: usize) -> String {
    format!("Storm{number:03}")
}

fn is_critical(number: usize) -> bool {
    number % CRITICAL == 7
}

fn group(number: usize) -> Payload {
    let alert = |alert: usize| {
        let alert = Alert::firing(&format!("node{alert}"));
        if is_critical(number) { alert.critical() } else { alert }
    };
    (0..ALERTS).map(alert).fold(Payload::group(&name(number)), Payload::alert)
}
