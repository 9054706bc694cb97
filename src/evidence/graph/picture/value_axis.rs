//! The axis of values: its range, its ticks, and what becomes of a threshold that is far away.

use super::{
    super::{comparison::Threshold, unit::Unit},
    number::{self, Size},
};

/// Values beyond are drawn at the edge, so that differences stay finite.
const MOST: f64 = 1e300;
/// Ticks, at most one more.
const TICKS: f64 = 5.0;
/// Room above and below the values, as a share of their range.
const ROOM: f64 = 0.08;
/// How far away a threshold is still shown, in ranges of the values, or in values where they differ little.
const REACH: f64 = 4.0;
const REACH_OF_VALUE: f64 = 1.0;

#[derive(Clone, Debug, PartialEq)]
pub(in super::super) struct ValueAxis {
    pub(in super::super) low: f64,
    pub(in super::super) high: f64,
    pub(in super::super) unit: Unit,
    /// Values, and how they are written.
    pub(in super::super) ticks: Vec<(f64, String)>,
    /// Where the threshold is.
    pub(in super::super) threshold: Option<Place>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Place {
    Shown,
    AboveAll,
    BelowAll,
}

impl ValueAxis {
    /// For values from `least` to `most`.
    pub(in super::super) fn new(least: f64, most: f64, threshold: Option<Threshold>, unit: Unit) -> Self {
        let (least, most) = (least.clamp(-MOST, MOST), most.clamp(-MOST, MOST));
        let line = threshold.map(|threshold| threshold.value.clamp(-MOST, MOST));
        let (mut low, mut high) = (least, most);
        let place = line.map(|line| {
            let reach = (REACH * (most - least)).max(REACH_OF_VALUE * most.abs().max(least.abs()));
            if line > most + reach {
                Place::AboveAll
            } else if line < least - reach {
                Place::BelowAll
            } else {
                (low, high) = (low.min(line), high.max(line));
                Place::Shown
            }
        });
        let whole = least.fract() == 0.0 && most.fract() == 0.0 && most.abs().max(least.abs()) < 1e15;
        let (low, high) = with_room(low, high, whole && unit == Unit::Plain);
        let unit = number::shown(unit, high.abs().max(low.abs()));
        let no_negative = least >= 0.0 && line.is_none_or(|line| line >= 0.0);
        let ticks = ticks((low, high), unit, no_negative, whole && unit == Unit::Plain);
        Self { low, high, unit, ticks, threshold: place }
    }

    /// Where the value is, from 0 at the bottom to 1 at the top.
    pub(in super::super) fn share(&self, value: f64) -> f64 {
        ((value.clamp(-MOST, MOST) - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }
}

fn with_room(low: f64, high: f64, whole: bool) -> (f64, f64) {
    let size = high.abs().max(low.abs());
    let range = high - low;
    if range <= size * 1e-9 {
        // A flat line is in the middle.
        let around = if whole && size < 10.0 || size == 0.0 { 1.0 } else { size * 0.2 };
        return (low - around, high + around);
    }
    let from_zero = low >= 0.0 && low <= 0.4 * high;
    let to_zero = high <= 0.0 && high >= 0.4 * low;
    let low_with_room = if from_zero { 0.0 } else { low - ROOM * range };
    let high_with_room = if to_zero { 0.0 } else { high + ROOM * range };
    // A line at zero is not drawn on the picture's edge.
    let base = 0.03 * (high_with_room - low_with_room);
    let low_with_room = if from_zero && low < base { low_with_room - base } else { low_with_room };
    let high_with_room = if to_zero && high > -base { high_with_room + base } else { high_with_room };
    (low_with_room, high_with_room)
}

fn ticks((low, high): (f64, f64), unit: Unit, no_negative: bool, whole: bool) -> Vec<(f64, String)> {
    let size = Size::of(unit, high.abs().max(low.abs()));
    let step = step((high - low) / size.factor / TICKS) * size.factor;
    let step = if whole { step.max(1.0) } else { step };
    let decimals = decimals(step / size.factor);
    let first = (low / step).ceil();
    let mut ticks = Vec::new();
    for index in 0..12 {
        let value = (first + f64::from(index)) * step;
        if value > high || !value.is_finite() {
            break;
        }
        if value >= 0.0 || !no_negative {
            ticks.push((value, size.text(value, decimals)));
        }
    }
    ticks
}

/// 1, 2 or 5 times a power of ten, at least `raw`.
fn step(raw: f64) -> f64 {
    let power = 10_f64.powf(raw.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= raw * 0.999).unwrap_or(10.0);
    factor * power
}

/// How many places a multiple of `step` needs.
fn decimals(step: f64) -> usize {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 12")]
    let places = (-step.log10().floor()).clamp(0.0, 12.0) as usize;
    places
}
