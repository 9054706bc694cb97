//! `dead-letters`: messages that the homeserver refused in every form. Asks the running receiver over its control socket.

mod show;

use std::{path::Path, process::ExitCode};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::Value;

use self::show::{in_full, table, text};
use super::support::{
    control::Control,
    http_client,
    output::{clean, json_text, print},
};
use crate::config::{Config, Purpose};

/// Lists, shows, retries and drops what the homeserver refused in every form (dead letters).
///
/// Talks to the running receiver over a socket in store.path, so it must run on the same machine, as the same user or as
/// root, and with the same config; no secrets are needed. A dead letter that is neither retried nor dropped is removed after
/// 30 days.
/// Exits with 1 and the reason when something could not be done.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_long_help = "\
Examples:
  matrix-alertmanager-receiver dead-letters
  matrix-alertmanager-receiver dead-letters show 01JD8XKXW5T3B6F4R1Z0C2N7QE
  matrix-alertmanager-receiver dead-letters retry --all
  matrix-alertmanager-receiver dead-letters list --json | jq -r '.[].id'"
)]
pub struct DeadLetters {
    #[command(subcommand)]
    action: Option<Action>,
    /// List as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Lists them, the oldest first (the default).
    List {
        /// List as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Shows one with the content that was refused.
    Show {
        id: String,
        /// Show as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Shows the room the newest state of the card in place of the dead letter.
    Retry(Which),
    /// Removes them.
    Drop(Which),
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Which {
    id: Option<String>,
    /// All dead letters.
    #[arg(long)]
    all: bool,
}

impl DeadLetters {
    pub fn run(self, config: Option<&Path>) -> anyhow::Result<ExitCode> {
        let config = Config::load(config, &crate::config::environment(), Purpose::Render)?;
        let letters = Letters { control: Control::of(&config)? };
        http_client::block_on(async {
            match self.action.unwrap_or(Action::List { json: self.json }) {
                Action::List { json } => letters.list(json).await,
                Action::Show { id, json } => letters.show(&id, json).await,
                Action::Retry(which) => letters.each(which, Method::POST, &["retry"]).await,
                Action::Drop(which) => letters.each(which, Method::DELETE, &[]).await,
            }
        })
    }
}

struct Letters {
    control: Control,
}

impl Letters {
    async fn ask(&self, method: Method, path: &[&str]) -> anyhow::Result<Value> {
        let path: Vec<&str> = ["dead-letters"].iter().chain(path).copied().collect();
        self.control.ask(method, &path, None).await
    }

    /// The oldest dead letters, and how many more exist.
    async fn all(&self) -> anyhow::Result<(Vec<Value>, usize)> {
        let mut answer = self.ask(Method::GET, &[]).await?;
        let Value::Array(letters) = answer["dead_letters"].take() else { bail!("the receiver's answer has no list") };
        let total = answer["total"].as_u64().and_then(|total| usize::try_from(total).ok()).unwrap_or_default();
        let more = total.saturating_sub(letters.len());
        Ok((letters, more))
    }

    async fn list(&self, json: bool) -> anyhow::Result<ExitCode> {
        let (letters, more) = self.all().await?;
        if json {
            print(&json_text(&Value::Array(letters))?)?;
        } else if letters.is_empty() {
            print("no dead letters")?;
        } else {
            print(table(&letters).trim_end())?;
        }
        report_more(more);
        Ok(ExitCode::SUCCESS)
    }

    async fn show(&self, id: &str, json: bool) -> anyhow::Result<ExitCode> {
        let letter = self.ask(Method::GET, &[id]).await.with_context(|| clean(id))?;
        print(&if json { json_text(&letter)? } else { in_full(&letter)? })?;
        Ok(ExitCode::SUCCESS)
    }

    /// Sends a request for each; a failure does not stop the others.
    async fn each(&self, which: Which, method: Method, path: &[&str]) -> anyhow::Result<ExitCode> {
        let (ids, more) = if let Some(id) = which.id {
            (vec![id], 0)
        } else {
            let (letters, more) = self.all().await?;
            (letters.iter().map(|letter| letter["id"].as_str().unwrap_or_default().to_owned()).collect(), more)
        };
        if ids.is_empty() {
            print("no dead letters")?;
        }
        let mut code = ExitCode::SUCCESS;
        for id in ids {
            let path: Vec<&str> = [id.as_str()].into_iter().chain(path.iter().copied()).collect();
            match self.ask(method.clone(), &path).await {
                Ok(answer) => print(&format!("{}: {}", clean(&id), text(&answer, "note")))?,
                Err(why) => {
                    eprintln!("error: {}: {why:#}", clean(&id));
                    code = ExitCode::FAILURE;
                }
            }
        }
        report_more(more);
        Ok(code)
    }
}

fn report_more(more: usize) {
    if more > 0 {
        eprintln!("{more} more are not listed; retry or drop these first");
    }
}
