//! Takes the samples of the history.

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::http::state::App;

const SAMPLE_EVERY: Duration = Duration::from_secs(15);
/// Takes samples until `stop`.
pub async fn sample(app: Arc<App>, stop: CancellationToken) {
    let mut every = interval(SAMPLE_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = every.tick() => app.history.take(app.clock.now(), app.metrics.totals()),
        }
    }
}
