//! Ops: frozen, on their way, acknowledged, in doubt, given back, replaced or set aside. And answers, which are no card's
//! events.

pub(crate) mod answers;
pub(crate) mod dead_letter;
pub(crate) mod dead_letters;
pub(crate) mod in_doubt;
pub(crate) mod ops;
pub(crate) mod sql;
