//! A link of a message, and the kinds there are.

use super::url;
use crate::{model::Incident, render::style::Style};

/// The kinds of links, in the order in which they are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LinkKind {
    Logs,
    Source,
    Runbook,
    Dashboard,
    Panel,
    /// One of the operator's links, by its index in `routes.X.links`.
    Custom(usize),
    Silence,
    /// The link to Alertmanager itself, not to an alert.
    Alertmanager,
}

impl LinkKind {
    /// The kinds that an alert of this incident may have.
    pub(crate) fn all(style: &Style, incident: &Incident) -> Vec<Self> {
        let mut kinds = vec![Self::Logs, Self::Source, Self::Runbook, Self::Dashboard, Self::Panel];
        kinds.extend((0..style.custom_links.count(incident)).map(Self::Custom));
        kinds.push(Self::Silence);
        kinds
    }

    /// Empty for the operator's links, which have a label each.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Logs => "Logs",
            Self::Source => "Source",
            Self::Runbook => "Runbook",
            Self::Dashboard => "Dashboard",
            Self::Panel => "Panel",
            Self::Custom(_) => "",
            Self::Silence => "Silence",
            Self::Alertmanager => "Alertmanager",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) kind: LinkKind,
    pub(crate) label: String,
    pub(crate) url: String,
}

/// `None` where it is not a URL, or one that nobody could open.
pub(crate) fn link(style: &Style, kind: LinkKind, raw: &str) -> Option<Link> {
    let url = url::safe(raw).or_else(|| url::safe(&url::with_scheme(raw.trim())?))?;
    let url = url::rewritten(&style.rewrite, url)?;
    (url.len() <= url::MAX_URL).then(|| Link { kind, label: kind.label().to_owned(), url })
}
