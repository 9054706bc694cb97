//! What is shown in a card's thread beside the card: log lines and a graph. It is extra: it comes after the card, or not
//! at all, and nothing waits for it.

pub mod graph;
pub mod logs;
pub mod make;
pub mod show;
pub mod sources;
pub mod subject;
#[cfg(test)]
pub(crate) mod tests;

use std::{future::Future, pin::Pin, time::Duration};

use serde_json::Value;

pub use crate::model::ShownCard;
use crate::{
    api_client::Unanswered,
    model::{EvidenceKind, Reason, RoomAddress, SendError},
};

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// For all of one piece of evidence: what is asked, drawn and uploaded.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// Pieces that are made at the same time.
pub const AT_ONCE: usize = 2;
/// What nobody asked for is not shown later than this after the notification that made its card.
pub const TOO_LATE: Duration = ShownCard::TOO_LATE;
/// Lines that one command may ask for.
pub const MAX_LINES: usize = crate::config::MAX_LOG_LINES;

/// A longer answer of Loki or Prometheus is not read, in bytes.
pub const MAX_ANSWER: usize = 8 * 1024 * 1024;

/// Where files for rooms are put. `matrix/` implements it; the tests script a second one.
pub trait Media: Send + Sync + 'static {
    /// Uploads `png` for `room`, encrypted if the room is, and returns the part of an `m.image` that says where it is:
    /// `{"url": …}` or `{"file": …}`. Never retries. An upload that is repeated leaves a file that nothing names, no more.
    ///
    /// # Errors
    /// When it did not succeed; whoever waits sets the time limit.
    fn upload<'a>(&'a self, room: &'a RoomAddress, png: &'a [u8]) -> BoxFuture<'a, Result<Value, SendError>>;

    /// Whether events to `room` are encrypted; `None` where that is not known yet.
    fn is_encrypted<'a>(&'a self, room: &'a RoomAddress) -> BoxFuture<'a, Option<bool>>;
}

/// A picture for a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    pub png: Vec<u8>,
    pub width: u32,
    pub height: u32,
    /// What it shows, in words, with the last value. Cleaned, one line, bounded.
    pub alt: String,
}

/// Why there is no evidence. `outcome` of the metric, and words for whoever asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoEvidence {
    /// The alert names no query, or one that cannot be read.
    #[error("{0}")]
    NoQuery(String),
    /// It is a missing heartbeat: an alarm of the receiver itself, behind which there is not a query.
    #[error("a missing heartbeat has no query")]
    OwnAlarm,
    /// The source answered, and has nothing.
    #[error("{0}")]
    Empty(String),
    /// The source could not be asked, refused, or answered what cannot be used. Without secrets, cleaned, bounded.
    #[error("{0}")]
    Failed(String),
    #[error("no answer within 10 s")]
    TimedOut,
    /// The config names no service that has it.
    #[error("no service is configured that has {}", match .0 { EvidenceKind::Logs => "log lines", EvidenceKind::Graph => "graphs" })]
    NotConfigured(EvidenceKind),
    /// The route shows it in encrypted rooms only.
    #[error("the room is not encrypted")]
    PlainRoom,
    /// The homeserver did not take the picture.
    #[error("the homeserver did not take the picture: {0}")]
    NotUploaded(SendError),
}

impl NoEvidence {
    #[must_use]
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::NoQuery(_) | Self::OwnAlarm => "no_query",
            Self::Empty(_) => "empty",
            Self::TimedOut => "timeout",
            Self::NotConfigured(_) => "not_configured",
            Self::PlainRoom => "plain_room",
            Self::NotUploaded(error) if error.reason == Reason::RateLimited => "limited",
            Self::Failed(_) | Self::NotUploaded(_) => "failed",
        }
    }
}

impl From<Unanswered> for NoEvidence {
    fn from(why: Unanswered) -> Self {
        match why {
            Unanswered::TimedOut(_) => Self::TimedOut,
            Unanswered::Failed(text) | Unanswered::TooLong(text) => Self::Failed(text),
        }
    }
}
