//! Notices when the wall clock is set. Nothing has to be done about it, since no rule goes by it; but whoever reads the
//! log, or times on cards, is to know.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    health::{ClockSet, Health},
};

const LOOK: Duration = Duration::from_secs(1);
/// What a machine's own keeping of the time corrects at once is less.
const JUMP: u64 = 5_000;

struct Jumps {
    /// How far the wall clock was ahead when it was told of last.
    ahead: i64,
}

impl Jumps {
    /// By how much the wall clock was set since the last jump; negative: back.
    fn look(&mut self, ahead: i64) -> Option<i64> {
        let by = ahead.saturating_sub(self.ahead);
        if by.unsigned_abs() < JUMP {
            return None;
        }
        self.ahead = ahead;
        Some(by)
    }
}

/// Looks until `stop`; also counts what the machine slept.
pub async fn watch(clock: Clock, health: Arc<Health>, stop: CancellationToken) {
    let mut jumps = Jumps { ahead: clock.ahead() };
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(LOOK) => {}
        }
        clock.catch_up();
        if let Some(by_ms) = jumps.look(clock.ahead()) {
            health.update(|health| health.clock_set = Some(ClockSet { at: clock.now(), by_ms }));
            tracing::warn!(
                by_s = by_ms / 1_000,
                "the wall clock was set; nothing is closed, forgotten or waited for by it, but times that were shown may be off"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    #[test]
    fn a_jump_is_told_once_and_what_is_small_is_not() {
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
