//! Sends frozen ops, one after the other while there is nothing else to do in between.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Lane,
    turn::{Next, Turn},
};
use crate::{
    delivery::{PLAIN_FOR, gate::Permit},
    model::Op,
    store::StoreError,
};

/// Which answers that a room is not encrypted are new enough.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// For the event that is sent: those since then. `None`: none.
    pub since: Option<Instant>,
    /// For the one that follows it, most likely. `None`: none that is had before this one is sent.
    pub enough: Option<Instant>,
}

impl Asked {
    /// `since`: when the homeserver was asked for the first event of these, or that one began. `took`: how long the last
    /// one took.
    fn now(since: Option<Instant>, took: Duration) -> Self {
        let now = Instant::now();
        let newest = |since: Instant| since.max(now.checked_sub(PLAIN_FOR).unwrap_or(since));
        // The next one is sent when this one is in the room, which may take somewhat longer than the last.
        let left = PLAIN_FOR.saturating_sub(2 * took);
        Self { since: since.map(newest), enough: (took < PLAIN_FOR).then_some(now.checked_sub(left).unwrap_or(now)) }
    }
}

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
        let (mut asked_since, mut took) = (asked_since, Duration::ZERO);
        let mut newer = None;
        loop {
            let permit = newer.as_ref().unwrap_or(permit);
            let sent_at = Instant::now();
            let error = match self.send_and_prepare(&op, Asked::now(asked_since, took), permit).await {
                (Ok(event), prepared) => match self.finish(&op, &event, permit, prepared).await? {
                    Some((next, permit)) => {
                        (op, newer, took) = (next, Some(permit), sent_at.elapsed());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_must_last_until_the_next_event_is_sent() {
        let millis = Duration::from_millis;
        for (took, enough) in [(0, Some(250)), (50, Some(150)), (120, Some(10)), (130, Some(0)), (250, None)] {
            let before = Instant::now();
            let asked = Asked::now(None, millis(took));
            let after = Instant::now();
            assert_eq!(asked.since, None, "the first one asks for itself");
            let age = |of: Instant| asked.enough.map(|at| of.saturating_duration_since(at));
            let enough = enough.map(millis);
            assert!(age(before) <= enough && enough <= age(after), "{took} ms: {:?} to {:?}", age(before), age(after));
        }
        let long_ago = Instant::now().checked_sub(millis(900)).expect("a time");
        let since = Asked::now(Some(long_ago), Duration::ZERO).since.expect("since");
        assert!(since.elapsed() >= PLAIN_FOR && since > long_ago, "not older than that");
    }
}
