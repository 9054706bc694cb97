//! What to read: files, globs (expanded here, so that quoted ones work), standard input. Everything is bounded.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, Read, Write as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};

/// Of one file; the largest rule sets that are published have less than one megabyte.
const MAX_BYTES: usize = 8 * 1024 * 1024;
/// Of all arguments together.
const MAX_FILES: usize = 10_000;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::cli) enum Source {
    Stdin,
    File(PathBuf),
}

impl Source {
    /// As people and programs see it.
    pub(in crate::cli) fn name(&self) -> String {
        match self {
            Self::Stdin => "standard input".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }

    /// # Errors
    /// When it cannot be read, is too large or not UTF-8.
    pub(in crate::cli) fn read(&self) -> anyhow::Result<String> {
        match self {
            Self::Stdin => bounded(io::stdin().lock()),
            Self::File(path) => {
                let file = File::open(path).context("cannot read")?;
                ensure!(!file.metadata().context("cannot read")?.is_dir(), "is a folder; name its files: DIR/*.yaml");
                bounded(file)
            }
        }
    }
}

fn bounded(reader: impl Read) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    reader.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).context("cannot read")?;
    ensure!(bytes.len() <= MAX_BYTES, "is larger than {} MiB", MAX_BYTES / 1024 / 1024);
    String::from_utf8(bytes).ok().context("is not UTF-8")
}

/// The sources that `arguments` name, each once, in order.
///
/// # Errors
/// When a pattern is none, or matches nothing: a check that looks at nothing must not pass.
pub(super) fn sources(arguments: &[String]) -> anyhow::Result<Vec<Source>> {
    let mut seen = HashSet::new();
    let mut sources = Vec::new();
    let mut add = |source: Source| -> anyhow::Result<()> {
        ensure!(sources.len() < MAX_FILES, "more than {MAX_FILES} files");
        if seen.insert(source.clone()) {
            sources.push(source);
        }
        Ok(())
    };
    for argument in arguments {
        let path = Path::new(argument);
        if argument == "-" {
            add(Source::Stdin)?;
        } else if !argument.contains(['*', '?', '[']) || path.exists() {
            add(Source::File(path.to_owned()))?;
        } else {
            let mut found = false;
            for file in glob::glob(argument).with_context(|| format!("{argument:?} is no pattern"))? {
                let file = file.with_context(|| format!("cannot look for {argument:?}"))?;
                if !file.is_dir() {
                    found = true;
                    add(Source::File(file))?;
                }
            }
            if !found {
                bail!("no file matches {argument:?}");
            }
        }
    }
    Ok(sources)
}

/// Replaces what is in the file, with its mode kept, so that a crash leaves the old or the new one. A symbolic link stays
/// one.
///
/// # Errors
/// When the folder or the file does not let us write.
pub(super) fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let target = fs::canonicalize(path).context("cannot write")?;
    let metadata = fs::metadata(&target).context("cannot write")?;
    ensure!(metadata.is_file(), "cannot write: it is no regular file");
    // What may not be written to is not replaced either, though the folder might allow that.
    File::options().append(true).open(&target).context("cannot write")?;
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let beside = target.with_file_name(format!(".{name}.{}.new", std::process::id()));
    let written = (|| {
        let mut file = File::options().write(true).create_new(true).open(&beside)?;
        // Without the right to give files away it gets the owner of whoever runs this, as with any editor.
        let _ = fchown(&file, Some(metadata.uid()), Some(metadata.gid()));
        file.set_permissions(fs::Permissions::from_mode(metadata.permissions().mode()))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, &target)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written.context("cannot write")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_patterns() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        fs::create_dir_all(path("deep/er.yaml")).unwrap();
        for name in ["b.yaml", "a.yaml", "a[1].yaml", "deep/c.yaml", "x.txt"] {
            fs::write(path(name), "").unwrap();
        }
        let names = |arguments: &[String]| -> Vec<String> {
            let short = |source: &Source| source.name().replace(&folder.path().display().to_string(), "");
            sources(arguments).unwrap().iter().map(short).collect()
        };
        let all = ["/a.yaml", "/a[1].yaml", "/b.yaml"];
        assert_eq!(names(&[path("*.yaml")]), all);
        assert_eq!(names(&[path("a[1].yaml"), path("a.yaml"), path("a*.yaml")]), ["/a[1].yaml", "/a.yaml"]);
        assert!(names(&[path("**/*.yaml")]).contains(&"/deep/c.yaml".to_owned()));
        assert_eq!(names(&["-".to_owned(), "-".to_owned()]), ["standard input"]);
        for (argument, why) in [(path("*.yml"), "no file matches"), (path("***"), "is no pattern")] {
            assert!(sources(&[argument]).unwrap_err().to_string().contains(why), "{why}");
        }
        let read = |name: &str| Source::File(path(name).into()).read().unwrap_err().to_string();
        assert!(read("deep").contains("is a folder"), "{}", read("deep"));
        assert!(read("none").contains("cannot read"));
        assert!(Source::File("/dev/zero".into()).read().unwrap_err().to_string().contains("is larger"));
        fs::write(path("x.txt"), b"\xff").unwrap();
        assert!(read("x.txt").contains("UTF-8"));
    }

    #[test]
    fn writing_keeps_mode_and_links() {
        let folder = tempfile::TempDir::new().unwrap();
        let [file, link] = ["file", "link"].map(|name| folder.path().join(name));
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        write(&link, "new").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left beside it");
        assert!(write(Path::new("/dev/null"), "x").is_err());
    }
}
