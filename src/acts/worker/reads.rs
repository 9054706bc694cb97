//! What only asks.

use crate::{
    acts::{
        answers::{lists, words},
        work::Work,
    },
    config::Actions,
    model::{ActKind, ActState},
    render::answer::Answer,
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
        ActKind::Help => Some(words::help(&actions.prefix, actions, work.route.alertmanager.is_some())),
        ActKind::Logs => Some(not_configured("Logs")),
        ActKind::Graph => Some(not_configured("Graphs")),
        _ => None,
    };
    match answer {
        Some(answer) => work.end(ActState::Done, "done", vec![work.notice(&answer)]).await,
        None => work.refuse(&words::refusal("Nothing is known of this any more")).await,
    }
}

fn not_configured(what: &str) -> Answer {
    words::refusal(&format!("{what} are not configured"))
}
