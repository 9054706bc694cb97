//! Sources and a homeserver that do what the test says.

use std::{
    collections::VecDeque,
    future::pending,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use regex::Regex;
use serde_json::{Value, json};

use crate::{
    config::EvidenceSource,
    evidence::{
        BoxFuture, Media, NoEvidence, Picture,
        graph::GraphWanted,
        logs::{LogLines, LogsWanted},
        sources::Sources,
    },
    model::{Reason, RoomAddress, SendError, Timestamp},
};

/// What becomes of one question or upload.
#[derive(Clone, Debug)]
pub(crate) enum Fate {
    Works,
    Fails(NoEvidence),
    Hangs,
    Panics,
}

/// Both at once. What no fate is left for works.
#[derive(Default)]
pub(crate) struct Scripted {
    pub fates: Mutex<VecDeque<Fate>>,
    pub uploads: Mutex<VecDeque<Fate>>,
    pub is_encrypted: Mutex<Option<bool>>,
    pub logs_wanted: Mutex<Vec<LogsWanted>>,
    pub graphs_wanted: Mutex<Vec<GraphWanted>>,
    /// Questions that have begun, and those that wait for an answer.
    pub asked: AtomicUsize,
    pub at_once: AtomicUsize,
    pub most_at_once: AtomicUsize,
}

impl Scripted {
    pub fn then(&self, fates: &[Fate]) {
        self.fates.lock().expect("a lock").extend(fates.iter().cloned());
    }

    pub fn then_uploads(&self, fates: &[Fate]) {
        self.uploads.lock().expect("a lock").extend(fates.iter().cloned());
    }

    async fn answer(&self, fates: &Mutex<VecDeque<Fate>>) -> Result<(), NoEvidence> {
        let fate = fates.lock().expect("a lock").pop_front().unwrap_or(Fate::Works);
        let at_once = self.at_once.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_at_once.fetch_max(at_once, Ordering::Relaxed);
        self.asked.fetch_add(1, Ordering::Relaxed);
        let _left = Left(&self.at_once);
        tokio::task::yield_now().await;
        match fate {
            Fate::Works => Ok(()),
            Fate::Fails(why) => Err(why),
            Fate::Hangs => pending().await,
            Fate::Panics => panic!("a scripted panic"),
        }
    }
}

struct Left<'a>(&'a AtomicUsize);

impl Drop for Left<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Sources for Scripted {
    fn logs<'a>(
        &'a self,
        _: &'a EvidenceSource,
        _: &'a [Regex],
        wanted: &'a LogsWanted,
    ) -> BoxFuture<'a, Result<LogLines, NoEvidence>> {
        self.logs_wanted.lock().expect("a lock").push(wanted.clone());
        Box::pin(async {
            self.answer(&self.fates).await?;
            let lines = vec![(Timestamp(1), "first <b>line</b>".to_owned()), (Timestamp(2), "second line".to_owned())];
            Ok(LogLines { lines, ..LogLines::default() })
        })
    }

    fn graph<'a>(
        &'a self,
        _: &'a EvidenceSource,
        wanted: &'a GraphWanted,
    ) -> BoxFuture<'a, Result<Picture, NoEvidence>> {
        self.graphs_wanted.lock().expect("a lock").push(wanted.clone());
        Box::pin(async {
            self.answer(&self.fates).await?;
            Ok(Picture { png: b"PNG".to_vec(), width: 1200, height: 420, alt: "up: 0, below 1".to_owned() })
        })
    }
}

impl Media for Scripted {
    fn upload<'a>(&'a self, _: &'a RoomAddress, _: &'a [u8]) -> BoxFuture<'a, Result<Value, SendError>> {
        Box::pin(async {
            match self.answer(&self.uploads).await {
                Ok(()) => Ok(json!({ "url": "mxc://example.org/picture" })),
                Err(NoEvidence::NotUploaded(error)) => Err(error),
                Err(other) => Err(refused(Reason::ServerError, &other.to_string())),
            }
        })
    }

    fn is_encrypted<'a>(&'a self, _: &'a RoomAddress) -> BoxFuture<'a, Option<bool>> {
        Box::pin(async { *self.is_encrypted.lock().expect("a lock") })
    }
}

pub(crate) fn refused(reason: Reason, detail: &str) -> SendError {
    SendError { reason, retry_after: None, detail: detail.to_owned() }
}
