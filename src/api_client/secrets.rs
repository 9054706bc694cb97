//! The secrets that a request carries.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::{
    RequestBuilder,
    header::{HeaderName, HeaderValue},
};

use crate::{
    config::{ApiAuth, Secret},
    file_watch,
};

/// The secrets of one request, as their files have them now.
pub(crate) struct Secrets {
    auth: ApiAuth,
    headers: Vec<(String, Secret)>,
}

impl Secrets {
    pub(crate) async fn read(auth: &ApiAuth, headers: &[(String, Secret)]) -> Self {
        let auth = match auth {
            ApiAuth::None => ApiAuth::None,
            ApiAuth::Bearer(token) => ApiAuth::Bearer(current(token).await),
            ApiAuth::Basic { username, password } => {
                ApiAuth::Basic { username: username.clone(), password: current(password).await }
            }
        };
        let mut now = Vec::with_capacity(headers.len());
        for (name, value) in headers {
            now.push((name.clone(), current(value).await));
        }
        Self { auth, headers: now }
    }

    pub(crate) fn add_to(&self, mut request: RequestBuilder) -> RequestBuilder {
        for (name, value) in &self.headers {
            // The config has valid ones only; a file may hold anything meanwhile.
            if let (Ok(name), Ok(mut value)) =
                (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value.expose()))
            {
                value.set_sensitive(true);
                request = request.header(name, value);
            }
        }
        match &self.auth {
            ApiAuth::None => request,
            ApiAuth::Bearer(token) => request.bearer_auth(token.expose()),
            ApiAuth::Basic { username, password } => request.basic_auth(username, Some(password.expose())),
        }
    }

    /// `text` without any of the secrets: a server may repeat what it was sent.
    pub(crate) fn blanked(&self, text: &str) -> String {
        let (of_auth, as_sent) = match &self.auth {
            ApiAuth::None => (None, None),
            ApiAuth::Bearer(secret) => (Some(secret), None),
            ApiAuth::Basic { username, password } => {
                (Some(password), Some(STANDARD.encode(format!("{username}:{}", password.expose()))))
            }
        };
        let secrets = of_auth.into_iter().chain(self.headers.iter().map(|(_, value)| value));
        // A short value, such as the name of a tenant, is part of many words.
        let long = secrets.map(Secret::expose).chain(as_sent.as_deref()).filter(|secret| secret.len() > 3);
        long.fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
    }
}

/// The secret as its file has it now; the previous one while the file has no usable content, which a reload reports.
async fn current(secret: &Secret) -> Secret {
    let Some(file) = secret.file() else { return secret.clone() };
    let bytes = file_watch::read(file).await.ok();
    bytes.and_then(|bytes| secret.renewed(bytes).ok()).unwrap_or_else(|| secret.clone())
}
