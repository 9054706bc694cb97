//! What health shows of the rooms.

use super::entry::{FailedJoin, RoomEntry};
use crate::{
    health::Hold,
    matrix::context::Context,
    model::{Reason, ResolvedRoom, RoomAddress},
};

/// Reports a room that cannot be entered, whether or not anything is to be sent there.
pub(super) fn not_joined(context: &Context, address: &RoomAddress, failed: &FailedJoin) {
    if !failed.is_rooms_own() {
        return;
    }
    let now = context.clock.now();
    context.health.update(|health| {
        if let Some(room) = health.rooms.get_mut(address) {
            let since = room.hold.as_ref().map_or(now, |hold| hold.since);
            let rate_limit = failed.error.reason == Reason::JoinLimited;
            let until = Some(now.plus(failed.pause));
            room.hold = Some(Hold { reason: failed.error.to_string(), rate_limit, since, until });
        }
    });
}

/// Ends what [`not_joined`] has reported.
pub(super) fn entered(context: &Context, address: &RoomAddress, entry: &RoomEntry) {
    if entry.failed.as_ref().is_some_and(FailedJoin::is_rooms_own) {
        context.health.update(|health| {
            if let Some(room) = health.rooms.get_mut(address) {
                room.hold = None;
            }
        });
    }
}

/// Reports whether the room was upgraded.
pub(super) fn resolved(context: &Context, address: &RoomAddress, resolved: &ResolvedRoom) {
    let notice = resolved.successor.as_ref().map(|_| "the room was upgraded: events go to its successor".to_owned());
    context.health.update(|health| {
        if let Some(room) = health.rooms.get_mut(address) {
            room.notice = notice;
        }
    });
}
