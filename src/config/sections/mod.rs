//! One file per table of the config: its keys, their defaults, and what they must hold.

mod actions;
mod admin;
mod alertmanager;
mod auth;
mod compat;
mod credential;
mod display;
mod evidence;
mod grafana;
mod heartbeats;
mod http;
mod links;
mod lint;
mod log;
mod matrix;
mod mentions;
mod routes;
mod service;
mod store;
mod templates;

pub use self::store::database_url_from;
use super::{reader::Section, schema::Config};

/// Reads all sections. A missing or wrong value becomes an error and reads as its default, so that the rest is checked in the
/// same run.
pub(super) fn read(root: &Section<'_>) -> Config {
    // Before routes, which name severities and inherit the common templates.
    let display = display::read(&root.section("display"));
    // Before routes, which inherit `links.grafana`.
    let links = links::read(&root.section("links"));
    let templates = templates::read(&root.section("templates"));
    let http = http::read(&root.section("http"));
    // Before routes, whose defaults follow from it.
    let (evidence, sources) = evidence::read(root);
    let common = routes::Common {
        display: &display,
        links: &links,
        templates: &templates,
        alertmanager: alertmanager::read(root, None),
        actions: actions::read(root, None),
        sources,
    };
    let routes = routes::read(&root.section("routes"), &common);
    Config {
        compat: compat::read(&root.section("compat"), &http, &routes),
        http,
        matrix: matrix::read(&root.section("matrix")),
        store: store::read(&root.section("store")),
        routes,
        links,
        templates,
        display,
        log: log::read(&root.section("log")),
        lint: lint::read(&root.section("lint")),
        evidence,
    }
}
