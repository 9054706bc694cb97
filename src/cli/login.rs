//! `login` and `logout`: create and remove the receiver's device.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context as _, bail};
use clap::Args;

use crate::{
    clock::Clock,
    config::{Config, Credential, Purpose, Secret},
    matrix::{self, LoginOutcome, LoginRequest, SharedLogin, SharedOutcome},
    metrics::Metrics,
    store::{self, Store},
};

/// Logs in with a password and creates a device for the receiver.
///
/// Stores the session in store.path (so run it as the receiver's user, while the receiver is stopped), creates the device's
/// keys, and has the account sign them, so that clients show no warning in encrypted rooms. Prints the lines for the config,
/// and the account's recovery key if it created one. Asks for missing settings.
///
/// With replicas (store.database_url) each one runs it for its session, and the first one logs the device in that
/// all of them share for plain rooms.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  matrix-alertmanager-receiver login \\
    --homeserver https://matrix.example.org --user @alerts:example.org
  matrix-alertmanager-receiver login --config receiver.toml \\
    --password-file /run/secrets/matrix-password")]
pub struct Login {
    /// The URL of the homeserver's client API, in place of matrix.homeserver.
    #[arg(long, value_name = "URL")]
    homeserver: Option<String>,
    /// The account, in place of matrix.user_id.
    #[arg(long, value_name = "@NAME:SERVER")]
    user: Option<String>,
    /// Read the password from this file, in place of asking for it or of matrix.password_file.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Give the account a new identity in place of the one it has, and a new recovery key. Whoever has verified the old
    /// one is warned that it changed, and other devices of the account must be verified again.
    #[arg(long)]
    reset_identity: bool,
    /// With replicas: log the device that all of them share in again, although its session works. Running replicas take the
    /// new session within seconds.
    #[arg(long)]
    shared: bool,
}

/// Ends the session that login stored.
///
/// The homeserver removes the device; the session and its keys are removed from store.path. The account keeps its
/// identity and its recovery key, and with replicas the device that all of them share. Run it while the receiver is
/// stopped.
#[derive(Debug, Args)]
pub struct Logout {}

impl Login {
    pub fn run(self, config: Option<&Path>) -> anyhow::Result<ExitCode> {
        let config = self.config(config)?;
        if self.shared && config.store.database_url.is_none() {
            bail!("--shared is for replicas, and the config has no store.database_url: there is one device only");
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let done = runtime.block_on(self.log_in(&config))?;
        println!("Logged in as {}, device {}.", config.matrix.user_id, done.device);
        println!(
            "The session is kept in {}; no token and no password is needed in the config:\n",
            config.store.path.display()
        );
        println!(
            "[matrix]\nhomeserver = {:?}\nuser_id = {:?}",
            config.matrix.homeserver.as_str(),
            config.matrix.user_id
        );
        println!("\n[store]\npath = {:?}", config.store.path.display().to_string());
        if let Some(shared) = &done.shared {
            print_shared(shared);
        } else if matches!(config.matrix.credential, Some(Credential::AccessToken(_))) {
            println!("\nTake matrix.access_token_file (or access_token) out: a token in the config beats the session.");
        }
        if let Some(key) = &done.recovery_key {
            println!(
                "\nThe account's recovery key, shown this once. Whoever has it can take over the bot's encryption,"
            );
            println!("and without it a new device cannot be trusted: keep it in a safe place.\n\n    {}", key.expose());
            println!("\nA file with it can be named in matrix.recovery_key_file; then a new device needs nobody.");
            if done.replaces_key {
                println!(
                    "\nNOTE: the account had a recovery key already, for an identity (cross-signing keys) that it no"
                );
                println!("longer has. The new key replaces it; the old one opens nothing any more.");
            }
        } else if done.warning.is_none() {
            println!("\nThe account has an identity already: it is kept, and its recovery key stays as it is.");
        }
        let Some(warning) = done.warning else {
            println!("\nThe device is signed by the account's identity: clients show no warning.");
            return Ok(ExitCode::SUCCESS);
        };
        eprintln!("WARNING: logged in, but clients will show a warning on encrypted messages: {warning}");
        Ok(ExitCode::FAILURE)
    }

    async fn log_in(&self, config: &Config) -> anyhow::Result<LoginOutcome> {
        let path = &config.store.path;
        // Both lock the folder.
        let (_alone, store) = match &config.store.database_url {
            Some(_) => (None, Some(open_shared(config).await?)),
            None => (Some(store::lock_folder(path)?), None),
        };
        store::keep_temporary_files_in(path).await?;
        let done = matrix::log_in(LoginRequest {
            config: &config.matrix,
            store_path: path.clone(),
            password: self.password(config)?,
            reset_identity: self.reset_identity,
            shared: store.as_ref().map(|store| shared_login(store, self.shared)),
        })
        .await;
        if let Some(store) = store {
            store.close().await;
        }
        done
    }

    /// The config, overlaid with the command line; asks for what is in neither.
    fn config(&self, file: Option<&Path>) -> anyhow::Result<Config> {
        let mut environment = crate::config::environment();
        let mut set = |name: &str, value: &Option<String>| {
            if let Some(value) = value {
                environment.insert(name.to_owned(), value.clone());
            }
        };
        set("MAR_MATRIX__HOMESERVER", &self.homeserver);
        set("MAR_MATRIX__USER_ID", &self.user);
        ask_for_missing(file, &mut environment)?;
        Ok(Config::load(file, &environment, Purpose::Login)?)
    }

    fn password(&self, config: &Config) -> anyhow::Result<Secret> {
        if let Some(path) = &self.password_file {
            let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            return without_line_break(&text)
                .with_context(|| format!("{} is empty, expected a password", path.display()));
        }
        if let Some(Credential::Password(password)) = &config.matrix.credential {
            return Ok(password.clone());
        }
        let text = if io::stdin().is_terminal() {
            rpassword::prompt_password(format!("Password of {}: ", config.matrix.user_id))?
        } else {
            line_of_stdin()?
        };
        without_line_break(&text).context("no password was given: name a file with --password-file, or pipe it in")
    }
}

impl Logout {
    #[expect(clippy::unused_self, reason = "a command like the others")]
    pub fn run(self, config: Option<&Path>) -> anyhow::Result<ExitCode> {
        let config = Config::load(config, &crate::config::environment(), Purpose::Logout)?;
        let _alone = store::lock_folder(&config.store.path)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        match runtime.block_on(matrix::log_out(&config.matrix, config.store.path.clone()))? {
            Some(device) => println!("Logged out: device {device} is gone, and its keys are removed from store.path."),
            None => println!("Nobody is logged in: there is no session in {}.", config.store.path.display()),
        }
        if config.store.database_url.is_some() {
            println!("The device that all replicas share stays logged in.");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Opens the store that replicas share, and locks this replica's folder.
async fn open_shared(config: &Config) -> anyhow::Result<Store> {
    let metrics = Arc::new(Metrics::new(&[], &[], "", ""));
    let opened = Store::open_as_configured(&config.store, Clock::system(), metrics, Arc::default()).await;
    opened.context("login keeps the shared session in the database of store.database_url")
}

fn shared_login(store: &Store, force: bool) -> SharedLogin {
    let (from, to) = (store.clone(), store.clone());
    SharedLogin {
        load: Arc::new(move || {
            let store = from.clone();
            Box::pin(async move { Ok(store.shared_session().await?) })
        }),
        save: Arc::new(move |text| {
            let store = to.clone();
            Box::pin(async move { Ok(store.set_shared_session(text).await?) })
        }),
        force,
    }
}

fn print_shared(shared: &SharedOutcome) {
    match shared {
        SharedOutcome::LoggedIn(device) => {
            println!("\nThe device that all replicas share, {device}, is logged in; the database keeps its session.");
        }
        SharedOutcome::Kept(device) => {
            println!("\nThe device that all replicas share, {device}, has a session that works: it is kept.");
        }
        SharedOutcome::FromConfig(_) => {
            println!("\nThe access token of the config is the device that all replicas share: leave it there.");
        }
    }
    println!("Run login on each replica.");
}

/// Asks for homeserver and user on a terminal.
fn ask_for_missing(file: Option<&Path>, environment: &mut BTreeMap<String, String>) -> anyhow::Result<()> {
    if !io::stdin().is_terminal() {
        return Ok(());
    }
    let known = Config::load(file, environment, Purpose::Render)?;
    let questions = [
        ("MAR_MATRIX__HOMESERVER", "Homeserver (https://matrix.example.org): ", known.matrix.lacks_homeserver()),
        ("MAR_MATRIX__USER_ID", "User (@alerts:example.org): ", known.matrix.lacks_user()),
    ];
    for (name, question, lacking) in questions {
        if lacking {
            eprint!("{question}");
            io::stderr().flush()?;
            environment.insert(name.to_owned(), line_of_stdin()?.trim().to_owned());
        }
    }
    Ok(())
}

fn line_of_stdin() -> anyhow::Result<String> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).context("cannot read from standard input")?;
    Ok(line)
}

/// The text without its line break; `None` if nothing is left.
fn without_line_break(text: &str) -> Option<Secret> {
    let line = text.strip_suffix('\n').unwrap_or(text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    (!line.is_empty()).then(|| Secret::new(line))
}
