//! The control socket, which the operator's commands use to reach a running receiver. It is a unix socket in the
//! store's folder that only the receiver's user (and root) may open, so it needs no credentials.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    extract::{Path as UrlPath, State},
    routing::{get, post},
};
use jiff::Timestamp as Moment;
use serde_json::{Value, json};
use tokio::{net::UnixListener, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{answer::Answer, heartbeats::control as heartbeats, state::App};
use crate::{
    model::{RoomAddress, TxnId},
    store::{DeadLetter, Follows, StoreError},
};

/// The socket's name below `store.path`.
pub const CONTROL_SOCKET: &str = "control.sock";
/// The socket's name until its permissions are set; of the same length, so that both names fit or neither.
const UNFINISHED: &str = "control.temp";
/// Requests still in flight this long after the stop are dropped.
const DRAIN: Duration = Duration::from_secs(1);

/// A control socket that is not served yet.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlSocket {
    /// Creates the socket in `folder`, replacing one that an earlier run left; the caller holds the folder's lock.
    ///
    /// # Errors
    /// When the folder does not accept a socket, or its path is too long for one (about 100 bytes).
    pub fn bind(folder: &Path) -> io::Result<Self> {
        let (unfinished, path) = (folder.join(UNFINISHED), folder.join(CONTROL_SOCKET));
        remove(&unfinished)?;
        // Otherwise, if the next steps fail, a client would wait for a receiver that does not answer.
        remove(&path)?;
        let listener = UnixListener::bind(&unfinished)?;
        // Restricted before it gets the name by which clients find it.
        fs::set_permissions(&unfinished, Permissions::from_mode(0o600))?;
        fs::rename(&unfinished, &path)?;
        Ok(Self { listener, path })
    }

    /// Serves until `stop`, then removes the socket.
    pub async fn serve(self, app: Arc<App>, stop: CancellationToken) {
        let stopped = stop.clone();
        let serving = axum::serve(self.listener, router(app))
            .with_graceful_shutdown(async move { stopped.cancelled().await })
            .into_future();
        tokio::pin!(serving);
        let ended = tokio::select! {
            ended = &mut serving => Some(ended),
            () = stop.cancelled() => None,
        };
        if let Err(error) = remove(&self.path) {
            tracing::warn!(%error, "removing the control socket failed");
        }
        match ended {
            Some(Err(error)) => tracing::warn!(%error, "serving the control socket failed"),
            Some(Ok(())) => {}
            // A client that keeps its connection open does not hold up the stop.
            None => drop(timeout(DRAIN, serving).await),
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/dead-letters", get(list))
        .route("/dead-letters/{id}", get(show).delete(drop_one))
        .route("/dead-letters/{id}/retry", post(retry))
        .route("/heartbeats", get(heartbeats::show))
        .route("/heartbeats/forget", post(heartbeats::disarm))
        .fallback(async || Answer::not_found("this version of the receiver has no such command"))
        .method_not_allowed_fallback(async || Answer::method_not_allowed("GET, POST, DELETE"))
        .with_state(app)
}

async fn list(State(app): State<Arc<App>>) -> Answer {
    match app.store.dead_letters().await {
        Ok((letters, total)) => {
            let letters: Vec<Value> = letters.iter().map(|letter| in_json(&app, letter)).collect();
            Answer::ok(json!({ "dead_letters": letters, "total": total }))
        }
        Err(error) => failed(&error),
    }
}

async fn show(State(app): State<Arc<App>>, UrlPath(id): UrlPath<String>) -> Answer {
    match app.store.dead_letter(&TxnId(id)).await {
        Ok(Some(letter)) => {
            let mut json = in_json(&app, &letter);
            json["content"] = content(&letter);
            Answer::ok(json)
        }
        Ok(None) => unknown(),
        Err(error) => failed(&error),
    }
}

async fn drop_one(State(app): State<Arc<App>>, UrlPath(id): UrlPath<String>) -> Answer {
    match app.store.drop_dead_letter(&TxnId(id)).await {
        Ok(Some(letter)) => {
            log(&app, &letter, "dead letter dropped");
            Answer::ok(json!({ "id": letter.op.txn_id.as_str(), "note": "dropped" }))
        }
        Ok(None) => unknown(),
        Err(error) => failed(&error),
    }
}

async fn retry(State(app): State<Arc<App>>, UrlPath(id): UrlPath<String>) -> Answer {
    match app.store.retry_dead_letter(&TxnId(id)).await {
        Ok(Some((letter, follows))) => {
            log(&app, &letter, "dead letter is tried again with the newest state of its card");
            let served = room_name(&app, &letter.op.room).is_some();
            let note = note(&letter, follows, served);
            Answer::ok(json!({ "id": letter.op.txn_id.as_str(), "follows": word(follows), "note": note }))
        }
        Ok(None) => unknown(),
        Err(error) => failed(&error),
    }
}

fn unknown() -> Answer {
    Answer::not_found("no such dead letter")
}

fn failed(error: &StoreError) -> Answer {
    Answer::unavailable(&format!("the store failed: {error}"))
}

fn word(follows: Follows) -> &'static str {
    match follows {
        Follows::Card => "card",
        Follows::Edit => "edit",
        Follows::Nothing => "nothing",
    }
}

/// What the operator will see in the room.
fn note(letter: &DeadLetter, follows: Follows, served: bool) -> String {
    let follows = match follows {
        Follows::Card => "a new card with the newest state follows",
        Follows::Edit if letter.was_said_once() => {
            "what it said is not said again; its card is edited to the newest state"
        }
        Follows::Edit => "its card is edited to the newest state",
        Follows::Nothing => return "nothing is left to show; it is dropped".to_owned(),
    };
    let unless = if served { "" } else { "; no route names its room any more, so that nothing new is posted there" };
    format!("{follows}{unless}")
}

fn log(app: &App, letter: &DeadLetter, what: &str) {
    let op = &letter.op;
    tracing::info!(
        notification = %op.notification, incident = %op.incident, op = %op.txn_id,
        room = room_name(app, &op.room).unwrap_or_default(), kind = op.kind.as_str(), "{what}"
    );
}

/// `<route>/<n>`; `None`: the config no longer names the room.
fn room_name(app: &App, room: &RoomAddress) -> Option<String> {
    let rooms = app.settings().config.rooms();
    rooms.into_iter().find(|(address, _)| address == room).map(|(_, name)| name.as_str().to_owned())
}

fn in_json(app: &App, letter: &DeadLetter) -> Value {
    let op = &letter.op;
    json!({
        "id": op.txn_id.as_str(),
        "room": room_name(app, &op.room),
        "address": op.room.as_str(),
        "kind": op.kind.as_str(),
        "reason": letter.error,
        "at": Moment::from_millisecond(app.clock.shown(letter.at).0).ok().map(|at| at.to_string()),
        "incident": op.incident.as_str(),
        "notification": op.notification.as_str(),
        "says": letter.first_line(),
    })
}

/// The content as it would have been sent.
fn content(letter: &DeadLetter) -> Value {
    serde_json::from_str(&letter.op.content).unwrap_or_else(|_| Value::String(letter.op.content.clone()))
}
