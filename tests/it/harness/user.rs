//! A Matrix account as its owner uses it, over the client-server API.

use std::sync::atomic::{AtomicU32, Ordering};

use reqwest::Method;
use serde_json::{Value, json};
use urlencoding::encode;

use super::http::{Answer, client};

#[derive(Debug, Clone)]
#[expect(clippy::struct_field_names, reason = "Matrix calls it user_id")]
pub struct User {
    /// `@name-7:localhost`.
    pub user_id: String,
    pub access_token: String,
    pub device_id: String,
    pub password: String,
    /// Where this user talks to; set it to a proxy's to send this user through it.
    pub homeserver: String,
}

/// Logs in on a new device.
pub async fn login(homeserver: &str, local: &str, password: &str) -> User {
    let body = json!({
        "type": "m.login.password",
        "identifier": { "type": "m.id.user", "user": local },
        "password": password,
    });
    let request = client().post(format!("{homeserver}/_matrix/client/v3/login")).json(&body);
    let json = Answer::to(request).await.expect("the homeserver answers").expect_ok("login");
    let text = |key: &str| json[key].as_str().expect("a login answer").to_owned();
    User {
        user_id: text("user_id"),
        access_token: text("access_token"),
        device_id: text("device_id"),
        password: password.to_owned(),
        homeserver: homeserver.to_owned(),
    }
}

/// What a new room is like; private and without an alias unless said.
#[derive(Debug, Clone, Default)]
pub struct NewRoom(serde_json::Map<String, Value>);

impl NewRoom {
    pub fn named(name: &str) -> Self {
        Self::default().with("name", json!(name)).with("preset", json!("private_chat"))
    }

    /// Anyone may join.
    pub fn public(self) -> Self {
        self.with("preset", json!("public_chat"))
    }

    /// The part between `#` and the colon.
    pub fn alias(self, local: &str) -> Self {
        self.with("room_alias_name", json!(local))
    }

    /// The room version; Synapse's own default has room ids without a server part.
    pub fn version(self, version: &str) -> Self {
        self.with("room_version", json!(version))
    }

    pub fn invite(self, users: &[&User]) -> Self {
        let ids: Vec<&str> = users.iter().map(|user| user.user_id.as_str()).collect();
        self.with("invite", json!(ids))
    }

    pub fn encrypted(self) -> Self {
        let content = json!({ "algorithm": "m.megolm.v1.aes-sha2" });
        self.with("initial_state", json!([{ "type": "m.room.encryption", "state_key": "", "content": content }]))
    }

    /// Any other key of `/createRoom`.
    pub fn with(mut self, key: &str, value: Value) -> Self {
        self.0.insert(key.to_owned(), value);
        self
    }
}

impl User {
    /// `@name-7:localhost` without `@` and server.
    pub fn local(&self) -> &str {
        self.user_id.trim_start_matches('@').split(':').next().unwrap_or_default()
    }

    /// Any call below `/_matrix/client`, whatever the answer.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let mut request = client().request(method, format!("{}/_matrix/client{path}", self.homeserver));
        if let Some(body) = body {
            request = request.json(body);
        }
        Answer::to(request.bearer_auth(&self.access_token)).await.expect("the homeserver answers")
    }

    /// A file that an event names (`mxc://…`): its type and its bytes.
    pub async fn download(&self, mxc: &str) -> (String, Vec<u8>) {
        let place = mxc.strip_prefix("mxc://").expect("an mxc URL");
        let request = client().get(format!("{}/_matrix/client/v1/media/download/{place}", self.homeserver));
        let answer = request.bearer_auth(&self.access_token).send().await.expect("the homeserver answers");
        assert_eq!(answer.status(), 200, "{mxc}");
        let content_type = answer.headers()["content-type"].to_str().expect("text").to_owned();
        (content_type, answer.bytes().await.expect("a body").to_vec())
    }

    async fn done(&self, method: Method, path: &str, body: Value) -> Value {
        self.call(method, path, Some(&body)).await.expect_ok(path)
    }

    pub async fn get(&self, path: &str) -> Value {
        self.call(Method::GET, path, None).await.expect_ok(path)
    }

    /// Returns the room id.
    pub async fn create_room(&self, room: NewRoom) -> String {
        let json = self.done(Method::POST, "/v3/createRoom", Value::Object(room.0)).await;
        json["room_id"].as_str().expect("a room id").to_owned()
    }

    pub async fn join(&self, room: &str) {
        self.done(Method::POST, &format!("/v3/join/{}", encode(room)), json!({})).await;
    }

    pub async fn leave(&self, room: &str) {
        self.done(Method::POST, &format!("/v3/rooms/{}/leave", encode(room)), json!({})).await;
    }

    pub async fn invite(&self, room: &str, other: &User) {
        self.membership(room, "invite", other).await;
    }

    pub async fn kick(&self, room: &str, other: &User) {
        self.membership(room, "kick", other).await;
    }

    pub async fn ban(&self, room: &str, other: &User) {
        self.membership(room, "ban", other).await;
    }

    pub async fn unban(&self, room: &str, other: &User) {
        self.membership(room, "unban", other).await;
    }

    async fn membership(&self, room: &str, action: &str, other: &User) {
        let path = format!("/v3/rooms/{}/{action}", encode(room));
        self.done(Method::POST, &path, json!({ "user_id": other.user_id })).await;
    }

    /// The ids of the rooms this user is in.
    pub async fn joined_rooms(&self) -> Vec<String> {
        let json = self.get("/v3/joined_rooms").await;
        json["joined_rooms"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// Changes `m.room.power_levels`; only the creator of a room of version 12 or an admin can.
    pub async fn change_power(&self, room: &str, change: impl FnOnce(&mut Value)) {
        let path = format!("/v3/rooms/{}/state/m.room.power_levels/", encode(room));
        let mut levels = self.get(&path).await;
        change(&mut levels);
        self.done(Method::PUT, &path, levels).await;
    }

    /// Sets who may send messages at all (0: everyone; 50: moderators).
    pub async fn set_power_to_send(&self, room: &str, level: i64) {
        self.change_power(room, |levels| levels["events_default"] = json!(level)).await;
    }

    /// Returns the id of the state event.
    pub async fn set_state(&self, room: &str, event_type: &str, key: &str, content: Value) -> String {
        let path = format!("/v3/rooms/{}/state/{}/{}", encode(room), encode(event_type), encode(key));
        event_id(&self.done(Method::PUT, &path, content).await)
    }

    /// Returns the id of the room that replaces it.
    pub async fn upgrade(&self, room: &str, version: &str) -> String {
        let path = format!("/v3/rooms/{}/upgrade", encode(room));
        let json = self.done(Method::POST, &path, json!({ "new_version": version })).await;
        json["replacement_room"].as_str().expect("a room id").to_owned()
    }

    /// Lets an alias lead to a room, wherever it led before.
    pub async fn point_alias(&self, alias: &str, room: &str) {
        let path = format!("/v3/directory/room/{}", encode(alias));
        self.call(Method::DELETE, &path, None).await;
        self.done(Method::PUT, &path, json!({ "room_id": room })).await;
    }

    /// Returns the event id.
    pub async fn send_text(&self, room: &str, text: &str) -> String {
        self.send(room, json!({ "msgtype": "m.text", "body": text })).await
    }

    /// Sends an `m.room.message`; returns the event id.
    pub async fn send(&self, room: &str, content: Value) -> String {
        event_id(&self.try_send(room, &content).await.expect_ok("send"))
    }

    /// Sends under a transaction id of its own, whatever the answer.
    pub async fn try_send(&self, room: &str, content: &Value) -> Answer {
        self.call(Method::PUT, &format!("/v3/rooms/{}/send/m.room.message/{}", encode(room), txn()), Some(content))
            .await
    }

    /// Sends an event of any type; returns its id.
    pub async fn send_event(&self, room: &str, event_type: &str, content: &Value) -> String {
        let path = format!("/v3/rooms/{}/send/{}/{}", encode(room), encode(event_type), txn());
        event_id(&self.done(Method::PUT, &path, content.clone()).await)
    }

    /// Writes in the thread of `card`, as clients do; returns the event id.
    pub async fn say_in_thread(&self, room: &str, card: &str, text: &str) -> String {
        self.send(room, in_thread(card, text)).await
    }

    /// Replies to an event outside of any thread; returns the event id.
    pub async fn reply(&self, room: &str, event: &str, text: &str) -> String {
        self.send(room, in_reply(event, text)).await
    }

    /// Edits a message; returns the id of the edit.
    pub async fn edit(&self, room: &str, event: &str, text: &str) -> String {
        self.send(room, edited(event, text)).await
    }

    /// Sends the ciphertext of an encrypted event once more, as whoever runs the homeserver can; returns the new event id.
    pub async fn replay(&self, room: &str, event: &str) -> String {
        let sealed = self.get(&format!("/v3/rooms/{}/event/{}", encode(room), encode(event))).await;
        assert_eq!(sealed["type"], "m.room.encrypted", "{sealed:#}");
        self.send_event(room, "m.room.encrypted", &sealed["content"]).await
    }

    /// Sets one user's power level; only the creator of a room of version 12 or an admin can.
    pub async fn set_power(&self, room: &str, user: &Self, level: i64) {
        self.change_power(room, |levels| levels["users"][&user.user_id] = json!(level)).await;
    }

    /// Returns the id of the reaction.
    pub async fn react(&self, room: &str, event: &str, key: &str) -> String {
        let content = json!({ "m.relates_to": { "rel_type": "m.annotation", "event_id": event, "key": key } });
        let path = format!("/v3/rooms/{}/send/m.reaction/{}", encode(room), txn());
        event_id(&self.done(Method::PUT, &path, content).await)
    }

    pub async fn redact(&self, room: &str, event: &str) {
        let path = format!("/v3/rooms/{}/redact/{}/{}", encode(room), encode(event), txn());
        self.done(Method::PUT, &path, json!({})).await;
    }

    /// Ends the token and the device.
    pub async fn logout(&self) {
        self.done(Method::POST, "/v3/logout", json!({})).await;
    }

    /// The same account on another device.
    pub async fn on_a_new_device(&self) -> Self {
        login(&self.homeserver, self.local(), &self.password).await
    }
}

/// A message in a thread.
pub fn in_thread(root: &str, text: &str) -> Value {
    let relation = json!({
        "rel_type": "m.thread", "event_id": root, "is_falling_back": true, "m.in_reply_to": { "event_id": root }
    });
    json!({ "msgtype": "m.text", "body": text, "m.relates_to": relation })
}

/// A reply outside of any thread.
pub fn in_reply(event: &str, text: &str) -> Value {
    json!({ "msgtype": "m.text", "body": text, "m.relates_to": { "m.in_reply_to": { "event_id": event } } })
}

/// An edit of a message.
pub fn edited(event: &str, text: &str) -> Value {
    let new = json!({ "msgtype": "m.text", "body": text });
    let replace = json!({ "rel_type": "m.replace", "event_id": event });
    json!({ "msgtype": "m.text", "body": format!("* {text}"), "m.new_content": new, "m.relates_to": replace })
}

fn event_id(answer: &Value) -> String {
    answer["event_id"].as_str().expect("an event id").to_owned()
}

fn txn() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(1);
    format!("t{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}
