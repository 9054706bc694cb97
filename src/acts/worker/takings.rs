//! Who takes care of an incident. Kept by the receiver alone; Alertmanager knows nothing of it.

use crate::{
    acts::{answers::words, work::Work},
    model::ActState,
    store::{StoreError, Taking},
};

/// # Errors
/// When it cannot be committed.
pub async fn take(work: &Work<'_>) -> Result<(), StoreError> {
    let (act, store) = (work.act(), &work.context.store);
    let incidents = match (&act.incident, &act.card) {
        (Some(incident), _) => vec![incident.clone()],
        (None, Some(card)) => store.incidents_of_card(card).await?,
        (None, None) => Vec::new(),
    };
    let answers = work.done(&format!("taken by {}", work.who()));
    match store.take(work.ending(ActState::Live, "done", answers), incidents).await? {
        Taking::Taken => work.report("done"),
        Taking::Already => work.report("already"),
        Taking::Closed => return work.refuse(&words::refusal("This is over: nothing is left to be taken")).await,
        Taking::Withdrawn => {}
    }
    Ok(())
}

/// # Errors
/// When it cannot be committed.
pub async fn give_back(work: &Work<'_>) -> Result<(), StoreError> {
    let Some(incident) = work.act().incident.clone() else {
        return work.refuse(&words::refusal("Nobody has taken this")).await;
    };
    let answers = work.done(&format!("given back by {}", work.who()));
    let ended = work.context.store.give_back(work.ending(ActState::Done, "done", answers), incident).await?;
    if ended == 0 {
        return work.refuse(&words::refusal("Nobody has taken this")).await;
    }
    work.report("done");
    Ok(())
}

/// A reaction was removed that took an incident, or those of a digest.
///
/// # Errors
/// When it cannot be committed.
pub async fn undo(work: &Work<'_>, event: String) -> Result<(), StoreError> {
    let answers = work.done(&format!("given back by {}", work.who()));
    let ended = work.context.store.undo_taking(work.ending(ActState::Done, "done", answers), event).await?;
    work.report(if ended > 0 { "done" } else { "already" });
    Ok(())
}
