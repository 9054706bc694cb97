//! Several incidents in one message: the digest of a storm, what is said in its thread, and the notice that many
//! cards turn green.

mod green;
mod head;
mod row;
mod thread;

use askama::Template;

pub(super) use self::thread::merged;
pub use self::{green::green_notice, thread::digest_reply};
use self::{
    head::Head,
    row::{Ranked, Row, RowShape},
};
use super::{
    MAX_BYTES, Message, Style,
    card::lines::{Line, Mark},
    links::url::Link,
    text_only,
    time::Dial,
};
use crate::model::{Form, Incident, IncidentId, IncidentState, Timestamp};

/// A line takes more than 40 bytes, so that more than this never fit into one event.
const MAX_ROWS: usize = 600;
/// In a longer list only what is most severe says what happened: people look through it for names and places.
const LONG_LIST: usize = 20;

/// A digest's message, and which of the incidents it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    pub message: Message,
    /// Those that stand on a line of their own, in the order of the lines.
    pub named: Vec<IncidentId>,
}

/// The digest of these incidents, which it puts in order itself: firing first, the most severe first among them, then the
/// oldest.
///
/// One that is not posted yet ([`Form::Full`], not `must_hold_all`) may leave some out, from the end of that order; it
/// counts only those that it names, at least one, and the others need a digest of their own. An edit of a digest and a
/// plainer form ([`Form::Counts`]) must hold all of them: what has no line of its own is counted. [`Form::OneLine`] is
/// one line of text that names none on a line of its own.
#[must_use]
pub fn digest(
    style: &Style,
    incidents: &[&Incident],
    root_at: Option<Timestamp>,
    now: Timestamp,
    form: Form,
    must_hold_all: bool,
) -> Digest {
    let ranked = row::ordered(style, incidents);
    let dial = Dial::new(&style.zone, root_at.unwrap_or(now));
    let (rows, cluster) = row::rows(style, &dial, &ranked[..ranked.len().min(MAX_ROWS)], now);
    let storm = Storm { style, ranked, rows, cluster, dial };
    if form == Form::OneLine {
        return Digest { message: text_only(storm.head(storm.ranked.len()).line()), named: Vec::new() };
    }
    let shapes = if form == Form::Full { &SHAPES[..] } else { &SHAPES[SHAPES.len() - 1..] };
    let (message, lines) = storm.fitting(shapes, must_hold_all || form != Form::Full);
    Digest { message, named: storm.ranked[..lines].iter().map(|one| one.incident.id.clone()).collect() }
}

/// All that a digest could say, for templates of one's own.
pub(super) struct InFull {
    pub(super) head: Head,
    pub(super) lines: Vec<Line>,
    /// May be empty.
    pub(super) when: String,
    pub(super) links: Vec<Link>,
    /// Of the incidents that have a line, in the order of the lines.
    pub(super) order: Vec<IncidentId>,
}

/// A digest of all these incidents as if there were room for everything.
pub(super) fn in_full(style: &Style, incidents: &[&Incident], root_at: Option<Timestamp>, now: Timestamp) -> InFull {
    let ranked = row::ordered(style, incidents);
    let dial = Dial::new(&style.zone, root_at.unwrap_or(now));
    let (rows, cluster) = row::rows(style, &dial, &ranked[..ranked.len().min(MAX_ROWS)], now);
    let order = ranked.iter().take(rows.len()).map(|one| one.incident.id.clone()).collect();
    let storm = Storm { style, ranked, rows, cluster, dial };
    let Page { head, lines, when, links } = storm.page(&SHAPES[0], storm.rows.len(), true);
    InFull { head, lines, when, links: links.into_iter().cloned().collect(), order }
}

/// Which incidents a digest tells more of than name and place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum More {
    All,
    /// Those of the most severe rank that fires.
    Worst,
    None,
}

/// How much of a digest is shown.
#[derive(Clone, Copy)]
struct Shape {
    links: More,
    what: More,
    max_url: usize,
    max_name: usize,
    max_place: usize,
}

/// From all that there is to say down to the names.
const SHAPES: [Shape; 10] = {
    const fn shape(links: More, what: More, max_url: usize) -> Shape {
        Shape { links, what, max_url, max_name: 48, max_place: 160 }
    }
    [
        shape(More::All, More::All, 4096),
        shape(More::All, More::All, 1500),
        shape(More::All, More::All, 500),
        shape(More::Worst, More::All, 1500),
        shape(More::Worst, More::All, 500),
        shape(More::Worst, More::Worst, 1500),
        shape(More::Worst, More::Worst, 500),
        shape(More::None, More::Worst, 500),
        shape(More::None, More::None, 500),
        Shape { max_name: 36, max_place: 40, ..shape(More::None, More::None, 200) },
    ]
};

/// All that a digest could say.
struct Storm<'a> {
    style: &'a Style,
    ranked: Vec<Ranked<'a>>,
    /// Of the first [`MAX_ROWS`].
    rows: Vec<Row>,
    cluster: Option<String>,
    dial: Dial<'a>,
}

impl Storm<'_> {
    /// The first shape in which all fit, else as many as fit in the last; with the number of lines.
    fn fitting(&self, shapes: &[Shape], hold_all: bool) -> (Message, usize) {
        let all = self.rows.len();
        let fits = |shape: &Shape, lines| {
            Some(self.set(shape, lines, hold_all)).filter(|message| message.bytes() <= MAX_BYTES)
        };
        let whole = all == self.ranked.len() || hold_all;
        if whole && let Some(message) = shapes.iter().find_map(|shape| fits(shape, all)) {
            return (message, all);
        }
        let last = || text_only(self.head(if hold_all { self.ranked.len() } else { all }).line());
        let Some(shortest) = shapes.last() else { return (last(), 0) };
        let best = most_that_fit(all, |lines| fits(shortest, lines));
        best.unwrap_or_else(|| (last(), 0))
    }

    fn head(&self, count: usize) -> Head {
        let rows = &self.rows[..self.rows.len().min(count)];
        head::digest(self.style, &self.ranked[..count], rows, self.cluster.as_deref())
    }

    /// The first `lines` incidents; the others counted, or as if there were none.
    fn set(&self, shape: &Shape, lines: usize, hold_all: bool) -> Message {
        self.page(shape, lines, hold_all).set()
    }

    fn page(&self, shape: &Shape, lines: usize, hold_all: bool) -> Page<'_> {
        let counted = if hold_all { self.ranked.len() } else { lines };
        let rows = &self.rows[..lines];
        let firing = |row: &&Row| row.state == IncidentState::Firing;
        let worst = rows.iter().filter(firing).map(|row| row.rank).min();
        let since = since(rows);
        let what = if lines > LONG_LIST && shape.what == More::All { More::Worst } else { shape.what };
        let line = |row: &Row| {
            let tells = |more| match more {
                More::All => true,
                More::Worst => firing(&row) && Some(row.rank) == worst,
                More::None => false,
            };
            let shape = RowShape {
                what: tells(what),
                max_url: if tells(shape.links) { shape.max_url } else { 0 },
                max_name: shape.max_name,
                max_place: shape.max_place,
            };
            row.line(&shape, &self.dial, since.unwrap_or_default())
        };
        let mut shown: Vec<Line> = rows.iter().map(line).collect();
        if lines < counted {
            shown.push(more(&self.ranked[lines..counted]));
        }
        let alertmanager = rows.iter().find_map(|row| row.alertmanager.as_ref());
        Page {
            head: self.head(counted),
            lines: shown,
            when: when(rows, &self.dial),
            links: alertmanager.filter(|link| link.url.len() <= shape.max_url).into_iter().collect(),
        }
    }
}

/// `+12 more: 3 firing, 9 resolved`
fn more(left: &[Ranked<'_>]) -> Line {
    let count = |state| left.iter().filter(|one| one.incident.state == state).count();
    let (firing, resolved) = (count(IncidentState::Firing), count(IncidentState::Resolved));
    let others = left.len() - firing - resolved;
    let counts = [(firing, "firing"), (resolved, "resolved"), (others, "not firing")];
    let told = counts.into_iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}"));
    more_line(format!("+{} more: {}", left.len(), told.collect::<Vec<_>>().join(", ")))
}

/// The message with the most lines for which there is one, and how many these are.
fn most_that_fit(all: usize, fits: impl Fn(usize) -> Option<Message>) -> Option<(Message, usize)> {
    // More lines are never shorter, so the largest number that fits is found by halving.
    let (mut best, mut low, mut high) = (None, 0, all + 1);
    while low < high {
        let middle = usize::midpoint(low, high);
        match fits(middle) {
            Some(message) => (best, low) = (Some((message, middle)), middle + 1),
            None => high = middle,
        }
    }
    best
}

fn more_line(name: String) -> Line {
    Line { emoji: String::new(), mark: Mark::Plain, name, rest: String::new(), links: Vec::new() }
}

/// The earliest start of what still fires, else of what is not over.
fn since(rows: &[Row]) -> Option<Timestamp> {
    let firing = rows.iter().filter(|row| row.state == IncidentState::Firing).map(|row| row.since).min();
    firing.or_else(|| rows.iter().filter(|row| row.state.is_open()).map(|row| row.since).min())
}

fn when(rows: &[Row], dial: &Dial<'_>) -> String {
    if let Some(since) = since(rows) {
        return format!("since {}", dial.with_zone(since));
    }
    let (from, to) = (rows.iter().map(|row| row.span.0).min(), rows.iter().map(|row| row.span.1).max());
    from.zip(to).map(|(from, to)| dial.range(from, to)).unwrap_or_default()
}

/// What the templates set.
struct Page<'a> {
    head: Head,
    lines: Vec<Line>,
    /// May be empty.
    when: String,
    links: Vec<&'a Link>,
}

impl Page<'_> {
    fn set(&self) -> Message {
        match (DigestHtml { page: self }.render(), DigestText { page: self }.render()) {
            (Ok(html), Ok(body)) => Message { body: body.trim_end().to_owned(), html },
            _ => text_only(self.head.line()),
        }
    }
}

#[derive(Template)]
#[template(path = "digest.html")]
struct DigestHtml<'a> {
    page: &'a Page<'a>,
}

#[derive(Template)]
#[template(path = "digest.txt")]
struct DigestText<'a> {
    page: &'a Page<'a>,
}
