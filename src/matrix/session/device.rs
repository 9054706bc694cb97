//! The device that sends, across restarts.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use crate::{
    delivery::BoxFuture,
    health::Health,
    matrix::context::lock,
    model::{NoKeys, Timestamp},
};

/// Stores a device id for the next start.
pub type SaveDevice = Arc<dyn Fn(String) -> BoxFuture<'static, anyhow::Result<()>> + Send + Sync>;

/// Begins what replaces the device of a token that has none.
const NO_DEVICE: &str = "no device";

/// The device of the session, and the one that the next start will find.
pub(crate) struct Device {
    current: Mutex<Option<String>>,
    saved: Mutex<Option<String>>,
    save: SaveDevice,
    /// Sends of this run without the SDK.
    sends_without_keys: AtomicU64,
}

impl Device {
    pub fn new(known: Option<String>, save: SaveDevice) -> Self {
        Self {
            current: Mutex::new(known.clone()),
            saved: Mutex::new(known),
            save,
            sends_without_keys: AtomicU64::new(0),
        }
    }

    pub fn current(&self) -> Option<String> {
        lock(&self.current).clone()
    }

    pub fn set(&self, device: Option<String>) {
        *lock(&self.current) = device;
    }

    /// Whether this is the device of the last session with keys.
    pub fn is_saved(&self, device: &str) -> bool {
        lock(&self.saved).as_deref() == Some(device)
    }

    pub async fn save(&self, device: &str) {
        if self.is_saved(device) {
            return;
        }
        match (self.save)(device.to_owned()).await {
            Ok(()) => *lock(&self.saved) = Some(device.to_owned()),
            Err(error) => tracing::warn!(device, error = format!("{error:#}"), "cannot store the device id"),
        }
    }

    pub fn count_send_without_keys(&self) {
        self.sends_without_keys.fetch_add(1, Ordering::Relaxed);
    }

    /// The device that homeservers remember transaction ids for. Without one they forget the ids at their next restart;
    /// so each send then counts as from another device, and an event in doubt is searched in the room.
    pub fn for_transactions(&self, health: &Health) -> Option<String> {
        self.current().or_else(|| {
            let (no_keys, started_at) = health.update(|health| (health.no_keys, health.started_at));
            let sends = self.sends_without_keys.load(Ordering::Relaxed);
            let Timestamp(run) = started_at.unwrap_or(Timestamp(0));
            (no_keys == Some(NoKeys::NoDevice)).then(|| format!("{NO_DEVICE} {run}-{sends}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_send_of_a_token_without_device_counts_as_from_another() {
        let save: SaveDevice = Arc::new(|_| Box::pin(async { Ok(()) }));
        let (device, health) = (Device::new(None, save), Health::default());
        assert_eq!(device.for_transactions(&health), None, "not known yet");
        health.update(|health| health.no_keys = Some(NoKeys::NoDevice));
        let before = device.for_transactions(&health);
        device.count_send_without_keys();
        assert!(before.is_some() && device.for_transactions(&health) != before);
        device.set(Some("D".to_owned()));
        assert_eq!(device.for_transactions(&health).as_deref(), Some("D"));
        device.save("D").await;
        assert!(device.is_saved("D") && !device.is_saved("E"));
    }
}
