//! A session, and whether it can encrypt.

use matrix_sdk::Client;

use crate::model::{NoKeys, Timestamp};

/// A token that the homeserver has confirmed, and the device that it belongs to.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Session {
    /// Some tokens have no device, such as those that an admin API creates.
    pub device: Option<String>,
    pub token: String,
    /// When the token expires, if it does and can be renewed before.
    pub expires: Option<Timestamp>,
}

/// How a session sends.
#[derive(Clone)]
pub(crate) enum SessionMode {
    /// Through the SDK, which encrypts.
    WithKeys(Client),
    /// To plain rooms only.
    WithoutKeys(NoKeys),
}

/// A session that is in use.
#[derive(Clone)]
pub(crate) struct OpenSession {
    pub session: Session,
    pub mode: SessionMode,
}

impl OpenSession {
    pub fn client(&self) -> Option<&Client> {
        match &self.mode {
            SessionMode::WithKeys(client) => Some(client),
            SessionMode::WithoutKeys(_) => None,
        }
    }
}
