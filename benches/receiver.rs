//! How fast, how small, how soon: every figure beside a baseline that is measured in the same run, in alternating
//! rounds, so that a busy machine slows both. `docs/PERFORMANCE.md` says what the figures mean.
//!
//! `QUICK=1` tries it out in two minutes; its figures are good for nothing else. The exit code tells whether
//! everything ran, never whether a figure is good.

#![expect(clippy::disallowed_methods, reason = "real servers run on real time")]
#![expect(clippy::print_stdout, reason = "the tables are the result")]

#[path = "receiver/bare.rs"]
mod bare;
#[path = "receiver/commit.rs"]
mod commit;
#[path = "receiver/databases.rs"]
mod databases;
#[path = "receiver/evidence.rs"]
mod evidence;
#[path = "receiver/footprint.rs"]
mod footprint;
#[path = "receiver/graph.rs"]
mod graph;
#[allow(unused_imports, reason = "the harness offers a whole; this needs a part of it")]
#[path = "../tests/it/harness/mod.rs"]
mod harness;
#[path = "receiver/incidents.rs"]
mod incidents;
#[path = "receiver/load.rs"]
mod load;
#[path = "receiver/poll.rs"]
mod poll;
#[path = "receiver/program.rs"]
mod program;
#[path = "receiver/relay.rs"]
mod relay;
#[path = "receiver/rooms.rs"]
mod rooms;
#[path = "receiver/storm.rs"]
mod storm;
#[path = "receiver/subject.rs"]
mod subject;
#[path = "receiver/table.rs"]
mod table;
#[path = "receiver/watcher.rs"]
mod watcher;
#[path = "receiver/webhooks.rs"]
mod webhooks;

use std::time::Duration;

use table::Table;

/// How much of everything: enough for medians, or just enough to see that it runs.
#[derive(Debug, Clone, Copy)]
struct Extent {
    quick: bool,
    /// Rounds of webhooks, and how long each lasts.
    rounds: usize,
    round: Duration,
    /// Single deliveries, timed one by one.
    singles: usize,
    /// Rounds of events into one room, and events in each.
    room_rounds: usize,
    room_events: usize,
    /// Rounds of new incidents at each pace.
    incident_rounds: usize,
    /// Groups of 20 alerts that the store holds when memory and starts are measured.
    groups: usize,
    /// Groups of 10 alerts that the polled Alertmanager has.
    polled: usize,
    starts: usize,
    storms: usize,
}

impl Extent {
    fn from_environment() -> Self {
        let quick = std::env::var("QUICK").is_ok_and(|value| !["", "0"].contains(&value.as_str()));
        if quick {
            let (rounds, round) = (2, Duration::from_secs(1));
            Self {
                quick,
                rounds,
                round,
                singles: 8,
                room_rounds: 2,
                room_events: 12,
                incident_rounds: 1,
                groups: 50,
                polled: 20,
                starts: 3,
                storms: 1,
            }
        } else {
            let (rounds, round) = (7, Duration::from_secs(3));
            Self {
                quick,
                rounds,
                round,
                singles: 60,
                room_rounds: 6,
                room_events: 50,
                incident_rounds: 3,
                groups: 5_000,
                polled: 500,
                starts: 9,
                storms: 3,
            }
        }
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    // The baseline of the webhooks is this very program, started again as a server.
    match bare::Role::from_environment() {
        Some(role) => runtime.block_on(role.serve()),
        None => runtime.block_on(measure(Extent::from_environment())),
    }
}

async fn measure(extent: Extent) {
    let subject = subject::Subject::new();
    println!("{}", subject.facts(extent.quick));
    let mut table = Table::default();
    // All of it, or the parts that ONLY names.
    let only = std::env::var("ONLY").unwrap_or_default();
    let wants = |part: &str| only.is_empty() || only.split(',').any(|named| named == part);
    if wants("program") {
        program::measure(&subject, &mut table);
    }
    if wants("webhooks") {
        webhooks::measure(&subject, extent, &mut table).await;
    }
    if wants("databases") {
        databases::measure(&subject, extent, &mut table).await;
    }
    if wants("poll") {
        poll::measure(&subject, extent, &mut table).await;
    }
    if wants("graph") {
        graph::measure(extent, &mut table).await;
    }
    if !["rooms", "incidents", "evidence", "storm", "memory"].into_iter().any(wants) {
        println!("\n{table}");
        return;
    }
    let synapse = harness::Homeserver::private().await;
    if wants("rooms") {
        rooms::measure(&subject, &synapse, extent, &mut table).await;
        rooms::encrypted(&subject, &synapse, extent, &mut table).await;
    }
    if wants("incidents") {
        incidents::measure(&subject, &synapse, extent, &mut table).await;
    }
    if wants("evidence") {
        evidence::measure(&subject, &synapse, extent, &mut table).await;
    }
    if wants("storm") {
        storm::measure(&subject, &synapse, extent, &mut table).await;
    }
    if wants("memory") {
        footprint::measure(&subject, &synapse, extent, &mut table).await;
    }
    println!("\n{table}");
}
