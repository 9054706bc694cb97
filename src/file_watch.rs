//! Watches files by what they hold. Kubernetes changes a mounted file by swapping a link to a folder above it, which a
//! watch on the file itself would miss.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};

/// Bound of what is read of one file; configs, secrets, certificates and templates stay far below it.
const MAX_BYTES: u64 = 1024 * 1024;
/// How long changed files must stay the same before they are read: a file that is being written is half a file.
const SETTLE: Duration = Duration::from_secs(1);

/// Watches a set of files, which may differ from look to look.
#[derive(Debug)]
pub struct FileWatch {
    /// What the files held when they were last read.
    seen: Fingerprint,
    every: Interval,
}

/// What a look at the files found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The files hold what they held when they were last read.
    None,
    /// The files hold something else, and may still be changing.
    Unsettled,
    /// The files hold something else, and did not change for a second.
    Settled,
}

impl FileWatch {
    /// Looks `every` so often for a difference from `seen`.
    pub fn new(seen: Fingerprint, every: Duration) -> Self {
        let mut every = interval(every);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { seen, every }
    }

    /// Waits until the next look is due; the first one is due at once. Cancel safe.
    pub async fn due(&mut self) {
        self.every.tick().await;
    }

    /// Looks at `files`, and waits for a second if they have changed.
    pub async fn look(&self, files: Vec<PathBuf>) -> Change {
        let found = Fingerprint::of(files.clone()).await;
        if found == self.seen {
            return Change::None;
        }
        sleep(SETTLE).await;
        if Fingerprint::of(files).await == found { Change::Settled } else { Change::Unsettled }
    }

    /// Takes what `files` hold as read. To be called before they are read, so that the next look sees later changes.
    pub async fn mark_read(&mut self, files: Vec<PathBuf>) {
        self.seen = Fingerprint::of(files).await;
    }

    /// Whether `files` still hold what was marked as read.
    pub async fn is_current(&self, files: Vec<PathBuf>) -> bool {
        Fingerprint::of(files).await == self.seen
    }
}

/// A digest of what files hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of these files, in this order. An unreadable file differs from any that can be read.
    pub async fn of(files: Vec<PathBuf>) -> Self {
        // A network folder that hangs must not block the runtime.
        tokio::task::spawn_blocking(move || Self::read(&files)).await.unwrap_or_default()
    }

    /// As [`Fingerprint::of`], for a start, before the runtime runs.
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
    File::open(path)?.take(MAX_BYTES).read_to_end(&mut bytes)?;
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

    #[tokio::test]
    async fn a_change_counts_once_it_has_settled() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file");
        let files = || vec![file.clone()];
        let mut watch = FileWatch::new(Fingerprint::of(files()).await, Duration::from_secs(5));
        assert_eq!(watch.look(files()).await, Change::None);
        std::fs::write(&file, "half").expect("written");
        let (found, ()) = tokio::join!(watch.look(files()), async {
            sleep(SETTLE / 2).await;
            std::fs::write(&file, "whole").expect("written");
        });
        assert_eq!(found, Change::Unsettled);
        assert_eq!(watch.look(files()).await, Change::Settled);
        assert!(!watch.is_current(files()).await);
        watch.mark_read(files()).await;
        assert_eq!(watch.look(files()).await, Change::None);
    }
}
