//! The last hours as three rows of bars.

use std::time::Duration;

use super::time::short;
use crate::render::time;

/// Each bar has this much width, of which it fills [`WIDTH`]; the browser scales the chart to the page.
const STEP: usize = 10;
const WIDTH: usize = 8;
/// The tallest bar.
const HEIGHT: f64 = 100.0;
/// The smallest bar: one event among thousands is still visible.
const LEAST: f64 = 6.0;

/// What happened in one period.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bar {
    /// Notifications.
    pub accepted: f64,
    /// Room events.
    pub delivered: f64,
    /// The total time of the deliveries.
    pub seconds: f64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Picture {
    /// How far back it goes.
    pub span: Duration,
    /// The period of one bar.
    pub each: Duration,
    /// Oldest first.
    pub bars: Vec<Bar>,
}

/// One row of bars, ready to draw.
pub(super) struct Row {
    pub(super) class: &'static str,
    pub(super) name: &'static str,
    /// A summary in words.
    pub(super) sum: String,
    pub(super) rects: Vec<Rect>,
}

pub(super) struct Rect {
    pub(super) x: usize,
    pub(super) y: u32,
    pub(super) height: u32,
}

impl Picture {
    pub(super) fn width(&self) -> usize {
        self.bars.len() * STEP
    }

    pub(super) fn bar_width() -> usize {
        WIDTH
    }

    pub(super) fn goes_back(&self) -> String {
        time::words(self.span)
    }

    pub(super) fn rows(&self) -> [Row; 3] {
        let counted = |name, class, count: fn(&Bar) -> f64| {
            let values: Vec<f64> = self.bars.iter().map(count).collect();
            let (sum, most) = (values.iter().sum::<f64>(), most(&values));
            let sum = if sum == 0.0 {
                "none".to_owned()
            } else {
                format!("{sum:.0}, at most {most:.0} in {}", time::words(self.each))
            };
            Row { class, name, sum, rects: rects(&values) }
        };
        let latency = |bar: &Bar| if bar.delivered > 0.0 { bar.seconds / bar.delivered } else { 0.0 };
        let means: Vec<f64> = self.bars.iter().map(latency).collect();
        let delivered: f64 = self.bars.iter().map(|bar| bar.delivered).sum();
        let sum = if delivered == 0.0 {
            "nothing to measure".to_owned()
        } else {
            let mean = self.bars.iter().map(|bar| bar.seconds).sum::<f64>() / delivered;
            format!("{} on average, at most {}", of_seconds(mean), of_seconds(most(&means)))
        };
        [
            counted("Webhooks accepted", "accepted", |bar| bar.accepted),
            counted("Events delivered", "delivered", |bar| bar.delivered),
            Row { class: "latency", name: "Time to the room", sum, rects: rects(&means) },
        ]
    }
}

fn of_seconds(seconds: f64) -> String {
    short(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

fn most(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

fn rects(values: &[f64]) -> Vec<Rect> {
    let most = most(values);
    let bar = |(index, value): (usize, &f64)| {
        let height = (value / most * HEIGHT).clamp(LEAST, HEIGHT);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 6 and 100")]
        let height = height.round() as u32;
        Rect { x: index * STEP, y: 100 - height, height }
    };
    values.iter().enumerate().filter(|(_, value)| **value > 0.0).map(bar).collect()
}
