//! The PostgreSQL of the harness tested on itself: a fault that it does not make would make other tests pass in vain.

use std::time::{Duration, Instant};

use sqlx::{AnyConnection, Connection as _, Executor as _, Row as _};

use crate::harness::{
    DEADLINE, Database, PgBouncer, Postgres, PostgresConfig, PostgresProxy, SmallDisk, Statement, StatementFault,
    eventually,
};

const TABLE: &str = "CREATE TABLE kept (n BIGINT PRIMARY KEY, text TEXT)";

/// As a receiver connects.
async fn connect(url: &str) -> Result<AnyConnection, sqlx::Error> {
    sqlx::any::install_default_drivers();
    let url = format!("{url}?statement-cache-capacity=0");
    tokio::time::timeout(DEADLINE, AnyConnection::connect(&url)).await.expect("an answer in time")
}

async fn with_table(database: &Database) -> AnyConnection {
    let mut connection = connect(&database.url()).await.expect("connected");
    connection.execute(sqlx::raw_sql(TABLE)).await.expect("a table");
    connection
}

async fn insert(connection: &mut AnyConnection, n: i64) -> Result<(), sqlx::Error> {
    let query = sqlx::query("INSERT INTO kept (n, text) VALUES ($1, $2)").bind(n).bind("x");
    // Unnamed: a name would be one session's alone.
    query.persistent(false).execute(connection).await.map(drop)
}

/// As the writer does: in a transaction.
async fn commit(connection: &mut AnyConnection, n: i64) -> Result<(), sqlx::Error> {
    connection.execute(sqlx::raw_sql("BEGIN")).await?;
    insert(connection, n).await?;
    connection.execute(sqlx::raw_sql("COMMIT")).await.map(drop)
}

fn kept(database: &Database) -> String {
    database.sql("SELECT coalesce(string_agg(n::text, ',' ORDER BY n), '') FROM kept")
}

fn code(error: &sqlx::Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}

#[tokio::test]
async fn each_test_has_an_empty_database_that_goes_with_it() {
    let (one, other) = (Postgres::shared().database(), Postgres::shared().database());
    let mut connection = with_table(&one).await;
    commit(&mut connection, 1).await.expect("committed");
    let row = sqlx::query("SELECT count(*) FROM kept").fetch_one(&mut one.look().await).await.expect("a row");
    assert_eq!(row.get::<i64, _>(0), 1);
    let role = "SELECT current_user || ' ' || rolsuper FROM pg_roles WHERE rolname = current_user";
    let row = sqlx::query(role).fetch_one(&mut connection).await.expect("a row");
    assert_eq!(row.get::<String, _>(0), "receiver false", "the owner is not a superuser");
    assert_eq!(other.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), "0");
    let name = one.name().to_owned();
    drop(one);
    assert!(insert(&mut connection, 2).await.is_err(), "its sessions end with it");
    let left = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
    assert_eq!(Postgres::shared().sql("postgres", &left), "0");
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_kill_and_a_stop() {
    let mut postgres = Postgres::with(&PostgresConfig::durable().scram());
    let database = postgres.database();
    let mut connection = with_table(&database).await;
    commit(&mut connection, 1).await.expect("committed");
    connection.execute(sqlx::raw_sql("BEGIN")).await.expect("begun");
    insert(&mut connection, 2).await.expect("inserted");
    postgres.kill9();
    assert!(connect(&database.url()).await.is_err(), "nobody listens");
    postgres.start();
    assert!(insert(&mut connection, 3).await.is_err(), "the session is gone");
    assert_eq!(kept(&database), "1");
    assert!(postgres.stop().await.success());
    postgres.start();
    assert_eq!(kept(&database), "1");
    postgres.freeze();
    let silent = tokio::time::timeout(Duration::from_millis(500), AnyConnection::connect(&database.url())).await;
    assert!(silent.is_err(), "a frozen server says nothing");
    postgres.thaw();
    let mut connection = connect(&database.url()).await.expect("connected");
    assert_eq!(postgres.end_sessions(), 1);
    assert!(insert(&mut connection, 3).await.is_err(), "the administrator ended it");
}

#[tokio::test]
async fn a_standby_has_what_was_committed_and_takes_over() {
    let mut primary = Postgres::private();
    let database = primary.database();
    let connection = with_table(&database).await;
    let standby = primary.standby();
    primary.synchronous(true);
    let proxy = PostgresProxy::before(primary.port()).await;
    let mut through = connect(&database.url_at(proxy.port())).await.expect("connected");
    commit(&mut through, 1).await.expect("committed");
    let refused = connect(&database.url_at(standby.port())).await;
    let refused = commit(&mut refused.expect("a standby can be read"), 9).await.expect_err("not written");
    assert_eq!(code(&refused).as_deref(), Some("25006"), "read_only_sql_transaction: {refused}");
    primary.kill9();
    standby.promote();
    proxy.lead_to(standby.port());
    assert!(commit(&mut through, 2).await.is_err(), "that one is dead");
    let mut through = connect(&database.url_at(proxy.port())).await.expect("connected to the other");
    commit(&mut through, 2).await.expect("committed");
    let row = sqlx::query("SELECT count(*) FROM kept").fetch_one(&mut database.look_at(standby.port()).await).await;
    assert_eq!(row.expect("a row").get::<i64, _>(0), 2);
    drop(connection.close().await);
}

/// Without its standby, a synchronous server commits and does not say so.
#[tokio::test]
async fn a_synchronous_commit_waits_for_the_standby() {
    let primary = Postgres::private();
    let database = primary.database();
    let mut connection = with_table(&database).await;
    let mut standby = primary.standby();
    primary.synchronous(true);
    standby.kill9();
    let is_waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let waits = eventually("it waits", DEADLINE, async || (database.sql(is_waiting).trim() == "1").then_some(()));
    tokio::select! {
        () = waits => {}
        done = commit(&mut connection, 1) => panic!("nobody confirms it: {done:?}"),
    }
    primary.synchronous(false);
    eventually("it is committed", DEADLINE, async || (kept(&database) == "1").then_some(())).await;
}

#[tokio::test]
async fn a_read_only_server_refuses_what_writes_until_it_is_not() {
    let postgres = Postgres::with(&PostgresConfig::fast());
    let database = postgres.database();
    let mut connection = with_table(&database).await;
    postgres.read_only(true);
    // A session that is there takes the setting up at its next statement, or the one after.
    let refused = eventually("refused", DEADLINE, async || {
        let n = i64::from(rand::random::<u32>());
        commit(&mut connection, n).await.err()
    })
    .await;
    assert_eq!(code(&refused).as_deref(), Some("25006"), "{refused}");
    connection.execute(sqlx::raw_sql("ROLLBACK")).await.expect("over");
    sqlx::query("SELECT count(*) FROM kept").fetch_one(&mut connection).await.expect("can be read");
    postgres.read_only(false);
    eventually("written again", DEADLINE, async || {
        let _ = connection.execute(sqlx::raw_sql("ROLLBACK")).await;
        commit(&mut connection, 1).await.ok()
    })
    .await;
}

#[tokio::test]
async fn a_full_disk_fails_statements_until_there_is_space() {
    let Some(postgres) = Postgres::on_small_disk(SmallDisk::Tables) else { return };
    let database = postgres.database();
    let mut connection = with_table(&database).await;
    commit(&mut connection, 0).await.expect("committed");
    postgres.fill_disk();
    let much = "INSERT INTO kept SELECT n, repeat(md5(n::text), 30) FROM generate_series(10, 9000) n";
    let full = connection.execute(sqlx::raw_sql(much)).await.expect_err("the disk is full");
    assert_eq!(code(&full).as_deref(), Some("53100"), "disk_full: {full}");
    postgres.free_disk();
    connection.execute(sqlx::raw_sql(much)).await.expect("there is space");
}

/// It ends all sessions when it cannot write its log, and comes back by itself.
#[tokio::test]
async fn a_server_on_a_full_disk_loses_nothing_that_it_has_committed() {
    let Some(postgres) = Postgres::on_small_disk(SmallDisk::Everything) else { return };
    let database = postgres.database();
    let mut connection = with_table(&database).await;
    postgres.fill_disk();
    let mut committed = 0;
    let much = "x".repeat(100_000);
    let full = loop {
        let insert = sqlx::query("INSERT INTO kept (n, text) VALUES ($1, md5(random()::text) || $2)");
        match insert.bind(committed).bind(&much).execute(&mut connection).await {
            Ok(_) => committed += 1,
            Err(error) => break error,
        }
        assert!(committed < 10_000, "the disk is never full");
    };
    drop(connection);
    postgres.free_disk();
    let left = eventually(&format!("it is back after {full}"), DEADLINE, async || {
        postgres.try_sql(database.name(), "SELECT count(*) FROM kept").ok()
    })
    .await;
    assert_eq!(left, committed.to_string());
}

#[tokio::test]
async fn connections_have_an_end() {
    let config = PostgresConfig::fast().setting("max_connections", "5").setting("superuser_reserved_connections", "2");
    let postgres = Postgres::with(&config.setting("max_wal_senders", "0"));
    let database = postgres.database();
    let mut held = Vec::new();
    let refused = loop {
        match connect(&database.url()).await {
            Ok(connection) => held.push(connection),
            Err(error) => break error,
        }
        assert!(held.len() <= 5, "there is no end");
    };
    assert_eq!(code(&refused).as_deref(), Some("53300"), "too_many_connections: {refused}");
    assert_eq!(postgres.sql("postgres", "SELECT 1"), "1", "the superuser still has one");
}

#[tokio::test]
async fn pgbouncer_gives_each_transaction_any_session() {
    let database = Postgres::shared().database();
    let mut pgbouncer = PgBouncer::before(Postgres::shared().port());
    let mut connection = with_table(&database).await;
    let mut through = connect(&database.url_at(pgbouncer.port())).await.expect("connected");
    let mut other = connect(&database.url_at(pgbouncer.port())).await.expect("connected");
    commit(&mut through, 1).await.expect("committed");
    let session = async |connection: &mut AnyConnection| {
        let row = connection.fetch_one(sqlx::raw_sql("SELECT pg_backend_pid()::bigint")).await.expect("a row");
        row.get::<i64, _>(0)
    };
    assert_eq!(session(&mut through).await, session(&mut other).await, "two clients in one session");
    other.execute(sqlx::raw_sql("BEGIN")).await.expect("begun");
    let in_use = session(&mut other).await;
    assert_ne!(session(&mut through).await, in_use, "a session within a transaction is its client's alone");
    pgbouncer.kill9();
    assert!(commit(&mut through, 2).await.is_err(), "nobody passes it on");
    pgbouncer.start();
    let mut through = connect(&database.url_at(pgbouncer.port())).await.expect("connected");
    commit(&mut through, 2).await.expect("committed");
    commit(&mut connection, 3).await.expect("committed");
    assert_eq!(kept(&database), "1,2,3");
}

/// A database with the table, behind a proxy, and a connection through it.
async fn behind_proxy() -> (Database, PostgresProxy, AnyConnection) {
    let database = Postgres::shared().database();
    drop(with_table(&database).await.close().await);
    let proxy = PostgresProxy::before(Postgres::shared().port()).await;
    let through = connect(&database.url_at(proxy.port())).await.expect("connected");
    (database, proxy, through)
}

#[tokio::test]
async fn the_answer_to_a_commit_is_lost_or_the_commit_itself() {
    let (database, proxy, mut through) = behind_proxy().await;
    // What only reads is none of them.
    proxy.fault_times(1, Statement::commits(), StatementFault::CutAfter);
    through.execute(sqlx::raw_sql("BEGIN; SELECT n FROM kept FOR UPDATE; COMMIT")).await.expect("read");
    assert!(commit(&mut through, 1).await.is_err(), "the answer is lost");
    assert_eq!((kept(&database).as_str(), proxy.unanswered_commits()), ("1", 1), "but it was committed");

    let mut through = connect(&database.url_at(proxy.port())).await.expect("connected");
    proxy.fault_times(1, Statement::commits(), StatementFault::Cut);
    assert!(commit(&mut through, 2).await.is_err(), "the commit is lost");
    assert_eq!((kept(&database).as_str(), proxy.unanswered_commits()), ("1", 1));

    let mut through = connect(&database.url_at(proxy.port())).await.expect("connected");
    let mut held = proxy.hold(Statement::commits());
    {
        let mut commit = Box::pin(commit(&mut through, 3));
        let answer = tokio::select! {
            answer = held.recv() => answer.expect("held"),
            _ = &mut commit => panic!("answered"),
        };
        assert_eq!(kept(&database), "1,3", "it is committed, and its client waits");
        answer.release();
        commit.await.expect("answered at last");
    }
    proxy.heal();
    commit(&mut through, 4).await.expect("as before");
    // What is bound is found as well, and what it is about.
    assert!(proxy.said().iter().any(|said| said.sql.starts_with("INSERT INTO kept") && said.writes));
}

#[tokio::test]
async fn statements_are_slow_and_connections_hang_stall_and_are_refused() {
    let (database, proxy, mut through) = behind_proxy().await;
    proxy.fault(Statement::with("INSERT"), StatementFault::Slow(Duration::from_millis(700)));
    let began = Instant::now();
    commit(&mut through, 1).await.expect("slowly");
    assert!(began.elapsed() >= Duration::from_millis(700));
    proxy.heal();

    let short = Duration::from_millis(500);
    proxy.stall();
    let at_once = through.execute(sqlx::raw_sql("INSERT INTO kept (n) VALUES (2)"));
    assert!(tokio::time::timeout(short, at_once).await.is_err(), "nothing goes through");
    assert!(tokio::time::timeout(short, connect(&database.url_at(proxy.port()))).await.is_err(), "for nobody");
    assert_eq!(kept(&database), "1");
    proxy.heal();
    eventually("it arrives late", DEADLINE, async || (kept(&database) == "1,2").then_some(())).await;

    let mut through = connect(&database.url_at(proxy.port())).await.expect("connected");
    proxy.fault(Statement::with("INSERT"), StatementFault::HangAfter);
    let done = eventually("it is done", DEADLINE, async || (kept(&database) == "1,2,3").then_some(()));
    tokio::select! {
        () = done => {}
        answer = insert(&mut through, 3) => panic!("an answer: {answer:?}"),
    }
    proxy.heal();

    let mut through = connect(&database.url_at(proxy.port())).await.expect("connected");
    proxy.cut_all().await;
    assert!(insert(&mut through, 4).await.is_err(), "cut");
    let mut through = connect(&database.url_at(proxy.port())).await.expect("connected");
    proxy.down().await;
    assert!(insert(&mut through, 4).await.is_err(), "cut");
    assert!(connect(&database.url_at(proxy.port())).await.is_err(), "refused");
    proxy.up().await;
    let mut through = connect(&database.url_at(proxy.port())).await.expect("connected");
    insert(&mut through, 4).await.expect("as before");
}
