//! Periodic work on the store: closing stale incidents and pruning closed ones.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    http::App,
    store::{Store, StoreError},
};

/// Bounds of the time between two prunings.
const PRUNE_EVERY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_hours(1));
/// How often to check whether a reload changed `store.retention`.
const RETENTION_LOOK: Duration = Duration::from_mins(1);
/// Bounds of the time between two looks for stale incidents.
const STALE_EVERY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_mins(1));

/// Closes incidents that no webhook mentioned for `stale_after`, until `stop`.
pub async fn close_stale(app: Arc<App>, store: Store, stop: CancellationToken) {
    loop {
        let config = app.config();
        for route in config.routes.values() {
            match store.close_stale(&route.name, route.stale_after).await {
                Ok(0) => {}
                Ok(incidents) => tracing::info!(route = %route.name, incidents, "closed stale incidents"),
                Err(StoreError::NotLeader) => return,
                Err(error) => tracing::warn!(%error, "closing stale incidents failed; will retry"),
            }
        }
        let shortest = config.routes.values().map(|route| route.stale_after).min().unwrap_or(STALE_EVERY.1);
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep((shortest / 4).clamp(STALE_EVERY.0, STALE_EVERY.1)) => {}
        }
    }
}

/// Removes incidents that were closed longer than `store.retention` ago, until `stop`.
pub async fn prune(app: Arc<App>, store: Store, stop: CancellationToken) {
    let mut pruned: Option<Instant> = None;
    loop {
        let retention = app.config().store.retention;
        let every = (retention / 4).clamp(PRUNE_EVERY.0, PRUNE_EVERY.1);
        if pruned.is_none_or(|at| at.elapsed() >= every) {
            match store.prune(retention).await {
                Ok(0) => {}
                Ok(rows) => tracing::info!(rows, "pruned closed incidents"),
                Err(StoreError::NotLeader) => return,
                Err(error) => tracing::warn!(%error, "pruning failed; will retry"),
            }
            pruned = Some(Instant::now());
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(every.min(RETENTION_LOOK)) => {}
        }
    }
}
