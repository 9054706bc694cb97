//! What people ask for from a room: takes their events, decides who may, carries it out, and answers.

pub mod command;
pub mod reaction;
pub mod rights;
pub mod rooms;
