//! All that the page shows, and the page.

use askama::Template;

use super::{incident::IncidentSummary, picture::Picture, time::Moment};

/// What the page's only style sheet says; its hash goes into the content security policy.
pub const STYLE: &str = include_str!("../../../templates/status.css");
/// The same of its only script.
pub const SCRIPT: &str = include_str!("../../../templates/status.js");

/// Incidents that are shown without being asked for.
const AT_ONCE: usize = 12;

/// The page could not be written.
#[derive(Debug, thiserror::Error)]
#[error("the status page could not be written: {0}")]
pub struct PageError(#[from] askama::Error);

/// How well something is; the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Ok,
    Degraded,
    Failing,
}

impl Level {
    /// As `/healthz` says it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Failing => "failing",
        }
    }

    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Ok, Self::Degraded, Self::Failing].into_iter().find(|level| level.as_str() == word)
    }

    fn title(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Degraded => "Degraded",
            Self::Failing => "Failing",
        }
    }

    /// Said by shape as well as by colour.
    fn mark(self) -> &'static str {
        match self {
            Self::Ok => "✓",
            Self::Degraded => "!",
            Self::Failing => "✕",
        }
    }

    /// As in the style sheet; an icon cannot read that.
    fn color(self) -> &'static str {
        match self {
            Self::Ok => "%231a7f37",
            Self::Degraded => "%239a5b00",
            Self::Failing => "%23b3261e",
        }
    }
}

/// A thing that is well or not.
#[derive(Clone, Debug)]
pub struct Part {
    pub name: &'static str,
    pub level: Level,
    pub words: String,
    /// More about it, a line each.
    pub details: Vec<String>,
    /// When it last went well.
    pub last: Option<(&'static str, Moment)>,
    /// The heading of the runbook that says what to do.
    pub runbook: Option<&'static str>,
}

/// A link out of the page; only ever to matrix.to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub words: String,
    /// `None`: there is nothing to link to.
    pub url: Option<String>,
}

/// A room, by the name that it has in health and metrics.
pub type RoomLink = Link;

#[derive(Clone, Debug)]
pub struct RoomRow {
    pub room: RoomLink,
    /// As the config names it.
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
    pub told: IncidentSummary,
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
    pub told: IncidentSummary,
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

/// Rows, and how many are left out.
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
    /// Why, the most telling first; never empty.
    pub reasons: Vec<String>,
    pub parts: Vec<Part>,
    pub rooms: Vec<RoomRow>,
    pub backlog: Backlog,
    pub deliveries: Vec<DeliveryRow>,
    pub picture: Picture,
    /// `None`: the store does not tell.
    pub incidents: Option<List<IncidentRow>>,
    pub letters: Option<List<LetterRow>>,
    pub version: String,
    pub started: Option<Moment>,
    pub made: Moment,
}

impl StatusPage {
    /// # Errors
    /// Never as far as is known: writing into memory does not fail.
    pub fn html(&self) -> Result<String, PageError> {
        Ok(Html { page: self, style: STYLE, script: SCRIPT }.render()?)
    }

    fn headline(&self) -> &str {
        self.reasons.first().map(String::as_str).unwrap_or_default()
    }

    fn further_reasons(&self) -> &[String] {
        self.reasons.get(1..).unwrap_or_default()
    }

    /// What an operator wants to hear next where something is wrong.
    fn is_kept(&self) -> bool {
        self.level == Level::Degraded
    }

    fn first_incidents(&self) -> &[IncidentRow] {
        let rows = self.incidents.as_ref().map_or(&[][..], |incidents| &incidents.rows);
        &rows[..rows.len().min(AT_ONCE)]
    }

    /// What a phone's reader asks for first: below are the dead letters.
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
