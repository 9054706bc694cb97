//! Reads the environment as two layers of settings: short names for a start without a file, and `MAR_` for any key.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
};

use super::{
    faults::{ConfigFault, Origin},
    purpose::Purpose,
    secret,
    tree::{Node, Table, Value, combine, parse_variable},
};

/// The short names and the keys that they set.
const SHORT: [(&str, &str); 6] = [
    ("MATRIX_HOMESERVER", "matrix.homeserver"),
    ("MATRIX_USER_ID", "matrix.user_id"),
    ("MATRIX_ACCESS_TOKEN", "matrix.access_token"),
    ("MATRIX_PASSWORD", "matrix.password"),
    ("MATRIX_ROOM_ID", "routes.default.rooms"),
    ("WEBHOOK_TOKEN", "http.auth.bearer_token"),
];

const PREFIX: &str = "MAR_";

/// The protocols of a Service's port.
const PROTOCOLS: [&str; 3] = ["tcp", "udp", "sctp"];

/// Names the config file itself; the command line reads it.
const CONFIG_VARIABLE: &str = "MAR_CONFIG";

/// The variables of this process that may hold settings. Text that is not UTF-8 gets U+FFFD and is rejected later.
#[must_use]
pub fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
        .filter(|(name, _)| name.starts_with(PREFIX) || short(name).is_some())
        .collect()
}

/// The files that short names read settings from, such as `MATRIX_ROOM_ID_FILE`, without those of the account's credentials,
/// which are read again where they are used.
#[must_use]
pub fn files(env: &BTreeMap<String, String>) -> Vec<PathBuf> {
    let own = ["matrix.access_token", "matrix.password"];
    let named = env.iter().filter(|(name, path)| {
        !path.is_empty() && short(name).is_some_and(|(key, from_file)| from_file && !own.contains(&key))
    });
    named.map(|(_, path)| path.into()).collect()
}

/// The variables that Kubernetes (and once Docker) sets for a Service of the name `mar` or `mar-…`: `MAR_SERVICE_HOST`,
/// `MAR_X_PORT_9088_TCP_ADDR` and the like. They are not meant for the receiver, and no key has such a name and value.
#[must_use]
pub fn service_links(env: &BTreeMap<String, String>) -> Vec<&str> {
    let links = env.iter().filter(|(name, value)| name.starts_with(PREFIX) && is_service_link(name, value, env));
    links.map(|(name, _)| name.as_str()).collect()
}

/// Recognises a Service's variable by the shape of name and value; see "Environment variables" in Kubernetes'
/// documentation of Services.
fn is_service_link(name: &str, value: &str, env: &BTreeMap<String, String>) -> bool {
    let (is_port, is_address) = (|text: &str| text.parse::<u16>().is_ok(), |text: &str| text.parse::<IpAddr>().is_ok());
    let is_url = |text: &str| {
        let protocol = |(scheme, rest): (&str, &str)| PROTOCOLS.contains(&scheme).then(|| rest.to_owned());
        let rest = text.split_once("://").and_then(protocol);
        let end = rest.as_deref().and_then(|rest| rest.rsplit_once(':'));
        end.is_some_and(|(host, port)| is_address(host.trim_start_matches('[').trim_end_matches(']')) && is_port(port))
    };
    if name.ends_with("_SERVICE_HOST") {
        return is_address(value);
    }
    // A number alone may be a typing error, but not beside the address that always comes with it.
    if let Some((service, port)) = name.split_once("_SERVICE_PORT") {
        let host = env.get(&format!("{service}_SERVICE_HOST"));
        return (port.is_empty() || port.starts_with('_'))
            && is_port(value)
            && host.is_some_and(|host| is_address(host));
    }
    if name.ends_with("_PORT") && is_url(value) {
        return true;
    }
    // `_PORT_9088_TCP`, and the parts of its URL.
    let mut parts = name.rsplit('_').peekable();
    let part = parts.next_if(|part| ["PROTO", "PORT", "ADDR"].contains(part));
    let is_protocol = |text: &str| PROTOCOLS.contains(&text.to_ascii_lowercase().as_str());
    let shape =
        parts.next().is_some_and(is_protocol) && parts.next().is_some_and(is_port) && parts.next() == Some("PORT");
    shape
        && match part {
            None => is_url(value),
            Some("PROTO") => is_protocol(value),
            Some("PORT") => is_port(value),
            Some(_) => is_address(value),
        }
}

/// The layers of `env`, weaker first, and what is wrong with them. An empty variable counts as unset, since compose files and
/// unit files leave variables out that way.
pub(super) fn layers(env: &BTreeMap<String, String>, purpose: Purpose) -> ([Table; 2], Vec<ConfigFault>) {
    let mut layers = [Table::new(), Table::new()];
    let mut faults = Vec::new();
    let links = service_links(env);
    for (name, raw) in env.iter().filter(|(name, raw)| !raw.is_empty() && !links.contains(&name.as_str())) {
        match setting(name, raw, purpose) {
            Ok(Some((layer, path, node))) => combine(&mut layers[layer], nest(&path, node), "", &mut faults),
            Ok(None) => {}
            Err(text) => faults.push(ConfigFault { origin: Origin::Variable(name.clone()), text }),
        }
    }
    (layers, faults)
}

/// What one variable sets: the layer, the key's path and the value; `None` if it is not a setting.
fn setting(name: &str, raw: &str, purpose: Purpose) -> Result<Option<(usize, Vec<String>, Node)>, String> {
    let short = short(name);
    let long = name.strip_prefix(PREFIX).filter(|_| name != CONFIG_VARIABLE);
    if (short.is_some() || long.is_some()) && raw.contains(char::REPLACEMENT_CHARACTER) {
        let key = short.map_or(String::new(), |(path, _)| format!("{path}: "));
        return Err(format!("{key}is not valid UTF-8"));
    }
    if let Some((path, from_file)) = short {
        let set = short_setting(name, path, raw, from_file, purpose)?;
        return Ok(set.map(|(path, node)| (0, path, node)));
    }
    Ok(long.map(|rest| (1, key_path(rest), parse_variable(name, raw))))
}

/// The short name that sets `path`, for errors where no file is used.
pub(super) fn short_name(path: &str) -> Option<&'static str> {
    SHORT.iter().find(|(_, key)| *key == path).map(|(name, _)| *name)
}

/// The `MAR_` name of `path`.
pub(super) fn long_name(path: &str) -> String {
    format!("{PREFIX}{}", path.to_uppercase().replace('.', "__").replace('-', "_"))
}

/// The key that a short name sets, and whether the variable names a file that holds the value.
fn short(name: &str) -> Option<(&'static str, bool)> {
    SHORT.iter().find_map(|(short, path)| match name.strip_prefix(short)? {
        "" => Some((*path, false)),
        "_FILE" => Some((*path, true)),
        _ => None,
    })
}

/// `None` where a file would have to be read and `purpose` forbids it.
fn short_setting(
    name: &str,
    path: &str,
    raw: &str,
    from_file: bool,
    purpose: Purpose,
) -> Result<Option<(Vec<String>, Node)>, String> {
    let secret = matches!(path, "matrix.access_token" | "matrix.password" | "http.auth.bearer_token");
    let origin = Origin::Variable(name.to_owned());
    let mut segments: Vec<String> = path.split('.').map(str::to_owned).collect();
    let mut text = raw.to_owned();
    if from_file && secret {
        // From here on the variable is treated as the config key of the same meaning.
        if let Some(last) = segments.last_mut() {
            last.push_str("_file");
        }
    } else if from_file {
        // Secret mounts hold these as well, but their keys take no file.
        if !purpose.reads_secrets() {
            return Ok(None);
        }
        text = secret::read_line(Path::new(raw)).map_err(|why| format!("{path}: {why}"))?;
    }
    let node = |value| Node { hidden: from_file && !secret, ..Node::new(origin.clone(), value) };
    let node = if path == "routes.default.rooms" {
        let rooms = text.split(',').map(str::trim).filter(|room| !room.is_empty());
        node(Value::List(rooms.map(|room| node(Value::Text(room.to_owned()))).collect()))
    } else {
        node(Value::Text(text))
    };
    Ok(Some((segments, node)))
}

/// `ROUTES__TEAM_A__ROOMS` -> `routes`, `team-a`, `rooms`: a variable's name cannot hold a `-`, a route's no `_`. The same
/// goes for the name of a header.
fn key_path(name: &str) -> Vec<String> {
    let mut path: Vec<String> = name.split("__").map(str::to_lowercase).collect();
    if let [first, route, ..] = path.as_mut_slice()
        && first == "routes"
    {
        *route = route.replace('_', "-");
    }
    if let [.., table, header] = path.as_mut_slice()
        && ["headers", "header_files"].contains(&table.as_str())
    {
        *header = header.replace('_', "-");
    }
    path
}

/// A new tree with `node` at `path`.
fn nest(path: &[String], node: Node) -> Table {
    match path {
        [] => Table::new(),
        [key] => Table::from([(key.clone(), node)]),
        [key, rest @ ..] => {
            let origin = node.origin.clone();
            Table::from([(key.clone(), Node::new(origin, Value::Table(nest(rest, node))))])
        }
    }
}
