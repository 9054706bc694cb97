//! Makes silences, each once. What is wanted is committed before the first request. A request without a usable answer
//! leaves a silence in doubt: then all peers are asked for its mark, and it is requested again only if none has it.

use std::time::Duration;

use super::{
    cover::{self, Cover, Extent, Fit},
    expire::is_final,
    extend,
    matchers::{self, Wanted},
    surplus,
};
use crate::{
    acts::{
        answers::{content, words},
        work::{PATIENCE, Work},
    },
    alertmanager::{
        api::{ApiSilence, Matcher, NewSilence, SilenceState},
        client::{ApiError, ApiFault, Client},
        marker,
    },
    config::Actions,
    model::{ActState, AlertKey, Incident, IncidentId, Timestamp},
    render::answer::{self, Answer},
    store::{ActAnswer, SilenceRow, SilenceRowState, StoreError},
    text::one_line,
};

/// After a request without an answer, so that a peer's silence has reached the others.
const IN_DOUBT: Duration = Duration::from_secs(2);
/// After a request that was surely not made.
const AGAIN: Duration = Duration::from_secs(5);
/// Once it has been said that it cannot be known.
const WATCH: Duration = Duration::from_secs(30);
const MOST_TRIES: u32 = 60;
/// What an act is marked with then.
pub const MAY_HAVE_BEEN_MADE: &str = "may_have_been_made";
const WITHDRAWN: &str = "withdrawn";

/// Why nothing is made.
enum Stop {
    Refuse(Answer),
    Failed(ApiError),
}

/// # Errors
/// When it cannot be committed.
pub async fn make(work: &Work<'_>, actions: &Actions) -> Result<(), StoreError> {
    let Some(incident) = work.act().incident.clone() else {
        let hint = format!("Say which alert of this message: {}silence ALERTNAME", actions.prefix);
        return work.refuse(&words::refusal(&hint)).await;
    };
    let Some(client) = work.client() else {
        return work
            .refuse(&words::refusal("No Alertmanager is configured for this route, so nothing can be silenced"))
            .await;
    };
    let duration = work.act().args.duration.unwrap_or(actions.silence);
    if duration > actions.max_silence {
        let most = words::typed(actions.max_silence);
        let hint = format!("A silence lasts at most {most} here: {}silence {most}", actions.prefix);
        return work.refuse(&words::refusal(&hint)).await;
    }
    let fits = match fits(work, &client, &incident).await? {
        Ok(fits) => fits,
        Err(Stop::Refuse(answer)) => return work.refuse(&answer).await,
        Err(Stop::Failed(error)) => return failed(work, "Not silenced", &error).await,
    };
    let ends_at = work.context.clock.wall().plus(duration);
    let Some(known) = extend::known(work, &incident, &fits).await? else {
        // An earlier one is not decided: a second would be one too many.
        if work.age() < PATIENCE {
            return work.later(IN_DOUBT).await;
        }
        let answer = words::refusal("An earlier silence may have been made; wait until that is known");
        return work.refuse(&answer).await;
    };
    let is_known = |fit: &Fit| extend::find(&known, fit, &work.act().sender).is_some();
    let (again, mut wanted): (Vec<Fit>, Vec<Fit>) = fits.into_iter().partition(is_known);
    let mut shared = Vec::new();
    if !again.is_empty() {
        // From when it was asked for, so that a second try wants the same.
        let longer = work.context.clock.shown(work.act().asked_at).plus(duration);
        let extended = match extend::extend(work, &client, &known, again, longer).await? {
            Ok(extended) => extended,
            Err(error) => return failed(work, "Not extended", &error).await,
        };
        if wanted.is_empty() && extended.gone.is_empty() && extended.shared.is_empty() {
            let answer = silenced(work, &title(work).await?, extended.until.unwrap_or(longer), &extended.own);
            let answers = content::tick(work.act()).into_iter().chain([work.notice(&answer)]).collect();
            work.end(ActState::Done, "done", answers).await?;
            (work.context.poll_now)(&work.route.name);
            return Ok(());
        }
        wanted.extend(extended.gone);
        shared = extended.shared;
    }
    let mut rows = rows(work, &incident, &wanted, ends_at)?;
    for (row, n) in shared.into_iter().zip(i64::try_from(rows.len()).unwrap_or(i64::MAX)..) {
        rows.push(SilenceRow { n, marker: marker::of(&work.act().id, n), ..row });
    }
    if !work.context.store.begin_silences(&work.act().id, rows, work.in_(IN_DOUBT)).await? {
        return Ok(());
    }
    go_on(work, true).await
}

/// What is to be silenced, if that reaches no further than the incident.
async fn fits(work: &Work<'_>, client: &Client, id: &IncidentId) -> Result<Result<Vec<Fit>, Stop>, StoreError> {
    let read = work.context.store.incident_with_alerts(id).await?;
    let over = || words::refusal("This is over: nothing is left to be silenced");
    let Some((wanted, mut extent)) = read.map(|read| plan(work, &read.incident)) else {
        return Ok(Err(Stop::Refuse(over())));
    };
    let wanted = match wanted {
        Ok(wanted) => wanted,
        Err(fault) => return Ok(Err(Stop::Refuse(words::matcher_fault(fault)))),
    };
    let mut fits = Vec::with_capacity(wanted.len());
    for one in &wanted {
        let labels: Vec<(String, String)> =
            one.labels.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let hits = match client.alerts_with(&labels).await {
            Ok(hits) => hits,
            Err(error) => return Ok(Err(Stop::Failed(error))),
        };
        let unknown = hits.iter().filter(|alert| !extent.fingerprints.contains(&alert.fingerprint));
        let unknown: Vec<AlertKey> = unknown.map(|alert| AlertKey::of(&alert.fingerprint, &alert.labels)).collect();
        extent.elsewhere = work.context.store.held_elsewhere(id, &unknown).await?;
        match cover::judge(one, &hits, &extent) {
            Cover::Fits { matchers, alerts } => fits.push(Fit { matchers, alerts }),
            Cover::Beyond { named, count } => return Ok(Err(Stop::Refuse(words::beyond(&named, count)))),
        }
    }
    Ok(Ok(fits))
}

fn plan(work: &Work<'_>, incident: &Incident) -> (Result<Vec<Wanted>, matchers::MatcherFault>, Extent) {
    let wanted = match &work.act().args.alert {
        _ if !incident.state.is_open() => Err(matchers::MatcherFault::NothingOpen),
        _ if incident.key.is_heartbeat() => Err(matchers::MatcherFault::NotAlertmanagers),
        Some(alert) => matchers::of_alert(incident, alert),
        None => matchers::of_incident(incident),
    };
    (wanted, Extent::of(incident))
}

fn rows(
    work: &Work<'_>,
    incident: &IncidentId,
    fits: &[Fit],
    ends_at: Timestamp,
) -> Result<Vec<SilenceRow>, StoreError> {
    let (act, starts_at) = (work.act(), work.context.clock.wall());
    let reason = one_line(&act.args.text, crate::acts::command::MAX_TEXT);
    let reason = if reason.is_empty() { marker::NO_REASON.to_owned() } else { reason };
    let mut rows = Vec::with_capacity(fits.len());
    for (n, fit) in (0_i64..).zip(fits) {
        let marker = marker::of(&act.id, n);
        let matchers = serde_json::to_string(&fit.matchers).map_err(|error| StoreError::Database(error.to_string()))?;
        rows.push(SilenceRow {
            act: act.id.clone(),
            n,
            route: act.route.clone(),
            incident: incident.clone(),
            comment: format!("{reason} {marker}"),
            marker,
            matchers,
            created_by: act.sender.clone(),
            starts_at,
            ends_at,
            silence_id: None,
            state: SilenceRowState::InDoubt,
        });
    }
    Ok(rows)
}

/// What the peers have.
enum Found {
    /// Not asked.
    No,
    /// Whether all have answered.
    Lists { silences: Vec<ApiSilence>, is_whole: bool },
}

/// Goes on with silences that are committed. `is_first`: none has been requested yet.
///
/// # Errors
/// When it cannot be committed.
pub async fn go_on(work: &Work<'_>, is_first: bool) -> Result<(), StoreError> {
    let client = work.client();
    let is_withdrawn = work.due.outcome.as_deref() == Some(WITHDRAWN);
    let rows = work.context.store.silences_of_act(&work.act().id).await?;
    let may_post = !is_withdrawn && (is_first || !is_over(work, &rows));
    let mut found = Found::No;
    if !is_first && rows.iter().any(|row| row.state == SilenceRowState::InDoubt) {
        found = look(client.as_ref()).await;
    }
    let (mut fault, mut wait) = (None, IN_DOUBT);
    for row in &rows {
        let state = match row.state {
            SilenceRowState::InDoubt if !is_first => settle(work, client.as_ref(), row, &found).await?,
            state => state,
        };
        let is_wanted = state == SilenceRowState::Wanted || (is_first && state == SilenceRowState::InDoubt);
        if !is_wanted {
            continue;
        }
        let Some(client) = client.as_ref().filter(|_| may_post) else {
            work.context.store.note_silence(row, SilenceRowState::Failed, None, None).await?;
            continue;
        };
        // Before the request, or a crash would leave one that nobody looks for.
        work.context.store.note_silence(row, SilenceRowState::InDoubt, None, None).await?;
        if let Err(error) = post(work, client, row).await? {
            if error.kind == ApiFault::NotSent {
                wait = AGAIN;
            }
            fault = Some(error);
        }
    }
    conclude(work, fault, wait, is_withdrawn).await
}

async fn look(client: Option<&Client>) -> Found {
    let Some(client) = client else { return Found::Lists { silences: Vec::new(), is_whole: false } };
    let asked = (0..client.peers()).map(|peer| client.silences(true, Some(peer)));
    let (mut silences, mut is_whole) = (Vec::new(), true);
    for answer in futures_util::future::join_all(asked).await {
        match answer {
            Ok(list) => silences.extend(list),
            Err(_) => is_whole = false,
        }
    }
    Found::Lists { silences, is_whole }
}

/// What became of a silence in doubt, by what the peers have.
async fn settle(
    work: &Work<'_>,
    client: Option<&Client>,
    row: &SilenceRow,
    found: &Found,
) -> Result<SilenceRowState, StoreError> {
    let Found::Lists { silences, is_whole } = found else { return Ok(row.state) };
    let store = &work.context.store;
    let of_one: Vec<&ApiSilence> = silences.iter().filter(|silence| silence.comment.contains(&row.marker)).collect();
    let active = surplus::marked(silences);
    let state = if let Some(there) = active.get(&(row.act.as_str(), row.n)) {
        let kept = surplus::keep(there, row.silence_id.as_deref());
        let (id, ends_at) = kept.map(|silence| (silence.id.clone(), silence.ends_at)).unzip();
        store.note_silence(row, SilenceRowState::Live, id.clone(), ends_at).await?;
        if let Some(client) = client.filter(|_| there.len() > 1) {
            for surplus in surplus::surplus(there, id.as_deref()) {
                if let Err(error) = client.expire_silence(&surplus.id).await {
                    tracing::warn!(act = %row.act, silence = %surplus.id, %error, "expiring a silence failed; will retry");
                }
            }
        }
        SilenceRowState::Live
    } else if let Some(expired) = of_one.iter().find(|silence| silence.state == SilenceState::Expired) {
        // Somebody has ended it already.
        store.note_silence(row, SilenceRowState::Ended, Some(expired.id.clone()), None).await?;
        SilenceRowState::Ended
    } else if *is_whole {
        store.note_silence(row, SilenceRowState::Wanted, None, None).await?;
        SilenceRowState::Wanted
    } else if row.ends_at <= work.context.clock.wall() {
        store.note_silence(row, SilenceRowState::Failed, None, None).await?;
        SilenceRowState::Failed
    } else {
        SilenceRowState::InDoubt
    };
    Ok(state)
}

async fn post(work: &Work<'_>, client: &Client, row: &SilenceRow) -> Result<Result<(), ApiError>, StoreError> {
    let silence = NewSilence {
        id: None,
        matchers: matchers::parse(&row.matchers),
        starts_at: row.starts_at,
        ends_at: row.ends_at,
        created_by: row.created_by.clone(),
        comment: row.comment.clone(),
    };
    let (state, id, error) = match client.post_silence(&silence).await {
        Ok(id) => (SilenceRowState::Live, Some(id), None),
        Err(error) => {
            let state = match error.kind {
                ApiFault::NotSent => SilenceRowState::Wanted,
                fault if is_final(fault) => SilenceRowState::Failed,
                _ => SilenceRowState::InDoubt,
            };
            (state, None, Some(error))
        }
    };
    work.context.store.note_silence(row, state, id, None).await?;
    Ok(error.map_or(Ok(()), Err))
}

/// Ends the act if all is known, else tries again later.
async fn conclude(
    work: &Work<'_>,
    fault: Option<ApiError>,
    wait: Duration,
    is_withdrawn: bool,
) -> Result<(), StoreError> {
    let rows = work.context.store.silences_of_act(&work.act().id).await?;
    let is_known = |row: &SilenceRow| !matches!(row.state, SilenceRowState::Wanted | SilenceRowState::InDoubt);
    if !rows.iter().all(is_known) {
        let is_over = is_over(work, &rows);
        return undecided(work, wait, is_over).await;
    }
    let made: Vec<&SilenceRow> = rows.iter().filter(|row| row.state == SilenceRowState::Live).collect();
    let failed = rows.iter().filter(|row| row.state == SilenceRowState::Failed).count();
    if made.is_empty() {
        if is_withdrawn {
            return work.end(ActState::Ended, WITHDRAWN, Vec::new()).await;
        }
        if failed == 0 {
            let answer = Answer::new("ℹ️", "The silence was made, and somebody has ended it already");
            return work.end(ActState::Ended, "done", vec![work.notice(&answer)]).await;
        }
        let answer = not_made(fault.as_ref());
        return work.fail(&answer).await;
    }
    let answers = made_answers(work, &made, failed, fault.as_ref()).await?;
    work.end(ActState::Live, "done", answers).await?;
    (work.context.poll_now)(&work.route.name);
    Ok(())
}

fn not_made(fault: Option<&ApiError>) -> Answer {
    match fault {
        Some(error) => words::api_error("Not silenced", error),
        None => words::refusal("Not silenced: Alertmanager did not take it in time")
            .line("Try again, or use another way to Alertmanager."),
    }
}

/// Whether it has been tried for long enough. The wall clock says when it began; should that be set back, the tries count.
fn is_over(work: &Work<'_>, rows: &[SilenceRow]) -> bool {
    let began = rows.iter().map(|row| row.starts_at).min().unwrap_or_default();
    work.context.clock.wall().since(began) >= PATIENCE || work.act().attempts >= MOST_TRIES
}

/// As long as there is hope nothing is said; then that it is not known.
async fn undecided(work: &Work<'_>, wait: Duration, is_over: bool) -> Result<(), StoreError> {
    let (store, act) = (&work.context.store, work.act());
    let was_said = work.due.outcome.as_deref() == Some(MAY_HAVE_BEEN_MADE);
    if was_said || work.due.outcome.as_deref() == Some(WITHDRAWN) {
        return store.postpone_act(&act.id, ActState::InDoubt, work.in_(WATCH), None).await;
    }
    if !is_over {
        return store.postpone_act(&act.id, ActState::InDoubt, work.in_(wait), None).await;
    }
    let answer = Answer::new("❓", "The silence may have been made: Alertmanager did not say")
        .line("It is watched, and the thread says so once it is known.");
    store.leave_in_doubt(act, vec![work.notice(&answer)], work.in_(WATCH), MAY_HAVE_BEEN_MADE).await?;
    work.report(MAY_HAVE_BEEN_MADE);
    Ok(())
}

/// A read or an extension failed: again, as long as that may help.
async fn failed(work: &Work<'_>, what: &str, error: &ApiError) -> Result<(), StoreError> {
    if is_final(error.kind) || work.age() >= PATIENCE {
        return work.fail(&words::api_error(what, error)).await;
    }
    work.later(if error.kind == ApiFault::InDoubt { IN_DOUBT } else { AGAIN }).await
}

async fn made_answers(
    work: &Work<'_>,
    made: &[&SilenceRow],
    failed: usize,
    fault: Option<&ApiError>,
) -> Result<Vec<ActAnswer>, StoreError> {
    let title = title(work).await?;
    let until = made.iter().map(|row| row.ends_at).min().unwrap_or_default();
    let mut lines = Vec::with_capacity(made.len());
    for row in made {
        let matchers = matchers::parse(&row.matchers);
        let alerts = covered(work, &matchers).await;
        lines.push((matchers, alerts));
    }
    let mut answer = counted(work, &title, until, &lines);
    if failed > 0 {
        let reason = fault.map(|error| format!(": {}", error.detail)).unwrap_or_default();
        answer = answer.line(&format!("{failed} of {} were not made{reason}", failed + made.len()));
    }
    Ok(content::tick(work.act()).into_iter().chain([work.notice(&answer)]).collect())
}

/// How many alerts a silence covers at this moment; `None`: Alertmanager does not say.
async fn covered(work: &Work<'_>, matchers: &[Matcher]) -> Option<usize> {
    let client = work.client()?;
    let labels: Vec<(String, String)> =
        matchers.iter().map(|matcher| (matcher.name.clone(), matcher.value.clone())).collect();
    client.alerts_with(&labels).await.ok().map(|alerts| alerts.len())
}

async fn title(work: &Work<'_>) -> Result<String, StoreError> {
    let Some(incident) = &work.act().incident else { return Ok("alert".to_owned()) };
    let read = work.context.store.incident_with_alerts(incident).await?;
    Ok(read.map_or_else(|| "alert".to_owned(), |read| answer::title(&work.settings.style, &read.incident)))
}

fn silenced(work: &Work<'_>, title: &str, until: Timestamp, lines: &[(Vec<Matcher>, usize)]) -> Answer {
    let lines: Vec<_> = lines.iter().map(|(matchers, alerts)| (matchers.clone(), Some(*alerts))).collect();
    counted(work, title, until, &lines)
}

fn counted(work: &Work<'_>, title: &str, until: Timestamp, lines: &[(Vec<Matcher>, Option<usize>)]) -> Answer {
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
