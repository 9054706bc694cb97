//! Webhooks on PostgreSQL, each committed to disk before its 200, against the same receiver on SQLite.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use super::{
    Extent,
    load::{Groups, Request, TOKEN, round},
    subject::Subject,
    table::{Figures, Table, short},
};
use crate::harness::{Postgres, PostgresConfig, Receiver};

const ALERTS: usize = 30;
/// Many at once share commits; one alone waits for each of its statements.
const CONNECTIONS: [u64; 2] = [64, 1];
/// Not counted: caches fill, the first pages are written.
const WARM_UP: Duration = Duration::from_millis(700);

pub async fn measure(subject: &Subject, extent: Extent, table: &mut Table) {
    let server = Postgres::with(&PostgresConfig::durable());
    let database = server.database();
    let shared = subject.alone().webhook_token(TOKEN).set("store.database_url", database.url()).start().await;
    let embedded = subject.alone().webhook_token(TOKEN).start().await;
    let new = Groups::New(Arc::new(AtomicU64::new(1_000)));
    for connections in CONNECTIONS {
        let both = [&shared, &embedded];
        compare(both, connections, extent, table, ("each a new group", "≥ 0.2"), &new).await;
        compare(both, connections, extent, table, ("all unchanged", "≥ 0.2"), &Groups::Same).await;
    }
}

async fn compare(
    receivers: [&Receiver; 2],
    connections: u64,
    extent: Extent,
    table: &mut Table,
    (case, wanted): (&str, &str),
    groups: &Groups,
) {
    let request = Request::of(ALERTS);
    let ports = receivers.map(|receiver| {
        let url = receiver.url();
        url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port")
    });
    for port in ports {
        round(port, &request, connections, groups, WARM_UP).await;
    }
    let mut sides: [[Figures; 3]; 2] = Default::default();
    for _ in 0..extent.rounds {
        for (side, port) in sides.iter_mut().zip(ports) {
            let round = round(port, &request, connections, groups, extent.round).await;
            side[0].0.push(round.per_second);
            side[1].0.push(round.latencies.median());
            side[2].0.push(round.latencies.quantile(0.99));
        }
    }
    let [ours, theirs] = sides;
    for (n, figure) in ["per second", "p50, ms", "p99, ms"].into_iter().enumerate() {
        let what = format!("PostgreSQL, {connections} at once, webhooks of {ALERTS} alerts, {case}: {figure}");
        let baseline = format!("{}: SQLite", theirs[n]);
        table.row(&what, &ours[n], &baseline, &ours[n].by(&theirs[n]), if n == 0 { wanted } else { "" });
    }
    let share = receivers[0].metric("store_commit_commands_total", &[]).await
        / receivers[0].metric("store_commit_seconds_count", &[]).await;
    table.row("PostgreSQL: webhooks that share a commit, so far", &short(share), &"", &"", "");
}
