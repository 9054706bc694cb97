//! Alertmanager as far as a webhook sees it: the newest state of each group, again until it is taken.

use std::{collections::BTreeSet, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use super::plan::{Group, Planned, ROUTES, Step};
use crate::harness::{
    Payload, Receiver,
    http::{Answer, client},
};

/// Waits after a failed try double from the first to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(2));
/// Alertmanager gives a webhook ten seconds at least.
const PATIENCE: Duration = Duration::from_secs(30);

/// One group and what became of it.
#[derive(Debug)]
pub struct Sent {
    pub group: Group,
    /// The last step that was answered 2xx; `None`: none was.
    pub accepted: Option<usize>,
    /// Tries that found nobody listening.
    pub refused: usize,
    /// Tries that were answered 503.
    pub unavailable: usize,
    /// Tries that ended in any other way, in words.
    pub broken: Vec<String>,
}

impl Sent {
    /// A group whose steps until this one were taken.
    pub fn until(group: Group, step: usize) -> Self {
        Self { group, accepted: Some(step), refused: 0, unavailable: 0, broken: Vec::new() }
    }

    /// As the room must show it.
    pub fn last(&self) -> Option<&Step> {
        self.accepted.map(|step| &self.group.steps[step])
    }

    pub fn is_in(&self, room: usize) -> bool {
        ROUTES[self.group.route].1.contains(&room)
    }
}

/// A task for each group; they end when the last state of each is taken.
pub fn send_all(groups: &[Group], receiver: &Receiver, began: Instant) -> JoinSet<Sent> {
    let mut tasks = JoinSet::new();
    for group in groups {
        let url = receiver.webhook_url(ROUTES[group.route].0);
        tasks.spawn(send(group.clone(), url, began));
    }
    tasks
}

async fn send(group: Group, url: String, began: Instant) -> Sent {
    let mut sent = Sent { group, accepted: None, refused: 0, unavailable: 0, broken: Vec::new() };
    // Alertmanager lists what is resolved until a notification that said so was taken.
    let mut reported: BTreeSet<String> = BTreeSet::new();
    let mut wait = BACKOFF.0;
    let mut next = 0;
    while next < sent.group.steps.len() {
        sleep_until(began + sent.group.steps[next].at).await;
        // A failed try is followed by one with the newest state.
        let newest = sent.group.steps.iter().rposition(|step| began.elapsed() >= step.at).unwrap_or(next).max(next);
        let step = &sent.group.steps[newest];
        reported.retain(|instance| step.alerts.iter().any(|alert| alert.instance == *instance && !alert.firing()));
        let listed: Vec<&Planned> = step.alerts.iter().filter(|alert| !reported.contains(&alert.instance)).collect();
        // What was never reported as firing is never reported as over.
        if sent.accepted.is_none() && !listed.iter().any(|alert| alert.firing()) {
            next = newest + 1;
            continue;
        }
        let critical = sent.group.critical;
        let payload = listed.iter().fold(Payload::group(&sent.group.name), |all, one| all.alert(one.alert(critical)));
        let payload = sent.group.ballast(step).fold(payload, Payload::alert);
        match Answer::to(client().post(&url).timeout(PATIENCE).json(&payload.json())).await {
            Ok(answer) if answer.status == 200 => {
                reported.extend(listed.iter().filter(|alert| !alert.firing()).map(|alert| alert.instance.clone()));
                sent.accepted = Some(newest);
                (next, wait) = (newest + 1, BACKOFF.0);
                continue;
            }
            Ok(answer) if answer.status == 503 => sent.unavailable += 1,
            Ok(answer) => sent.broken.push(format!("{} {}", answer.status, answer.body)),
            Err(error) if error.is_connect() => sent.refused += 1,
            Err(error) => sent.broken.push(format!("{error:?}")),
        }
        sleep(wait).await;
        wait = (wait * 2).min(BACKOFF.1);
    }
    sent
}
