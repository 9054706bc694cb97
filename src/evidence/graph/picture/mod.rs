//! The picture: lines over time on a dark card, made for a phone. It is read at 360 pixels of width, so letters are large,
//! lines thick and ticks few. All that is red is about the alert.

mod canvas;
mod legend;
pub(super) mod number;
mod plot;
pub(super) mod time_axis;
pub(super) mod value_axis;

use jiff::tz::TimeZone;

use self::{
    canvas::{Anchor, Canvas, Rgb, cut_end},
    plot::Plot,
    value_axis::ValueAxis,
};
use super::{comparison::Threshold, query::Span, series::Chosen, unit::Unit};
use crate::model::Timestamp;

pub(super) const WIDTH: u32 = 1200;
pub(super) const HEIGHT: u32 = 420;

const BACKGROUND: Rgb = Rgb(0x1F, 0x24, 0x2C);
const GRID: Rgb = Rgb(0x36, 0x3D, 0x48);
const TEXT: Rgb = Rgb(0xD7, 0xDD, 0xE5);
const DIM: Rgb = Rgb(0x9A, 0xA4, 0xB2);
const ALERT: Rgb = Rgb(0xFF, 0x7B, 0x72);

/// Of letters, in pixels.
const SIZE: f32 = 30.0;
const TITLE_SIZE: f32 = 27.0;
const EDGE: f32 = 20.0;
const TITLE_BASE: f32 = 40.0;

/// What is drawn.
#[derive(Clone, Debug)]
pub(super) struct Scene<'a> {
    /// One line, cleaned.
    pub(super) title: &'a str,
    pub(super) chosen: &'a Chosen,
    pub(super) threshold: Option<Threshold>,
    pub(super) unit: Unit,
    pub(super) span: Span,
    pub(super) began: Option<Timestamp>,
    pub(super) zone: &'a TimeZone,
}

/// A PNG of [`WIDTH`] by [`HEIGHT`]; `None` without a point to draw.
pub(super) fn draw(scene: &Scene<'_>) -> Option<Vec<u8>> {
    let axis = value_axis(scene)?;
    let mut canvas = Canvas::new(WIDTH, HEIGHT, BACKGROUND)?;
    let legend_width = legend::width(scene, axis.unit);
    let right = WIDTH as f32 - EDGE;
    let plot = Plot::new(scene, &axis, right - legend_width);
    plot.draw(&mut canvas);
    if legend_width > 0.0 {
        legend::draw(&mut canvas, scene, axis.unit, right - legend_width);
    }
    let title_width = right - EDGE - legend::draw_single(&mut canvas, scene, axis.unit, right);
    let title = cut_end(scene.title, TITLE_SIZE, title_width);
    canvas.text(&title, (EDGE, TITLE_BASE), TITLE_SIZE, Anchor::Start, DIM);
    canvas.png()
}

/// The unit in which a scene's numbers are shown.
pub(super) fn shown_unit(scene: &Scene<'_>) -> Unit {
    value_axis(scene).map_or(scene.unit, |axis| axis.unit)
}

fn value_axis(scene: &Scene<'_>) -> Option<ValueAxis> {
    let points = || scene.chosen.series.iter().flat_map(|shown| &shown.series.points).map(|point| point.value);
    let least = points().reduce(f64::min)?;
    let most = points().reduce(f64::max)?;
    Some(ValueAxis::new(least, most, scene.threshold, scene.unit))
}
