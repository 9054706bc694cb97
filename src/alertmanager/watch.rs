//! Asks peers that nobody asks, so that one which is lost is known before it is needed.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::client::Client;

/// A peer is asked at least this often.
const EVERY: Duration = Duration::from_mins(1);
/// Between two looks for peers that were not.
const LOOK: Duration = Duration::from_secs(15);

/// Keeps what health says of all peers at most about a minute old, until `stop`. `clients` names those of the config in
/// force; each one's peers are asked one after the other.
pub async fn watch(clients: impl Fn() -> Vec<Client>, stop: CancellationToken) {
    loop {
        let asked = clients();
        let all = join_all(asked.iter().map(|client| client.ask_idle_peers(EVERY)));
        tokio::select! {
            () = stop.cancelled() => return,
            _ = all => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(LOOK) => {}
        }
    }
}
