//! The lines, with both axes, the threshold and when the alert began to fire.

use super::{
    super::series::{Chosen, Point, Series},
    ALERT, DIM, EDGE, GRID, HEIGHT, SIZE, Scene, TEXT,
    canvas::{Anchor, Canvas, Pen, Rgb, width as text_width},
    number, time_axis,
    value_axis::{Place, ValueAxis},
};
use crate::model::Timestamp;

/// Colours that colour-blind eyes distinguish on a dark ground: after Okabe and Ito, without what looks red.
const COLORS: [Rgb; 8] = [
    Rgb(0x56, 0xB4, 0xE9),
    Rgb(0xF5, 0xB0, 0x2E),
    Rgb(0x3C, 0xCB, 0x9A),
    Rgb(0xE2, 0x8F, 0xC4),
    Rgb(0xF4, 0xE8, 0x66),
    Rgb(0xB0, 0x9C, 0xF5),
    Rgb(0xE4, 0xE7, 0xEB),
    Rgb(0xB8, 0x9A, 0x78),
];
/// Lines from this one on are dashed.
const FIRST_DASHED: usize = 4;
const STRIPE: f32 = 22.0;
const TOP: f32 = 62.0;
const BOTTOM: f32 = HEIGHT as f32 - 54.0;
const TIME_BASE: f32 = HEIGHT as f32 - 16.0;
/// Between an axis and its numbers.
const SPACE: f32 = 12.0;
/// Between two times on the axis.
const APART: f32 = 34.0;
/// A point may be late by this share of a step.
const GAP: f64 = 1.5;
/// Of the ground on the side where the alert fires.
const TINT: u8 = 28;

pub(super) fn color(index: usize) -> Rgb {
    COLORS[index % COLORS.len()]
}

/// How the legend shows the line.
pub(super) fn sample(chosen: &Chosen, index: usize) -> Pen {
    let any_fires = chosen.series.iter().any(|shown| shown.fires);
    let width = if !any_fires || chosen.series[index].fires { 5.0 } else { 3.5 };
    if index < FIRST_DASHED { Pen::solid(color(index), width) } else { Pen::dashed(color(index), width, 18.0, 9.0) }
}

/// How the line is drawn. Lines in the same place are drawn as one, in stripes of all their colours.
fn pen(chosen: &Chosen, index: usize) -> Pen {
    let (all, pen) = (&chosen.series, sample(chosen, index));
    let same: Vec<usize> =
        (0..all.len()).filter(|other| all[*other].series.points == all[index].series.points).collect();
    if same.len() < 2 {
        return pen;
    }
    let place = same.iter().position(|other| *other == index).unwrap_or_default();
    let stripes = vec![STRIPE, STRIPE * (same.len() - 1) as f32];
    Pen { dash: Some((stripes, STRIPE * (same.len() - place) as f32)), ..pen }
}

/// The part of the picture with the lines.
pub(super) struct Plot<'a> {
    scene: &'a Scene<'a>,
    axis: &'a ValueAxis,
    left: f32,
    right: f32,
}

impl<'a> Plot<'a> {
    pub(super) fn new(scene: &'a Scene<'a>, axis: &'a ValueAxis, right: f32) -> Self {
        let mut plot = Self { scene, axis, left: 0.0, right };
        let labels = axis.ticks.iter().map(|(_, label)| label.clone()).chain(plot.threshold_label());
        let widest = labels.map(|label| text_width(&label, SIZE)).fold(0.0, f32::max);
        plot.left = EDGE + widest + SPACE;
        plot
    }

    pub(super) fn draw(&self, canvas: &mut Canvas) {
        self.draw_values(canvas);
        self.draw_times(canvas);
        self.draw_threshold(canvas);
        // The first line is the one to look at: it lies on top.
        for index in (0..self.scene.chosen.series.len()).rev() {
            self.draw_line(canvas, index);
        }
    }

    fn x(&self, at: f64) -> f32 {
        let (from, to) = (seconds(self.scene.span.from), seconds(self.scene.span.to));
        #[expect(clippy::cast_possible_truncation, reason = "a place in the picture")]
        let share = ((at - from) / (to - from).max(1.0)).clamp(0.0, 1.0) as f32;
        self.left + share * (self.right - self.left)
    }

    fn y(&self, value: f64) -> f32 {
        #[expect(clippy::cast_possible_truncation, reason = "a place in the picture")]
        let share = self.axis.share(value) as f32;
        BOTTOM - share * (BOTTOM - TOP)
    }

    fn draw_values(&self, canvas: &mut Canvas) {
        let line = self.threshold_y();
        for (value, label) in &self.axis.ticks {
            let y = self.y(*value);
            canvas.line((self.left, y), (self.right, y), &Pen::solid(GRID, 2.0));
            if line.is_none_or(|line| (line - y).abs() > 1.2 * SIZE) {
                self.draw_value(canvas, label, y, TEXT);
            }
        }
    }

    fn draw_value(&self, canvas: &mut Canvas, label: &str, y: f32, color: Rgb) {
        canvas.text(label, (self.left - SPACE, y + SIZE * 0.36), SIZE, Anchor::End, color);
    }

    fn draw_times(&self, canvas: &mut Canvas) {
        let (scene, span) = (self.scene, self.scene.span);
        let mut taken: Vec<(f32, f32)> = Vec::new();
        let zone = time_axis::zone_name(span.to, scene.zone);
        canvas.text(&zone, (EDGE, TIME_BASE), SIZE, Anchor::Start, DIM);
        taken.push((EDGE, EDGE + text_width(&zone, SIZE)));
        let began = scene.began.filter(|began| *began >= span.from && *began <= span.to);
        if let Some(began) = began {
            let x = self.x(seconds(began));
            let label = format!("firing {}", time_axis::clock(began, span.from, scene.zone));
            taken.push(self.draw_time(canvas, &label, x, ALERT));
        }
        let most = ((self.right - self.left) / 165.0).max(2.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a handful")]
        let ticks = time_axis::ticks(span.from, span.to, scene.zone, most as usize);
        for (at, label) in ticks {
            let x = self.x(seconds(at));
            canvas.line((x, TOP), (x, BOTTOM), &Pen::solid(GRID, 2.0));
            let (start, end) = self.extent(&label, x);
            if taken.iter().all(|(from, to)| end + APART < *from || *to + APART < start) {
                taken.push(self.draw_time(canvas, &label, x, TEXT));
            }
        }
        if let Some(x) = began.map(|began| self.x(seconds(began))) {
            canvas.line((x, TOP - 8.0), (x, BOTTOM), &Pen::dashed(ALERT, 3.0, 5.0, 5.0));
        }
    }

    fn draw_time(&self, canvas: &mut Canvas, label: &str, x: f32, color: Rgb) -> (f32, f32) {
        let (start, end) = self.extent(label, x);
        canvas.text(label, (start, TIME_BASE), SIZE, Anchor::Start, color);
        (start, end)
    }

    /// Where a label below `x` begins and ends: within the plot's width.
    fn extent(&self, label: &str, x: f32) -> (f32, f32) {
        let width = text_width(label, SIZE);
        let start = (x - width / 2.0).min(self.right - width).max(EDGE);
        (start, start + width)
    }

    fn threshold_label(&self) -> Option<String> {
        let line = self.scene.threshold?;
        let arrow = match self.axis.threshold? {
            Place::Shown => "",
            Place::AboveAll => "▲ ",
            Place::BelowAll => "▼ ",
        };
        Some(format!("{arrow}{} {}", line.compared, number::one(self.axis.unit, line.value)))
    }

    /// Its place, or the edge that it is beyond.
    fn threshold_y(&self) -> Option<f32> {
        let line = self.scene.threshold?;
        Some(match self.axis.threshold? {
            Place::Shown => self.y(line.value),
            Place::AboveAll => TOP,
            Place::BelowAll => BOTTOM,
        })
    }

    fn draw_threshold(&self, canvas: &mut Canvas) {
        let (Some(line), Some(y), Some(label), Some(place)) =
            (self.scene.threshold, self.threshold_y(), self.threshold_label(), self.axis.threshold)
        else {
            return;
        };
        match line.compared.fires_above() {
            Some(true) => canvas.fill((self.left, TOP), (self.right, y), ALERT, TINT),
            Some(false) => canvas.fill((self.left, y), (self.right, BOTTOM), ALERT, TINT),
            None => {}
        }
        if place == Place::Shown {
            canvas.line((self.left, y), (self.right, y), &Pen::dashed(ALERT, 4.0, 16.0, 10.0));
        }
        self.draw_value(canvas, &label, y, ALERT);
    }

    fn draw_line(&self, canvas: &mut Canvas, index: usize) {
        let pen = pen(self.scene.chosen, index);
        for run in runs(&self.scene.chosen.series[index].series, self.scene.span.step) {
            let places: Vec<(f32, f32)> = run.iter().map(|point| (self.x(point.at), self.y(point.value))).collect();
            match places.as_slice() {
                [place] => canvas.dot(*place, pen.width + 2.0, pen.color),
                places => canvas.lines(places, &pen),
            }
        }
    }
}

/// The points without gaps between them.
fn runs(series: &Series, step: u64) -> impl Iterator<Item = &[Point]> {
    let most = step as f64 * GAP;
    series.points.chunk_by(move |before, after| after.at - before.at <= most)
}

fn seconds(at: Timestamp) -> f64 {
    at.0 as f64 / 1_000.0
}
