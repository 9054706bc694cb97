//! One file per table of the config: its keys, their defaults, and what they must hold.

mod auth;
mod credential;
mod display;
mod http;
mod links;
mod log;
pub(super) mod matrix;
mod routes;
mod store;

use super::{Config, reader::Section};

/// Reads everything. What is missing or wrong has become a fault and reads as a default, so that the rest is checked
/// in the same run.
pub(super) fn read(root: &Section<'_>) -> Config {
    // First, since routes name severities.
    let display = display::read(&root.section("display"));
    Config {
        http: http::read(&root.section("http")),
        matrix: matrix::read(&root.section("matrix")),
        store: store::read(&root.section("store")),
        routes: routes::read(&root.section("routes"), &display),
        links: links::read(&root.section("links")),
        display,
        log: log::read(&root.section("log")),
    }
}
