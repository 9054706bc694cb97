//! Points in time for readers of the page: relative, and exact.

use std::time::Duration;

use jiff::tz::TimeZone;

use crate::{
    model::Timestamp,
    render::time::{words, zoned},
};

/// One point in time, relative and exact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// `3 min ago`, `in 20 s`.
    pub near: String,
    /// `2026-11-22 18:19:58 UTC`.
    pub exact: String,
    /// For machines (RFC 3339).
    pub machine: String,
}

/// Formats times in one zone, relative to now.
#[derive(Clone, Debug)]
pub struct Times {
    zone: TimeZone,
    now: Timestamp,
    /// How far the wall clock is ahead of the receiver's own time, in milliseconds.
    ahead: i64,
}

impl Times {
    /// Falls back to UTC for an unknown zone; the start has checked the config's.
    #[must_use]
    pub fn new(zone: &str, now: Timestamp, ahead: i64) -> Self {
        Self { zone: TimeZone::get(zone).unwrap_or(TimeZone::UTC), now, ahead }
    }

    /// A time by the wall clock, such as the end of a certificate.
    #[must_use]
    pub fn at_wall(&self, at: Timestamp) -> Moment {
        self.at(at.moved(self.ahead.saturating_neg()))
    }

    #[must_use]
    pub fn at(&self, at: Timestamp) -> Moment {
        let near = if at > self.now {
            format!("in {}", words(at.since(self.now)))
        } else if self.now.since(at) < Duration::from_secs(1) {
            "just now".to_owned()
        } else {
            format!("{} ago", words(self.now.since(at)))
        };
        let zoned = zoned(at.moved(self.ahead), &self.zone);
        Moment {
            near,
            exact: zoned.strftime("%Y-%m-%d %H:%M:%S %Z").to_string(),
            machine: zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
        }
    }

    #[must_use]
    pub fn now(&self) -> Moment {
        self.at(self.now)
    }

    /// How long something has lasted.
    #[must_use]
    pub fn age(&self, since: Timestamp) -> String {
        words(self.now.since(since))
    }
}

/// `120 ms`, `3.2 s`, `14 min`.
#[must_use]
pub fn short(duration: Duration) -> String {
    match duration.as_secs_f64() {
        seconds if seconds < 1.0 => format!("{} ms", duration.as_millis()),
        seconds if seconds < 60.0 => format!("{seconds:.1} s"),
        _ => words(duration),
    }
}
