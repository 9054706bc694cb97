//! Ends silences that were made from a room.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    acts::{
        answers::words,
        work::{PATIENCE, Work},
    },
    alertmanager::client::ApiFault,
    model::ActState,
    store::{SilenceRow, SilenceRowState, StoreError},
};

const AGAIN: Duration = Duration::from_secs(5);
const IN_DOUBT: Duration = Duration::from_secs(2);

/// Expires these, and ends the act. One that may have been made is waited for; one that somebody else wants as well stays.
///
/// # Errors
/// When it cannot be committed.
pub async fn expire(work: &Work<'_>, rows: Vec<SilenceRow>) -> Result<(), StoreError> {
    let Some(client) = work.client() else {
        return work.refuse(&words::refusal("No Alertmanager is configured for this route")).await;
    };
    let (mut ended, mut is_waiting) = (Vec::new(), false);
    let acts: BTreeSet<String> = rows.iter().map(|row| row.act.clone()).collect();
    for row in rows {
        let Some(id) = row.silence_id.clone().filter(|_| row.state == SilenceRowState::Live) else {
            work.context.store.withdraw_silence(&row.act).await?;
            is_waiting = true;
            continue;
        };
        let wanted_by = work.context.store.acts_of_silence(&id).await?;
        if wanted_by.iter().any(|act| !acts.contains(act)) {
            ended.push(row);
            continue;
        }
        match client.expire_silence(&id).await {
            Ok(()) => ended.push(row),
            Err(error) if error.kind == ApiFault::NotFound => ended.push(row),
            Err(error) if is_final(error.kind) || work.age() >= PATIENCE => {
                return work.fail(&words::api_error("Still silenced", &error)).await;
            }
            Err(_) => return work.later(AGAIN).await,
        }
    }
    if is_waiting {
        return work.later(IN_DOUBT).await;
    }
    let answers = work.done(&format!("no longer silenced by {}", work.who()));
    if work.context.store.end_silences(work.ending(ActState::Done, "done", answers), ended).await? {
        work.report("done");
    }
    (work.context.poll_now)(&work.route.name);
    Ok(())
}

/// Whether asking again cannot help.
#[must_use]
pub fn is_final(fault: ApiFault) -> bool {
    matches!(fault, ApiFault::Refused | ApiFault::Unauthorized | ApiFault::NotFound)
}
