//! What the store makes of a server that is killed, frozen, or cuts its connections.

use std::time::{Duration, Instant};

use servers::Postgres;
use windlass_model::callee::CalleeKind;
use windlass_model::rate_limit::{LimitKey, Limited, OnLimit, RateLimit};
use windlass_store::{RateLimits, Runs, Sessions, StoreError, WriteError};
use windlass_store_postgres::{PostgresOptions, PostgresStore};

use crate::hands::{Hand, TENANT, TTL, definition, fresh_id, fresh_session, new_run};
use crate::subject::Schema;

/// No caller waits longer, whatever happens to the server.
const ANSWER_MAX: Duration = Duration::from_secs(15);
const COMES_BACK_MAX: Duration = Duration::from_secs(20);

fn is_away(error: &WriteError) -> bool {
    matches!(error, WriteError::Store(StoreError::Unavailable(_)))
}

/// Writes tick after tick, as an engine does: when the outcome is not known, it reads back.
async fn write_on(store: &PostgresStore, hand: &mut Hand, ticks: u32) {
    for _ in 0..ticks {
        let (before, began) = (hand.clone(), Instant::now());
        let mut write = hand.tick();
        loop {
            match store.write_run(write.clone()).await {
                Ok(()) => break,
                Err(error) => assert!(is_away(&error), "{error}"),
            }
            let row = loop {
                match store.get_run(TENANT, hand.id).await {
                    Ok(row) => break row.expect("what was written is there"),
                    Err(error) => assert!(matches!(error, StoreError::Unavailable(_)), "{error}"),
                }
                assert!(
                    began.elapsed() < 2 * COMES_BACK_MAX,
                    "the server is back and the store does not see it"
                );
            };
            if row.version.0 == hand.version {
                break;
            }
            assert_eq!(row.version.0, before.version, "a tick happens once or not at all");
            write = before.clone().tick();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_kills_in_a_row_lose_and_double_nothing() {
    let mut server = Postgres::start();
    let schema = Schema::on(&server.url()).await;
    let store = PostgresStore::open(&schema.url).await.unwrap();
    let version = definition(&*store).await;
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let mut hand = Hand::fresh(&*store, version, fresh_session()).await;
        let store = store.clone();
        writers.spawn(async move {
            let mut ticks = 0;
            let began = Instant::now();
            while began.elapsed() < Duration::from_secs(6) {
                write_on(&store, &mut hand, 10).await;
                ticks += 10;
            }
            (hand, ticks)
        });
    }
    let killing = tokio::task::spawn_blocking(move || {
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(1_000));
            server.kill();
            server.start_again();
        }
        server
    });
    let _server = killing.await.unwrap();
    while let Some(writer) = writers.join_next().await {
        let (hand, ticks) = writer.unwrap();
        let record = store.load_run(TENANT, hand.id).await.unwrap().unwrap();
        assert_eq!(record.events.len() as u32, 2 + 2 * ticks);
    }
    assert_eq!(windlass_store::Integrity::find_damage(&*store, 10).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_server_is_away_and_comes_back() {
    let server = Postgres::start();
    let schema = Schema::on(&server.url()).await;
    let store = PostgresStore::open(&schema.url).await.unwrap();
    let version = definition(&*store).await;
    let mut hand = Hand::fresh(&*store, version, fresh_session()).await;
    server.freeze();
    let began = Instant::now();
    let write = hand.clone().tick();
    let (written, read, told) =
        tokio::join!(store.write_run(write), store.get_run(TENANT, hand.id), store.now());
    assert!(is_away(&written.unwrap_err()));
    assert!(matches!(read, Err(StoreError::Unavailable(_))), "{read:?}");
    assert!(matches!(told, Err(StoreError::Unavailable(_))), "{told:?}");
    assert!(began.elapsed() < ANSWER_MAX, "{:?}", began.elapsed());
    server.thaw();
    // The frozen write may have been done meanwhile.
    let row = loop {
        if let Ok(row) = store.get_run(TENANT, hand.id).await {
            break row.unwrap();
        }
        assert!(began.elapsed() < COMES_BACK_MAX);
    };
    hand = Hand { attempt: 10, ..Hand::of(&row) };
    write_on(&store, &mut hand, 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_were_cut_while_idle_are_found_out_in_time() {
    let server = Postgres::start();
    let schema = Schema::on(&server.url()).await;
    let store = PostgresStore::open(&schema.url).await.unwrap();
    let version = definition(&*store).await;
    let mut hand = Hand::fresh(&*store, version, fresh_session()).await;
    for _ in 0..2 {
        store.write_run(hand.tick()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        schema
            .run("select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'windlass%'")
            .await
            .unwrap();
        store.write_run(hand.tick()).await.unwrap();
        assert!(store.claim_run(hand.id, fresh_session(), Duration::from_secs(600)).await.unwrap().is_none());
        store.now().await.unwrap();
    }
}

/// Were a claim granted and its answer lost, a run would stand still for as long as its session lives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_whose_answer_is_lost_is_granted_all_the_same() {
    let server = Postgres::start();
    let schema = Schema::on(&server.url()).await;
    let store = PostgresStore::open(&schema.url).await.unwrap();
    let version = definition(&*store).await;
    // Opens the connection for claims, which is then a trusted one.
    Hand::fresh(&*store, version, fresh_session()).await;
    let (run, session) = (new_run(fresh_id(), version), fresh_session());
    let id = run.id;
    store.create_run(run).await.unwrap();
    store.renew_session(session, TTL).await.unwrap();

    server.freeze();
    let claiming = tokio::spawn({
        let store = store.clone();
        async move { store.claim_run(id, session, TTL).await }
    });
    // Longer than an answer is waited for.
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert!(!claiming.is_finished());
    server.thaw();
    let record = claiming.await.unwrap().unwrap().expect("nobody else wants it");
    assert_eq!((record.row.lease_owner, record.events.len()), (Some(session), 2));
    let mut hand = Hand::of(&record.row);
    write_on(&store, &mut hand, 3).await;
    // And one that was not granted is not granted afterwards.
    assert!(store.claim_run(id, session, TTL).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sign_of_life_waits_for_nobody_who_waits_for_a_turn() {
    let schema = Schema::fresh().await;
    let options = PostgresOptions { lookups_max: 2, ..PostgresOptions::default() };
    let store = PostgresStore::open_with(&schema.url, options).await.unwrap();
    let session = fresh_session();
    store.renew_session(session, TTL).await.unwrap();
    // Somebody holds the turns of a tool, and is frozen meanwhile.
    let mut holding = schema.pool().await.begin().await.unwrap();
    let lock = include_str!("../../src/queries/put_workflow.lock.sql");
    sqlx::query(lock).bind("mail.send").bind(i64::from(TENANT.0)).execute(&mut *holding).await.unwrap();
    let key = LimitKey { tenant: TENANT, kind: Limited::Calls(CalleeKind::Tool), name: "mail.send".into() };
    let limit = RateLimit { turns: 5, per: TTL, burst: 1, on_limit: OnLimit::Wait };
    let waiting: Vec<_> = (0..5)
        .map(|_| {
            let (store, key) = (store.clone(), key.clone());
            tokio::spawn(async move { store.take_turn(key, limit).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    for _ in 0..3 {
        let renewed =
            tokio::time::timeout(Duration::from_millis(500), store.renew_session(session, TTL)).await;
        renewed.expect("it waits for nobody").unwrap();
    }
    assert!(waiting.iter().all(|turn| !turn.is_finished()), "the lock is held");
    drop(holding);
    for turn in waiting {
        assert!(turn.await.unwrap().is_ok());
    }
}
