//! Staying in step with the homeserver: one long poll after the other, for as long as the session is good.

use std::{sync::atomic::Ordering, time::Duration};

use matrix_sdk::{
    Client,
    config::SyncSettings,
    ruma::{
        api::client::{
            filter::{Filter, FilterDefinition, LazyLoadOptions, RoomEventFilter, RoomFilter},
            sync::sync_events::v3::Filter as SyncFilter,
        },
        presence::PresenceState,
        uint,
    },
};
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    Account, errors,
    pace::{Backoff, Told},
};
use crate::{
    delivery::{Reason, SendError},
    model::Timestamp,
};

/// How long the homeserver may hold a sync when there is no news.
const LONG_POLL: Duration = Duration::from_secs(30);
/// The same after a sync that brought no answer: the SDK allows the answer that much more time, which a first sync
/// of a large account may need.
const CATCH_UP: Duration = Duration::from_secs(100);
/// Two syncs are never closer than this, even if the homeserver always has news.
const MIN_INTERVAL: Duration = Duration::from_millis(200);

impl Account {
    /// Returns when the session is no longer good.
    pub(super) async fn keep_synced(&self, client: &Client) {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        let mut told = Told::default();
        // No waiting for news at first: that the sync works is the news.
        let mut poll = Duration::ZERO;
        loop {
            let began = Instant::now();
            let fault = match client.sync_once(settings(poll)).await {
                Ok(answer) => {
                    if told.is_over() {
                        tracing::info!("sync works again");
                    }
                    self.note_sync();
                    self.rooms.heed(&answer.rooms);
                    backoff.reset();
                    // Not beside a sync: both upload keys.
                    self.tend_trust(client).await;
                    poll = LONG_POLL;
                    sleep_until(began + MIN_INTERVAL).await;
                    continue;
                }
                Err(error) => errors::sdk(&error).error,
            };
            let slow = fault.reason == Reason::NoAnswer && poll == Duration::ZERO;
            poll = if slow { CATCH_UP } else { Duration::ZERO };
            self.setup.health.update(|health| health.sync_fault = Some(fault.detail.clone()));
            if told.is_news(&fault.detail) {
                tracing::warn!(reason = fault.reason.as_str(), "sync failed: {}", fault.detail);
            }
            if ends_session(&fault) || !self.is_session_good().await {
                return;
            }
            sleep(fault.retry_after.unwrap_or_else(|| backoff.pause())).await;
        }
    }

    /// A failed sync alone does not say whether the homeserver is gone or only its sync; `whoami` does.
    async fn is_session_good(&self) -> bool {
        let token = self.open.read().await.as_ref().map(|open| open.session.token.clone());
        let (Some(token), Ok(wire)) = (token, self.wire()) else { return false };
        match wire.whoami(&token).await {
            Ok(_) => self.report_up(),
            Err(fault) if ends_session(&fault) => return false,
            Err(fault) => self.report_down(&fault),
        }
        true
    }

    pub(super) fn note_sync(&self) {
        let now = self.setup.clock.now();
        self.setup.metrics.last_sync.set(unix_seconds(self.setup.clock.wall()));
        self.setup.health.update(|health| {
            health.last_sync = Some(now);
            health.sync_fault = None;
        });
        self.report_up();
        if !self.synced.swap(true, Ordering::Relaxed) {
            tracing::info!("in sync with the homeserver");
        }
    }
}

pub(super) fn ends_session(fault: &SendError) -> bool {
    matches!(fault.reason, Reason::TokenRejected | Reason::AccountRefused)
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of this age fit a float's 52 bits")]
fn unix_seconds(at: Timestamp) -> f64 {
    at.0 as f64 / 1000.0
}

/// Everything that is not needed to send is left out: presence, receipts, typing, most of the timeline.
fn settings(poll: Duration) -> SyncSettings {
    let mut timeline = RoomEventFilter::with_lazy_loading();
    timeline.limit = Some(uint!(10));
    let mut state = RoomEventFilter::empty();
    state.lazy_load_options = LazyLoadOptions::Enabled { include_redundant_members: false };
    let mut room = RoomFilter::empty();
    room.timeline = timeline;
    room.state = state;
    room.ephemeral = RoomEventFilter::ignore_all();
    room.account_data = RoomEventFilter::ignore_all();
    let mut account_data = Filter::empty();
    // What encryption keeps there; the push rules would be the bulk.
    let kept = ["m.secret_storage.*", "m.cross_signing.*", "m.megolm_backup.*", "m.org.matrix.custom.backup_disabled"];
    account_data.types = Some(kept.map(ToOwned::to_owned).to_vec());
    let mut filter = FilterDefinition::empty();
    filter.presence = Filter::ignore_all();
    filter.account_data = account_data;
    filter.room = room;
    SyncSettings::new().timeout(poll).set_presence(PresenceState::Offline).filter(SyncFilter::FilterDefinition(filter))
}
