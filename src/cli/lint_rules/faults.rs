//! The faults of a rule. Their codes are documented in docs/COMMANDS.md; programs use them, so they do not change.

use crate::{cli::support::yaml::Position, render::links::explore::Problem};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    /// Neither an alerting nor a recording rule.
    NoRule,
    NoLogsUrl,
    /// A placeholder does not end.
    Template,
    /// A placeholder is percent-encoded, so Prometheus does not fill it in.
    EncodedPlaceholder,
    /// A problem of the link, which the receiver would find as well.
    Link(Problem),
    /// A query without `refId`.
    NoRefId,
    /// A query without its own `datasource: {type, uid}`.
    QueryDatasource,
    /// A datasource other than the required one.
    WrongDatasource,
    /// A Grafana other than the required one.
    WrongHost,
    /// A placeholder with an unknown label.
    UnknownLabel,
    /// A placeholder with a label that the expression does not keep.
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
            Self::EncodedPlaceholder => "encoded_hole",
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

/// A fault of one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RuleFault {
    pub(super) place: Position,
    pub(super) group: String,
    /// Empty if it is not a rule.
    pub(super) rule: String,
    pub(super) code: Code,
    pub(super) message: String,
    /// The whole value, with this and all other correctable faults corrected but those of ignored codes.
    pub(super) corrected: Option<String>,
    pub(super) fixed: bool,
    /// Why it was not fixed, although that was requested and a corrected value exists; or why there is no such value that
    /// leaves the faults of ignored codes as they are.
    pub(super) unfixed: Option<String>,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::LINT_CODES;

    /// Each code is known to the config, which cannot ask here.
    #[test]
    fn the_config_knows_every_code() {
        let own = [
            Code::NoRule,
            Code::NoLogsUrl,
            Code::Template,
            Code::EncodedPlaceholder,
            Code::NoRefId,
            Code::QueryDatasource,
            Code::WrongDatasource,
            Code::WrongHost,
            Code::UnknownLabel,
            Code::LostLabel,
            Code::NoSummary,
            Code::NoSeverity,
            Code::UnknownSeverity,
        ];
        let all = own.into_iter().chain(Problem::ALL.map(Code::Link)).map(Code::as_str);
        assert_eq!(all.collect::<BTreeSet<_>>(), LINT_CODES.into_iter().collect());
    }
}
