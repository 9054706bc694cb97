//! Files that commands write, each whole or not at all: a new file beside the old one takes its place.

use std::{
    fs::{self, File, Permissions},
    io::{self, ErrorKind, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown},
    path::Path,
};

use anyhow::{Context as _, bail, ensure};

/// Creates `path`. Only its owner can read the file if something `secret` is in it.
///
/// # Errors
/// When there is a file already and `overwrite` is not set, or the file cannot be written.
pub(crate) fn create(path: &Path, content: impl AsRef<[u8]>, secret: bool, overwrite: bool) -> anyhow::Result<()> {
    ensure!(overwrite || fs::symlink_metadata(path).is_err(), "exists already; --force replaces it");
    let mode = if secret { 0o600 } else { 0o644 };
    let written = write_beside(
        path,
        content.as_ref(),
        mode,
        |_| Ok(()),
        |beside| {
            if overwrite {
                return fs::rename(beside, path);
            }
            // Unlike a rename this fails if another process has created the file meanwhile.
            fs::hard_link(beside, path)?;
            fs::remove_file(beside)
        },
    );
    match written {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => bail!("exists already; --force replaces it"),
        written => written.context("cannot write"),
    }
}

/// Replaces the text of an existing file and keeps its mode and owner. A symbolic link stays a link.
///
/// # Errors
/// When the folder or the file cannot be written.
pub(crate) fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let target = fs::canonicalize(path).context("cannot write")?;
    let metadata = fs::metadata(&target).context("cannot write")?;
    ensure!(metadata.is_file(), "cannot write: not a regular file");
    // A read-only file is not replaced, even where the folder's permissions would allow it.
    File::options().append(true).open(&target).context("cannot write")?;
    let keep_owner = |file: &File| {
        // Without the right to change owners the file belongs to the caller, as with any editor.
        let _ = fchown(file, Some(metadata.uid()), Some(metadata.gid()));
        file.set_permissions(Permissions::from_mode(metadata.permissions().mode()))
    };
    write_beside(&target, text.as_bytes(), 0o600, keep_owner, |beside| fs::rename(beside, &target))
        .context("cannot write")
}

fn write_beside(
    path: &Path,
    content: &[u8],
    mode: u32,
    prepare: impl FnOnce(&File) -> io::Result<()>,
    put_in_place: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let name = path.file_name().ok_or(ErrorKind::InvalidFilename)?.to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.{}.new", std::process::id()));
    let written = (|| {
        let mut file = File::options().write(true).create_new(true).mode(mode).open(&beside)?;
        prepare(&file)?;
        file.write_all(content)?;
        file.sync_all()?;
        put_in_place(&beside)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_existing_file_stays_and_secrets_are_for_the_owner() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("receiver.toml");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        create(&path, "one", false, false).unwrap();
        assert_eq!(mode() & 0o600, 0o600);
        assert!(create(&path, "two", true, false).unwrap_err().to_string().contains("--force"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "one");
        create(&path, "three", true, true).unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), mode()), ("three", 0o600));
        // A dangling link counts as an existing file.
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("nowhere", &link).unwrap();
        assert!(create(&link, "x", false, false).is_err());
        assert!(create(&folder.path().join("no/folder"), "x", false, false).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary file is left");
    }

    #[test]
    fn replacing_keeps_mode_and_links() {
        let folder = tempfile::TempDir::new().unwrap();
        let [file, link] = ["file", "link"].map(|name| folder.path().join(name));
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        replace(&link, "new").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary file is left");
        assert!(replace(Path::new("/dev/null"), "x").is_err());
    }
}
