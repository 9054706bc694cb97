//! What kind of homeserver this is, as far as it changes what may be relied on.

use std::{sync::atomic::Ordering, time::Duration};

use serde_json::Value;

use super::client::Api;
use crate::matrix::Account;

/// Asking must be over within this.
const TIMEOUT: Duration = Duration::from_secs(10);

impl Account {
    /// Finds out whether the homeserver is one that remembers transaction ids for a day and across its restarts. Synapse
    /// does (`expire_after` of its response cache, and the table `event_txn_id_device_id`); Dendrite keeps them in memory.
    pub(crate) async fn learn_kind(&self, api: &Api) {
        // No answer: what was known stays.
        if let Some(is_synapse) = is_synapse(api).await
            && self.remembers_transactions.swap(is_synapse, Ordering::Relaxed) != is_synapse
        {
            tracing::debug!(remembers_transactions = is_synapse, "found out what kind of homeserver it is");
        }
    }
}

async fn is_synapse(api: &Api) -> Option<bool> {
    let url = api.homeserver.join("_matrix/client/versions").ok()?;
    let answer = api.http.get(url).timeout(TIMEOUT).send().await.ok()?;
    // A proxy may put its own name there.
    let server = answer.headers().get("server").and_then(|name| name.to_str().ok());
    if server.is_some_and(|name| name.starts_with("Synapse/")) {
        return Some(true);
    }
    let json: Value = answer.json().await.ok()?;
    let features = json["unstable_features"].as_object()?;
    // Element's switches for encryption by default, which only Synapse has.
    Some(features.keys().any(|name| name.starts_with("io.element.e2ee_forced.")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use wiremock::{Mock, MockServer, ResponseTemplate, matchers::path};

    use super::*;

    async fn judged(answer: ResponseTemplate) -> Option<bool> {
        let server = MockServer::start().await;
        Mock::given(path("/_matrix/client/versions")).respond_with(answer).mount(&server).await;
        is_synapse(&Api::at(&server.uri())).await
    }

    #[tokio::test]
    async fn synapse_is_known_by_its_name_or_its_features() {
        let versions = |features: Value| json!({ "versions": ["v1.2"], "unstable_features": features });
        let plain = |features| ResponseTemplate::new(200).set_body_json(versions(features));
        let synapse = json!({ "io.element.e2ee_forced.public": false });
        let dendrite = json!({ "org.matrix.e2e_cross_signing": true });
        assert_eq!(judged(plain(synapse)).await, Some(true));
        assert_eq!(judged(plain(dendrite.clone())).await, Some(false));
        assert_eq!(judged(plain(dendrite).insert_header("server", "Synapse/1.163.2")).await, Some(true));
        assert_eq!(judged(ResponseTemplate::new(404)).await, None);
        assert_eq!(judged(ResponseTemplate::new(200).set_body_string("<html>")).await, None);
    }
}
