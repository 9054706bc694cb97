//! Answers to what somebody asked in a room: a first line that says it all, and lines of detail. Everything that comes
//! from elsewhere is cleaned here and escaped by the templates.

mod lists;
mod logs;
mod why;

use askama::Template;

pub use self::{
    lists::{ListedIncident, ListedSilence, alerts, silences},
    logs::{ShownLogs, logs},
    why::why,
};
use super::{
    message::{MAX_LINE, Message, most_that_fit},
    style::Style,
    text,
    time::TimeFormat,
};
use crate::model::{Incident, Timestamp};

/// Characters of one piece of a line, and of a line of several pieces.
const MAX_PIECE: usize = 300;
/// Lines beyond are only counted.
const MAX_LINES: usize = 40;

/// What an answer says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    emoji: String,
    first: String,
    lines: Vec<Vec<Piece>>,
    /// Lines that are not there.
    more: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Piece {
    text: String,
    is_code: bool,
}

impl Answer {
    /// `first` is cut to what a phone shows.
    #[must_use]
    pub fn new(emoji: &str, first: &str) -> Self {
        let room = MAX_LINE.saturating_sub(emoji.chars().count() + 1);
        Self { emoji: text::clean(emoji), first: text::show(&text::clean(first), room), ..Self::default() }
    }

    /// A line of words.
    #[must_use]
    pub fn line(self, words: &str) -> Self {
        self.pieces(&[(words, false)])
    }

    /// A line of words and, after them, something to be read letter by letter.
    #[must_use]
    pub fn code(self, words: &str, code: &str) -> Self {
        self.pieces(&[(words, false), (code, true)])
    }

    #[must_use]
    fn pieces(mut self, pieces: &[(&str, bool)]) -> Self {
        if self.lines.len() >= MAX_LINES {
            self.more += 1;
            return self;
        }
        let clean = |(words, is_code): &(&str, bool)| Piece {
            text: text::show(&text::clean(words), MAX_PIECE),
            is_code: *is_code,
        };
        let line: Vec<Piece> = pieces.iter().map(clean).filter(|piece| !piece.text.is_empty()).collect();
        if !line.is_empty() {
            self.lines.push(line);
        }
        self
    }

    /// Further things that no line names.
    #[must_use]
    fn and_more(mut self, more: usize) -> Self {
        self.more += more;
        self
    }

    /// Sets it; lines that do not fit into an event are only counted.
    #[must_use]
    pub fn message(&self) -> Message {
        let line = || format!("{} {}", self.emoji, self.first);
        let all = self.lines.len();
        let some = |lines: usize| {
            let view = View { answer: self, lines: &self.lines[..lines], more: self.more + all - lines };
            let message = Message::from_templates(&AnswerHtml { view: &view }, &AnswerText { view: &view }, line);
            message.fits().then_some(message)
        };
        most_that_fit(all, some).map_or_else(|| Message::text_only(line()), |(message, _)| message)
    }
}

/// What an incident is called; untrusted text made harmless.
#[must_use]
pub fn title(style: &Style, incident: &Incident) -> String {
    super::card::headline::title(style, incident)
}

/// `14:31 CET`, with the day where it is not that of `now`.
#[must_use]
pub fn time(style: &Style, at: Timestamp, now: Timestamp) -> String {
    TimeFormat::new(&style.zone, now).with_zone(at)
}

/// `45 s`, `2 h 5 min`.
#[must_use]
pub fn duration(duration: std::time::Duration) -> String {
    super::time::words(duration)
}

struct View<'a> {
    answer: &'a Answer,
    lines: &'a [Vec<Piece>],
    more: usize,
}

#[derive(Template)]
#[template(path = "answer.html")]
struct AnswerHtml<'a> {
    view: &'a View<'a>,
}

#[derive(Template)]
#[template(path = "answer.txt")]
struct AnswerText<'a> {
    view: &'a View<'a>,
}
