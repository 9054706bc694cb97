//! What people ask for in rooms: committed before it is carried out, with its outcome and its answers.

pub(crate) mod carry_out;
pub(crate) mod commit;
pub(crate) mod due;
pub(crate) mod read;
pub(crate) mod retention;
pub(crate) mod rows;
pub(crate) mod silences;
pub(crate) mod target;
