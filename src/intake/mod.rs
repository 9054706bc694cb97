//! Intake: the bytes of a webhook become a [`Webhook`], a route and then [`crate::model::Changes`]. Pure; takes `now`.

mod bounded_json;
mod content_hash;
mod decode;
pub mod heartbeats;
mod reconcile;
mod routing;
mod scrub;
mod webhook;

pub use decode::{DecodeError, decode, decode_in_parts};
pub use reconcile::{Rules, apply, found, reconcile, settle};
pub use routing::{PathKind, RouteError, choose_route, route_of_path};
pub use webhook::{ListedAlert, NotificationReason, Webhook};
