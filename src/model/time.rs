//! Points in time as the store keeps them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch, UTC. The one representation of a point in time inside the receiver: on its own line
/// (`Clock::now`) or of a wall clock. The two are equal until a wall clock is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// How long after `earlier` this is; zero when clocks disagree and it is not after at all.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How far a clock that shows this is ahead of one that shows `other`, in milliseconds, to the nearest second: less is
    /// how the two are read, and must not make one time be shown as two.
    #[must_use]
    pub fn ahead_of(self, other: Self) -> i64 {
        self.0.saturating_sub(other.0).saturating_add(500).div_euclid(1_000) * 1_000
    }

    #[must_use]
    pub fn moved(self, by_ms: i64) -> Self {
        Self(self.0.saturating_add(by_ms))
    }

    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }
}
