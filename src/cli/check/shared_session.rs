//! The session that all replicas share, which sends to plain rooms.

use super::{homeserver::Homeserver, report::Report};
use crate::{
    config::{Config, Credential},
    matrix::StoredSession,
    store,
};

/// Checks the session that the database has, and returns its token if the homeserver accepts it. An access token of the
/// config takes its place.
///
/// # Errors
/// When the homeserver does not answer.
pub(super) async fn check(
    config: &Config,
    homeserver: &Homeserver,
    report: &mut Report,
) -> Result<Option<String>, String> {
    let matrix = &config.matrix;
    let Some(url) = &config.store.database_url else { return Ok(None) };
    if matches!(matrix.credential, Some(Credential::AccessToken(_))) {
        return Ok(None);
    }
    let Ok(text) = store::look_for_session(url).await else {
        // Why is said of the database.
        report.unchecked(
            "account: the session that all replicas share was not checked, since the database does not answer",
        );
        return Ok(None);
    };
    let stored = text.as_deref().and_then(StoredSession::parse).filter(|stored| stored.is_of(matrix));
    let has_password = matrix.credential.is_some();
    let advice = "run login on a replica, or set matrix.password_file or matrix.access_token_file";
    let Some(stored) = stored.filter(|stored| !stored.access_token.is_empty()) else {
        if has_password {
            report.note("account: the database has no session for all replicas yet; the leader will log in");
        } else {
            report.fault(format!(
                "account: the database has no session of {} for all replicas, so nothing can be sent to plain rooms -> \
                 {advice}",
                matrix.user_id
            ));
        }
        return Ok(None);
    };
    let answer = homeserver.whoami(&stored.access_token).await?;
    if answer.is_ok() && answer.json["user_id"].as_str() == Some(matrix.user_id.as_str()) {
        report.ok(format!("account: the session that all replicas share is accepted, device {}", stored.device_id));
        return Ok(Some(stored.access_token));
    }
    if answer.status == 401 && (has_password || stored.refresh_token.is_some()) {
        report.note("account: the session that all replicas share is no longer accepted; the leader will renew it");
    } else {
        report.fault(format!(
            "account: the session that all replicas share is refused: {} -> run login --shared, or {advice}",
            answer.refusal
        ));
    }
    Ok(None)
}
