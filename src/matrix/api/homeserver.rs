//! Which homeserver software answers, as far as that changes what can be relied on.

use std::time::Duration;

use serde_json::Value;

use super::client::Api;

const TIMEOUT: Duration = Duration::from_secs(10);

/// Whether the homeserver is Synapse, which remembers transaction ids for a day and across restarts (`expire_after` of
/// its response cache, and the table `event_txn_id_device_id`); Dendrite keeps them in memory. `None`: it did not answer.
pub(crate) async fn is_synapse(api: &Api) -> Option<bool> {
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

    async fn detected(answer: ResponseTemplate) -> Option<bool> {
        let server = MockServer::start().await;
        Mock::given(path("/_matrix/client/versions")).respond_with(answer).mount(&server).await;
        is_synapse(&Api::at(&server.uri())).await
    }

    #[tokio::test]
    async fn synapse_is_detected_by_its_name_or_its_features() {
        let versions = |features: Value| json!({ "versions": ["v1.2"], "unstable_features": features });
        let plain = |features| ResponseTemplate::new(200).set_body_json(versions(features));
        let synapse = json!({ "io.element.e2ee_forced.public": false });
        let dendrite = json!({ "org.matrix.e2e_cross_signing": true });
        assert_eq!(detected(plain(synapse)).await, Some(true));
        assert_eq!(detected(plain(dendrite.clone())).await, Some(false));
        assert_eq!(detected(plain(dendrite).insert_header("server", "Synapse/1.163.2")).await, Some(true));
        assert_eq!(detected(ResponseTemplate::new(404)).await, None);
        assert_eq!(detected(ResponseTemplate::new(200).set_body_string("<html>")).await, None);
    }
}
