//! One template file: compiled, with the filters it may use, and run within bounds.

use std::{collections::BTreeSet, fmt, time::Duration};

use jiff::{fmt::strtime, tz::TimeZone};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, HtmlEscape, Output, State, Value, syntax::SyntaxConfig};

use crate::{
    model::Timestamp,
    render::{message::MAX_BYTES, text, time},
};

/// The limit for one run in minijinja's units: about one for an instruction or 64 bytes. The longest message that fits
/// takes a tenth of it.
const FUEL: u64 = 400_000;
/// Recursive macros stop at this depth; the rendering thread has a stack of 2 MiB.
const MAX_RECURSION: usize = 40;
/// The longest quoted error in characters: parts of it may come from a payload.
const MAX_FAULT: usize = 300;

/// Why the built-in template took over. A closed set: label values of `render_fallbacks_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FallbackReason {
    /// The template does not compile, or failed while it ran.
    Error,
    /// It ran longer than any message needs.
    TooSlow,
    /// The message would not fit into an event.
    TooLarge,
    /// It gives an empty message.
    Empty,
}

impl FallbackReason {
    pub const ALL: [Self; 4] = [Self::Error, Self::TooSlow, Self::TooLarge, Self::Empty];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::TooSlow => "too_slow",
            Self::TooLarge => "too_large",
            Self::Empty => "empty",
        }
    }
}

/// What is wrong with a template, or went wrong on one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError {
    pub reason: FallbackReason,
    /// Line and column, both from 1, in characters; `None` for the whole file.
    pub place: Option<(usize, usize)>,
    /// One line, of bounded length.
    pub text: String,
}

impl TemplateError {
    pub(super) fn whole(reason: FallbackReason, text: impl Into<String>) -> Self {
        Self { reason, place: None, text: text.into() }
    }
}

/// `3:14: unknown filter: …`, as it follows the name of a file and a colon.
impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, column)) = self.place {
            write!(f, "{line}:{column}: ")?;
        } else {
            f.write_str(" ")?;
        }
        f.write_str(&self.text)
    }
}

/// A compiled template. Its source does not change while the receiver runs.
#[derive(Debug)]
pub(super) struct Compiled {
    env: Environment<'static>,
}

/// The template's name within its environment, which holds no other.
const NAME: &str = "template";

impl Compiled {
    /// `fields` are the names available at the top level.
    pub(super) fn new(
        source: &str,
        html: bool,
        zone: &TimeZone,
        fields: &BTreeSet<String>,
    ) -> Result<Self, TemplateError> {
        let mut env = environment(html, zone);
        env.add_template_owned(NAME, source.to_owned()).map_err(|error| fault(source, &error))?;
        let compiled = Self { env };
        compiled.know_all_names(source, fields)?;
        Ok(compiled)
    }

    /// Finds unknown names also in branches that no sample takes.
    fn know_all_names(&self, source: &str, fields: &BTreeSet<String>) -> Result<(), TemplateError> {
        let template = self.env.get_template(NAME).map_err(|error| fault(source, &error))?;
        let globals: BTreeSet<&str> = self.env.globals().map(|(name, _)| name).collect();
        let mut unknown: Vec<String> = template.undeclared_variables(false).into_iter().collect();
        unknown.retain(|name| !fields.contains(name) && !globals.contains(name.as_str()));
        unknown.sort();
        let Some(name) = unknown.first() else { return Ok(()) };
        let place = word(source, name).map(|at| place(source, at));
        let known: Vec<&str> = fields.iter().map(String::as_str).collect();
        let text = format!("unknown name `{name}`; available: {}", known.join(", "));
        Err(TemplateError { reason: FallbackReason::Error, place, text })
    }

    pub(super) fn run(&self, context: &Value) -> Result<String, TemplateError> {
        let template = self.env.get_template(NAME).map_err(|error| fault("", &error))?;
        let output = template.render(context.clone()).map_err(|error| fault(template.source(), &error))?;
        if output.len() > 2 * MAX_BYTES {
            return Err(too_large(output.len()));
        }
        Ok(output)
    }
}

pub(super) fn too_large(bytes: usize) -> TemplateError {
    TemplateError::whole(FallbackReason::TooLarge, format!("gives {bytes} bytes; a message holds at most {MAX_BYTES}"))
}

fn environment(html: bool, zone: &TimeZone) -> Environment<'static> {
    let mut env = Environment::new();
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true);
    if let Ok(syntax) = syntax.build() {
        env.set_syntax(syntax);
    }
    env.set_fuel(Some(FUEL));
    env.set_recursion_limit(MAX_RECURSION);
    env.set_auto_escape_callback(move |_| if html { AutoEscape::Html } else { AutoEscape::None });
    env.set_formatter(move |out, state, value| write(html, out, state, value));
    // A label can never be printed as markup, so nobody does it by mistake.
    env.remove_filter("safe");
    // It prints all variables, which is useless in a room.
    env.remove_global("debug");
    env.add_filter("urlencode", |value: &Value| urlencoding::encode(&printed(value)).into_owned());
    env.add_filter("truncate", |value: &Value, most: usize| {
        text::cut(&text::clean(&printed(value)), most.clamp(4, 8192))
    });
    env.add_filter("duration", |ms: i64| time::words(Duration::from_millis(u64::try_from(ms).unwrap_or(0))));
    let zone = zone.clone();
    env.add_filter("time", move |ms: i64, format: Option<&str>| {
        let at = time::zoned(Timestamp(ms), &zone);
        strtime::format(format.unwrap_or("%H:%M"), &at)
            .map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))
    });
    env
}

/// The printed text before it is escaped.
fn printed(value: &Value) -> String {
    if value.is_undefined() || value.is_none() { String::new() } else { value.to_string() }
}

/// Prints a value: nothing for an undefined one, markup only where the template itself wrote it, and right-to-left text
/// isolated.
fn write(html: bool, out: &mut Output<'_>, _: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    let printed = printed(value);
    let markup = html && value.is_safe();
    let printed = if markup || text::is_isolated(&printed) { printed } else { text::isolate(&printed) };
    let written = if html && !markup { write!(out, "{}", HtmlEscape(&printed)) } else { out.write_str(&printed) };
    written.map_err(|_| Error::new(ErrorKind::WriteFailure, "the message could not be written"))
}

/// Describes the error, at the position of the innermost cause that has one.
fn fault(source: &str, error: &Error) -> TemplateError {
    let reason = if error.kind() == ErrorKind::OutOfFuel { FallbackReason::TooSlow } else { FallbackReason::Error };
    let place = error.range().map(|range| place(source, range.start)).or_else(|| error.line().map(|line| (line, 1)));
    let text = match error.kind() {
        ErrorKind::OutOfFuel => "ran too long; check for an endless loop".to_owned(),
        ErrorKind::TemplateNotFound => "a template cannot load others".to_owned(),
        kind => match error.detail() {
            Some(detail) => format!("{kind}: {detail}"),
            None => kind.to_string(),
        },
    };
    TemplateError { reason, place, text: text::cut(&text::clean(&text), MAX_FAULT) }
}

/// Line and column of a byte, both from 1.
fn place(source: &str, at: usize) -> (usize, usize) {
    let before = source.get(..at).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// Where `name` is first used as a word within `{{ }}` or `{% %}`.
fn word(source: &str, name: &str) -> Option<usize> {
    let part = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    let within = |at: usize| {
        let before = &source[..at];
        before.rfind("{{").max(before.rfind("{%")) > before.rfind("}}").max(before.rfind("%}"))
    };
    source.match_indices(name).map(|(at, _)| at).find(|at| {
        !source[..*at].chars().next_back().is_some_and(part)
            && !source[at + name.len()..].chars().next().is_some_and(|c| c.is_alphanumeric() || c == '_')
            && within(*at)
    })
}
