//! Where the TOML goes: never over a file that is there, unless that was asked for, and never readable by others if a
//! secret is in it.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use anyhow::{Context as _, bail};

/// Writes it whole or not at all.
///
/// # Errors
/// When there is a file already and `force` is not given, or it cannot be written.
pub(super) fn write(path: &Path, text: &str, secret: bool, force: bool) -> anyhow::Result<()> {
    if !force && fs::symlink_metadata(path).is_ok() {
        bail!("is there already; --force replaces it");
    }
    let name = path.file_name().context("is no file name")?.to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.{}.new", std::process::id()));
    let written = (|| {
        let mode = if secret { 0o600 } else { 0o644 };
        let mut file = File::options().write(true).create_new(true).mode(mode).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        if force {
            return fs::rename(&beside, path);
        }
        // Unlike a rename this fails where somebody was faster.
        fs::hard_link(&beside, path)?;
        fs::remove_file(&beside)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    match written {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => bail!("is there already; --force replaces it"),
        written => written.context("cannot write"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_there_stays_and_secrets_are_for_the_owner() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("receiver.toml");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        write(&path, "one", false, false).unwrap();
        assert_eq!(mode() & 0o600, 0o600);
        assert!(write(&path, "two", true, false).unwrap_err().to_string().contains("--force"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "one");
        write(&path, "three", true, true).unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), mode()), ("three", 0o600));
        // A link that leads nowhere is something as well.
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("nowhere", &link).unwrap();
        assert!(write(&link, "x", false, false).is_err());
        assert!(write(&folder.path().join("no/folder"), "x", false, false).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left beside them");
    }
}
