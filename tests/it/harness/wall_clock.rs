//! The wall clock of a receiver that runs, to be set ahead and back under it. A small library that the linker loads before
//! libc answers for the clock; it is compiled once with the compiler that links Rust's programs too.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use super::process::Scratch;

#[derive(Debug)]
pub struct WallClock {
    file: PathBuf,
    _folder: Scratch,
}

impl WallClock {
    /// One that shows the machine's time.
    pub fn new() -> Self {
        let folder = Scratch::new("clock");
        let file = folder.join("ahead");
        let clock = Self { file, _folder: folder };
        clock.set(0);
        clock
    }

    /// From now on it is so many seconds ahead of the machine's; negative: behind.
    pub fn set(&self, ahead_s: i64) {
        let new = self.file.with_extension("new");
        std::fs::write(&new, ahead_s.to_string()).expect("written");
        std::fs::rename(&new, &self.file).expect("renamed");
    }

    /// What a process needs in its environment to see it.
    pub(super) fn env(&self) -> [(String, String); 2] {
        let text = |path: &Path| path.to_str().expect("a UTF-8 path").to_owned();
        [("LD_PRELOAD".to_owned(), text(library())), ("TEST_WALL_CLOCK".to_owned(), text(&self.file))]
    }
}

fn library() -> &'static Path {
    static BUILT: OnceLock<(PathBuf, Scratch)> = OnceLock::new();
    let (library, _) = BUILT.get_or_init(|| {
        let folder = Scratch::new("clock-library");
        let library = folder.join("wall_clock.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/harness/wall_clock.c");
        let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).output();
        let built = built.expect("cc, which links Rust's programs too");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        (library, folder)
    });
    library
}
