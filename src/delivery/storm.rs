//! Tells a storm from new incidents that keep dripping in, by how fast they come. Pure.

use std::time::Duration;

use crate::{
    model::{CardId, Timestamp},
    store::DueCard,
};

/// How long new incidents are gathered in a storm, so that the homeserver's burst allowance is not spent on the first
/// few.
pub const GATHER_NEW: Duration = Duration::from_secs(1);
/// A storm is over once nothing new has come for this long; what is left waits for no more.
const OVER_AFTER: Duration = Duration::from_millis(250);
/// The least time between a card and one that goes out for the most severe in a storm, unless the homeserver is known to
/// take more. A rate limit would hold them for longer.
pub const URGENT_EVERY: Duration = Duration::from_millis(500);
/// So many go out at once before any are gathered.
const AT_ONCE: usize = 4;
/// For how long incidents count after they were accepted.
pub const WINDOW: Duration = Duration::from_secs(2);

/// How fast new incidents come into a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Accepted within the last second.
    pub last_second: usize,
    /// Accepted within [`WINDOW`].
    pub in_window: usize,
    /// Those of the window that wait no more.
    pub shown: usize,
    /// How long ago the newest of the window was accepted.
    pub quiet: Duration,
    /// How long ago the last card went out.
    pub since_card: Duration,
}

impl Pace {
    /// Nothing has come lately.
    pub const CALM: Self =
        Self { last_second: 0, in_window: 0, shown: 0, quiet: Duration::MAX, since_card: Duration::MAX };

    /// The pace of incidents that were accepted at these times, of which all but `waiting` are shown.
    pub fn of(accepted: impl Iterator<Item = Timestamp>, waiting: usize, now: Timestamp, since_card: Duration) -> Self {
        let mut pace = Self { since_card, ..Self::CALM };
        for age in accepted.map(|at| now.since(at)).filter(|age| *age < WINDOW) {
            pace.in_window += 1;
            pace.last_second += usize::from(age < WINDOW / 2);
            pace.quiet = pace.quiet.min(age);
        }
        Self { shown: pace.in_window.saturating_sub(waiting), ..pace }
    }

    /// Whether it is worthwhile to wait for more: several went out already, and at this pace more than `digest_above`
    /// come within two seconds.
    pub fn is_storm(&self, digest_above: usize) -> bool {
        digest_above > 0 && self.shown >= AT_ONCE && (2 * self.last_second).max(self.in_window) > digest_above
    }

    /// Whether more than `digest_above` came within two seconds, however many of them are shown already.
    pub fn is_above(&self, digest_above: usize) -> bool {
        self.in_window > digest_above
    }

    /// How long new incidents of which the oldest waits since then are still gathered in a storm.
    pub fn gather(&self, oldest: Timestamp, now: Timestamp) -> Duration {
        GATHER_NEW.saturating_sub(now.since(oldest)).min(OVER_AFTER.saturating_sub(self.quiet))
    }
}

/// Whether an incident is of the highest severity, and so is not gathered.
pub fn is_urgent(card: &DueCard) -> bool {
    card.severity == 0
}

/// Since when the oldest of these cards waits.
pub fn oldest(cards: &[DueCard], now: Timestamp) -> Timestamp {
    cards.iter().map(|card| card.dirty_since).min().unwrap_or(now)
}

/// The cards of the window that wait, with when they were accepted.
pub fn recent(cards: &[DueCard], now: Timestamp) -> impl Iterator<Item = (&CardId, Timestamp)> {
    let is_recent = move |card: &&DueCard| now.since(card.dirty_since) < WINDOW;
    cards.iter().filter(is_recent).map(|card| (&card.card, card.dirty_since))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(100_000);
    const ABOVE: usize = 8;

    /// What comes every so many milliseconds for ten seconds, the last just now; it waits, the others do not.
    fn drip(every: usize) -> Pace {
        let ages = (0..10_000).step_by(every).map(|age| Timestamp(NOW.0 - i64::from(age)));
        Pace::of(ages, 1, NOW, Duration::ZERO)
    }

    #[test]
    fn a_drip_is_a_storm_once_it_makes_more_than_a_digest_in_two_seconds() {
        for (every, expected) in [(3_000, false), (500, false), (300, false), (150, true), (9, true)] {
            assert_eq!(drip(every).is_storm(ABOVE), expected, "{every}");
        }
        assert!(!drip(150).is_storm(20) && !drip(9).is_storm(0), "what makes no digest is not waited for");
    }

    #[test]
    fn the_first_few_are_never_gathered() {
        let ages = || (0..40).map(|n| Timestamp(NOW.0 - n * 9));
        assert!(!Pace::of(ages(), 37, NOW, Duration::ZERO).is_storm(ABOVE), "three went out");
        assert!(Pace::of(ages(), 36, NOW, Duration::ZERO).is_storm(ABOVE));
    }

    #[test]
    fn gathering_ends_after_a_second_or_when_nothing_more_comes() {
        let coming = Pace { quiet: Duration::ZERO, ..Pace::CALM };
        let since = |ms: i64| Timestamp(NOW.0 - ms);
        assert_eq!(coming.gather(since(100), NOW), OVER_AFTER, "then it is asked again whether more came");
        assert_eq!(coming.gather(since(900), NOW), Duration::from_millis(100));
        assert_eq!(coming.gather(since(1_000), NOW), Duration::ZERO);
        assert_eq!(Pace { quiet: OVER_AFTER, ..coming }.gather(since(300), NOW), Duration::ZERO);
    }
}
