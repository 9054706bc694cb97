//! How replicas learn of each other's commits: by PostgreSQL's NOTIFY, and by a look each second, since a notification may
//! be lost and a pooler passes none on.

use std::{collections::BTreeMap, time::Duration};

use sqlx::{Row as _, postgres::PgListener};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::look::is_pooled;
use crate::{
    model::RouteName,
    store::{
        Store, StoreError,
        db::{
            database::{ABSENT, Database, LEASE, WAKE},
            error::in_words,
            meta::{self, WAKES},
            readers::Readers,
            wakes::{Behind, Wakes},
        },
    },
};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The pause before the database is asked to notify again.
const LISTEN_PAUSE: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What the tasks use. They must not keep the store open.
#[derive(Clone)]
struct Others {
    database: Database,
    monitoring: Readers,
    wakes: Wakes,
    /// The row by which this process wakes others.
    own_row: String,
    leases: watch::Sender<u64>,
    absences: watch::Sender<BTreeMap<RouteName, u64>>,
    /// What this process put into its own notifications.
    process: u64,
}

impl Store {
    /// Starts what wakes this process's lanes for the commits of others than this `replica`. It ends with `stop`.
    pub(in crate::store) fn watch_others(&self, replica: &str, stop: CancellationToken) {
        let others = Others {
            database: self.database.clone(),
            monitoring: self.monitoring.clone(),
            wakes: self.wakes.clone(),
            own_row: meta::wake_key(replica),
            leases: self.leases.clone(),
            absences: self.absences.clone(),
            process: self.process,
        };
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = look(others.clone()) => {}
                () = listen(others) => {}
            }
        });
    }

    /// Lets the leader know that an alert of the route is absent, where another process than this one leads.
    pub(in crate::store) async fn notify_absent(&self, route: &str) {
        if !self.is_shared() {
            return;
        }
        // Names of routes are made of letters, digits, dashes and underscores.
        let route: String =
            route.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')).collect();
        let sql = format!("NOTIFY {ABSENT}, '{} {route}'", self.process);
        if let Err(error) = self.database.run_alone(&self.monitoring, sql).await {
            tracing::debug!(%error, "cannot notify the leader of an absent alert");
        }
    }
}

/// Looks for wakes that no notification brought. Which rooms they concern it does not know.
async fn look(store: Others) {
    let mut last = BTreeMap::new();
    loop {
        sleep(LOOK_EVERY).await;
        match read_wakes(&store).await {
            // Also what the first look finds: it may have come since lanes asked what is due.
            Ok(wakes) if wakes != last => {
                store.wakes.wake(&Behind::All);
                last = wakes;
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "cannot look for other replicas' commits"),
        }
    }
}

/// The last wake of each other replica.
async fn read_wakes(store: &Others) -> Result<BTreeMap<String, String>, StoreError> {
    let sql = format!("SELECT key, value FROM meta WHERE key LIKE '{WAKES}%'");
    let rows = store.database.run_alone(&store.monitoring, sql).await?;
    let wakes = rows.iter().map(|row| Ok((row.try_get("key")?, row.try_get("value")?)));
    let mut wakes = wakes.collect::<Result<BTreeMap<String, String>, sqlx::Error>>()?;
    wakes.remove(&store.own_row);
    Ok(wakes)
}

async fn listen(store: Others) {
    loop {
        match listener(&store.database).await {
            Ok(None) => {
                tracing::debug!("a pooler passes no notifications on; looking each second");
                return std::future::pending().await;
            }
            Ok(Some(mut listener)) => {
                // What was missed meanwhile is found by looking.
                while let Ok(Some(notification)) = listener.try_recv().await {
                    take(&store, notification.channel(), notification.payload());
                }
            }
            Err(error) => tracing::debug!(error, "cannot listen to the database; looking each second"),
        }
        sleep(LISTEN_PAUSE).await;
    }
}

/// `None`: there is a pooler in between. It would leave the session that listens to others, which do not expect what comes.
async fn listener(database: &Database) -> Result<Option<PgListener>, String> {
    let mut connection = database.connect(|options| options).await.map_err(|error| in_words(&error))?;
    if is_pooled(database, &mut connection).await.map_err(|error| in_words(&error))? {
        return Ok(None);
    }
    drop(connection);
    let url = database.options(false).map_err(|error| error.to_string())?.database_url;
    let connected = timeout(CONNECT_TIMEOUT, PgListener::connect(url.as_str())).await.map_err(|_| "no answer")?;
    let mut listener = connected.map_err(|error| in_words(&error))?;
    let channels = [WAKE, LEASE, ABSENT];
    listener.listen_all(channels).await.map_err(|error| in_words(&error))?;
    Ok(Some(listener))
}

fn take(store: &Others, channel: &str, payload: &str) {
    match channel {
        WAKE => {
            let mut words = payload.split_whitespace();
            if words.next().is_some_and(|process| process != store.process.to_string()) {
                store.wakes.wake(&Behind::of_words(words));
            }
        }
        LEASE => store.leases.send_modify(|changes| *changes += 1),
        ABSENT => {
            if let Some((process, route)) = payload.split_once(' ')
                && process != store.process.to_string()
                && let Ok(route) = RouteName::parse(route)
            {
                store.absences.send_modify(|routes| *routes.entry(route).or_default() += 1);
            }
        }
        _ => {}
    }
}
