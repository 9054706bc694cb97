//! Staying in step with the homeserver: one long poll after the other, for as long as the session is good.

use std::{sync::atomic::Ordering, time::Duration};

use matrix_sdk::{
    Client, Room,
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
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{Account, api::errors};
use crate::{
    model::{Reason, SendError, Timestamp},
    pacing::{Backoff, SayOnce},
};

/// How long the homeserver may hold a sync when there is nothing to tell.
const LONG_POLL: Duration = Duration::from_secs(30);
/// A sync that runs for as long makes us ask whether the homeserver is there at all, and again each time that it does.
const LIVENESS_INTERVAL: Duration = Duration::from_secs(8);
/// It must say so within this.
const LIVENESS_TIMEOUT: Duration = Duration::from_secs(5);
/// What ends sooner than this without an answer is a fault, not a poll that a proxy found too long.
const SHORTEST_CUT: Duration = Duration::from_secs(2);
/// Something between us and the homeserver may have become more patient: a longer poll is tried after this.
const LONGER_AGAIN: Duration = Duration::from_hours(6);
/// The same after a sync that brought no answer: the SDK allows the answer that much more time, which a first sync
/// of a large account may need.
const CATCH_UP: Duration = Duration::from_secs(100);
/// Events that syncs of plain rooms leave out: nothing here reads them, and the SDK would store each sender or member.
const PEOPLE: [&str; 7] =
    ["m.room.member", "m.room.message", "m.room.encrypted", "m.reaction", "m.sticker", "m.call.*", "m.poll.*"];
/// Two syncs are never closer than this, even if the homeserver always has news.
const MIN_INTERVAL: Duration = Duration::from_millis(200);

impl Account {
    /// Returns when the session is no longer good.
    pub(super) async fn keep_synced(&self, client: &Client) {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        let mut told = SayOnce::default();
        // No waiting for news at first: that the sync works is the news.
        let mut poll = Duration::ZERO;
        let mut poll_limit = PollLimit::default();
        // Whether a sync with members has ended on this connection.
        let mut had_members = false;
        loop {
            let began = Instant::now();
            // The first tells whether there is an encrypted room.
            let members = encrypted_rooms(client).next().is_some();
            let fault = match self.with_liveness_checks(client.sync_once(settings(poll, members))).await {
                Ok(answer) => {
                    if members && !had_members {
                        // Who joined while syncs left members out is in no list of the SDK's, also if it has asked for one
                        // meanwhile. The next send asks again, and from now on syncs keep the list.
                        encrypted_rooms(client).for_each(|room| room.mark_members_missing());
                    }
                    had_members = members;
                    if let Some(longest) = poll_limit.answered() {
                        let longest_ms = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
                        tracing::info!(
                            longest_ms,
                            "something on the way cuts long polls; they are shorter from now on"
                        );
                    }
                    if told.clear() {
                        tracing::info!("sync works again");
                    }
                    self.note_sync();
                    self.rooms.observe(&answer.rooms);
                    backoff.reset();
                    // Not beside a sync: both upload keys.
                    self.maintain_trust(client).await;
                    // A room that has just become encrypted is not to wait for its members.
                    let at_once = !members && encrypted_rooms(client).next().is_some();
                    poll = if at_once { Duration::ZERO } else { poll_limit.poll(Instant::now()) };
                    sleep_until(began + MIN_INTERVAL).await;
                    continue;
                }
                Err(error) => errors::sdk(&error).error,
            };
            // Whether the homeserver is gone is for the next sync to say, which does not wait.
            if poll_limit.is_cut(&fault, poll, began.elapsed()) {
                tracing::debug!("a long poll was cut: {}", fault.detail);
                poll = Duration::ZERO;
                continue;
            }
            let slow = fault.reason == Reason::NoAnswer && poll == Duration::ZERO;
            poll = if slow { CATCH_UP } else { Duration::ZERO };
            self.setup.health.update(|health| health.sync_fault = Some(fault.detail.clone()));
            // Of a session that is over the next try to connect says more.
            let good = self.is_session_good().await;
            if (good || !ends_session(&fault)) && told.should_log(&fault.detail) {
                tracing::warn!(reason = fault.reason.as_str(), "sync failed: {}", fault.detail);
            }
            if !good {
                return;
            }
            sleep(fault.retry_after.unwrap_or_else(|| backoff.pause())).await;
        }
    }

    /// What the sync brings. A homeserver that takes requests and never answers is noticed meanwhile: the sync itself goes
    /// on, since one that is broken off could lose keys that it has brought.
    pub(super) async fn with_liveness_checks<T>(&self, sync: impl Future<Output = T>) -> T {
        let mut sync = std::pin::pin!(sync);
        loop {
            if let Ok(done) = timeout(LIVENESS_INTERVAL, &mut sync).await {
                return done;
            }
            tokio::select! {
                biased;
                done = &mut sync => return done,
                () = self.check_liveness() => {}
            }
        }
    }

    async fn check_liveness(&self) {
        let token = self.open.read().await.as_ref().map(|open| open.session.token.clone());
        let (Some(token), Ok(api)) = (token, self.api()) else { return };
        match timeout(LIVENESS_TIMEOUT, api.whoami(&token)).await {
            Ok(Ok(_)) => self.report_up(),
            Ok(Err(fault)) if ends_session(&fault) => {}
            Ok(Err(fault)) => self.report_down(&fault),
            Err(_) => self.report_down(&errors::fault(Reason::NoAnswer, "no answer in time")),
        }
    }

    /// A failed sync alone does not say whether the homeserver is gone or only its sync; `whoami` does.
    async fn is_session_good(&self) -> bool {
        let token = self.open.read().await.as_ref().map(|open| open.session.token.clone());
        let (Some(token), Ok(api)) = (token, self.api()) else { return false };
        match api.whoami(&token).await {
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

/// How long a poll may be before something on the way cuts it.
#[derive(Debug, Default)]
struct PollLimit {
    /// What was learned, and when.
    learned: Option<(Duration, Instant)>,
    /// The last sync was cut after so long. Whose fault that was is not known yet.
    cut: Option<Duration>,
}

impl PollLimit {
    fn poll(&mut self, now: Instant) -> Duration {
        self.learned.take_if(|(_, at)| now.duration_since(*at) > LONGER_AGAIN);
        self.learned.map_or(LONG_POLL, |(longest, _)| longest)
    }

    /// Whether a sync that failed after `took` was a poll that had nothing to tell and was cut before its end.
    fn is_cut(&mut self, fault: &SendError, poll: Duration, took: Duration) -> bool {
        let silent = matches!(fault.reason, Reason::NoAnswer | Reason::ServerError | Reason::Unreadable);
        let cut = silent && fault.retry_after.is_none() && (SHORTEST_CUT..poll).contains(&took);
        self.cut = cut.then_some(took);
        cut
    }

    /// A sync was answered. The homeserver is there: the cut before it was not its end. Returns what is news in that.
    fn answered(&mut self) -> Option<Duration> {
        let longest = self.cut.take()?.mul_f64(0.6).max(Duration::from_secs(1));
        self.learned = Some((longest, Instant::now()));
        Some(longest)
    }
}

pub(super) fn ends_session(fault: &SendError) -> bool {
    matches!(fault.reason, Reason::TokenRejected | Reason::AccountRefused)
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of this age fit a float's 52 bits")]
fn unix_seconds(at: Timestamp) -> f64 {
    at.0 as f64 / 1000.0
}

/// The rooms whose members must be known, since keys go to their devices.
pub(super) fn encrypted_rooms(client: &Client) -> impl Iterator<Item = Room> {
    client.joined_rooms().into_iter().filter(|room| room.encryption_state().is_encrypted())
}

/// Leaves out everything that sends do not need: presence, receipts, typing, most of the timeline, and without `members`
/// also who is in a room and what they say, since the SDK stores each member that it ever sees. Synapse then does not
/// report either that the account was removed from a room: `Account::find_lost_rooms` does.
fn settings(poll: Duration, members: bool) -> SyncSettings {
    let mut timeline = RoomEventFilter::with_lazy_loading();
    timeline.limit = Some(uint!(10));
    let mut state = RoomEventFilter::empty();
    if !members {
        timeline.not_types = PEOPLE.map(ToOwned::to_owned).to_vec();
        state.not_types = vec!["m.room.member".to_owned()];
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn polls_are_shorter_than_what_is_cut_until_much_later() {
        let mut poll_limit = PollLimit::default();
        let now = Instant::now();
        assert_eq!(poll_limit.poll(now), LONG_POLL);
        let broken = errors::fault(Reason::NoAnswer, "the connection broke");
        assert!(poll_limit.is_cut(&broken, LONG_POLL, seconds(10)));
        assert_eq!(poll_limit.answered(), Some(seconds(6)));
        assert_eq!((poll_limit.poll(now), poll_limit.answered()), (seconds(6), None));
        assert_eq!(poll_limit.poll(now + LONGER_AGAIN + seconds(9)), LONG_POLL);
    }

    #[test]
    fn what_fails_at_once_or_after_its_end_or_twice_is_a_fault() {
        let mut poll_limit = PollLimit::default();
        let broken = errors::fault(Reason::NoAnswer, "the connection broke");
        let refused = errors::fault(Reason::Unreachable, "cannot connect");
        assert!(!poll_limit.is_cut(&broken, LONG_POLL, seconds(1)));
        assert!(!poll_limit.is_cut(&broken, LONG_POLL, seconds(31)));
        assert!(!poll_limit.is_cut(&refused, LONG_POLL, seconds(10)));
        assert!(poll_limit.is_cut(&broken, LONG_POLL, seconds(10)));
        assert!(!poll_limit.is_cut(&broken, Duration::ZERO, seconds(10)), "it does not wait");
        assert_eq!(poll_limit.answered(), None, "a fault in between");
    }
}
