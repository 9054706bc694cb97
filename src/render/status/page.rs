//! The data of the status page, and its HTML.

use askama::Template;

use super::{
    incident::{IncidentSummary, StatementRow},
    picture::Picture,
    time::Moment,
};

/// The page's only style sheet; its hash is part of the content security policy.
pub const STYLE: &str = include_str!("../../../templates/status.css");
/// The page's only script, hashed likewise.
pub const SCRIPT: &str = include_str!("../../../templates/status.js");

/// The number of incidents shown before "more".
const AT_ONCE: usize = 12;

/// The page could not be written.
#[derive(Debug, thiserror::Error)]
#[error("the status page could not be written: {0}")]
pub struct PageError(#[from] askama::Error);

/// How healthy something is; the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Ok,
    Degraded,
    Failing,
}

impl Level {
    /// The word that `/healthz` uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Failing => "failing",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Degraded => "Degraded",
            Self::Failing => "Failing",
        }
    }

    /// A sign beside the colour, for readers who do not see colours.
    fn mark(self) -> &'static str {
        match self {
            Self::Ok => "✓",
            Self::Degraded => "!",
            Self::Failing => "✕",
        }
    }

    /// As in the style sheet, which an icon cannot read.
    fn color(self) -> &'static str {
        match self {
            Self::Ok => "%231a7f37",
            Self::Degraded => "%239a5b00",
            Self::Failing => "%23b3261e",
        }
    }
}

/// A part of the receiver with its health.
#[derive(Clone, Debug)]
pub struct Part {
    pub name: &'static str,
    pub level: Level,
    pub words: String,
    /// Details, a line each.
    pub details: Vec<String>,
    /// When it last succeeded.
    pub last: Option<(&'static str, Moment)>,
    /// The runbook's heading for it.
    pub runbook: Option<&'static str>,
}

/// A link to matrix.to, the only site that the page links to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub words: String,
    /// `None` if there is nothing to link to.
    pub url: Option<String>,
}

/// A room by its name in health and metrics.
pub type RoomLink = Link;

#[derive(Clone, Debug)]
pub struct RoomRow {
    pub room: RoomLink,
    /// The room's address as the config has it.
    pub address: String,
    pub level: Level,
    pub words: String,
    pub since: Option<Moment>,
    pub until: Option<Moment>,
    pub notice: String,
    pub runbook: Option<&'static str>,
    pub waiting: i64,
    pub oldest: Option<Moment>,
}

#[derive(Clone, Debug)]
pub struct Backlog {
    pub level: Level,
    pub words: String,
    /// Unfinished events by state.
    pub events: Vec<String>,
    pub runbook: Option<&'static str>,
    pub cards: List<WaitingRow>,
}

#[derive(Clone, Debug)]
pub struct WaitingRow {
    pub summary: IncidentSummary,
    /// Incidents on the same card.
    pub others: i64,
    pub room: RoomLink,
    pub since: Moment,
}

#[derive(Clone, Debug)]
pub struct DeliveryRow {
    pub at: Moment,
    pub room: RoomLink,
    pub event: Link,
    pub took: String,
}

#[derive(Clone, Debug)]
pub struct IncidentRow {
    pub summary: IncidentSummary,
    pub statements: Vec<StatementRow>,
    pub route: String,
    pub since: Moment,
    pub heard: Moment,
    pub cards: Vec<Link>,
}

#[derive(Clone, Debug)]
pub struct LetterRow {
    pub at: Moment,
    pub room: RoomLink,
    pub kind: &'static str,
    pub says: String,
    pub reason: String,
    pub id: String,
}

/// Rows, and the number of rows left out.
#[derive(Clone, Debug)]
pub struct List<T> {
    pub rows: Vec<T>,
    pub more: i64,
}

impl<T> List<T> {
    #[must_use]
    pub fn of(rows: Vec<T>, total: i64) -> Self {
        let more = total - i64::try_from(rows.len()).unwrap_or(i64::MAX);
        Self { rows, more: more.max(0) }
    }

    #[must_use]
    pub fn total(&self) -> i64 {
        self.more + i64::try_from(self.rows.len()).unwrap_or(i64::MAX)
    }
}

#[derive(Clone, Debug)]
pub struct StatusPage {
    pub level: Level,
    /// The reasons for the level, the most important first; never empty.
    pub reasons: Vec<String>,
    /// Which replica shows this, and who leads; `None`: there is only one.
    pub replica: Option<String>,
    pub parts: Vec<Part>,
    pub rooms: Vec<RoomRow>,
    pub backlog: Backlog,
    pub deliveries: Vec<DeliveryRow>,
    pub picture: Picture,
    /// `None` if the store does not answer.
    pub incidents: Option<List<IncidentRow>>,
    pub letters: Option<List<LetterRow>>,
    pub version: String,
    pub started: Option<Moment>,
    pub made: Moment,
}

impl StatusPage {
    /// # Errors
    /// Never in practice: writing into memory does not fail.
    pub fn html(&self) -> Result<String, PageError> {
        Ok(Html { page: self, style: STYLE, script: SCRIPT }.render()?)
    }

    fn headline(&self) -> &str {
        self.reasons.first().map(String::as_str).unwrap_or_default()
    }

    fn further_reasons(&self) -> &[String] {
        self.reasons.get(1..).unwrap_or_default()
    }

    /// Whether to say that alerts are kept and delivered later.
    fn is_kept(&self) -> bool {
        self.level == Level::Degraded
    }

    fn first_incidents(&self) -> &[IncidentRow] {
        let rows = self.incidents.as_ref().map_or(&[][..], |incidents| &incidents.rows);
        &rows[..rows.len().min(AT_ONCE)]
    }

    /// The rest, behind a fold, so that dead letters are near on a phone.
    fn further_incidents(&self) -> &[IncidentRow] {
        self.incidents.as_ref().and_then(|incidents| incidents.rows.get(AT_ONCE..)).unwrap_or_default()
    }

    fn held_rooms(&self) -> usize {
        self.rooms.iter().filter(|room| room.level != Level::Ok).count()
    }
}

#[derive(Template)]
#[template(path = "status.html")]
struct Html<'a> {
    page: &'a StatusPage,
    style: &'static str,
    script: &'static str,
}
