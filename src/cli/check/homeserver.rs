//! Plain requests to the homeserver. The SDK would open its store, which the running receiver has locked.

use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;
use url::Url;

use crate::{
    cli::support::{
        http_client::{self, ask},
        output::excerpt,
    },
    config, matrix,
};

/// Timeout of each request.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A client of the homeserver.
pub(super) struct Homeserver {
    client: Client,
    pub(super) base: Url,
    pub(super) token: Option<String>,
}

/// A response.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// `null` if it is not JSON.
    pub(super) json: Value,
    /// Status, error code and message in one line.
    pub(super) refusal: String,
}

impl Answer {
    pub(super) fn is_ok(&self) -> bool {
        self.status == 200 && self.json.is_object()
    }

    pub(super) fn errcode(&self) -> &str {
        self.json["errcode"].as_str().unwrap_or_default()
    }
}

impl Homeserver {
    /// # Errors
    /// When no client can be created, for example without root certificates.
    pub(super) async fn new(config: &config::Matrix) -> Result<Self, String> {
        // With the receiver's own proxies and redirects, to check what it would see.
        let client = matrix::http_client(config)?;
        let base = matrix::locate(&client, &config.homeserver).await;
        let base = base.map_err(|fault| format!("homeserver: {}", fault.detail))?;
        Ok(Self { client, base, token: None })
    }

    #[cfg(test)]
    pub(super) fn at(base: Url) -> Self {
        Self { client: Client::new(), base, token: None }
    }

    /// `GET` of a path whose parts are percent-encoded here.
    ///
    /// # Errors
    /// When there is no answer.
    pub(super) async fn get(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Answer, String> {
        self.ask(self.request(Method::GET, path).query(query)).await
    }

    /// `POST` of JSON, likewise. Only for requests that change nothing.
    ///
    /// # Errors
    /// As [`Homeserver::get`].
    pub(super) async fn post(&self, path: &[&str], body: &Value) -> Result<Answer, String> {
        self.ask(self.request(Method::POST, path).json(body)).await
    }

    /// Whose `token` it is, in place of the one that other requests carry.
    ///
    /// # Errors
    /// As [`Homeserver::get`].
    pub(super) async fn whoami(&self, token: &str) -> Result<Answer, String> {
        let with = Self { client: self.client.clone(), base: self.base.clone(), token: Some(token.to_owned()) };
        with.v3(&["account", "whoami"], &[]).await
    }

    fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        self.client.request(method, http_client::below(&self.base, path)).timeout(TIMEOUT)
    }

    async fn ask(&self, mut request: RequestBuilder) -> Result<Answer, String> {
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let answer = ask(request).await.map_err(|why| format!("homeserver: {}: {why}", self.base))?;
        let json: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        let words = match (json["errcode"].as_str(), json["error"].as_str()) {
            (Some(code), words) => format!("{code} {}", words.unwrap_or_default()),
            (None, _) if json.is_null() => "not an answer of a Matrix homeserver".to_owned(),
            (None, _) => "without a reason".to_owned(),
        };
        // A server may repeat the token in its answer.
        let words = self.token.as_ref().map_or_else(|| words.clone(), |token| words.replace(token.as_str(), "***"));
        let refusal = excerpt(&format!("{} {words}", answer.status));
        Ok(Answer { status: answer.status, json, refusal })
    }

    /// `GET /_matrix/client/v3/…`
    ///
    /// # Errors
    /// As [`Homeserver::get`].
    pub(super) async fn v3(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Answer, String> {
        self.get(&[&["_matrix", "client", "v3"], path].concat(), query).await
    }

    /// A state event with an empty state key: its content or, with `whole`, the event if the homeserver supports that.
    ///
    /// # Errors
    /// As [`Homeserver::get`].
    pub(super) async fn state(&self, room: &str, event_type: &str, whole: bool) -> Result<Answer, String> {
        let query: &[(&str, &str)] = if whole { &[("format", "event")] } else { &[] };
        self.v3(&["rooms", room, "state", event_type, ""], query).await
    }
}
