//! The digest of a storm: as many incidents as fit, each on a line.

use super::{
    content::{DigestContent, MAX_ROWS},
    head::{self, Head},
    row::{self, Ranked, Row, RowLayout},
};
use crate::{
    model::{Form, Incident, IncidentId, IncidentState, Timestamp},
    render::{
        card::lines::Line,
        links::link::Link,
        message::{Message, most_that_fit},
        style::Style,
        time::TimeFormat,
    },
};

/// In a longer list only the most severe incidents say what happened: people scan it for names and places.
const LONG_LIST: usize = 20;

/// A digest's message, and the incidents that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::render) struct Digest {
    pub(in crate::render) message: Message,
    /// The incidents with a line each, in the order of the lines.
    pub(in crate::render) named: Vec<IncidentId>,
}

/// The digest of these incidents, which it sorts itself: firing first, then the most severe, then the oldest.
///
/// A digest that is not posted yet (`form` 0, not `must_hold_all`) may leave out incidents at the end of that
/// order. It then counts only those that it names, at least one, and the others need another digest. An edit and a
/// plainer form (`form` 1) must hold all of them and count those without a line. `form` 2 is one line of text
/// without a list.
pub(in crate::render) fn digest(
    style: &Style,
    incidents: &[&Incident],
    root_at: Option<Timestamp>,
    now: Timestamp,
    form: Form,
    must_hold_all: bool,
) -> Digest {
    let ranked = row::ordered(style, incidents);
    let times = TimeFormat::new(&style.zone, root_at.unwrap_or(now));
    let (rows, cluster) = row::rows(style, &times, &ranked[..ranked.len().min(MAX_ROWS)], now);
    let storm = Storm { style, ranked, rows, cluster, times };
    if form == Form::OneLine {
        return Digest { message: Message::text_only(storm.head(storm.ranked.len()).line()), named: Vec::new() };
    }
    let layouts = if form == Form::Full { &LAYOUTS[..] } else { &LAYOUTS[LAYOUTS.len() - 1..] };
    let (message, lines) = storm.fitting(layouts, must_hold_all || form != Form::Full);
    Digest { message, named: storm.ranked[..lines].iter().map(|one| one.incident.id.clone()).collect() }
}

/// Everything that a digest could show, for the operator's templates.
pub(in crate::render) struct InFull {
    pub(in crate::render) head: Head,
    pub(in crate::render) lines: Vec<Line>,
    /// May be empty.
    pub(in crate::render) when: String,
    pub(in crate::render) links: Vec<Link>,
    /// The incidents that have a line, in the order of the lines.
    pub(in crate::render) order: Vec<IncidentId>,
}

/// The digest of these incidents as if there were room for everything.
pub(in crate::render) fn in_full(
    style: &Style,
    incidents: &[&Incident],
    root_at: Option<Timestamp>,
    now: Timestamp,
) -> InFull {
    let ranked = row::ordered(style, incidents);
    let times = TimeFormat::new(&style.zone, root_at.unwrap_or(now));
    let (rows, cluster) = row::rows(style, &times, &ranked[..ranked.len().min(MAX_ROWS)], now);
    let order = ranked.iter().take(rows.len()).map(|one| one.incident.id.clone()).collect();
    let storm = Storm { style, ranked, rows, cluster, times };
    let DigestContent { head, lines, when, links } = storm.content(&LAYOUTS[0], storm.rows.len(), true);
    InFull { head, lines, when, links: links.into_iter().cloned().collect(), order }
}

/// Which incidents show more than name and place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum More {
    All,
    /// The firing incidents of the most severe rank.
    Worst,
    None,
}

/// How much of a digest is shown.
#[derive(Clone, Copy)]
struct DigestLayout {
    links: More,
    what: More,
    taken: bool,
    max_url: usize,
    max_name: usize,
    max_place: usize,
}

/// From everything down to the names alone.
const LAYOUTS: [DigestLayout; 10] = {
    const fn layout(links: More, what: More, max_url: usize) -> DigestLayout {
        DigestLayout { links, what, taken: true, max_url, max_name: 48, max_place: 160 }
    }
    [
        layout(More::All, More::All, 4096),
        layout(More::All, More::All, 1500),
        layout(More::All, More::All, 500),
        layout(More::Worst, More::All, 1500),
        layout(More::Worst, More::All, 500),
        layout(More::Worst, More::Worst, 1500),
        layout(More::Worst, More::Worst, 500),
        layout(More::None, More::Worst, 500),
        layout(More::None, More::None, 500),
        DigestLayout { taken: false, max_name: 36, max_place: 40, ..layout(More::None, More::None, 200) },
    ]
};

/// Everything that a digest could show.
struct Storm<'a> {
    style: &'a Style,
    ranked: Vec<Ranked<'a>>,
    /// The rows of the first [`MAX_ROWS`] incidents.
    rows: Vec<Row>,
    cluster: Option<String>,
    times: TimeFormat<'a>,
}

impl Storm<'_> {
    /// The first layout that fits all incidents, else as many as fit in the last layout; with the number of lines.
    fn fitting(&self, layouts: &[DigestLayout], hold_all: bool) -> (Message, usize) {
        let all = self.rows.len();
        let fits = |layout: &DigestLayout, lines| Some(self.set(layout, lines, hold_all)).filter(Message::fits);
        let whole = all == self.ranked.len() || hold_all;
        if whole && let Some(message) = layouts.iter().find_map(|layout| fits(layout, all)) {
            return (message, all);
        }
        let last = || Message::text_only(self.head(if hold_all { self.ranked.len() } else { all }).line());
        let Some(shortest) = layouts.last() else { return (last(), 0) };
        let best = most_that_fit(all, |lines| fits(shortest, lines));
        best.unwrap_or_else(|| (last(), 0))
    }

    fn head(&self, count: usize) -> Head {
        let rows = &self.rows[..self.rows.len().min(count)];
        head::digest(self.style, &self.ranked[..count], rows, self.cluster.as_deref())
    }

    /// The first `lines` incidents; with `hold_all` the others are counted.
    fn set(&self, layout: &DigestLayout, lines: usize, hold_all: bool) -> Message {
        self.content(layout, lines, hold_all).set()
    }

    fn content(&self, layout: &DigestLayout, lines: usize, hold_all: bool) -> DigestContent<'_> {
        let counted = if hold_all { self.ranked.len() } else { lines };
        let rows = &self.rows[..lines];
        let firing = |row: &&Row| row.state == IncidentState::Firing;
        let worst = rows.iter().filter(firing).map(|row| row.rank).min();
        let since = since(rows);
        let what = if lines > LONG_LIST && layout.what == More::All { More::Worst } else { layout.what };
        let line = |row: &Row| {
            let tells = |more| match more {
                More::All => true,
                More::Worst => firing(&row) && Some(row.rank) == worst,
                More::None => false,
            };
            let layout = RowLayout {
                what: tells(what),
                taken: layout.taken,
                max_url: if tells(layout.links) { layout.max_url } else { 0 },
                max_name: layout.max_name,
                max_place: layout.max_place,
            };
            row.line(&layout, &self.times, since.unwrap_or_default())
        };
        let mut shown: Vec<Line> = rows.iter().map(line).collect();
        if lines < counted {
            shown.push(more(&self.ranked[lines..counted]));
        }
        let alertmanager = rows.iter().find_map(|row| row.alertmanager.as_ref());
        DigestContent {
            head: self.head(counted),
            lines: shown,
            when: when(rows, &self.times),
            links: alertmanager.filter(|link| link.url.len() <= layout.max_url).into_iter().collect(),
        }
    }
}

/// `+12 more: 3 firing, 9 resolved`
fn more(left: &[Ranked<'_>]) -> Line {
    let count = |state| left.iter().filter(|one| one.incident.state == state).count();
    let (firing, resolved) = (count(IncidentState::Firing), count(IncidentState::Resolved));
    let others = left.len() - firing - resolved;
    let counts = [(firing, "firing"), (resolved, "resolved"), (others, "not firing")];
    let words = counts.into_iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}"));
    Line::plain(format!("+{} more: {}", left.len(), words.collect::<Vec<_>>().join(", ")))
}

/// The earliest start of the firing incidents, else of the open ones.
fn since(rows: &[Row]) -> Option<Timestamp> {
    let firing = rows.iter().filter(|row| row.state == IncidentState::Firing).map(|row| row.since).min();
    firing.or_else(|| rows.iter().filter(|row| row.state.is_open()).map(|row| row.since).min())
}

fn when(rows: &[Row], times: &TimeFormat<'_>) -> String {
    if let Some(since) = since(rows) {
        return format!("since {}", times.with_zone(since));
    }
    let (from, to) = (rows.iter().map(|row| row.span.0).min(), rows.iter().map(|row| row.span.1).max());
    from.zip(to).map(|(from, to)| times.range(from, to)).unwrap_or_default()
}
