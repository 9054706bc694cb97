//! Dead man's switches: what webhooks say of them, and the incidents that missing ones are.

pub(crate) mod alarms;
pub(crate) mod beats;
mod rows;
