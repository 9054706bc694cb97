//! What would help where PostgreSQL cannot be used, and how it is named without its password.

use url::Url;

/// Words of an error, in lower case, and what to do about it. The first that fits counts.
const ADVICE: &[(&str, &str)] = &[
    ("sqlstate 28p01", "the user or the password is wrong: compare store.database_url with the role's password"),
    ("sqlstate 28000", "the server lets this user in from elsewhere or otherwise only: see its pg_hba.conf"),
    ("password authentication failed", "compare store.database_url with the role's password"),
    ("sqlstate 3d000", "make the database: CREATE DATABASE … OWNER …"),
    ("no such database", "PgBouncer does not know this database: name it in its [databases]"),
    ("sqlstate 42501", "the role may not make tables: let it own the database, or GRANT CREATE ON SCHEMA public"),
    ("sqlstate 25006", "the server only reads: name the primary, or let the URL lead to whichever is that"),
    ("sqlstate 53300", "all connections are taken: raise max_connections, or put PgBouncer in between"),
    ("sqlstate 57p03", "the server is starting or stopping: wait, then try again"),
    ("sqlstate 53100", "the server's disk is full: make room there"),
    ("unsupported startup parameter", "PgBouncer needs ignore_startup_parameters = extra_float_digits"),
    ("connection refused", "nothing listens there: compare host and port, and the server's listen_addresses"),
    ("failed to lookup address", "the name is unknown: compare the host in store.database_url"),
    ("name or service not known", "the name is unknown: compare the host in store.database_url"),
    ("timed out", "no answer: look whether a firewall or a NetworkPolicy stands in between"),
    ("did not connect within", "no answer: look whether a firewall or a NetworkPolicy stands in between"),
    ("certificate", "name the authority's file by sslrootcert= in the URL, and the host as the certificate does"),
    ("server does not support tls", "let the server offer TLS, or name another sslmode"),
    ("tls upgrade required", "let the server offer TLS, or name another sslmode"),
];

/// What may help, by the words of an error of the database.
pub(crate) fn advice(words: &str) -> Option<&'static str> {
    let words = words.to_lowercase();
    ADVICE.iter().find(|(sign, _)| words.contains(sign)).map(|(_, advice)| *advice)
}

/// An error with what may help.
pub(crate) fn with_advice(words: &str) -> String {
    advice(words).map_or_else(|| words.to_owned(), |advice| format!("{words} -> {advice}"))
}

/// User, host, port and database of a URL, without what only the server should see.
pub(crate) fn place(url: &str) -> String {
    let Ok(url) = Url::parse(url) else { return "an unreadable URL".to_owned() };
    let given = |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    let host = given("host").or_else(|| url.host_str().map(str::to_owned)).filter(|host| !host.is_empty());
    let port = given("port").or_else(|| url.port().map(|port| port.to_string())).unwrap_or_else(|| "5432".to_owned());
    let user = given("user").unwrap_or_else(|| url.username().to_owned());
    let path = url.path().trim_start_matches('/');
    let database = given("dbname").unwrap_or_else(|| if path.is_empty() { user.clone() } else { path.to_owned() });
    let at = if user.is_empty() { String::new() } else { format!("{user}@") };
    format!("{at}{}:{port}/{database}", host.as_deref().unwrap_or("localhost"))
}

/// How strictly the server's certificate is looked at.
pub(crate) fn ssl_mode(url: &str) -> String {
    let url = Url::parse(url).ok();
    let given = url.and_then(|url| {
        let pair = url.query_pairs().find(|(key, _)| key == "sslmode" || key == "ssl-mode");
        pair.map(|(_, value)| value.into_owned())
    });
    given.unwrap_or_else(|| "prefer".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_named_without_its_password() {
        for (url, expected) in [
            ("postgres://a:secret@db.example.org/receiver", "a@db.example.org:5432/receiver"),
            ("postgres://a:s%40cret@db:6432/receiver?sslmode=disable", "a@db:6432/receiver"),
            ("postgres://db/x?user=a&password=secret&port=5433", "a@db:5433/x"),
            ("postgres:///x?host=/var/run/postgresql&user=a", "a@/var/run/postgresql:5432/x"),
            ("postgres://a@db", "a@db:5432/a"),
            ("secret", "an unreadable URL"),
        ] {
            assert_eq!(place(url), expected);
        }
        assert_eq!(ssl_mode("postgres://a@db/x?sslmode=verify-full"), "verify-full");
        assert_eq!(ssl_mode("postgres://a@db/x"), "prefer");
    }

    #[test]
    fn what_helps_is_found_by_the_words() {
        for (words, expected) in [
            ("password authentication failed for user \"a\" (SQLSTATE 28P01)", "password is wrong"),
            ("database \"x\" does not exist (SQLSTATE 3D000)", "CREATE DATABASE"),
            ("permission denied for schema public (SQLSTATE 42501)", "GRANT CREATE"),
            ("error communicating with database: Connection refused (os error 111)", "nothing listens"),
            ("failed to lookup address information: Name or service not known", "name is unknown"),
            ("the database did not connect within 3 s", "firewall"),
        ] {
            assert!(with_advice(words).contains(expected), "{words}");
        }
        assert_eq!(with_advice("something else"), "something else");
    }
}
