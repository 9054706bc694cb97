//! A room that refuses events, or whose event fails alone: the room waits, and health shows why.

use std::time::Duration;

use super::context::RoomContext;
use crate::{
    health::Hold,
    model::{Reason, SendError},
};

#[derive(Debug, Default)]
pub(super) struct RoomFailures {
    in_a_row: u32,
}

impl RoomFailures {
    /// Holds the room after one more failure, and returns for how long. `backoff` takes the failures in a row and
    /// jitter.
    pub fn hold(
        &mut self,
        context: &RoomContext,
        error: &SendError,
        backoff: impl Fn(u32, f64) -> Duration,
    ) -> Duration {
        self.in_a_row = self.in_a_row.saturating_add(1);
        let wait = backoff(self.in_a_row, rand::random());
        let now = context.clock.now();
        context.health.update(|health| {
            if let Some(room) = health.rooms.get_mut(&context.room) {
                room.hold = Some(Hold {
                    reason: error.to_string(),
                    rate_limit: error.reason == Reason::JoinLimited,
                    since: room.hold.as_ref().map_or(now, |hold| hold.since),
                    until: Some(now.plus(wait)),
                });
            }
        });
        wait
    }

    /// Ends the hold: the room accepted an event, or goes on without the one that failed.
    pub fn release(&mut self, context: &RoomContext) {
        if std::mem::take(&mut self.in_a_row) > 0 {
            tracing::info!(room = %context.name, "the room accepts events again");
        }
        context.health.update(|health| {
            if let Some(room) = health.rooms.get_mut(&context.room) {
                room.hold = None;
            }
        });
    }

    pub fn is_holding(&self) -> bool {
        self.in_a_row > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::Clock, delivery::lane::tests::Harness, model::Timestamp};

    #[tokio::test]
    async fn a_hold_keeps_its_start_and_ends_with_a_release() {
        let clock = Clock::manual(Timestamp(1_800_000_000_000));
        let harness = Harness::at("!one:example.org", clock.clone()).await;
        let (context, mut failures) = (harness.room_context(), RoomFailures::default());
        let hold = || context.health.snapshot().rooms[&context.room].hold.clone();
        let began = clock.now();
        let error = SendError { reason: Reason::RoomRefused, retry_after: None, detail: "no power".to_owned() };
        for failures_in_a_row in 1..=2 {
            let wait = failures.hold(&context, &error, |failures, _| Duration::from_secs(u64::from(failures)));
            assert_eq!(wait, Duration::from_secs(failures_in_a_row));
            let expected = Hold {
                reason: "room_refused: no power".to_owned(),
                rate_limit: false,
                since: began,
                until: Some(clock.now().plus(wait)),
            };
            assert_eq!(hold(), Some(expected));
            clock.advance(wait);
        }
        assert!(failures.is_holding());
        failures.release(&context);
        assert!(hold().is_none() && !failures.is_holding());
    }
}
