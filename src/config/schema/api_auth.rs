//! How another service is asked.

use std::path::Path;

use crate::config::secret::Secret;

pub(super) fn files_of_service<'a>(
    auth: &'a ApiAuth,
    headers: &'a [(String, Secret)],
    ca_file: Option<&'a Path>,
) -> impl Iterator<Item = &'a Path> {
    let secret = match auth {
        ApiAuth::None => None,
        ApiAuth::Bearer(secret) | ApiAuth::Basic { password: secret, .. } => Some(secret),
    };
    let secrets = secret.into_iter().chain(headers.iter().map(|(_, value)| value));
    secrets.filter_map(Secret::file).chain(ca_file)
}

/// How a request to another service proves who it is from.
#[derive(Clone, Debug)]
pub enum ApiAuth {
    None,
    Bearer(Secret),
    Basic { username: String, password: Secret },
}
