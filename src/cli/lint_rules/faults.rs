//! What can be wrong with a rule. The codes are documented in the README; they are for programs and do not change.

use crate::{cli::support::yaml::Place, render::links::explore::Problem};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    /// Neither an alerting nor a recording rule.
    NoRule,
    NoLogsUrl,
    /// A template hole does not end.
    Template,
    /// A template hole is percent-encoded, so that Prometheus does not fill it in.
    EncodedHole,
    /// The value as a link: what the receiver would find as well.
    Link(Problem),
    /// A query without `refId`.
    NoRefId,
    /// A query without its own `datasource: {type, uid}`.
    QueryDatasource,
    /// Another datasource than the one that is required.
    WrongDatasource,
    /// Another Grafana than the one that is required.
    WrongHost,
    /// A hole with a label that is not known.
    UnknownLabel,
    /// A hole with a label that the expression does not keep.
    LostLabel,
    NoSummary,
    NoSeverity,
    UnknownSeverity,
}

impl Code {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::NoRule => "no_rule",
            Self::NoLogsUrl => "no_logs_url",
            Self::Template => "template",
            Self::EncodedHole => "encoded_hole",
            Self::Link(problem) => problem.as_str(),
            Self::NoRefId => "no_ref_id",
            Self::QueryDatasource => "query_datasource",
            Self::WrongDatasource => "wrong_datasource",
            Self::WrongHost => "wrong_host",
            Self::UnknownLabel => "unknown_label",
            Self::LostLabel => "lost_label",
            Self::NoSummary => "no_summary",
            Self::NoSeverity => "no_severity",
            Self::UnknownSeverity => "unknown_severity",
        }
    }
}

/// A fault of one rule, as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) place: Place,
    pub(super) group: String,
    /// Empty for what is no rule.
    pub(super) rule: String,
    pub(super) code: Code,
    pub(super) message: String,
    /// The whole value without this and every other fault that can be mended.
    pub(super) mended: Option<String>,
    pub(super) fixed: bool,
    /// Why it was not, although there is a mended value and that was asked for.
    pub(super) unfixed: Option<&'static str>,
}
