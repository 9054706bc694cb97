//! Which credential the receiver would use, as far as this machine knows: nothing is asked over the network here.

use super::report::Report;
use crate::{
    config::{Config, Credential},
    matrix::StoredSession,
};

/// The token that the receiver would use, if it is known without logging in.
pub(super) fn token(config: &Config) -> Option<String> {
    if let Some(Credential::AccessToken(token)) = &config.matrix.credential {
        return Some(token.expose().to_owned());
    }
    let stored = StoredSession::read(&StoredSession::path(&config.store.path)).ok().flatten();
    stored.filter(|stored| stored.is_of(&config.matrix)).map(|stored| stored.access_token)
}

/// Checks that there is a credential. Whether it is accepted only the homeserver knows, and what the database has is looked at
/// `online`.
pub(super) fn check(config: &Config, online: bool, report: &mut Report) {
    if config.store.database_url.is_some() {
        return of_replica(config, online, report);
    }
    let matrix = &config.matrix;
    if matches!(matrix.credential, Some(Credential::AccessToken(_))) {
        return;
    }
    let has_password = matrix.credential.is_some();
    match StoredSession::read(&StoredSession::path(&config.store.path)) {
        Ok(Some(stored)) if stored.is_of(matrix) => return report.ok("account: there is a stored session"),
        Ok(Some(stored)) => report.note(format!(
            "account: the stored session is of {} on {}, so it is not used",
            stored.user_id, stored.homeserver
        )),
        Ok(None) => {}
        Err(damage) if has_password => report.note(format!("account: {damage:#}; the receiver will log in again")),
        Err(damage) => report.fault(format!("account: {damage:#}")),
    }
    if !has_password {
        report.fault(format!(
            "account: no credential: no token or password in the config, and no session of {} in {} -> run login, or \
             set matrix.access_token_file or matrix.password_file (or MATRIX_ACCESS_TOKEN or MATRIX_PASSWORD)",
            matrix.user_id,
            config.store.path.display()
        ));
    }
}

/// A replica has two sessions, and can do with the one that is not in `store.path`.
fn of_replica(config: &Config, online: bool, report: &mut Report) {
    let matrix = &config.matrix;
    let folder = config.store.path.display();
    let has_password = matches!(matrix.credential, Some(Credential::Password(_)));
    match StoredSession::read(&StoredSession::path(&config.store.path)) {
        Ok(Some(stored)) if stored.is_of(matrix) => report.ok("account: this replica's own session is in store.path"),
        _ if has_password => report.ok("account: this replica logs in by the password, for its own session"),
        found => {
            let why = found.err().map_or_else(String::new, |damage| format!(" ({damage:#})"));
            report.note(format!(
                "account: this replica has no own session of {} in {folder}{why}: it serves plain rooms only, and nobody can \
                 act from rooms while it leads -> run login on it",
                matrix.user_id
            ));
        }
    }
    if matches!(matrix.credential, Some(Credential::AccessToken(_))) {
        report.ok("account: the access token is that of the device which all replicas share");
    } else if !online {
        report.note("account: the session that all replicas share is kept in the database; check --online looks at it");
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, process::ExitCode};

    use super::*;
    use crate::config::Purpose;

    #[test]
    fn without_a_session_there_is_no_credential() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().to_str().unwrap();
        let variables = [
            ("MATRIX_HOMESERVER", "https://matrix.example.org"),
            ("MATRIX_USER_ID", "@alerts:example.org"),
            ("MATRIX_ROOM_ID", "!abc:example.org"),
            ("MAR_STORE__PATH", store),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let config = Config::load(None, &variables, Purpose::Serve).unwrap();
        let checked = || {
            let mut report = Report::default();
            check(&config, false, &mut report);
            (report.end(false), token(&config))
        };
        let session = |user: &str| {
            let server = "https://matrix.example.org/";
            format!(r#"{{"user_id":"{user}","device_id":"D","access_token":"t","homeserver":"{server}"}}"#)
        };
        assert_eq!(checked(), (ExitCode::FAILURE, None));
        let path = StoredSession::path(&config.store.path);
        fs::write(&path, session("@other:example.org")).unwrap();
        assert_eq!(checked(), (ExitCode::FAILURE, None));
        fs::write(&path, session("@alerts:example.org")).unwrap();
        assert_eq!(checked(), (ExitCode::SUCCESS, Some("t".to_owned())));
    }
}
