//! The device that sends, across restarts.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::Context as _;

use super::session_file::{remove_if_exists, write_private};
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
            let no_keys = health.update(|health| health.no_keys);
            let sends = self.sends_without_keys.load(Ordering::Relaxed);
            (no_keys == Some(NoKeys::NoDevice)).then(|| without_id(health, sends))
        })
    }
}

/// Stands for the device of a token that has none, after so many sends of this run.
pub(super) fn without_id(health: &Health, sends: u64) -> String {
    let Timestamp(run) = health.update(|health| health.started_at).unwrap_or(Timestamp(0));
    format!("{NO_DEVICE} {run}-{sends}")
}

fn file_of(store: &Path) -> PathBuf {
    store.join("device")
}

/// Removes what [`in_file`] keeps.
pub(crate) fn forget(store: &Path) -> anyhow::Result<()> {
    let path = file_of(store);
    remove_if_exists(&path).with_context(|| format!("cannot remove {}", path.display()))
}

/// The device of the last run of a receiver that has replicas, and how to store it: in a file of `store.path` instead of
/// the store, which all replicas share. The keys of the device are in that folder too, so both are lost or kept together.
pub(crate) fn in_file(store: &Path) -> (Option<String>, SaveDevice) {
    let path = file_of(store);
    let known = fs::read_to_string(&path).ok().map(|text| text.trim().to_owned()).filter(|device| !device.is_empty());
    let save: SaveDevice = Arc::new(move |device| {
        let path = path.clone();
        Box::pin(async move {
            tokio::task::spawn_blocking(move || write_private(&path, format!("{device}\n").as_bytes())).await?
        })
    });
    (known, save)
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

    #[tokio::test]
    async fn a_replica_keeps_its_device_in_its_folder() {
        let home = tempfile::tempdir().unwrap();
        let (known, save) = in_file(home.path());
        assert_eq!(known, None);
        save("OWN".to_owned()).await.unwrap();
        assert_eq!(in_file(home.path()).0.as_deref(), Some("OWN"));
        forget(home.path()).unwrap();
        forget(home.path()).unwrap();
        assert_eq!(in_file(home.path()).0, None, "logged out");
        let other = tempfile::tempdir().unwrap();
        assert_eq!(in_file(other.path()).0, None, "another replica's");
    }
}
