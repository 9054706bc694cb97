//! The words of the field: alert, incident, card, note, op. Plain data, no I/O, nothing of ours imported.

mod act;
mod alert;
mod card;
mod changes;
mod evidence;
mod fault;
mod form;
mod heartbeat;
mod ids;
mod incident;
mod lease;
mod no_keys;
mod op;
mod poll;
mod room;
mod room_event;
mod seen;
mod time;

pub use act::{Act, ActArgs, ActKind, ActState, MAX_TAKEN, Taken, Trust};
pub use alert::{Alert, AlertDoc, AlertKey, AlertState, Labels, name_hash};
pub use card::{Card, CardKind, CardState, Note, NoteArgs, NoteKind};
pub use changes::{Changes, IncidentWrite, Known, LiveCard, NewNote, Outcome};
pub use evidence::{EvidenceKind, ShownCard};
pub use fault::{Reason, Scope, SendError};
pub use form::Form;
pub use heartbeat::{Beat, Switch, SwitchKey};
pub use ids::{
    CardId, IncidentId, NotificationId, RoomAddress, RoomAddressError, RoomName, RouteName, RouteNameError, TxnId,
};
pub use incident::{HEARTBEATS, Incident, IncidentDoc, IncidentKey, IncidentState, LeftOut};
pub use lease::{Epoch, Leader};
pub use no_keys::NoKeys;
pub use op::{Op, OpKind, OpState};
pub use poll::{Conclusion, Found, PollMark, PolledAlert, PolledIncident};
pub use room::{ResolvedRoom, RoomAliases};
pub use room_event::{Member, RoomEvent, RoomEventContent, RoomEvents};
pub use seen::{Finding, KnownSilence, Seen};
pub use time::Timestamp;
