//! `[matrix]`.

use std::{collections::BTreeMap, path::PathBuf};

use crate::{
    config::{homeserver::Homeserver, secret::Secret},
    model::RoomAddress,
};

/// Placeholders for commands that need no account; `.invalid` never resolves (RFC 2606).
pub(in crate::config) const NO_HOMESERVER: &str = "https://homeserver.invalid/";
pub(in crate::config) const NO_USER: &str = "@receiver:homeserver.invalid";

#[derive(Clone, Debug)]
pub struct Matrix {
    pub homeserver: Homeserver,
    /// `@local:server`.
    pub user_id: String,
    /// `None`: only a session that `login` stored can be used.
    pub credential: Option<Credential>,
    /// Opens the account's secret storage on a new device; `None`: the one in `store.path`, if there is one.
    pub recovery_key: Option<Secret>,
    /// What the keys in `store.path` are encrypted with; `None`: nothing but the file system's permissions.
    pub store_passphrase: Option<Secret>,
    /// PEM certificates of authorities to trust beside those of the system.
    pub ca_file: Option<PathBuf>,
    pub proxy: Proxy,
    /// The room that an alias stands for, as the operator pinned it.
    pub aliases: BTreeMap<RoomAddress, RoomAddress>,
}

/// How the homeserver is reached.
#[derive(Clone, Debug)]
pub enum Proxy {
    /// As `HTTPS_PROXY`, `NO_PROXY` and the like say.
    Environment,
    /// Directly, whatever the environment says.
    None,
    /// A URL that may hold user name and password.
    Url(Secret),
}

impl Matrix {
    /// Whether the homeserver is a placeholder.
    #[must_use]
    pub fn lacks_homeserver(&self) -> bool {
        self.homeserver.as_str() == NO_HOMESERVER
    }

    /// Whether the user is a placeholder.
    #[must_use]
    pub fn lacks_user(&self) -> bool {
        self.user_id == NO_USER
    }
}

#[derive(Clone, Debug)]
pub enum Credential {
    AccessToken(Secret),
    Password(Secret),
}
