//! The table of key-value facts about the store itself.

use sqlx::AnyConnection;

use crate::store::db::statement::{self, SqlBuilder};
use crate::{clock::Mark, store::StoreError};

const SEQ: &str = "seq";
const OPENED: &str = "opened";
const CLOCK: &str = "clock";

/// Writes a new value each time, so that there is something to commit.
pub(crate) async fn write_opened(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    write(connection, OPENED, &ulid::Ulid::new().to_string()).await
}

pub(crate) async fn read_seq(connection: &mut AnyConnection) -> Result<i64, StoreError> {
    match read(connection, SEQ).await? {
        None => Ok(0),
        Some(text) => text.parse().map_err(|_| StoreError::Database(format!("meta.seq is not a number: {text:?}"))),
    }
}

pub(crate) fn save_seq(seq: i64) -> SqlBuilder {
    save(SEQ, &seq.to_string())
}

/// Reads where the time of the previous process stood; `None` also if it is unreadable.
pub(crate) async fn read_mark(connection: &mut AnyConnection) -> Result<Option<Mark>, sqlx::Error> {
    Ok(read(connection, CLOCK).await?.and_then(|text| text.parse().ok()))
}

pub(crate) fn save_mark(mark: &Mark) -> SqlBuilder {
    save(CLOCK, &mark.to_string())
}

/// The row by which a replica finds out whether its last commit took place.
pub(crate) fn token_key(replica: &str) -> String {
    format!("commit/{replica}")
}

/// What the names of the rows begin with by which replicas see that a commit left a room behind. There is one for each replica:
/// the next commit of another must not hide what it says.
pub(crate) const WAKES: &str = "wake/";

/// Such a row's name.
pub(crate) fn wake_key(replica: &str) -> String {
    format!("{WAKES}{replica}")
}

/// Writes and takes away what needs more room than a row.
pub(crate) async fn try_room(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    const BYTES: usize = 64 * 1024;
    let bytes: Vec<u8> = (0..BYTES).map(|_| rand::random()).collect();
    write(connection, "room", &hex::encode(bytes)).await?;
    statement::query("DELETE FROM meta WHERE key = 'room'").execute(connection).await.map(drop)
}

/// Marks a commit, in one statement whether it wakes others, by the row `wake`, or not.
pub(crate) async fn write_token(
    connection: &mut AnyConnection,
    key: &str,
    token: &str,
    wake: Option<&str>,
) -> Result<(), sqlx::Error> {
    let sql = if wake.is_some() {
        "INSERT INTO meta (key, value) VALUES ($1, $2), ($3, $2) \
         ON CONFLICT (key) DO UPDATE SET value = excluded.value"
    } else {
        "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
    };
    let query = statement::query(sql).bind(key).bind(token);
    let query = if let Some(wake) = wake { query.bind(wake) } else { query };
    query.execute(connection).await.map(drop)
}

pub(crate) async fn read(connection: &mut AnyConnection, key: &str) -> Result<Option<String>, sqlx::Error> {
    statement::query_scalar("SELECT value FROM meta WHERE key = $1").bind(key).fetch_optional(connection).await
}

pub(crate) async fn write(connection: &mut AnyConnection, key: &str, value: &str) -> Result<(), sqlx::Error> {
    save(key, value).build().execute(connection).await.map(drop)
}

fn save(key: &str, value: &str) -> SqlBuilder {
    let mut sql = SqlBuilder::new("INSERT INTO meta (key, value) VALUES (");
    sql.push_list([key, value]).push(" ON CONFLICT (key) DO UPDATE SET value = excluded.value");
    sql
}
