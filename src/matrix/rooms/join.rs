//! Entering one room: resolving its alias, joining, following upgrades.

use matrix_sdk::{
    OwnedServerName,
    ruma::{OwnedRoomId, RoomAliasId, RoomId},
};
use tokio::time::Instant;

use super::{
    entry::RoomEntry,
    room_api::{Alias, Membership, RoomApi},
};
use crate::{
    matrix::api::errors,
    model::{Reason, ResolvedRoom, RoomAddress, SendError},
};

/// How many upgrades in a row are followed. More are a circle, or a joke.
const MAX_UPGRADES: usize = 10;

/// Resolves the address, joins unless joined, and follows upgrades. Returns the room that events go to.
pub(crate) async fn join_room(
    room_api: RoomApi<'_>,
    address: &RoomAddress,
    entry: &mut RoomEntry,
    may_join: bool,
) -> Result<OwnedRoomId, SendError> {
    let is_new = entry.resolved.is_none();
    let alias_target = match RoomAliasId::parse(address.as_str()) {
        Ok(alias) if !entry.alias_resolved => resolve_alias(room_api, &alias, entry).await?,
        _ => None,
    };
    let refused = |text: String| Err(errors::send_error(Reason::RoomRefused, text));
    let Some(resolved) = entry.resolved.clone() else { return refused(format!("{address} leads to no room")) };
    let Ok(mut id) = RoomId::parse(resolved.current()) else {
        return refused(format!("{address} is not a room address"));
    };
    let via = alias_target.as_ref().map(|(_, via)| via.clone()).unwrap_or_default();
    let joined = join_unless_joined(room_api, &id, via.clone(), may_join, entry.lost).await;
    // An account that was removed from the replaced room may be welcome in its successor, but cannot see the upgrade.
    if joined.is_ok() {
        entry.lost = false;
        for _ in 0..MAX_UPGRADES {
            match follow_upgrade(room_api, address, &id, entry, &via).await? {
                Some(next) => id = next,
                None => break,
            }
        }
    }
    let current = entry.resolved.as_ref().map_or("", ResolvedRoom::current);
    if let Some((target, _)) = alias_target.filter(|(id, _)| *id != resolved.first && id.as_str() != current) {
        let text = format!(
            "{address} now leads to {target} instead of {current}: nothing is sent there until you confirm it with \
             matrix.aliases = {{ \"{address}\" = \"{target}\" }} or restore the alias"
        );
        entry.alias_resolved = false;
        return refused(text);
    }
    if let Err(error) = joined {
        if is_new {
            entry.resolved = None;
            entry.alias_resolved = false;
            entry.target = Some(id);
        }
        return Err(error);
    }
    entry.joined = true;
    entry.target = None;
    Ok(id)
}

/// Finds the room that the alias leads to; `None`: still the known one, as far as can be said.
async fn resolve_alias(
    room_api: RoomApi<'_>,
    alias: &RoomAliasId,
    entry: &mut RoomEntry,
) -> Result<Option<(OwnedRoomId, Vec<OwnedServerName>)>, SendError> {
    entry.alias_tried = Some(Instant::now());
    match room_api.resolve_alias(alias).await {
        Ok(Alias::Room(id, via)) => {
            entry.alias_resolved = true;
            entry.resolved.get_or_insert_with(|| ResolvedRoom::new(id.as_str()));
            Ok(Some((id, via)))
        }
        Ok(Alias::Missing(error)) | Err(error) if entry.resolved.is_none() => Err(error),
        Ok(Alias::Missing(_)) => {
            entry.alias_resolved = true;
            tracing::warn!(room = %alias, "alias no longer exists; keeping its last room");
            Ok(None)
        }
        Err(error) => {
            tracing::debug!(room = %alias, reason = %error, "alias lookup failed; will retry");
            Ok(None)
        }
    }
}

async fn join_unless_joined(
    room_api: RoomApi<'_>,
    id: &RoomId,
    via: Vec<OwnedServerName>,
    may_join: bool,
    lost: bool,
) -> Result<(), SendError> {
    if room_api.is_joined(id) && !lost {
        return Ok(());
    }
    if !may_join {
        return Err(errors::send_error(Reason::NotReady, "not connected yet: the first sync is running"));
    }
    match room_api.membership(id, lost).await? {
        Membership::Removed(error) => Err(error),
        Membership::Joined if room_api.is_joined(id) => Ok(()),
        _ => room_api.join(id, via).await,
    }
}

/// Joins the room that has replaced `id`, if one has.
async fn follow_upgrade(
    room_api: RoomApi<'_>,
    address: &RoomAddress,
    id: &RoomId,
    entry: &mut RoomEntry,
    via: &[OwnedServerName],
) -> Result<Option<OwnedRoomId>, SendError> {
    let Some(next) = room_api.successor(id).await? else { return Ok(None) };
    if next == id || entry.rejected_successor.as_ref() == Some(&next) {
        return Ok(None);
    }
    let was_joined = room_api.is_joined(&next);
    let mut via = via.to_vec();
    via.extend(id.server_name().map(ToOwned::to_owned));
    if let Err(error) = join_unless_joined(room_api, &next, via, true, false).await {
        entry.target = Some(next.clone());
        if error.reason != Reason::RoomRefused {
            return Err(error);
        }
        let detail = format!("the room was replaced by {next}; invite the account there: {}", error.detail);
        return Err(SendError { detail, ..error });
    }
    // Any moderator of the old room can name any room; only one that names the old room is its upgrade.
    if room_api.predecessor(&next).await?.as_deref() != Some(id) {
        let reason = "it does not name this room as its predecessor";
        tracing::warn!(room = %address, room_id = %id, successor = %next, reason, "not following the room's upgrade");
        if !was_joined {
            room_api.token_api.leave(&next).await;
        }
        entry.rejected_successor = Some(next);
        return Ok(None);
    }
    tracing::warn!(room = %address, room_id = %id, successor = %next, "room was upgraded; sending to its successor");
    if let Some(resolved) = &mut entry.resolved {
        resolved.successor = Some(next.to_string());
    }
    Ok(Some(next))
}
