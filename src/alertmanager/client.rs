//! Asks the peers of one Alertmanager.

use std::{fmt, sync::Arc};

use super::api::{ApiAlert, ApiSilence, NewSilence, PeerStatus};
use crate::{config::Alertmanager, metrics::Metrics, model::RouteName};

/// Why a request failed. No text of it holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct ApiError {
    pub kind: ApiFault,
    /// In words for the operator, bounded, with the peer's host and the server's own text where there is one.
    pub detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiFault {
    /// Nothing was sent: no connection could be made.
    NotSent,
    /// It may have been carried out: no answer, an unreadable one, or a 5xx.
    InDoubt,
    /// 400, 409, 422 and other refusals of what was asked.
    Refused,
    /// 401, 403.
    Unauthorized,
    /// 404: no such silence, or no API at this URL.
    NotFound,
}

/// The client of one route's Alertmanager.
#[derive(Clone)]
pub struct Client {
    config: Arc<Alertmanager>,
    route: RouteName,
    metrics: Arc<Metrics>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("route", &self.route).finish_non_exhaustive()
    }
}

impl Client {
    #[must_use]
    pub fn new(config: Arc<Alertmanager>, route: RouteName, metrics: Arc<Metrics>) -> Self {
        Self { config, route, metrics }
    }

    /// How many peers are configured.
    #[must_use]
    pub fn peers(&self) -> usize {
        self.config.urls.len()
    }

    /// The alerts that a peer routes to this receiver, from `/alerts/groups`. `peer`: only that one; else the first that
    /// answers. Returns which one did.
    ///
    /// # Errors
    /// When none answers.
    pub async fn alerts_of_receiver(
        &self,
        receiver: &str,
        peer: Option<usize>,
    ) -> Result<(usize, Vec<ApiAlert>), ApiError> {
        let _ = (receiver, peer, &self.metrics);
        Err(unfinished())
    }

    /// The alerts of all receivers that match these labels by equality, from `/alerts`.
    ///
    /// # Errors
    /// When no peer answers.
    pub async fn alerts_with(&self, labels: &[(String, String)]) -> Result<Vec<ApiAlert>, ApiError> {
        let _ = labels;
        Err(unfinished())
    }

    /// All silences, the expired ones included only if `expired`. `peer` as above.
    ///
    /// # Errors
    /// When no peer answers.
    pub async fn silences(&self, expired: bool, peer: Option<usize>) -> Result<Vec<ApiSilence>, ApiError> {
        let _ = (expired, peer);
        Err(unfinished())
    }

    /// # Errors
    /// When this peer does not answer.
    pub async fn status(&self, peer: usize) -> Result<PeerStatus, ApiError> {
        let _ = peer;
        Err(unfinished())
    }

    /// Makes or extends a silence and returns its id. The next peer is tried only if nothing was sent to the one before.
    ///
    /// # Errors
    /// [`ApiFault::InDoubt`]: it may have been made.
    pub async fn post_silence(&self, silence: &NewSilence) -> Result<String, ApiError> {
        let _ = silence;
        Err(unfinished())
    }

    /// Expires a silence. One that is over or unknown already is no error.
    ///
    /// # Errors
    /// When no peer answers.
    pub async fn expire_silence(&self, id: &str) -> Result<(), ApiError> {
        let _ = id;
        Err(unfinished())
    }
}

fn unfinished() -> ApiError {
    ApiError { kind: ApiFault::NotSent, detail: "not implemented".to_owned() }
}
