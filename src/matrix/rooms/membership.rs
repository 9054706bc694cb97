//! One address and the room behind it: looking it up, getting in, following upgrades.

use std::time::Duration;

use matrix_sdk::{
    OwnedServerName,
    ruma::{OwnedRoomId, RoomAliasId, RoomId},
};
use tokio::time::Instant;

use super::requests::{Lookup, Membership, RoomApi};
use crate::{
    matrix::api::errors,
    model::{Reason, ResolvedRoom, RoomAddress, SendError},
};

/// A room is not tried more often than this, whoever asks.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_secs(30);
const MAX_PAUSE: Duration = Duration::from_mins(5);
/// A limit of joins that does not say for how long; and the least that is waited.
const LIMITED: Duration = Duration::from_secs(5);
const LIMITED_LEAST: Duration = Duration::from_millis(500);
/// Upgrades that are followed at once. More in a row are a circle, or a joke.
const MAX_UPGRADES: usize = 10;
/// What is known of one address.
pub(crate) struct RoomEntry {
    /// Kept once we have been in the room: until then nothing was sent anywhere.
    pub resolved: Option<ResolvedRoom>,
    /// As it is in the store.
    pub kept: Option<ResolvedRoom>,
    /// The room that was told of as entered.
    pub entered: Option<OwnedRoomId>,
    /// The alias has been looked up since the start, or since the room refused something.
    pub looked_up: bool,
    /// When that was tried last.
    pub asked: Option<Instant>,
    /// Joined by a bare request, which no sync confirms.
    pub joined: bool,
    /// The homeserver says that the account is not in the room, whatever the last sync said.
    pub lost: bool,
    /// A room that we want to get into and cannot: what an alias or an upgrade leads to.
    pub wanted: Option<OwnedRoomId>,
    /// A room that a tombstone names and that does not name ours as its predecessor.
    pub ignored: Option<OwnedRoomId>,
    /// The last try to get in failed.
    pub failed: Option<FailedJoin>,
}

impl RoomEntry {
    pub fn new(address: &RoomAddress, known: Option<ResolvedRoom>, kept: Option<ResolvedRoom>) -> Self {
        let given = (!address.is_alias()).then(|| ResolvedRoom::new(address.as_str()));
        Self {
            resolved: known.or(given),
            kept,
            entered: None,
            looked_up: !address.is_alias(),
            asked: None,
            joined: false,
            lost: false,
            wanted: None,
            ignored: None,
            failed: None,
        }
    }

    pub fn concerns(&self, id: &RoomId) -> bool {
        let of_place = |resolved: &ResolvedRoom| resolved.first == id.as_str() || resolved.current() == id.as_str();
        self.resolved.as_ref().is_some_and(of_place) || self.wanted.as_deref() == Some(id)
    }
}

pub(crate) struct FailedJoin {
    at: Instant,
    /// The account tries again by itself after this.
    pub pause: Duration,
    /// Something happened since that makes another try worth while at once.
    pub news: bool,
    pub error: SendError,
}

impl FailedJoin {
    fn new(error: &SendError, pause: Duration) -> Self {
        Self { at: Instant::now(), pause, news: false, error: error.clone() }
    }

    /// After one more failure: a room that refuses is asked ever less often, and that is logged when it is news.
    pub fn again(before: Option<Self>, error: &SendError, address: &RoomAddress) -> Self {
        if error.reason == Reason::JoinLimited {
            if before.is_none_or(|before| before.error.reason != error.reason) {
                tracing::info!(room = %address, "the room is entered later: {}", error.detail);
            }
            return Self::new(error, error.retry_after.unwrap_or(LIMITED).max(LIMITED_LEAST));
        }
        if error.reason != Reason::RoomRefused {
            // The account's or the homeserver's fault, which others report.
            return Self::new(error, FIRST_PAUSE);
        }
        if before.as_ref().is_none_or(|before| before.error.detail != error.detail) {
            tracing::warn!(room = %address, reason = error.reason.as_str(), "cannot join the room: {}", error.detail);
        }
        let grown = before.map_or(FIRST_PAUSE, |before| (before.pause * 2).min(MAX_PAUSE));
        Self::new(error, error.retry_after.map_or(grown, |asked| asked.max(FIRST_PAUSE)))
    }

    /// Whether it is too early for another try. A send is held back only by the room's own refusal: it would pass
    /// on a fault of the homeserver that may be long over.
    pub fn holds(&self, visit: Visit, now: Instant) -> bool {
        let pause = match visit {
            Visit::Round => self.pause,
            Visit::Send if self.error.reason == Reason::RoomRefused => FIRST_PAUSE,
            Visit::Send if self.error.reason == Reason::JoinLimited => self.pause,
            Visit::Send => Duration::ZERO,
        };
        !self.news && now.duration_since(self.at) < pause
    }
}

/// Who wants a room.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Visit {
    /// The account, on its own schedule.
    Round,
    /// A send that waits for it.
    Send,
}

/// Finds out where the address leads, follows upgrades, and joins unless joined.
pub(crate) async fn enter_now(
    room_api: RoomApi<'_>,
    address: &RoomAddress,
    entry: &mut RoomEntry,
    may_join: bool,
) -> Result<OwnedRoomId, SendError> {
    let fresh = entry.resolved.is_none();
    let looked = match RoomAliasId::parse(address.as_str()) {
        Ok(alias) if !entry.looked_up => look_up(room_api, &alias, entry).await?,
        _ => None,
    };
    let Some(resolved) = entry.resolved.clone() else {
        return Err(errors::fault(Reason::RoomRefused, format!("{address} leads to no room")));
    };
    let Ok(mut id) = RoomId::parse(resolved.current()) else {
        return Err(errors::fault(Reason::RoomRefused, format!("{address} is not a room address")));
    };
    let via = looked.as_ref().map(|(_, via)| via.clone()).unwrap_or_default();
    let joined = get_in(room_api, &id, via.clone(), may_join, entry.lost).await;
    if joined.is_ok() {
        entry.lost = false;
    }
    // One who was shown out of the replaced room may still be welcome in the new one, but cannot see that it is one.
    if joined.is_ok() {
        for _ in 0..MAX_UPGRADES {
            match follow(room_api, address, &id, entry, &via).await? {
                Some(next) => id = next,
                None => break,
            }
        }
    }
    let now = entry.resolved.as_ref().map_or("", ResolvedRoom::current);
    if let Some((leads_to, _)) = looked.filter(|(leads_to, _)| *leads_to != resolved.first && leads_to.as_str() != now)
    {
        let text = format!(
            "{address} leads to {leads_to} now, and led to {now} before: nothing is sent there until you confirm it with \
             matrix.aliases = {{ \"{address}\" = \"{leads_to}\" }} or put the alias back"
        );
        entry.looked_up = false;
        return Err(errors::fault(Reason::RoomRefused, text));
    }
    if let Err(error) = joined {
        if fresh {
            entry.resolved = None;
            entry.looked_up = false;
            entry.wanted = Some(id);
        }
        return Err(error);
    }
    entry.joined = true;
    entry.wanted = None;
    Ok(id)
}

/// Where the alias leads; `None`: to what is known already, as far as can be said.
async fn look_up(
    room_api: RoomApi<'_>,
    alias: &RoomAliasId,
    entry: &mut RoomEntry,
) -> Result<Option<(OwnedRoomId, Vec<OwnedServerName>)>, SendError> {
    entry.asked = Some(Instant::now());
    match room_api.look_up(alias).await {
        Ok(Lookup::Room(id, via)) => {
            entry.looked_up = true;
            entry.resolved.get_or_insert_with(|| ResolvedRoom::new(id.as_str()));
            Ok(Some((id, via)))
        }
        Ok(Lookup::Nothing(fault)) if entry.resolved.is_none() => Err(fault),
        Ok(Lookup::Nothing(_)) => {
            entry.looked_up = true;
            tracing::warn!(room = %alias, "the alias is gone; staying with the room that it led to");
            Ok(None)
        }
        Err(fault) if entry.resolved.is_none() => Err(fault),
        Err(fault) => {
            tracing::debug!(room = %alias, reason = %fault, "the alias could not be looked up; tried again later");
            Ok(None)
        }
    }
}

async fn get_in(
    room_api: RoomApi<'_>,
    id: &RoomId,
    via: Vec<OwnedServerName>,
    may_join: bool,
    lost: bool,
) -> Result<(), SendError> {
    if room_api.is_in(id) && !lost {
        return Ok(());
    }
    if !may_join {
        return Err(errors::fault(Reason::NotReady, "not connected yet: the first sync is under way"));
    }
    match room_api.membership(id, lost).await? {
        Membership::Removed(why) => Err(why),
        Membership::Joined if room_api.is_in(id) => Ok(()),
        _ => room_api.join(id, via).await,
    }
}

/// To the room that has replaced `id`, if one has.
async fn follow(
    room_api: RoomApi<'_>,
    address: &RoomAddress,
    id: &RoomId,
    entry: &mut RoomEntry,
    via: &[OwnedServerName],
) -> Result<Option<OwnedRoomId>, SendError> {
    let Some(next) = room_api.successor(id).await? else { return Ok(None) };
    if next == id || entry.ignored.as_ref() == Some(&next) {
        return Ok(None);
    }
    let was_in = room_api.is_in(&next);
    let mut via = via.to_vec();
    via.extend(id.server_name().map(ToOwned::to_owned));
    if let Err(error) = get_in(room_api, &next, via, true, false).await {
        entry.wanted = Some(next.clone());
        if error.reason != Reason::RoomRefused {
            return Err(error);
        }
        let text =
            format!("the room was replaced by {next}, where the account is not in: invite it there; {}", error.detail);
        return Err(SendError { detail: text, ..error });
    }
    // Anybody with power in the old room can name any room; only one that names the old room was meant to follow it.
    if room_api.predecessor(&next).await?.as_deref() != Some(id) {
        tracing::warn!(room = %address, room_id = %id, named = %next, "the room names a successor that does not name it as \
            its predecessor; not followed");
        if !was_in {
            room_api.leave(&next).await;
        }
        entry.ignored = Some(next);
        return Ok(None);
    }
    tracing::warn!(room = %address, room_id = %id, successor = %next, "the room was upgraded; events go to its successor");
    if let Some(resolved) = &mut entry.resolved {
        resolved.successor = Some(next.to_string());
    }
    Ok(Some(next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_held_back_by_what() {
        let address = RoomAddress::parse("!a:x").unwrap();
        let refused = errors::fault(Reason::RoomRefused, "not joined");
        let held = |failed: &FailedJoin, after: Duration| {
            let now = failed.at + after;
            (failed.holds(Visit::Round, now), failed.holds(Visit::Send, now))
        };
        let first = FailedJoin::again(None, &refused, &address);
        assert_eq!(held(&first, Duration::ZERO), (true, true));
        assert_eq!(held(&first, FIRST_PAUSE), (false, false));
        let mut second = FailedJoin::again(Some(first), &refused, &address);
        assert_eq!(held(&second, FIRST_PAUSE), (true, false));
        assert_eq!(held(&second, FIRST_PAUSE * 2), (false, false));
        second.news = true;
        assert_eq!(held(&second, Duration::ZERO), (false, false));

        let limited = SendError { retry_after: Some(LIMITED_LEAST), ..errors::fault(Reason::JoinLimited, "too many") };
        let limited = FailedJoin::again(None, &limited, &address);
        assert_eq!(held(&limited, Duration::ZERO), (true, true));
        assert_eq!(held(&limited, LIMITED_LEAST), (false, false), "as long as was asked");

        let down = FailedJoin::again(Some(second), &errors::fault(Reason::Unreachable, "down"), &address);
        assert_eq!(held(&down, Duration::ZERO), (true, false));
    }
}
