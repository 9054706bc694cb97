//! Carries out what was asked for: one task for each route, one act of an incident at a time.

mod carry_out;
mod evidence;
mod reads;
mod takings;

use std::{collections::BTreeSet, time::Duration};

use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

pub use self::carry_out::carry_out;
use super::context::ActContext;
use crate::{
    model::RouteName,
    pacing::{Backoff, SayOnce},
    store::{DueAct, StoreError},
};

/// Acts of a route that are carried out at once, so that one that waits for Alertmanager holds up nobody.
const AT_ONCE: usize = 8;
/// Questions of a route for evidence that are carried out at once. Others do not wait for them.
const EVIDENCE_AT_ONCE: usize = 4;
/// How often silences whose time is over are looked for, and routes that a reload has brought.
const TICK: Duration = Duration::from_secs(30);
/// Between two tries while the store does not answer.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Runs a task for each route that has, or may get, something to carry out, until `stop`.
pub async fn run(context: ActContext, stop: CancellationToken) {
    let mut tasks: JoinSet<RouteName> = JoinSet::new();
    let mut running: BTreeSet<RouteName> = BTreeSet::new();
    loop {
        let mut routes: BTreeSet<RouteName> = acting_routes(&context);
        routes.extend(context.store.routes_with_acts().await.unwrap_or_default());
        for route in routes {
            if running.insert(route.clone()) {
                let (context, stop) = (context.clone(), stop.clone());
                tasks.spawn(async move {
                    serve(&context, &route, &stop).await;
                    route
                });
            }
        }
        tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = tasks.join_next() => match ended {
                Ok(route) => { running.remove(&route); }
                // A panic: which one it was is not known, so all that have ended are started.
                Err(error) => {
                    tracing::error!(%error, "panic while carrying out an act");
                    tasks.shutdown().await;
                    running.clear();
                    sleep(RETRY.0).await;
                }
            },
            () = sleep(TICK) => {}
        }
    }
    // What waits for Alertmanager is in doubt, and goes on so at the next start.
    tasks.shutdown().await;
}

fn acting_routes(context: &ActContext) -> BTreeSet<RouteName> {
    let config = (context.settings)().config;
    config.routes.values().filter(|route| route.actions.is_some()).map(|route| route.name.clone()).collect()
}

/// Carries out what is due on a route, until `stop`, or until nothing can become due any more.
async fn serve(context: &ActContext, route: &RouteName, stop: &CancellationToken) {
    let mut asked = context.asked.subscribe();
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    let mut fault = SayOnce::default();
    let (mut under_way, mut evidence) = (UnderWay::default(), UnderWay::default());
    loop {
        asked.borrow_and_update();
        let wait = match start_due(context, route, &mut under_way, &mut evidence).await {
            Ok(wait) => {
                backoff.reset();
                if fault.clear() {
                    tracing::info!(%route, "acts are carried out again");
                }
                wait
            }
            Err(StoreError::NotLeader) => return stop.cancelled().await,
            Err(error) => {
                if fault.should_log(&error.to_string()) {
                    tracing::warn!(%route, %error, "carrying out acts failed; will retry");
                }
                backoff.pause()
            }
        };
        if under_way.is_empty() && evidence.is_empty() && !acting_routes(context).contains(route) && wait >= TICK {
            return;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            _ = asked.changed() => {}
            () = under_way.ended(), if !under_way.is_empty() => {}
            () = evidence.ended(), if !evidence.is_empty() => {}
            () = sleep(wait.min(TICK)) => {}
        }
    }
}

/// The acts of a route that are being carried out.
#[derive(Default)]
struct UnderWay {
    tasks: JoinSet<(String, Result<(), StoreError>)>,
    keys: BTreeSet<String>,
}

impl UnderWay {
    fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    async fn ended(&mut self) {
        match self.tasks.join_next().await {
            Some(Ok((key, result))) => {
                self.keys.remove(&key);
                match result {
                    Ok(()) | Err(StoreError::NotLeader) => {}
                    Err(error) => {
                        tracing::warn!(%error, "carrying out an act failed; will retry");
                        sleep(RETRY.0).await;
                    }
                }
            }
            Some(Err(error)) => {
                tracing::error!(%error, "panic while carrying out an act");
                self.tasks.shutdown().await;
                self.keys.clear();
                sleep(RETRY.0).await;
            }
            None => {}
        }
    }

    /// Starts these, at most so many at once.
    fn start(&mut self, context: &ActContext, due: Vec<DueAct>, at_once: usize, key: impl Fn(&DueAct) -> String) {
        for due in due {
            if self.keys.len() >= at_once {
                break;
            }
            let key = key(&due);
            if self.keys.insert(key.clone()) {
                let context = context.clone();
                self.tasks.spawn(async move { (key, carry_out(&context, &due).await) });
            }
        }
    }
}

/// Starts what is due, and returns how long nothing else is.
async fn start_due(
    context: &ActContext,
    route: &RouteName,
    under_way: &mut UnderWay,
    evidence: &mut UnderWay,
) -> Result<Duration, StoreError> {
    if under_way.is_empty() {
        let wall = context.clock.wall();
        // Nothing is written as long as nothing is over.
        if context.store.silences_of_route(route).await?.iter().any(|silence| silence.ends_at <= wall) {
            context.store.end_expired_silences(route, wall).await?;
        }
    }
    under_way.start(context, context.store.due_acts(route).await?, AT_ONCE, key);
    let due = context.store.due_for_evidence(route).await?;
    evidence.start(context, due, EVIDENCE_AT_ONCE, |due| due.act.id.clone());
    let next = context.store.next_act_at(route).await?;
    let wait = next.map_or(TICK, |next| next.since(context.clock.now()));
    // What is due and not started waits for one that is under way.
    Ok(if wait.is_zero() { TICK } else { wait })
}

/// Acts of one incident follow each other.
fn key(due: &DueAct) -> String {
    due.act.incident.as_ref().map_or_else(|| due.act.id.clone(), ToString::to_string)
}

/// Carries out everything that is due now, one after the other; for tests.
///
/// # Errors
/// When the store does not answer.
pub async fn carry_out_due(context: &ActContext, route: &RouteName) -> Result<usize, StoreError> {
    let mut done = 0;
    for _ in 0..20 {
        let mut due = context.store.due_acts(route).await?;
        due.extend(context.store.due_for_evidence(route).await?);
        if due.is_empty() {
            break;
        }
        for act in due {
            carry_out(context, &act).await?;
            done += 1;
        }
    }
    Ok(done)
}
