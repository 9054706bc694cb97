//! Checks the store's folder. It takes no lock, since the running receiver may hold it.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use super::report::Report;
use crate::{cli::support::http_client, store};

/// Files of an earlier run, which may belong to another user, such as root after a first try by hand.
const FILES: [&str; 3] = ["receiver.sqlite3", "lock", "session.json"];

pub(super) fn check(folder: &Path, report: &mut Report) {
    match usable(folder) {
        Ok((found, at)) => match http_client::block_on(async { Ok(store::probe(&at).await?) }) {
            Ok(()) => report.ok(format!("store: {} {found}", folder.display())),
            Err(fault) => report.fault(format!("store: a trial run of the store fails: {fault:#}")),
        },
        Err(fault) => report.fault(format!(
            "store: {fault} -> let the receiver's user own {}, or set store.path to a folder that it may write",
            folder.display()
        )),
    }
}

/// Whether the folder can be used, and the existing folder: itself, or the parent in which it will be created.
///
/// # Errors
/// Says what cannot be used and why.
fn usable(folder: &Path) -> Result<(&'static str, PathBuf), String> {
    let cannot_write = |path: &Path, error: &io::Error| format!("cannot write to {}: {error}", path.display());
    match fs::metadata(folder) {
        Ok(found) if !found.is_dir() => Err(format!("{} is not a folder", folder.display())),
        Ok(_) => {
            probe(folder).map_err(|error| cannot_write(folder, &error))?;
            for path in FILES.map(|name| folder.join(name)) {
                match File::options().append(true).open(&path) {
                    Err(error) if error.kind() != ErrorKind::NotFound => return Err(cannot_write(&path, &error)),
                    _ => {}
                }
            }
            Ok(("can be written", folder.to_owned()))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            // The nearest existing folder decides whether the rest can be created.
            let parent = folder.ancestors().skip(1).find(|parent| !parent.as_os_str().is_empty() && parent.exists());
            let parent = parent.unwrap_or(Path::new("."));
            probe(parent)
                .map_err(|error| format!("cannot create {}: {}", folder.display(), cannot_write(parent, &error)))?;
            Ok(("will be created at the first start", parent.to_owned()))
        }
        Err(error) => Err(format!("cannot read {}: {error}", folder.display())),
    }
}

/// Writes and removes a file: permissions alone do not reveal read-only mounts and full disks.
fn probe(folder: &Path) -> io::Result<()> {
    let path = folder.join(format!(".check-{}", ulid::Ulid::new()));
    File::options().write(true).create_new(true).open(&path)?;
    let written = fs::write(&path, "check");
    fs::remove_file(&path)?;
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_used() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        assert_eq!(usable(home.path()), Ok(("can be written", home.path().to_owned())));
        assert_eq!(usable(&at("new/deep")), Ok(("will be created at the first start", home.path().to_owned())));
        assert!(!at("new").exists(), "nothing was created");
        fs::write(at("file"), "").unwrap();
        assert!(usable(&at("file")).unwrap_err().contains("is not a folder"));
        assert!(usable(&at("file/below")).is_err());
        // A folder cannot be opened for writing, whoever asks: the tests may run as root.
        fs::create_dir(at("receiver.sqlite3")).unwrap();
        assert!(usable(home.path()).unwrap_err().contains("receiver.sqlite3"));
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 2, "nothing was left");
        assert!(usable(Path::new("/proc/nowhere")).is_err());
    }
}
