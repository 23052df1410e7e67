use tokio_postgres::NoTls;

use super::*;

#[test]
fn data_is_kept_over_a_kill_when_it_is_durable() {
    let server = Postgres::start_with(PostgresOptions::new().durable(true));
    let database = server.new_database();
    server.sql(&database, "CREATE TABLE kept (it int); INSERT INTO kept VALUES (1), (2)");
    let before = family(server.pid());
    assert!(before.len() > 3, "its own processes are found: {before:?}");
    server.kill();
    server.kill();
    assert!(before.iter().all(|pid| !runs(*pid)));
    server.restart();
    assert_eq!(server.text(&database, "SELECT it FROM kept ORDER BY it"), "1\n2");
    server.shut_down();
    server.restart();
    assert_eq!(server.text(&database, "SELECT count(*) FROM kept"), "2");
}

#[test]
fn a_stopped_server_is_silent_until_it_goes_on() {
    let server = Postgres::start();
    server.stop();
    let asked = std::thread::scope(|scope| {
        let asking = scope.spawn(|| server.text("postgres", "SELECT 1"));
        std::thread::yield_now();
        assert!(!asking.is_finished());
        server.go_on();
        asking.join().unwrap()
    });
    assert_eq!(asked, "1");
}

#[test]
fn a_full_disk_takes_nothing_new_until_it_has_room() {
    let server = Postgres::start_with(PostgresOptions::new().small_disk());
    server.sql("postgres", "CREATE TABLE kept (it text)");
    let fill = "INSERT INTO kept SELECT repeat('x', 1000) FROM generate_series(1, 100)";
    server.fill_disk(true);
    let refused = server.try_sql("postgres", "postgres", fill).unwrap_err();
    assert!(refused.contains("No space left on device"), "{refused}");
    assert_eq!(server.text("postgres", "SELECT count(*) FROM kept"), "0", "others are served");
    server.fill_disk(false);
    server.sql("postgres", fill);
    assert_eq!(server.text("postgres", "SELECT count(*) FROM kept"), "100");
}

#[test]
fn a_dropped_server_leaves_neither_process_nor_folder() {
    let server = Postgres::start();
    let (all, folder) = (family(server.pid()), server.folder().to_owned());
    drop(server);
    assert!(!folder.exists());
    wait_until("all are gone", SOON, || all.iter().all(|pid| !runs(*pid)));
}

#[test]
fn a_standby_follows_and_is_promoted() {
    let primary = Postgres::start();
    let standby = primary.start_standby();
    primary.sql("postgres", "CREATE TABLE kept (it int)");
    primary.wait_for(&standby);
    standby.try_sql("postgres", "postgres", "INSERT INTO kept VALUES (1)").unwrap_err();
    primary.kill();
    standby.promote();
    standby.sql("postgres", "INSERT INTO kept VALUES (1)");
}

#[test]
fn copies_have_the_data_and_only_those_made_anew_another_identity() {
    let identity = |server: &Postgres| {
        server.text("postgres", "SELECT system_identifier FROM pg_control_system()")
    };
    let first = Postgres::start();
    first.sql("postgres", "CREATE TABLE kept (it int)");
    let known = identity(&first);
    let database = first.new_database();
    first.restore(&first.dump("postgres"), &database);
    assert_eq!(first.text(&database, "SELECT count(*) FROM kept"), "0");
    first.shut_down();
    let copy = first.start_copy();
    assert_eq!(copy.text("postgres", "SELECT count(*) FROM kept"), "0");
    assert_eq!(identity(&copy), known);
    let other = Postgres::start_with(PostgresOptions::new().own_identity());
    assert_ne!(identity(&other), known);
}

#[test]
fn a_pooler_lends_few_connections_to_many() {
    let server = Postgres::start();
    let bouncer = PgBouncer::before(&server, 2, &[]);
    let url = bouncer.url_as("postgres", "postgres");
    block_on(async {
        let mut clients = Vec::new();
        for _ in 0..5 {
            let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
            drop(tokio::spawn(connection));
            client.simple_query("SELECT 1").await.unwrap();
            clients.push(client);
        }
    });
    let query = "SELECT count(*) <= 2 FROM pg_stat_activity WHERE client_port > 0";
    assert_eq!(server.text("postgres", query), "t", "{}", bouncer.log());
}
