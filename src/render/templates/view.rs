//! The variables of operator templates. `docs/TEMPLATES.md` documents every name in here, so these stay stable; the
//! built-in templates and the code behind them may change.

use serde::Serialize;

use crate::{
    model::{AlertState, Incident, Labels, Timestamp},
    render::{
        card::{
            alert::{CleanAlert, clean_labels, common_labels},
            group::Group,
            headline::Headline,
            lines::{Emphasis, Line},
            statements,
            view::{CardLayout, View},
        },
        digest::storm::InFull,
        event::user_link,
        held_back::{self, HeldBack},
        links::{
            alert_links,
            link::{Link, LinkKind},
        },
        places,
        reply::Reply,
        style::Style,
        text,
        time::{self, TimeFormat},
    },
};

/// The longest link that a template gets, as in built-in messages.
const MAX_URL: usize = 4096;
/// The longest annotation in lines; a longer one would not fit into an event.
const MAX_LINES: usize = 200;

/// When a message is made, and the day that its times refer to.
#[derive(Clone, Copy)]
pub(in crate::render) struct EventTimes {
    pub(in crate::render) root_at: Option<Timestamp>,
    pub(in crate::render) now: Timestamp,
}

/// One incident: the variables of `card_*` templates.
#[derive(Serialize)]
pub(in crate::render) struct CardView {
    route: String,
    receiver: String,
    state: &'static str,
    severity: String,
    emoji: String,
    word: String,
    color: String,
    name: String,
    rest: String,
    headline: String,
    what: Vec<String>,
    details: Vec<String>,
    labels: Labels,
    annotations: Labels,
    group_labels: Labels,
    chips: Vec<String>,
    more_chips: usize,
    counts: Counts,
    alerts: Vec<AlertView>,
    lines: Vec<LineView>,
    taken: Vec<TakenView>,
    silenced: Option<SilencedView>,
    when: String,
    starts_at: i64,
    ends_at: Option<i64>,
    now: i64,
    took: String,
    flaps: u32,
    links: Vec<LinkView>,
    alertmanager_url: String,
}

#[derive(Serialize)]
struct TakenView {
    name: String,
    url: String,
    at: i64,
    since: String,
    text: String,
}

#[derive(Serialize)]
struct SilencedView {
    by: String,
    ends_at: i64,
    until: String,
    comment: String,
}

#[derive(Serialize)]
struct Counts {
    firing: usize,
    resolved: usize,
    absent: usize,
    gone: usize,
    not_listed: u64,
}

#[derive(Serialize)]
struct AlertView {
    state: &'static str,
    held_back: &'static str,
    held_back_words: String,
    severity: String,
    emoji: String,
    name: String,
    place: String,
    what: Vec<String>,
    labels: Labels,
    annotations: Labels,
    since: String,
    starts_at: i64,
    ends_at: Option<i64>,
    took: String,
    links: Vec<LinkView>,
}

#[derive(Serialize)]
struct LinkView {
    kind: String,
    label: String,
    url: String,
}

#[derive(Serialize)]
struct LineView {
    emoji: String,
    mark: &'static str,
    name: String,
    rest: String,
    links: Vec<LinkView>,
}

/// Several incidents: the variables of `digest_*` templates.
#[derive(Serialize)]
pub(in crate::render) struct DigestView {
    emoji: String,
    word: &'static str,
    color: &'static str,
    name: String,
    rest: String,
    headline: String,
    lines: Vec<LineView>,
    incidents: Vec<CardView>,
    when: String,
    now: i64,
    links: Vec<LinkView>,
}

/// A reply: the variables of `reply_*` templates.
#[derive(Serialize)]
pub(in crate::render) struct ReplyView {
    headline: String,
    news: Vec<NewsView>,
    more: usize,
    incidents: Vec<CardView>,
    now: i64,
    links: Vec<LinkView>,
}

#[derive(Serialize)]
struct NewsView {
    emoji: String,
    name: String,
    words: String,
}

impl CardView {
    pub(in crate::render) fn new(style: &Style, incident: &Incident, moment: EventTimes) -> Self {
        let EventTimes { root_at, now } = moment;
        let view = View::new(style, incident, root_at, now);
        let shown = view.content(CardLayout { lines: Some(view.most_lines()), details: true, max_url: MAX_URL });
        let group = Group::new(style, incident);
        let times = TimeFormat::new(&style.zone, root_at.unwrap_or(now));
        let Headline { emoji, word, color, name, rest, .. } = shown.head;
        let (starts_at, ended) = group.span(now);
        let ends_at = (!incident.state.is_open()).then_some(ended);
        Self {
            route: incident.key.route.to_string(),
            receiver: text::clean(&incident.key.receiver),
            state: incident.state.as_str(),
            severity: severity(group.focus().min_by_key(|seen| seen.rank)),
            emoji: emoji.clone(),
            word: word.clone(),
            color: color.clone(),
            name: name.clone(),
            rest: rest.clone(),
            headline: shown.head.line(),
            what: group.what.clone(),
            details: shown.details.to_vec(),
            labels: group.common.clone(),
            annotations: cleaned(&common_labels(group.focus().map(|seen| &seen.alert.doc.annotations))),
            group_labels: clean_labels(&incident.doc.group_labels),
            chips: shown.chips.to_vec(),
            more_chips: shown.more_chips,
            counts: Counts {
                firing: incident.count(AlertState::Firing),
                resolved: incident.count(AlertState::Resolved),
                absent: incident.count(AlertState::Absent),
                gone: incident.count(AlertState::Gone),
                not_listed: incident.doc.truncated,
            },
            alerts: group.alerts.iter().map(|seen| AlertView::new(style, &group, &times, seen, now)).collect(),
            lines: shown.lines.iter().map(LineView::new).collect(),
            taken: taken(incident, &times),
            silenced: silenced(&group, &times),
            when: shown.when.to_owned(),
            starts_at: starts_at.0,
            ends_at: ends_at.map(|at| at.0),
            now: now.0,
            took: time::words(ends_at.unwrap_or(now).since(starts_at)),
            flaps: incident.flaps,
            links: shown.links.iter().map(LinkView::new).collect(),
            alertmanager_url: alert_links::alertmanager(style, &incident.doc.external_url)
                .map(|link| link.url)
                .unwrap_or_default(),
        }
    }
}

fn taken(incident: &Incident, times: &TimeFormat<'_>) -> Vec<TakenView> {
    let taken = incident.taken.iter().filter(|_| incident.state.is_open());
    taken
        .map(|taken| TakenView {
            name: statements::name(taken),
            url: user_link(&taken.user).unwrap_or_default(),
            at: taken.at.0,
            since: times.minute(taken.at),
            text: statements::words(&taken.text),
        })
        .collect()
}

fn silenced(group: &Group<'_>, times: &TimeFormat<'_>) -> Option<SilencedView> {
    let silence = held_back::shared_silence(group).filter(|_| group.incident.state.is_open())?;
    Some(SilencedView {
        by: statements::silenced_by(silence),
        ends_at: silence.until.0,
        until: times.minute(silence.until),
        comment: statements::words(&silence.comment),
    })
}

impl AlertView {
    fn new(style: &Style, group: &Group<'_>, times: &TimeFormat<'_>, seen: &CleanAlert<'_>, now: Timestamp) -> Self {
        let (alert, starts_at) = (seen.alert, group.start(seen));
        let known = alert.seen.as_ref();
        let range = group.range_of(std::iter::once(seen));
        let ends_at = alert.ends_at.filter(|_| alert.state == AlertState::Resolved);
        let among = group.place(seen);
        let place = if among.is_empty() {
            places::alone(&seen.thing, &style.display.places).map(|thing| thing.name).unwrap_or_default()
        } else {
            among
        };
        Self {
            state: alert.state.as_str(),
            held_back: HeldBack::of(known).map_or("", HeldBack::word),
            held_back_words: known.map(|seen| held_back::words(times, seen)).unwrap_or_default(),
            severity: severity(Some(seen)),
            emoji: match alert.state {
                AlertState::Firing => style.emoji(seen.rank),
                AlertState::Resolved => "🟢".to_owned(),
                AlertState::Absent => "🔕".to_owned(),
                AlertState::Gone => "⚪".to_owned(),
            },
            name: text::cut(seen.label("alertname").unwrap_or_default(), 200),
            place: text::cut(&place, 100),
            what: seen.what().into_iter().take(MAX_LINES).collect(),
            labels: seen.labels.clone(),
            annotations: cleaned(&alert.doc.annotations),
            since: times.minute(starts_at),
            starts_at: starts_at.0,
            ends_at: ends_at.map(|at| at.0),
            took: time::words(ends_at.unwrap_or(now).since(starts_at)),
            links: alert_links::of_alert(style, group.incident, alert, range).iter().map(LinkView::new).collect(),
        }
    }
}

impl LinkView {
    fn new(link: &Link) -> Self {
        let kind = match link.kind {
            LinkKind::Custom(_) => "extra".to_owned(),
            kind => kind.label().to_lowercase(),
        };
        Self { kind, label: link.label.clone(), url: link.url.clone() }
    }
}

impl LineView {
    fn new(line: &Line) -> Self {
        Self {
            emoji: line.emoji.clone(),
            mark: match line.mark {
                Emphasis::Strong => "strong",
                Emphasis::Struck => "del",
                Emphasis::Slanted => "em",
                Emphasis::Plain => "",
            },
            name: line.name.clone(),
            rest: line.rest.clone(),
            links: line.links.iter().map(LinkView::new).collect(),
        }
    }
}

impl DigestView {
    pub(in crate::render) fn new(style: &Style, incidents: &[&Incident], full: &InFull, moment: EventTimes) -> Self {
        let head = &full.head;
        let of = |id: &_| incidents.iter().find(|incident| incident.id == *id);
        Self {
            emoji: head.emoji.clone(),
            word: head.word,
            color: head.color,
            name: head.count.clone(),
            rest: head.rest.clone(),
            headline: head.line(),
            lines: full.lines.iter().map(LineView::new).collect(),
            incidents: full.order.iter().filter_map(of).map(|one| CardView::new(style, one, moment)).collect(),
            when: full.when.clone(),
            now: moment.now.0,
            links: full.links.iter().map(LinkView::new).collect(),
        }
    }
}

impl ReplyView {
    pub(in crate::render) fn new(style: &Style, incidents: &[&Incident], reply: &Reply, moment: EventTimes) -> Self {
        Self {
            headline: reply.line(),
            news: reply
                .lines
                .iter()
                .map(|said| NewsView { emoji: said.emoji.clone(), name: said.name.clone(), words: said.words.clone() })
                .collect(),
            more: reply.more,
            incidents: incidents.iter().map(|one| CardView::new(style, one, moment)).collect(),
            now: moment.now.0,
            links: reply.links.iter().map(LinkView::new).collect(),
        }
    }
}

/// The `severity` label in lower case.
fn severity(seen: Option<&CleanAlert<'_>>) -> String {
    seen.and_then(|seen| seen.label("severity")).unwrap_or_default().to_lowercase()
}

/// Annotations keep their line breaks, but no invisible characters.
fn cleaned(annotations: &Labels) -> Labels {
    let lines = |raw: &str| text::lines(raw).into_iter().take(MAX_LINES).collect::<Vec<_>>().join("\n");
    annotations
        .iter()
        .map(|(name, value)| (text::clean(name), lines(value)))
        .filter(|(name, value)| !name.is_empty() && !value.is_empty())
        .collect()
}
