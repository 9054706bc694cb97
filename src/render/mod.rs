//! Incidents -> messages. Pure: it is given the time, and returns values.
//!
//! [`View`](card::view::View) decides every word and link of a card, the templates in `templates/` set them in two forms, and
//! what is too long for an event is stepped down until it fits. [`digest()`] does the same for several incidents in one
//! message. [`custom`] puts an operator's own templates in place of the built-in ones.

mod card;
mod digest;
mod event;
pub mod links;
mod places;
mod reply;
pub mod status;
pub mod templates;
mod text;
mod time;

use std::collections::BTreeMap;

use askama::Template;
use jiff::tz::TimeZone;

use self::{
    card::{
        headline::Headline,
        lines::Mark,
        view::{Shape, Shown, View},
    },
    links::custom::CustomLinks,
    reply::Reply,
};
pub use self::{
    digest::{Digest, digest, digest_reply, green_notice},
    event::{CONTENT_KEY, Envelope, Relation, card_content, edit_content, permalink, reply_content},
    links::{
        custom::LinkTemplateFaults,
        url::{BrokenLink, broken_links},
    },
};
use crate::{
    config,
    model::{Form, Incident, Note, NoteKind, RouteName, Timestamp},
};

/// Both forms of a message together, as JSON strings. An edit carries them twice, and encryption adds a third; what is
/// within this still fits into an event of 65,536 bytes then.
pub const MAX_BYTES: usize = 22 * 1024;
/// Links longer than this are left out before the list of alerts gets shorter than [`FEW_LINES`].
const LONG_URLS: [usize; 4] = [4096, 1500, 500, 0];
const FEW_LINES: usize = 10;

/// How messages look; built once from the config.
#[derive(Clone, Debug)]
pub struct Style {
    zone: TimeZone,
    display: config::Display,
    rewrite: Vec<config::Rewrite>,
    /// Logs links of routes that the config does not know any more.
    grafana: Option<config::Grafana>,
    /// Logs links of each route.
    route_grafana: BTreeMap<RouteName, Option<config::Grafana>>,
    custom_links: CustomLinks,
    templates: templates::Templates,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("display.timezone: no such time zone: {0:?} (an IANA name like \"Europe/Berlin\" is meant)")]
pub struct StyleError(String);

impl Style {
    /// # Errors
    /// When the time zone is unknown.
    pub fn new(display: &config::Display, links: &config::Links) -> Result<Self, StyleError> {
        let zone = TimeZone::get(&display.timezone).map_err(|_| StyleError(display.timezone.clone()))?;
        Ok(Self {
            zone,
            display: display.clone(),
            rewrite: links::url::normal_rules(&links.rewrite),
            grafana: links.grafana.clone(),
            route_grafana: BTreeMap::new(),
            custom_links: CustomLinks::default(),
            templates: templates::Templates::default(),
        })
    }

    /// With what routes say of their own links.
    ///
    /// # Errors
    /// When a template of `routes.X.links` cannot be compiled, or fails on a sample alert.
    pub fn with_routes(mut self, routes: &BTreeMap<RouteName, config::Route>) -> Result<Self, LinkTemplateFaults> {
        self.custom_links = CustomLinks::new(routes)?;
        self.route_grafana = routes.iter().map(|(name, route)| (name.clone(), route.grafana.clone())).collect();
        Ok(self)
    }

    /// Where the logs of an incident's alerts are.
    fn grafana(&self, incident: &Incident) -> Option<&config::Grafana> {
        self.route_grafana.get(&incident.key.route).unwrap_or(&self.grafana).as_ref()
    }

    /// The emoji of a severity; white for those that the config does not know.
    fn emoji(&self, rank: u32) -> String {
        let known = usize::try_from(rank).ok().and_then(|rank| self.display.severities.get(rank));
        let emoji = known.map(|severity| text::cut(&text::clean(&severity.emoji), 8)).unwrap_or_default();
        if emoji.is_empty() { "⚪".to_owned() } else { emoji }
    }
}

/// One message in both its forms. The first line of each has the same words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Plain text; never empty.
    pub body: String,
    /// HTML of the few tags that every client shows.
    pub html: String,
}

impl Message {
    /// Only the first line, without markup.
    #[must_use]
    pub fn first_line(&self) -> Self {
        text_only(self.body.lines().next().unwrap_or_default().to_owned())
    }

    /// What it takes of an event: both forms as JSON strings.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let quoted = |text: &str| serde_json::to_string(text).map_or(usize::MAX / 4, |json| json.len());
        quoted(&self.body) + quoted(&self.html)
    }
}

/// The card of an incident.
///
/// `root_at` is when the card's first event was frozen (the client shows that day, so times on the card leave it out).
/// Where [`Form::Counts`] would leave out nothing it is one line already: what was refused is not tried again as it was.
#[must_use]
pub fn card(style: &Style, incident: &Incident, root_at: Option<Timestamp>, now: Timestamp, form: Form) -> Message {
    let view = View::new(style, incident, root_at, now);
    let set = |shape| set_card(&view.shown(shape));
    let message = match form {
        Form::Full => fitting(&view, set),
        Form::Counts => {
            let plainer = set(Shape { lines: None, details: false, max_url: 0 });
            if plainer == fitting(&view, set) { one_line(&view.head) } else { plainer }
        }
        Form::OneLine => one_line(&view.head),
    };
    if message.bytes() <= MAX_BYTES { message } else { one_line(&view.head) }
}

/// The fullest shape that fits: all alerts, else as many as there is room for, else none. Long links go before the list
/// gets short.
fn fitting(view: &View, set: impl Fn(Shape) -> Message) -> Message {
    let most = view.most_lines();
    for max_url in LONG_URLS {
        let shape = |lines| Shape { lines: Some(lines), details: true, max_url };
        let fits = |lines| Some(set(shape(lines))).filter(|message| message.bytes() <= MAX_BYTES);
        if let Some(all) = fits(most) {
            return all;
        }
        // More lines are never shorter, so the largest number that fits is found by halving.
        let (mut best, mut low, mut high) = (None, 0, most);
        while low < high {
            let middle = usize::midpoint(low, high);
            match fits(middle) {
                Some(message) => (best, low) = (Some((middle, message)), middle + 1),
                None => high = middle,
            }
        }
        match best {
            Some((lines, message)) if lines >= FEW_LINES || max_url == 0 => return message,
            _ => {}
        }
    }
    set(Shape { lines: None, details: false, max_url: 0 })
}

/// The reply that tells `notes`, all of one card of this incident, in one event.
///
/// [`Form::Counts`] has no links; where there are none to take away, it is one line already.
#[must_use]
pub fn reply(
    style: &Style,
    incident: &Incident,
    notes: &[&Note],
    root_at: Option<Timestamp>,
    now: Timestamp,
    form: Form,
) -> Message {
    let mut reply = reply::reply(style, incident, notes, root_at, now);
    if is_one_line(&mut reply, form) {
        reply.lines.truncate(1);
        return text_only(reply_line(&reply));
    }
    let message = set_reply(&reply);
    if message.bytes() <= MAX_BYTES {
        return message;
    }
    reply.links.clear();
    set_reply(&reply)
}

/// Takes the links away from a plainer reply; whether a line of text is all that is left to it.
fn is_one_line(reply: &mut Reply, form: Form) -> bool {
    let had_links = !reply.links.is_empty();
    if form != Form::Full {
        reply.links.clear();
    }
    form == Form::OneLine || (form == Form::Counts && !had_links)
}

/// A message of its own: what happened, then the whole card as it is now.
///
/// The form is that of a [`card`]; [`Form::OneLine`] says only what happened.
#[must_use]
pub fn post(style: &Style, incident: &Incident, notes: &[&Note], now: Timestamp, form: Form) -> Message {
    if notes.iter().all(|note| note.kind == NoteKind::Resolved) {
        // The card's own first line says just that.
        return card(style, incident, None, now, form);
    }
    let mut told = reply::reply(style, incident, notes, None, now);
    // The card has them.
    told.links.clear();
    let line = || text_only(reply_line(&told));
    let happened = set_reply(&told);
    let view = View::new(style, incident, None, now);
    let set = |shape| {
        let card = set_card(&view.shown(shape));
        Message {
            body: format!("{}\n{}", happened.body, card.body),
            html: format!("{}<br>{}", happened.html, card.html),
        }
    };
    let message = match form {
        Form::Full => fitting(&view, set),
        Form::Counts => {
            let plainer = set(Shape { lines: None, details: false, max_url: 0 });
            if plainer == fitting(&view, set) { line() } else { plainer }
        }
        Form::OneLine => line(),
    };
    if message.bytes() <= MAX_BYTES { message } else { line() }
}

/// What an old card shows once a new one has taken its place: where that is, and no state that would grow stale.
/// Plainer forms are a line without a link.
#[must_use]
pub fn continued(style: &Style, incidents: &[&Incident], to: &str, form: Form) -> Message {
    let names: Vec<String> = incidents.iter().take(1).map(|incident| card::headline::title(style, incident)).collect();
    let line = format!("⏩ {}: continued below, on a newer card", names.join(", "));
    let line = text_only(line);
    if form != Form::Full {
        return line;
    }
    let html = ContinuedHtml { to }.render().unwrap_or_default();
    Message { body: format!("{}\nContinued: {to}", line.body), html: format!("{}{html}", line.html) }
}

/// What a card shows once its alerts are no longer routed into its room: whose it was, and no state that would grow
/// stale.
#[must_use]
pub fn unrouted(style: &Style, incidents: &[&Incident]) -> Message {
    let name = incidents.first().map(|incident| card::headline::title(style, incident)).unwrap_or_default();
    let others = incidents.len().saturating_sub(1);
    let others = if others > 0 { format!(" and {others} more") } else { String::new() };
    text_only(format!("🔌 {name}{others}: no longer routed here, and no longer updated"))
}

/// What a card shows once its receiver takes another route: which one, and where its new card is once there is one.
#[must_use]
pub fn moved(style: &Style, incidents: &[&Incident], route: &str, to: Option<&str>) -> Message {
    let name = incidents.first().map(|incident| card::headline::title(style, incident)).unwrap_or_default();
    let others = incidents.len().saturating_sub(1);
    let others = if others > 0 { format!(" and {others} more") } else { String::new() };
    let line = text_only(format!("⏩ {name}{others}: goes on with the route {route}, and is no longer updated here"));
    let Some(to) = to else { return line };
    let html = ContinuedHtml { to }.render().unwrap_or_default();
    Message { body: format!("{}\nContinued: {to}", line.body), html: format!("{}{html}", line.html) }
}

fn reply_line(reply: &Reply) -> String {
    reply.lines.first().map(|said| format!("{} {}: {}", said.emoji, said.name, said.words)).unwrap_or_default()
}

fn set_reply(reply: &Reply) -> Message {
    match (ReplyHtml { reply }.render(), ReplyText { reply }.render()) {
        (Ok(html), Ok(body)) => Message { body: body.trim_end().to_owned(), html },
        _ => text_only(reply_line(reply)),
    }
}

fn set_card(shown: &Shown<'_>) -> Message {
    let html = CardHtml { card: shown }.render();
    let body = CardText { card: shown }.render();
    match (html, body) {
        (Ok(html), Ok(body)) => Message { body: body.trim_end().to_owned(), html },
        // Writing into memory cannot fail; if it ever does, a plain line is better than none.
        _ => one_line(shown.head),
    }
}

fn one_line(head: &Headline) -> Message {
    text_only(plain_head(head))
}

/// The last resort: a line without any markup.
fn text_only(body: String) -> Message {
    let html = LineHtml { line: &body }.render().unwrap_or_default();
    Message { body, html }
}

fn plain_head(head: &Headline) -> String {
    let words = [&head.emoji, &head.word, &head.name, &head.rest];
    words.into_iter().filter(|words| !words.is_empty()).cloned().collect::<Vec<_>>().join(" ")
}

#[derive(Template)]
#[template(path = "card.html")]
struct CardHtml<'a> {
    card: &'a Shown<'a>,
}

#[derive(Template)]
#[template(path = "card.txt")]
struct CardText<'a> {
    card: &'a Shown<'a>,
}

#[derive(Template)]
#[template(path = "reply.html")]
struct ReplyHtml<'a> {
    reply: &'a Reply,
}

#[derive(Template)]
#[template(path = "reply.txt")]
struct ReplyText<'a> {
    reply: &'a Reply,
}

#[derive(Template)]
#[template(source = "<br><a href=\"{{ to }}\">Continued</a>", ext = "html")]
struct ContinuedHtml<'a> {
    to: &'a str,
}

#[derive(Template)]
#[template(source = "{{ line }}", ext = "html")]
struct LineHtml<'a> {
    line: &'a str,
}

#[cfg(test)]
mod tests;

/// What the tests check of every message, for the fuzz target.
#[cfg(fuzzing)]
#[path = "tests/check.rs"]
pub mod check;
