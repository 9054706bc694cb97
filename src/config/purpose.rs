//! What a config is read for, and so how much of it must be set.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Needs a homeserver, a user and at least one route with a room. Secret files are read.
    Serve,
    /// For commands that post webhooks: needs their credentials and the address, no account and no room. Secret files are
    /// read.
    Webhook,
    /// Needs a homeserver and a user; rooms may follow after the login. Secret files are read.
    Login,
    /// Needs nothing: the stored session says what to end. Secret files are read.
    Logout,
    /// For commands that ask a source of evidence: needs nothing else. Secret files are read.
    Query,
    /// For commands that need no server: a missing key reads as its default or a placeholder, and no secret file is opened.
    /// What is set must still be valid.
    Render,
}

impl Purpose {
    pub(super) fn needs_account(self) -> bool {
        matches!(self, Self::Serve | Self::Login)
    }

    pub(super) fn needs_rooms(self) -> bool {
        self == Self::Serve
    }

    pub(super) fn reads_secrets(self) -> bool {
        self != Self::Render
    }
}
