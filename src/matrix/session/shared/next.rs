//! What to do for a session of the shared device. Pure.

use crate::{
    matrix::session::{confirm::RENEW_BEFORE, session_file::StoredSession},
    model::Timestamp,
};

/// What the homeserver has refused in this attempt. Another replica may store something better meanwhile.
#[derive(Debug, Default)]
pub(super) struct Refused {
    pub token: Option<String>,
    pub refresh_token: Option<String>,
}

/// What this replica may do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Means {
    /// Only the leader gets new tokens, each of which invalidates the one before.
    pub leads: bool,
    pub has_password: bool,
    /// By the wall clock.
    pub now: Timestamp,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Ask the homeserver whether it accepts the stored token.
    Confirm,
    /// Get the next token with the stored refresh token.
    Renew,
    /// Log the device in, under its stored name if it has one.
    LogIn,
    /// The leader gets a new token.
    WaitForLeader,
    /// Only the command `login` can go on. `rejected`: there was a session, and its token has ended.
    RunLogin { rejected: bool },
}

pub(super) fn next(stored: Option<&StoredSession>, refused: &Refused, means: Means) -> Next {
    let usable = stored
        .is_some_and(|stored| !stored.access_token.is_empty() && refused.token.as_ref() != Some(&stored.access_token));
    let refresh_token = stored.and_then(|stored| stored.refresh_token.as_ref());
    let renewable = refresh_token.is_some() && refused.refresh_token.as_ref() != refresh_token;
    let ends = |margin| stored.is_some_and(|stored| stored.ends_within(margin, means.now));
    match (usable, means.leads) {
        (true, true) if renewable && ends(RENEW_BEFORE) => Next::Renew,
        (true, _) => Next::Confirm,
        (false, true) if renewable => Next::Renew,
        (false, true) if means.has_password => Next::LogIn,
        (false, false) if renewable || means.has_password => Next::WaitForLeader,
        (false, _) => Next::RunLogin { rejected: stored.is_some_and(|stored| !stored.access_token.is_empty()) },
    }
}

/// The name of a new shared device. It says what it is, and no other device of the account has it.
pub(crate) fn device_name() -> String {
    const LETTERS: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    let suffix: String =
        rand::random::<[u8; 6]>().iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect();
    format!("MAR-SHARED-{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Homeserver;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn stored(token: &str, refresh_token: Option<&str>, expires_in: Option<i64>) -> StoredSession {
        let homeserver = Homeserver::parse("https://x.example.org").unwrap();
        StoredSession {
            access_token: token.to_owned(),
            refresh_token: refresh_token.map(ToOwned::to_owned),
            expires_at: expires_in.map(|life| NOW.0 + life),
            ..StoredSession::named("@a:x", &homeserver, "MAR-SHARED-A".to_owned())
        }
    }

    type Row<'a> = (fn() -> Option<StoredSession>, bool, bool, bool, bool, &'a Next);

    #[test]
    fn who_gets_a_token_and_how() {
        let (lead, follow) = (true, false);
        let none = || None;
        let named = || Some(stored("", None, None));
        let good = || Some(stored("t", None, None));
        let renewable = || Some(stored("t", Some("r"), Some(3_600_000)));
        let ending = || Some(stored("t", Some("r"), Some(30_000)));
        let rejected = Next::RunLogin { rejected: true };
        let missing = Next::RunLogin { rejected: false };
        // (stored, token refused, refresh token refused, leads, password) -> next
        let table: [Row<'_>; 19] = [
            (none, false, false, lead, true, &Next::LogIn),
            (none, false, false, follow, true, &Next::WaitForLeader),
            (none, false, false, lead, false, &missing),
            (none, false, false, follow, false, &missing),
            (named, false, false, lead, true, &Next::LogIn),
            (named, false, false, follow, true, &Next::WaitForLeader),
            (named, false, false, follow, false, &missing),
            (good, false, false, lead, true, &Next::Confirm),
            (good, false, false, follow, false, &Next::Confirm),
            (good, true, false, lead, true, &Next::LogIn),
            (good, true, false, follow, true, &Next::WaitForLeader),
            (good, true, false, lead, false, &rejected),
            (good, true, false, follow, false, &rejected),
            (renewable, false, false, lead, false, &Next::Confirm),
            (renewable, true, false, lead, true, &Next::Renew),
            (renewable, true, true, lead, true, &Next::LogIn),
            (renewable, true, false, follow, false, &Next::WaitForLeader),
            (ending, false, false, lead, false, &Next::Renew),
            (ending, false, false, follow, false, &Next::Confirm),
        ];
        for (row, (stored, token, refresh_token, leads, has_password, expected)) in table.into_iter().enumerate() {
            let refused =
                Refused { token: token.then(|| "t".to_owned()), refresh_token: refresh_token.then(|| "r".to_owned()) };
            let means = Means { leads, has_password, now: NOW };
            assert_eq!(next(stored().as_ref(), &refused, means), *expected, "row {row}");
        }
    }

    #[test]
    fn a_token_that_another_replica_stored_meanwhile_is_tried() {
        let refused = Refused { token: Some("t".to_owned()), refresh_token: Some("r".to_owned()) };
        let means = Means { leads: false, has_password: false, now: NOW };
        assert_eq!(next(Some(&stored("t2", Some("r2"), None)), &refused, means), Next::Confirm);
    }

    #[test]
    fn names_differ_and_say_what_they_are() {
        let (one, two) = (device_name(), device_name());
        assert!(one.starts_with("MAR-SHARED-") && one.len() == 17, "{one}");
        assert_ne!(one, two);
    }
}
