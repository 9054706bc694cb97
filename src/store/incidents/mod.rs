//! Incidents: what webhooks change, and what ends them.

pub(crate) mod escalations;
pub(crate) mod find;
pub(crate) mod found;
pub(crate) mod ingest;
pub(crate) mod met;
pub(crate) mod openings;
pub(crate) mod repeats;
pub(crate) mod rerouted;
pub(crate) mod retention;
pub(crate) mod sample;
pub(crate) mod stale;
pub(crate) mod takings;
