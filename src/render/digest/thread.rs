//! The replies in a digest's thread: those of its incidents merged, the most urgent first.

use super::row::{self, Row};
use crate::{
    model::{Incident, Note, Timestamp},
    render::{
        links::link::Link,
        message::MAX_LINE,
        reply::{Reply, ReplyLine},
        style::Style,
        text,
        time::TimeFormat,
    },
};

/// Further lines are only counted.
const MAX_LINES: usize = 10;
const MAX_LINKS: usize = 3;
const MAX_LABEL: usize = 48;
/// Characters of the first line that are for what happened, and for how many more lines there are.
const WORDS: usize = 24;

/// The reply for `notes`, which are of these incidents of one digest, in one event. It leaves out notes of others.
pub(in crate::render) fn merged(
    style: &Style,
    incidents: &[&Incident],
    notes: &[&Note],
    root_at: Option<Timestamp>,
    now: Timestamp,
) -> Reply {
    // It needs all rows, since a place is chosen to distinguish an incident from its neighbours.
    let ranked = row::ordered(style, incidents);
    let (rows, _) = row::rows(style, &TimeFormat::new(&style.zone, root_at.unwrap_or(now)), &ranked, now);
    let own = |incident: &Incident| notes.iter().filter(|note| note.incident == incident.id).copied().collect();
    let mut replies: Vec<(&Row, Reply)> = Vec::new();
    for (one, row) in ranked.iter().zip(&rows) {
        let own: Vec<&Note> = own(one.incident);
        if !own.is_empty() {
            replies.push((row, Reply::new(style, one.incident, &own, root_at, now)));
        }
    }
    let several = replies.len() > 1;
    let mut said: Vec<(ReplyLine, Vec<Link>)> = Vec::new();
    for (row, reply) in replies {
        let mut links = Some(reply.links);
        said.extend(reply.lines.into_iter().map(|line| (placed(line, &row.place), links.take().unwrap_or_default())));
    }
    said.sort_by_key(|(line, _)| line.urgency);
    let links = links(&said, several);
    let mut spoken: Vec<ReplyLine> = said.into_iter().map(|(line, _)| line).collect();
    if spoken.is_empty() {
        spoken.push(ReplyLine::new("⚪".to_owned(), "Digest", "nothing new", None));
    }
    let more = shorten(&mut spoken);
    Reply { lines: spoken, more, links }
}

/// Several incidents have several links of one kind, so each link names its incident.
fn links(said: &[(ReplyLine, Vec<Link>)], several: bool) -> Vec<Link> {
    let mut shown: Vec<Link> = Vec::new();
    for (line, own) in said {
        for link in own {
            let label = text::cut(&format!("{} {}", link.kind.label(), line.name), MAX_LABEL);
            shown.push(if several { Link { label, ..link.clone() } } else { link.clone() });
        }
    }
    shown.dedup_by(|a, b| a.label == b.label);
    shown.truncate(MAX_LINKS);
    shown
}

/// Keeps the first lines and returns how many it dropped. The first line also says so: it is the push notification.
fn shorten(lines: &mut Vec<ReplyLine>) -> usize {
    let count = lines.len();
    if let [first, _, ..] = &mut lines[..] {
        let others = format!(" (+{} more)", count - 1);
        let taken = first.emoji.chars().count() + first.name.chars().count() + 3 + others.chars().count();
        first.words = format!("{}{others}", text::cut(&first.words, MAX_LINE.saturating_sub(taken)));
    }
    if count > MAX_LINES {
        lines.truncate(MAX_LINES - 1);
    }
    count - lines.len()
}

/// Adds the place to the name, as far as the words do not mention it: a digest may hold several incidents of one name.
fn placed(line: ReplyLine, place: &str) -> ReplyLine {
    let mut parts: Vec<&str> = if text::is_isolated(place) { vec![place] } else { place.split(' ').collect() };
    parts.retain(|part| !part.is_empty() && !text::names(&line.words, part));
    if parts.is_empty() {
        return line;
    }
    let room = MAX_LINE.saturating_sub(line.emoji.chars().count() + line.name.chars().count() + 4 + WORDS);
    let name = format!("{} {}", line.name, text::cut(&parts.join(" "), MAX_LABEL.min(room)));
    let taken = line.emoji.chars().count() + name.chars().count() + 3;
    let words = text::cut(&line.words, MAX_LINE.saturating_sub(taken));
    ReplyLine { name, words, ..line }
}
