//! Calls the next person for incidents that nobody takes (`routes.X.escalate`).

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Config, Route},
    http::App,
    model::{IncidentId, Timestamp},
    store::{EscalationCandidate, EscalationStep, Store, StoreError},
};

const LOOK_EVERY: Duration = Duration::from_secs(2);
/// What became due while nobody led waits this long after a start, so that webhooks and a poll can first say
/// that it is over.
const FIRST_POLL: Duration = Duration::from_secs(30);
/// Incidents that one transaction escalates.
const BATCH: usize = 50;

/// The revisions at which incidents were not severe enough for a step, although their time had come.
type NotSevere = HashMap<(IncidentId, usize), i64>;

/// Looks until `stop`, or until another replica leads.
pub async fn watch(app: Arc<App>, store: Store, stop: CancellationToken) {
    let started = app.clock.now();
    let (mut not_severe, mut looked_by) = (NotSevere::new(), app.config());
    let mut failed = false;
    loop {
        let config = app.config();
        if !Arc::ptr_eq(&config, &looked_by) {
            not_severe.clear();
            looked_by = Arc::clone(&config);
        }
        match look(&app, &store, &config, started, &mut not_severe).await {
            Ok(()) => failed = false,
            Err(StoreError::NotLeader) => return,
            Err(error) if failed => tracing::debug!(%error, "escalating failed; will retry"),
            Err(error) => {
                failed = true;
                tracing::warn!(%error, "escalating failed; will retry");
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(LOOK_EVERY) => {}
        }
    }
}

async fn look(
    app: &App,
    store: &Store,
    config: &Arc<Config>,
    started: Timestamp,
    not_severe: &mut NotSevere,
) -> Result<(), StoreError> {
    let mut seen = NotSevere::new();
    for step in config.routes.values().flat_map(|route| steps(config, route)) {
        let fired_after = fired_after(app.clock.now(), started, step.after);
        let candidates = store.escalation_candidates(&step, fired_after).await?;
        let known = |one: &EscalationCandidate| {
            not_severe.get(&(one.incident.clone(), step.step)).is_some_and(|rev| *rev == one.rev)
        };
        let (calm, due): (Vec<_>, Vec<_>) = candidates.into_iter().partition(known);
        seen.extend(calm.into_iter().map(|one| ((one.incident, step.step), one.rev)));
        for batch in due.chunks(BATCH) {
            let ids = batch.iter().map(|one| one.incident.clone()).collect();
            let escalated = store.escalate(&step, ids).await?;
            for incident in &escalated {
                app.metrics.escalations.with_label_values(&[step.route.as_str()]).inc();
                tracing::info!(route = %step.route, %incident, step = step.step + 1, "nobody took the incident; escalated");
            }
            let rest = batch.iter().filter(|one| !escalated.contains(&one.incident));
            seen.extend(rest.map(|one| ((one.incident.clone(), step.step), one.rev)));
        }
    }
    // Those that are over are no candidates any more, and so are forgotten.
    *not_severe = seen;
    Ok(())
}

/// Of incidents that fired no later than this the time had come before the start, and the first poll has not passed;
/// `None`: it has.
fn fired_after(now: Timestamp, started: Timestamp, after: Duration) -> Option<Timestamp> {
    (now.since(started) < FIRST_POLL).then(|| started.minus(after))
}

fn steps(config: &Arc<Config>, route: &Route) -> Vec<EscalationStep> {
    let step = |(step, entry): (usize, &crate::config::Escalation)| {
        let (config, entry) = (Arc::clone(config), entry.clone());
        EscalationStep {
            route: route.name.clone(),
            step,
            after: entry.after,
            min_severity: entry.min_severity,
            concerns: Arc::new(move |alert| entry.concerns(alert, &config.display)),
        }
    };
    route.escalate.iter().enumerate().map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_due_at_the_start_waits_for_the_first_poll() {
        let minute = Duration::from_mins(1);
        let started = Timestamp(10 * 60_000);
        for (passed, expected) in [(0, Some(9 * 60_000)), (29, Some(9 * 60_000)), (30, None), (500, None)] {
            let now = started.plus(Duration::from_secs(passed));
            assert_eq!(fired_after(now, started, minute), expected.map(Timestamp), "{passed} s after the start");
        }
    }
}
