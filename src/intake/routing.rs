//! Which route a webhook takes.

use std::collections::BTreeMap;

use super::decode::cut;
use crate::{config::Route, model::RouteName};

/// A name that nobody configured is told up to so many bytes: it goes into the log, and strangers choose it.
const TOLD: usize = 128;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    #[error("there is no route named {0:?}")]
    Unknown(String),
    #[error("no route names the receiver {0:?}, and there is no default route")]
    NoDefault(String),
}

/// `POST /alerts/{named}` takes the named route; `POST /alerts` the one whose `receivers` holds the payload's
/// receiver, else `default`.
///
/// # Errors
/// When no such route is configured.
pub fn choose_route<'a>(
    routes: &'a BTreeMap<RouteName, Route>,
    named: Option<&str>,
    receiver: &str,
) -> Result<&'a Route, RouteError> {
    let find = |name: &str| RouteName::parse(name).ok().and_then(|name| routes.get(&name));
    match named {
        Some(name) => find(name).ok_or_else(|| RouteError::Unknown(cut(name, TOLD).to_owned())),
        None => routes
            .values()
            .find(|route| route.receivers.iter().any(|known| known == receiver))
            .or_else(|| find("default"))
            .ok_or_else(|| RouteError::NoDefault(cut(receiver, TOLD).to_owned())),
    }
}
