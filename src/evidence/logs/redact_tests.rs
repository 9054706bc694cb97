//! What is blanked, and what stays.

use regex::Regex;

use super::redacted;

#[test]
fn secrets_are_blanked() {
    // Keys are put together here, so that no scanner takes this file for a leak.
    let aws = format!("AKIA{}", "IOSFODNN7EXAMPLE");
    let jwt = format!("eyJ{}.eyJ{}.{}", "hbGciOiJIUzI1NiJ9", "zdWIiOiIxIn0", "dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P");
    let (github, slack) = (format!("ghp_{}", "a1".repeat(18)), format!("xoxb-{}", "1234567890-abcdef"));
    let secret = "s3cr3t-Pa55/w0rd";
    let azure = format!("AccountName=a;AccountKey={}==;EndpointSuffix=x", "Ab1+".repeat(21));
    for (line, expected) in [
        // Credentials of HTTP.
        ("Authorization: Bearer abc.def-ghi".to_owned(), "Authorization: ***"),
        ("authorization=[Basic dXNlcjpwYXNz]".to_owned(), "authorization=[***]"),
        (r#"{"Authorization":"Digest username=a, response=b","x":1}"#.to_owned(), r#"{"Authorization":"***","x":1}"#),
        ("> Cookie: sid=abc; b=c".to_owned(), "> Cookie: ***"),
        ("using bearer abcdefghij to log in".to_owned(), "using bearer *** to log in"),
        ("curl -H 'X: Basic dXNlcjpwYXNzd29yZA=='".to_owned(), "curl -H 'X: Basic ***'"),
        // URLs.
        ("at postgres://app:hunter2@db:5432/x".to_owned(), "at postgres://app:***@db:5432/x"),
        ("redis://:hunter2@cache/0 down".to_owned(), "redis://:***@cache/0 down"),
        ("https://u:p@ss@host/a@b x".to_owned(), "https://u:***@host/a@b x"),
        ("amqp://u:pa/ss@host".to_owned(), "amqp://u:***@host"),
        (format!("https://{github}@github.com/a/b"), "https://***@github.com/a/b"),
        ("app:hunter2@tcp(db:3306)/x".to_owned(), "app:***@tcp(db:3306)/x"),
        // Keys of clouds and others.
        (format!("key {aws} denied"), "key *** denied"),
        (
            format!("aws_secret_access_key = {}", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
            "aws_secret_access_key = ***",
        ),
        (format!("AIza{}", "Sy-0123456789abcdefghijklmnopqrstuv"), "***"),
        (format!("x AbC8Q~{}", "a1.~_-B2".repeat(4)), "x ***"),
        (azure, "AccountName=a;AccountKey=***;EndpointSuffix=x"),
        (
            "https://x.blob.core.windows.net/y?sv=2&sig=aB3%2Fcd4e&se=1".to_owned(),
            "https://x.blob.core.windows.net/y?sv=2&sig=***&se=1",
        ),
        ("GET /x?X-Amz-Signature=0011aabb&y=1".to_owned(), "GET /x?X-Amz-Signature=***&y=1"),
        (format!("token {jwt}."), "token ***"),
        (format!("({slack})"), "(***)"),
        (format!("sk-proj-{}", "aB3".repeat(10)), "***"),
        (format!("glpat-{} glsa_{}", "x".repeat(20), "y".repeat(32)), "*** ***"),
        (format!("hvs.{}", "CAESI".repeat(6)), "***"),
        ("https://hooks.slack.com/services/T0/B0/xyz".to_owned(), "https://***"),
        // Private keys on one line.
        (
            r"key: -----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY----- end".to_owned(),
            "key: *** (private key) end",
        ),
        ("-----BEGIN OPENSSH PRIVATE KEY----- b3Blb".to_owned(), "*** (private key)"),
        // Pairs.
        (format!("password={secret} user=a"), "password=*** user=a"),
        (format!("DB_PASSWORD: {secret}"), "DB_PASSWORD: ***"),
        (format!(r#"{{"password":"{secret} and more","user":"a"}}"#), r#"{"password":"***","user":"a"}"#),
        (
            format!(r#"{{"msg":"{{\"client_secret\":\"{secret}\",\"id\":7}}"}}"#),
            r#"{"msg":"{\"client_secret\":\"***\",\"id\":7}"}"#,
        ),
        ("{'api-key': 'abc def', x: 1}".to_owned(), "{'api-key': '***', x: 1}"),
        ("spring.datasource.password => hunter2".to_owned(), "spring.datasource.password => ***"),
        ("?access_token=abc123&x=1".to_owned(), "?access_token=***&x=1"),
        (r#"{"auth": "dXNlcjpwYXNz"}"#.to_owned(), r#"{"auth": "dXNlcjpwYXNz"}"#),
        (r#"{"auth": "dXNlcjpwYXNzd29yZDE="}"#.to_owned(), r#"{"auth": "***"}"#),
        ("passphrase=`a b` x".to_owned(), "passphrase=`***` x"),
        (r#"password="cut off"#.to_owned(), r#"password="***"#),
        ("run --password hunter2 --token abc -v".to_owned(), "run --password *** --token *** -v"),
        (
            r#"{"log":"{\"password\":\"p\\\"q\",\"x\":1}\n"}"#.to_owned(),
            r#"{"log":"{\"password\":\"***\",\"x\":1}\n"}"#,
        ),
        (r#"\\\"token\\\":\\\"abc\\\",1"#.to_owned(), r#"\\\"token\\\":\\\"***\\\",1"#),
        ("(password=hunter2) {pwd: a)b}".to_owned(), "(password=***) {pwd: ***}"),
        ("userPassword: {SSHA}abc= secret=[x]".to_owned(), "userPassword: *** secret=[***]"),
        ("pass=hunter2 pw: hunter2".to_owned(), "pass=*** pw: ***"),
        ("key=0123456789abcdef0 auth=abcd1234".to_owned(), "key=*** auth=***"),
        ("curl -u admin:hunter2 https://host".to_owned(), "curl -u admin:*** https://host"),
        ("jdbc:oracle:thin:scott/tiger@//host:1521/x".to_owned(), "jdbc:oracle:thin:scott/***@//host:1521/x"),
        ("> AUTH PLAIN AGFsaWNlAGh1bnRlcjI=".to_owned(), "> AUTH PLAIN ***"),
        (format!("vault s.{} x", "aB3d".repeat(6)), "vault *** x"),
        // Random bytes.
        (format!("got {}= back", "aB3x".repeat(12)), "got *** back"),
    ] {
        assert_eq!(redacted(&line, &[]), expected, "{line}");
    }
}

#[test]
fn what_is_not_secret_stays() {
    for line in [
        "connection to 10.0.0.1:5432 refused after 3 tries",
        "basic authentication failed for user alice",
        "no bearer token, sent a challenge: Basic realm=\"x\"",
        "GET http://api:8080/users/a@b.example HTTP/1.1 200",
        "git clone ssh://git@github.com/a/b.git",
        "mail to alice@example.org",
        "password is wrong",
        "password=null token: \"\" secret=<nil>",
        "key=user:42 cache_key=orders:7 primary key: id",
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "commit 2fd4e1c67a2d28fced849ee1bb76e7391b93eb12",
        "/usr/share/Some1/very/long/path/to/a/File/that/goes/on/and/on",
        "com.example.very.long.package.ClassNameFactory1.method(File.java:42)",
        "trace_id=4bf92f3577b34da6a3ce929d0e0e4736 span=00f067aa0b7902b7",
        "pod api-7d8f9c6b5-x2x4z restarted",
        "-----BEGIN CERTIFICATE-----",
        "Failed to watch *v1.Secret: failed to list *v1.Secret: secrets is forbidden",
        "reading secret /run/secrets/token: permission denied",
        "invalid token: expected 3 parts",
        r#"{"secretName":"db","secretKeyRef":{"name":"x","key":"password"}}"#,
        "password_file=/run/secrets/pw token_type: bearer",
        "max_tokens=4096 tokenizer=bpe keyboard=us key=tenant-42 pass=3",
        "SharedAccessKeyName=Root",
        "2026-11-28T12:00:00.000Z level=error msg=\"disk full\" path=/var/lib",
        "",
    ] {
        assert_eq!(redacted(line, &[]), line);
    }
}

#[test]
fn configured_patterns_blank_as_well() {
    let patterns: Vec<Regex> =
        ["customer-[0-9]+", "(?i)iban \\S+", "a$"].iter().map(|p| Regex::new(p).unwrap()).collect();
    let line = "customer-42 paid by IBAN DE123, password=x, a";
    assert_eq!(redacted(line, &patterns), "*** paid by ***, password=***, ***".replace("***, p", "*** p"));
}

/// The work on the longest line that is looked at.
#[test]
fn no_line_takes_long() {
    let began = std::time::Instant::now();
    for unit in
        ["a", "password", "://a:b@", "eyJa.", "-----BEGIN PRIVATE KEY-----", "\"token\":\"", "\\\\\"", "Bearer "]
    {
        redacted(&unit.repeat(32 * 1024 / unit.len()), &[]);
    }
    assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
}
