//! The axis of time, in the room's time zone.

use jiff::{Zoned, civil::Date, tz::TimeZone};

use crate::model::Timestamp;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// Between two ticks, in seconds.
const STEPS: [i64; 17] = [
    MINUTE,
    2 * MINUTE,
    5 * MINUTE,
    10 * MINUTE,
    15 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    3 * HOUR,
    4 * HOUR,
    6 * HOUR,
    12 * HOUR,
    DAY,
    2 * DAY,
    7 * DAY,
    14 * DAY,
    28 * DAY,
];

/// Times and how they are written, at most `most` or so.
pub(in super::super) fn ticks(
    from: Timestamp,
    to: Timestamp,
    zone: &TimeZone,
    most: usize,
) -> Vec<(Timestamp, String)> {
    let range = (to.0 - from.0).max(0) / 1_000;
    let fits = |step: &&i64| usize::try_from(range / **step).is_ok_and(|count| count <= most);
    let step = *STEPS.iter().find(fits).unwrap_or(&STEPS[STEPS.len() - 1]);
    let first_day = zoned(from, zone).date();
    let days = zoned(to, zone).date() != first_day;
    let mut ticks: Vec<(Timestamp, String)> = Vec::new();
    let mut named: Option<Date> = None;
    for at in clock_times(first_day, step, range) {
        // What the clock skips or repeats in spring and autumn becomes one time.
        let Some(at) = at.and_then(|at| at.to_zoned(zone.clone()).ok()) else { continue };
        let stamp = Timestamp(at.timestamp().as_millisecond());
        if stamp < from || stamp > to || ticks.last().is_some_and(|(last, _)| *last >= stamp) {
            continue;
        }
        let format = if step >= DAY {
            "%-d %b"
        } else if days && named != Some(at.date()) {
            named = Some(at.date());
            "%a %H:%M"
        } else {
            "%H:%M"
        };
        ticks.push((stamp, at.strftime(format).to_string()));
    }
    ticks
}

/// Each `step` from midnight on, by the clock on the wall, until past the range.
fn clock_times(day: Date, step: i64, range: i64) -> impl Iterator<Item = Option<jiff::civil::DateTime>> {
    // The range begins within the first day; an hour for a clock that is set.
    let last = (DAY + range + HOUR) / step;
    let midnight = day.at(0, 0, 0, 0);
    (0..=last).map(move |index| midnight.checked_add(jiff::Span::new().try_seconds(index * step).ok()?).ok())
}

/// `14:02`, with the day if that is not the one of `reference`.
pub(in super::super) fn clock(at: Timestamp, reference: Timestamp, zone: &TimeZone) -> String {
    let (at, reference) = (zoned(at, zone), zoned(reference, zone));
    at.strftime(if at.date() == reference.date() { "%H:%M" } else { "%a %H:%M" }).to_string()
}

pub(in super::super) fn zone_name(at: Timestamp, zone: &TimeZone) -> String {
    zoned(at, zone).strftime("%Z").to_string()
}

/// Clamps a time to what the calendar can hold, well inside of it, so that an offset cannot leave it.
fn zoned(at: Timestamp, zone: &TimeZone) -> Zoned {
    let (min, max) = (-62_135_510_400_000, 253_402_200_000_000);
    jiff::Timestamp::from_millisecond(at.0.clamp(min, max)).unwrap_or_default().to_zoned(zone.clone())
}
