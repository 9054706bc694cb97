//! The files that the command line names. Globs are expanded here, so that quoted ones work.

use std::{collections::HashSet, path::Path};

use anyhow::{Context as _, bail, ensure};

use crate::cli::support::input::Input;

/// Bound of all arguments together.
const MAX_FILES: usize = 10_000;

/// The inputs that `arguments` name, each once, in order.
///
/// # Errors
/// When a pattern is invalid, or matches nothing: a check that looks at nothing must not pass.
pub(super) fn sources(arguments: &[String]) -> anyhow::Result<Vec<Input>> {
    let mut seen = HashSet::new();
    let mut sources = Vec::new();
    let mut add = |source: Input| -> anyhow::Result<()> {
        ensure!(sources.len() < MAX_FILES, "more than {MAX_FILES} files");
        if seen.insert(source.clone()) {
            sources.push(source);
        }
        Ok(())
    };
    for argument in arguments {
        if !argument.contains(['*', '?', '[']) || Path::new(argument).exists() {
            add(Input::named(argument))?;
            continue;
        }
        let mut found = false;
        for file in glob::glob(argument).with_context(|| format!("{argument:?} is not a valid pattern"))? {
            let file = file.with_context(|| format!("cannot look for {argument:?}"))?;
            if !file.is_dir() {
                found = true;
                add(Input::File(file))?;
            }
        }
        if !found {
            bail!("no file matches {argument:?}");
        }
    }
    Ok(sources)
}

#[cfg(test)]
mod tests {
    use std::fs;

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
            let short = |source: &Input| source.name().replace(&folder.path().display().to_string(), "");
            sources(arguments).unwrap().iter().map(short).collect()
        };
        let all = ["/a.yaml", "/a[1].yaml", "/b.yaml"];
        assert_eq!(names(&[path("*.yaml")]), all);
        assert_eq!(names(&[path("a[1].yaml"), path("a.yaml"), path("a*.yaml")]), ["/a[1].yaml", "/a.yaml"]);
        assert!(names(&[path("**/*.yaml")]).contains(&"/deep/c.yaml".to_owned()));
        assert_eq!(names(&["-".to_owned(), "-".to_owned()]), ["standard input"]);
        for (argument, why) in [(path("*.yml"), "no file matches"), (path("***"), "is not a valid pattern")] {
            assert!(sources(&[argument]).unwrap_err().to_string().contains(why), "{why}");
        }
    }
}
