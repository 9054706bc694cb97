//! Names and last values: a column beside the plot, or for one line a place above it.

use super::{
    super::unit::Unit,
    DIM, EDGE, HEIGHT, SIZE, Scene, TEXT, TITLE_BASE, TITLE_SIZE,
    canvas::{Anchor, Canvas, cut_middle, width as text_width},
    number,
    plot::{color, sample},
};

const MOST: f32 = 440.0;
/// Beside the plot, and between a line's sample, its name and its value.
const GAP: f32 = 26.0;
const SAMPLE: f32 = 46.0;
const SPACE: f32 = 12.0;
const TOP: f32 = 58.0;
const ROW: f32 = 41.0;

/// The width of the column; 0 where there is none.
pub(super) fn width(scene: &Scene<'_>, unit: Unit) -> f32 {
    if scene.chosen.series.len() < 2 {
        return 0.0;
    }
    let rows = scene.chosen.series.iter();
    let values = values_width(scene, unit);
    let names = rows.map(|shown| text_width(&shown.name, SIZE)).fold(0.0, f32::max);
    let others = if scene.chosen.others > 0 { text_width(&others(scene), SIZE) } else { 0.0 };
    let row = SAMPLE + SPACE + names + SPACE + values;
    (GAP + row.max(others).ceil() + 1.0).min(MOST)
}

/// Draws the column from `left` to the edge.
pub(super) fn draw(canvas: &mut Canvas, scene: &Scene<'_>, unit: Unit, left: f32) {
    let (left, right) = (left + GAP, super::WIDTH as f32 - EDGE);
    let rows = scene.chosen.series.len() + usize::from(scene.chosen.others > 0);
    let row = ROW.min((HEIGHT as f32 - TOP - 8.0) / rows as f32);
    let names = right - left - SAMPLE - SPACE - SPACE - values_width(scene, unit);
    let mut base = TOP + row * 0.72;
    for (index, shown) in scene.chosen.series.iter().enumerate() {
        let middle = base - SIZE * 0.36;
        canvas.line((left, middle), (left + SAMPLE, middle), &sample(scene.chosen, index));
        let name = cut_middle(&shown.name, SIZE, names);
        canvas.text(&name, (left + SAMPLE + SPACE, base), SIZE, Anchor::Start, TEXT);
        canvas.text(&last_value(scene, unit, index), (right, base), SIZE, Anchor::End, color(index));
        base += row;
    }
    if scene.chosen.others > 0 {
        canvas.text(&others(scene), (right, base), SIZE, Anchor::End, DIM);
    }
}

/// Draws the name and last value of a single line above the plot, and says how much room they take.
pub(super) fn draw_single(canvas: &mut Canvas, scene: &Scene<'_>, unit: Unit, right: f32) -> f32 {
    let [shown] = scene.chosen.series.as_slice() else { return 0.0 };
    let value = last_value(scene, unit, 0);
    canvas.text(&value, (right, TITLE_BASE), SIZE + 4.0, Anchor::End, color(0));
    let mut taken = text_width(&value, SIZE + 4.0) + 2.0 * SPACE;
    if !shown.name.is_empty() {
        let name = cut_middle(&shown.name, TITLE_SIZE, 420.0);
        canvas.text(&name, (right - taken, TITLE_BASE), TITLE_SIZE, Anchor::End, TEXT);
        taken += text_width(&name, TITLE_SIZE) + 2.0 * SPACE;
    }
    taken
}

fn last_value(scene: &Scene<'_>, unit: Unit, index: usize) -> String {
    let last = scene.chosen.series[index].series.last();
    last.map(|point| number::one(unit, point.value)).unwrap_or_default()
}

fn values_width(scene: &Scene<'_>, unit: Unit) -> f32 {
    let values = (0..scene.chosen.series.len()).map(|index| last_value(scene, unit, index));
    values.map(|value| text_width(&value, SIZE)).fold(0.0, f32::max)
}

fn others(scene: &Scene<'_>) -> String {
    format!("+ {} more", scene.chosen.others)
}
