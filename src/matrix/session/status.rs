//! What health, metrics and the log show of the homeserver.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{sync::watch, time::timeout};

use crate::{
    matrix::context::{Context, lock},
    model::{Reason, SendError},
    pacing::SayOnce,
};

/// How long the first event to an encrypted room waits for a sync with members.
const MEMBERS_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether the homeserver is available, and whether a sync has succeeded on the present connection.
pub(crate) struct HomeserverStatus {
    context: Arc<Context>,
    logged: Mutex<SayOnce>,
    synced: watch::Sender<bool>,
    /// Whether the last sync included who is in the rooms.
    members_synced: watch::Sender<bool>,
}

impl HomeserverStatus {
    pub fn new(context: Arc<Context>) -> Self {
        Self {
            context,
            logged: Mutex::default(),
            synced: watch::Sender::new(false),
            members_synced: watch::Sender::new(false),
        }
    }

    /// Reports that the homeserver cannot be used.
    pub fn report_down(&self, error: &SendError) {
        self.context.metrics.homeserver_up.set(0);
        // Health shows no reason beside the text, and a rejected token must be recognisable there.
        let text = match error.reason {
            Reason::TokenRejected => format!("token rejected: {}", error.detail),
            _ => error.detail.clone(),
        };
        self.context.health.update(|health| health.homeserver_fault = Some(text.clone()));
        if lock(&self.logged).should_log(&text) {
            let homeserver = self.host();
            tracing::warn!(homeserver, reason = error.reason.as_str(), error = text, "cannot send to the homeserver");
        }
    }

    /// Reports that the homeserver answers and accepts the token.
    pub fn report_up(&self) {
        self.context.metrics.homeserver_up.set(1);
        self.context.health.update(|health| health.homeserver_fault = None);
        if lock(&self.logged).clear() {
            tracing::info!(homeserver = self.host(), "homeserver reachable again");
        }
    }

    /// Reports a sync, or what replaces it for a session without keys.
    pub fn report_sync(&self) {
        let clock = &self.context.clock;
        self.context.metrics.last_sync.set(clock.wall().0 as f64 / 1000.0);
        self.context.health.update(|health| {
            health.last_sync = Some(clock.now());
            health.sync_fault = None;
        });
        self.report_up();
        if !self.synced.send_replace(true) {
            tracing::info!("in sync with the homeserver");
        }
    }

    /// Forgets the syncs of the last connection.
    pub fn reset_synced(&self) {
        self.synced.send_replace(false);
        self.members_synced.send_replace(false);
    }

    /// Records whether the last sync included who is in the rooms.
    pub fn set_members_synced(&self, synced: bool) {
        self.members_synced.send_replace(synced);
    }

    /// Waits before an encryption until syncs include members. The first such sync makes the SDK request all of them, and
    /// that makes a new room key: an event just before would use a key of its own. A slow sync is waited for once.
    pub async fn wait_for_members(&self) {
        let mut synced = self.members_synced.subscribe();
        if timeout(MEMBERS_TIMEOUT, synced.wait_for(|synced| *synced)).await.is_err() {
            self.members_synced.send_replace(true);
        }
    }

    pub fn synced(&self) -> watch::Receiver<bool> {
        self.synced.subscribe()
    }

    fn host(&self) -> &str {
        self.context.config.homeserver.host_str().unwrap_or_default()
    }
}
