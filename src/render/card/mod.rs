//! The card of one incident, as full as it fits into an event.

pub(crate) mod alert;
pub(crate) mod group;
pub(crate) mod headline;
pub(crate) mod lines;
pub(crate) mod statements;
pub(crate) mod view;

use askama::Template;

use self::{
    lines::Emphasis,
    view::{CardContent, CardLayout, View},
};
use super::{
    message::{Message, most_that_fit},
    style::Style,
};
use crate::model::{Form, Incident, Timestamp};

/// Links longer than this are left out before the list of alerts gets shorter than [`FEW_LINES`].
const LONG_URLS: [usize; 4] = [4096, 1500, 500, 0];
const FEW_LINES: usize = 10;
/// Counts in place of the list, no description and no links.
const PLAIN: CardLayout = CardLayout { lines: None, details: false, max_url: 0 };

/// The card of an incident.
///
/// `root_at` is when the card's first event was frozen (the client shows that day, so times on the card leave it out).
/// `form` as for [`stepped_down`].
pub(super) fn card(
    style: &Style,
    incident: &Incident,
    root_at: Option<Timestamp>,
    now: Timestamp,
    form: Form,
) -> Message {
    let view = View::new(style, incident, root_at, now);
    stepped_down(&view, form, |layout| set(&view.content(layout)), || Message::text_only(view.head.line()))
}

/// The message that `set` makes of a card in the fullest layout that fits; `line` where none does.
///
/// `form` 0 is as meant, 1 has counts in place of the list, no description and no links, from 2 on it is one line of
/// text. Where 1 would leave out nothing it is that line already: a refused message is not tried again unchanged.
pub(super) fn stepped_down(
    view: &View,
    form: Form,
    set: impl Fn(CardLayout) -> Message,
    line: impl Fn() -> Message,
) -> Message {
    let message = match form {
        Form::Full => fullest(view, set),
        Form::Counts => Some(set(PLAIN)).filter(|plain| *plain != fullest(view, &set)).unwrap_or_else(&line),
        Form::OneLine => line(),
    };
    if message.fits() { message } else { line() }
}

/// All alerts, else as many as there is room for, else none. Long links go before the list gets short.
fn fullest(view: &View, set: impl Fn(CardLayout) -> Message) -> Message {
    let most = view.most_lines();
    for max_url in LONG_URLS {
        let fits = |lines| Some(set(CardLayout { lines: Some(lines), details: true, max_url })).filter(Message::fits);
        if let Some(all) = fits(most) {
            return all;
        }
        match most_that_fit(most, fits) {
            Some((message, lines)) if lines >= FEW_LINES || max_url == 0 => return message,
            _ => {}
        }
    }
    set(PLAIN)
}

/// The card in both its forms.
pub(super) fn set(card: &CardContent<'_>) -> Message {
    Message::from_templates(&CardHtml { card }, &CardText { card }, || card.head.line())
}

#[derive(Template)]
#[template(path = "card.html")]
struct CardHtml<'a> {
    card: &'a CardContent<'a>,
}

#[derive(Template)]
#[template(path = "card.txt")]
struct CardText<'a> {
    card: &'a CardContent<'a>,
}
