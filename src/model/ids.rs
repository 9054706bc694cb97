//! Names and ids. Each is a newtype, so that a room can never be passed where a route is meant.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// One accepted webhook (a ULID). Appears in the 200 answer and in every log line about it.
    NotificationId
);
id!(
    /// One incident (a ULID).
    IncidentId
);
id!(
    /// One card (a ULID).
    CardId
);
id!(
    /// The Matrix transaction id of an op: random, and frozen before the first send.
    TxnId
);
id!(
    /// How a room is named where no credentials are asked for: `<route>/<n>`, counted from 1 in the order of the config.
    RoomName
);

impl RoomName {
    /// What a room is called that no route names any more, while its cards get their last edit.
    #[must_use]
    pub fn unrouted() -> Self {
        Self("unrouted".to_owned())
    }
}

/// The name of a route: `[a-z0-9-]+`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteName(String);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a route name is made of a-z, 0-9 and '-'")]
pub struct RouteNameError;

impl RouteName {
    /// # Errors
    /// When the name is empty or holds anything but `a-z`, `0-9` and `-`.
    pub fn parse(name: &str) -> Result<Self, RouteNameError> {
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || !name.chars().all(good) {
            return Err(RouteNameError);
        }
        Ok(Self(name.to_owned()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RouteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A room as the config names it: an id (`!opaque` or `!opaque:server`; room version 12 ids have no server part)
/// or an alias (`#name:server`). The key of a lane: it stays the same when an alias is resolved again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomAddress(String);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a room is an id like \"!abc:example.org\" or an alias like \"#ops:example.org\"")]
pub struct RoomAddressError;

impl RoomAddress {
    /// # Errors
    /// When it is neither a room id nor an alias, or longer than Matrix's 255 bytes.
    pub fn parse(address: &str) -> Result<Self, RoomAddressError> {
        let clean = address.len() <= 255 && !address.chars().any(|c| c.is_whitespace() || c.is_control());
        let shaped = match address.as_bytes() {
            [b'!', rest @ ..] => !rest.is_empty() && rest[0] != b':',
            [b'#', rest @ ..] => rest.iter().position(|b| *b == b':').is_some_and(|at| at > 0 && at + 1 < rest.len()),
            _ => false,
        };
        if clean && shaped { Ok(Self(address.to_owned())) } else { Err(RoomAddressError) }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    #[must_use]
    pub fn is_alias(&self) -> bool {
        self.0.starts_with('#')
    }
}

impl fmt::Display for RoomAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
