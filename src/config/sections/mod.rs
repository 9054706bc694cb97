//! One file per table of the config: its keys, their defaults, and what they must hold.

mod auth;
mod credential;
mod display;
mod grafana;
mod http;
mod links;
mod log;
mod matrix;
mod routes;
mod store;

use super::{Config, reader::Section};

/// Reads everything. What is missing or wrong has become a fault and reads as a default, so that the rest is checked
/// in the same run.
pub(super) fn read(root: &Section<'_>) -> Config {
    // First, since routes name severities.
    let display = display::read(&root.section("display"));
    // And take over what the links say of Grafana.
    let links = links::read(&root.section("links"));
    Config {
        http: http::read(&root.section("http")),
        matrix: matrix::read(&root.section("matrix")),
        store: store::read(&root.section("store")),
        routes: routes::read(&root.section("routes"), &display, &links),
        links,
        display,
        log: log::read(&root.section("log")),
    }
}
