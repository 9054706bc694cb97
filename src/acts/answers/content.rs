//! An answer as an event, frozen before it is sent.

use crate::{
    evidence::make::Piece,
    model::{Act, TxnId},
    render::{answer::Answer, answer_content, reaction_content},
    store::ActAnswer,
};

/// What a command that was carried out is marked with.
const DONE: &str = "✅";

/// A notice in the thread in which it was asked; for a command in the room, in a thread that begins with it.
#[must_use]
pub fn notice(act: &Act, answer: &Answer) -> ActAnswer {
    let txn_id = fresh();
    let content = answer_content(&answer.message(), Some(place(act)), &txn_id, act.incident.as_ref());
    ActAnswer { txn_id, event_type: "m.room.message", content }
}

/// Evidence, in the same place.
#[must_use]
pub fn evidence(act: &Act, piece: &Piece) -> ActAnswer {
    let txn_id = fresh();
    let content = piece.content(place(act), &txn_id, act.incident.as_ref());
    ActAnswer { txn_id, event_type: "m.room.message", content }
}

/// The thread in which an act is answered, and the event that the answer replies to.
fn place(act: &Act) -> (&str, &str) {
    let root = act.args.thread.as_deref().unwrap_or(&act.event_id);
    // A reaction or redaction is not part of the thread.
    (root, if act.args.by_reaction || !act.args.in_thread { root } else { &act.event_id })
}

/// The mark on a command; a reaction shows by itself that it came.
#[must_use]
pub fn tick(act: &Act) -> Option<ActAnswer> {
    if act.args.by_reaction {
        return None;
    }
    let txn_id = fresh();
    let content = reaction_content(&act.event_id, DONE, &txn_id, act.incident.as_ref());
    Some(ActAnswer { txn_id, event_type: "m.reaction", content })
}

fn fresh() -> TxnId {
    TxnId(ulid::Ulid::new().to_string())
}
