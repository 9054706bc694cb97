//! Log lines, as a notice in a card's thread.

use askama::Template;

use crate::{
    model::Timestamp,
    render::{
        links::url,
        message::{MAX_LINE, Message, most_that_fit},
        style::Style,
        text,
        time::TimeFormat,
    },
    text::one_line,
};

/// Of one line, in characters.
const MAX_LOG_LINE: usize = 300;
/// Of the name of what they are of, in characters.
const MAX_OF: usize = 40;

/// Lines of a log. All texts are untrusted.
#[derive(Clone, Copy, Debug)]
pub struct ShownLogs<'a> {
    /// What they are of, where a card is about several things; empty: not said.
    pub of: &'a str,
    /// Oldest first, with times of the wall clock.
    pub lines: &'a [(Timestamp, String)],
    /// Lines that are not among them.
    pub more: usize,
    /// There may be more than that.
    pub more_than: bool,
    /// Where all of them are.
    pub link: Option<&'a str>,
}

/// Sets the lines; the oldest of those that do not fit into an event are only counted.
#[must_use]
pub fn logs(style: &Style, logs: &ShownLogs<'_>, now: Timestamp) -> Message {
    let times = TimeFormat::new(&style.zone, now);
    let lines: Vec<String> =
        logs.lines.iter().map(|(at, line)| format!("{} {}", times.second(*at), bare(line))).collect();
    let zone = times.zone_name(logs.lines.last().map_or(now, |(at, _)| *at));
    let link = logs.link.and_then(url::safe).filter(|url| url.len() <= url::MAX_URL);
    let all = lines.len();
    let some = |count: usize| {
        let first = first_line(logs, count, logs.more + all - count, &zone);
        let view = View { first: &first, lines: &lines[all - count..], link: link.as_deref() };
        let message = Message::from_templates(&LogsHtml { view: &view }, &LogsText { view: &view }, || first.clone());
        message.fits().then_some(message)
    };
    let nothing = || Message::text_only(first_line(logs, 0, logs.more + all, &zone));
    most_that_fit(all, some).map_or_else(nothing, |(message, _)| message)
}

/// `📜 Logs: 10 lines, 190 or more further (times in UTC)`
fn first_line(logs: &ShownLogs<'_>, count: usize, more: usize, zone: &str) -> String {
    let of = text::show(&text::clean(logs.of), MAX_OF);
    let of = if of.is_empty() { String::new() } else { format!(" of {of}") };
    let lines = match count {
        0 => "no line".to_owned(),
        1 => "1 line".to_owned(),
        many => format!("{many} lines"),
    };
    let further = match (more, logs.more_than) {
        (0, false) => String::new(),
        (0, true) => ", perhaps further ones".to_owned(),
        (more, false) => format!(", {more} further"),
        (more, true) => format!(", {more} or more further"),
    };
    let times = if count == 0 { String::new() } else { format!(" (times in {zone})") };
    text::cut(&format!("📜 Logs{of}: {lines}{further}{times}"), MAX_LINE)
}

fn bare(line: &str) -> String {
    text::isolate(&one_line(line, MAX_LOG_LINE).replace(['\u{2028}', '\u{2029}'], " "))
}

struct View<'a> {
    first: &'a str,
    lines: &'a [String],
    link: Option<&'a str>,
}

#[derive(Template)]
#[template(path = "logs.html")]
struct LogsHtml<'a> {
    view: &'a View<'a>,
}

#[derive(Template)]
#[template(path = "logs.txt")]
struct LogsText<'a> {
    view: &'a View<'a>,
}
