//! Requests that need no session: whose token it is, logging in and out, and which keys the homeserver shows to others.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use matrix_sdk::{
    HttpError, reqwest,
    ruma::{
        DeviceId, OwnedDeviceId, OwnedUserId, UserId,
        api::{
            IncomingResponse, MatrixVersion, OutgoingRequest, SupportedVersions,
            auth_scheme::{AuthScheme, SendAccessToken},
            client::{
                account::whoami,
                keys::get_keys::v3 as get_keys,
                session::{login::v3 as login, logout::v3 as logout, refresh_token::v3 as refresh},
                uiaa::{MatrixUserIdentifier, UserIdentifier},
            },
            error::{ErrorKind, FromHttpResponseError},
            path_builder::PathBuilder,
        },
        encryption::CrossSigningKey,
        exports::http,
        serde::Raw,
    },
};
use serde_json::Value;
use url::Url;

use super::{
    errors::{self, ApiError},
    http_client,
};
use crate::{
    config,
    model::{Reason, SendError},
};

/// The time limit of most requests.
const TIMEOUT: Duration = Duration::from_secs(10);
/// All current homeservers have the v3 paths; refreshing tokens has the same path since 1.3.
pub(crate) const API_VERSION: MatrixVersion = MatrixVersion::V1_3;
/// The receiver's device, as other sessions of the account show it.
pub(crate) const OWN_DEVICE: &str = "matrix-alertmanager-receiver";
/// The device that all replicas send to plain rooms with.
pub(crate) const SHARED_DEVICE: &str = "matrix-alertmanager-receiver (shared by all replicas, no encryption)";

/// A client for the homeserver's client-server API.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    /// The SDK shares it, so that there is one pool of connections.
    pub http: reqwest::Client,
    pub homeserver: Url,
}

/// The user and device that a token belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenOwner {
    pub user: String,
    pub device: Option<String>,
}

/// What the homeserver publishes of an account's identity (cross-signing) and of one of its devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PublishedKeys {
    /// The public part of the identity's master key, base64.
    pub master: Option<String>,
    /// Whether the device comes with a signature by the identity's self-signing key.
    pub signed: bool,
}

/// The session that a login created.
pub(crate) struct LoginResponse {
    pub user: String,
    pub device: String,
    pub token: String,
    pub validity: TokenValidity,
}

/// How long a token lasts, and how to get the next one; empty for a token that never expires.
#[derive(Clone, Debug, Default)]
pub(crate) struct TokenValidity {
    pub lifetime: Option<Duration>,
    pub refresh_token: Option<String>,
}

impl Api {
    /// Builds the HTTP client, and looks the homeserver up if the config has only its name.
    ///
    /// # Errors
    /// When the client cannot be built (for example without root certificates), or the lookup fails for now.
    pub async fn new(config: &config::Matrix) -> Result<Self, SendError> {
        let http = http_client::build(config).map_err(|why| errors::send_error(Reason::NotReady, why))?;
        let homeserver = http_client::locate(&http, &config.homeserver).await?;
        Ok(Self { http, homeserver })
    }

    /// For tests against a scripted homeserver.
    #[cfg(test)]
    pub fn at(url: &str) -> Self {
        Self { http: reqwest::Client::new(), homeserver: url.parse().expect("a URL") }
    }

    pub async fn whoami(&self, token: &str) -> Result<TokenOwner, ApiError> {
        let answer = self.request(whoami::v3::Request::new(), SendAccessToken::IfRequired(token)).await?;
        Ok(TokenOwner { user: answer.user_id.into(), device: answer.device_id.map(Into::into) })
    }

    /// Logs in with a password. With `device`, that device gets a new token, and no new device is created if it exists.
    /// `name`: what a new device is called.
    ///
    /// A token that never expires is preferred. Only where the homeserver expires it, a second login asks for one that
    /// can be refreshed: homeservers give those a short life.
    pub async fn log_in(
        &self,
        user: &str,
        password: &str,
        device: Option<&str>,
        name: &str,
    ) -> Result<LoginResponse, SendError> {
        let made = self.log_in_once(user, password, device, name, false).await?;
        if made.validity.lifetime.is_none() || made.validity.refresh_token.is_some() {
            return Ok(made);
        }
        Ok(self.log_in_once(user, password, Some(&made.device), name, true).await.unwrap_or(made))
    }

    async fn log_in_once(
        &self,
        user: &str,
        password: &str,
        device: Option<&str>,
        name: &str,
        refreshable: bool,
    ) -> Result<LoginResponse, SendError> {
        let who = UserIdentifier::Matrix(MatrixUserIdentifier::new(user.to_owned()));
        let proof = login::LoginInfo::Password(login::Password::new(who, password.to_owned()));
        let mut request = login::Request::new(proof);
        request.device_id = device.map(OwnedDeviceId::from);
        request.initial_device_display_name = Some(name.to_owned());
        request.refresh_token = refreshable;
        let answer = self.request(request, SendAccessToken::None).await.map_err(login_error)?;
        let validity = TokenValidity { lifetime: answer.expires_in, refresh_token: answer.refresh_token };
        Ok(LoginResponse {
            user: answer.user_id.into(),
            device: answer.device_id.into(),
            token: answer.access_token,
            validity,
        })
    }

    /// Replaces a token that has expired or soon will. The old refresh token stays valid until the new access token is
    /// used, so a lost answer does no harm.
    pub async fn refresh(&self, refresh_token: &str) -> Result<(String, TokenValidity), SendError> {
        let request = refresh::Request::new(refresh_token.to_owned());
        let answer = self.request(request, SendAccessToken::None).await.map_err(login_error)?;
        let refresh_token = answer.refresh_token.unwrap_or_else(|| refresh_token.to_owned());
        Ok((answer.access_token, TokenValidity { lifetime: answer.expires_in_ms, refresh_token: Some(refresh_token) }))
    }

    /// The signing key (Ed25519, base64) that the homeserver has for a device; `None`: no client created keys for it.
    pub async fn device_key(&self, user: &str, device: &str, token: &str) -> Result<Option<String>, SendError> {
        let user = parse_user(user)?;
        let device = OwnedDeviceId::from(device);
        let mut request = get_keys::Request::new();
        request.device_keys.insert(user.clone(), vec![device.clone()]);
        let answer = self.request(request, SendAccessToken::IfRequired(token)).await?;
        let Some(keys) = answer.device_keys.get(&user).and_then(|devices| devices.get(&device)) else {
            return Ok(None);
        };
        let keys = keys.deserialize_as_unchecked::<Value>().unwrap_or_default();
        let key = keys["keys"][format!("ed25519:{device}")].as_str();
        // Keys that cannot be parsed are still keys.
        Ok(Some(key.unwrap_or_default().to_owned()))
    }

    /// The account's keys as other users see them.
    pub async fn published_keys(
        &self,
        user: &UserId,
        device: &DeviceId,
        token: &str,
    ) -> Result<PublishedKeys, SendError> {
        let mut request = get_keys::Request::new();
        // All devices: one that is requested alone may come without the identity's signature.
        request.device_keys.insert(user.to_owned(), Vec::new());
        let answer = self.request(request, SendAccessToken::IfRequired(token)).await?;
        let key_of = |keys: &BTreeMap<OwnedUserId, Raw<CrossSigningKey>>| {
            let json = keys.get(user)?.deserialize_as_unchecked::<Value>().ok()?;
            json["keys"].as_object()?.values().next()?.as_str().map(ToOwned::to_owned)
        };
        let device = answer.device_keys.get(user).and_then(|devices| devices.get(device));
        let device = device.and_then(|keys| keys.deserialize_as_unchecked::<Value>().ok()).unwrap_or_default();
        let by = key_of(&answer.self_signing_keys).map(|key| format!("ed25519:{key}"));
        let signed = by.is_some_and(|key| device["signatures"][user.as_str()][key].is_string());
        Ok(PublishedKeys { master: key_of(&answer.master_keys), signed })
    }

    /// Ends a token and its device. A token that has ended already is not an error.
    pub async fn log_out(&self, token: &str) -> Result<(), SendError> {
        match self.request(logout::Request::new(), SendAccessToken::IfRequired(token)).await.map_err(SendError::from) {
            Err(error) if error.reason != Reason::TokenRejected => Err(error),
            _ => Ok(()),
        }
    }

    pub async fn request<R>(&self, request: R, token: SendAccessToken<'_>) -> Result<R::IncomingResponse, RequestError>
    where
        R: OutgoingRequest,
        R::Authentication: for<'a> AuthScheme<Input<'a> = SendAccessToken<'a>>,
        R::PathBuilder: for<'a> PathBuilder<Input<'a> = Cow<'a, SupportedVersions>>,
        HttpError: From<FromHttpResponseError<R::EndpointError>>,
    {
        self.request_within(request, token, TIMEOUT).await
    }

    pub async fn request_within<R>(
        &self,
        request: R,
        token: SendAccessToken<'_>,
        timeout: Duration,
    ) -> Result<R::IncomingResponse, RequestError>
    where
        R: OutgoingRequest,
        R::Authentication: for<'a> AuthScheme<Input<'a> = SendAccessToken<'a>>,
        R::PathBuilder: for<'a> PathBuilder<Input<'a> = Cow<'a, SupportedVersions>>,
        HttpError: From<FromHttpResponseError<R::EndpointError>>,
    {
        let versions = SupportedVersions { versions: BTreeSet::from([API_VERSION]), features: BTreeSet::new() };
        let request: http::Request<Vec<u8>> = request
            .try_into_http_request(self.homeserver.as_str(), token, Cow::Owned(versions))
            .map_err(HttpError::IntoHttp)?;
        let mut request = reqwest::Request::try_from(request)?;
        *request.timeout_mut() = Some(timeout);
        let answer = self.http.execute(request).await?;
        let retry_after = errors::retry_after_in_headers(answer.headers());
        let mut whole = http::Response::builder().status(answer.status());
        for (name, value) in answer.headers() {
            whole = whole.header(name, value);
        }
        let body = answer.bytes().await?;
        let whole = whole.body(body).map_err(|error| HttpError::IntoHttp(error.into()))?;
        let answer = R::IncomingResponse::try_from_http_response(whole);
        answer.map_err(|error| RequestError { error: error.into(), retry_after })
    }
}

/// A request that failed, with the header that the SDK's errors drop.
#[derive(Debug)]
pub(crate) struct RequestError {
    error: HttpError,
    retry_after: Option<Duration>,
}

impl RequestError {
    pub fn is_not_found(&self) -> bool {
        self.error.client_api_error_kind() == Some(&ErrorKind::NotFound)
    }

    /// See [`ApiError::for_join`].
    pub fn for_join(self) -> SendError {
        ApiError::from(self).for_join()
    }
}

impl From<HttpError> for RequestError {
    fn from(error: HttpError) -> Self {
        Self { error, retry_after: None }
    }
}

impl From<reqwest::Error> for RequestError {
    fn from(error: reqwest::Error) -> Self {
        HttpError::Reqwest(error).into()
    }
}

impl From<RequestError> for ApiError {
    fn from(failed: RequestError) -> Self {
        let mut error = Self::from_http(&failed.error);
        if matches!(error.error.reason, Reason::RateLimited | Reason::ServerError) {
            error.error.retry_after = failed.retry_after.or(error.error.retry_after);
        }
        error
    }
}

impl From<RequestError> for SendError {
    fn from(failed: RequestError) -> Self {
        ApiError::from(failed).error
    }
}

/// # Errors
/// When `matrix.user_id` is not a user id.
pub(crate) fn parse_user(user: &str) -> Result<OwnedUserId, SendError> {
    UserId::parse(user)
        .map_err(|error| errors::send_error(Reason::NotReady, format!("matrix.user_id is not a user id: {error}")))
}

/// A refused login is about the credential, whatever its 4xx status.
fn login_error(failed: RequestError) -> SendError {
    let error = SendError::from(failed);
    match error.reason {
        Reason::RoomRefused | Reason::BadEvent | Reason::TokenRejected => {
            SendError { reason: Reason::TokenRejected, detail: format!("login refused: {}", error.detail), ..error }
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use wiremock::{
        Mock, MockServer, ResponseTemplate,
        matchers::{body_partial_json, method},
    };

    use super::*;

    #[tokio::test]
    async fn retry_after_is_obeyed_whatever_comes_with_it() {
        let date = "Wed, 21 Oct 2037 07:28:09 GMT";
        let bodies = [
            r#"{"errcode":"M_LIMIT_EXCEEDED","error":"slow","retry_after_ms":1}"#,
            r#"{"errcode":"M_UNKNOWN","error":"busy"}"#,
            r#"{"message":"API rate limit exceeded"}"#,
            "<html>later</html>",
            "",
        ];
        for status in [429, 503] {
            for again in ["9", date] {
                for body in bodies {
                    let server = MockServer::start().await;
                    let answer = ResponseTemplate::new(status)
                        .insert_header("date", "Wed, 21 Oct 2037 07:28:00 GMT")
                        .insert_header("retry-after", again)
                        .set_body_string(body);
                    Mock::given(method("GET")).respond_with(answer).mount(&server).await;
                    let error = Api::at(&server.uri()).whoami("token").await.unwrap_err().error;
                    assert_eq!(error.retry_after, Some(Duration::from_secs(9)), "{status} {again} {body}: {error}");
                }
            }
        }
    }

    /// Only the answer says that tokens expire, and requesting refreshable ones makes them expire.
    #[tokio::test]
    async fn a_refresh_token_is_requested_only_where_tokens_expire() {
        for (ends, asked) in [(true, 2), (false, 1)] {
            let server = MockServer::start().await;
            let mut once = json!({ "user_id": "@a:x", "device_id": "D", "access_token": "first" });
            if ends {
                once["expires_in_ms"] = 60_000.into();
            }
            let mut again = once.clone();
            (again["access_token"], again["refresh_token"]) = ("second".into(), "more".into());
            let refreshable = json!({ "refresh_token": true, "device_id": "D" });
            let mock = Mock::given(method("POST")).and(body_partial_json(refreshable));
            mock.respond_with(ResponseTemplate::new(200).set_body_json(again)).mount(&server).await;
            let template = ResponseTemplate::new(200).set_body_json(once);
            Mock::given(method("POST")).respond_with(template).mount(&server).await;
            let api = Api::at(&server.uri());
            let made = api.log_in("@a:x", "password", None, OWN_DEVICE).await.unwrap();
            assert_eq!(made.token, if ends { "second" } else { "first" });
            assert_eq!(made.validity.refresh_token.is_some(), ends);
            assert_eq!(server.received_requests().await.unwrap().len(), asked);
        }
    }
}
