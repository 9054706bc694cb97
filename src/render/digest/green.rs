//! The notice that many incidents resolved at once, ahead of the edits that turn their cards green.

use super::{
    content::{DigestContent, MAX_ROWS},
    head,
    row::{self, Row},
};
use crate::{
    model::{Incident, Timestamp},
    render::{
        card::lines::{Emphasis, Line},
        message::{Message, most_that_fit},
        style::Style,
        text,
        time::{self, TimeFormat},
    },
};

/// How much of a line is shown.
#[derive(Clone, Copy)]
struct NoticeLayout {
    mark: Emphasis,
    took: bool,
    max_name: usize,
    max_place: usize,
}

const LAYOUTS: [NoticeLayout; 4] = [
    NoticeLayout { mark: Emphasis::Strong, took: true, max_name: 48, max_place: 160 },
    NoticeLayout { mark: Emphasis::Plain, took: true, max_name: 48, max_place: 80 },
    NoticeLayout { mark: Emphasis::Plain, took: false, max_name: 48, max_place: 60 },
    NoticeLayout { mark: Emphasis::Plain, took: false, max_name: 36, max_place: 30 },
];

/// One notice for these resolved incidents: a line each, the most severe first, as short as it must be. It counts the
/// incidents that do not fit.
pub(in crate::render) fn green_notice(style: &Style, incidents: &[&Incident], now: Timestamp) -> Message {
    let ranked = row::ordered(style, incidents);
    let times = TimeFormat::new(&style.zone, now);
    let (rows, cluster) = row::rows(style, &times, &ranked[..ranked.len().min(MAX_ROWS)], now);
    let all = ranked.len();
    let fits = |layout: &NoticeLayout, lines: usize| {
        let mut shown: Vec<Line> = rows[..lines].iter().map(|row| line(row, layout)).collect();
        if lines < all {
            shown.push(Line::plain(format!("+{} more", all - lines)));
        }
        let head = head::green(&rows, all, cluster.as_deref());
        let message = DigestContent { head, lines: shown, when: String::new(), links: Vec::new() }.set();
        message.fits().then_some(message)
    };
    if rows.len() == all
        && let Some(message) = LAYOUTS.iter().find_map(|layout| fits(layout, all))
    {
        return message;
    }
    let fewer = most_that_fit(rows.len(), |lines| fits(&LAYOUTS[LAYOUTS.len() - 1], lines));
    fewer.map_or_else(|| Message::text_only(head::green(&rows, all, cluster.as_deref()).line()), |(message, _)| message)
}

fn line(row: &Row, layout: &NoticeLayout) -> Line {
    let took = if layout.took { format!("after {}", time::words(row.span.1.since(row.span.0))) } else { String::new() };
    let rest = format!("{} {took}", text::cut(&row.place, layout.max_place));
    let name = text::cut(&row.name, layout.max_name);
    Line { mark: layout.mark, rest: rest.trim().to_owned(), ..Line::plain(name) }
}
