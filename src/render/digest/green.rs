//! The notice that many incidents resolved at once, ahead of the edits that turn their cards green.

use super::{
    super::{
        MAX_BYTES, Message, Style, text, text_only,
        time::{self, Dial},
    },
    MAX_ROWS, Page, head, more_line, most_that_fit,
    row::{self, Row},
};
use crate::{
    model::{Incident, Timestamp},
    render::card::lines::{Line, Mark},
};

/// How a line is set.
#[derive(Clone, Copy)]
struct Shape {
    mark: Mark,
    took: bool,
    max_name: usize,
    max_place: usize,
}

const SHAPES: [Shape; 4] = [
    Shape { mark: Mark::Strong, took: true, max_name: 48, max_place: 160 },
    Shape { mark: Mark::Plain, took: true, max_name: 48, max_place: 80 },
    Shape { mark: Mark::Plain, took: false, max_name: 48, max_place: 60 },
    Shape { mark: Mark::Plain, took: false, max_name: 36, max_place: 30 },
];

/// One notice for all of these incidents, which have resolved: a line each, the most severe first, as short as it must be.
/// What does not fit even so is counted.
#[must_use]
pub fn green_notice(style: &Style, incidents: &[&Incident], now: Timestamp) -> Message {
    let ranked = row::ordered(style, incidents);
    let dial = Dial::new(&style.zone, now);
    let (rows, cluster) = row::rows(style, &dial, &ranked[..ranked.len().min(MAX_ROWS)], now);
    let all = ranked.len();
    let fits = |shape: &Shape, lines: usize| {
        let mut shown: Vec<Line> = rows[..lines].iter().map(|row| line(row, shape)).collect();
        if lines < all {
            shown.push(more_line(format!("+{} more", all - lines)));
        }
        let head = head::green(&rows, all, cluster.as_deref());
        let message = Page { head, lines: shown, when: String::new(), links: Vec::new() }.set();
        (message.bytes() <= MAX_BYTES).then_some(message)
    };
    if rows.len() == all
        && let Some(message) = SHAPES.iter().find_map(|shape| fits(shape, all))
    {
        return message;
    }
    let fewer = most_that_fit(rows.len(), |lines| fits(&SHAPES[SHAPES.len() - 1], lines));
    fewer.map_or_else(|| text_only(head::green(&rows, all, cluster.as_deref()).line()), |(message, _)| message)
}

fn line(row: &Row, shape: &Shape) -> Line {
    let took = if shape.took { format!("after {}", time::words(row.span.1.since(row.span.0))) } else { String::new() };
    let rest = format!("{} {took}", text::cut(&row.place, shape.max_place));
    Line {
        emoji: String::new(),
        mark: shape.mark,
        name: text::cut(&row.name, shape.max_name),
        rest: rest.trim().to_owned(),
        links: Vec::new(),
    }
}
