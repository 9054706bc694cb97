//! A private authority and what it signs, made by openssl.

use std::{path::PathBuf, process::Command};

use super::process::Scratch;

/// For new keys: PKCS#8, ECDSA.
const KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];

#[derive(Debug)]
pub struct Authority {
    scratch: Scratch,
}

/// The PEM files of a certificate and its key.
#[derive(Debug, Clone)]
pub struct Leaf {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    pub fn new() -> Self {
        let authority = Self { scratch: Scratch::new("tls") };
        let files = ["-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=An authority of a test"];
        authority.openssl(&[&["req", "-x509"], &KEY[..], &files].concat());
        authority
    }

    /// Its own certificate.
    pub fn file(&self) -> String {
        self.scratch.join("ca.pem").to_str().expect("a UTF-8 path").to_owned()
    }

    /// A certificate for 127.0.0.1 and `names`, which ends in so many days; below zero, it has.
    pub fn leaf(&self, name: &str, names: &[&str], days: i32) -> Leaf {
        let [key, request, cert] = ["key", "csr", "pem"].map(|kind| format!("{name}.{kind}"));
        let subject = format!("/CN={name}");
        let files = ["-keyout", &key, "-out", &request, "-subj", &subject];
        self.openssl(&[&["req", "-new"], &KEY[..], &files].concat());
        let names =
            [&["IP:127.0.0.1".to_owned()], &*names.iter().map(|name| format!("DNS:{name}")).collect::<Vec<_>>()];
        let names = names.concat().join(",");
        let extensions = format!("subjectAltName={names}\nbasicConstraints=critical,CA:FALSE\n");
        self.scratch.write(&format!("{name}.ext"), &extensions);
        let (days, extensions) = (days.to_string(), format!("{name}.ext"));
        let signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", &days, "-extfile", &extensions];
        self.openssl(&[&["x509", "-req", "-in", &request, "-out", &cert], &signed[..]].concat());
        Leaf { cert: self.scratch.join(&cert), key: self.scratch.join(&key) }
    }

    /// Runs openssl where all of its files are.
    pub fn openssl(&self, args: &[&str]) {
        let made =
            Command::new("openssl").args(args).current_dir(self.scratch.path()).output().expect("openssl starts");
        assert!(made.status.success(), "{args:?}: {}", String::from_utf8_lossy(&made.stderr));
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }
}
