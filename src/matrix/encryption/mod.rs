//! Room keys, cross-signing and recovery, by which readers trust the device.

pub(crate) mod expired_keys;
pub(crate) mod recovery;
pub(crate) mod room_keys;
pub(crate) mod trust;
pub(crate) mod upkeep;
