//! As much of PostgreSQL's protocol as it takes to see statements and the ends of answers go by.

use std::{collections::HashMap, io};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::tcp::{OwnedReadHalf, OwnedWriteHalf},
};

/// Length and code: the first messages of a client have no type.
const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;

/// One direction of a connection, message by message.
#[derive(Debug)]
pub(super) struct Messages {
    from: OwnedReadHalf,
    buffer: Vec<u8>,
}

impl Messages {
    pub fn new(from: OwnedReadHalf) -> Self {
        Self { from, buffer: Vec::new() }
    }

    /// The next message with its type and length; may be dropped while it waits. `None` at the end of the connection.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        self.take(1).await
    }

    /// A message of a client that has not said who it is.
    pub async fn first(&mut self) -> Option<Vec<u8>> {
        self.take(0).await
    }

    /// The server's answer to a request for encryption.
    pub async fn byte(&mut self) -> Option<u8> {
        while self.buffer.is_empty() {
            self.read().await?;
        }
        Some(self.buffer.remove(0))
    }

    async fn take(&mut self, type_bytes: usize) -> Option<Vec<u8>> {
        loop {
            if let Some(length) = self.buffer.get(type_bytes..type_bytes + 4) {
                let length = type_bytes + u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
                if self.buffer.len() >= length {
                    let rest = self.buffer.split_off(length);
                    return Some(std::mem::replace(&mut self.buffer, rest));
                }
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> Option<()> {
        let read = self.from.read_buf(&mut self.buffer).await.ok()?;
        (read > 0).then_some(())
    }
}

/// Passes on what a client says until it has said who it is; `None` if the connection ends, or was only to cancel.
pub(super) async fn greet(
    client: &mut Messages,
    to_client: &mut OwnedWriteHalf,
    server: &mut Messages,
    to_server: &mut OwnedWriteHalf,
) -> Option<()> {
    loop {
        let first = client.first().await?;
        to_server.write_all(&first).await.ok()?;
        let code = first.get(4..8).map(|code| u32::from_be_bytes(code.try_into().expect("four bytes")));
        if !matches!(code, Some(SSL_REQUEST | GSS_REQUEST)) {
            return Some(());
        }
        let answer = server.byte().await?;
        assert_eq!(answer, b'N', "what is encrypted cannot be read: the server must not offer TLS");
        to_client.write_all(&[answer]).await.ok()?;
    }
}

/// What a client has said on one connection, so far as later messages refer to it.
#[derive(Debug, Default)]
pub(super) struct Said {
    prepared: HashMap<Vec<u8>, String>,
    bound: String,
    /// Whether the transaction under way has changed anything.
    writes: bool,
}

impl Said {
    /// The statement that this message has carried out, if any, and whether its transaction writes.
    pub fn executed_by(&mut self, message: &[u8]) -> Option<(String, bool)> {
        let body = message.get(5..)?;
        match message.first()? {
            b'Q' => Some(self.executed(text(body))),
            b'P' => {
                let (name, rest) = split(body)?;
                self.prepared.insert(name.to_vec(), text(rest));
                None
            }
            b'B' => {
                let (_, rest) = split(body)?;
                let (name, _) = split(rest)?;
                self.bound = self.prepared.get(name).cloned().unwrap_or_default();
                None
            }
            b'E' => Some(self.executed(self.bound.clone())),
            _ => None,
        }
    }

    fn executed(&mut self, sql: String) -> (String, bool) {
        let words = words(&sql);
        let has = |wanted: &str| words.iter().any(|word| word == wanted);
        // A lock is not yet a change.
        let locks = words.windows(2).filter(|pair| pair[0] == "FOR" && pair[1] == "UPDATE").count();
        let updates = words.iter().filter(|word| *word == "UPDATE").count();
        self.writes |= updates > locks || ["INSERT", "DELETE", "CREATE", "ALTER"].into_iter().any(has);
        let writes = self.writes;
        if has("COMMIT") || has("ROLLBACK") && !has("SAVEPOINT") {
            self.writes = false;
        }
        (sql, writes)
    }
}

/// Whether it holds COMMIT as a word.
pub(super) fn commits(sql: &str) -> bool {
    words(sql).iter().any(|word| word == "COMMIT")
}

fn words(sql: &str) -> Vec<String> {
    let words = sql.split(|letter: char| !letter.is_alphanumeric() && letter != '_').filter(|word| !word.is_empty());
    words.map(str::to_ascii_uppercase).collect()
}

fn split(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = body.iter().position(|byte| *byte == 0)?;
    Some((&body[..end], &body[end + 1..]))
}

fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(split(body).map_or(body, |(text, _)| text)).into_owned()
}

/// Whether the server has answered all it was asked: ReadyForQuery.
pub(super) fn ends_answer(message: &[u8]) -> bool {
    message.first() == Some(&b'Z')
}

/// Whether the answer says that the transaction was committed: CommandComplete.
pub(super) fn says_committed(message: &[u8]) -> bool {
    message.first() == Some(&b'C') && message.get(5..).is_some_and(|tag| tag.starts_with(b"COMMIT"))
}

pub(super) async fn write(to: &mut OwnedWriteHalf, message: &[u8]) -> io::Result<()> {
    to.write_all(message).await
}
