//! Whether the database file is just as the last receiver left it. To read all of a file through is most of what a start
//! takes, and what a crash or a copy did to it is only there when it was not closed, or is not that file any more.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

/// What a note may be long, in bytes.
const LONGEST: u64 = 256;

/// Writes down in `lock` that nothing was open in the file when it was closed.
///
/// # Errors
/// When one of the files cannot be used. The next start checks the file then.
pub fn note(mut lock: &File, file: &Path) -> io::Result<()> {
    let mark = mark(file)?;
    lock.set_len(0)?;
    lock.rewind()?;
    lock.write_all(mark.as_bytes())
}

/// Whether nobody has touched the file since the note in `lock`, which is taken away: only the next stop makes another.
///
/// # Errors
/// When the lock cannot be used. A file that is not there is not as it was.
pub fn take(mut lock: &File, file: &Path) -> io::Result<bool> {
    let mut noted = String::new();
    lock.rewind()?;
    let is_read = lock.take(LONGEST).read_to_string(&mut noted).is_ok();
    lock.set_len(0)?;
    Ok(is_read && mark(file).is_ok_and(|mark| mark == noted) && !has_log(file))
}

/// The change time says of any write, also of one after which somebody set the modification time back.
fn mark(file: &Path) -> io::Result<String> {
    let meta = fs::metadata(file)?;
    let (modified, changed) = ((meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec()));
    Ok(format!("closed: {} {} {modified:?} {changed:?}\n", meta.ino(), meta.len()))
}

/// Whether there are commits that are not in the file yet: it was not closed, or a reader still had it.
fn has_log(file: &Path) -> bool {
    let mut log = file.as_os_str().to_owned();
    log.push("-wal");
    Path::new(&log).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_file_that_was_closed_is_as_it_was_and_only_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("db");
        let path = folder.path().join("lock");
        let lock = File::options().create(true).truncate(false).read(true).write(true).open(path).expect("a lock");
        let taken = || take(&lock, &file).expect("a lock");
        assert!(!taken(), "nothing is there");
        fs::write(&file, "pages").expect("written");
        assert!(!taken(), "nothing is noted");
        note(&lock, &file).expect("noted");
        assert!(taken());
        assert!(!taken(), "a receiver has it open since");

        note(&lock, &file).expect("noted");
        let log = folder.path().join("db-wal");
        fs::write(&log, "more").expect("written");
        assert!(!taken(), "there is a log");
        fs::remove_file(log).expect("removed");

        note(&lock, &file).expect("noted");
        let before = fs::metadata(&file).expect("there");
        let modified = before.modified().expect("a time");
        // The clock of files goes on in steps of milliseconds.
        while fs::metadata(&file).expect("there").ctime_nsec() == before.ctime_nsec() {
            fs::write(&file, "peges").expect("written");
        }
        let writer = File::options().write(true).open(&file).expect("a file");
        writer.set_modified(modified).expect("set");
        assert!(!taken(), "another content of the same length and time");

        note(&lock, &file).expect("noted");
        fs::copy(&file, folder.path().join("copy")).expect("copied");
        fs::rename(folder.path().join("copy"), &file).expect("renamed");
        assert!(!taken(), "a copy");
        (&lock).write_all(&[0xff; 500]).expect("written");
        assert!(!taken(), "no note");
    }
}
