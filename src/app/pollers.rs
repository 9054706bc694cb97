//! Runs one poller for each Alertmanager of the active config.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    alertmanager::{self, PollContext, client::Client},
    config::Config,
    delivery::Settings,
    health::Health,
    metrics::Metrics,
    model::RouteName,
};

/// How long after a panic pollers start again.
const AFTER_PANIC: Duration = Duration::from_secs(10);

/// Polls as the active config says, until `stop`.
pub async fn run(
    mut settings: watch::Receiver<Arc<Settings>>,
    context: PollContext,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        let config = Arc::clone(&settings.borrow_and_update().config);
        let mut clients = Client::of_routes(&config, &metrics, &health, &context.clock);
        let end = stop.child_token();
        let mut pollers = JoinSet::new();
        for routes in sharing_one(&config) {
            let clients = routes.iter().filter_map(|route| clients.remove(route)).collect();
            pollers.spawn(alertmanager::poll(Arc::clone(&config), clients, context.clone(), end.clone()));
        }
        wait_for_other(&config, &mut settings, &mut pollers, &stop).await;
        end.cancel();
        while pollers.join_next().await.is_some() {}
    }
}

/// Waits until another config is active, or a poller has panicked.
async fn wait_for_other(
    config: &Arc<Config>,
    settings: &mut watch::Receiver<Arc<Settings>>,
    pollers: &mut JoinSet<()>,
    stop: &CancellationToken,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = settings.changed() => {
                if changed.is_err() {
                    return stop.cancelled().await;
                }
                if !Arc::ptr_eq(config, &settings.borrow_and_update().config) {
                    return;
                }
            }
            Some(ended) = pollers.join_next() => {
                if ended.is_err() {
                    tracing::error!("panic in a poller; it starts again");
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = sleep(AFTER_PANIC) => {}
                    }
                    return;
                }
            }
        }
    }
}

/// The routes that have an Alertmanager, those that share one together.
fn sharing_one(config: &Config) -> Vec<Vec<RouteName>> {
    let mut groups: BTreeMap<_, Vec<RouteName>> = BTreeMap::new();
    for route in config.routes.values() {
        if let Some(alertmanager) = &route.alertmanager {
            groups.entry(Arc::as_ptr(alertmanager)).or_default().push(route.name.clone());
        }
    }
    groups.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Alertmanager, ApiAuth, Purpose, Route};

    #[test]
    fn routes_that_share_an_alertmanager_share_a_poller() {
        let alertmanager = || {
            Arc::new(Alertmanager {
                urls: Vec::new(),
                auth: ApiAuth::None,
                headers: Vec::new(),
                ca_file: None,
                poll: None,
            })
        };
        let (shared, own) = (alertmanager(), alertmanager());
        let text = "[routes.default]\nrooms = [\"!room:example.org\"]\n";
        let mut config = Config::parse(text, "test", Purpose::Render).expect("a config");
        config.routes.clear();
        for (name, alertmanager) in [("a", Some(&shared)), ("b", Some(&own)), ("c", Some(&shared)), ("d", None)] {
            let name = RouteName::parse(name).expect("a name");
            let route = Route { alertmanager: alertmanager.map(Arc::clone), ..Route::with_defaults(name.clone()) };
            config.routes.insert(name, route);
        }
        let mut groups: Vec<String> = sharing_one(&config)
            .iter()
            .map(|routes| routes.iter().map(RouteName::as_str).collect::<Vec<_>>().join(" "))
            .collect();
        groups.sort();
        assert_eq!(groups, ["a c", "b"]);
    }
}
