//! Turns metio's keys into ours. What metio does with each: its `internal/config` and `main.go` at commit d74351b.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::Context as _;

use super::{
    draft::{Draft, accepted, quoted},
    keys::{Key, Keys, boolean},
    links,
    report::Report,
    rooms,
    values::Value,
};
use crate::config::{Config, Purpose};

/// Files for the secrets that are not copied.
const TOKEN_FILE: &str = "/run/secrets/matrix-token";
const PASSWORD_FILE: &str = "/run/secrets/webhook-password";
const BEARER_FILE: &str = "/run/secrets/webhook-token";
const PROXY_FILE: &str = "/run/secrets/proxy-url";

/// The user name that metio expects if none is set.
const USERNAME: &str = "alertmanager";

/// The result of an import.
pub(super) struct Imported {
    pub(super) toml: String,
    /// Whether the TOML holds a secret.
    pub(super) secret: bool,
    pub(super) report: Report,
}

/// # Errors
/// When the receiver does not accept the result, which is a bug.
pub(super) fn import(keys: &Keys, name: &str, secrets: bool) -> anyhow::Result<Imported> {
    let head = format!("Made from {name} of metio/matrix-alertmanager-receiver. Every key: config.example.toml");
    let mut mapping = Mapping { keys, secrets, draft: Draft::new(&head), report: Report::of(name) };
    mapping.http();
    mapping.matrix();
    mapping.store();
    let prefix = mapping.prefix();
    let old_names = rooms::routes(keys, &prefix, &mut mapping.draft, &mut mapping.report);
    links::mappings(keys, &mut mapping.draft, &mut mapping.report);
    mapping.compat(&old_names);
    links::templating(keys, &mut mapping.report);
    for key in keys.unknown() {
        mapping.report.ignored(key);
    }
    let Mapping { draft, report, .. } = mapping;
    Config::parse(&draft.toml, "the result", Purpose::Render)
        .context("the receiver does not accept the result; please report this bug")?;
    Ok(Imported { toml: draft.toml, secret: draft.secret, report })
}

struct Mapping<'k> {
    keys: &'k Keys,
    /// Whether secrets may be written into the TOML.
    secrets: bool,
    draft: Draft,
    report: Report,
}

impl<'k> Mapping<'k> {
    /// The key at `path` if it holds anything; reports an empty one.
    fn set(&mut self, path: &'static str) -> Option<&'k Key> {
        let key = self.keys.get(path)?;
        if key.value == Value::Nothing {
            self.report.nothing(key, "empty, which is as if it were not there");
            return None;
        }
        Some(key)
    }

    fn http(&mut self) {
        let only_local = self.listen();
        self.auth(only_local);
        if let Some(key) = self.set("http.metrics-enabled") {
            match key.value.text().and_then(boolean) {
                Some(true) => self.report.kept(key, "always on"),
                _ => self.report.changes(key, "always on", "/metrics is served in any case, on http.listen"),
            }
        }
        if let Some(key) = self.set("http.metrics-path") {
            if key.value.text() == Some("/metrics") {
                self.report.kept(key, "/metrics");
            } else {
                let text = "it is /metrics here: change metrics_path of Prometheus' scrape config";
                self.report.hand(key, "", text);
            }
        }
    }

    /// Sets `http.listen`, and returns whether only this host can reach it.
    fn listen(&mut self) -> bool {
        let (address, port) = (self.set("http.address"), self.set("http.port"));
        let to = "http.listen";
        if [address, port].iter().flatten().any(|key| key.value.text().is_none()) {
            for key in [address, port].into_iter().flatten() {
                let text = key.value.variable().map_or_else(String::new, |name| format!("holds ${{{name}}}: "));
                self.report.hand(key, to, &format!("{text}set it, or MAR_HTTP__LISTEN, to ADDRESS:PORT"));
            }
            self.draft.remark("http", "listen: set it, or MAR_HTTP__LISTEN in the environment, to ADDRESS:PORT");
            return false;
        }
        let text = |key: Option<&'k Key>| key.and_then(|key| key.value.text());
        let port_number = text(port).and_then(|port| port.parse::<u16>().ok());
        let (Some(port), Some(number)) = (port, port_number) else {
            let text = "metio does not start without it; the receiver listens on 127.0.0.1:9088";
            self.report.unset("http.port", to, text);
            if let Some(key) = address {
                self.report.hand(key, to, "without a port it was not carried over");
            }
            return true;
        };
        let ip = if let Some(address) = address {
            self.report.kept(port, to);
            self.address(address, to)
        } else {
            let all = format!(
                "without http.address metio listens on all interfaces: 0.0.0.0; \"[::]:{number}\" has IPv6 as well"
            );
            self.report.changes(port, to, &all);
            Ipv4Addr::UNSPECIFIED.into()
        };
        self.draft.set("http", "listen", &quoted(&SocketAddr::new(ip, number).to_string()));
        ip.to_canonical().is_loopback()
    }

    fn address(&mut self, key: &Key, to: &str) -> IpAddr {
        let text = key.value.text().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        if let Ok(ip) = text.parse() {
            self.report.kept(key, to);
            return ip;
        }
        let local = IpAddr::from(Ipv4Addr::LOCALHOST);
        if text.eq_ignore_ascii_case("localhost") {
            self.report.changes(key, to, "an address is needed here: 127.0.0.1");
        } else {
            let text = "an address is needed here, no name; 127.0.0.1 stands there until you set it";
            self.report.hand(key, to, text);
        }
        local
    }

    fn auth(&mut self, only_local: bool) {
        let (username, password) = (self.set("http.basic-username"), self.set("http.basic-password"));
        let Some(password) = password else {
            if let Some(key) = username {
                self.report.nothing(key, "without http.basic-password nobody is asked for it");
            }
            self.open(only_local);
            return;
        };
        let user = match username {
            None => USERNAME,
            Some(key) => match key.value.text() {
                Some(text) if accepted("http", "auth", &table(text, "password", "x")).is_ok() => {
                    self.report.kept(key, "http.auth.username");
                    text
                }
                _ => {
                    let text = format!("no user name can be made of it; {USERNAME:?} stands there until you set it");
                    self.report.hand(key, "http.auth.username", &text);
                    USERNAME
                }
            },
        };
        if self.secrets
            && let Some(text) = password.value.text()
            && accepted("http", "auth", &table(user, "password", text)).is_ok()
        {
            self.report.kept(password, "http.auth.password");
            self.draft.set("http", "auth", &table(user, "password", text));
            self.draft.secret = true;
        } else {
            self.draft.set("http", "auth", &table(user, "password_file", PASSWORD_FILE));
            self.left_behind(password, "http.auth.password_file", PASSWORD_FILE);
        }
    }

    /// Without a password metio accepts any webhook; the receiver does only from its own host.
    fn open(&mut self, only_local: bool) {
        if only_local {
            self.draft.remark("http", "Nobody is asked for credentials, since only this host can reach it.");
            self.draft.set("http", "auth", "\"none\"");
            return;
        }
        let text = format!(
            "metio lets in whoever reaches the port; here webhooks need a token on any address but loopback: put a long \
             random one into {BEARER_FILE} and into http_config of Alertmanager's webhook_config, or set auth = \"none\" and \
             allow_unauthenticated = true"
        );
        self.report.unset("http.basic-password", "http.auth", &text);
        self.draft
            .remark("http", "The same token belongs into http_config.authorization of Alertmanager's webhook_config.");
        self.draft.set("http", "auth", &format!("{{ bearer_token_file = {} }}", quoted(BEARER_FILE)));
        self.draft.remark("http", "Or, as metio had it, in place of the line above:");
        self.draft.example("http", "auth = \"none\"");
        self.draft.example("http", "allow_unauthenticated = true");
    }

    /// Reports a secret that is not copied: the config names a file instead.
    fn left_behind(&mut self, key: &Key, to: &str, file: &str) {
        let what = key.value.variable().map_or_else(|| "it".to_owned(), |name| format!("what ${{{name}}} stands for"));
        let whole = matches!(key.value, Value::Text(_)) && !self.secrets;
        let or = if whole { "; --with-secrets copies it" } else { "" };
        self.report.hand(key, to, &format!("put {what} into {file}, a file of one line, or name another{or}"));
    }

    fn matrix(&mut self) {
        self.homeserver();
        match self.set("matrix.user-id") {
            Some(key) => self.plain(key, "user_id", "MATRIX_USER_ID", |text| (text.to_owned(), None)),
            None => self.missing("matrix.user-id", "user_id"),
        }
        self.token();
        let Some(proxy) = self.set("matrix.proxy") else { return };
        let text = proxy.value.text();
        // A proxy URL may hold a user name and a password.
        if text.is_none_or(|text| text.contains('@')) && !self.secrets {
            self.draft.set("matrix", "proxy_file", &quoted(PROXY_FILE));
            self.left_behind(proxy, "matrix.proxy_file", PROXY_FILE);
        } else {
            self.draft.secret |= text.is_some_and(|text| text.contains('@'));
            self.plain(proxy, "proxy", "MAR_MATRIX__PROXY", |text| (text.to_owned(), None));
        }
    }

    fn homeserver(&mut self) {
        let Some(key) = self.set("matrix.homeserver-url") else {
            self.missing("matrix.homeserver-url", "homeserver");
            return;
        };
        self.plain(key, "homeserver", "MATRIX_HOMESERVER", |text| {
            if text.contains("://") {
                return (text.to_owned(), None);
            }
            // The receiver would look up a bare name by its `.well-known`.
            (format!("https://{text}"), Some("metio puts https:// before it, and so does this"))
        });
    }

    fn missing(&mut self, key: &str, to: &str) {
        let text = "metio does not start without it, and neither does the receiver";
        self.report.unset(key, &format!("matrix.{to}"), text);
    }

    fn token(&mut self) {
        let Some(key) = self.set("matrix.access-token") else {
            self.missing("matrix.access-token", "access_token");
            return;
        };
        match key.value.text() {
            Some(text) if self.secrets && accepted("matrix", "access_token", &quoted(text)).is_ok() => {
                self.draft.secret = true;
                self.draft.set("matrix", "access_token", &quoted(text));
                self.report.kept(key, "matrix.access_token");
            }
            None if matches!(key.value, Value::Variable(_)) => {
                self.plain(key, "access_token", "MATRIX_ACCESS_TOKEN", |text| (text.to_owned(), None));
            }
            _ => {
                self.draft.set("matrix", "access_token_file", &quoted(TOKEN_FILE));
                self.left_behind(key, "matrix.access_token_file", TOKEN_FILE);
            }
        }
    }

    /// Sets a key of `[matrix]` to the value that `adapt` returns, along with what it changed. `variable` is the environment
    /// variable that sets the key as well.
    fn plain(&mut self, key: &Key, to: &str, variable: &str, adapt: impl Fn(&str) -> (String, Option<&'static str>)) {
        let path = format!("matrix.{to}");
        let Some(text) = key.value.text() else {
            self.draft.remark("matrix", &format!("{to}: from the environment, by {variable}"));
            if key.value == Value::Variable(variable.to_owned()) {
                return self.report.kept(key, &format!("{path}, from ${{{variable}}} as before"));
            }
            let holds = key.value.variable().map_or_else(String::new, |name| format!("holds ${{{name}}}, and "));
            let text = format!("{holds}TOML takes nothing from the environment: set {variable} for the receiver");
            return self.report.hand(key, &path, &text);
        };
        let (text, changed) = adapt(text);
        if let Err(fault) = accepted("matrix", to, &quoted(&text)) {
            // The value itself is never shown: a URL may hold a password.
            self.draft.remark("matrix", &format!("{to}: set it here, what was there is not taken"));
            return self.report.hand(key, &path, &format!("is not taken: {fault}"));
        }
        self.draft.set("matrix", to, &quoted(&text));
        match changed {
            Some(changed) => self.report.changes(key, &path, changed),
            None => self.report.kept(key, &path),
        }
    }

    fn store(&mut self) {
        self.draft.remark(
            "store",
            "What was accepted and is not shown yet lives here: it must survive restarts. metio keeps nothing.",
        );
        self.draft.set("store", "path", "\"/var/lib/matrix-alertmanager-receiver\"");
    }

    /// Keeps Alertmanager's URLs working, so that its config can change later.
    fn compat(&mut self, old_names: &[String]) {
        let remark =
            "Alertmanager's URLs go on working by these; once compat_notifications_total stands still, take them out.";
        self.draft.remark("compat", remark);
        self.draft.set("compat", "room_paths", "true");
        if !old_names.is_empty() {
            self.draft.set("compat", "names", &format!("{{ {} }}", old_names.join(", ")));
        }
    }

    /// The path prefix of Alertmanager's URLs, normalised as metio does.
    fn prefix(&mut self) -> String {
        let Some(key) = self.set("http.alerts-path-prefix") else { return rooms::PREFIX.to_owned() };
        let text = key.value.text().unwrap_or_default();
        let prefix = format!("/{}/", text.trim_matches('/')).replace("//", "/");
        if prefix == rooms::PREFIX {
            self.report.kept(key, "/alerts");
        } else {
            let text = "it is /alerts here: change the URLs in alertmanager.yml, or let a proxy rewrite the path";
            self.report.hand(key, "", text);
        }
        prefix
    }
}

/// `http.auth` as an inline table.
fn table(user: &str, key: &str, value: &str) -> String {
    format!("{{ username = {}, {key} = {} }}", quoted(user), quoted(value))
}
