//! `store copy`: what a stopped receiver kept in SQLite goes on in PostgreSQL.

use std::{process::Output, sync::Arc};

use sqlx::{AnyConnection, Connection as _};

use crate::harness::{
    DEADLINE, Database, Payload, Postgres, PostgresProxy, Receiver, ReceiverBuilder, Scene, Statement, StatementFault,
    only_sqlite, postgres,
};

fn text(output: &Output) -> String {
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!text.contains(postgres::PASSWORD), "a password is shown: {text}");
    text
}

fn succeeded(output: &Output) -> String {
    let text = text(output);
    assert!(output.status.success(), "{text}");
    text
}

fn refused(output: &Output) -> String {
    let text = text(output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    text
}

/// Copies into the database behind this URL, which a file holds.
async fn copy(receiver: &Receiver, url: &str) -> Output {
    let file = receiver.store_path().with_file_name("target-url");
    std::fs::write(&file, format!("{url}\n")).expect("written");
    receiver.cli(&["store", "copy", "--to-file", file.to_str().expect("UTF-8")]).await
}

async fn run_on_file(receiver: &Receiver, sql: &str, value: &str) {
    let url = format!("sqlite://{}", receiver.store_path().join("receiver.sqlite3").display());
    sqlx::any::install_default_drivers();
    let mut file = AnyConnection::connect(&url).await.expect("the file");
    sqlx::query(sqlx::AssertSqlSafe(sql.to_owned())).bind(value.to_owned()).execute(&mut file).await.expect("run");
    file.close().await.expect("closed");
}

/// A store with an open incident, and one that is over, whose receiver has stopped.
async fn stopped(scene: &Scene) -> Receiver {
    let mut receiver = ReceiverBuilder::of(scene).start().await;
    receiver.accept("default", Payload::group("DiskFull").firing(&["n01", "n02"])).await;
    receiver.accept("default", Payload::group("Over").firing(&["n01"])).await;
    receiver.accept("default", Payload::group("Over").resolved(&["n01"])).await;
    scene.room.wait_for("both cards", DEADLINE, |view| view.cards().len() == 2).await;
    receiver.wait_metric("outbox_oldest_seconds", &[], |value| value == 0.0).await;
    assert!(receiver.sigterm(DEADLINE).await.success());
    receiver
}

fn tables(database: &Database) -> String {
    database.sql(
        "SELECT coalesce(string_agg(relname || ' ' || n, ',' ORDER BY relname), '') FROM (SELECT relname, (xpath('/row/n/text()', \
         query_to_xml('SELECT count(*) AS n FROM ' || quote_ident(relname), false, true, '')))[1]::text AS n \
         FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace) AS found WHERE n <> '0'",
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn cards_go_on_after_a_move_into_postgresql() {
    if !only_sqlite("a store is moved out of it") {
        return;
    }
    let scene = Scene::new().await;
    let mut receiver = stopped(&scene).await;
    // PostgreSQL takes no such character.
    run_on_file(&receiver, "INSERT INTO meta (key, value) VALUES ('odd', $1)", "a\0b\0").await;
    let database = Arc::new(Postgres::shared().database());
    let said = succeeded(&copy(&receiver, &database.url()).await);
    assert!(said.contains("each equal to the original") && said.contains("2 characters U+0000"), "{said}");
    for table in ["incident", "alert", "card", "card_incident", "op", "notification", "meta"] {
        let counted = database.sql(&format!("SELECT count(*) FROM {table}"));
        let line = said.lines().find(|line| line.split_whitespace().next() == Some(table)).expect("a line");
        let expected = line.split_whitespace().last().expect("a number");
        // The counter and the like are the database's as well.
        assert_eq!(counted, expected, "{said}");
        assert_ne!(counted, "0", "{table}");
    }
    assert_eq!(database.sql("SELECT value FROM meta WHERE key = 'odd'"), "a\u{fffd}b\u{fffd}");
    let before = tables(&database);

    let said = succeeded(&copy(&receiver, &database.url()).await);
    assert!(said.contains("exactly this copy") && said.contains("nothing was changed"), "{said}");
    assert_eq!(tables(&database), before);

    // The one that the config names needs no option.
    let url = database.url();
    receiver.reconfigure(&format!("[store]\ndatabase_url = \"{url}\""));
    let said = succeeded(&receiver.cli(&["store", "copy"]).await);
    assert!(said.contains("exactly this copy"), "{said}");

    receiver.spawn();
    receiver.ready().await.expect("it starts on the database");
    receiver.accept("default", Payload::group("DiskFull").resolved(&["n01", "n02"])).await;
    let view = scene.room.wait_for("the card turns green", DEADLINE, |view| {
        view.cards_with("DiskFull").first().is_some_and(|card| card.first_line().contains("RESOLVED"))
    });
    assert_eq!(view.await.cards().len(), 2, "no card is posted twice");
    let said = refused(&receiver.cli(&["store", "copy"]).await);
    assert!(said.contains("is in use by another process"), "{said}");
    assert!(receiver.sigterm(DEADLINE).await.success());
    let said = refused(&receiver.cli(&["store", "copy"]).await);
    assert!(said.contains("has other content already") && said.contains("DROP DATABASE"), "{said}");
}

/// A connection that is cut at the last table leaves nothing; the next try succeeds.
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_copy_leaves_nothing() {
    if !only_sqlite("a store is moved out of it") {
        return;
    }
    let scene = Scene::new().await;
    let receiver = stopped(&scene).await;
    let database = Postgres::shared().database();
    let proxy = PostgresProxy::before(Postgres::shared().port()).await;
    // The commits of the schema's own steps are worded otherwise.
    for statement in ["INSERT INTO \"op\"", "SET LOCAL statement_timeout = 0; COMMIT"] {
        proxy.fault_times(1, Statement::with(statement), StatementFault::Cut);
        refused(&copy(&receiver, &database.url_at(proxy.port())).await);
        let left = tables(&database);
        assert!(left.starts_with("meta 1,schema_step "), "{left}");
    }
    proxy.heal();
    succeeded(&copy(&receiver, &database.url_at(proxy.port())).await);
    assert!(tables(&database).contains("incident 2"), "{}", tables(&database));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_copied_is_said() {
    if !only_sqlite("a store is moved out of it") {
        return;
    }
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene).unstarted();
    let database = Postgres::shared().database();
    let said = refused(&copy(&receiver, &database.url()).await);
    assert!(said.contains("there is no store to copy") && said.contains("receiver.sqlite3"), "{said}");
    let said = refused(&receiver.cli(&["store", "copy"]).await);
    assert!(said.contains("no database is named"), "{said}");
    let said = refused(&receiver.cli(&["store", "copy", "--to", "mysql://a:secret-word@b/c"]).await);
    assert!(said.contains("is not a URL such as") && !said.contains("secret-word"), "{said}");

    let mut receiver = ReceiverBuilder::of(&scene).start().await;
    assert!(receiver.sigterm(DEADLINE).await.success());
    let (good, port) = (database.url(), Postgres::shared().port());
    for (url, expected) in [
        (good.replace("127.0.0.1", "nowhere.invalid"), "name"),
        (good.replace(&format!(":{port}/"), ":1/"), "nothing listens there"),
        (good.replace(postgres::PASSWORD, "wrong-password"), "the user or the password is wrong"),
        (format!("{good}x"), "make the database"),
    ] {
        let said = refused(&copy(&receiver, &url).await);
        assert!(said.contains(expected) && said.contains("receiver@"), "{expected}: {said}");
    }
    // A role that may not make tables, and a database in which another receiver was started.
    database.sql("ALTER SCHEMA public OWNER TO postgres; REVOKE CREATE ON SCHEMA public FROM receiver, public");
    let said = refused(&copy(&receiver, &good).await);
    assert!(said.contains("may not make tables"), "{said}");
    database.sql("GRANT CREATE ON SCHEMA public TO receiver");
    succeeded(&copy(&receiver, &good).await);
    database.sql("UPDATE lease SET until = 0; INSERT INTO lease VALUES ('leader', 'replica-7', 'x', (extract(epoch FROM now()) * 1000)::bigint + 60000)");
    succeeded(&copy(&receiver, &good).await);
    database.sql("INSERT INTO room (name) VALUES ('!another:example.org')");
    let said = refused(&copy(&receiver, &good).await);
    assert!(said.contains("the receiver replica-7 runs on the database"), "{said}");
}
