//! Hands cards that were just shown to whoever shows more beside them.

use super::{context::RoomContext, recent_sends::RecentSends};
use crate::model::{Op, OpKind, ShownCard};

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
