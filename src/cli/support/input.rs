//! What a command reads: a file or standard input, bounded.

use std::{
    fs::File,
    io::{self, Read},
    path::PathBuf,
};

use anyhow::{Context as _, ensure};

/// Bound of one input; published rule sets stay below one megabyte, and webhooks far below that.
const MAX_BYTES: usize = 8 * 1024 * 1024;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Input {
    Stdin,
    File(PathBuf),
}

impl Input {
    /// The input that a command-line argument names; `-` is standard input.
    pub(crate) fn named(argument: &str) -> Self {
        if argument == "-" { Self::Stdin } else { Self::File(argument.into()) }
    }

    /// The input's name in messages and reports.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Stdin => "standard input".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }

    /// # Errors
    /// When it cannot be read or is too large.
    pub(crate) fn bytes(&self) -> anyhow::Result<Vec<u8>> {
        match self {
            Self::Stdin => bounded(io::stdin().lock()),
            Self::File(path) => {
                let file = File::open(path).context("cannot read")?;
                let is_folder = file.metadata().context("cannot read")?.is_dir();
                ensure!(!is_folder, "is a folder, expected a file");
                bounded(file)
            }
        }
    }

    /// # Errors
    /// When it cannot be read, is too large or not UTF-8.
    pub(crate) fn text(&self) -> anyhow::Result<String> {
        String::from_utf8(self.bytes()?).ok().context("is not UTF-8")
    }
}

fn bounded(reader: impl Read) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).context("cannot read")?;
    ensure!(bytes.len() <= MAX_BYTES, "is larger than {} MiB", MAX_BYTES / 1024 / 1024);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_cannot_be_read_says_why() {
        let folder = tempfile::TempDir::new().unwrap();
        let why = |name: &str| Input::File(folder.path().join(name)).text().unwrap_err().to_string();
        fs::create_dir(folder.path().join("deep")).unwrap();
        fs::write(folder.path().join("x.txt"), b"\xff").unwrap();
        assert!(why("deep").contains("is a folder"), "{}", why("deep"));
        assert!(why("none").contains("cannot read"));
        assert!(why("x.txt").contains("UTF-8"));
        assert!(Input::named("/dev/zero").bytes().unwrap_err().to_string().contains("is larger"));
        assert_eq!(Input::named("-").name(), "standard input");
    }
}
