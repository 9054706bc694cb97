//! `[display]`.

#[derive(Clone, Debug)]
pub struct Display {
    /// An IANA name; cards show their times in it.
    pub timezone: String,
    /// Most severe first; the index is the rank, `severities.len()` is "anything else or none".
    pub severities: Vec<Severity>,
    /// Labels that name the thing of an alert, each a list whose last label names it. They come before the built-in ones.
    pub places: Vec<Vec<String>>,
    /// Labels that are not shown as chips; `*` stands for any text. If empty, every label is shown.
    pub hide_labels: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Severity {
    /// Values of the `severity` label, compared without regard to case.
    pub names: Vec<String>,
    pub emoji: String,
    pub word: String,
    /// `#rrggbb`.
    pub color: String,
}

impl Display {
    /// Whether a label is hidden by [`Self::hide_labels`].
    #[must_use]
    pub fn hides(&self, label: &str) -> bool {
        self.hide_labels.iter().any(|pattern| matches(pattern, label))
    }

    /// The rank of a `severity` label: 0 is the most severe, `severities.len()` is any that is not listed.
    #[must_use]
    pub fn rank(&self, severity: Option<&str>) -> u32 {
        let found = severity.and_then(|value| {
            self.severities.iter().position(|s| s.names.iter().any(|n| n.eq_ignore_ascii_case(value.trim())))
        });
        u32::try_from(found.unwrap_or(self.severities.len())).unwrap_or(u32::MAX)
    }
}

/// Labels that say how an alert was measured and routed, and not what is wrong.
const HIDDEN: [&str; 9] = [
    "prometheus",
    "prometheus_replica",
    "endpoint",
    "service",
    "uid",
    "metrics_path",
    "datasource_uid",
    "ref_id",
    "__*__",
];

/// Whether `pattern`, in which `*` stands for any text, matches the whole of `text`.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            text.char_indices().map(|(at, _)| at).chain([text.len()]).any(|at| matches(rest, &text[at..]))
        }),
    }
}

impl Default for Display {
    fn default() -> Self {
        let severity = |names: &[&str], emoji: &str, word: &str, color: &str| Severity {
            names: names.iter().map(ToString::to_string).collect(),
            emoji: emoji.to_owned(),
            word: word.to_owned(),
            color: color.to_owned(),
        };
        Self {
            timezone: "UTC".to_owned(),
            severities: vec![
                severity(&["critical", "page", "emergency"], "🔴", "CRITICAL", "#d1242f"),
                severity(&["warning"], "🟠", "WARNING", "#bf5b04"),
                severity(&["info"], "🔵", "INFO", "#0969da"),
            ],
            places: Vec::new(),
            hide_labels: HIDDEN.map(ToOwned::to_owned).to_vec(),
        }
    }
}
