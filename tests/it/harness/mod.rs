//! What the integration tests stand on: real servers as child processes, a proxy that breaks the network on command,
//! and the room as a second user reads it.
//!
//! Everything listens on 127.0.0.1 and dies with the test process. Nothing sleeps for a fixed time: a test waits for a
//! condition and names the deadline.

#![expect(dead_code, reason = "the harness offers a whole; no one test needs all of it")]

pub mod alertmanager;
pub mod authority;
pub mod browser;
pub mod cluster_link;
pub mod crypto;
pub mod dendrite;
pub mod homeserver;
pub mod http;
pub mod loki;
pub mod payload;
pub mod postgres;
pub mod process;
pub mod prometheus;
pub mod proxy;
pub mod receiver;
pub mod receiver_config;
pub mod replicas;
pub mod room;
pub mod samples;
pub mod source;
pub mod store;
pub mod synapse;
pub mod user;
pub mod view;
pub mod wall_clock;
pub mod webhook;

use std::time::Duration;

use tokio::time::Instant;

use self::process::free_port;
pub use self::{
    alertmanager::{AlertToPost, Alertmanager, AlertmanagerConfig, Silence},
    authority::{Authority, Leaf},
    browser::{Browser, NARROW, WIDE},
    cluster_link::ClusterLink,
    crypto::{Reader, caught_up},
    homeserver::{Homeserver, Software},
    loki::Loki,
    payload::{Alert, Payload, at, fixture},
    postgres::{Database, PgBouncer, Postgres, PostgresConfig, PostgresProxy, SmallDisk, Statement, StatementFault},
    prometheus::{Prometheus, PrometheusConfig, Switch},
    proxy::{Exchange, Fault, FaultProxy, Kind, Match, Outcome, Reply},
    receiver::{Receiver, StartFailure},
    receiver_config::ReceiverBuilder,
    room::{Room, Scene},
    samples::Samples,
    source::{Manner, Source},
    store::only_sqlite,
    user::{NewRoom, User},
    view::{RoomEvent, RoomView},
    wall_clock::WallClock,
    webhook::WebhookCapture,
};

/// Long enough for a loaded two-core machine; a test that gets here has failed, not been slow.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// How often a condition is looked at again.
const POLL: Duration = Duration::from_millis(50);

/// The sources that register metrics, one after the other.
pub fn metric_sources() -> String {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/metrics");
    let files = std::fs::read_dir(&folder).expect("src/metrics");
    files.map(|file| std::fs::read_to_string(file.expect("a file").path()).expect("a source")).collect()
}

/// Lets this process open as many files as a flood of connections takes, beside those of the other tests.
///
/// # Panics
/// When the machine does not let it.
pub fn open_files() {
    let own = std::process::id().to_string();
    let raised = std::process::Command::new("prlimit").args(["--pid", &own, "--nofile=8192:"]).status();
    assert!(raised.expect("prlimit (util-linux)").success(), "8,192 open files are needed");
}

/// Asks until there is an answer.
///
/// # Panics
/// When `probe` still says `None` at the deadline.
pub async fn eventually<T>(what: &str, deadline: Duration, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + deadline;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(Instant::now() < end, "not within {deadline:?}: {what}");
        tokio::time::sleep(POLL).await;
    }
}
