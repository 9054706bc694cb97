//! Keeping the trust of the account up: made when the first room is encrypted, looked at again now and then.

use std::{sync::Mutex, time::Duration};

use matrix_sdk::Client;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::trust;
use crate::{
    config::Credential,
    health::Trust,
    matrix::{Account, lock},
    pacing::Backoff,
};

/// All requests of one try.
const TRY_TIMEOUT: Duration = Duration::from_mins(1);
const FIRST_PAUSE: Duration = Duration::from_secs(30);
const LAST_PAUSE: Duration = Duration::from_mins(15);
/// Somebody may have given the account another identity meanwhile.
const LOOK_AGAIN: Duration = Duration::from_hours(1);
/// The first events of a device may wait as long for its signature: clients judge an event when it arrives.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct TrustUpkeep {
    /// When to try next, and how long to wait after a failure.
    next: Mutex<(Option<Instant>, Backoff)>,
    /// Whether a try has ended, well or not. Sends to encrypted rooms wait for the first.
    tried: watch::Sender<bool>,
}

impl Default for TrustUpkeep {
    fn default() -> Self {
        Self { next: Mutex::new((None, Backoff::new(FIRST_PAUSE, LAST_PAUSE))), tried: watch::Sender::new(false) }
    }
}

impl Account {
    /// Called between syncs. Does nothing for an account all of whose rooms are plain, or before its time.
    pub(crate) async fn maintain_trust(&self, client: &Client) {
        self.check_for_copy();
        let due = lock(&self.trust_upkeep.next).0.is_none_or(|at| at <= Instant::now());
        if !due || !client.joined_rooms().iter().any(|room| room.encryption_state().is_encrypted()) {
            return;
        }
        let password = match &self.setup.config.credential {
            Some(Credential::Password(password)) => Some(password),
            _ => None,
        };
        let Ok(api) = self.api() else { return };
        let established = match timeout(TRY_TIMEOUT, trust::establish(client, api, &self.recovery_kit, password)).await
        {
            Ok(established) => established.and_then(|made| self.keep_recovery_key(made)),
            Err(_) => Err(trust::Distrust::Failed("no answer in time".to_owned())),
        };
        let pause = {
            let mut next = lock(&self.trust_upkeep.next);
            let pause = if established.is_ok() { LOOK_AGAIN } else { next.1.pause() };
            if established.is_ok() {
                next.1.reset();
            }
            next.0 = Some(Instant::now() + pause);
            pause
        };
        match established {
            Ok(()) => self.report_trust(&Trust::Signed { key_only_here: self.is_only_copy() }),
            Err(fault) => {
                tracing::debug!(pause_s = pause.as_secs(), "trust is tried again later");
                self.report_trust(&Trust::Unsigned(fault.to_string()));
            }
        }
        self.trust_upkeep.tried.send_replace(true);
    }

    fn keep_recovery_key(&self, made: Option<trust::NewKey>) -> Result<(), trust::Distrust> {
        let Some(made) = made else { return Ok(()) };
        if made.replaces {
            tracing::warn!(
                "the account had recovery set up, for an identity that is gone; a new recovery key replaces it"
            );
        }
        self.recovery_kit.keep(&made.key).map_err(|error| trust::Distrust::Failed(format!("{error:#}")))
    }

    /// Naming a copy in the config, or taking the file away, is how the operator says that there is one.
    fn is_only_copy(&self) -> bool {
        self.recovery_kit.configured.is_none() && self.recovery_kit.is_here()
    }

    fn check_for_copy(&self) {
        let trust = self.setup.health.update(|health| health.trust.clone());
        if let Trust::Signed { key_only_here: true } = trust
            && !self.is_only_copy()
        {
            self.report_trust(&Trust::Signed { key_only_here: false });
        }
    }

    fn report_trust(&self, trust: &Trust) {
        self.setup.metrics.device_signed.set(i64::from(matches!(trust, Trust::Signed { .. })));
        let before = self.setup.health.update(|health| std::mem::replace(&mut health.trust, trust.clone()));
        if before == *trust {
            return;
        }
        match (&before, trust) {
            (_, Trust::NotNeeded) => {}
            (_, Trust::Unsigned(fault)) => tracing::warn!("clients will show a warning on encrypted messages: {fault}"),
            (Trust::Signed { key_only_here: true }, Trust::Signed { .. }) => {
                tracing::info!("the recovery key is kept elsewhere");
            }
            (_, Trust::Signed { key_only_here }) => {
                tracing::info!("the device is signed by the account's identity: clients show no warning");
                if *key_only_here {
                    tracing::warn!(
                        "the account's recovery key lies in store.path as recovery-key and nowhere else: keep a copy in \
                         a safe place, then delete that file or name the copy in matrix.recovery_key_file"
                    );
                }
            }
        }
    }

    /// Before something is encrypted for the first time: the device should be signed by then. A try that takes too long
    /// is not waited for again.
    pub(crate) async fn await_trust(&self, client: &Client) {
        if let Ok(Some(device)) = client.encryption().get_own_device().await
            && device.is_cross_signed_by_owner()
        {
            return;
        }
        self.await_try().await;
    }

    /// Before a key is looked for in the backup, which a new device gets at only in the course of the first try, some time
    /// after it is signed.
    pub(crate) async fn await_backup(&self, client: &Client) {
        if !client.encryption().backups().are_enabled().await {
            self.await_try().await;
        }
    }

    async fn await_try(&self) {
        let mut tried = self.trust_upkeep.tried.subscribe();
        if timeout(PATIENCE, tried.wait_for(|tried| *tried)).await.is_err() {
            self.trust_upkeep.tried.send_replace(true);
        }
    }
}
