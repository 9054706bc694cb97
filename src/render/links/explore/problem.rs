//! What can be wrong with a `logs_url`.

use std::fmt;

/// What is wrong with a `logs_url`. Closed: [`Problem::as_str`] is a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Problem {
    /// Not an absolute http or https URL with a host.
    NotAUrl,
    /// Longer than any browser or room accepts.
    TooLong,
    /// The state is not JSON.
    NotJson,
    /// The state is JSON, but not Explore's: it has no pane, a pane that is not an object, or queries that are not a
    /// list.
    WrongShape,
    /// A user name or password before the host; removed.
    Credentials,
    /// Characters that must be percent-encoded; encoded.
    NotEncoded,
    /// `&amp;` or `&quot;`, copied from HTML; unescaped.
    HtmlEscaped,
    /// The state is percent-encoded twice; decoded once.
    EncodedTwice,
    /// Line breaks within the JSON's strings; replaced by blanks.
    LineBreaks,
    /// `panes` without `schemaVersion=1`, which Grafana ignores; added.
    NoSchemaVersion,
    /// `from` or `to` as numbers or in nanoseconds, which Grafana ignores or misreads; converted.
    RangeNotStrings,
    /// An Explore link without a state: it opens, but shows nothing. Not repaired.
    NoState,
    /// A pane without a datasource as a string: it opens with Grafana's default one. Not repaired.
    NoDatasource,
    /// A pane without a query. Not repaired.
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

    /// Whether the value gives no link at all.
    #[must_use]
    pub fn is_fatal(self) -> bool {
        matches!(self, Self::NotAUrl | Self::TooLong | Self::NotJson | Self::WrongShape)
    }

    /// The problem as a metric label and in JSON.
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

/// The problem in words, to complete "logs_url: …".
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
