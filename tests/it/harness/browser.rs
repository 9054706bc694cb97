//! A real Chromium without a window, driven over WebDriver (chromedriver's plain JSON over HTTP).

use std::{path::Path, process::Command, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    DEADLINE, eventually,
    http::{Answer, client},
    process::{Process, Scratch, free_port, tail},
};

/// How wide and high the page's window is, in CSS pixels.
pub const WIDE: (u32, u32) = (1200, 900);
pub const NARROW: (u32, u32) = (360, 740);

#[derive(Debug)]
pub struct Browser {
    // Chromium is a child of ours, not of its driver, so that it ends with the test however that ends.
    _chromium: Process,
    _driver: Process,
    scratch: Scratch,
    /// `http://127.0.0.1:PORT/session/ID`
    session: String,
}

impl Browser {
    /// Starts one with an empty profile.
    ///
    /// # Panics
    /// When it does not start (`make tools` installs chromium and chromium-driver).
    pub async fn start() -> Self {
        let (scratch, debugging, port) = (Scratch::new("browser"), free_port(), free_port());
        let profile = scratch.join("profile");
        let mut chromium = Command::new("chromium");
        chromium
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"])
            .args(["--no-first-run", "--disable-background-networking", "--disable-component-update", "--lang=en-GB"])
            .arg(format!("--remote-debugging-port={debugging}"))
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg("about:blank")
            .env("HOME", scratch.path())
            .env("TZ", "UTC");
        let log = scratch.join("chromium.log");
        let chromium = Process::spawn(&mut chromium, &log).expect("chromium is installed (make tools)");
        let what = "chromium listens";
        eventually(what, DEADLINE, async || {
            client().get(format!("http://127.0.0.1:{debugging}/json/version")).send().await.ok()
        })
        .await;
        let mut driver = Command::new("chromedriver");
        driver.arg(format!("--port={port}"));
        let driver = Process::spawn(&mut driver, &scratch.join("driver.log"))
            .expect("chromium-driver is installed (make tools)");
        let url = format!("http://127.0.0.1:{port}");
        eventually("chromedriver listens", DEADLINE, async || client().get(format!("{url}/status")).send().await.ok())
            .await;
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "debuggerAddress": format!("127.0.0.1:{debugging}") },
            "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let answer = Answer::to(client().post(format!("{url}/session")).json(&wanted)).await.expect("an answer");
        let id = answer.json()["value"]["sessionId"].as_str().map(str::to_owned);
        let id = id.unwrap_or_else(|| panic!("no session: {}\n{}", answer.body, tail(&log, 20)));
        let browser = Self { _chromium: chromium, _driver: driver, scratch, session: format!("{url}/session/{id}") };
        browser.resize(WIDE).await;
        browser
    }

    async fn ask(&self, method: Method, path: &str, body: Value) -> Value {
        let mut request = client().request(method.clone(), format!("{}{path}", self.session));
        if method == Method::POST {
            request = request.json(&body);
        }
        let answer = Answer::to(request).await.expect("chromedriver answers");
        assert_eq!(answer.status, 200, "{path}: {}\n{}", answer.body, tail(&self.scratch.join("driver.log"), 20));
        answer.json()["value"].take()
    }

    /// A command of the DevTools protocol.
    async fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.ask(Method::POST, "/goog/cdp/execute", json!({ "cmd": command, "params": parameters })).await
    }

    pub async fn resize(&self, (width, height): (u32, u32)) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.devtools("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// "light" or "dark".
    pub async fn prefer(&self, scheme: &str) {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", features).await;
    }

    pub async fn open(&self, url: &str) {
        self.ask(Method::POST, "/url", json!({ "url": url })).await;
    }

    /// What the body of a function returns.
    pub async fn run(&self, script: &str) -> Value {
        self.ask(Method::POST, "/execute/sync", json!({ "script": script, "args": [] })).await
    }

    /// The page as a reader sees it.
    pub async fn text(&self) -> String {
        self.run("return document.body.innerText").await.as_str().unwrap_or_default().to_owned()
    }

    pub async fn title(&self) -> String {
        self.run("return document.title").await.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the page's text is as wanted, as it comes and without loading the page again; returns it.
    pub async fn wait_text(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = DEADLINE + Duration::from_secs(10);
        eventually(what, deadline, async || Some(self.text().await).filter(|text| wanted(text))).await
    }

    /// What the console got since this was asked last: scripts that failed, and what a policy refused.
    pub async fn complaints(&self) -> Vec<String> {
        let log = self.ask(Method::POST, "/se/log", json!({ "type": "browser" })).await;
        let entries = log.as_array().cloned().unwrap_or_default();
        entries.iter().map(|entry| format!("{} {}", entry["level"], entry["message"])).collect()
    }

    /// How far the page is wider than its window, in CSS pixels.
    pub async fn overflow(&self) -> i64 {
        let script = "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
        self.run(script).await.as_i64().expect("a number")
    }

    /// The whole page as PNG.
    pub async fn picture(&self, path: &Path) {
        let shot = self.devtools("Page.captureScreenshot", json!({ "captureBeyondViewport": true })).await;
        let png = BASE64_STANDARD.decode(shot["data"].as_str().expect("a picture")).expect("base64");
        std::fs::write(path, png).expect("the picture is written");
    }
}
