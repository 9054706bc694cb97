//! Sends frozen ops, one after the other while there is nothing else to do in between.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Lane,
    turn::{Next, Turn},
};
use crate::{delivery::gate::Permit, model::Op, store::StoreError};

/// For so long an answer that a room is not encrypted counts for events that go out one right after the other.
const PLAIN_FOR: Duration = Duration::from_millis(250);

impl Lane {
    /// Sends an op that may have been sent before.
    pub(super) async fn send_again(&mut self, op: Op, device: String, permit: &Permit) -> Result<Turn, StoreError> {
        self.context.store.record_try(&op.txn_id, Some(device)).await?;
        self.send(Op { attempts: op.attempts + 1, ..op }, None, permit).await
    }

    /// Sends a frozen op, or the plainer forms that follow it, and further ops that were prepared meanwhile. `asked_since`:
    /// since when an answer counts that the room is not encrypted; it counts for the ops that follow as well, while it is
    /// new.
    pub(super) async fn send(
        &mut self,
        mut op: Op,
        asked_since: Option<Instant>,
        permit: &Permit,
    ) -> Result<Turn, StoreError> {
        let began = Instant::now();
        let mut asked_since = asked_since;
        let mut newer = None;
        loop {
            let permit = newer.as_ref().unwrap_or(permit);
            let newest = asked_since.map(|since| since.max(Instant::now().checked_sub(PLAIN_FOR).unwrap_or(since)));
            let error = match self.send_and_prepare(&op, newest, permit).await {
                (Ok(event), prepared) => match self.finish(&op, &event, permit, prepared).await? {
                    Some((next, permit)) => {
                        (op, newer) = (next, Some(permit));
                        asked_since.get_or_insert(began);
                        continue;
                    }
                    None => return Ok(Turn::Again),
                },
                (Err(error), _) => error,
            };
            match self.failures.after_send(&self.context, &op, &error, permit).await? {
                Next::Send(plainer) => op = plainer,
                Next::End(turn) => return Ok(turn),
            }
        }
    }

    /// Sends the plainer form that follows a failure, if there is one.
    pub(super) async fn go_on(&mut self, next: Next, permit: &Permit) -> Result<Turn, StoreError> {
        match next {
            Next::Send(op) => self.send(op, None, permit).await,
            Next::End(turn) => Ok(turn),
        }
    }
}
