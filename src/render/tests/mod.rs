//! Snapshots and properties of everything that is rendered.

mod cards;
pub(super) mod check;
mod digests;
mod events;
mod heartbeats;
mod held_back;
mod hostile;
mod links;
mod log_lines;
mod logs;
mod logs_query;
mod payloads;
mod properties;
pub(super) mod rendered;
mod replies;
mod reports;
mod samples;
mod shapes;
mod statements;
mod states;
mod status;
mod storms;
mod unrouted;
mod words;
