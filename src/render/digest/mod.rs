//! Several incidents in one message: the digest of a storm, the replies in its thread, and the notice that many cards
//! turn green.

mod content;
pub(super) mod green;
mod head;
mod row;
pub(super) mod storm;
pub(super) mod thread;
