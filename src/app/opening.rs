//! Opens the store. A database that is away, or refuses us, is waited for: another process of ours may be serving, and
//! whoever repairs the database should not have to restart anything.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use crate::{
    clock::Clock,
    config,
    health::Health,
    metrics::Metrics,
    pacing::SayOnce,
    store::{Store, StoreError},
};

/// Between two tries.
const TRY_EVERY: Duration = Duration::from_secs(1);

/// Opens the store of a database server, trying until it can be opened. `/healthz` says what is wrong meanwhile.
///
/// # Errors
/// When `store.path` cannot be used, which no database brings in order.
pub async fn open_at_last(
    config: &config::Store,
    clock: &Clock,
    metrics: &Arc<Metrics>,
    health: &Arc<Health>,
) -> Result<Store, StoreError> {
    let mut fault = SayOnce::default();
    loop {
        let opened = Store::open_as_configured(config, clock.clone(), Arc::clone(metrics), Arc::clone(health)).await;
        match opened {
            Ok(store) => {
                if fault.clear() {
                    tracing::info!("the store is open");
                }
                health.update(|health| health.store_fault = None);
                return Ok(store);
            }
            Err(error @ (StoreError::Folder { .. } | StoreError::InUse { .. })) => return Err(error),
            Err(error) => {
                if fault.should_log(&error.to_string()) {
                    tracing::error!(%error, "cannot open the store; will retry");
                }
                health.update(|health| health.store_fault = Some(error.to_string()));
            }
        }
        sleep(TRY_EVERY).await;
    }
}
