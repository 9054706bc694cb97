//! What can be wrong with a `logs_url`.

use std::fmt;

/// What is wrong with a `logs_url`. Closed: [`Problem::as_str`] is a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Problem {
    /// Not an absolute http or https URL with a host.
    NotAUrl,
    /// Longer than any browser or room would take.
    TooLong,
    /// The state is not JSON.
    NotJson,
    /// The state is JSON of another shape than Explore's: no pane, a pane that is no object, queries that are no list.
    WrongShape,
    /// A user name or password in front of the host; mended by leaving it out.
    Credentials,
    /// Characters that must be percent-encoded are not; mended.
    NotEncoded,
    /// `&amp;` or `&quot;`, as copied out of HTML; mended.
    HtmlEscaped,
    /// The state is percent-encoded twice; mended.
    EncodedTwice,
    /// Line breaks within the JSON's strings; mended by making them blanks.
    LineBreaks,
    /// `panes` without `schemaVersion=1`, which Grafana ignores; mended.
    NoSchemaVersion,
    /// `from` or `to` as numbers or in nanoseconds, which Grafana ignores or misreads; mended.
    RangeNotStrings,
    /// An Explore link that carries no state: it opens, but on nothing. Left as it is.
    NoState,
    /// A pane that names no datasource by a string: it opens on Grafana's default one. Left as it is.
    NoDatasource,
    /// A pane without a query. Left as it is.
    NoQuery,
}

impl Problem {
    /// All there are.
    pub const ALL: [Self; 14] = [
        Self::NotAUrl,
        Self::TooLong,
        Self::NotJson,
        Self::WrongShape,
        Self::Credentials,
        Self::NotEncoded,
        Self::HtmlEscaped,
        Self::EncodedTwice,
        Self::LineBreaks,
        Self::NoSchemaVersion,
        Self::RangeNotStrings,
        Self::NoState,
        Self::NoDatasource,
        Self::NoQuery,
    ];

    /// Beyond repair: such a value is no link.
    #[must_use]
    pub fn is_fatal(self) -> bool {
        matches!(self, Self::NotAUrl | Self::TooLong | Self::NotJson | Self::WrongShape)
    }

    /// A word for metrics and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotAUrl => "not_a_url",
            Self::TooLong => "too_long",
            Self::NotJson => "not_json",
            Self::WrongShape => "wrong_shape",
            Self::Credentials => "credentials",
            Self::NotEncoded => "not_encoded",
            Self::HtmlEscaped => "html_escaped",
            Self::EncodedTwice => "encoded_twice",
            Self::LineBreaks => "line_breaks",
            Self::NoSchemaVersion => "no_schema_version",
            Self::RangeNotStrings => "range_not_strings",
            Self::NoState => "no_state",
            Self::NoDatasource => "no_datasource",
            Self::NoQuery => "no_query",
        }
    }
}

/// In words, to complete "logs_url: …".
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAUrl => "is no http or https URL",
            Self::TooLong => "is too long for a link",
            Self::NotJson => "holds a state that is no JSON",
            Self::WrongShape => "holds a state that Grafana Explore cannot read",
            Self::Credentials => "holds a user name or password",
            Self::NotEncoded => "holds characters that are not percent-encoded",
            Self::HtmlEscaped => "is escaped as in HTML",
            Self::EncodedTwice => "is percent-encoded twice",
            Self::LineBreaks => "has line breaks in its query",
            Self::NoSchemaVersion => "has panes but no schemaVersion=1, without which Grafana ignores them",
            Self::RangeNotStrings => "has times that are no strings in milliseconds",
            Self::NoState => "opens Grafana Explore without any query",
            Self::NoDatasource => "names no datasource",
            Self::NoQuery => "has no query",
        })
    }
}
