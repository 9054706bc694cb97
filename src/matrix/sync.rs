//! The sync loop: one long poll after the other, for as long as the session is valid.

use std::time::Duration;

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
    sync::RoomUpdates,
};
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    api::errors::{self, ApiError},
    context::Context,
    encryption::{
        room_keys::encrypted_rooms,
        upkeep::{LEADER_PAUSE, TrustUpkeep},
    },
    events::acting::{Acting, Look},
    probe::{Answer, Probe},
    rooms::Rooms,
    session::connection::Connection,
};
use crate::{
    model::{Reason, SendError},
    pacing::{Backoff, SayOnce},
};

/// How long the homeserver may hold a sync without events.
const LONG_POLL: Duration = Duration::from_secs(30);
/// A sync that fails sooner than this is a failure, not a poll that a proxy has cut.
const SHORTEST_CUT: Duration = Duration::from_secs(2);
/// How long polls stay shortened: a proxy may have been reconfigured.
const SHORTENED_FOR: Duration = Duration::from_hours(6);
/// The long poll after a sync without an answer: the SDK extends its time limit by that, which the first sync of a large
/// account may need.
const CATCH_UP: Duration = Duration::from_secs(100);
/// Events that syncs of plain rooms leave out: nothing reads them.
const NOISE: [&str; 3] = ["m.sticker", "m.call.*", "m.poll.*"];
/// Events that they leave out unless somebody may act from a room. The SDK stores no senders of these while members are
/// left out.
const TALK: [&str; 3] = ["m.room.message", "m.room.encrypted", "m.reaction"];
const MEMBERS: &str = "m.room.member";
/// The shortest time between two syncs, even if the homeserver always has events.
const MIN_INTERVAL: Duration = Duration::from_millis(200);

/// Syncs for a session with keys.
pub(super) struct SyncLoop<'a> {
    pub context: &'a Context,
    pub connection: &'a Connection,
    pub rooms: &'a Rooms,
    pub trust: &'a TrustUpkeep,
    pub acting: &'a Acting,
}

impl SyncLoop<'_> {
    /// Returns when the session is no longer valid.
    pub async fn run(self, client: &Client) {
        let probe = Probe { context: self.context, connection: self.connection };
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        let mut logged = SayOnce::default();
        // The first poll does not wait: that sync works is to be reported at once.
        let mut poll = Duration::ZERO;
        let mut poll_limit = PollLimit::default();
        // Whether the last sync was one with members.
        let mut had_members = false;
        // Whether the last sync was one with what people say.
        let mut had_talk = false;
        loop {
            let began = Instant::now();
            // The first sync reports whether a room is encrypted.
            let asked = Asked {
                members: encrypted_rooms(client).next().is_some(),
                talk: self.acting.is_on(),
                first: client.rooms().is_empty(),
            };
            let members = asked.members;
            let error = match probe.run_while(client.sync_once(settings(poll, asked))).await {
                Ok(answer) => {
                    if members && !had_members {
                        // The SDK's list misses members who joined while syncs left them out, even if it was requested
                        // meanwhile. The next send requests it again, and from now on syncs keep it up to date.
                        encrypted_rooms(client).for_each(|room| room.mark_members_missing());
                    }
                    had_members = members;
                    self.connection.status.set_members_synced(members);
                    if let Some(longest) = poll_limit.answered() {
                        let longest_ms = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
                        tracing::info!(longest_ms, "something cuts long polls; shortening them");
                    }
                    if logged.clear() {
                        tracing::info!("sync works again");
                    }
                    self.connection.status.report_sync();
                    self.rooms.observe(&answer.rooms);
                    if asked.talk && !had_talk {
                        self.acting.report_gaps();
                    }
                    had_talk = asked.talk;
                    Box::pin(self.hand_over(client, &answer.rooms)).await;
                    backoff.reset();
                    // Between syncs, since both upload keys.
                    self.trust.maintain(client).await;
                    // A room that has just become encrypted must not wait for its members.
                    let at_once = !members && encrypted_rooms(client).next().is_some();
                    poll = if at_once { Duration::ZERO } else { poll_limit.poll(Instant::now()) };
                    if self.trust.waits_for_leader() {
                        poll = poll.min(LEADER_PAUSE);
                    }
                    sleep_until(began + MIN_INTERVAL).await;
                    continue;
                }
                Err(error) => ApiError::from_sdk(&error).error,
            };
            // The next sync does not wait, and so finds out whether the homeserver is gone.
            if poll_limit.is_cut(&error, poll, began.elapsed()) {
                tracing::debug!(error = error.detail, "long poll was cut");
                poll = Duration::ZERO;
                continue;
            }
            let slow = error.reason == Reason::NoAnswer && poll == Duration::ZERO;
            poll = if slow { CATCH_UP } else { Duration::ZERO };
            self.context.health.update(|health| health.sync_fault = Some(error.detail.clone()));
            // A failed sync alone does not say whether the homeserver is gone or only its sync.
            let session_ended = probe.ask().await == Answer::SessionEnded;
            // The next connection attempt reports the end of a session in more detail.
            if !(session_ended && errors::ends_session(&error)) && logged.should_log(&error.detail) {
                tracing::warn!(reason = error.reason.as_str(), error = error.detail, "sync failed");
            }
            if session_ended {
                return;
            }
            sleep(error.retry_after.unwrap_or_else(|| backoff.pause())).await;
        }
    }

    /// Hands what others have said to acts.
    async fn hand_over(&self, client: &Client, updates: &RoomUpdates) {
        if !self.acting.is_on() {
            return;
        }
        // A session that has just been closed has no token any more; its events are read back.
        let Some(token) = self.connection.token().await else { return self.acting.report_gaps() };
        let Ok(token_api) = self.context.token_api(&token) else { return self.acting.report_gaps() };
        let own = &self.context.config.user_id;
        let wall = self.context.clock.wall();
        self.acting.take(Look { client, token_api, own, rooms: self.rooms, trust: self.trust, wall }, updates).await;
    }
}

/// What a sync asks for.
#[derive(Clone, Copy, Debug)]
struct Asked {
    /// Who is in the rooms: something is encrypted.
    members: bool,
    /// What people say in the rooms: somebody may act from one.
    talk: bool,
    /// Nothing is known yet.
    first: bool,
}

/// How long a poll may be before a proxy cuts it.
#[derive(Debug, Default)]
struct PollLimit {
    /// The longest poll that passes, and when that was found.
    learned: Option<(Duration, Instant)>,
    /// How long the last sync took, if it was cut. The next one shows whether the homeserver was down.
    cut: Option<Duration>,
}

impl PollLimit {
    fn poll(&mut self, now: Instant) -> Duration {
        self.learned.take_if(|(_, at)| now.duration_since(*at) > SHORTENED_FOR);
        self.learned.map_or(LONG_POLL, |(longest, _)| longest)
    }

    /// Whether a sync that failed after `took` was a poll without events that was cut before its end.
    fn is_cut(&mut self, error: &SendError, poll: Duration, took: Duration) -> bool {
        let silent = matches!(error.reason, Reason::NoAnswer | Reason::ServerError | Reason::Unreadable);
        let cut = silent && error.retry_after.is_none() && (SHORTEST_CUT..poll).contains(&took);
        self.cut = cut.then_some(took);
        cut
    }

    /// Records that a sync was answered, so the homeserver was not the cause of a cut before it. Returns a new limit.
    fn answered(&mut self) -> Option<Duration> {
        let longest = self.cut.take()?.mul_f64(0.6).max(Duration::from_secs(1));
        self.learned = Some((longest, Instant::now()));
        Some(longest)
    }
}

/// Leaves out everything that nobody needs: presence, receipts, typing, most of the timeline, without `talk`
/// what people say, and without `members` who is in a room, since the SDK stores each member that it ever sees. Synapse then does not
/// report that the account was removed from a room either: `Rooms::keep_entered` asks for that.
fn settings(poll: Duration, asked: Asked) -> SyncSettings {
    let Asked { members, talk, first } = asked;
    let mut timeline = RoomEventFilter::with_lazy_loading();
    // What does not fit is read back, which takes a request of its own.
    timeline.limit = Some(if talk && !first { uint!(50) } else { uint!(10) });
    let mut state = RoomEventFilter::empty();
    if !members {
        let left_out = NOISE.iter().chain(if talk { &[][..] } else { &TALK[..] });
        timeline.not_types = left_out.map(|kind| (*kind).to_owned()).collect();
        state.not_types = vec![MEMBERS.to_owned()];
        // The first sync of a session tells which rooms are encrypted, whose members it should know at once: the last ten
        // events of each room are worth that.
        if !first {
            timeline.not_types.push(MEMBERS.to_owned());
        }
    }
    state.lazy_load_options = LazyLoadOptions::Enabled { include_redundant_members: false };
    let mut room = RoomFilter::empty();
    room.timeline = timeline;
    room.state = state;
    room.ephemeral = RoomEventFilter::ignore_all();
    room.account_data = RoomEventFilter::ignore_all();
    let mut account_data = Filter::empty();
    // Encryption needs these; the push rules are the bulk.
    let types = ["m.secret_storage.*", "m.cross_signing.*", "m.megolm_backup.*", "m.org.matrix.custom.backup_disabled"];
    account_data.types = Some(types.map(ToOwned::to_owned).to_vec());
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
    fn polls_are_shorter_than_a_cut_one_for_some_hours() {
        let mut poll_limit = PollLimit::default();
        let now = Instant::now();
        assert_eq!(poll_limit.poll(now), LONG_POLL);
        let broken = errors::send_error(Reason::NoAnswer, "the connection broke");
        assert!(poll_limit.is_cut(&broken, LONG_POLL, seconds(10)));
        assert_eq!(poll_limit.answered(), Some(seconds(6)));
        assert_eq!((poll_limit.poll(now), poll_limit.answered()), (seconds(6), None));
        assert_eq!(poll_limit.poll(now + SHORTENED_FOR + seconds(9)), LONG_POLL);
    }

    #[test]
    fn what_fails_at_once_or_after_its_end_or_twice_is_a_failure() {
        let mut poll_limit = PollLimit::default();
        let broken = errors::send_error(Reason::NoAnswer, "the connection broke");
        let refused = errors::send_error(Reason::Unreachable, "cannot connect");
        assert!(!poll_limit.is_cut(&broken, LONG_POLL, seconds(1)));
        assert!(!poll_limit.is_cut(&broken, LONG_POLL, seconds(31)));
        assert!(!poll_limit.is_cut(&refused, LONG_POLL, seconds(10)));
        assert!(poll_limit.is_cut(&broken, LONG_POLL, seconds(10)));
        assert!(!poll_limit.is_cut(&broken, Duration::ZERO, seconds(10)), "it does not wait");
        assert_eq!(poll_limit.answered(), None, "a failure in between");
    }
}
