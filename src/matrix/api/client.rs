//! Bare requests, for what must be known before the SDK can have a session: whose token this is, and logging in.

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
    connection,
    errors::{self, Fault},
};
use crate::{
    config,
    model::{Reason, SendError},
};

/// A bare request must answer within this.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Every homeserver in use has the v3 paths; those that can refresh tokens have that one since 1.3.
pub(crate) const API_VERSION: MatrixVersion = MatrixVersion::V1_3;
/// How other sessions of the account see this one.
const DISPLAY_NAME: &str = "matrix-alertmanager-receiver";

#[derive(Clone, Debug)]
pub(crate) struct Api {
    /// Shared with the SDK, so that there is one pool of connections.
    pub http: reqwest::Client,
    pub homeserver: Url,
}

/// Who a token belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub user: String,
    pub device: Option<String>,
}

/// What the homeserver shows of an account's identity (cross-signing) and of one of its devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PublishedKeys {
    /// The public part of the identity's master key, base64.
    pub master: Option<String>,
    /// Whether the device comes with a signature by the identity's self-signing key.
    pub signed: bool,
}

/// What a login gave.
pub(crate) struct LoggedIn {
    pub user: String,
    pub device: String,
    pub token: String,
    /// What the token lives by, where it does not live for ever.
    pub validity: TokenValidity,
}

/// How long a token is good, and what gets the next one.
#[derive(Clone, Debug, Default)]
pub(crate) struct TokenValidity {
    pub lifetime: Option<Duration>,
    pub refresh_token: Option<String>,
}

impl Api {
    /// Looks the homeserver up, if only its name is given.
    ///
    /// # Errors
    /// When no client can be made (no root certificates, for one), or the name leads nowhere for now.
    pub async fn new(config: &config::Matrix) -> Result<Self, SendError> {
        let http = connection::client(config).map_err(|fault| errors::fault(Reason::NotReady, fault))?;
        let homeserver = connection::locate(&http, &config.homeserver).await?;
        Ok(Self { http, homeserver })
    }

    /// For tests against a homeserver that plays a part.
    #[cfg(test)]
    pub fn at(url: &str) -> Self {
        Self { http: reqwest::Client::new(), homeserver: url.parse().expect("a URL") }
    }

    pub async fn whoami(&self, token: &str) -> Result<Owner, SendError> {
        self.owner(token).await.map_err(SendError::from)
    }

    /// As [`Self::whoami`], with all that a refusal says.
    pub async fn owner(&self, token: &str) -> Result<Owner, Fault> {
        let answer = self.ask(whoami::v3::Request::new(), SendAccessToken::IfRequired(token)).await;
        let answer = answer.map_err(|error| error.fault())?;
        Ok(Owner { user: answer.user_id.into(), device: answer.device_id.map(Into::into) })
    }

    /// Logs in with a password. With `device`, that device gets a new token instead of a new device being made.
    ///
    /// A token that never ends is the best there is. Where the homeserver ends it, one that can be refreshed is asked for:
    /// that is not done at once, since homeservers give those a short life.
    pub async fn log_in(&self, user: &str, password: &str, device: Option<&str>) -> Result<LoggedIn, SendError> {
        let made = self.log_in_once(user, password, device, false).await?;
        if made.validity.lifetime.is_none() || made.validity.refresh_token.is_some() {
            return Ok(made);
        }
        match self.log_in_once(user, password, Some(&made.device), true).await {
            Ok(again) => Ok(again),
            Err(_) => Ok(made),
        }
    }

    async fn log_in_once(
        &self,
        user: &str,
        password: &str,
        device: Option<&str>,
        refreshable: bool,
    ) -> Result<LoggedIn, SendError> {
        let who = UserIdentifier::Matrix(MatrixUserIdentifier::new(user.to_owned()));
        let proof = login::LoginInfo::Password(login::Password::new(who, password.to_owned()));
        let mut request = login::Request::new(proof);
        request.device_id = device.map(OwnedDeviceId::from);
        request.initial_device_display_name = Some(DISPLAY_NAME.to_owned());
        request.refresh_token = refreshable;
        let answer = self.ask(request, SendAccessToken::None).await.map_err(|error| login_refusal(&error))?;
        let validity = TokenValidity { lifetime: answer.expires_in, refresh_token: answer.refresh_token };
        Ok(LoggedIn {
            user: answer.user_id.into(),
            device: answer.device_id.into(),
            token: answer.access_token,
            validity,
        })
    }

    /// A new token in place of one that is over or soon will be. The old refresh token may be used again until the new
    /// access token is: an answer that is lost loses nothing.
    pub async fn refresh(&self, refresh_token: &str) -> Result<(String, TokenValidity), SendError> {
        let request = refresh::Request::new(refresh_token.to_owned());
        let answer = self.ask(request, SendAccessToken::None).await.map_err(|error| login_refusal(&error))?;
        let refresh_token = answer.refresh_token.unwrap_or_else(|| refresh_token.to_owned());
        Ok((answer.access_token, TokenValidity { lifetime: answer.expires_in_ms, refresh_token: Some(refresh_token) }))
    }

    /// The signing key (Ed25519, base64) that the homeserver has for a device; `None`: no client has made keys for it.
    pub async fn device_key(&self, user: &str, device: &str, token: &str) -> Result<Option<String>, SendError> {
        let user = UserId::parse(user)
            .map_err(|error| errors::fault(Reason::NotReady, format!("matrix.user_id is not a user id: {error}")))?;
        let mut request = get_keys::Request::new();
        request.device_keys.insert(user.clone(), vec![OwnedDeviceId::from(device)]);
        let answer = self.ask(request, SendAccessToken::IfRequired(token)).await;
        let answer = answer.map_err(|error| error.fault().error)?;
        let device = OwnedDeviceId::from(device);
        let Some(keys) = answer.device_keys.get(&user).and_then(|devices| devices.get(&device)) else {
            return Ok(None);
        };
        let keys = keys.deserialize_as_unchecked::<Value>().unwrap_or_default();
        let key = keys["keys"][format!("ed25519:{device}")].as_str();
        // Keys that cannot be read are keys all the same.
        Ok(Some(key.unwrap_or_default().to_owned()))
    }

    /// What others are shown of the account.
    pub async fn published_keys(
        &self,
        user: &UserId,
        device: &DeviceId,
        token: &str,
    ) -> Result<PublishedKeys, SendError> {
        let mut request = get_keys::Request::new();
        // All of its devices: one that is asked for alone may come without the identity's signature.
        request.device_keys.insert(user.to_owned(), Vec::new());
        let answer = self.ask(request, SendAccessToken::IfRequired(token)).await;
        let answer = answer.map_err(|error| error.fault().error)?;
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

    /// Ends a token and its device. One that is over already is no error.
    pub async fn log_out(&self, token: &str) -> Result<(), SendError> {
        match self.ask(logout::Request::new(), SendAccessToken::IfRequired(token)).await {
            Ok(_) => Ok(()),
            Err(error) => match error.fault().error {
                fault if fault.reason == Reason::TokenRejected => Ok(()),
                fault => Err(fault),
            },
        }
    }

    pub(crate) async fn ask<R>(&self, request: R, token: SendAccessToken<'_>) -> Result<R::IncomingResponse, Refusal>
    where
        R: OutgoingRequest,
        R::Authentication: for<'a> AuthScheme<Input<'a> = SendAccessToken<'a>>,
        R::PathBuilder: for<'a> PathBuilder<Input<'a> = Cow<'a, SupportedVersions>>,
        HttpError: From<FromHttpResponseError<R::EndpointError>>,
    {
        self.ask_within(request, token, TIMEOUT).await
    }

    pub(crate) async fn ask_within<R>(
        &self,
        request: R,
        token: SendAccessToken<'_>,
        timeout: Duration,
    ) -> Result<R::IncomingResponse, Refusal>
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
        let asked = errors::retry_after_of(answer.headers());
        let mut whole = http::Response::builder().status(answer.status());
        for (name, value) in answer.headers() {
            whole = whole.header(name, value);
        }
        let body = answer.bytes().await?;
        let whole = whole.body(body).map_err(|error| HttpError::IntoHttp(error.into()))?;
        let answer = R::IncomingResponse::try_from_http_response(whole);
        answer.map_err(|error| Refusal { error: error.into(), asked })
    }
}

/// A request that failed, with what the SDK's errors do not keep of an answer.
#[derive(Debug)]
pub(crate) struct Refusal {
    error: HttpError,
    /// When to come again, as the answer's headers say.
    asked: Option<Duration>,
}

impl Refusal {
    pub fn fault(&self) -> Fault {
        let mut fault = errors::http(&self.error);
        if matches!(fault.error.reason, Reason::RateLimited | Reason::ServerError) {
            fault.error.retry_after = self.asked.or(fault.error.retry_after);
        }
        fault
    }

    pub fn kind(&self) -> Option<&ErrorKind> {
        self.error.client_api_error_kind()
    }
}

impl From<HttpError> for Refusal {
    fn from(error: HttpError) -> Self {
        Self { error, asked: None }
    }
}

impl From<reqwest::Error> for Refusal {
    fn from(error: reqwest::Error) -> Self {
        HttpError::Reqwest(error).into()
    }
}

/// A refused login is the credential's fault, whatever 4xx it came as.
fn login_refusal(error: &Refusal) -> SendError {
    let SendError { reason, retry_after, detail } = error.fault().error;
    match reason {
        Reason::RoomRefused | Reason::BadEvent | Reason::TokenRejected => {
            SendError { reason: Reason::TokenRejected, retry_after, detail: format!("login refused: {detail}") }
        }
        _ => SendError { reason, retry_after, detail },
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
                    let fault = Api::at(&server.uri()).whoami("token").await.unwrap_err();
                    assert_eq!(fault.retry_after, Some(Duration::from_secs(9)), "{status} {again} {body}: {fault}");
                }
            }
        }
    }

    /// Tokens that end are told of by the answer only, and asking for those that can be refreshed makes them end.
    #[tokio::test]
    async fn a_refresh_token_is_asked_for_only_where_tokens_end() {
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
            let made = api.log_in("@a:x", "password", None).await.unwrap();
            assert_eq!(made.token, if ends { "second" } else { "first" });
            assert_eq!(made.validity.refresh_token.is_some(), ends);
            assert_eq!(server.received_requests().await.unwrap().len(), asked);
        }
    }
}
