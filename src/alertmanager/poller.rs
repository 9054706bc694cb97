//! Polls one Alertmanager for the routes that share it: now and then, soon after a webhook that left something absent, and
//! at once when somebody asks.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    client::Client,
    context::{Counts, PollContext},
    poll::RoutePoll,
};
use crate::config::Config;

/// How long after a webhook that left something absent: a silence reaches all peers within a quarter of a second, and the
/// webhooks of a burst share one poll.
const AFTER_ABSENCE: Duration = Duration::from_secs(2);
/// The longest pause after failures, unless `alertmanager.poll` is longer.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// The routes of one Alertmanager.
struct Poller {
    every: Option<Duration>,
    routes: Vec<(RoutePoll, Option<Instant>)>,
    absences: Counter,
    asked: Counter,
}

/// Which routes' counts have grown.
struct Counter {
    counts: watch::Receiver<Counts>,
    seen: Counts,
}

impl Counter {
    fn new(counts: watch::Receiver<Counts>) -> Self {
        let seen = counts.borrow().clone();
        Self { counts, seen }
    }

    /// Waits until some may have grown; for ever if nobody counts any more.
    async fn changed(&mut self) {
        if self.counts.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    fn grown(&mut self) -> Counts {
        let mut grown = self.counts.borrow_and_update().clone();
        grown.retain(|route, count| self.seen.get(route) != Some(count));
        self.seen.extend(grown.clone());
        grown
    }
}

/// Polls for the routes of this config that share one Alertmanager, until `stop`; `clients` are theirs.
pub async fn poll(config: Arc<Config>, clients: Vec<Client>, context: PollContext, stop: CancellationToken) {
    let (absences, asked) = (context.store.absences(), context.poll_now.0.subscribe());
    let mut every = None;
    let polls = clients.into_iter().filter_map(|client| {
        every = config.routes.get(client.route())?.alertmanager.as_ref()?.poll;
        let poll = RoutePoll::new(Arc::clone(&config), client, &context);
        Some((poll, every.map(|_| Instant::now())))
    });
    let routes = polls.collect();
    let poller = Poller { every, routes, absences: Counter::new(absences), asked: Counter::new(asked) };
    poller.run(stop).await;
}

impl Poller {
    async fn run(mut self, stop: CancellationToken) {
        loop {
            let next = self.routes.iter().filter_map(|(_, due)| *due).min();
            let due = async {
                match next {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.asked.changed() => {
                    let grown = self.asked.grown();
                    self.poll_within(&grown, Duration::ZERO);
                }
                () = self.absences.changed() => {
                    let grown = self.absences.grown();
                    if self.every.is_some() {
                        self.poll_within(&grown, AFTER_ABSENCE);
                    }
                }
                () = due => {
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = self.poll_due() => {}
                    }
                }
            }
        }
    }

    fn poll_within(&mut self, routes: &Counts, wait: Duration) {
        let at = Instant::now() + wait;
        for (poll, due) in &mut self.routes {
            if routes.contains_key(&poll.route) {
                *due = Some(due.map_or(at, |due| due.min(at)));
            }
        }
    }

    async fn poll_due(&mut self) {
        let now = Instant::now();
        for (poll, due) in &mut self.routes {
            if due.is_none_or(|due| due > now) {
                continue;
            }
            poll.run().await;
            *due = self.every.map(|every| Instant::now() + pause(every, poll.failures));
        }
    }
}

/// Twice as long after each failure in a row.
fn pause(every: Duration, failures: u32) -> Duration {
    every.saturating_mul(1 << failures.min(10)).min(every.max(LONGEST_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_with_failures_but_not_beyond_a_minute() {
        for (every, failures, expected) in [(60, 0, 60), (60, 5, 60), (300, 3, 300), (1, 0, 1), (1, 3, 8), (1, 40, 60)]
        {
            let paused = pause(Duration::from_secs(every), failures);
            assert_eq!(paused, Duration::from_secs(expected), "{every} s after {failures}");
        }
    }
}
