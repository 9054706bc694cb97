//! Several receivers of one config on one database.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::Value;

use super::{DEADLINE, Database, Receiver, ReceiverBuilder, eventually, http::Answer};

/// The replicas of one receiver: named `replica-0`, `replica-1`, …, each with its own port and `store.path`.
#[derive(Debug)]
pub struct Replicas {
    pub all: Vec<Receiver>,
    /// After the receivers, which must not lose it while they run.
    pub database: Arc<Database>,
    next: AtomicUsize,
}

impl Replicas {
    /// Starts `count` of them, one after the other, on a database that nobody else has.
    pub async fn start(builder: ReceiverBuilder, count: usize, database: Database) -> Self {
        let url = database.url();
        Self::start_at(builder, count, database, &url).await
    }

    /// The same, with the database reached by this URL: a proxy's or PgBouncer's.
    pub async fn start_at(builder: ReceiverBuilder, count: usize, database: Database, url: &str) -> Self {
        let database = Arc::new(database);
        let mut builders = vec![builder.on(&database, url).set("store.replica", name(0))];
        for number in 1..count {
            builders.push(builders[0].replica(&name(number)));
        }
        let mut all = Vec::new();
        for builder in builders {
            all.push(builder.start().await);
        }
        Self { all, database, next: AtomicUsize::new(0) }
    }

    /// Posts to one after the other, as a load balancer does: the next one takes what cannot be delivered to one. The last
    /// one's answer, if none takes it.
    pub async fn try_post(&self, route: &str, payload: impl Into<Value>) -> reqwest::Result<Answer> {
        let payload = payload.into();
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let mut last = None;
        for number in 0..self.all.len() {
            let replica = &self.all[(first + number) % self.all.len()];
            let answer = replica.try_post(route, payload.clone()).await;
            if answer.as_ref().is_ok_and(|answer| answer.status < 500) {
                return answer;
            }
            last = Some(answer);
        }
        last.expect("there are replicas")
    }

    /// Posts until it is accepted, as Alertmanager does; returns the notification id.
    ///
    /// # Panics
    /// When it is refused, or at the deadline.
    pub async fn accept(&self, route: &str, payload: impl Into<Value>) -> String {
        let payload = payload.into();
        eventually("a replica accepts it", DEADLINE, async || {
            let answer = self.try_post(route, payload.clone()).await.ok().filter(|answer| answer.status < 500)?;
            assert_eq!(answer.status, 200, "{}", answer.body);
            answer.json()["notification"].as_str().map(str::to_owned)
        })
        .await
    }

    /// Which of those that answer say that they lead.
    pub async fn leaders(&self) -> Vec<usize> {
        let mut leaders = Vec::new();
        for (number, replica) in self.all.iter().enumerate() {
            let request = replica.request(reqwest::Method::GET, "/metrics").timeout(Duration::from_secs(2));
            let Ok(answer) = Answer::to(request).await else { continue };
            if super::Samples::parse(&answer.body).sum("leader", &[("replica", &name(number))]) > 0.5 {
                leaders.push(number);
            }
        }
        leaders
    }

    /// Waits until exactly one says that it leads; which.
    pub async fn leader(&self) -> usize {
        eventually("one replica leads", DEADLINE, async || match self.leaders().await[..] {
            [one] => Some(one),
            _ => None,
        })
        .await
    }
}

/// Of a replica, as its config has it.
pub fn name(number: usize) -> String {
    format!("replica-{number}")
}
