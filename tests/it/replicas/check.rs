//! `check --online` looks at the database that replicas share.

use std::{process::Output, sync::Arc};

use crate::harness::{
    DEADLINE, PgBouncer, Postgres, PostgresConfig, Receiver, ReceiverBuilder, Scene, eventually, postgres,
};

async fn check(receiver: &mut Receiver, url: &str) -> String {
    receiver.reconfigure(&format!("[store]\ndatabase_url = \"{url}\""));
    text(&receiver.cli(&["check", "--online"]).await)
}

/// The lines about the database.
fn text(output: &Output) -> String {
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!text.contains(postgres::PASSWORD), "a password is shown: {text}");
    text.lines().filter(|line| line.contains("database: ")).collect::<Vec<_>>().join("\n")
}

fn has(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|known| known.contains(line)), "{line} is not in:\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_database_is_and_what_it_lacks_is_said() {
    let scene = Scene::new().await;
    // Settings are this server's alone.
    let server = Postgres::with(&PostgresConfig::durable());
    let database = Arc::new(server.database());
    let url = database.url();
    let mut receiver = ReceiverBuilder::of(&scene).on(&database, &url).unstarted();
    receiver.take_key("store.database_url_file");
    let said = check(&mut receiver, &url).await;
    let place = format!("ok     database: receiver@127.0.0.1:{}/{}, PostgreSQL ", server.port(), database.name());
    has(
        &said,
        &[
            &place,
            "ok     database: no tables yet; the first start makes them",
            "note   database: no synchronous standby",
            "connections for this role, enough for ",
            "note   database: without TLS",
        ],
    );
    assert!(!said.contains("FAULT") && !said.contains("PgBouncer"), "{said}");

    receiver.spawn();
    receiver.ready().await.expect("it starts");
    has(&check(&mut receiver, &url).await, &["ok     database: the tables are there and up to date"]);
    receiver.sigterm(DEADLINE).await;

    database.sql(&format!("ALTER ROLE {} CONNECTION LIMIT 20", postgres::ROLE));
    has(
        &check(&mut receiver, &url).await,
        &["note   database: 20 connections for this role, enough for 2 replicas of 8 each: tight"],
    );
    database.sql(&format!("ALTER ROLE {} SET synchronous_commit = off", postgres::ROLE));
    has(&check(&mut receiver, &url).await, &["FAULT  database: synchronous_commit is off"]);
    database.sql(&format!("ALTER ROLE {} RESET synchronous_commit", postgres::ROLE));
    database.sql(&format!("ALTER ROLE {} SET default_transaction_read_only = on", postgres::ROLE));
    has(&check(&mut receiver, &url).await, &["FAULT  database: it only reads"]);
    // Last, since no commit ends from here on: there is no such standby.
    server.set("synchronous_standby_names", "b");
    eventually("it is set", DEADLINE, async || {
        (server.sql("postgres", "SHOW synchronous_standby_names") == "b").then_some(())
    })
    .await;
    let said = check(&mut receiver, &url).await;
    // Before anything can fail: the database is dropped by a commit.
    server.set("synchronous_standby_names", "");
    has(&said, &["ok     database: a commit waits for a standby (b)"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_beside_a_newer_one_says_whether_it_can_work() {
    let scene = Scene::new().await;
    let database = Arc::new(Postgres::shared().database());
    let url = database.url();
    let mut receiver = ReceiverBuilder::of(&scene).on(&database, &url).start().await;
    receiver.take_key("store.database_url_file");
    receiver.sigterm(DEADLINE).await;
    // A newer version has added something that this one can do without, then something that it cannot.
    for (needs, expected, starts) in [
        (1, "note   database: tables of a newer version, with which this one can work", true),
        (9_999, "FAULT  database: tables of a newer version, with which this one cannot work", false),
    ] {
        database.sql(&format!(
            "DELETE FROM schema_step WHERE version = 9999; INSERT INTO schema_step VALUES (9999, 'later', 'x', {needs})"
        ));
        has(&check(&mut receiver, &url).await, &[expected]);
        if starts {
            receiver.spawn();
            receiver.ready().await.expect("it starts beside the newer version");
            receiver.sigterm(DEADLINE).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_is_recognised() {
    let scene = Scene::new().await;
    let database = Arc::new(Postgres::shared().database());
    let url = database.url_at(PgBouncer::shared().port());
    let mut receiver = ReceiverBuilder::of(&scene).on(&database, &url).unstarted();
    receiver.take_key("store.database_url_file");
    has(&check(&mut receiver, &url).await, &["ok     database: through PgBouncer or the like"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_us_out_is_named_with_what_helps() {
    let scene = Scene::new().await;
    let database = Arc::new(Postgres::shared().database());
    let (good, port) = (database.url(), Postgres::shared().port());
    let mut receiver = ReceiverBuilder::of(&scene).on(&database, &good).unstarted();
    receiver.take_key("store.database_url_file");
    for (url, expected) in [
        (good.replace("127.0.0.1", "nowhere.invalid"), "name"),
        (good.replace(&format!(":{port}/"), ":1/"), "-> nothing listens there"),
        (good.replace(postgres::PASSWORD, "wrong-password"), "-> the user or the password is wrong"),
        (format!("{good}x"), "-> make the database"),
        (format!("{good}?sslmode=verify-full"), "-> let the server offer TLS"),
    ] {
        let said = check(&mut receiver, &url).await;
        assert!(said.starts_with("FAULT  database: receiver@") && said.contains(expected), "{expected}: {said}");
    }
    database.sql("ALTER SCHEMA public OWNER TO postgres; REVOKE CREATE ON SCHEMA public FROM receiver, public");
    has(&check(&mut receiver, &good).await, &["FAULT  database: the role may not make tables"]);
}
