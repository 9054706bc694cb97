//! How large the program is, and what of the image it makes up.

use std::{
    fs,
    process::{Command, Stdio},
};

use super::{
    subject::{PROFILE, Subject},
    table::{Table, short},
};

pub fn measure(subject: &Subject, table: &mut Table) {
    let bytes = fs::metadata(&subject.binary).expect("the binary").len();
    table.row(&format!("program, {PROFILE} profile, stripped: MB"), &megabytes(bytes), &"", &"", "≤ 35");
    // Layers of images are packed like this; what the base adds is not on this machine (docs/PERFORMANCE.md).
    let packed = Command::new("gzip").arg("-6c").arg(&subject.binary).stderr(Stdio::null()).output();
    let packed = match packed {
        Ok(output) if output.status.success() => megabytes(output.stdout.len() as u64),
        _ => "no gzip here".to_owned(),
    };
    table.row("image, compressed: the program's part of it, MB", &packed, &"", &"", "≤ 30 with the base");
}

fn megabytes(bytes: u64) -> String {
    short(bytes as f64 / 1e6)
}
