//! What is said of silences that were made.

use crate::{
    acts::work::Work,
    alertmanager::api::Matcher,
    model::Timestamp,
    render::answer::{self, Answer},
    store::{SilenceRow, StoreError},
};

use super::matchers;

/// What one silence is to match, and how many alerts that are now.
pub(super) struct Fit {
    pub matchers: Vec<Matcher>,
    pub alerts: usize,
}

pub(super) fn find<'r>(own: &'r [SilenceRow], fit: &Fit) -> Option<&'r SilenceRow> {
    own.iter().find(|row| parse(&row.matchers) == fit.matchers)
}

pub(super) fn parse(matchers: &str) -> Vec<Matcher> {
    serde_json::from_str(matchers).unwrap_or_default()
}

pub(super) async fn title(work: &Work<'_>) -> Result<String, StoreError> {
    let Some(incident) = &work.act().incident else { return Ok("alert".to_owned()) };
    let read = work.context.store.incident_with_alerts(incident).await?;
    Ok(read.map_or_else(|| "alert".to_owned(), |read| answer::title(&work.settings.style, &read.incident)))
}

pub(super) fn silenced(work: &Work<'_>, title: &str, until: Timestamp, lines: &[(Vec<Matcher>, usize)]) -> Answer {
    let lines: Vec<_> = lines.iter().map(|(matchers, alerts)| (matchers.clone(), Some(*alerts))).collect();
    counted(work, title, until, &lines)
}

pub(super) fn counted(
    work: &Work<'_>,
    title: &str,
    until: Timestamp,
    lines: &[(Vec<Matcher>, Option<usize>)],
) -> Answer {
    let until = answer::time(&work.settings.style, until, work.context.clock.wall());
    let mut answer = Answer::new("🔕", &format!("{title} silenced until {until} by {}", work.who()));
    for (matchers, alerts) in lines {
        let covers = match alerts {
            Some(1) => "1 firing alert now:".to_owned(),
            Some(alerts) => format!("{alerts} firing alerts now:"),
            None => "matches:".to_owned(),
        };
        answer = answer.code(&covers, &matchers::words(matchers));
    }
    answer
}
