//! Which changes of a config apply while the receiver runs, and which require a restart.

use std::collections::BTreeMap;

use super::{
    schema::{Admin, Alertmanager, Auth, Config, Credential, Evidence, Http, Log, Matrix, Proxy, Store},
    secret::Secret,
};
use crate::model::RoomAddress;

impl Config {
    /// This config with the active values of all keys that require a restart, and those of them that differ. Every struct is
    /// destructured, so that a new key does not compile until it is handled here.
    #[must_use]
    pub fn over(self, active: &Self) -> (Self, Vec<&'static str>) {
        let mut keys = Vec::new();
        let served: Vec<RoomAddress> = active.rooms().into_iter().map(|(room, _)| room).collect();
        let Self { http, matrix, store, routes, links, templates, display, log, compat, lint, evidence } = self;
        let config = Self {
            http: http_over(http, &active.http, &mut keys),
            matrix: matrix_over(matrix, &active.matrix, &served, &mut keys),
            store: store_over(store, &active.store, &mut keys),
            log: log_over(log, &active.log, &mut keys),
            routes,
            links,
            templates,
            display,
            compat,
            lint,
            evidence,
        };
        (config, keys)
    }

    /// The files that the config names and that may change: secrets of `http.auth` and `http.admin`, what Alertmanager is
    /// and the sources
    /// of evidence are asked with, the URLs of pings, and templates. The files of `http.tls` are watched where TLS is served.
    #[must_use]
    pub fn files(&self) -> Vec<&std::path::Path> {
        let secret = match &self.http.auth {
            Auth::None => None,
            Auth::Bearer(secret) | Auth::Basic { password: secret, .. } => secret.file(),
        };
        let admin = self.http.admin.as_ref().and_then(|admin| admin.password.file());
        let routes = self.routes.values().flat_map(|route| route.templates.values());
        let templates = self.templates.values().chain(routes).map(|template| template.path.as_path());
        let alertmanagers = self.routes.values().filter_map(|route| route.alertmanager.as_deref());
        let of_alertmanagers = alertmanagers.flat_map(Alertmanager::files);
        let of_sources = self.evidence.iter().flat_map(Evidence::sources).flat_map(|(_, source)| source.files());
        let heartbeats = self.routes.values().flat_map(|route| &route.heartbeats);
        let of_pings = heartbeats.filter_map(|heartbeat| heartbeat.ping_url.as_ref()?.file());
        let mut files: Vec<_> = secret.into_iter().chain(admin).chain(templates).chain(of_alertmanagers).collect();
        files.extend(of_sources.chain(of_pings));
        files.sort_unstable();
        files.dedup();
        files
    }
}

fn http_over(new: Http, old: &Http, keys: &mut Vec<&'static str>) -> Http {
    let Http { listen, max_body_bytes, allow_unauthenticated, auth, tls, admin } = new;
    note(listen != old.listen, "http.listen", keys);
    note(tls != old.tls, "http.tls", keys);
    let admin = admin_over(admin, old.admin.as_ref(), keys);
    // The setting may belong to the new address; it must not open the old one.
    let opens = matches!(auth, Auth::None) && !allow_unauthenticated && !old.listen.ip().to_canonical().is_loopback();
    note(opens, "http.auth", keys);
    Http {
        listen: old.listen,
        max_body_bytes,
        allow_unauthenticated,
        auth: if opens { old.auth.clone() } else { auth },
        tls: old.tls.clone(),
        admin,
    }
}

/// The credentials can change; whether and where the page is served cannot.
fn admin_over(new: Option<Admin>, old: Option<&Admin>, keys: &mut Vec<&'static str>) -> Option<Admin> {
    let listens = |admin: Option<&Admin>| admin.map(|admin| admin.listen);
    note(listens(new.as_ref()) != listens(old), "http.admin", keys);
    let old = old?;
    Some(Admin { listen: old.listen, ..new.unwrap_or_else(|| old.clone()) })
}

fn matrix_over(new: Matrix, old: &Matrix, served: &[RoomAddress], keys: &mut Vec<&'static str>) -> Matrix {
    let Matrix { homeserver, user_id, credential, recovery_key, store_passphrase, ca_file, proxy, aliases } = new;
    note(homeserver != old.homeserver, "matrix.homeserver", keys);
    note(user_id != old.user_id, "matrix.user_id", keys);
    if let Some(key) = other_credential(credential.as_ref(), old.credential.as_ref()) {
        keys.push(key);
    }
    note(recovery_key != old.recovery_key, "matrix.recovery_key", keys);
    note(store_passphrase != old.store_passphrase, "matrix.store_passphrase", keys);
    note(ca_file != old.ca_file, "matrix.ca_file", keys);
    note(!same_proxy(&proxy, &old.proxy), "matrix.proxy", keys);
    let of_served = |pins: &BTreeMap<RoomAddress, RoomAddress>| -> Vec<_> {
        served.iter().map(|room| pins.get(room).cloned()).collect()
    };
    note(of_served(&aliases) != of_served(&old.aliases), "matrix.aliases", keys);
    // Pins of rooms that are not served yet apply at once.
    let mut pins: BTreeMap<_, _> = aliases.into_iter().filter(|(alias, _)| !served.contains(alias)).collect();
    pins.extend(
        old.aliases.iter().filter(|(alias, _)| served.contains(alias)).map(|(a, room)| (a.clone(), room.clone())),
    );
    Matrix { aliases: pins, ..old.clone() }
}

/// The key by which the account's credential differs. A file's content does not count, since it is read at each use.
fn other_credential(new: Option<&Credential>, old: Option<&Credential>) -> Option<&'static str> {
    let same = |new: &Secret, old: &Secret| match (new.file(), old.file()) {
        (Some(new), Some(old)) => new == old,
        _ => new == old,
    };
    match (new, old) {
        (None, None) => None,
        (Some(Credential::AccessToken(new)), Some(Credential::AccessToken(old))) if same(new, old) => None,
        (Some(Credential::Password(new)), Some(Credential::Password(old))) if same(new, old) => None,
        (Some(Credential::Password(_)), _) | (None, Some(Credential::Password(_))) => Some("matrix.password"),
        (Some(Credential::AccessToken(_)), _) | (None, Some(Credential::AccessToken(_))) => Some("matrix.access_token"),
    }
}

fn same_proxy(new: &Proxy, old: &Proxy) -> bool {
    match (new, old) {
        (Proxy::Environment, Proxy::Environment) | (Proxy::None, Proxy::None) => true,
        (Proxy::Url(new), Proxy::Url(old)) => new == old,
        _ => false,
    }
}

fn store_over(new: Store, old: &Store, keys: &mut Vec<&'static str>) -> Store {
    let Store { path, retention, database_url, replica } = new;
    note(path != old.path, "store.path", keys);
    note(replica != old.replica, "store.replica", keys);
    // A file's content does not count, since it is read at each connection.
    let same = match (&database_url, &old.database_url) {
        (Some(new), Some(old)) if new.file().is_some() => new.file() == old.file(),
        (new, old) => new == old,
    };
    note(!same, "store.database_url", keys);
    Store { path: old.path.clone(), retention, database_url: old.database_url.clone(), replica: old.replica.clone() }
}

fn log_over(new: Log, old: &Log, keys: &mut Vec<&'static str>) -> Log {
    let Log { format, filter } = new;
    note(format != old.format, "log.format", keys);
    Log { format: old.format, filter }
}

fn note(differs: bool, key: &'static str, keys: &mut Vec<&'static str>) {
    if differs {
        keys.push(key);
    }
}
