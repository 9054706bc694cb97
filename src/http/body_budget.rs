//! Limits the bytes of webhook bodies in memory. A flood makes clients wait, then get a 503, but never fills the
//! memory.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// How long a body waits for its share of the budget.
const PATIENCE: Duration = Duration::from_secs(5);
/// The bytes of all bodies from their announcement to their commit. One body of the largest size always fits.
const BODY_BYTES: usize = 16 * 1024 * 1024;
/// Bodies are counted in units of this many bytes.
const UNIT: usize = 1024;
/// The bytes of all bodies from the start of decoding to their commit; a larger body takes all of it. A hostile body
/// takes some ten times its size once decoded, half of it for what is stored.
const DECODED_BYTES: usize = 2 * 1024 * 1024;

/// The budget that bodies share.
#[derive(Debug)]
pub struct BodyBudget {
    units: Arc<Semaphore>,
    /// All units, in use or not.
    total: Mutex<usize>,
    decoded: Arc<Semaphore>,
    patience: Duration,
}

/// A body's share of the budget; dropping it gives the share back.
#[derive(Debug)]
pub struct BodyPermit {
    _units: OwnedSemaphorePermit,
    _decoded: Option<OwnedSemaphorePermit>,
}

impl BodyBudget {
    pub fn new(max_body_bytes: usize) -> Self {
        let total = all_units(max_body_bytes);
        Self {
            units: Arc::new(Semaphore::new(total)),
            total: Mutex::new(total),
            decoded: Arc::new(Semaphore::new(DECODED_BYTES / UNIT)),
            patience: PATIENCE,
        }
    }

    /// Grows the budget for a larger `http.max_body_bytes`; it never shrinks.
    pub fn make_room(&self, max_body_bytes: usize) {
        let mut total = self.total.lock().unwrap_or_else(PoisonError::into_inner);
        let more = all_units(max_body_bytes).saturating_sub(*total);
        self.units.add_permits(more);
        *total += more;
    }

    /// Takes a share for a body of at most `bytes`; `None` if none is free in time.
    pub async fn permit(&self, bytes: usize) -> Option<BodyPermit> {
        let units = Arc::clone(&self.units).acquire_many_owned(units(bytes));
        Some(BodyPermit { _units: timeout(self.patience, units).await.ok()?.ok()?, _decoded: None })
    }

    /// Adds a share of the decoding budget, for a body of `bytes` that has arrived.
    pub async fn decode(&self, permit: BodyPermit, bytes: usize) -> Option<BodyPermit> {
        let units = Arc::clone(&self.decoded).acquire_many_owned(units(bytes.min(DECODED_BYTES)));
        let decoded = timeout(self.patience, units).await.ok()?.ok()?;
        Some(BodyPermit { _decoded: Some(decoded), ..permit })
    }
}

fn all_units(max_body_bytes: usize) -> usize {
    (units(BODY_BYTES.max(max_body_bytes)) as usize).min(Semaphore::MAX_PERMITS)
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT).max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Beyond the budget a body waits until another is finished, for a limited time.
    #[tokio::test]
    async fn bodies_share_a_budget() {
        let body_budget = BodyBudget { patience: Duration::from_millis(500), ..BodyBudget::new(4 * 1024 * 1024) };
        let mut permits = Vec::new();
        for _ in 0..4 {
            permits.push(body_budget.permit(4 * 1024 * 1024).await.expect("within the budget"));
        }
        assert!(body_budget.permit(1).await.is_none(), "the budget is spent, and nobody gives anything back");
        let waits = body_budget.permit(1);
        let gives_back = async {
            tokio::task::yield_now().await;
            permits.pop();
        };
        let (got, ()) = tokio::join!(waits, gives_back);
        assert!(got.is_some());
        let larger = BodyBudget::new(BODY_BYTES * 2);
        assert!(larger.permit(BODY_BYTES * 2).await.is_some(), "one of the largest size always has room");
        let grown = BodyBudget::new(1);
        for max_body_bytes in [BODY_BYTES * 2, 1, BODY_BYTES * 2] {
            grown.make_room(max_body_bytes);
        }
        let largest = grown.permit(BODY_BYTES * 2).await;
        assert!(largest.is_some(), "also after a reload");
        let impatient = BodyBudget { patience: Duration::from_millis(10), ..grown };
        assert!(impatient.permit(1).await.is_none(), "and no more than that");
    }
}
