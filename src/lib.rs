//! matrix-alertmanager-receiver: carries Alertmanager notifications into Matrix rooms.

pub mod clock;
pub mod config;
pub mod delivery;
pub mod health;
pub mod matrix;
pub mod metrics;
pub mod model;
