//! Incidents -> messages. Pure: it is given the time, and returns values.
//!
//! [`render`] is the one call. [`View`](card::view::View) decides every word and link of a card, the templates in
//! `templates/` at the root set them in two forms, and what is too long for an event is stepped down until it fits.
//! [`digest`] does the same for several incidents in one message. [`templates`] puts the operator's own templates in
//! place of the built-in ones.

pub mod answer;
mod card;
mod digest;
mod event;
pub mod heartbeat;
mod held_back;
pub mod links;
mod message;
mod places;
mod post;
mod reply;
mod request;
pub mod status;
mod style;
mod superseded;
pub mod templates;
mod text;
mod time;

pub use self::{
    event::{
        CONTENT_KEY, Envelope, Image, Relation, answer_content, card_content, edit_content, image_content, permalink,
        reaction_content, reply_content, user_link,
    },
    links::{alert_links::BrokenLink, custom::LinkTemplateErrors},
    message::{MAX_BYTES, Message},
    request::{MessageKind, Rendered, Request, render},
    style::{Style, StyleError},
    superseded::Superseded,
};

#[cfg(test)]
mod tests;

/// What the tests check of every message, for the fuzz target.
#[cfg(fuzzing)]
#[path = "tests/check.rs"]
pub mod check;
