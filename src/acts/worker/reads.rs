//! What only asks.

use super::evidence;
use crate::{
    acts::{
        answers::{lists, words},
        work::Work,
    },
    config::Actions,
    evidence::make::is_configured,
    model::{ActKind, ActState, EvidenceKind},
    store::StoreError,
};

/// # Errors
/// When it cannot be committed.
pub async fn answer(work: &Work<'_>, actions: &Actions) -> Result<(), StoreError> {
    let (context, act) = (work.context, work.act());
    let (store, clock, settings) = (&context.store, &context.clock, work.settings);
    let answer = match act.kind {
        ActKind::Why => match &act.incident {
            Some(incident) => lists::why(store, clock, settings, incident).await?,
            None => None,
        },
        ActKind::Alerts => Some(lists::alerts(store, clock, settings, &act.room).await?),
        ActKind::Silences => Some(lists::silences(store, clock, settings, &act.room).await?),
        ActKind::Help => {
            let is_configured = |kind| is_configured(&settings.config, kind);
            let evidence = EvidenceKind::ALL.into_iter().filter(|kind| is_configured(*kind)).collect::<Vec<_>>();
            Some(words::help(&actions.prefix, actions, work.route.alertmanager.is_some(), &evidence))
        }
        ActKind::Logs => return evidence::show(work, EvidenceKind::Logs).await,
        ActKind::Graph => return evidence::show(work, EvidenceKind::Graph).await,
        _ => None,
    };
    match answer {
        Some(answer) => work.end(ActState::Done, "done", vec![work.notice(&answer)]).await,
        None => work.refuse(&words::refusal("Nothing is known of this any more")).await,
    }
}
