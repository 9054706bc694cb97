//! `http.admin`.

use super::{Config, Folder, Purpose, REQUIRED, good, load, variables, wrong};

#[test]
fn a_listener_of_its_own() {
    assert!(good("").http.admin.is_none());
    let folder = Folder::new();
    let file = folder.write("password", "hunter2\n").display().to_string();
    let toml =
        format!("{REQUIRED}[http.admin]\nlisten = \"[::1]:9089\"\nusername = \"ops\"\npassword_file = {file:?}\n");
    let config = folder.load(&toml, &[], Purpose::Serve).expect("no fault");
    let admin = config.http.admin.as_ref().expect("an admin listener");
    assert_eq!((admin.listen.to_string().as_str(), admin.username.as_str()), ("[::1]:9089", "ops"));
    assert_eq!(admin.password.expose(), "hunter2");
    assert!(!format!("{config:?}").contains("hunter2"));
    // Nothing is served for this purpose, so that no secret is read.
    assert!(folder.load(&toml, &[], Purpose::Render).is_ok());
}

#[test]
fn from_the_environment() {
    let env = [
        ("MAR_HTTP__ADMIN__LISTEN", "127.0.0.1:9089"),
        ("MAR_HTTP__ADMIN__USERNAME", "ops"),
        ("MAR_HTTP__ADMIN__PASSWORD", "1234"),
    ];
    let config = load(REQUIRED, &env).expect("no fault");
    assert_eq!(config.http.admin.expect("an admin listener").password.expose(), "1234");
    // A password of a higher level takes the place of a file.
    let toml = format!(
        "{REQUIRED}[http.admin]\nlisten = \"127.0.0.1:9089\"\nusername = \"ops\"\npassword_file = \"/does/not/exist\"\n"
    );
    let config = load(&toml, &[("MAR_HTTP__ADMIN__PASSWORD", "env")]).expect("no fault");
    assert_eq!(config.http.admin.expect("an admin listener").password.expose(), "env");
    let faults = Config::load(None, &variables(&env[1..2]), Purpose::Serve).expect_err("no address").to_string();
    assert!(faults.contains("http.admin.listen: missing, expected an address and a port"), "{faults}");
}

#[test]
fn what_is_wrong_with_it() {
    let listen = "listen = \"127.0.0.1:9089\"";
    let (user, password) = ("username = \"ops\"", "password = \"hunter2\"");
    for (toml, expected) in [
        ("[http]\nadmin = \"ops:hunter2\"".to_owned(), "http.admin: found a string, expected a table"),
        ("[http.admin]".to_owned(), "http.admin.password: missing, expected a string of one line, or password_file"),
        (format!("[http.admin]\n{user}\n{password}"), "http.admin.listen: missing, expected an address and a port"),
        (format!("[http.admin]\n{listen}\n{password}"), "http.admin.username: missing, expected a user name"),
        (format!("[http.admin]\n{listen}\n{user}"), "http.admin.password: missing"),
        (format!("[http.admin]\n{listen}\nusername = \"a:b\"\n{password}"), "expected a user name, without a colon"),
        (format!("[http.admin]\n{listen}\n{user}\n{password}\npassword_file = \"x\""), "keep one of the two"),
        (
            format!("[http.admin]\nlisten = 9089\n{user}\n{password}"),
            "http.admin.listen: found 9089, expected an address",
        ),
        (format!("[http.admin]\n{listen}\n{user}\n{password}\nuser = \"x\""), "did you mean http.admin.username?"),
    ] {
        let faults = wrong(&toml);
        assert!(faults.contains(expected), "{toml}\n{faults}");
        assert!(!faults.contains("hunter2"), "{faults}");
    }
}

#[test]
fn one_port_is_not_served_twice() {
    let admin = |main: &str, admin: &str| {
        format!(
            "[http]\nlisten = \"{main}\"\nallow_unauthenticated = true\n\
             admin = {{ listen = \"{admin}\", username = \"u\", password = \"p\" }}"
        )
    };
    for (main, other) in [
        ("127.0.0.1:9088", "127.0.0.1:9088"),
        ("0.0.0.0:9088", "127.0.0.1:9088"),
        ("127.0.0.1:9088", "[::]:9088"),
        ("127.0.0.1:9088", "[::ffff:127.0.0.1]:9088"),
    ] {
        let faults = wrong(&admin(main, other));
        assert!(
            faults.contains("http.admin.listen: ") && faults.contains("are the same port"),
            "{main} {other}: {faults}"
        );
    }
    for (main, other) in
        [("127.0.0.1:9088", "127.0.0.1:9089"), ("127.0.0.1:9088", "10.0.0.1:9088"), ("127.0.0.1:0", "127.0.0.1:0")]
    {
        assert!(good(&admin(main, other)).http.admin.is_some());
    }
}
