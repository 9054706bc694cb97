//! What a picture shows, in words: for those who do not see it, and for names in scripts that it cannot draw.

use super::picture::{
    Scene,
    number::one,
    shown_unit,
    time_axis::{clock, zone_name},
};
use crate::text::one_line;

/// Bounds, in characters.
const MOST: usize = 300;
const MOST_EXPR: usize = 100;
const MOST_NAME: usize = 70;

/// One line.
pub(super) fn text(scene: &Scene<'_>) -> String {
    let (span, zone) = (scene.span, scene.zone);
    let unit = shown_unit(scene);
    let time = |at| clock(at, span.to, zone);
    let mut parts = Vec::new();
    if let Some(worst) = scene.chosen.series.first()
        && let Some(last) = worst.series.last()
    {
        let name = if worst.name.is_empty() { "the value" } else { &one_line(&worst.name, MOST_NAME) };
        parts.push(format!("{name} is {}", one(unit, last.value)));
    }
    if let Some(line) = scene.threshold {
        parts.push(format!("threshold {} {}", line.compared, one(unit, line.value)));
    }
    if let Some(began) = scene.began {
        parts.push(format!("firing since {}", time(began)));
    }
    match (scene.chosen.series.len(), scene.chosen.others) {
        (0 | 1, 0) => {}
        (shown, 0) => parts.push(format!("{shown} series")),
        (shown, others) => parts.push(format!("{shown} series shown, {others} not")),
    }
    let title = one_line(scene.title, MOST_EXPR);
    let range = format!("{}–{} {}", time(span.from), time(span.to), zone_name(span.to, zone));
    one_line(&format!("{title}, {range}: {}", parts.join(", ")), MOST)
}
