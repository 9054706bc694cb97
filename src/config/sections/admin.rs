//! `http.admin`: a second listener, for browsers.

use std::net::SocketAddr;

use super::credential::{USERNAME, conflict, secret, username};
use crate::config::{
    reader::{BadValue, Item, Section},
    schema::Admin,
    secret::SecretKind,
};

const LISTEN: &str = "an address and a port such as \"127.0.0.1:9089\" or \"[::]:9089\"";

/// `main`: where webhooks are served.
pub(super) fn read(http: &Section<'_>, main: SocketAddr) -> Option<Admin> {
    // The keys of an absent table are read as well, which makes them known.
    let admin = http.section("admin");
    let is_table = admin.is_there();
    let listen = admin.require(is_table, "listen", LISTEN, |item| listen(item, main));
    let username = admin.require(is_table, "username", USERNAME, username);
    let passwords: Vec<_> = ["password", "password_file"].iter().filter_map(|key| admin.item(key)).collect();
    let password = match passwords.as_slice() {
        [] => {
            if is_table {
                admin.missing("password", "a string of one line, or password_file");
            }
            None
        }
        [password] => secret(password, SecretKind::Password),
        [one, two, ..] => conflict(one, two),
    };
    Some(Admin { listen: listen?, username: username?, password: password? })
}

fn listen(item: &Item<'_>, main: SocketAddr) -> Result<SocketAddr, BadValue> {
    let listen: SocketAddr = item.text().and_then(|text| text.parse().ok()).ok_or(BadValue::Unexpected)?;
    let everywhere = |address: SocketAddr| address.ip().is_unspecified();
    let one_host = listen.ip().to_canonical() == main.ip().to_canonical() || everywhere(listen) || everywhere(main);
    // Port 0 stands for a different port each time.
    if one_host && listen.port() == main.port() && listen.port() != 0 {
        return Err(BadValue::Because(format!(
            "{listen} and http.listen ({main}) are the same port: choose another one"
        )));
    }
    Ok(listen)
}
