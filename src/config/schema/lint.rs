//! `[lint]`

/// The codes of the faults that `lint-rules` reports, in the order of docs/COMMANDS.md.
pub const LINT_CODES: [&str; 27] = [
    "no_logs_url",
    "not_encoded",
    "encoded_twice",
    "html_escaped",
    "line_breaks",
    "encoded_hole",
    "template",
    "not_a_url",
    "too_long",
    "credentials",
    "not_json",
    "wrong_shape",
    "no_state",
    "no_schema_version",
    "range_not_strings",
    "no_ref_id",
    "query_datasource",
    "no_datasource",
    "no_query",
    "wrong_datasource",
    "wrong_host",
    "lost_label",
    "unknown_label",
    "no_summary",
    "no_severity",
    "unknown_severity",
    "no_rule",
];

/// Serves `lint-rules` alone; the receiver does not use it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lint {
    /// Codes of [`LINT_CODES`] whose faults are neither reported nor corrected.
    pub ignore: Vec<String>,
}
