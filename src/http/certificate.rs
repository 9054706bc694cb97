//! Loads a certificate and its key from their files for TLS.

use std::{fs::File, io::Read as _, path::Path, sync::Arc};

use rustls::{
    InconsistentKeys, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
};
use sha2::{Digest as _, Sha256};
use x509_cert::{certificate::CertificateInner, certificate::Raw, der::Decode as _, time::Time};

use crate::{config, health::Certificate, model::Timestamp};

/// The longest file; a path like `/dev/zero` must not fill the memory.
const MAX_BYTES: u64 = 1024 * 1024;
/// Otherwise Alertmanager would prefer HTTP/2, which the receiver does not speak.
const ALPN: &[u8] = b"http/1.1";

/// A certificate and its matching key.
#[derive(Clone, Debug)]
pub struct Pair {
    pub(super) config: Arc<ServerConfig>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// The hash of the contents of both files.
    pub(super) hash: Hash,
}

pub(super) type Hash = [u8; 32];

/// Why the files hold no valid pair. It names key and path, never the content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("http.tls.{key}: {path}: {what}", path = path.display())]
pub struct Misfit {
    key: &'static str,
    path: Box<Path>,
    pub(super) what: String,
    /// The hash of the contents, as far as they could be read.
    pub(super) hash: Hash,
}

impl Misfit {
    /// The text for health, without the path.
    pub(super) fn without_path(&self) -> String {
        format!("http.tls.{}: {}", self.key, self.what)
    }
}

impl Pair {
    /// Reads the files; blocks for as long as that takes.
    ///
    /// # Errors
    /// When a file cannot be read or parsed, or certificate and key do not match. An expired certificate is not an
    /// error here.
    pub fn load(files: &config::Tls) -> Result<Self, Misfit> {
        let (cert_file, key_file) = (&*files.cert_file, &*files.key_file);
        let (certificate, key) = (read(cert_file), read(key_file));
        let hash = hash_of(&certificate, &key);
        let of = |key, path: &Path| {
            let path: Box<Path> = path.into();
            move |what: String| Misfit { key, path, what, hash }
        };
        let (in_cert, in_key) = (of("cert_file", cert_file), of("key_file", key_file));
        let certificate = match certificate.and_then(|pem| chain(&pem)) {
            Ok(chain) => chain,
            Err(what) => return Err(in_cert(what)),
        };
        let key = match key.and_then(|pem| private_key(&pem)) {
            Ok(key) => key,
            Err(what) => return Err(in_key(what)),
        };
        let Some((not_before, not_after)) = certificate.first().and_then(validity) else {
            return Err(in_cert("its first certificate is not an X.509 certificate".to_owned()));
        };
        let config = match server_config(certificate, key) {
            Ok(config) => Arc::new(config),
            Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                return Err(in_key("is not the key of the certificate in http.tls.cert_file".to_owned()));
            }
            Err(rustls::Error::InvalidCertificate(fault)) => {
                return Err(in_cert(format!("its first certificate cannot be used: {fault:?}")));
            }
            Err(_) => {
                return Err(in_key("holds a key that cannot be used; use RSA, ECDSA or Ed25519".to_owned()));
            }
        };
        Ok(Self { config, not_before, not_after, hash })
    }

    /// The certificate as health reports it.
    #[must_use]
    pub fn certificate(&self) -> Certificate {
        Certificate { not_before: self.not_before, not_after: self.not_after, refused: None }
    }
}

/// Reads at most [`MAX_BYTES`]; a named pipe would never end.
fn read(path: &Path) -> Result<Vec<u8>, String> {
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    if !path.metadata().map_err(cannot)?.is_file() {
        return Err("is not a file".to_owned());
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes)).map_err(cannot)?;
    if bytes.len() as u64 > MAX_BYTES { Err("is larger than 1 MiB".to_owned()) } else { Ok(bytes) }
}

/// An error counts as content: a missing file differs from an invalid one.
fn hash_of(certificate: &Result<Vec<u8>, String>, key: &Result<Vec<u8>, String>) -> Hash {
    let part = |read: &Result<Vec<u8>, String>| match read {
        Ok(bytes) => Sha256::digest(bytes),
        Err(what) => Sha256::digest(format!("unread: {what}")),
    };
    Sha256::digest([part(certificate), part(key)].concat()).into()
}

fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    match chain {
        Ok(chain) if chain.is_empty() => Err("holds no PEM certificate".to_owned()),
        Ok(chain) => Ok(chain),
        Err(_) => Err("is not PEM, or cut off".to_owned()),
    }
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    const ENCRYPTED: &[u8] = b"ENCRYPTED";
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        _ if pem.windows(ENCRYPTED.len()).any(|part| part == ENCRYPTED) => {
            "holds an encrypted key; use one without a passphrase".to_owned()
        }
        pem::Error::NoItemsFound => "holds no PEM private key (PKCS#8, PKCS#1 or SEC1)".to_owned(),
        _ => "is not PEM, or cut off".to_owned(),
    })
}

/// The validity of the first certificate by RFC 5280, 4.1.2.5. The rest of a chain may be an old cross-signature that
/// nobody needs.
fn validity(certificate: &CertificateDer<'_>) -> Option<(Timestamp, Timestamp)> {
    let certificate = CertificateInner::<Raw>::from_der(certificate).ok()?;
    let validity = certificate.tbs_certificate.validity;
    let at = |time: Time| i64::try_from(time.to_unix_duration().as_millis()).map(Timestamp).ok();
    Some((at(validity.not_before)?, at(validity.not_after)?))
}

fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    // Named, since another dependency may install a different provider.
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        // TLS 1.2 and 1.3.
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}
