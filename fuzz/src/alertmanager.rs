//! The types and the parser of Alertmanager's answers, which need nothing else of the client.

#[path = "../../src/alertmanager/api.rs"]
pub mod api;
#[path = "../../src/alertmanager/client/parse.rs"]
pub mod parse;
