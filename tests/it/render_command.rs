//! `render FILE`, without any server: what a payload would look like.

use std::{
    io::Write as _,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};

use crate::{
    grafana,
    harness::{Alert, Payload, fixture, process::Scratch},
};

const FIRING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/payloads/webhook-firing-single.json");
const FIRST_LINE: &str = "🔴 CRITICAL DiskFull — Disk full on n01";

/// Without any environment, so that no config of the developer is read.
fn render(args: &[&str], stdin: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_matrix-alertmanager-receiver"));
    command.env_clear().arg("render").args(args);
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().expect("the receiver's binary starts");
    let mut pipe = child.stdin.take().expect("a pipe");
    // What does not read its input is done before all of it is written.
    let _ = pipe.write_all(stdin.as_bytes());
    drop(pipe);
    child.wait_with_output().expect("an end")
}

fn shown(args: &[&str], stdin: &str) -> String {
    let output = render(args, stdin);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()), "{args:?}");
    text(&output.stdout)
}

/// Exit code 1, nothing shown, and why.
fn refused(args: &[&str], stdin: &str) -> String {
    let output = render(args, stdin);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{args:?}: {output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_file_as_text_html_and_json() {
    let text = shown(&[FIRING], "");
    assert_eq!(text.lines().next(), Some(FIRST_LINE));
    assert!(text.contains("\nRunbook: https://runbooks.example/disk\n"), "{text}");
    // No terminal, so no colours.
    assert_eq!(shown(&[FIRING, "--format", "text"], ""), text);
    assert!(!text.contains('\x1b'));

    let html = shown(&[FIRING, "--format", "html"], "");
    let start =
        "🔴 <span data-mx-color=\"#d1242f\"><strong>CRITICAL</strong></span> <strong>DiskFull</strong> — Disk full";
    assert!(html.starts_with(start), "{html}");
    assert!(html.contains("<a href=\"https://runbooks.example/disk\">Runbook</a>"), "{html}");

    let content: Value = serde_json::from_str(&shown(&[FIRING, "--format", "json"], "")).expect("JSON");
    assert_eq!(content["msgtype"], "m.text");
    assert_eq!(content["m.mentions"], json!({}));
    assert_eq!(content["format"], "org.matrix.custom.html");
    assert_eq!(content["body"].as_str(), Some(text.trim_end()));
    assert_eq!(content["formatted_body"].as_str(), Some(html.trim_end()));
}

#[test]
fn a_terminal_gets_colours_and_links() {
    let text = shown(&[FIRING, "--format", "terminal"], "");
    let first = "🔴 \x1b[38;2;209;36;47m\x1b[1mCRITICAL\x1b[22m\x1b[39m \x1b[1mDiskFull\x1b[22m — Disk full on n01";
    assert_eq!(text.lines().next(), Some(first));
    let link = "\x1b]8;;https://runbooks.example/disk\x1b\\\x1b[4mRunbook\x1b[24m\x1b]8;;\x1b\\";
    assert!(text.contains(link), "{text:?}");
}

/// `script` runs a command on a terminal of its own.
#[test]
fn colours_are_for_terminals_that_want_them() {
    let on_a_terminal = |variable: &str| {
        let command = format!("{} render {FIRING}", env!("CARGO_BIN_EXE_matrix-alertmanager-receiver"));
        let (name, value) = variable.split_once('=').expect("a variable");
        let output = Command::new("/usr/bin/script")
            .args(["--quiet", "--return", "--command", &command, "/dev/null"])
            .env_clear()
            .env(name, value)
            .stdin(Stdio::null())
            .output()
            .expect("script, of util-linux");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(on_a_terminal("TERM=xterm").contains("\x1b[1mDiskFull"));
    assert!(!on_a_terminal("NO_COLOR=1").contains('\x1b'));
    assert!(!on_a_terminal("TERM=dumb").contains('\x1b'));
}

#[test]
fn from_standard_input_for_alertmanager_and_grafana() {
    let text = shown(&["-"], &fixture("webhook-resolved-single").to_string());
    assert!(text.starts_with("🟢 RESOLVED DiskFull after 3 min — Disk full on n01\n"), "{text}");
    let text = shown(&["-"], &grafana::payload("firing").to_string());
    assert!(text.starts_with("🔴 CRITICAL HighLatency — checkout is slow\n"), "{text}");
    assert!(text.contains("\nPanel: https://grafana.example/d/shop?"), "{text}");
    let resolved = shown(&["-", "--format", "json"], &grafana::payload("resolved").to_string());
    assert!(resolved.contains("\"msgtype\": \"m.notice\""), "{resolved}");
}

#[test]
fn a_config_says_how_it_is_shown_and_needs_no_rooms() {
    let scratch = Scratch::new("render");
    let config = r#"
        [display]
        timezone = "Asia/Kolkata"
        [routes.team]
        receivers = ["team"]
        mentions = { min_severity = "critical", room = true }
        [routes.default]"#;
    let config = scratch.write("config.toml", config);
    let config = config.to_str().expect("a UTF-8 path");
    // 18:19:58 in UTC.
    let text = shown(&[FIRING, "--config", config], "");
    assert!(text.contains("23:49 IST"), "{text}");
    let mentions = |args: &[&str], payload: &Payload| {
        let args = [&["-", "--config", config, "--format", "json"], args].concat();
        let content: Value = serde_json::from_str(&shown(&args, &payload.json().to_string())).expect("JSON");
        content["m.mentions"].clone()
    };
    let critical = || Payload::group("A").alert(Alert::firing("n01").critical());
    assert_eq!(mentions(&[], &critical().receiver("team")), json!({ "room": true }));
    assert_eq!(mentions(&["--route", "team"], &critical()), json!({ "room": true }));
    assert_eq!(mentions(&[], &critical()), json!({}));
    assert_eq!(mentions(&["--route", "team"], &Payload::group("A").firing(&["n01"])), json!({}));
    let error = refused(&[FIRING, "--config", config, "--route", "nowhere"], "");
    assert!(error.contains("nowhere"), "{error}");
}

#[test]
fn what_cannot_be_shown_is_told_with_file_and_place() {
    let scratch = Scratch::new("render");
    let bad = scratch.write("bad.json", "{\n\"alerts\": [}");
    let bad = bad.to_str().expect("a UTF-8 path");
    assert_eq!(refused(&[bad], ""), format!("error: {bad}: not JSON: expected value at line 2 column 12\n"));
    let odd = scratch.write("odd.json", r#"{"alerts": [], "receiver": 7}"#);
    let odd = odd.to_str().expect("a UTF-8 path");
    let expected = "not an Alertmanager webhook payload: receiver: expected a string, found a number";
    assert_eq!(refused(&[odd], ""), format!("error: {odd}: {expected}\n"));
    let error = refused(&["-"], "");
    assert!(error.starts_with("error: standard input: not JSON: "), "{error}");
    let error = refused(&["/nowhere/at/all.json"], "");
    assert!(error.starts_with("error: /nowhere/at/all.json: cannot read: No such file"), "{error}");
}

#[test]
fn a_payload_without_alerts_is_no_message() {
    let output = render(&["-"], &Payload::group("Empty").json().to_string());
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no message would be sent"), "{output:?}");
}

/// A reader that has seen enough does not cause a panic.
#[test]
fn a_closed_pipe_is_no_fault() {
    let command = format!(
        "{} render {FIRING} --format json | true; exit ${{PIPESTATUS[0]}}",
        env!("CARGO_BIN_EXE_matrix-alertmanager-receiver")
    );
    for _ in 0..5 {
        let output = Command::new("bash").args(["-c", &command]).env_clear().output().expect("bash starts");
        assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
    }
}
