//! Numbers for people: three digits that count, and a unit of fitting size.

use super::super::unit::Unit;

/// A unit of some size: a number is divided by `factor` and followed by `suffix`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in super::super) struct Size {
    pub(super) factor: f64,
    suffix: &'static str,
}

const KIB: f64 = 1024.0;
const MINUTE: f64 = 60.0;
const HOUR: f64 = 60.0 * MINUTE;
const DAY: f64 = 24.0 * HOUR;

/// Factor, suffix and the number from which on it is used; the largest first.
type Sizes = &'static [(f64, &'static str, f64)];

const PLAIN: Sizes = &[
    (1e18, "E", 1e18),
    (1e15, "P", 1e15),
    (1e12, "T", 1e12),
    (1e9, "G", 1e9),
    (1e6, "M", 1e6),
    (1e3, "k", 1e4),
    (1.0, "", 1e-3),
    (1e-6, "µ", 1e-6),
    (1e-9, "n", 1e-9),
];
const PER_SECOND: Sizes = &[
    (1e18, "E/s", 1e18),
    (1e15, "P/s", 1e15),
    (1e12, "T/s", 1e12),
    (1e9, "G/s", 1e9),
    (1e6, "M/s", 1e6),
    (1e3, "k/s", 1e4),
    (1.0, "/s", 1e-3),
    (1e-6, "µ/s", 1e-6),
];
const BYTES: Sizes = &[
    (KIB * KIB * KIB * KIB * KIB * KIB, " EiB", KIB * KIB * KIB * KIB * KIB * KIB),
    (KIB * KIB * KIB * KIB * KIB, " PiB", KIB * KIB * KIB * KIB * KIB),
    (KIB * KIB * KIB * KIB, " TiB", KIB * KIB * KIB * KIB),
    (KIB * KIB * KIB, " GiB", KIB * KIB * KIB),
    (KIB * KIB, " MiB", KIB * KIB),
    (KIB, " KiB", KIB),
    (1.0, " B", 1e-3),
];
const BYTES_PER_SECOND: Sizes = &[
    (KIB * KIB * KIB * KIB, " TiB/s", KIB * KIB * KIB * KIB),
    (KIB * KIB * KIB, " GiB/s", KIB * KIB * KIB),
    (KIB * KIB, " MiB/s", KIB * KIB),
    (KIB, " KiB/s", KIB),
    (1.0, " B/s", 1e-3),
];
const SECONDS: Sizes = &[
    (DAY, " d", 2.0 * DAY),
    (HOUR, " h", 2.0 * HOUR),
    (MINUTE, " min", 2.0 * MINUTE),
    (1.0, " s", 1.0),
    (1e-3, " ms", 1e-3),
    (1e-6, " µs", 1e-6),
    (1e-9, " ns", 1e-9),
];
const RATIO: Sizes = &[(1e-2, "%", 1e-5)];
const PERCENT: Sizes = &[(1.0, "%", 1e-3)];

/// Above this a ratio is how many times something is, and seconds are a date.
const MAX_RATIO: f64 = 2.0;
const MAX_SECONDS: f64 = 1e9;
/// What no size is made for is written as a power of ten.
const MAX_PLAIN: f64 = 1e21;
const MIN_PLAIN: f64 = 1e-10;

/// The unit as it is shown for numbers up to `most`.
pub(in super::super) fn shown(unit: Unit, most: f64) -> Unit {
    match unit {
        Unit::Ratio if most > MAX_RATIO => Unit::Plain,
        Unit::Seconds if most > MAX_SECONDS => Unit::Plain,
        unit => unit,
    }
}

impl Size {
    /// That in which numbers up to `most` are read most easily.
    pub(super) fn of(unit: Unit, most: f64) -> Self {
        let sizes = match unit {
            Unit::Plain => PLAIN,
            Unit::PerSecond => PER_SECOND,
            Unit::Bytes => BYTES,
            Unit::BytesPerSecond => BYTES_PER_SECOND,
            Unit::Seconds => SECONDS,
            Unit::Ratio => RATIO,
            Unit::Percent => PERCENT,
        };
        // Rounding would make 1000 of 999.9.
        let most = most.abs() * 1.0005;
        let most = if most == 0.0 { 1.0 } else { most };
        let fitting = sizes.iter().find(|(_, _, from)| most >= *from).or(sizes.last());
        fitting.map_or(Self { factor: 1.0, suffix: "" }, |(factor, suffix, _)| Self { factor: *factor, suffix })
    }

    /// With so many decimal places.
    pub(super) fn text(self, value: f64, decimals: usize) -> String {
        let scaled = value / self.factor;
        if value.abs() >= MAX_PLAIN || (value != 0.0 && (scaled.abs() < 1e-3 || value.abs() < MIN_PLAIN)) {
            return power(value, self.suffix.trim_matches(|c: char| "EPTGMkµn".contains(c)));
        }
        let mut digits = format!("{scaled:.decimals$}");
        if digits.contains('.') {
            digits.truncate(digits.trim_end_matches('0').trim_end_matches('.').len());
        }
        if matches!(digits.as_str(), "0" | "-0") {
            return "0".to_owned();
        }
        format!("{}{}", digits.replace('-', "−"), self.suffix)
    }
}

/// One number with three digits that count.
pub(in super::super) fn one(unit: Unit, value: f64) -> String {
    let size = Size::of(unit, value);
    let decimals = match (value / size.factor).abs() {
        100.0.. => 0,
        10.0.. => 1,
        1.0.. | 0.0 => 2,
        0.1.. => 3,
        0.01.. => 4,
        _ => 5,
    };
    size.text(value, decimals)
}

fn power(value: f64, suffix: &str) -> String {
    let text = format!("{value:.1e}").replace(".0e", "e").replace('-', "−");
    format!("{text}{suffix}")
}
