//! Bare requests, for what must be known before the SDK can have a session: whose token this is, and logging in.

use std::{borrow::Cow, collections::BTreeSet, time::Duration};

use matrix_sdk::{
    HttpError, reqwest,
    ruma::{
        OwnedDeviceId, UserId,
        api::{
            IncomingResponse, MatrixVersion, OutgoingRequest, SupportedVersions,
            auth_scheme::{AuthScheme, SendAccessToken},
            client::{
                account::whoami,
                keys::get_keys::v3 as get_keys,
                session::{login::v3 as login, logout::v3 as logout},
                uiaa::{MatrixUserIdentifier, UserIdentifier},
            },
            error::FromHttpResponseError,
            path_builder::PathBuilder,
        },
        exports::http,
    },
};
use url::Url;

use super::errors;
use crate::delivery::{Reason, SendError};

/// A bare request must answer within this.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How other sessions of the account see this one.
const DISPLAY_NAME: &str = "matrix-alertmanager-receiver";

#[derive(Clone, Debug)]
pub(super) struct Wire {
    /// Shared with the SDK, so that there is one pool of connections.
    pub http: reqwest::Client,
    pub homeserver: Url,
}

/// Who a token belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub user: String,
    pub device: Option<String>,
}

/// What a login gave.
pub(super) struct LoggedIn {
    pub user: String,
    pub device: String,
    pub token: String,
}

impl Wire {
    /// # Errors
    /// When no TLS client can be made (no root certificates, for one).
    pub fn new(homeserver: &Url) -> Result<Self, SendError> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("matrix-alertmanager-receiver/", env!("CARGO_PKG_VERSION")))
            // Lets "cannot connect" be told apart from "no answer": in the first case nothing was sent.
            .connect_timeout(TIMEOUT)
            .build()
            .map_err(|error| errors::fault(Reason::NotReady, format!("cannot make an HTTPS client: {error}")))?;
        let mut homeserver = homeserver.clone();
        // Credentials in a URL would end up in the SDK's logs.
        if homeserver.set_username("").and_then(|()| homeserver.set_password(None)).is_err() {
            return Err(errors::fault(Reason::NotReady, "matrix.homeserver is not a URL of a server"));
        }
        Ok(Self { http, homeserver })
    }

    pub async fn whoami(&self, token: &str) -> Result<Owner, SendError> {
        let answer = self.ask(whoami::v3::Request::new(), SendAccessToken::IfRequired(token)).await;
        let answer = answer.map_err(|error| errors::http(&error).error)?;
        Ok(Owner { user: answer.user_id.into(), device: answer.device_id.map(Into::into) })
    }

    /// Logs in with a password. With `device`, that device gets a new token instead of a new device being made.
    pub async fn log_in(&self, user: &str, password: &str, device: Option<&str>) -> Result<LoggedIn, SendError> {
        let who = UserIdentifier::Matrix(MatrixUserIdentifier::new(user.to_owned()));
        let proof = login::LoginInfo::Password(login::Password::new(who, password.to_owned()));
        let mut request = login::Request::new(proof);
        request.device_id = device.map(OwnedDeviceId::from);
        request.initial_device_display_name = Some(DISPLAY_NAME.to_owned());
        let answer = self.ask(request, SendAccessToken::None).await.map_err(|error| login_refusal(&error))?;
        Ok(LoggedIn { user: answer.user_id.into(), device: answer.device_id.into(), token: answer.access_token })
    }

    /// The signing key (Ed25519, base64) that the homeserver has for a device; `None`: no client has made keys for it.
    pub async fn device_key(&self, user: &str, device: &str, token: &str) -> Result<Option<String>, SendError> {
        let user = UserId::parse(user)
            .map_err(|error| errors::fault(Reason::NotReady, format!("matrix.user_id is not a user id: {error}")))?;
        let mut request = get_keys::Request::new();
        request.device_keys.insert(user.clone(), vec![OwnedDeviceId::from(device)]);
        let answer = self.ask(request, SendAccessToken::IfRequired(token)).await;
        let answer = answer.map_err(|error| errors::http(&error).error)?;
        let device = OwnedDeviceId::from(device);
        let Some(keys) = answer.device_keys.get(&user).and_then(|devices| devices.get(&device)) else {
            return Ok(None);
        };
        let keys = keys.deserialize_as_unchecked::<serde_json::Value>().unwrap_or_default();
        let key = keys["keys"][format!("ed25519:{device}")].as_str();
        // Keys that cannot be read are keys all the same.
        Ok(Some(key.unwrap_or_default().to_owned()))
    }

    /// Ends a token and its device. One that is over already is no error.
    pub async fn log_out(&self, token: &str) -> Result<(), SendError> {
        match self.ask(logout::Request::new(), SendAccessToken::IfRequired(token)).await {
            Ok(_) => Ok(()),
            Err(error) => match errors::http(&error).error {
                fault if fault.reason == Reason::TokenRejected => Ok(()),
                fault => Err(fault),
            },
        }
    }

    pub(super) async fn ask<R>(&self, request: R, token: SendAccessToken<'_>) -> Result<R::IncomingResponse, HttpError>
    where
        R: OutgoingRequest,
        R::Authentication: for<'a> AuthScheme<Input<'a> = SendAccessToken<'a>>,
        R::PathBuilder: for<'a> PathBuilder<Input<'a> = Cow<'a, SupportedVersions>>,
        HttpError: From<FromHttpResponseError<R::EndpointError>>,
    {
        // Every homeserver in use has the v3 paths.
        let versions = SupportedVersions { versions: BTreeSet::from([MatrixVersion::V1_1]), features: BTreeSet::new() };
        let request: http::Request<Vec<u8>> = request
            .try_into_http_request(self.homeserver.as_str(), token, Cow::Owned(versions))
            .map_err(HttpError::IntoHttp)?;
        let mut request = reqwest::Request::try_from(request)?;
        *request.timeout_mut() = Some(TIMEOUT);
        let answer = self.http.execute(request).await?;
        let mut whole = http::Response::builder().status(answer.status());
        for (name, value) in answer.headers() {
            whole = whole.header(name, value);
        }
        let body = answer.bytes().await?;
        let whole = whole.body(body).map_err(|error| HttpError::IntoHttp(error.into()))?;
        Ok(R::IncomingResponse::try_from_http_response(whole)?)
    }
}

/// A refused login is the credential's fault, whatever 4xx it came as.
fn login_refusal(error: &HttpError) -> SendError {
    let SendError { reason, retry_after, detail } = errors::http(error).error;
    match reason {
        Reason::RoomRefused | Reason::BadEvent | Reason::TokenRejected => {
            SendError { reason: Reason::TokenRejected, retry_after, detail: format!("login refused: {detail}") }
        }
        _ => SendError { reason, retry_after, detail },
    }
}
