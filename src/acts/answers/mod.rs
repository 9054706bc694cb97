//! What a room is answered: the words, and the frozen events that carry them.

pub mod content;
pub mod lists;
pub mod words;
