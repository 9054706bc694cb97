//! What follows an event that is in its room: whom the log names, and who shows more beside it.

use super::{context::RoomContext, recent_sends::RecentSends};
use crate::model::{NotificationId, Op, OpKind, ShownCard};

/// Hands the card of `op`, whose first event is `root`, on; not a digest, and nothing in a storm, where sends are scarce or
/// long after the notification. It is extra: a fault of the store leaves it out.
pub(super) async fn hand_on(context: &RoomContext, recent: &RecentSends, op: &Op, root: &str, is_limited: bool) {
    let is_late = context.clock.now().since(op.since) > ShownCard::TOO_LATE;
    if op.kind != OpKind::Card || is_limited || context.gate.is_limited() || recent.is_storm() || is_late {
        return;
    }
    if !context.settings.config.routes.values().any(|route| route.evidence.is_some()) {
        return;
    }
    match context.store.only_incident(&op.card).await {
        Ok(Some((incident, route))) => {
            (context.on_shown)(ShownCard {
                card: op.card.clone(),
                room: op.room.clone(),
                incident,
                route,
                root: root.to_owned(),
                since: op.since,
            });
        }
        Ok(None) => {}
        Err(error) => tracing::debug!(room = %context.name, %error, "store failed; no evidence beside the card"),
    }
}

/// The other notifications that an event brought into the room, so that a search for any of them finds it.
pub(super) fn others(op: &Op, shown: &[NotificationId]) -> Option<String> {
    let others: Vec<&str> = shown.iter().filter(|id| **id != op.notification).map(NotificationId::as_str).collect();
    (!others.is_empty()).then(|| others.join(" "))
}
