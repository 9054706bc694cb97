//! Cross-signing and recovery, by which readers trust the device.

pub(crate) mod recovery;
pub(crate) mod trust;
pub(crate) mod upkeep;
