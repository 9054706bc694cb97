//! Reads a room back for one op.

use std::time::Duration;

use super::context::RoomContext;
use crate::{
    delivery::transport::{ReadBack, Search},
    model::{Op, SendError, Timestamp, TxnId},
    store::StoreError,
};

/// Reading back ends at events that are older by this much than the op. The homeserver says how old they are; the
/// margin allows for jumps of the local clock.
pub(super) const AGE_MARGIN: Duration = Duration::from_hours(24);

/// What the room's history says about one op.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The op's event.
    Event(String),
    /// The event is certainly not in the room.
    Absent,
    Unknown,
}

/// Searches the room for the op's event. The inner error says why the room could not be read.
pub(super) async fn search_for(context: &RoomContext, op: &Op) -> Result<Result<Found, SendError>, StoreError> {
    search(context, &op.txn_id, op.frozen_seq, op.first_try.unwrap_or(op.since)).await
}

/// Searches the room for what was frozen as the `frozen_seq`th, and tried first at `first_try` or later.
pub(super) async fn search(
    context: &RoomContext,
    wanted: &TxnId,
    frozen_seq: i64,
    first_try: Timestamp,
) -> Result<Result<Found, SendError>, StoreError> {
    let recorded = context.store.recorded(&context.room, frozen_seq, first_try).await?;
    let older_than = context.clock.now().since(first_try) + AGE_MARGIN;
    let search = Search { wanted: Some(wanted), after: recorded.before.as_deref(), older_than };
    let read = context.transport.read_back(&context.room, search).await;
    Ok(read.map(|read| judge(wanted, &read, &recorded.later)))
}

/// `later`: events that the store knows as those of other ops.
fn judge(op: &TxnId, read: &ReadBack, later: &[String]) -> Found {
    if let Some(event) = read.events.iter().find(|event| event.op.as_ref() == Some(op)) {
        return Found::Event(event.event_id.clone());
    }
    // An event that cannot be read may be the one.
    let unread = read.events.iter().any(|event| event.op.is_none() && !later.contains(&event.event_id));
    if read.complete && !unread { Found::Absent } else { Found::Unknown }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::transport::OwnEvent;

    fn own(event_id: &str, op: Option<&str>) -> OwnEvent {
        let op = op.map(|op| TxnId(op.to_owned()));
        OwnEvent { event_id: event_id.to_owned(), op, incident: None, starts_card: false }
    }

    #[test]
    fn an_op_is_absent_only_if_everything_was_read() {
        let (op, later) = (TxnId("op".to_owned()), ["$later".to_owned()]);
        for (events, complete, expected) in [
            (vec![own("$1", Some("other")), own("$2", Some("op"))], false, Found::Event("$2".to_owned())),
            (vec![own("$1", Some("other"))], true, Found::Absent),
            (vec![own("$1", Some("other"))], false, Found::Unknown),
            (vec![own("$unread", None)], true, Found::Unknown),
            (vec![own("$later", None)], true, Found::Absent),
        ] {
            assert_eq!(judge(&op, &ReadBack { events, complete }, &later), expected);
        }
    }
}
