//! The lease in the store that replicas share.

use tokio::sync::watch;

use super::{Leader, Lease};
use crate::store::{Epoch, Store, StoreError};

/// The lease of a store, for one replica.
pub struct StoreLease {
    pub store: Store,
    /// `store.replica`.
    pub replica: String,
}

impl Lease for StoreLease {
    type Epoch = Epoch;

    async fn leader(&self) -> Result<Option<Leader<Epoch>>, StoreError> {
        let leader = self.store.leader().await?;
        Ok(leader.map(|leader| Leader { replica: leader.replica, epoch: leader.epoch, left: leader.left }))
    }

    async fn take(&self) -> Result<Option<Epoch>, StoreError> {
        self.store.take_lead(&self.replica).await
    }

    async fn keep(&self, epoch: &Epoch) -> Result<bool, StoreError> {
        self.store.keep_lead(epoch).await
    }

    async fn give_up(&self, epoch: &Epoch) -> Result<(), StoreError> {
        self.store.give_up_lead(epoch).await
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.store.lease_changes()
    }
}
