//! What people ask for from a room: takes their events, decides who may, carries it out, and answers.
//!
//! [`listener`] turns events into acts and commits them; [`worker`] carries them out and commits what became of them
//! together with the answers, which the room's lane sends.

pub mod answers;
pub mod command;
pub mod context;
pub mod limits;
pub mod listener;
pub mod reaction;
pub mod rights;
pub mod rooms;
pub mod silence;
pub mod work;
pub mod worker;

pub use self::{
    context::{ActContext, ActSettings, Clients},
    limits::Limits,
    listener::Listener,
};

#[cfg(test)]
mod tests;
