//! `scripts/release`, as far as it goes without a release build: what is in the archive, and that it is the same twice.
//! Then what follows it: the signature, the release on a server, and the workflows that run all of it.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::{Value, json};
use wiremock::{
    Mock, MockServer, Request, ResponseTemplate,
    matchers::{method, path, path_regex, query_param},
};

use crate::harness::process::Scratch;

const NAME: &str = "matrix-alertmanager-receiver";
const SIGNER: &str = "releases@matrix-alertmanager-receiver";
const BINARY: &str = env!("CARGO_BIN_EXE_matrix-alertmanager-receiver");

fn run(command: &mut Command) -> String {
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Without what cargo would have to install first.
fn release(binary: &Path, dist: &Path, trial: bool) -> Command {
    let mut command = script("release");
    command.env("BINARY", binary).env("DIST", dist).env("DEB", "0").env("SBOM", "0");
    if trial {
        command.env("DIRTY", "1");
    }
    command
}

/// With nothing in its environment that a workflow has set for another.
fn script(name: &str) -> Command {
    let mut command = Command::new(format!("{}/scripts/{name}", env!("CARGO_MANIFEST_DIR")));
    for variable in ["ARCHS", "TAG", "DIST", "DIRTY", "SIGN_KEY_FILE", "ALLOWED_SIGNERS"] {
        command.env_remove(variable);
    }
    command
}

fn output(command: &mut Command) -> Output {
    command.output().expect("it starts")
}

/// What a script says that refuses.
fn refusal(command: &mut Command) -> String {
    let output = output(command);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{command:?} succeeds: {said}");
    said
}

/// A program that says to be this version, of the commit at which the sources are.
fn impostor(scratch: &Scratch, otherwise: &str) -> PathBuf {
    let commit = run(Command::new("git").args(["rev-parse", "--short=12", "HEAD"]));
    let says = format!("{NAME} {} ({})", env!("CARGO_PKG_VERSION"), commit.trim());
    let path = scratch
        .write("impostor", &format!("#!/bin/sh\n[ \"$1\" != --version ] || {{ echo '{says}'; exit; }}\n{otherwise}\n"));
    run(Command::new("chmod").arg("755").arg(&path));
    path
}

/// A debug build is ten times as large with its symbols.
fn stripped(scratch: &Scratch) -> PathBuf {
    let binary = scratch.join("stripped");
    run(Command::new("strip").arg("-o").arg(&binary).arg(BINARY));
    binary
}

#[test]
fn the_archive_holds_what_one_needs_and_the_checksums_are_right() {
    let scratch = Scratch::new("release");
    let binary = stripped(&scratch);
    let (dist, again) = (scratch.join("dist"), scratch.join("again"));
    let output = output(&mut release(&binary, &dist, true));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("answers /livez and stops"), "{said}");
    // `cargo test` builds without the list of dependencies that a release has to hold.
    assert!(said.contains("not for publishing: the binary for"), "{said}");
    let top = format!("{NAME}-{}-{}-linux", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
    let archive = dist.join(format!("{top}.tar.gz"));
    let listed =
        run(Command::new("tar").arg("--list").arg("--verbose").arg("--numeric-owner").arg("--file").arg(&archive));
    assert!(listed.lines().all(|line| line.split_whitespace().nth(1) == Some("0/0")), "{listed}");
    for (mode, file) in [
        ("-rwxr-xr-x", NAME),
        ("-rw-r--r--", "README.md"),
        ("-rw-r--r--", "LICENSE"),
        ("-rw-r--r--", "CHANGELOG.md"),
        ("-rw-r--r--", "config.example.toml"),
        ("-rw-r--r--", "completions/matrix-alertmanager-receiver.bash"),
        ("-rw-r--r--", "completions/_matrix-alertmanager-receiver"),
        ("-rw-r--r--", "completions/matrix-alertmanager-receiver.fish"),
        ("-rw-r--r--", "systemd/matrix-alertmanager-receiver.service"),
    ] {
        let path = format!(" {top}/{file}");
        assert!(listed.lines().any(|line| line.starts_with(mode) && line.ends_with(&path)), "{mode}{path}\n{listed}");
    }
    run(Command::new("sha256sum").args(["--check", "--strict", "SHA256SUMS"]).current_dir(&dist));
    let sums = fs::read_to_string(dist.join("SHA256SUMS")).expect("a file");
    assert_eq!(sums.lines().count(), 1, "{sums}");

    run(&mut release(&binary, &again, true));
    assert_eq!(sums, fs::read_to_string(again.join("SHA256SUMS")).expect("a file"), "the same twice");
}

#[test]
fn symbols_in_the_binary_are_noticed() {
    let scratch = Scratch::new("release-symbols");
    let says = format!("{NAME} {} (0)", env!("CARGO_PKG_VERSION"));
    let source =
        scratch.write("it.c", &format!("#include <stdio.h>\nint main(void) {{ puts(\"{says}\"); return 0; }}\n"));
    let (with, without) = (scratch.join("with"), scratch.join("without"));
    run(Command::new("cc").arg("-o").arg(&with).arg(&source));
    run(Command::new("strip").arg("-o").arg(&without).arg(&with));
    for (binary, expected) in [(with, true), (without, false)] {
        // It is not a receiver, so that it ends there all the same.
        let said = refusal(&mut release(&binary, &scratch.join("dist"), true));
        assert!(said.contains("does not serve"), "{said}");
        assert_eq!(said.contains("has its symbols"), expected, "{said}");
    }
}

#[test]
fn a_binary_of_another_version_is_no_release() {
    let scratch = Scratch::new("release-other");
    let other = scratch.write("other", "#!/bin/sh\necho matrix-alertmanager-receiver 0.0.1 '(x)'\n");
    run(Command::new("chmod").arg("755").arg(&other));
    let said = refusal(&mut release(&other, &scratch.join("dist"), true));
    assert!(said.contains("0.0.1"), "{said}");
    // Nor is one of sources that are not committed, or of a commit that the binary is not of.
    let other = scratch.write("same", &format!("#!/bin/sh\necho {NAME} {} '(0)'\n", env!("CARGO_PKG_VERSION")));
    run(Command::new("chmod").arg("755").arg(&other));
    let said = refusal(&mut release(&other, &scratch.join("dist"), false));
    assert!(said.contains("DIRTY=1"), "{said}");
    assert!(!scratch.join("dist/SHA256SUMS").exists());
}

#[test]
fn another_tag_or_architecture_than_the_binary_s_is_refused() {
    let scratch = Scratch::new("release-tag");
    let dist = scratch.join("dist");
    let said = refusal(release(Path::new(BINARY), &dist, true).env("TAG", "v99.0.0"));
    assert!(said.contains("the tag is v99.0.0"), "{said}");
    let other = if std::env::consts::ARCH == "x86_64" { "arm64" } else { "amd64" };
    let said = refusal(release(Path::new(BINARY), &dist, true).env("ARCHS", other));
    assert!(said.contains(&format!("not for {other}")), "{said}");
    assert!(!dist.exists());
}

#[test]
fn a_binary_that_does_not_start_is_refused() {
    let scratch = Scratch::new("release-start");
    let said = refusal(&mut release(&impostor(&scratch, "exit 1"), &scratch.join("dist"), true));
    assert!(said.contains("does not take a config"), "{said}");
    let serves = "[ \"$1\" != serve ] || { echo broken; exit 1; }";
    let said = refusal(&mut release(&impostor(&scratch, serves), &scratch.join("dist"), true));
    assert!(said.contains("broken") && said.contains("does not serve"), "{said}");
}

/// A folder as `make release` leaves it, and a key that `allowed_signers` beside it names.
fn signable(scratch: &Scratch) -> PathBuf {
    let dist = scratch.join("dist");
    fs::create_dir(&dist).expect("a folder");
    scratch.write("dist/a.tar.gz", "an archive");
    scratch.write("dist/b.deb", "a package");
    let sums = run(Command::new("sha256sum").args(["a.tar.gz", "b.deb"]).current_dir(&dist));
    scratch.write("dist/SHA256SUMS", &sums);
    let public = key(scratch, "key");
    scratch.write("allowed_signers", &format!("{SIGNER} namespaces=\"file\" {public}"));
    dist
}

/// Makes one, and returns its public half.
fn key(scratch: &Scratch, name: &str) -> String {
    let path = scratch.join(name);
    run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(&path));
    fs::read_to_string(path.with_extension("pub")).expect("a public key")
}

fn sign(scratch: &Scratch, key: &str) -> Command {
    let mut command = script("sign");
    command.env("DIST", scratch.join("dist")).env("SIGN_KEY_FILE", scratch.join(key));
    command.env("ALLOWED_SIGNERS", scratch.join("allowed_signers"));
    command
}

#[test]
fn users_see_who_signed_a_release() {
    let scratch = Scratch::new("sign");
    let dist = signable(&scratch);
    run(&mut sign(&scratch, "key"));
    // As docs/RELEASING.md has it, read from there.
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/RELEASING.md")).expect("a page");
    let from = page.find("ssh-keygen -Y verify").expect("the command");
    let command = page[from..].split("```").next().expect("its end").trim();
    fs::copy(scratch.join("allowed_signers"), dist.join("allowed_signers")).expect("a copy");
    let verify = || output(Command::new("sh").args(["-c", command]).current_dir(&dist));
    let said = verify();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains(&format!("Good \"file\" signature for {SIGNER}")), "{said}");
    let sums = fs::read_to_string(dist.join("SHA256SUMS")).expect("a file");
    scratch.write("dist/SHA256SUMS", &sums.replace("b.deb", "c.deb"));
    assert!(!verify().status.success(), "a list that was changed");
    scratch.write("dist/SHA256SUMS", &sums);
    assert!(verify().status.success());
    let another = key(&scratch, "another");
    scratch.write("dist/allowed_signers", &format!("{SIGNER} {another}"));
    assert!(!verify().status.success(), "a signature of another key");
}

#[test]
fn nothing_is_signed_that_users_could_not_check() {
    let scratch = Scratch::new("sign-not");
    let dist = signable(&scratch);
    let said = refusal(sign(&scratch, "key").env_remove("SIGN_KEY_FILE"));
    assert!(said.contains("SIGN_KEY_FILE must name"), "{said}");
    assert!(refusal(&mut sign(&scratch, "none")).contains("cannot read"));
    let said = refusal(sign(&scratch, "key").env("ALLOWED_SIGNERS", scratch.join("none")));
    assert!(said.contains("docs/RELEASING.md"), "{said}");
    key(&scratch, "another");
    let said = refusal(&mut sign(&scratch, "another"));
    assert!(said.contains("is not one that"), "{said}");
    scratch.write("dist/b.deb", "another package");
    let said = refusal(&mut sign(&scratch, "key"));
    assert!(said.contains("does not fit the files beside it"), "{said}");
    assert!(!dist.join("SHA256SUMS.sig").exists());
}

/// The API of a Git server, on which there is no release yet.
async fn git_server() -> MockServer {
    let server = MockServer::start().await;
    let release = json!({ "id": 7, "upload_url": format!("{}/uploads/7/assets{{?name,label}}", server.uri()) });
    for mock in [
        Mock::given(method("POST")).and(path("/repos/o/r/releases")).respond_with(json_answer(201, &release)),
        Mock::given(method("POST")).and(path("/uploads/7/assets")).respond_with(json_answer(201, &json!({}))),
        Mock::given(method("PATCH")).and(path("/repos/o/r/releases/7")).respond_with(json_answer(200, &release)),
        Mock::given(method("DELETE")).and(path("/repos/o/r/releases/7")).respond_with(ResponseTemplate::new(204)),
    ] {
        mock.mount(&server).await;
    }
    server
}

fn json_answer(status: u16, body: &Value) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_json(body)
}

fn publish(scratch: &Scratch, server: &MockServer) -> Command {
    let mut command = script("publish");
    command.env("TAG", "v0.1.0").env("DIST", scratch.join("dist")).env("GITHUB_TOKEN", "the-token");
    command.env("GITHUB_API_URL", server.uri()).env("GITHUB_REPOSITORY", "o/r").env("NO_PROXY", "127.0.0.1");
    command
}

/// What was asked for, in its order: the method, and the end of the path or the file's name.
async fn asked(server: &MockServer) -> Vec<String> {
    let what = |request: &Request| {
        let name = request.url.query_pairs().find(|(key, _)| key == "name").map(|(_, name)| name.into_owned());
        let path = request.url.path().trim_start_matches("/repos/o/r/").to_owned();
        format!("{} {}", request.method, name.unwrap_or(path))
    };
    server.received_requests().await.expect("recorded").iter().map(what).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_shown_once_all_of_its_files_are_there() {
    let (scratch, server) = (Scratch::new("publish"), git_server().await);
    signable(&scratch);
    run(&mut sign(&scratch, "key"));
    run(&mut publish(&scratch, &server));
    let expected = [
        "GET releases/tags/v0.1.0",
        "POST releases",
        "POST a.tar.gz",
        "POST b.deb",
        "POST SHA256SUMS",
        "POST SHA256SUMS.sig",
        "PATCH releases/7",
    ];
    assert_eq!(asked(&server).await, expected);
    let requests = server.received_requests().await.expect("recorded");
    assert!(requests.iter().all(|request| request.headers["authorization"] == "token the-token"));
    let draft: Value = requests[1].body_json().expect("JSON");
    assert_eq!((&draft["draft"], &draft["prerelease"]), (&json!(true), &json!(false)));
    assert!(draft["body"].as_str().is_some_and(|notes| !notes.is_empty() && !notes.contains("\n## ")), "{draft}");
    assert_eq!(requests[3].body, b"a package");
    assert_eq!(requests[6].body_json::<Value>().expect("JSON"), json!({ "draft": false }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_of_which_a_file_is_refused_leaves_nothing() {
    let (scratch, server) = (Scratch::new("publish-fault"), git_server().await);
    signable(&scratch);
    run(&mut sign(&scratch, "key"));
    let refuses = Mock::given(method("POST")).and(path_regex("assets$")).and(query_param("name", "b.deb"));
    refuses.respond_with(ResponseTemplate::new(500).set_body_string("full")).with_priority(1).mount(&server).await;
    let said = refusal(&mut publish(&scratch, &server));
    assert!(said.contains("500: full") && !said.contains("the-token"), "{said}");
    let asked = asked(&server).await;
    assert_eq!(asked[3..], ["POST b.deb", "DELETE releases/7"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_signed_or_published_already_is_not_published() {
    let (scratch, server) = (Scratch::new("publish-not"), git_server().await);
    signable(&scratch);
    let said = refusal(&mut publish(&scratch, &server));
    assert!(said.contains("run scripts/sign first"), "{said}");
    run(&mut sign(&scratch, "key"));
    let said = refusal(publish(&scratch, &server).env("TAG", "v99.0.0"));
    assert!(said.contains("no heading"), "{said}");
    let extra = scratch.write("dist/extra", "a stranger");
    let said = refusal(&mut publish(&scratch, &server));
    assert!(said.contains("differ: extra"), "{said}");
    fs::remove_file(extra).expect("it was there");
    scratch.write("dist/b.deb", "another package");
    let said = refusal(&mut publish(&scratch, &server));
    assert!(said.contains("b.deb is not the file"), "{said}");
    scratch.write("dist/b.deb", "a package");
    assert_eq!(asked(&server).await, [""; 0], "nothing was asked of the server");

    let published = Mock::given(method("GET")).and(path("/repos/o/r/releases/tags/v0.1.0"));
    published.respond_with(json_answer(200, &json!({ "id": 6 }))).mount(&server).await;
    let said = refusal(&mut publish(&scratch, &server));
    assert!(said.contains("already"), "{said}");
    assert_eq!(asked(&server).await.len(), 1);
}

#[test]
fn a_workflow_that_could_not_run_is_seen() {
    let scratch = Scratch::new("workflows");
    let workflow = |permissions: &str, step: &str| {
        format!("on: push\n{permissions}\njobs:\n  x:\n    runs-on: docker\n    steps:\n      - {step}\n")
    };
    for (permissions, step, expected) in [
        ("permissions: {}", "run: make tests", "no target \"tests\""),
        ("permissions: {}", "run: scripts/deploy", "there is no scripts/deploy"),
        ("permissions: {}", "uses: actions/checkout@v4 # v4.2.2", "full commit hash"),
        ("permissions: {}", "uses: actions/checkout@11bd71901bbe5b1630ceea73d27597364c9af683", "version as comment"),
        ("", "run: make test", "permissions of its token"),
        ("permissions: write-all", "run: make test", "all permissions"),
    ] {
        let file = scratch.write("workflow.yml", &workflow(permissions, step));
        let said = refusal(script("workflows").arg(&file));
        assert!(said.contains(expected), "{step}: {said}");
    }
}

/// With many others, the linker would not find the functions of a start, and the receiver would take more memory. Names
/// with a hash, which each build may change, are not looked for; a program of the release profile has no names.
#[cfg(debug_assertions)]
#[test]
fn most_functions_that_are_put_first_are_in_the_program() {
    let symbols = run(Command::new("nm").args(["--format=just-symbols", BINARY]));
    let plain = |symbol: &str| symbol.rfind("17h").map(|hash| symbol[..hash + 3].to_owned());
    let known: HashSet<_> = symbols.lines().filter_map(plain).collect();
    let names = fs::read_to_string(format!("{}/.cargo/functions.txt", env!("CARGO_MANIFEST_DIR"))).expect("names");
    let names: Vec<_> = names.lines().filter(|name| name.ends_with("17h")).collect();
    let found = names.iter().filter(|name| known.contains(**name)).count();
    eprintln!("{found} of {} names", names.len());
    assert!(names.len() > 1_000 && found * 10 >= names.len() * 9, "{found} of {} names: make functions", names.len());
}
