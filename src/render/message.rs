//! A message in both its forms, and how much of one fits into an event.

use askama::Template;

/// Both forms of a message together, as JSON strings. An edit carries them twice, and encryption adds a third; a message
/// within this bound still fits into an event of 65,536 bytes then.
pub const MAX_BYTES: usize = 22 * 1024;
/// How many characters of the first line a phone shows in a notification.
pub(super) const MAX_LINE: usize = 110;

/// One message in both its forms. The first line of each has the same words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Plain text; never empty.
    pub body: String,
    /// HTML of the few tags that every client shows.
    pub html: String,
}

impl Message {
    /// Keeps only the first line, without markup.
    #[must_use]
    pub fn first_line(&self) -> Self {
        Self::text_only(self.body.lines().next().unwrap_or_default().to_owned())
    }

    /// Counts the bytes that both forms take in an event, as JSON strings.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let quoted = |text: &str| serde_json::to_string(text).map_or(usize::MAX / 4, |json| json.len());
        quoted(&self.body) + quoted(&self.html)
    }

    pub(super) fn fits(&self) -> bool {
        self.bytes() <= MAX_BYTES
    }

    /// The last resort: a line without any markup.
    pub(super) fn text_only(body: String) -> Self {
        let html = LineHtml { line: &body }.render().unwrap_or_default();
        Self { body, html }
    }

    /// Renders both forms. Writing into memory cannot fail; if it ever does, `line` alone is better than nothing.
    pub(super) fn from_templates(html: &impl Template, text: &impl Template, line: impl FnOnce() -> String) -> Self {
        match (html.render(), text.render()) {
            (Ok(html), Ok(body)) => Self { body: body.trim_end().to_owned(), html },
            _ => Self::text_only(line()),
        }
    }
}

/// Finds the message with the most lines, at most `all`, that `fits` returns; also gives their number.
pub(super) fn most_that_fit(all: usize, fits: impl Fn(usize) -> Option<Message>) -> Option<(Message, usize)> {
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

#[derive(Template)]
#[template(source = "{{ line }}", ext = "html")]
struct LineHtml<'a> {
    line: &'a str,
}
