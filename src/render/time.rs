//! Points in time and durations in words.

use std::time::Duration;

use jiff::{Zoned, civil::Date, tz::TimeZone};

use crate::model::Timestamp;

/// Formats times for one card: in the configured zone, with the day only where it differs from the day of the card's
/// first event (which the client shows already).
pub(super) struct TimeFormat<'a> {
    zone: &'a TimeZone,
    day: Date,
}

impl<'a> TimeFormat<'a> {
    pub(super) fn new(zone: &'a TimeZone, reference: Timestamp) -> Self {
        Self { zone, day: zoned(reference, zone).date() }
    }

    /// `12:03`, or `21 Nov 12:03`.
    pub(super) fn minute(&self, at: Timestamp) -> String {
        self.with_day(at, "%H:%M")
    }

    /// `12:03:59`, or `21 Nov 12:03:59`.
    pub(super) fn second(&self, at: Timestamp) -> String {
        self.with_day(at, "%H:%M:%S")
    }

    fn with_day(&self, at: Timestamp, format: &str) -> String {
        let at = zoned(at, self.zone);
        let day = match at.date() {
            day if day == self.day => "",
            day if day.year() == self.day.year() => "%-d %b ",
            _ => "%-d %b %Y ",
        };
        at.strftime(&format!("{day}{format}")).to_string()
    }

    /// `12:03 UTC`.
    pub(super) fn with_zone(&self, at: Timestamp) -> String {
        format!("{} {}", self.minute(at), self.zone_name(at))
    }

    /// `12:03–12:25 UTC`.
    pub(super) fn range(&self, from: Timestamp, to: Timestamp) -> String {
        let (start, end) = (self.minute(from), self.minute(to));
        if self.zone_name(from) != self.zone_name(to) {
            format!("{} – {}", self.with_zone(from), self.with_zone(to))
        } else if start == end {
            self.with_zone(to)
        } else if start.contains(' ') || end.contains(' ') {
            format!("{start} – {end} {}", self.zone_name(to))
        } else {
            format!("{start}–{end} {}", self.zone_name(to))
        }
    }

    pub(super) fn zone_name(&self, at: Timestamp) -> String {
        zoned(at, self.zone).strftime("%Z").to_string()
    }
}

/// Clamps a time to what the calendar can hold.
pub(super) fn zoned(at: Timestamp, zone: &TimeZone) -> Zoned {
    // Well inside jiff's range, so that an offset cannot leave it.
    let (min, max) = (-62_135_510_400_000, 253_402_200_000_000);
    jiff::Timestamp::from_millisecond(at.0.clamp(min, max)).unwrap_or_default().to_zoned(zone.clone())
}

/// `45 s`, `14 min`, `3 h 5 min`, `2 d 4 h`.
pub(super) fn words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    let two = |large: u64, unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large} {unit}"),
        _ => format!("{large} {unit} {small} {small_unit}"),
    };
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, _, _) => two(hours, "h", minutes % 60, "min"),
        _ => two(days, "d", hours % 24, "h"),
    }
}
