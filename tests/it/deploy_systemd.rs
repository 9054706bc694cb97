//! What lies in `deploy/systemd/`, as far as it goes without systemd: the receiver takes the config and the variables that
//! the unit gives it, and the paths of unit, tmpfiles and package are the same ones.

use std::{fs, path::Path, process::Command};

use crate::harness::process::Scratch;

const ETC: &str = "/etc/matrix-alertmanager-receiver";

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The values of a key of the unit, in order.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

#[test]
fn the_receiver_takes_what_the_unit_gives_it() {
    let unit = read("deploy/systemd/matrix-alertmanager-receiver.service");
    let scratch = Scratch::new("systemd");
    let mut command = Command::new(env!("CARGO_BIN_EXE_matrix-alertmanager-receiver"));
    command.env_clear().env("MAR_STORE__PATH", scratch.join("store"));
    let credentials = values(&unit, "LoadCredential");
    assert_eq!(credentials.len(), 2);
    for credential in credentials {
        let (name, source) = credential.split_once(':').expect("a source");
        assert_eq!(source, format!("{ETC}/credentials/{name}"));
        scratch.write(name, "secret\n");
    }
    for variable in values(&unit, "Environment") {
        let (name, value) = variable.split_once('=').expect("a value");
        command.env(name, value.replace("%d", scratch.path().to_str().expect("UTF-8")));
    }
    let config = scratch.write("config.toml", &read("deploy/systemd/config.toml"));
    let output = command.arg("check").arg("--config").arg(config).output().expect("the receiver's binary starts");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
}

#[test]
fn its_paths_are_the_ones_of_tmpfiles_and_package() {
    let unit = read("deploy/systemd/matrix-alertmanager-receiver.service");
    let name = "matrix-alertmanager-receiver";
    let start = format!("/usr/bin/{name} serve --config {ETC}/config.toml");
    assert_eq!(values(&unit, "ExecStart"), [start]);
    assert_eq!(values(&unit, "ExecReload"), ["/bin/kill -HUP $MAINPID"]);
    assert_eq!(values(&unit, "User"), [name]);
    assert!(read(&format!("deploy/systemd/sysusers.d/{name}.conf")).contains(&format!("\nu {name} - ")));
    let tmpfiles = read(&format!("deploy/systemd/tmpfiles.d/{name}.conf"));
    assert!(tmpfiles.contains(&format!("\nd {ETC}/credentials 0700 root root -\n")), "{tmpfiles}");
    // As the receiver does by default.
    assert!(
        read("config.example.toml").contains(&format!("path = \"/var/lib/{}\"", values(&unit, "StateDirectory")[0]))
    );
    // Every file that the package takes from deploy/ is there, and what a purge removes is what was made.
    let manifest = read("Cargo.toml");
    let assets: Vec<_> = manifest.lines().filter_map(|line| line.trim().strip_prefix("[\"deploy/")).collect();
    assert!(assets.len() >= 5, "{assets:?}");
    for asset in assets {
        read(&format!("deploy/{}", asset.split('"').next().unwrap_or_default()));
    }
    let purged = format!("rm -rf {ETC}/credentials /var/lib/{name}\n");
    assert!(read("deploy/debian/postrm").contains(&purged));
}
