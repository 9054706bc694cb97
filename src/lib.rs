//! matrix-alertmanager-receiver: carries Alertmanager notifications into Matrix rooms.

pub mod clock;
pub mod config;
pub mod delivery;
pub mod health;
pub mod http;
pub mod intake;
pub mod lifecycle;
pub mod metrics;
pub mod model;
pub mod render;
pub mod store;
pub mod telemetry;
