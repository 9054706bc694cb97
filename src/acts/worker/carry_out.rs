//! One act: rights are judged now, then it is done or refused.

use std::time::Duration;

use super::{reads, takings};
use crate::{
    acts::{
        answers::words,
        context::ActContext,
        rights::{self, Asked, Denial},
        silence::{expire, make},
        work::{TOO_OLD, Work},
    },
    config::Actions,
    model::{ActKind, ActState, Member, Trust},
    pacing::Growth,
    store::{DueAct, SilenceRowState, StoreError},
    text::one_line,
};

/// While the homeserver cannot be asked who somebody is.
const HOMESERVER: Growth = Growth { first: Duration::from_secs(1), last: Duration::from_secs(30) };
/// Characters of a display name that are kept.
const MAX_NAME: usize = 100;

/// Carries out one act, or has it tried again later.
///
/// # Errors
/// When it cannot be committed; it is still due then.
pub async fn carry_out(context: &ActContext, due: &DueAct) -> Result<(), StoreError> {
    let (settings, act) = ((context.settings)(), &due.act);
    let Some(route) = settings.config.routes.get(&act.route) else {
        return route_is_gone(context, due).await;
    };
    let mut work = Work { context, settings: &settings, route, due, name: act.name.clone() };
    if work.is_silence() && act.state == ActState::InDoubt {
        // Rights were judged before it was begun.
        work.name = named(context, due).await;
        return make::go_on(&work, false).await;
    }
    let Some(actions) = &route.actions else {
        return work.refuse(&words::refusal("Acting from this room is turned off")).await;
    };
    let member = match context.rooms.member(&act.room, &act.sender).await {
        Ok(member) => member,
        Err(error) => {
            tracing::debug!(act = %act.id, error = ?error, "homeserver does not say who that is");
            return work.later(HOMESERVER.exact(act.attempts.saturating_add(1))).await;
        }
    };
    work.name = one_line(&member.name, MAX_NAME);
    if let Err(denial) = judge(&work, &member, actions).await? {
        return deny(&work, denial, actions).await;
    }
    if let Some(refusal) = &act.args.refusal {
        return work.refuse(&words::refusal(refusal)).await;
    }
    if work.age() > TOO_OLD && act.kind != ActKind::Undo {
        return work.refuse(&words::refusal("That was asked too long ago; say it again")).await;
    }
    match act.kind {
        ActKind::Take => takings::take(&work).await,
        ActKind::Untake => takings::give_back(&work).await,
        ActKind::Silence => make::make(&work, actions).await,
        ActKind::Unsilence => unsilence(&work).await,
        ActKind::Undo => undo(&work).await,
        _ => reads::answer(&work, actions).await,
    }
}

/// What the sender was called when it was asked for: for the answer only.
async fn named(context: &ActContext, due: &DueAct) -> String {
    let member = context.rooms.member(&due.act.room, &due.act.sender).await;
    member.map(|member| one_line(&member.name, MAX_NAME)).unwrap_or_default()
}

async fn judge(work: &Work<'_>, member: &Member, actions: &Actions) -> Result<Result<(), Denial>, StoreError> {
    let act = work.act();
    let mut undoes_own = false;
    if let (ActKind::Undo, Some(event)) = (act.kind, &act.args.undoes) {
        let undone = work.context.store.act_of_event(event).await?;
        undoes_own = undone.is_some_and(|undone| undone.act.sender == act.sender);
    }
    // What is refused anyway need not be proven.
    let is_refused = act.args.refusal.is_some();
    let asked = Asked {
        kind: if is_refused { ActKind::Unknown } else { act.kind },
        by_reaction: act.args.by_reaction,
        sender: &act.sender,
        trust: act.args.trust.unwrap_or(Trust::Plain),
        is_encryptable: !act.args.by_reaction && !is_refused,
        undoes_own,
    };
    Ok(rights::judge(&asked, member, actions))
}

/// Those without the right are answered once in a while.
async fn deny(work: &Work<'_>, denial: Denial, actions: &Actions) -> Result<(), StoreError> {
    let (act, now) = (work.act(), work.context.clock.now());
    let may = !denial.is_about_the_person() || work.context.limits.may_refuse(act.room.as_str(), &act.sender, now);
    let answers = may.then(|| work.notice(&words::denial(denial, act.kind, actions))).into_iter().collect();
    work.end(ActState::Refused, "denied", answers).await
}

/// Nobody is there to be answered.
async fn route_is_gone(context: &ActContext, due: &DueAct) -> Result<(), StoreError> {
    let end = crate::store::ActEnd {
        act: due.act.clone(),
        state: ActState::Refused,
        outcome: "no_route",
        name: String::new(),
        answers: Vec::new(),
        is_visible: false,
    };
    context.store.end_act(end).await?;
    Ok(())
}

async fn unsilence(work: &Work<'_>) -> Result<(), StoreError> {
    let rows = match &work.act().incident {
        Some(incident) => work.context.store.silences_of_incident(incident).await?,
        None => Vec::new(),
    };
    if rows.is_empty() && work.act().attempts == 0 {
        let answer =
            words::refusal("No silence was made from here").line("What was silenced in Alertmanager is ended there.");
        return work.refuse(&answer).await;
    }
    expire::expire(work, rows).await
}

/// A reaction was removed.
async fn undo(work: &Work<'_>) -> Result<(), StoreError> {
    let Some(event) = work.act().args.undoes.clone() else {
        return work.end(ActState::Done, "already", Vec::new()).await;
    };
    let Some(undone) = work.context.store.act_of_event(&event).await? else {
        return work.end(ActState::Done, "already", Vec::new()).await;
    };
    if undone.act.kind == ActKind::Take {
        return takings::undo(work, event).await;
    }
    let mut rows = work.context.store.silences_of_act(&undone.act.id).await?;
    rows.retain(|row| !matches!(row.state, SilenceRowState::Ended | SilenceRowState::Failed));
    if rows.is_empty() {
        return work.end(ActState::Done, "already", Vec::new()).await;
    }
    expire::expire(work, rows).await
}
