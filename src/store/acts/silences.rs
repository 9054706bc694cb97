//! The silences that acts make.

use sqlx::AnyConnection;

use super::{
    carry_out::{ActEnd, end_one},
    rows::{self, ActAnswer, SilenceRow, SilenceRowState},
};
use crate::store::db::statement;
use crate::{
    model::{Act, CardId, IncidentId, RouteName, Timestamp},
    store::{Store, StoreError},
};

/// Silences that are read at once.
const MOST: i64 = 200;

impl Store {
    /// Commits the silences that an act is about to make: from now on it is in doubt. `false`: it was withdrawn.
    ///
    /// # Errors
    /// When it cannot be committed.
    pub async fn begin_silences(
        &self,
        act: &str,
        silences: Vec<SilenceRow>,
        next_try: Timestamp,
    ) -> Result<bool, StoreError> {
        let act = act.to_owned();
        self.writer
            .write(move |connection, _| {
                Box::pin(async move {
                    let begun = statement::query(
                        "UPDATE act SET state = 'in_doubt', next_try = $2, attempts = attempts + 1 \
                         WHERE id = $1 AND state = 'asked'",
                    )
                    .bind(&act)
                    .bind(next_try.0)
                    .execute(&mut *connection)
                    .await?
                    .rows_affected();
                    if begun == 0 {
                        return Ok(false);
                    }
                    for silence in &silences {
                        insert(connection, silence).await?;
                    }
                    Ok(true)
                })
            })
            .await
    }

    /// What is known of a silence now. `silence_id`: `None` keeps it, as does `ends_at`. A live act ends with its last silence.
    ///
    /// # Errors
    /// When it cannot be committed.
    pub async fn note_silence(
        &self,
        silence: &SilenceRow,
        state: SilenceRowState,
        silence_id: Option<String>,
        ends_at: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let (act, n, now) = (silence.act.clone(), silence.n, self.clock.now());
        self.write(move |connection, _| {
            Box::pin(async move {
                statement::query(
                    "UPDATE silence SET state = $3, silence_id = coalesce($4, silence_id), \
                     ends_at = coalesce($5, ends_at) WHERE act = $1 AND n = $2",
                )
                .bind(&act)
                .bind(n)
                .bind(state.as_str())
                .bind(silence_id)
                .bind(ends_at.map(|at| at.0))
                .execute(&mut *connection)
                .await?;
                if state == SilenceRowState::Ended {
                    end_act_without_silences(connection, &act, now).await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// # Errors
    /// When the store cannot be read.
    pub async fn silences_of_act(&self, act: &str) -> Result<Vec<SilenceRow>, StoreError> {
        let mut connection = self.readers.acquire().await?;
        statement::query("SELECT * FROM silence WHERE act = $1 ORDER BY n")
            .bind(act)
            .fetch_all(&mut *connection)
            .await?
            .iter()
            .map(rows::silence)
            .collect()
    }

    /// The silences that were made for an incident and are not known to be over, the newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn silences_of_incident(&self, incident: &IncidentId) -> Result<Vec<SilenceRow>, StoreError> {
        let mut connection = self.readers.acquire().await?;
        statement::query(
            "SELECT * FROM silence WHERE incident = $1 AND state IN ('wanted', 'in_doubt', 'live') \
             ORDER BY act DESC, n LIMIT $2",
        )
        .bind(incident.as_str())
        .bind(MOST)
        .fetch_all(&mut *connection)
        .await?
        .iter()
        .map(rows::silence)
        .collect()
    }

    /// The acts that want a silence which is in force.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn acts_of_silence(&self, silence_id: &str) -> Result<Vec<String>, StoreError> {
        let mut connection = self.readers.acquire().await?;
        Ok(statement::query_scalar("SELECT act FROM silence WHERE silence_id = $1 AND state = 'live'")
            .bind(silence_id)
            .fetch_all(&mut *connection)
            .await?)
    }

    /// The live silences of a route.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn silences_of_route(&self, route: &RouteName) -> Result<Vec<SilenceRow>, StoreError> {
        let mut connection = self.readers.acquire().await?;
        statement::query(
            "SELECT * FROM silence WHERE route = $1 AND state IN ('wanted', 'in_doubt', 'live') AND state = 'live' \
             ORDER BY ends_at DESC LIMIT $2",
        )
        .bind(route.as_str())
        .bind(MOST)
        .fetch_all(&mut *connection)
        .await?
        .iter()
        .map(rows::silence)
        .collect()
    }

    /// Ends an act that expired silences or found them over, and with them the acts that have none left.
    ///
    /// # Errors
    /// When it cannot be committed.
    pub async fn end_silences(&self, end: ActEnd, ended: Vec<SilenceRow>) -> Result<bool, StoreError> {
        let now = self.clock.now();
        self.writer
            .write(move |connection, context| {
                Box::pin(async move {
                    for silence in &ended {
                        statement::query("UPDATE silence SET state = 'ended' WHERE act = $1 AND n = $2")
                            .bind(&silence.act)
                            .bind(silence.n)
                            .execute(&mut *connection)
                            .await?;
                        end_act_without_silences(connection, &silence.act, now).await?;
                    }
                    end_one(connection, context, &end, now).await
                })
            })
            .await
    }

    /// A silence that is still in doubt is wanted no longer: it is not posted again, and expired once it is found.
    ///
    /// # Errors
    /// When it cannot be committed.
    pub async fn withdraw_silence(&self, act: &str) -> Result<(), StoreError> {
        let act = act.to_owned();
        self.write(move |connection, _| {
            Box::pin(async move {
                statement::query("UPDATE act SET outcome = 'withdrawn' WHERE id = $1 AND state = 'in_doubt'")
                    .bind(act)
                    .execute(connection)
                    .await?;
                Ok(())
            })
        })
        .await
    }

    /// Says that it cannot be known yet what became of an act, and goes on looking.
    ///
    /// # Errors
    /// When it cannot be committed.
    pub async fn leave_in_doubt(
        &self,
        act: &Act,
        answers: Vec<ActAnswer>,
        next_try: Timestamp,
        outcome: &'static str,
    ) -> Result<(), StoreError> {
        let (act, now) = (act.clone(), self.clock.now());
        self.write(move |connection, context| {
            Box::pin(async move {
                let left = statement::query(
                    "UPDATE act SET outcome = $2, next_try = $3, attempts = attempts + 1 \
                     WHERE id = $1 AND state = 'in_doubt'",
                )
                .bind(&act.id)
                .bind(outcome)
                .bind(next_try.0)
                .execute(&mut *connection)
                .await?
                .rows_affected();
                if left > 0 {
                    let of = (act.id.as_str(), act.room.as_str(), act.card.as_ref().map(CardId::as_str));
                    rows::insert_answers(connection, context, of, &answers, now).await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// Ends the silences of a route whose time is over, by the wall clock; returns how many.
    ///
    /// # Errors
    /// When it cannot be committed.
    pub async fn end_expired_silences(&self, route: &RouteName, wall: Timestamp) -> Result<usize, StoreError> {
        let (route, now) = (route.clone(), self.clock.now());
        self.writer
            .write(move |connection, _| {
                Box::pin(async move {
                    let acts: Vec<String> = statement::query_scalar(
                        "UPDATE silence SET state = 'ended' WHERE route = $1 \
                         AND state IN ('wanted', 'in_doubt', 'live') AND state = 'live' AND ends_at <= $2 RETURNING act",
                    )
                    .bind(route.as_str())
                    .bind(wall.0)
                    .fetch_all(&mut *connection)
                    .await?;
                    for act in &acts {
                        end_act_without_silences(connection, act, now).await?;
                    }
                    Ok(acts.len())
                })
            })
            .await
    }

    /// The silence with the marker of this act and number.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn silence_of_marker(&self, act: &str, n: i64) -> Result<Option<SilenceRow>, StoreError> {
        let mut connection = self.readers.acquire().await?;
        let row = statement::query("SELECT * FROM silence WHERE act = $1 AND n = $2")
            .bind(act)
            .bind(n)
            .fetch_optional(&mut *connection)
            .await?;
        row.as_ref().map(rows::silence).transpose()
    }

    /// Who asked for an act: user id, and display name if it is known.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn asker(&self, act: &str) -> Result<Option<(String, String)>, StoreError> {
        let mut connection = self.readers.acquire().await?;
        Ok(sqlx::query_as("SELECT sender, name FROM act WHERE id = $1")
            .bind(act)
            .fetch_optional(&mut *connection)
            .await?)
    }
}

async fn end_act_without_silences(connection: &mut AnyConnection, act: &str, now: Timestamp) -> Result<(), StoreError> {
    statement::query(
        "UPDATE act SET state = 'ended', ended_at = $2 WHERE id = $1 AND state = 'live' \
         AND NOT EXISTS (SELECT 1 FROM silence WHERE act = $1 AND state IN ('wanted', 'in_doubt', 'live'))",
    )
    .bind(act)
    .bind(now.0)
    .execute(connection)
    .await?;
    Ok(())
}

async fn insert(connection: &mut AnyConnection, silence: &SilenceRow) -> Result<(), StoreError> {
    statement::query(
        "INSERT INTO silence (act, n, route, incident, marker, matchers, comment, created_by, starts_at, ends_at, \
         silence_id, state) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (act, n) DO NOTHING",
    )
    .bind(&silence.act)
    .bind(silence.n)
    .bind(silence.route.as_str())
    .bind(silence.incident.as_str())
    .bind(&silence.marker)
    .bind(&silence.matchers)
    .bind(&silence.comment)
    .bind(&silence.created_by)
    .bind(silence.starts_at.0)
    .bind(silence.ends_at.0)
    .bind(&silence.silence_id)
    .bind(silence.state.as_str())
    .execute(connection)
    .await?;
    Ok(())
}
