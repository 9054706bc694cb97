//! Logs when the wall clock is set. No rule depends on it, but readers of the log and of times on cards should know.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    health::{ClockSet, Health},
};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// In milliseconds; time synchronisation steps the clock by less.
const JUMP_MS: u64 = 5_000;

struct Jumps {
    /// By how many milliseconds the wall clock was ahead at the last jump.
    ahead: i64,
}

impl Jumps {
    /// By how much the wall clock was set since the last jump; negative: back.
    fn look(&mut self, ahead: i64) -> Option<i64> {
        let by = ahead.saturating_sub(self.ahead);
        if by.unsigned_abs() < JUMP_MS {
            return None;
        }
        self.ahead = ahead;
        Some(by)
    }
}

/// Looks until `stop`, and has the clock catch up on time that the machine slept.
pub async fn watch(clock: Clock, health: Arc<Health>, stop: CancellationToken) {
    let mut jumps = Jumps { ahead: clock.ahead() };
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(LOOK_EVERY) => {}
        }
        clock.catch_up();
        if let Some(by_ms) = jumps.look(clock.ahead()) {
            health.update(|health| health.clock_set = Some(ClockSet { at: clock.now(), by_ms }));
            tracing::warn!(by_s = by_ms / 1_000, "wall clock was set; shown times may be off");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    #[test]
    fn a_jump_is_logged_once_and_a_small_one_is_not() {
        let clock = Clock::manual(Timestamp(1_000_000));
        let mut jumps = Jumps { ahead: clock.ahead() };
        clock.advance(Duration::from_hours(50));
        assert_eq!(jumps.look(clock.ahead()), None, "time that passes is not a jump");
        for (set, expected) in [
            (4_000, None),
            (3 * 86_400_000, Some(3 * 86_400_000 + 4_000)),
            (0, None),
            (-86_400_000, Some(-86_400_000)),
            (0, None),
        ] {
            clock.jump(set);
            assert_eq!(jumps.look(clock.ahead()), expected, "{set}");
        }
    }
}
