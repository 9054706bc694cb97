//! Webhooks of 30 alerts over 64 connections, each on disk before its 200, against the same server without a store.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use super::{
    Extent,
    bare::{Bare, Reading},
    commit::Commits,
    load::{Groups, Request, TOKEN, round},
    subject::Subject,
    table::{Figures, Table, short},
};

const ALERTS: usize = 30;
const CONNECTIONS: u64 = 64;
/// Commits measured after each round, while nothing else writes.
const COMMITS: usize = 10;
/// Not counted: caches fill, the first file pages are written.
const WARM_UP: Duration = Duration::from_millis(700);

pub async fn measure(subject: &Subject, extent: Extent, table: &mut Table) {
    let new = Groups::New(Arc::new(AtomicU64::new(1_000)));
    // Where 0.1.0 was measured and the bound of 50 ms was set, the server of 0.1.0 without a store took 17 ms.
    let p99 = Some(("< 50", "< 2.9 (50 of 17 ms)"));
    compare(subject, extent, table, ("each a new group", "≥ 0.35", p99), &new).await;
    compare(subject, extent, table, ("all unchanged", "≥ 0.7", None), &Groups::Same).await;
}

/// A port of its own for each server, and a store of its own for each case.
async fn compare(
    subject: &Subject,
    extent: Extent,
    table: &mut Table,
    (case, wanted, p99): (&str, &str, Option<(&str, &str)>),
    groups: &Groups,
) {
    let receiver = subject.alone().webhook_token(TOKEN).start().await;
    let bare = Bare::start(&receiver.config_path(), Reading::Same).await;
    let in_parts = Bare::start(&receiver.config_path(), Reading::InParts).await;
    let port = receiver.url().rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let request = Request::of(ALERTS);
    let mut commits = Commits::of(request.body_len).await;
    let (mut ours, mut theirs, mut of_0_1_0) = (Side::default(), Side::default(), Side::default());
    let mut commit = Figures::default();
    for port in [port, bare.port, in_parts.port] {
        round(port, &request, CONNECTIONS, groups, WARM_UP).await;
    }
    for _ in 0..extent.rounds {
        for (side, port) in [(&mut ours, port), (&mut theirs, bare.port), (&mut of_0_1_0, in_parts.port)] {
            let round = round(port, &request, CONNECTIONS, groups, extent.round).await;
            side.rate.0.push(round.per_second);
            side.p50.0.push(round.latencies.median());
            side.p99.0.push(round.latencies.quantile(0.99));
        }
        for _ in 0..COMMITS {
            commit.push_millis(commits.one().await);
        }
    }
    let shared = receiver.metric("store_commit_commands_total", &[]).await
        / receiver.metric("store_commit_seconds_count", &[]).await;
    let what = |figure: &str| format!("webhooks of {ALERTS} alerts, {case}: {figure}");
    table.row(&what("per second"), &ours.rate, &theirs.rate, &ours.rate.by(&theirs.rate), "");
    let baseline = format!("{}: reads bodies as 0.1.0 did", of_0_1_0.rate);
    let ratio = ours.rate.by(&of_0_1_0.rate);
    table.row(&what("per second, of the server of 0.1.0 without a store"), &ours.rate, &baseline, &ratio, wanted);
    table.row(&what("p50, ms"), &ours.p50, &theirs.p50, &ours.p50.by(&theirs.p50), "");
    let bound =
        format!("< {} (100 + 10 commits of {} ms)", short(100.0 + 10.0 * commit.median()), short(commit.median()));
    let (p99, ratio) = p99.unwrap_or((&bound, ""));
    table.row(&what("p99, ms"), &ours.p99, &theirs.p99, &ours.p99.by(&theirs.p99), p99);
    let baseline = format!("{}: reads bodies as 0.1.0 did", of_0_1_0.p99);
    let by_then = ours.p99.by(&of_0_1_0.p99);
    table.row(&what("p99, ms, of the server of 0.1.0 without a store"), &ours.p99, &baseline, &by_then, ratio);
    table.row(&what("webhooks that share a commit"), &short(shared), &1, &"", "");
}

#[derive(Default)]
struct Side {
    rate: Figures,
    p50: Figures,
    p99: Figures,
}
