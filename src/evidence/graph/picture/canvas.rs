//! Shapes and text on a picture of one opaque colour, so that it reads the same in light and dark clients.

use std::sync::LazyLock;

use ab_glyph::{Font as _, FontRef, Glyph, ScaleFont as _, point};
use tiny_skia::{
    Color, FillRule, LineCap, LineJoin, Paint, PathBuilder, Pixmap, PremultipliedColorU8, Rect, Stroke, StrokeDash,
    Transform,
};

use crate::text::is_invisible;

/// DejaVu Sans for Latin and Greek: see `font/README.md`.
static FONT: LazyLock<Option<FontRef<'static>>> =
    LazyLock::new(|| FontRef::try_from_slice(include_bytes!("font/DejaVuSans-subset.ttf")).ok());

/// A colour, opaque.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rgb(pub(super) u8, pub(super) u8, pub(super) u8);

/// Where a text begins, or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    End,
}

/// How a line is drawn.
#[derive(Clone, Debug)]
pub(super) struct Pen {
    pub(super) color: Rgb,
    pub(super) width: f32,
    /// Lengths of dashes and gaps, and where in them the line begins; `None`: solid.
    pub(super) dash: Option<(Vec<f32>, f32)>,
}

impl Pen {
    pub(super) fn solid(color: Rgb, width: f32) -> Self {
        Self { color, width, dash: None }
    }

    pub(super) fn dashed(color: Rgb, width: f32, dash: f32, gap: f32) -> Self {
        Self { color, width, dash: Some((vec![dash, gap], 0.0)) }
    }

    fn stroke(&self) -> Stroke {
        let dash = self.dash.clone().and_then(|(lengths, offset)| StrokeDash::new(lengths, offset));
        // Round ends would fill the gaps.
        let line_cap = if dash.is_some() { LineCap::Butt } else { LineCap::Round };
        Stroke { width: self.width, line_cap, line_join: LineJoin::Round, dash, ..Stroke::default() }
    }
}

pub(super) struct Canvas {
    pixels: Pixmap,
}

impl Canvas {
    /// `None` for a size without pixels.
    pub(super) fn new(width: u32, height: u32, background: Rgb) -> Option<Self> {
        let mut pixels = Pixmap::new(width, height)?;
        let Rgb(r, g, b) = background;
        pixels.fill(Color::from_rgba8(r, g, b, 255));
        Some(Self { pixels })
    }

    pub(super) fn png(&self) -> Option<Vec<u8>> {
        self.pixels.encode_png().ok()
    }

    /// Fills the rectangle between two corners; `alpha` of 255 is opaque.
    pub(super) fn fill(&mut self, (left, top): (f32, f32), (right, bottom): (f32, f32), color: Rgb, alpha: u8) {
        if let Some(rect) = Rect::from_ltrb(left, top, right, bottom) {
            self.pixels.fill_rect(rect, &paint(color, alpha), Transform::identity(), None);
        }
    }

    pub(super) fn line(&mut self, from: (f32, f32), to: (f32, f32), pen: &Pen) {
        self.lines(&[from, to], pen);
    }

    /// A line through all points; nothing for fewer than two.
    pub(super) fn lines(&mut self, points: &[(f32, f32)], pen: &Pen) {
        let mut path = PathBuilder::new();
        for (index, (x, y)) in points.iter().enumerate() {
            if index == 0 { path.move_to(*x, *y) } else { path.line_to(*x, *y) }
        }
        if let Some(path) = path.finish() {
            self.pixels.stroke_path(&path, &paint(pen.color, 255), &pen.stroke(), Transform::identity(), None);
        }
    }

    pub(super) fn dot(&mut self, (x, y): (f32, f32), radius: f32, color: Rgb) {
        if let Some(path) = PathBuilder::from_circle(x, y, radius) {
            self.pixels.fill_path(&path, &paint(color, 255), FillRule::Winding, Transform::identity(), None);
        }
    }

    /// Writes a line whose letters stand on `y`.
    pub(super) fn text(&mut self, text: &str, (x, y): (f32, f32), size: f32, anchor: Anchor, color: Rgb) {
        let start = match anchor {
            Anchor::Start => x,
            Anchor::End => x - width(text, size),
        };
        let Some(font) = FONT.as_ref() else { return };
        for mut glyph in glyphs(text, size) {
            glyph.position = point(start + glyph.position.x, y);
            if let Some(outline) = font.outline_glyph(glyph) {
                let bounds = outline.px_bounds();
                outline.draw(|dx, dy, coverage| {
                    self.blend((bounds.min.x, bounds.min.y), (dx, dy), coverage, color);
                });
            }
        }
    }

    fn blend(&mut self, (left, top): (f32, f32), (dx, dy): (u32, u32), coverage: f32, color: Rgb) {
        #[expect(clippy::cast_possible_truncation, reason = "whole pixels near the picture")]
        let (x, y) = (left as i64 + i64::from(dx), top as i64 + i64::from(dy));
        let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y)) else { return };
        let width = self.pixels.width() as usize;
        if x >= width {
            return;
        }
        let Some(pixel) = self.pixels.pixels_mut().get_mut(y * width + x) else { return };
        let share = coverage.clamp(0.0, 1.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between two bytes")]
        let mix = |from: u8, to: u8| (f32::from(from) + (f32::from(to) - f32::from(from)) * share).round() as u8;
        let (red, green, blue) = (mix(pixel.red(), color.0), mix(pixel.green(), color.1), mix(pixel.blue(), color.2));
        if let Some(mixed) = PremultipliedColorU8::from_rgba(red, green, blue, 255) {
            *pixel = mixed;
        }
    }
}

/// How wide the text is, in pixels.
pub(super) fn width(text: &str, size: f32) -> f32 {
    let Some(font) = FONT.as_ref() else { return 0.0 };
    let font = font.as_scaled(size);
    drawn(text).map(|c| font.h_advance(font.glyph_id(c))).sum()
}

/// The text if it fits, else its beginning and an ellipsis.
pub(super) fn cut_end(text: &str, size: f32, most: f32) -> String {
    cut(text, size, most, |chars, keep| format!("{}…", chars[..keep].iter().collect::<String>().trim_end()))
}

/// The same with both ends kept: names of one kind often differ in their last characters.
pub(super) fn cut_middle(text: &str, size: f32, most: f32) -> String {
    cut(text, size, most, |chars, keep| {
        let (head, tail) = (keep.div_ceil(2), keep / 2);
        chars[..head].iter().chain(&['…']).chain(&chars[chars.len() - tail..]).collect()
    })
}

fn cut(text: &str, size: f32, most: f32, shortened: impl Fn(&[char], usize) -> String) -> String {
    if width(text, size) <= most {
        return text.to_owned();
    }
    let chars: Vec<char> = drawn(text).collect();
    let fitting = (1..chars.len()).rev().map(|keep| shortened(&chars, keep)).find(|text| width(text, size) <= most);
    fitting.unwrap_or_default()
}

fn glyphs(text: &str, size: f32) -> Vec<Glyph> {
    let Some(font) = FONT.as_ref() else { return Vec::new() };
    let font = font.as_scaled(size);
    let mut x = 0.0;
    let glyph = |c| {
        let mut glyph = font.scaled_glyph(c);
        glyph.position = point(x, 0.0);
        x += font.h_advance(glyph.id);
        glyph
    };
    drawn(text).map(glyph).collect()
}

/// The characters that take room: not those that change the one before them.
fn drawn(text: &str) -> impl Iterator<Item = char> {
    text.chars()
        .filter(|c| !is_invisible(*c) && !matches!(c, '\u{FE00}'..='\u{FE0F}' | '\u{200D}' | '\u{0300}'..='\u{036F}'))
}

fn paint(Rgb(r, g, b): Rgb, alpha: u8) -> Paint<'static> {
    let mut paint = Paint { anti_alias: true, ..Paint::default() };
    paint.set_color_rgba8(r, g, b, alpha);
    paint
}
