//! What an old card shows once it is no longer updated: where to look now, and no state that would grow stale.

use askama::Template;

use super::{card::headline, message::Message, style::Style};
use crate::model::{Form, Incident};

/// Why a card is no longer updated. Each `to` is a permalink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Superseded<'a> {
    /// A newer card took its place.
    Continued { to: &'a str },
    /// Its alerts are no longer routed into its room.
    Unrouted,
    /// Its receiver takes another route; `None` until that route has a card.
    Moved { route: &'a str, to: Option<&'a str> },
}

/// `form` 0 is as meant, from 1 on it is a line without a link.
pub(super) fn message(style: &Style, incidents: &[&Incident], why: Superseded<'_>, form: Form) -> Message {
    let name = incidents.first().map(|incident| headline::title(style, incident)).unwrap_or_default();
    let others = match incidents.len() {
        0 | 1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    let (line, to) = match why {
        Superseded::Continued { to } => (format!("⏩ {name}: continued below, on a newer card"), Some(to)),
        Superseded::Unrouted => (format!("🔌 {name}{others}: no longer routed here, and no longer updated"), None),
        Superseded::Moved { route, to } => {
            (format!("⏩ {name}{others}: goes on with the route {route}, and is no longer updated here"), to)
        }
    };
    let line = Message::text_only(line);
    let Some(to) = to.filter(|_| form == Form::Full) else { return line };
    let html = LinkHtml { to }.render().unwrap_or_default();
    Message { body: format!("{}\nContinued: {to}", line.body), html: format!("{}{html}", line.html) }
}

#[derive(Template)]
#[template(source = "<br><a href=\"{{ to }}\">Continued</a>", ext = "html")]
struct LinkHtml<'a> {
    to: &'a str,
}
