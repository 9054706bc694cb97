//! matrix-alertmanager-receiver: carries Alertmanager notifications into Matrix rooms.
//!
//! The flow, one way: [`http`] takes a webhook, [`intake`] decides what it changes, [`store`] commits that, [`delivery`]
//! plans what each room needs, [`render`] writes it, and [`matrix`] sends it. `docs/ARCHITECTURE.md` walks one alert
//! through all of it.

pub mod acts;
pub mod alertmanager;
pub mod api_client;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod delivery;
pub mod evidence;
mod file_watch;
pub mod health;
pub mod http;
pub mod intake;
pub mod lifecycle;
pub mod matrix;
pub mod metrics;
pub mod model;
mod pacing;
pub mod render;
pub mod store;
pub mod telemetry;
mod text;

/// The version of the package.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit it was built from, or `unknown`.
pub const COMMIT: &str = env!("MAR_COMMIT");
/// What `--version` prints.
pub const LONG_VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("MAR_COMMIT"), ")");
