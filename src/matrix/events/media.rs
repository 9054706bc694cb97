//! Uploads of pictures. Each is made once, and the caller sets the time limit: the SDK would retry and wait for minutes.
//! The SDK's attachment helpers are not used, since they send what they have uploaded.

use std::{io::Cursor, time::Duration};

use matrix_sdk::{Client, Error, config::RequestConfig, media::MediaError};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    matrix::{
        api::errors::{self, ApiError},
        context::Context,
        rooms::{Rooms, entry::Trigger, room_api::RoomApi},
        session::{
            connection::Connection,
            mode::{OpenSession, SessionMode},
        },
    },
    model::{Reason, RoomAddress, SendError},
};

/// The time limit for entering the room and asking whether it is encrypted.
const ENTER_TIMEOUT: Duration = Duration::from_secs(10);
/// The time limit of an upload, whatever the caller allows.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(25);
const PNG: &str = "image/png";

/// Uploads files for rooms.
pub(crate) struct Uploader<'a> {
    pub context: &'a Context,
    pub connection: &'a Connection,
    pub rooms: &'a Rooms,
}

/// What an upload needs of a session, so that the session can be replaced while a slow one is on its way.
enum Way {
    /// In the clear, under the token that sends to plain rooms.
    Plain(String),
    Encrypted(Client),
}

impl Uploader<'_> {
    /// Uploads `png` for a room, encrypted if the room is, and returns `{"url": …}` or `{"file": …}`.
    pub async fn upload(self, address: &RoomAddress, png: &[u8]) -> Result<Value, SendError> {
        let request = async {
            match self.way(address).await? {
                Way::Plain(token) => {
                    let uploaded = self.context.token_api(&token)?.upload(PNG, png, UPLOAD_TIMEOUT).await;
                    Ok(json!({ "url": self.connection.note_plain_rejection(uploaded)? }))
                }
                Way::Encrypted(client) => self.connection.note_rejection(upload_encrypted(&client, png).await),
            }
        };
        timeout(UPLOAD_TIMEOUT, request).await.unwrap_or_else(|_| Err(errors::no_answer()))
    }

    pub async fn knows_encrypted(self, address: &RoomAddress) -> Option<bool> {
        let asked = async {
            let open = self.connection.session().await?;
            self.is_encrypted(&open, address).await
        };
        let asked = timeout(ENTER_TIMEOUT, asked).await.unwrap_or_else(|_| Err(errors::no_answer()));
        self.connection.note_rejection(asked).ok()
    }

    async fn way(&self, address: &RoomAddress) -> Result<Way, SendError> {
        let open = self.connection.session().await?;
        let asked = timeout(ENTER_TIMEOUT, self.is_encrypted(&open, address)).await;
        let is_encrypted = self.connection.note_rejection(asked.unwrap_or_else(|_| Err(errors::no_answer())))?;
        match &open.mode {
            _ if !is_encrypted => Ok(Way::Plain(self.connection.plain_session(&open).await?.token)),
            SessionMode::WithKeys(client) => Ok(Way::Encrypted(client.clone())),
            SessionMode::WithoutKeys(why) => Err(errors::send_error(Reason::KeysNotReady, why.advice())),
        }
    }

    /// Whether the room is encrypted, found out as for sends.
    async fn is_encrypted(&self, open: &OpenSession, address: &RoomAddress) -> Result<bool, SendError> {
        let room_api = RoomApi::new(self.context, open)?;
        let id = self.rooms.enter(room_api, address, Trigger::Send).await?;
        let is_encrypted = room_api.is_encrypted(&id).await?;
        self.rooms.kinds.note(address, is_encrypted);
        Ok(is_encrypted)
    }
}

async fn upload_encrypted(client: &Client, png: &[u8]) -> Result<Value, SendError> {
    let mut reader = Cursor::new(png);
    let upload = client.upload_encrypted_file(&mut reader);
    let file = upload.with_request_config(RequestConfig::new().disable_retry()).await;
    let file = file.map_err(|error| match error {
        // The homeserver was asked for its limit before.
        Error::Media(MediaError::MediaTooLargeToUpload { max, .. }) => {
            errors::send_error(Reason::TooLarge, format!("the homeserver takes files of at most {max} bytes"))
        }
        error => ApiError::from_sdk(&error).error,
    })?;
    match serde_json::to_value(&file) {
        Ok(json) if file.url.is_valid() => Ok(json!({ "file": json })),
        _ => Err(errors::send_error(Reason::Unreadable, "the homeserver names no place for the upload")),
    }
}

/// Whether a content names a picture that was uploaded in the clear. It must not be sent to a room that has become
/// encrypted since: people would take for private what the homeserver can read.
pub(crate) fn has_plain_file(content: &str) -> bool {
    if !content.contains("m.image") {
        return false;
    }
    let content: Value = serde_json::from_str(content).unwrap_or_default();
    content["msgtype"] == "m.image" && !content["url"].is_null()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;
    use wiremock::{
        Mock, MockServer, ResponseTemplate,
        matchers::{body_bytes, header, method, path},
    };

    use super::{PNG, has_plain_file};
    use crate::{
        matrix::api::{client::Api, token_api::TokenApi},
        model::Reason,
    };

    /// An upload is made once, whatever the answer.
    #[tokio::test]
    async fn a_plain_upload_is_one_request() {
        let limit = json!({ "errcode": "M_LIMIT_EXCEEDED", "error": "slow", "retry_after_ms": 1 });
        let large = json!({ "errcode": "M_TOO_LARGE", "error": "large" });
        for (status, body, expected) in [
            (200, json!({ "content_uri": "mxc://example.org/a" }), Ok("mxc://example.org/a".to_owned())),
            (200, json!({ "content_uri": "https://example.org/a" }), Err(Reason::Unreadable)),
            (200, json!({}), Err(Reason::Unreadable)),
            (429, limit, Err(Reason::RateLimited)),
            (413, large, Err(Reason::TooLarge)),
            (502, json!({}), Err(Reason::ServerError)),
        ] {
            let server = MockServer::start().await;
            Mock::given(method("POST"))
                .and(path("/_matrix/media/v3/upload"))
                .and(header("content-type", PNG))
                .and(header("authorization", "Bearer token"))
                .and(body_bytes(b"PNG"))
                .respond_with(ResponseTemplate::new(status).set_body_json(&body))
                .expect(1)
                .mount(&server)
                .await;
            let api = Api::at(&server.uri());
            let uploaded = TokenApi { api: &api, token: "token" }.upload(PNG, b"PNG", Duration::from_secs(5)).await;
            assert_eq!(uploaded.map_err(|error| error.reason), expected, "{status} {body}");
        }
    }

    #[test]
    fn a_plain_file_is_recognised() {
        for (content, expected) in [
            (r#"{"msgtype":"m.image","body":"b","url":"mxc://a/b"}"#, true),
            (r#"{"msgtype":"m.image","body":"b","file":{"url":"mxc://a/b"}}"#, false),
            (r#"{"msgtype":"m.text","body":"m.image","url":"mxc://a/b"}"#, false),
            (r#"{"msgtype":"m.notice","body":"b"}"#, false),
            ("m.image", false),
        ] {
            assert_eq!(has_plain_file(content), expected, "{content}");
        }
    }
}
