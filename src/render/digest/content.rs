//! What the templates of a digest show.

use askama::Template;

use super::head::Head;
use crate::render::{
    card::lines::{Emphasis, Line},
    links::link::Link,
    message::Message,
};

/// A line takes more than 40 bytes, so more lines never fit into one event.
pub(super) const MAX_ROWS: usize = 600;

/// A digest with all words and links decided.
pub(super) struct DigestContent<'a> {
    pub(super) head: Head,
    pub(super) lines: Vec<Line>,
    /// May be empty.
    pub(super) when: String,
    pub(super) links: Vec<&'a Link>,
}

impl DigestContent<'_> {
    pub(super) fn set(&self) -> Message {
        Message::from_templates(&DigestHtml { digest: self }, &DigestText { digest: self }, || self.head.line())
    }
}

#[derive(Template)]
#[template(path = "digest.html")]
struct DigestHtml<'a> {
    digest: &'a DigestContent<'a>,
}

#[derive(Template)]
#[template(path = "digest.txt")]
struct DigestText<'a> {
    digest: &'a DigestContent<'a>,
}
