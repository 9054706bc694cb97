//! Why a room's events cannot be encrypted.

/// Why nothing can be encrypted: a closed set, fit for a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoKeys {
    /// The access token has no device, and keys belong to devices.
    NoDevice,
    /// Another client made the device's keys: going on would replace them.
    ForeignDevice,
    /// The receiver made the device's keys, and they are no longer in `store.path`.
    StoreLost,
    /// The keys are there and cannot be read.
    StoreFails,
    /// This replica has no device besides the shared one, which must not get keys.
    NoOwnDevice,
    /// The room's keys could not be made or shared just now.
    NotReady,
}

impl NoKeys {
    pub const ALL: [Self; 6] =
        [Self::NoDevice, Self::ForeignDevice, Self::StoreLost, Self::StoreFails, Self::NoOwnDevice, Self::NotReady];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoDevice => "no_device",
            Self::ForeignDevice => "foreign_device",
            Self::StoreLost => "store_lost",
            Self::StoreFails => "store_fails",
            Self::NoOwnDevice => "no_own_device",
            Self::NotReady => "not_ready",
        }
    }

    /// What is the matter, and what the operator can do about it.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Self::NoDevice => {
                "the access token has no device, so nothing can be encrypted: stop the receiver, run the command login \
                 for a device of its own, take the token out of the config and start again"
            }
            Self::ForeignDevice => {
                "the access token's device has keys that another client made (a token copied from Element?), and they \
                 are not replaced: stop the receiver, run the command login for a device of its own, take the token out \
                 of the config and start again"
            }
            Self::StoreLost => {
                "the keys of this device are no longer in store.path: put its folder matrix/ back from a backup, or \
                 stop the receiver, run the command login for a new device, take the token out of the config and start \
                 again"
            }
            Self::StoreFails => {
                "the keys of this device in store.path cannot be read; the log says why (another \
                 matrix.store_passphrase_file, or damage)"
            }
            Self::NoOwnDevice => {
                "this replica has only the device that all replicas share, which gets no keys: stop this replica, run the \
                 command login on it and start again, or set matrix.password_file"
            }
            Self::NotReady => "the room's keys could not be had just now; it is tried again",
        }
    }
}
