//! Events that the homeserver refuses: a plainer form takes the place of each, and the plainest becomes a dead letter.
//! One that a fault of the homeserver made is retried without an operator.

use std::time::Duration;

use super::{
    context::RoomContext,
    turn::{Next, Turn},
};
use crate::{
    delivery::compose::{self, Composed},
    model::{Form, Op, OpKind, Scope, SendError, Timestamp, TxnId},
    store::{NewOp, StoreError},
};

/// The bounds of the wait before such a dead letter is retried.
const FIRST_RETRY: Duration = Duration::from_mins(10);
const LAST_RETRY: Duration = Duration::from_hours(6);

/// Freezes a plainer form in place of a refused op. Where there is none, the op becomes a dead letter.
pub(super) async fn refuse(context: &RoomContext, op: &Op, error: &SendError) -> Result<Next, StoreError> {
    let plainer = match op.form.plainer() {
        Some(form) => plainer_form(context, op, form).await?,
        None => None,
    };
    if let Some(plainer) = plainer {
        tracing::warn!(
            notification = %op.notification, incident = %op.incident, room = %context.name,
            kind = op.kind.as_str(), reason = %error, plainness = plainer.form.refusals(),
            "event refused; sending a plainer form"
        );
        return context.store.replace(op, plainer, &error.to_string()).await.map(Next::Send);
    }
    tracing::error!(
        notification = %op.notification, incident = %op.incident, room = %context.name,
        kind = op.kind.as_str(), reason = %error, op = %op.txn_id,
        "refused in every form; now a dead letter"
    );
    context.metrics.dead_letters.with_label_values(&[error.reason.as_str()]).inc();
    let retry_at = (error.reason.scope() == Scope::Server).then(|| retry_at(context.clock.now(), op.since));
    context.store.mark_dead(op, &error.to_string(), retry_at).await?;
    Ok(Next::End(Turn::Again))
}

async fn plainer_form(context: &RoomContext, op: &Op, form: Form) -> Result<Option<NewOp>, StoreError> {
    let input = context.compose_input(form);
    let plainer = if op.kind == OpKind::Notice {
        let green = context.store.said_green(&op.txn_id).await?;
        compose::compose_green(&green, &context.room, input)
    } else {
        let Some(snapshot) = context.store.snapshot_for(&op.card, &op.txn_id).await? else { return Ok(None) };
        match compose::compose(op.kind, &snapshot, input) {
            Composed::Op { op, .. } => Some(*op),
            Composed::Overfull(_) | Composed::Silent(_) | Composed::Nothing => None,
        }
    };
    Ok(plainer.map(|plainer| NewOp { since: op.since, ..plainer }))
}

/// Retries the next dead letter of the room if it is due. Returns how long until then, zero if it was retried.
pub(super) async fn retry_due(
    context: &RoomContext,
    next: Option<(TxnId, Timestamp)>,
) -> Result<Option<Duration>, StoreError> {
    let Some((letter, at)) = next else { return Ok(None) };
    let wait = at.since(context.clock.now());
    if !wait.is_zero() {
        return Ok(Some(wait));
    }
    if !context.gate.is_open() {
        // The end of the outage wakes the lane.
        return Ok(None);
    }
    if let Some((letter, _)) = context.store.retry_dead_letter(&letter).await? {
        tracing::info!(
            op = %letter.op.txn_id, incident = %letter.op.incident, room = %context.name, reason = letter.error,
            "retrying a dead letter of a homeserver fault"
        );
    }
    Ok(Some(Duration::ZERO))
}

/// The wait is as long as the op is old, within bounds.
fn retry_at(now: Timestamp, since: Timestamp) -> Timestamp {
    now.plus(now.since(since).clamp(FIRST_RETRY, LAST_RETRY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_letter_is_retried_after_as_long_as_it_is_old_within_bounds() {
        let now = Timestamp(1_800_000_000_000);
        let wait = |age: Duration| {
            let since = Timestamp(now.0 - i64::try_from(age.as_millis()).expect("small"));
            retry_at(now, since).since(now)
        };
        assert_eq!(wait(Duration::ZERO), FIRST_RETRY);
        assert_eq!(wait(Duration::from_hours(1)), Duration::from_hours(1));
        assert_eq!(wait(Duration::from_hours(100)), LAST_RETRY);
    }
}
