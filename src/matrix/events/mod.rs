//! Events: sending them, finding those that were sent, and taking those of others that may ask for something.

pub(crate) mod acting;
pub(crate) mod presence;
pub(crate) mod read_back;
pub(crate) mod send;
