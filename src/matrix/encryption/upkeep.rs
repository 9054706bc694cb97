//! When the device gets signed: with the first encrypted room, and again now and then.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use matrix_sdk::Client;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::{
    recovery::RecoveryFiles,
    room_keys::encrypted_rooms,
    trust::{self, NewRecoveryKey, TrustError},
};
use crate::{
    health::Trust,
    matrix::context::{Context, lock},
    pacing::Backoff,
};

/// The time limit for all requests of one attempt.
const ATTEMPT_TIMEOUT: Duration = Duration::from_mins(1);
const FIRST_PAUSE: Duration = Duration::from_secs(30);
const MAX_PAUSE: Duration = Duration::from_mins(15);
/// How soon to try again while the account has no identity and another replica may have to make it.
pub(crate) const LEADER_PAUSE: Duration = Duration::from_secs(1);
/// How often to check the signature: another client may give the account another identity.
const CHECK_INTERVAL: Duration = Duration::from_hours(1);
/// How long the first events of a device wait for its signature: clients judge an event when it arrives.
const WAIT: Duration = Duration::from_secs(10);

/// Keeps the device signed by the account's identity.
pub(crate) struct TrustUpkeep {
    context: Arc<Context>,
    /// Whether this replica leads; `None`: there are no others.
    leads: Option<watch::Receiver<bool>>,
    recovery: RecoveryFiles,
    schedule: Mutex<Schedule>,
    /// Whether the last attempt found that another replica has to make the identity.
    waits_for_leader: AtomicBool,
    /// Whether an attempt has ended, successful or not. Sends to encrypted rooms wait for the first.
    attempted: watch::Sender<bool>,
}

struct Schedule {
    next: Instant,
    backoff: Backoff,
}

impl TrustUpkeep {
    pub fn new(context: &Arc<Context>, leads: Option<watch::Receiver<bool>>) -> Self {
        Self {
            leads,
            recovery: RecoveryFiles::new(&context.store_path, &context.config),
            context: Arc::clone(context),
            schedule: Mutex::new(Schedule { next: Instant::now(), backoff: Backoff::new(FIRST_PAUSE, MAX_PAUSE) }),
            waits_for_leader: AtomicBool::new(false),
            attempted: watch::Sender::new(false),
        }
    }

    /// Whether the next attempt is due within a second, so that no sync may take longer.
    pub fn waits_for_leader(&self) -> bool {
        self.waits_for_leader.load(Ordering::Relaxed)
    }

    /// Signs the device if that is due and a room is encrypted. It runs between syncs, since both upload keys.
    pub async fn maintain(&self, client: &Client) {
        self.check_for_copy();
        let due = lock(&self.schedule).next <= Instant::now();
        if !due || encrypted_rooms(client).next().is_none() {
            return;
        }
        let Ok(api) = self.context.api() else { return };
        // Two replicas that start together would make two identities, and the second would replace the first.
        let may_create = self.leads.as_ref().is_none_or(|leads| *leads.borrow());
        let attempt = trust::establish(client, api, &self.recovery, self.context.password(), may_create);
        let established = match timeout(ATTEMPT_TIMEOUT, attempt).await {
            Ok(established) => established.and_then(|new| self.store_recovery_key(new)),
            Err(_) => Err(TrustError::Failed("no answer in time".to_owned())),
        };
        let waits = matches!(established, Err(TrustError::WaitsForLeader));
        self.waits_for_leader.store(waits, Ordering::Relaxed);
        if waits {
            // Until somebody leads, which may be this replica in a moment. Sends wait for the attempt after that.
            lock(&self.schedule).next = Instant::now() + LEADER_PAUSE;
            self.report(&Trust::Unsigned(TrustError::WaitsForLeader.to_string()));
            return;
        }
        let pause = self.schedule_next(established.is_ok());
        match established {
            Ok(()) => self.report(&Trust::Signed { key_only_here: self.is_only_copy() }),
            Err(error) => {
                tracing::debug!(pause_s = pause.as_secs(), "cannot sign the device; will retry");
                self.report(&Trust::Unsigned(error.to_string()));
            }
        }
        self.attempted.send_replace(true);
    }

    fn schedule_next(&self, succeeded: bool) -> Duration {
        let mut schedule = lock(&self.schedule);
        let pause = if succeeded {
            schedule.backoff.reset();
            CHECK_INTERVAL
        } else {
            schedule.backoff.pause()
        };
        schedule.next = Instant::now() + pause;
        pause
    }

    fn store_recovery_key(&self, new: Option<NewRecoveryKey>) -> Result<(), TrustError> {
        let Some(new) = new else { return Ok(()) };
        if new.replaces {
            tracing::warn!("new recovery key replaces a lost identity's");
        }
        self.recovery.write_key(&new.key).map_err(|error| TrustError::disk(&error))
    }

    /// Whether `store.path` has the only copy of the recovery key. The operator denies it by naming a copy in the config
    /// or removing the file.
    fn is_only_copy(&self) -> bool {
        self.recovery.configured.is_none() && self.recovery.has_key_file()
    }

    fn check_for_copy(&self) {
        let trust = self.context.health.update(|health| health.trust.clone());
        if trust == (Trust::Signed { key_only_here: true }) && !self.is_only_copy() {
            self.report(&Trust::Signed { key_only_here: false });
        }
    }

    fn report(&self, trust: &Trust) {
        self.context.metrics.device_signed.set(i64::from(matches!(trust, Trust::Signed { .. })));
        let before = self.context.health.update(|health| std::mem::replace(&mut health.trust, trust.clone()));
        if before == *trust {
            return;
        }
        match (&before, trust) {
            (_, Trust::NotNeeded) => {}
            (_, Trust::Unsigned(error)) => tracing::warn!(error, "device not signed; clients show a warning"),
            (Trust::Signed { key_only_here: true }, Trust::Signed { .. }) => {
                tracing::info!("recovery key has another copy");
            }
            (_, Trust::Signed { key_only_here }) => {
                tracing::info!("device signed by the account's identity");
                if *key_only_here {
                    tracing::warn!(
                        advice = "keep a copy of store.path/recovery-key in a safe place, then delete that file or set \
                                  matrix.recovery_key_file to the copy",
                        "recovery key has no copy outside of store.path"
                    );
                }
            }
        }
    }

    /// Waits before the first encryption, so that the device is signed by then. A slow attempt is waited for once.
    pub async fn wait_until_signed(&self, client: &Client) {
        if let Ok(Some(device)) = client.encryption().get_own_device().await
            && device.is_cross_signed_by_owner()
        {
            return;
        }
        self.wait_for_attempt().await;
    }

    /// Waits before a key is requested from the backup, which a new device opens in the course of the first attempt,
    /// some time after it is signed.
    pub async fn wait_for_backup(&self, client: &Client) {
        if !client.encryption().backups().are_enabled().await {
            self.wait_for_attempt().await;
        }
    }

    async fn wait_for_attempt(&self) {
        let mut attempted = self.attempted.subscribe();
        if timeout(WAIT, attempted.wait_for(|attempted| *attempted)).await.is_err() {
            self.attempted.send_replace(true);
        }
    }
}
