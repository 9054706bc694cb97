//! Disarms switches.

use std::sync::Arc;

use crate::{
    config::Config,
    http::state::App,
    intake::{Rules, heartbeats},
    model::{Known, Switch, SwitchKey},
    render::heartbeat::is_unwatched,
    store::{Store, StoreError, SwitchChange},
};

/// Disarms a switch, and ends its alarm if that is raised: nobody watches it until the next beat. Returns whether it was
/// there.
///
/// # Errors
/// When it cannot be committed.
pub async fn forget(app: &App, store: &Store, config: &Arc<Config>, key: SwitchKey) -> Result<bool, StoreError> {
    let (config, ahead) = (Arc::clone(config), app.clock.ahead());
    let route = key.route.clone();
    // The incidents of a route that is gone are closed with it.
    let rooms = config.routes.get(&route).map(|route| route.rooms.clone()).unwrap_or_default();
    let decide = Box::new(move |_: &Switch, known: Option<&Known>, now| {
        let alarm = config.routes.get(&route).and_then(|route| {
            let rules = Rules { ahead, ..Rules::of(route, &config.display) };
            heartbeats::end(known, &is_unwatched(), &rules, now)
        });
        Some(SwitchChange { switch: None, alarm })
    });
    Ok(store.change_heartbeat(key, rooms, decide).await?.is_some())
}
