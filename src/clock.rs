//! The only source of time.
//!
//! There are two times. [`Clock::now`] is the receiver's monotonic time in milliseconds. Everything that is stored,
//! compared and waited for uses it, so that a change of the wall clock neither ages nor renews anything. It starts at the
//! wall clock when a store is made, and continues over restarts from the [`Mark`] that the store keeps. [`Clock::wall`] is
//! the time of people, certificates and other machines. [`Clock::shown`] converts from the first to the second.

use std::{
    fmt,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::model::Timestamp;

/// The longest downtime that is believed if only the wall clock measured it, because the machine was restarted or is
/// another one. It is shorter than any `stale_after`.
const MOST_AWAY: Duration = Duration::from_hours(1);
/// What the machine counts while it sleeps and the process's own count leaves out; less is how the two are read.
const LEAST_SLEEP: i64 = 1_000;

/// The system's clock, or in tests one that stands still until it is moved.
#[derive(Clone, Debug)]
pub enum Clock {
    System(Arc<Monotonic>),
    Manual(Arc<Manual>),
}

/// The receiver's monotonic time in a running process.
#[derive(Debug)]
pub struct Monotonic {
    started: Instant,
    /// The monotonic time at `started`.
    from: AtomicI64,
    /// Machine time less the process's own: grows while the machine sleeps. `i64::MIN`: not known.
    slept: AtomicI64,
    /// Times before this may be longer ago than they look. `i64::MIN`: none.
    unsure: AtomicI64,
}

#[derive(Debug)]
pub struct Manual {
    wall: AtomicI64,
    monotonic: AtomicI64,
    /// The machine that it plays: one that has run since the clock was made.
    boot: u64,
    up: AtomicI64,
    unsure: AtomicI64,
}

/// One instant on all clocks, from which the next process resumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    pub monotonic: Timestamp,
    pub wall: Timestamp,
    /// Which run of the machine it was, and how long that had lasted.
    pub boot: Option<(String, i64)>,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.monotonic.0, self.wall.0)?;
        self.boot.as_ref().map_or(Ok(()), |(boot, up)| write!(f, " {boot} {up}"))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a mark of the receiver's time")]
pub struct MarkError;

impl FromStr for Mark {
    type Err = MarkError;

    fn from_str(text: &str) -> Result<Self, MarkError> {
        let number = |text: &str| text.parse::<i64>().map_err(|_| MarkError);
        let words: Vec<&str> = text.split(' ').collect();
        let (monotonic, wall, boot) = match *words.as_slice() {
            [monotonic, wall] => (monotonic, wall, None),
            [monotonic, wall, boot, up] => (monotonic, wall, Some((boot.to_owned(), number(up)?))),
            _ => return Err(MarkError),
        };
        Ok(Self { monotonic: Timestamp(number(monotonic)?), wall: Timestamp(number(wall)?), boot })
    }
}

impl Mark {
    /// How long after this one `now` is: what the machine has counted, if it has run through; else what the wall clock
    /// says, as far as that can be believed.
    fn until(&self, now: &Self) -> Away {
        match (&self.boot, &now.boot) {
            (Some((boot, then)), Some((same, up))) if boot == same && up >= then => {
                Away { for_: millis(up - then), is_sure: true }
            }
            _ => Away { for_: now.wall.since(self.wall).min(MOST_AWAY), is_sure: false },
        }
    }
}

/// How long no process ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Away {
    pub for_: Duration,
    /// The machine counted it. Else it is what the wall clock says, and may have been longer or shorter.
    pub is_sure: bool,
}

fn millis(count: i64) -> Duration {
    Duration::from_millis(u64::try_from(count).unwrap_or(0))
}

impl Clock {
    /// The system's clock. Its monotonic time starts at the wall clock, until a store resumes an earlier one.
    #[must_use]
    pub fn system() -> Self {
        let monotonic = Monotonic {
            started: Instant::now(),
            from: AtomicI64::new(system_wall().0),
            slept: AtomicI64::new(i64::MIN),
            unsure: AtomicI64::new(i64::MIN),
        };
        monotonic.catch_up();
        Self::System(Arc::new(monotonic))
    }

    #[must_use]
    pub fn manual(at: Timestamp) -> Self {
        static BOOTS: AtomicU64 = AtomicU64::new(0);
        Self::Manual(Arc::new(Manual {
            wall: AtomicI64::new(at.0),
            monotonic: AtomicI64::new(at.0),
            boot: BOOTS.fetch_add(1, Ordering::Relaxed),
            up: AtomicI64::new(0),
            unsure: AtomicI64::new(i64::MIN),
        }))
    }

    /// The receiver's monotonic time, which no change of the wall clock affects.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System(monotonic) => {
                Timestamp(monotonic.from.load(Ordering::Relaxed)).plus(monotonic.started.elapsed())
            }
            Self::Manual(manual) => Timestamp(manual.monotonic.load(Ordering::Relaxed)),
        }
    }

    /// What the wall clock shows, be it right or wrong.
    #[must_use]
    pub fn wall(&self) -> Timestamp {
        match self {
            Self::System(_) => system_wall(),
            Self::Manual(manual) => Timestamp(manual.wall.load(Ordering::Relaxed)),
        }
    }

    /// How far the wall clock is ahead of the monotonic time, in milliseconds.
    #[must_use]
    pub fn ahead(&self) -> i64 {
        self.wall().ahead_of(self.now())
    }

    /// Converts a monotonic time to wall time, for people.
    #[must_use]
    pub fn shown(&self, at: Timestamp) -> Timestamp {
        at.moved(self.ahead())
    }

    /// Converts a wall time to monotonic time.
    #[must_use]
    pub fn of_wall(&self, at: Timestamp) -> Timestamp {
        at.moved(self.ahead().saturating_neg())
    }

    /// Whether all the time since `at` was counted. If the machine was restarted since, `at` may be longer ago than it
    /// looks, because only the wall clock measured that.
    #[must_use]
    pub fn has_counted_since(&self, at: Timestamp) -> bool {
        at.0 >= self.unsure().load(Ordering::Relaxed)
    }

    fn unsure(&self) -> &AtomicI64 {
        match self {
            Self::System(monotonic) => &monotonic.unsure,
            Self::Manual(manual) => &manual.unsure,
        }
    }

    /// Counts the time in which the machine slept, which the process's own count leaves out.
    pub fn catch_up(&self) {
        if let Self::System(monotonic) = self {
            monotonic.catch_up();
        }
    }

    /// The mark of this instant.
    #[must_use]
    pub fn mark(&self) -> Mark {
        let boot = match self {
            Self::System(_) => boot_id().zip(uptime()),
            Self::Manual(manual) => Some((format!("manual-{}", manual.boot), manual.up.load(Ordering::Relaxed))),
        };
        Mark { monotonic: self.now(), wall: self.wall(), boot }
    }

    /// Resumes from the last mark of an earlier process. Only at start, since the time may step back.
    #[must_use]
    pub fn resume(&self, mark: &Mark) -> Away {
        let away = mark.until(&self.mark());
        let at = mark.monotonic.plus(away.for_);
        match self {
            Self::System(monotonic) => {
                let run = i64::try_from(monotonic.started.elapsed().as_millis()).unwrap_or(i64::MAX);
                monotonic.from.store(at.0.saturating_sub(run), Ordering::Relaxed);
            }
            Self::Manual(manual) => manual.monotonic.store(at.0, Ordering::Relaxed),
        }
        self.unsure().store(if away.is_sure { i64::MIN } else { at.0 }, Ordering::Relaxed);
        away
    }

    /// Whether it stands still until it is moved.
    #[must_use]
    pub fn is_manual(&self) -> bool {
        matches!(self, Self::Manual(_))
    }

    /// Sets the monotonic time, which a store that others share has counted. It may step by what the clocks of machines
    /// differ.
    pub fn follow(&self, at: Timestamp) {
        match self {
            Self::System(monotonic) => {
                let run = i64::try_from(monotonic.started.elapsed().as_millis()).unwrap_or(i64::MAX);
                monotonic.from.store(at.0.saturating_sub(run), Ordering::Relaxed);
            }
            Self::Manual(manual) => manual.monotonic.store(at.0, Ordering::Relaxed),
        }
    }

    /// Starts the monotonic time at `at` in a store that others share. `is_sure`: what was before was counted by them.
    pub fn join(&self, at: Timestamp, is_sure: bool) {
        self.follow(at);
        self.unsure().store(if is_sure { i64::MIN } else { at.0 }, Ordering::Relaxed);
    }

    /// Lets time pass on a manual clock; does nothing to the system's.
    pub fn advance(&self, by: Duration) {
        if let Self::Manual(manual) = self {
            let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
            manual.wall.fetch_add(by, Ordering::Relaxed);
            manual.monotonic.fetch_add(by, Ordering::Relaxed);
            manual.up.fetch_add(by, Ordering::Relaxed);
        }
    }

    /// Sets a manual wall clock ahead, or back, while no time passes; does nothing to the system's.
    pub fn jump(&self, by_ms: i64) {
        if let Self::Manual(manual) = self {
            manual.wall.fetch_add(by_ms, Ordering::Relaxed);
        }
    }
}

impl Monotonic {
    fn catch_up(&self) {
        let Some(up) = uptime() else { return };
        let run = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        let (slept, known) = (up - run, self.slept.load(Ordering::Relaxed));
        if known == i64::MIN {
            self.slept.store(slept, Ordering::Relaxed);
        } else if slept - known >= LEAST_SLEEP {
            self.slept.store(slept, Ordering::Relaxed);
            self.from.fetch_add(slept - known, Ordering::Relaxed);
        }
    }
}

fn system_wall() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "the one place where the time comes from")]
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}

/// How long the machine has run, sleep included. `Instant` leaves sleep out, and the clock that counts it is not in the
/// standard library.
fn uptime() -> Option<i64> {
    uptime_in(&std::fs::read_to_string("/proc/uptime").ok()?)
}

fn uptime_in(text: &str) -> Option<i64> {
    let (seconds, hundredths) = text.split_whitespace().next()?.split_once('.')?;
    Some(seconds.parse::<i64>().ok()?.checked_mul(1_000)? + hundredths.parse::<i64>().ok()? * 10)
}

fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned();
    (!id.is_empty() && !id.contains(' ')).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);
    const HOUR_MS: i64 = 3_600_000;
    const DAY_MS: i64 = 24 * HOUR_MS;

    #[test]
    fn a_wall_clock_that_is_set_moves_no_time_of_ours() {
        let clock = Clock::manual(Timestamp(1_000));
        clock.jump(3 * DAY_MS);
        assert_eq!((clock.now(), clock.wall()), (Timestamp(1_000), Timestamp(1_000 + 3 * DAY_MS)));
        clock.jump(-5 * DAY_MS);
        clock.advance(HOUR);
        assert_eq!((clock.now(), clock.ahead()), (Timestamp(1_000).plus(HOUR), -2 * DAY_MS));
        assert_eq!(clock.shown(Timestamp(1_000)), Timestamp(1_000 - 2 * DAY_MS));
        assert_eq!(clock.of_wall(clock.shown(Timestamp(1_000))), Timestamp(1_000));
    }

    #[test]
    fn the_system_s_line_starts_at_the_wall_clock_and_passes_with_it() {
        let clock = Clock::system();
        assert!(clock.ahead().abs() < 60_000, "{}", clock.ahead());
        let (before, mark) = (clock.now(), clock.mark());
        clock.catch_up();
        assert!(clock.now() >= before && clock.now().since(before) < HOUR);
        assert_eq!(mark.to_string().parse(), Ok(mark));
    }

    #[test]
    fn a_line_goes_on_by_what_the_machine_counted_else_by_what_the_wall_clock_can_be_believed() {
        let mark = |wall: i64, boot: Option<(&str, i64)>| Mark {
            monotonic: Timestamp(7),
            wall: Timestamp(wall),
            boot: boot.map(|(id, up)| (id.to_owned(), up)),
        };
        let then = mark(0, Some(("a", 5_000)));
        for (now, expected) in [
            (mark(9 * DAY_MS, Some(("a", 8_000))), (3_000, true)),
            (mark(-9 * DAY_MS, Some(("a", 5_000))), (0, true)),
            (mark(60_000, Some(("b", 8_000))), (60_000, false)),
            (mark(60_000, None), (60_000, false)),
            (mark(60_000, Some(("a", 4_000))), (60_000, false)),
            (mark(9 * DAY_MS, Some(("b", 8_000))), (HOUR_MS, false)),
            (mark(-9 * DAY_MS, Some(("b", 8_000))), (0, false)),
        ] {
            let away = then.until(&now);
            assert_eq!((away.for_, away.is_sure), (millis(expected.0), expected.1), "{now}");
        }
        let clock = Clock::manual(Timestamp(60_000));
        assert!(!clock.resume(&then).is_sure);
        assert_eq!(clock.now(), Timestamp(60_007));
        assert!(clock.has_counted_since(Timestamp(60_007)) && !clock.has_counted_since(Timestamp(60_006)));
        assert!(clock.resume(&clock.mark()).is_sure && clock.has_counted_since(Timestamp(0)));
    }

    #[test]
    fn who_joins_others_believes_what_they_have_counted() {
        let clock = Clock::manual(Timestamp(60_000));
        clock.join(Timestamp(70_000), true);
        assert!(clock.now() == Timestamp(70_000) && clock.has_counted_since(Timestamp(0)));
        clock.join(Timestamp(70_000), false);
        assert!(!clock.has_counted_since(Timestamp(69_999)) && clock.has_counted_since(Timestamp(70_000)));
    }

    #[test]
    fn what_is_no_mark_is_refused() {
        for text in ["", "1", "1 2 a", "a 2", "1 2 a b", "1 2 a 3 4"] {
            assert_eq!(text.parse::<Mark>(), Err(MarkError), "{text:?}");
        }
    }

    #[test]
    fn uptime_is_read_to_the_hundredth() {
        assert_eq!(uptime_in("12345.67 98765.43\n"), Some(12_345_670));
        assert_eq!(uptime_in("12345.07 1.00\n"), Some(12_345_070));
        assert_eq!(uptime_in("up since noon"), None);
    }
}
