//! A person who looks at the room: a long-polling sync, and a bare client's PUT to compare with.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    task::{AbortHandle, spawn},
    time::timeout_at,
};
use urlencoding::encode;

use crate::harness::User;

const DEADLINE: Duration = Duration::from_mins(2);
/// What the messages of the bare client begin with.
const MARK: &str = "bare put ";

/// Follows all rooms of a user.
pub struct Watcher {
    answers: mpsc::UnboundedReceiver<(Instant, String)>,
    /// What it has seen so far, and when.
    seen: Vec<(Instant, String)>,
    syncing: AbortHandle,
}

impl Watcher {
    /// From now on.
    pub async fn start(user: &User) -> Self {
        let (user, client) = (user.clone(), client());
        let (send, answers) = mpsc::unbounded_channel();
        let mut since = next_batch(&sync(&client, &user, None).await);
        let syncing = spawn(async move {
            loop {
                let text = sync(&client, &user, Some(&since)).await;
                let at = Instant::now();
                since = next_batch(&text);
                if send.send((at, text)).is_err() {
                    return;
                }
            }
        });
        Self { answers, seen: Vec::new(), syncing: syncing.abort_handle() }
    }

    /// When a sync first returned an event that holds `text`.
    pub async fn seen(&mut self, text: &str) -> Instant {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        loop {
            if let Some((at, _)) = self.seen.iter().find(|(_, answer)| answer.contains(text)) {
                return *at;
            }
            let next = timeout_at(deadline, self.answers.recv()).await;
            self.seen.push(next.unwrap_or_else(|_| panic!("{text} is not in the room")).expect("it syncs"));
        }
    }

    /// Forgets what was seen so far.
    pub fn forget(&mut self) {
        self.seen.clear();
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.syncing.abort();
    }
}

async fn sync(client: &reqwest::Client, user: &User, since: Option<&str>) -> String {
    let filter = json!({
        "presence": { "types": [] },
        "account_data": { "types": [] },
        "room": { "ephemeral": { "types": [] }, "account_data": { "types": [] }, "timeline": { "limit": 100 } },
    });
    let since = since.map(|token| format!("&timeout=30000&since={}", encode(token))).unwrap_or_default();
    let url = format!("{}/_matrix/client/v3/sync?filter={}{since}", user.homeserver, encode(&filter.to_string()));
    let answer = client.get(url).bearer_auth(&user.access_token).send().await.expect("Synapse answers");
    answer.error_for_status().expect("200").text().await.expect("an answer")
}

fn next_batch(answer: &str) -> String {
    let json: Value = serde_json::from_str(answer).expect("JSON");
    json["next_batch"].as_str().expect("a token").to_owned()
}

/// Sends as a bare client does, over a connection that it keeps.
#[derive(Clone)]
pub struct Putter {
    client: reqwest::Client,
    url: String,
    token: String,
}

impl Putter {
    pub fn new(user: &User, room: &str) -> Self {
        let url = format!("{}/_matrix/client/v3/rooms/{}/send/m.room.message", user.homeserver, encode(room));
        Self { client: client(), url, token: user.access_token.clone() }
    }

    /// Returns the text, unlike that of any other, and when it was sent.
    pub async fn put(&self) -> (String, Instant) {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Relaxed);
        let text = format!("{MARK}{number:08}");
        let request = self.client.put(format!("{}/seen{number}", self.url)).bearer_auth(&self.token);
        let request = request.json(&json!({ "msgtype": "m.text", "body": text }));
        let sent = Instant::now();
        request.send().await.expect("Synapse answers").error_for_status().expect("200");
        (text, sent)
    }

    /// Whether a message is one of these.
    pub fn is_from(content: &Value) -> bool {
        content["body"].as_str().is_some_and(|body| body.starts_with(MARK))
    }
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().expect("a client")
}
