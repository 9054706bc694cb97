//! Whether a config's files have changed, found by looking at what they hold: Kubernetes changes a mounted file by
//! swapping a link to a folder above it, of which a watch on the file learns nothing.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

/// More of a file is not looked at; no config, secret or template is nearly as long.
const MOST: u64 = 1024 * 1024;

/// What files hold, for telling whether that has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of these files, in this order. One that cannot be read differs from any that can.
    pub async fn of(files: Vec<PathBuf>) -> Self {
        // A folder on a network that hangs must not hold up anything else.
        tokio::task::spawn_blocking(move || Self::read(&files)).await.unwrap_or_default()
    }

    /// As [`Fingerprint::of`], for when nothing else runs yet.
    pub fn read(files: &[PathBuf]) -> Self {
        let mut hash = Sha256::new();
        for path in files {
            hash.update(path.as_os_str().as_encoded_bytes());
            match content(path) {
                Ok(bytes) => {
                    hash.update([0, 1]);
                    hash.update(Sha256::digest(bytes));
                }
                Err(error) => {
                    hash.update([0, 0]);
                    hash.update(error.kind().to_string());
                }
            }
        }
        Self(hash.finalize().into())
    }
}

/// The content of a file. Not of a pipe, whose opening would wait for a writer.
pub async fn read(path: &Path) -> io::Result<Vec<u8>> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || content(&path)).await.map_err(io::Error::other)?
}

fn content(path: &Path) -> io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MOST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_file_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("secret");
        std::fs::write(&file, "text").expect("written");
        assert_eq!(read(&file).await.expect("the content"), b"text");
        assert_eq!(read(folder.path()).await.map_err(|error| error.kind()), Err(io::ErrorKind::InvalidInput));
    }

    #[tokio::test]
    async fn any_change_of_what_the_files_hold_is_seen_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let [one, two, link] = ["one", "two", "link"].map(|name| folder.path().join(name));
        let seen = async || Fingerprint::of(vec![one.clone(), link.clone()]).await;
        let mut all = vec![seen().await];
        for (path, text) in [(&one, ""), (&one, "a"), (&two, "a"), (&one, "b")] {
            std::fs::write(path, text).expect("written");
            all.push(seen().await);
        }
        std::os::unix::fs::symlink(&two, &link).expect("a link");
        all.push(seen().await);
        std::fs::remove_file(&two).expect("removed");
        all.push(seen().await);
        std::fs::create_dir(&two).expect("a folder");
        all.push(seen().await);
        // "two" is not looked at before the link leads there, and a link to nowhere is as good as none.
        assert_eq!((all[2].clone(), all[4].clone()), (all[3].clone(), all[6].clone()));
        for different in [[0, 1], [1, 2], [3, 4], [4, 5], [5, 6], [6, 7]] {
            assert_ne!(all[different[0]], all[different[1]], "{different:?}");
        }
        assert_eq!(seen().await, seen().await);
    }
}
