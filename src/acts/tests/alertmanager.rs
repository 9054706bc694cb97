//! An Alertmanager that loses answers.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate, matchers::any};

use crate::model::Labels;

/// What becomes of a request that changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is carried out, and nobody hears of it.
    AnswerLost,
    /// It is not carried out, and nobody hears of that.
    Lost,
    Refused,
}

#[derive(Default)]
struct State {
    alerts: Vec<Value>,
    silences: Vec<Value>,
    fates: VecDeque<Fate>,
    posts: usize,
    is_down: bool,
    made: usize,
}

#[derive(Clone)]
pub(super) struct FakeAlertmanager {
    state: Arc<Mutex<State>>,
    _server: Arc<MockServer>,
    pub urls: Vec<String>,
}

struct Answers(Arc<Mutex<State>>);

impl Respond for Answers {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let mut state = self.0.lock().expect("a lock");
        let path = request.url.path().to_owned();
        if state.is_down {
            return ResponseTemplate::new(503).set_body_json("down");
        }
        match (request.method.as_str(), path.as_str()) {
            ("GET", "/api/v2/alerts") => ResponseTemplate::new(200).set_body_json(&state.alerts),
            ("GET", "/api/v2/silences") => ResponseTemplate::new(200).set_body_json(&state.silences),
            ("POST", "/api/v2/silences") => state.post(request.body_json().expect("JSON")),
            ("DELETE", path) => {
                let id = path.rsplit('/').next().unwrap_or_default().to_owned();
                state.expire(&id)
            }
            _ => ResponseTemplate::new(404),
        }
    }
}

impl State {
    fn post(&mut self, mut silence: Value) -> ResponseTemplate {
        self.posts += 1;
        let fate = self.fates.pop_front();
        match fate {
            Some(Fate::Lost) => return ResponseTemplate::new(502),
            Some(Fate::Refused) => return ResponseTemplate::new(400).set_body_json("limit of silences reached"),
            Some(Fate::AnswerLost) | None => {}
        }
        let id = match silence["id"].as_str().map(ToOwned::to_owned) {
            Some(id) if self.is_active(&id) => {
                self.silences.retain(|known| known["id"] != id.as_str());
                id
            }
            _ => {
                self.made += 1;
                format!("s-{}", self.made)
            }
        };
        silence["id"] = id.as_str().into();
        silence["status"] = json!({ "state": "active" });
        self.silences.push(silence);
        match fate {
            Some(_) => ResponseTemplate::new(502),
            None => ResponseTemplate::new(200).set_body_json(json!({ "silenceID": id })),
        }
    }

    fn is_active(&self, id: &str) -> bool {
        self.silences.iter().any(|known| known["id"] == id && known["status"]["state"] == "active")
    }

    fn expire(&mut self, id: &str) -> ResponseTemplate {
        let Some(silence) = self.silences.iter_mut().find(|known| known["id"] == id) else {
            return ResponseTemplate::new(404).set_body_json("silence not found");
        };
        silence["status"]["state"] = "expired".into();
        ResponseTemplate::new(200)
    }
}

impl FakeAlertmanager {
    pub async fn start() -> Self {
        let (state, server) = (Arc::new(Mutex::new(State::default())), MockServer::start().await);
        Mock::given(any()).respond_with(Answers(Arc::clone(&state))).mount(&server).await;
        Self { state, urls: vec![server.uri()], _server: Arc::new(server) }
    }

    pub fn fires(&self, fingerprint: &str, receiver: &str, labels: &Labels) {
        let alert = json!({
            "fingerprint": fingerprint, "labels": labels, "receivers": [{ "name": receiver }],
            "startsAt": "2026-11-22T18:00:00Z", "status": { "state": "active", "silencedBy": [], "inhibitedBy": [] },
        });
        self.state.lock().expect("a lock").alerts.push(alert);
    }

    pub fn then(&self, fates: &[Fate]) {
        self.state.lock().expect("a lock").fates.extend(fates);
    }

    pub fn down(&self, is_down: bool) {
        self.state.lock().expect("a lock").is_down = is_down;
    }

    pub fn posts(&self) -> usize {
        self.state.lock().expect("a lock").posts
    }

    pub fn expire(&self, id: &str) {
        self.state.lock().expect("a lock").expire(id);
    }

    /// Those that are active.
    pub fn silences(&self) -> Vec<Value> {
        let state = self.state.lock().expect("a lock");
        state.silences.iter().filter(|silence| silence["status"]["state"] == "active").cloned().collect()
    }

    /// `alertname=A …` of each active one.
    pub fn matchers(&self) -> Vec<String> {
        let of = |silence: &Value| {
            let matchers = silence["matchers"].as_array().expect("a list").iter();
            let words = matchers.map(|matcher| {
                assert!(matcher["isEqual"] == true && matcher["isRegex"] == false, "{matcher}");
                format!("{}={}", matcher["name"].as_str().unwrap_or("?"), matcher["value"].as_str().unwrap_or("?"))
            });
            words.collect::<Vec<_>>().join(" ")
        };
        self.silences().iter().map(of).collect()
    }
}
