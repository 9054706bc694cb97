//! How much of bodies is taken in at once. A flood costs its senders a wait, at last a 503, and never memory without end.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// How long a body waits for its place.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of all bodies between their announcement and their commit. One body of the largest size always has room.
const BODY_BYTES: usize = 16 * 1024 * 1024;
/// Bodies are counted in units of this many bytes.
const UNIT: usize = 1024;
/// Bytes of all bodies between the begin of their decoding and their commit; a larger one has it all to itself. What is
/// read of a body made to hurt takes some ten times its size, once for itself and once for what is stored of it.
const DECODED_BYTES: usize = 2 * 1024 * 1024;

/// The places that bodies take.
#[derive(Debug)]
pub struct BodyBudget {
    units: Arc<Semaphore>,
    /// How many units there are, taken or not.
    total: Mutex<usize>,
    decoded: Arc<Semaphore>,
    patience: Duration,
}

/// A body's place; it is free again when this is dropped.
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

    /// A larger body may come from now on; what was made room for once stays.
    pub fn make_room(&self, max_body_bytes: usize) {
        let mut total = self.total.lock().unwrap_or_else(PoisonError::into_inner);
        let more = all_units(max_body_bytes).saturating_sub(*total);
        self.units.add_permits(more);
        *total += more;
    }

    /// A place for a body of at most `bytes`; `None`: none got free in time.
    pub async fn permit(&self, bytes: usize) -> Option<BodyPermit> {
        let units = Arc::clone(&self.units).acquire_many_owned(units(bytes));
        Some(BodyPermit { _units: timeout(self.patience, units).await.ok()?.ok()?, _decoded: None })
    }

    /// A place among those that are decoded as well, for a body of `bytes` that has arrived.
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

    /// Beyond the budget a body waits until another is done with, and only so long.
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
