//! How large the program is, and what of the image it makes up.

use std::{
    fs,
    process::{Command, Stdio},
};

use super::{
    subject::{PROFILE, Subject},
    table::{Table, short},
};

/// What the base of the image adds, in MB: `make image` on a base of the packages that distroless' cc image is made of.
const BASE: f64 = 12.4;

pub fn measure(subject: &Subject, table: &mut Table) {
    let bytes = fs::metadata(&subject.binary).expect("the binary").len();
    table.row(&format!("program, {PROFILE} profile: MB"), &short(megabytes(bytes)), &"", &"", "≤ 35");
    // Layers of images are packed like this.
    let packed = Command::new("gzip").arg("-6c").arg(&subject.binary).stderr(Stdio::null()).output();
    let packed = match packed {
        Ok(output) if output.status.success() => megabytes(output.stdout.len() as u64),
        _ => f64::NAN,
    };
    let of = format!("{} program (gzip) + {BASE} base", short(packed));
    table.row("image, compressed, reckoned, MB", &short(packed + BASE), &of, &"", "≤ 30");
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
