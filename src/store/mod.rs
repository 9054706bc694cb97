//! The only SQL: one SQLite file or one PostgreSQL database, one writer that commits in groups, a few readers.
//!
//! Nothing outside of this folder knows which database it is.

mod acts;
mod cards;
mod db;
mod handle;
mod heartbeats;
mod identity;
mod incidents;
mod outbox;
mod replicas;
mod reports;
mod rooms;

pub use crate::model::{Epoch, Leader};
pub use acts::carry_out::{ActEnd, Taking};
pub use acts::commit::{Heard, NewAct, Redacted};
pub use acts::read::{ActIncident, DatedIncident};
pub use acts::rows::{ActAnswer, DueAct, SilenceRow, SilenceRowState};
pub use acts::target::{ActTarget, TargetIncident};
pub use cards::due::{DueCard, DueCards, DueNotes, Snapshot};
pub use cards::unrouted::{Routing, Unrouted};
pub use db::error::StoreError;
pub use db::open::{keep_temporary_files_in, lock_folder, probe};
pub use handle::Store;
pub use heartbeats::alarms::{DecideSwitch, SwitchChange};
pub use incidents::escalations::{EscalationCandidate, EscalationStep};
pub use incidents::found::{Applied, Judge, Judged, OpenCursor};
pub use incidents::ingest::{Ingest, Ingested};
pub use incidents::rerouted::Move;
pub use outbox::answers::{Answer, NewAnswer, Unasked};
pub use outbox::dead_letter::{DeadLetter, Follows};
pub use outbox::in_doubt::{FoundRoot, Recorded};
pub use outbox::ops::OpenOps;
pub use outbox::sql::NewOp;
pub use replicas::copy::{Copied, CopyError, copy};
pub use replicas::look::{CONNECTIONS_OF_A_REPLICA, DatabaseFacts, SchemaState, look, look_for_session};
pub use reports::overview::{OpenIncident, Overview, PlacedCard, SeenIncident, WaitingCard};
pub use reports::stats::Stats;
pub use rooms::addresses::AddressChange;

#[cfg(test)]
mod tests;
