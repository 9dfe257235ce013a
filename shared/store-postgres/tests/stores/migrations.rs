//! How a schema comes to be, and what its guards refuse.

use sqlx::Row;
use windlass_model::EventBody;
use windlass_store_postgres::{OpenError, PostgresOptions, PostgresStore};

use crate::hands::{Hand, definition, fresh_session};
use crate::subject::Schema;

const ONLY_OURS: PostgresOptions = PostgresOptions { lookups_max: 2, searches_max: 2, migrates: false };

#[tokio::test]
async fn processes_that_start_together_migrate_once() {
    let schema = Schema::fresh().await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let url = schema.url.clone();
        tasks.spawn(async move { PostgresStore::open(&url).await.map(drop) });
    }
    while let Some(opened) = tasks.join_next().await {
        opened.unwrap().unwrap();
    }
    assert_eq!(text(&schema, "select string_agg(name, ',') from windlass_schema").await, "0001_core");
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart() {
    let schema = Schema::fresh().await;
    let store = PostgresStore::open(&schema.url).await.unwrap();
    let version = definition(&*store).await;
    let mut hand = Hand::fresh(&*store, version, fresh_session()).await;
    windlass_store::Runs::write_run(&*store, hand.tick()).await.unwrap();
    drop(store);
    let store = PostgresStore::open_with(&schema.url, ONLY_OURS).await.unwrap();
    let record =
        windlass_store::Runs::load_run(&*store, crate::hands::TENANT, hand.id).await.unwrap().unwrap();
    assert_eq!(record.events.len(), 4);
}

#[tokio::test]
async fn a_schema_that_is_not_ours_is_refused() {
    let schema = Schema::fresh().await;
    let refused =
        PostgresStore::open_with(&schema.url, ONLY_OURS).await.err().expect("there is no schema yet");
    assert!(matches!(refused, OpenError::Older { found: 0, .. }), "{refused}");

    PostgresStore::open(&schema.url).await.unwrap();
    schema.run("insert into windlass_schema values (99, '0099_later', now())").await.unwrap();
    for options in [ONLY_OURS, PostgresOptions::default()] {
        let refused =
            PostgresStore::open_with(&schema.url, options).await.err().expect("the schema is newer");
        assert!(refused.to_string().contains("schema 99"), "{refused}");
    }
}

#[tokio::test]
async fn an_address_that_leads_nowhere_is_told_at_once() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let refused = PostgresStore::open(&format!("postgres://nobody@127.0.0.1:{port}/none")).await.err();
    assert!(matches!(refused, Some(OpenError::Connect(_))), "{refused:?}");
    let refused = PostgresStore::open("redis://127.0.0.1").await.err();
    assert!(matches!(refused, Some(OpenError::Address(_))), "{refused:?}");
}

#[tokio::test]
async fn the_log_is_never_changed_and_the_end_is_the_end() {
    let schema = Schema::fresh().await;
    let store = PostgresStore::open(&schema.url).await.unwrap();
    let version = definition(&*store).await;
    Hand::fresh(&*store, version, fresh_session()).await;
    for (sql, problem) in [
        ("update workflow_run_events set seq = 7", "what has happened does not change"),
        ("delete from workflow_run_events", "what has happened is not forgotten"),
        ("update workflow_runs set status = 'failed', lease_owner = null", ""),
        ("update workflow_runs set status = 'running'", "a run that has ended stays ended"),
        ("update workflow_runs set status = 'done'", "check constraint"),
        ("update workflow_runs set paused_reason = 'requested'", "check constraint"),
    ] {
        match schema.run(sql).await {
            Ok(rows) => assert_eq!((rows, problem), (1, ""), "{sql}"),
            Err(error) => {
                assert!(!problem.is_empty() && error.to_string().contains(problem), "{sql}: {error}")
            }
        }
    }
}

/// The guards in the database name events by code; the model says which codes they must be.
#[tokio::test]
async fn the_codes_in_the_guards_are_those_of_the_model() {
    let schema = Schema::fresh().await;
    PostgresStore::open(&schema.url).await.unwrap();
    for (index, is) in [
        ("workflow_run_events_end", EventBody::is_terminal as fn(&EventBody) -> bool),
        ("workflow_run_events_outcome", EventBody::is_outcome),
    ] {
        let definition = format!("select pg_get_indexdef('{index}'::regclass)");
        let definition = text(&schema, &definition).await;
        let list = definition.split_once('{').or(definition.split_once("ARRAY[")).expect("a list of codes").1;
        let list = list.split([']', '}']).next().unwrap();
        let codes = list.split(',').map(|code| {
            let digits: String =
                code.chars().skip_while(|it| !it.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
            digits.parse::<i16>().unwrap()
        });
        assert_eq!(codes.collect::<Vec<_>>(), codes_where(is), "{definition}");
    }
}

/// Codes of the events of which this is true, by building one of each.
fn codes_where(is: impl Fn(&EventBody) -> bool) -> Vec<i16> {
    let data = r#"{"inputs":null,"session":"00000000-0000-0000-0000-000000000000","reason":"requested","deaths":1,"count":1,
        "error":{"type":"timeout","message":""},"then":{"do":"pause"},"retry":true,"on":"timer",
        "at":"2026-01-01T00:00:00Z","until":"2026-01-01T00:00:00Z","digest":"","action":"reject","name":"","type":"",
        "run_id":"00000000-0000-0000-0000-000000000000","workflow":"","status":"completed","because":"timeout",
            "after":"failed","order":"reverse","steps":[],"found":[],"held_by":[],"assigned":{},"failed":[]}"#;
    let others = r#"{"reason":"need","rule":"","action":"fail",
            "event":"","cause":{"kind":"start"},"is_taken":true,"configuration":[]}"#;
    let bodies = EventBody::KINDS.iter().map(|(code, name)| {
        EventBody::from_stored(*code, data)
            .or_else(|_| EventBody::from_stored(*code, others))
            .unwrap_or_else(|problem| panic!("{name}: {problem}"))
    });
    bodies.filter(|body| is(body)).map(|body| body.code()).collect()
}

pub(crate) async fn text(schema: &Schema, sql: &str) -> String {
    let row = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_one(&schema.pool().await).await.unwrap();
    row.get(0)
}
