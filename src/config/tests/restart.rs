//! What applies while the receiver runs.

use super::{Folder, good, load};
use crate::config::{Auth, Config, Purpose};

fn at_start() -> Config {
    good("")
}

/// The keys that want a restart when the required config becomes this one.
fn keys(toml: &str, env: &[(&str, &str)]) -> Vec<&'static str> {
    let changed = load(toml, env).unwrap_or_else(|faults| panic!("{toml}\n{faults:#?}"));
    changed.over(&at_start()).1
}

const ROUTE: &str = "[routes.default]\nrooms = [\"!abc:example.org\", \"#ops:example.org\"]\n";
const MATRIX: &str = "[matrix]\nhomeserver = \"https://matrix.example.org\"\nuser_id = \"@alerts:example.org\"\n";

#[test]
fn which_keys_want_a_restart() {
    for (more, expected) in [
        ("", &[][..]),
        ("[http]\nlisten = \"127.0.0.1:1\"\n", &["http.listen"]),
        ("[http]\ntls = { cert_file = \"c\", key_file = \"k\" }\n", &["http.tls"]),
        ("[http]\nadmin = { listen = \"127.0.0.1:1\", username = \"u\", password = \"p\" }\n", &["http.admin"]),
        ("[compat]\nroom_paths = true\n", &[]),
        ("[lint]\nignore = [\"no_logs_url\"]\n", &[]),
        ("[store]\npath = \"/elsewhere\"\n", &["store.path"]),
        ("[log]\nformat = \"json\"\nfilter = \"debug\"\n", &["log.format"]),
        ("[store]\nretention = \"1d\"\n[http]\nmax_body_bytes = 2048\nauth = { bearer_token = \"t\" }\n", &[]),
        (
            "[display]\ntimezone = \"Europe/Berlin\"\n[links]\nrewrite = [{ from = \"http://a\", to = \"http://b\" }]\n",
            &[],
        ),
        ("[routes.ops]\nrooms = [\"!new:example.org\"]\nupdates = \"post\"\n", &[]),
        ("[http]\nlisten = \"127.0.0.1:1\"\n[log]\nformat = \"json\"\n", &["http.listen", "log.format"]),
    ] {
        assert_eq!(keys(&format!("{MATRIX}{ROUTE}{more}"), &[]), expected, "{more}");
    }
    for (more, expected) in [
        ("access_token = \"t\"\n", "matrix.access_token"),
        ("password = \"p\"\n", "matrix.password"),
        ("recovery_key = \"k\"\n", "matrix.recovery_key"),
        ("store_passphrase = \"k\"\n", "matrix.store_passphrase"),
        ("proxy = \"none\"\n", "matrix.proxy"),
        ("aliases = { \"#ops:example.org\" = \"!other:example.org\" }\n", "matrix.aliases"),
    ] {
        assert_eq!(keys(&format!("{MATRIX}{more}{ROUTE}"), &[]), [expected], "{more}");
    }
    let other = MATRIX.replace("alerts", "bot").replace("https://matrix", "https://other");
    assert_eq!(keys(&format!("{other}{ROUTE}"), &[]), ["matrix.homeserver", "matrix.user_id"]);
}

#[test]
fn what_wants_a_restart_stays_as_it_is_and_the_rest_applies() {
    let more =
        "[http]\nlisten = \"127.0.0.1:1\"\nmax_body_bytes = 2048\n[store]\npath = \"/elsewhere\"\nretention = \"1d\"\n";
    let (config, _) = load(&format!("{MATRIX}password = \"p\"\n{ROUTE}{more}"), &[]).expect("good").over(&at_start());
    let before = at_start();
    assert_eq!((config.http.listen, config.http.max_body_bytes), (before.http.listen, 2048));
    assert_eq!((&config.store.path, config.store.retention.as_secs()), (&before.store.path, 86_400));
    assert!(config.matrix.credential.is_none());
    // Told again with each reload until the restart.
    let again = load(&format!("{MATRIX}password = \"p\"\n{ROUTE}{more}"), &[]).expect("good");
    assert_eq!(again.over(&config).1, ["http.listen", "matrix.password", "store.path"]);
}

/// A pin for a room that comes with it has been gone by nowhere yet.
#[test]
fn an_alias_of_an_added_room_needs_no_restart() {
    let more = "aliases = { \"#new:example.org\" = \"!new:example.org\" }\n";
    let route = ROUTE.replace("\"#ops:example.org\"", "\"#ops:example.org\", \"#new:example.org\"");
    let (config, keys) = load(&format!("{MATRIX}{more}{route}"), &[]).expect("good").over(&at_start());
    assert_eq!((keys.len(), config.matrix.aliases.len()), (0, 1));
}

/// Its content is read again by who uses it.
#[test]
fn another_token_in_the_same_file_is_no_change_and_another_file_is() {
    let folder = Folder::new();
    let read = |token: &str, file: &str| {
        let path = folder.write(file, token);
        let matrix = format!("{MATRIX}access_token_file = {:?}\n{ROUTE}", path.display().to_string());
        folder.load(&matrix, &[], Purpose::Serve).expect("good")
    };
    let before = read("one", "token");
    assert_eq!(read("two", "token").over(&before).1, [""; 0]);
    assert_eq!(read("one", "other").over(&before).1, ["matrix.access_token"]);
}

/// `http.auth = "none"` that is meant for the loopback address beside it.
#[test]
fn a_reload_never_opens_an_address_that_others_reach() {
    let public = "[http]\nlisten = \"0.0.0.0:9088\"\nauth = { bearer_token = \"t\" }\n";
    let before = load(&format!("{MATRIX}{ROUTE}{public}"), &[]).expect("good");
    let (config, keys) = at_start().over(&before);
    assert_eq!(keys, ["http.listen", "http.auth"]);
    assert!(matches!(config.http.auth, Auth::Bearer(_)) && config.http.listen == before.http.listen);
    let meant = "[http]\nlisten = \"0.0.0.0:9088\"\nallow_unauthenticated = true\n";
    let (config, keys) = load(&format!("{MATRIX}{ROUTE}{meant}"), &[]).expect("good").over(&before);
    assert!(keys.is_empty() && matches!(config.http.auth, Auth::None));
}

#[test]
fn the_files_that_a_config_is_made_of() {
    let folder = Folder::new();
    let [token, card] = ["token", "card.j2"].map(|name| folder.write(name, "x"));
    let toml = format!(
        "{MATRIX}{ROUTE}[routes.default.templates]\ncard_html = {card:?}\n[templates]\ncard_html = {card:?}\n[http]\nauth = {{ \
         bearer_token_file = {token:?} }}\n"
    );
    let config = folder.load(&toml, &[], Purpose::Serve).expect("good");
    assert_eq!(config.files(), [card.as_path(), token.as_path()]);
}

#[test]
fn who_may_see_the_page_changes_at_once_and_where_it_is_does_not() {
    let admin = |listen: &str, password: &str| {
        let admin = format!("[http.admin]\nlisten = \"{listen}\"\nusername = \"u\"\npassword = \"{password}\"\n");
        load(&format!("{MATRIX}{ROUTE}{admin}"), &[]).expect("good")
    };
    let before = admin("127.0.0.1:1", "old");
    let password = |config: &Config| config.http.admin.as_ref().map(|admin| admin.password.expose().to_owned());
    let (config, keys) = admin("127.0.0.1:1", "new").over(&before);
    assert_eq!((password(&config).as_deref(), keys.as_slice()), (Some("new"), &[][..]));
    let (config, keys) = admin("127.0.0.1:2", "new").over(&before);
    assert_eq!((password(&config).as_deref(), keys.as_slice()), (Some("new"), &["http.admin"][..]));
    assert_eq!(config.http.admin.map(|admin| admin.listen.port()), Some(1));
    // It is served until the restart, and nobody else is let in meanwhile.
    let (config, keys) = at_start().over(&before);
    assert_eq!((password(&config).as_deref(), keys.as_slice()), (Some("old"), &["http.admin"][..]));
}
