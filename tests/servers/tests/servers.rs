//! Servers start, suffer what tests do to them, and leave nothing behind.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use servers::{Postgres, Redis, dump};

fn takes_connections(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

/// Whether PostgreSQL answers a request for encryption, as it does before anybody has logged in.
fn answers(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).unwrap();
    let mut answer = [0; 1];
    stream.read_exact(&mut answer).is_ok()
}

#[test]
fn postgres_comes_back_after_a_kill_and_is_gone_afterwards() {
    let mut server = Postgres::start();
    let port = server.port();
    assert!(answers(port));
    server.kill();
    assert!(!takes_connections(port));
    server.start_again();
    assert!(answers(port));
    server.stop();
    assert!(!takes_connections(port));
    server.start_again();
    drop(server);
    assert!(!takes_connections(port));
}

#[test]
fn a_frozen_postgres_answers_nobody_until_it_thaws() {
    let server = Postgres::start();
    server.freeze();
    assert!(!answers(server.port()));
    server.thaw();
    assert!(answers(server.port()));
    server.freeze();
    // Frozen ones are cleaned up, too.
    let port = server.port();
    drop(server);
    assert!(!takes_connections(port));
}

#[test]
fn the_shared_postgres_is_one_for_all() {
    let first = Postgres::shared().url();
    assert!(first.starts_with("postgres://"));
    let port = first.rsplit_once('/').unwrap().0.rsplit_once(':').unwrap().1.parse().unwrap();
    assert!(answers(port));
    assert!(std::ptr::eq(Postgres::shared(), Postgres::shared()));
}

#[test]
fn a_database_is_there_until_it_is_dropped() {
    let database = Postgres::shared().create_database();
    let url = database.url();
    assert!(dump(&url).contains("PostgreSQL database dump"));
    drop(database);
    assert!(std::panic::catch_unwind(|| dump(&url)).is_err());
}

/// One command to Redis, and the first line of its answer.
fn say(server: &Redis, command: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    stream.write_all(format!("{command}\r\n").as_bytes()).unwrap();
    let mut answer = [0; 64];
    let bytes = stream.read(&mut answer).unwrap();
    String::from_utf8_lossy(&answer[..bytes]).trim().to_owned()
}

#[test]
fn redis_comes_back_empty_after_a_kill() {
    let mut server = Redis::start();
    assert_eq!((say(&server, "SET a 1"), say(&server, "EXISTS a")), ("+OK".into(), ":1".into()));
    server.flush();
    assert_eq!(say(&server, "EXISTS a"), ":0");
    assert_eq!(say(&server, "SET a 1"), "+OK");
    server.kill();
    server.start_again();
    assert_eq!(say(&server, "EXISTS a"), ":0");
}
