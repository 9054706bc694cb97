//! Snapshots and properties of everything that is rendered.

mod cards;
mod samples;
