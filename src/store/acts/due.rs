//! What is to be carried out now, or later.

use sqlx::Row as _;

use super::rows::{self, DueAct};
use crate::store::db::statement;
use crate::{
    model::{ActState, RouteName, Timestamp},
    store::{Store, StoreError},
};

/// Acts that are read at once.
const DUE: i64 = 64;

impl Store {
    /// Acts of a route that are to be carried out, or looked after, by now; in the order in which they were asked for.
    /// Those that ask for evidence are left out: they take long, and others must not wait behind them.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn due_acts(&self, route: &RouteName) -> Result<Vec<DueAct>, StoreError> {
        self.read_due(
            "SELECT * FROM act WHERE route = $1 AND state IN ('asked', 'in_doubt') AND next_try <= $2 \
             AND kind NOT IN ('logs', 'graph') ORDER BY id LIMIT $3",
            route,
        )
        .await
    }

    /// The same of those that ask for evidence.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn due_for_evidence(&self, route: &RouteName) -> Result<Vec<DueAct>, StoreError> {
        self.read_due(
            "SELECT * FROM act WHERE route = $1 AND state IN ('asked', 'in_doubt') AND next_try <= $2 \
             AND kind IN ('logs', 'graph') ORDER BY id LIMIT $3",
            route,
        )
        .await
    }

    async fn read_due(&self, sql: &'static str, route: &RouteName) -> Result<Vec<DueAct>, StoreError> {
        let (now, mut connection) = (self.clock.now(), self.readers.acquire().await?);
        let rows = statement::query(sql).bind(route.as_str()).bind(now.0).bind(DUE).fetch_all(&mut *connection).await?;
        rows.iter().map(rows::act).collect()
    }

    /// When the next act of a route is due.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn next_act_at(&self, route: &RouteName) -> Result<Option<Timestamp>, StoreError> {
        let mut connection = self.readers.acquire().await?;
        let next: Option<i64> = statement::query_scalar(
            "SELECT next_try FROM act WHERE route = $1 AND state IN ('asked', 'in_doubt') \
             ORDER BY next_try LIMIT 1",
        )
        .bind(route.as_str())
        .fetch_optional(&mut *connection)
        .await?;
        Ok(next.map(Timestamp))
    }

    /// The routes that have something left to be carried out.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn routes_with_acts(&self) -> Result<Vec<RouteName>, StoreError> {
        let mut connection = self.readers.acquire().await?;
        let rows = statement::query("SELECT DISTINCT route FROM act WHERE state IN ('asked', 'in_doubt')")
            .fetch_all(&mut *connection)
            .await?;
        let mut routes = Vec::with_capacity(rows.len());
        for row in &rows {
            routes.extend(RouteName::parse(row.try_get(0)?));
        }
        Ok(routes)
    }

    /// Tries it again later. `outcome`: what is known of it so far; `None`: as before.
    ///
    /// # Errors
    /// When it cannot be committed.
    pub async fn postpone_act(
        &self,
        act: &str,
        state: ActState,
        next_try: Timestamp,
        outcome: Option<&'static str>,
    ) -> Result<(), StoreError> {
        let act = act.to_owned();
        self.write(move |connection, _| {
            Box::pin(async move {
                statement::query(
                    "UPDATE act SET state = $2, next_try = $3, outcome = coalesce($4, outcome), attempts = attempts + 1 \
                     WHERE id = $1 AND state IN ('asked', 'in_doubt')",
                )
                .bind(act)
                .bind(state.as_str())
                .bind(next_try.0)
                .bind(outcome)
                .execute(connection)
                .await?;
                Ok(())
            })
        })
        .await
    }
}
