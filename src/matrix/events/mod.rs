//! Events: sending them, finding those that were sent, uploading files for them, and taking those of others that may ask for something.

pub(crate) mod acting;
pub(crate) mod media;
pub(crate) mod presence;
pub(crate) mod read_back;
pub(crate) mod send;
pub(crate) mod sending_device;
