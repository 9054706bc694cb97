//! Makes one piece of evidence: what is asked for whom, then asking, drawing and uploading, all within [`DEADLINE`].

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use serde_json::Value;
use tokio::{sync::Semaphore, time::timeout};

use super::{
    AT_ONCE, DEADLINE, Media, NoEvidence, Picture,
    graph::{GraphWanted, expression},
    logs::LogsWanted,
    sources::Sources,
    subject,
};
use crate::{
    config::{Config, Evidence, EvidenceSource, Route},
    model::{Alert, AlertState, EvidenceKind, Incident, IncidentId, RoomAddress, Timestamp, TxnId},
    render::{
        Image, Message, Style,
        answer::{ShownLogs, logs as notice, title},
        answer_content, image_content,
        links::{LogsQuery, logs_query},
    },
};

/// Log lines are from this long before the alert, and of an alert that is over until this long after its end.
const MARGIN: Duration = Duration::from_mins(5);
/// Lines of the time before are not asked for, however long the alert has fired.
const LONGEST: Duration = Duration::from_hours(24);
/// Pieces that people ask for, at the same time. Each may hold an answer of [`MAX_ANSWER`](super::MAX_ANSWER) bytes.
const ASKED_AT_ONCE: usize = AT_ONCE;
const FILENAME: &str = "graph.png";

/// Makes pieces of evidence. Nothing of it waits for anything without a limit, and a panic is a failure like others.
pub struct Maker {
    media: Arc<dyn Media>,
    sources: Arc<dyn Sources>,
    asked: Semaphore,
    /// For all of one piece.
    deadline: Duration,
}

/// One piece of evidence that is wanted.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    pub kind: EvidenceKind,
    /// The only alert that is meant, by its fingerprint.
    pub alert: Option<&'a str>,
    /// Log lines at most.
    pub lines: usize,
    /// By the wall clock.
    pub now: Timestamp,
}

/// What is asked for it, and whether the room may have it.
pub struct Question {
    config: Arc<Config>,
    style: Arc<Style>,
    room: RoomAddress,
    encrypted_only: bool,
    what: What,
}

enum What {
    Logs {
        wanted: LogsWanted,
        /// Which alert they are of, where there are several.
        of: String,
        now: Timestamp,
    },
    Graph(GraphWanted),
}

/// One piece, ready to be frozen.
#[derive(Clone, Debug)]
pub enum Piece {
    Logs(Message),
    Graph {
        alt: String,
        width: u32,
        height: u32,
        bytes: usize,
        /// Where it was uploaded to.
        place: Value,
    },
}

impl Piece {
    /// The content of the event that shows it. `thread`: its root, and the event that it answers.
    #[must_use]
    pub fn content(&self, thread: (&str, &str), op: &TxnId, incident: Option<&IncidentId>) -> String {
        match self {
            Self::Logs(message) => answer_content(message, Some(thread), op, incident),
            Self::Graph { alt, width, height, bytes, place } => {
                let (width, height, bytes) = (*width, *height, *bytes);
                let image = Image { alt, filename: FILENAME, mimetype: "image/png", width, height, bytes, place };
                image_content(&image, thread, op, incident)
            }
        }
    }
}

/// What is to be asked, and whether the config and the incident allow it. Pure.
///
/// # Errors
/// When nothing can be asked.
pub fn question(
    config: &Arc<Config>,
    style: &Arc<Style>,
    route: &Route,
    room: &RoomAddress,
    incident: &Incident,
    wanted: &Wanted<'_>,
) -> Result<Question, NoEvidence> {
    source_of(config.evidence.as_ref(), wanted.kind).ok_or(NoEvidence::NotConfigured(wanted.kind))?;
    if incident.key.is_heartbeat() {
        return Err(NoEvidence::OwnAlarm);
    }
    let what = match wanted.kind {
        EvidenceKind::Logs => logs(config, style, incident, wanted)?,
        EvidenceKind::Graph => graph(config, incident, wanted)?,
    };
    Ok(Question {
        config: Arc::clone(config),
        style: Arc::clone(style),
        room: room.clone(),
        encrypted_only: route.evidence.as_ref().is_some_and(|evidence| evidence.encrypted_only),
        what,
    })
}

fn logs(config: &Config, style: &Style, incident: &Incident, wanted: &Wanted<'_>) -> Result<What, NoEvidence> {
    let query = |alert: &Alert| logs_query(style, incident, alert);
    let alert = chosen(config, incident, wanted, |alert| query(alert).is_some(), "no alert of this has a Logs link")?;
    let LogsQuery { query, link } = query(alert)
        .ok_or_else(|| NoEvidence::NoQuery("this alert has no Logs link, which would name a query".to_owned()))?;
    let to = end_of(alert, wanted.now);
    let from = alert.starts_at.minus(MARGIN).max(to.minus(LONGEST));
    let of = if incident.alerts.len() > 1 { title_of(style, incident, alert) } else { String::new() };
    let wanted_lines = LogsWanted { query, link, from, to, lines: wanted.lines };
    Ok(What::Logs { wanted: wanted_lines, of, now: wanted.now })
}

/// What one alert of an incident is called, as on a card that shows only this one.
fn title_of(style: &Style, incident: &Incident, alert: &Alert) -> String {
    let alone = Incident {
        id: incident.id.clone(),
        key: incident.key.clone(),
        notification: incident.notification.clone(),
        doc: incident.doc.clone(),
        alerts: vec![alert.clone()],
        taken: Vec::new(),
        ..*incident
    };
    title(style, &alone)
}

fn graph(config: &Config, incident: &Incident, wanted: &Wanted<'_>) -> Result<What, NoEvidence> {
    let expr = |alert: &Alert| expression::of_alert(alert);
    let without = "no alert of this names its expression";
    let alert = chosen(config, incident, wanted, |alert| expr(alert).is_some(), without)?;
    let expr_of_alert =
        expr(alert).ok_or_else(|| NoEvidence::NoQuery("this alert does not name its rule's expression".to_owned()))?;
    let shares = |other: &Alert| match wanted.alert {
        Some(only) => other.fingerprint == only,
        None => expr(other).as_deref() == Some(expr_of_alert.as_str()),
    };
    let firing = subject::firing(incident, &config.display, alert, shares);
    let oldest = incident.alerts.iter().filter(|other| other.state == AlertState::Firing && shares(other));
    let began = oldest.map(|other| other.starts_at).min().unwrap_or(alert.starts_at);
    let graph = GraphWanted {
        firing,
        began: Some(began),
        now: end_of(alert, wanted.now),
        timezone: config.display.timezone.clone(),
        expr: expr_of_alert,
    };
    Ok(What::Graph(graph))
}

fn chosen<'i>(
    config: &Config,
    incident: &'i Incident,
    wanted: &Wanted<'_>,
    fits: impl Fn(&Alert) -> bool,
    without: &str,
) -> Result<&'i Alert, NoEvidence> {
    subject::choose(incident, &config.display, wanted.alert, fits).ok_or_else(|| {
        let gone = "that alert is not part of this any more";
        NoEvidence::NoQuery(if wanted.alert.is_some() { gone } else { without }.to_owned())
    })
}

/// Until when an alert is looked at.
fn end_of(alert: &Alert, now: Timestamp) -> Timestamp {
    let ended = alert.ends_at.filter(|_| alert.state == AlertState::Resolved);
    ended.map_or(now, |ended| ended.plus(MARGIN).min(now))
}

fn source_of(evidence: Option<&Evidence>, kind: EvidenceKind) -> Option<&EvidenceSource> {
    let evidence = evidence?;
    match kind {
        EvidenceKind::Logs => evidence.loki.as_ref(),
        EvidenceKind::Graph => evidence.prometheus.as_ref(),
    }
}

/// Whether the config names a service that has this kind of evidence.
#[must_use]
pub fn is_configured(config: &Config, kind: EvidenceKind) -> bool {
    source_of(config.evidence.as_ref(), kind).is_some()
}

impl Maker {
    #[must_use]
    pub fn new(media: Arc<dyn Media>, sources: Arc<dyn Sources>) -> Self {
        Self { media, sources, asked: Semaphore::new(ASKED_AT_ONCE), deadline: DEADLINE }
    }

    /// For tests that cannot wait as long.
    #[cfg(test)]
    #[must_use]
    pub fn within(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Makes a piece for somebody who asked; further ones wait for their turn.
    ///
    /// # Errors
    /// When there is none.
    pub async fn make_asked(&self, question: &Question) -> Result<Piece, NoEvidence> {
        let _turn = self.asked.acquire().await;
        self.make(question).await
    }

    /// Makes a piece.
    ///
    /// # Errors
    /// When there is none.
    pub async fn make(&self, question: &Question) -> Result<Piece, NoEvidence> {
        let made = AssertUnwindSafe(timeout(self.deadline, self.ask(question))).catch_unwind().await;
        let Ok(made) = made else {
            tracing::error!(room = %question.room, "caught a panic while making evidence");
            return Err(NoEvidence::Failed("the receiver failed on this; its log says more".to_owned()));
        };
        made.unwrap_or(Err(NoEvidence::TimedOut))
    }

    async fn ask(&self, question: &Question) -> Result<Piece, NoEvidence> {
        let Question { config, style, room, what, encrypted_only } = question;
        if *encrypted_only {
            match self.media.is_encrypted(room).await {
                Some(true) => {}
                Some(false) => return Err(NoEvidence::PlainRoom),
                None => return Err(NoEvidence::Failed("it is not known whether the room is encrypted".to_owned())),
            }
        }
        let evidence = config.evidence.as_ref();
        match what {
            What::Logs { wanted, of, now } => {
                let source = source_of(evidence, EvidenceKind::Logs);
                let source = source.ok_or(NoEvidence::NotConfigured(EvidenceKind::Logs))?;
                let redact = evidence.map(|evidence| evidence.redact.as_slice()).unwrap_or_default();
                let lines = self.sources.logs(source, redact, wanted).await?;
                let link = wanted.link.as_deref();
                let shown = ShownLogs { of, lines: &lines.lines, more: lines.more, more_than: lines.more_than, link };
                Ok(Piece::Logs(notice(style, &shown, *now)))
            }
            What::Graph(wanted) => {
                let source = source_of(evidence, EvidenceKind::Graph);
                let source = source.ok_or(NoEvidence::NotConfigured(EvidenceKind::Graph))?;
                let picture = self.sources.graph(source, wanted).await?;
                let place = self.media.upload(room, &picture.png).await.map_err(NoEvidence::NotUploaded)?;
                let Picture { png, width, height, alt } = picture;
                Ok(Piece::Graph { alt, width, height, bytes: png.len(), place })
            }
        }
    }
}
