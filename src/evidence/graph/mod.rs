//! A graph of what an alert watches, from Prometheus: the left side of the comparison in its rule, over the time around
//! its begin, with the threshold as a line.

mod alt;
mod comparison;
pub mod expression;
mod matrix;
mod picture;
mod query;
mod series;
mod unit;

#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::tz::TimeZone;

use self::{
    comparison::{MAX_BYTES, Watched, parsed, watched},
    picture::Scene,
    query::Span,
};
use super::{NoEvidence, Picture};
use crate::{
    config::EvidenceSource,
    model::{Labels, Timestamp},
    text::one_line,
};

/// A title is cut to the picture's width; longer ones are not measured.
const MAX_TITLE: usize = 120;

/// What is drawn. Times are those of the wall clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphWanted {
    /// PromQL: the rule's whole expression. Its left side is drawn, its threshold is a line.
    pub expr: String,
    /// The labels of alerts that fire, those of the worst first: their series come first.
    pub firing: Vec<Labels>,
    /// When the oldest of them began; `None`: nothing is marked, as for the command.
    pub began: Option<Timestamp>,
    pub now: Timestamp,
    /// For the axis: an IANA name.
    pub timezone: String,
}

/// Asks Prometheus once, and draws the last hour, or six times the age of what began, at most a day.
///
/// # Errors
/// When there is nothing to draw, and why.
pub async fn draw(source: &EvidenceSource, wanted: &GraphWanted) -> Result<Picture, NoEvidence> {
    draw_span(source, wanted, Span::of(wanted.began, wanted.now)).await
}

/// As [`draw`], over the time of `range` until now.
///
/// # Errors
/// When there is nothing to draw, and why.
pub async fn draw_range(source: &EvidenceSource, wanted: &GraphWanted, range: Duration) -> Result<Picture, NoEvidence> {
    draw_span(source, wanted, Span::last(range, wanted.now)).await
}

async fn draw_span(source: &EvidenceSource, wanted: &GraphWanted, span: Span) -> Result<Picture, NoEvidence> {
    if wanted.expr.trim().is_empty() {
        return Err(NoEvidence::NoQuery("an expression to draw is missing".to_owned()));
    }
    if wanted.expr.len() > MAX_BYTES {
        return Err(NoEvidence::NoQuery("the expression is too long to draw".to_owned()));
    }
    let watched = watched(&wanted.expr);
    let answer = query::fetch(source, &wanted.expr, &watched, span).await?;
    let wanted = wanted.clone();
    // Reading and drawing take milliseconds of a core, which other tasks need not wait for.
    let drawing = tokio::task::spawn_blocking(move || {
        picture_of(&answer.body, &wanted, &watched, span).map_err(|fault| match fault {
            NoEvidence::Failed(what) => NoEvidence::Failed(answer.error(&what)),
            other => other,
        })
    });
    drawing.await.unwrap_or_else(|_| Err(NoEvidence::Failed("drawing the graph failed".to_owned())))
}

fn picture_of(body: &[u8], wanted: &GraphWanted, watched: &Watched, span: Span) -> Result<Picture, NoEvidence> {
    let rows = matrix::read(body).map_err(NoEvidence::Failed)?;
    let mut chosen = series::choose(rows.each().flatten(), &wanted.firing, watched.threshold);
    chosen.others += rows.unread;
    if chosen.series.is_empty() {
        return Err(NoEvidence::Empty("Prometheus has no values for the alert's expression".to_owned()));
    }
    let scene = Scene {
        title: &one_line(watched.expr.split_whitespace().collect::<Vec<_>>().join(" ").as_str(), MAX_TITLE),
        chosen: &chosen,
        threshold: watched.threshold,
        unit: unit::of(parsed(&watched.expr).as_ref()),
        span,
        began: wanted.began,
        zone: &TimeZone::get(&wanted.timezone).unwrap_or(TimeZone::UTC),
    };
    let png = picture::draw(&scene).ok_or_else(|| NoEvidence::Failed("the graph cannot be drawn".to_owned()))?;
    Ok(Picture { png, width: picture::WIDTH, height: picture::HEIGHT, alt: alt::text(&scene) })
}
