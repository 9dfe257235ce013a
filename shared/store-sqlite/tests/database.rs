//! What only a database in a file can get wrong.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use windlass_model::event::{Event, RunCreated};
use windlass_model::{Digest, EventSeq, Priority, RunId, RunStatus, SessionId, TenantId, Timestamp};
use windlass_store::{
    Blobs, Definition, Integrity, NewRun, NewWorkflow, Pin, Precondition, Projection, RunFilter, Runs,
    Sessions, StoreError, Workflows,
};
use windlass_store_sqlite::{OpenError, SqliteStore};

const TENANT: TenantId = TenantId::DEFAULT;
const STALE_AFTER: Duration = Duration::from_secs(60);

struct Folder {
    folder: tempfile::TempDir,
}

impl Folder {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn database(&self) -> PathBuf {
        self.folder.path().join("windlass.db")
    }

    /// Beside the store, as another program would.
    fn raw(&self) -> Connection {
        Connection::open(self.database()).unwrap()
    }
}

fn run_id(n: u32) -> RunId {
    format!("01900000-0000-7000-8000-{n:012}").parse().unwrap()
}

fn session(n: u32) -> SessionId {
    format!("0190ffff-0000-7000-8000-{n:012}").parse().unwrap()
}

async fn create_run(store: &SqliteStore, n: u32) {
    let definition = Definition { name: "notes".into(), hash: Digest::of(b"{}"), spec: "{}".into() };
    let version_id = store.put_inline(TENANT, definition).await.unwrap();
    let event = Event {
        seq: EventSeq(1),
        at: Timestamp(1),
        node: None,
        item: None,
        attempt: None,
        epoch: None,
        actor: None,
        body: RunCreated::default().into(),
    };
    let projection = Projection {
        status: RunStatus::Queued,
        paused_reason: None,
        wake_at: None,
        started_at: None,
        ended_at: None,
        error: None,
    };
    let run = NewRun {
        id: run_id(n),
        tenant: TENANT,
        version_id,
        pin: Pin::Inline,
        parent: None,
        priority: Priority::Normal,
        labels: [("team".to_owned(), "docs".to_owned())].into(),
        event,
        projection,
        blobs: vec![windlass_model::payload::Blob::new(b"content".to_vec())],
        group: None,
        firing: None,
        remember: None,
    };
    store.create_run(run).await.unwrap();
}

#[tokio::test]
async fn everything_is_still_there_after_a_restart() {
    let folder = Folder::new();
    let store = SqliteStore::open(&folder.database()).unwrap();
    create_run(&store, 1).await;
    let definition = Definition { name: "notes".into(), hash: Digest::of(b"2"), spec: "2".into() };
    let new = NewWorkflow {
        tenant: TENANT,
        definition,
        tags: vec!["docs".into()],
        precondition: Precondition::None,
        remember: None,
    };
    store.put_workflow(new).await.unwrap();
    let (run, workflow) = (
        store.load_run(TENANT, run_id(1)).await.unwrap().unwrap(),
        store.get_workflow(TENANT, "notes").await.unwrap(),
    );
    drop(store);

    let store = SqliteStore::open(&folder.database()).unwrap();
    let again = store.load_run(TENANT, run_id(1)).await.unwrap().unwrap();
    assert_eq!((again.row, again.events), (run.row, run.events));
    assert_eq!(store.get_workflow(TENANT, "notes").await.unwrap(), workflow);
    let content = store.get_blob(TENANT, &Digest::of(b"content")).await.unwrap();
    assert_eq!(content.as_deref(), Some(&b"content"[..]));
}

#[tokio::test]
async fn a_restart_knows_that_older_sessions_are_dead() {
    let folder = Folder::new();
    let store = SqliteStore::open(&folder.database()).unwrap();
    create_run(&store, 1).await;
    store.renew_session(session(1), Duration::from_secs(3_600)).await.unwrap();
    assert!(store.claim_run(run_id(1), session(1), STALE_AFTER).await.unwrap().is_some());
    assert!(store.claim_run(run_id(1), session(2), STALE_AFTER).await.unwrap().is_none());
    drop(store);

    let store = SqliteStore::open(&folder.database()).unwrap();
    assert_eq!(store.find_due(session(1), Duration::ZERO, STALE_AFTER, 10).await.unwrap().runs.len(), 1);
    let taken = store.claim_run(run_id(1), session(2), STALE_AFTER).await.unwrap().unwrap();
    assert_eq!((taken.row.epoch.0, taken.row.lease_owner), (2, Some(session(2))));
}

#[tokio::test]
async fn a_sign_of_life_writes_nothing_and_waits_for_whoever_writes() {
    let folder = Folder::new();
    let store = SqliteStore::open(&folder.database()).unwrap();
    create_run(&store, 1).await;
    store.renew_session(session(1), Duration::from_secs(1)).await.unwrap();
    let files = || {
        let log = folder.database().with_extension("db-wal");
        [folder.database(), log].map(|it| std::fs::read(it).unwrap())
    };
    let before = files();
    for _ in 0..3 {
        store.renew_session(session(1), Duration::from_secs(3_600)).await.unwrap();
    }
    assert!(files() == before);
    // Renewed all the same.
    assert!(store.claim_run(run_id(1), session(1), STALE_AFTER).await.unwrap().is_some());
    assert!(store.claim_run(run_id(1), session(2), STALE_AFTER).await.unwrap().is_none());

    // Who holds the file has nobody show a life that could not write.
    let another = folder.raw();
    another.execute_batch("begin immediate").unwrap();
    let waits =
        tokio::time::timeout(Duration::from_millis(300), store.renew_session(session(1), Duration::ZERO));
    assert!(waits.await.is_err());
    another.execute_batch("rollback").unwrap();
    store.renew_session(session(1), Duration::from_secs(1)).await.unwrap();
}

/// What lies on the disk at this moment is all that is left when the machine is switched off.
#[tokio::test]
async fn what_was_answered_is_on_the_disk() {
    let (folder, after) = (Folder::new(), Folder::new());
    let store = SqliteStore::open(&folder.database()).unwrap();
    for n in 1..=20 {
        create_run(&store, n).await;
    }
    for suffix in ["", "-wal"] {
        let name = |folder: &Folder| format!("{}{suffix}", folder.database().display());
        std::fs::copy(name(&folder), name(&after)).unwrap();
    }
    // Somebody looks before anybody has recovered it; then its next owner does.
    for store in [SqliteStore::open_read_only(&after.database()), SqliteStore::open(&after.database())] {
        let runs = store.unwrap().list_runs(TENANT, &RunFilter::default(), None, 100).await.unwrap();
        assert_eq!(runs.len(), 20);
    }
}

#[tokio::test]
async fn a_second_owner_is_refused_and_told_who_the_first_one_is() {
    let folder = Folder::new();
    let store = SqliteStore::open(&folder.database()).unwrap();
    let refused = SqliteStore::open(&folder.database()).err().unwrap();
    assert!(
        matches!(&refused, OpenError::Owned { pid: Some(pid), .. } if *pid == std::process::id()),
        "{refused}"
    );
    assert!(refused.to_string().contains(&format!("pid {}", std::process::id())), "{refused}");
    // A link to the file is the same file.
    let link = folder.folder.path().join("link.db");
    std::os::unix::fs::symlink(folder.database(), &link).unwrap();
    assert!(matches!(SqliteStore::open(&link), Err(OpenError::Owned { .. })));
    drop(store);
    SqliteStore::open(&folder.database()).unwrap();
}

#[tokio::test]
async fn a_database_of_a_newer_windlass_is_refused() {
    let folder = Folder::new();
    drop(SqliteStore::open(&folder.database()).unwrap());
    folder.raw().execute_batch("pragma user_version = 1000").unwrap();
    for refused in [SqliteStore::open(&folder.database()), SqliteStore::open_read_only(&folder.database())] {
        let refused = refused.err().unwrap();
        assert!(matches!(refused, OpenError::Newer { found: 1000, .. }), "{refused}");
        assert!(refused.to_string().contains("newer Windlass"), "{refused}");
    }
}

#[tokio::test]
async fn a_database_of_another_program_is_refused_and_left_alone() {
    let folder = Folder::new();
    folder.raw().execute_batch("create table theirs (n integer)").unwrap();
    assert!(matches!(SqliteStore::open(&folder.database()), Err(OpenError::Foreign)));
    let tables: i64 =
        folder.raw().query_row("select count(*) from sqlite_schema", [], |row| row.get(0)).unwrap();
    assert_eq!(tables, 1);

    let text = folder.folder.path().join("notes.txt");
    std::fs::write(&text, "not a database at all, but long enough to be read as a header of one").unwrap();
    assert!(matches!(SqliteStore::open(&text), Err(OpenError::Sqlite(_))));
    assert!(std::fs::read_to_string(&text).unwrap().starts_with("not a database"));
    assert!(matches!(SqliteStore::open(Path::new("/nowhere/at/all.db")), Err(OpenError::Lock { .. })));
}

#[tokio::test]
async fn a_look_beside_the_owner_reads_and_never_writes() {
    let folder = Folder::new();
    assert!(SqliteStore::open_read_only(&folder.database()).is_err());
    let store = SqliteStore::open(&folder.database()).unwrap();
    create_run(&store, 1).await;
    let look = SqliteStore::open_read_only(&folder.database()).unwrap();
    assert!(look.load_run(TENANT, run_id(1)).await.unwrap().is_some());
    assert_eq!(look.list_runs(TENANT, &RunFilter::default(), None, 10).await.unwrap().len(), 1);
    let refused = look.renew_session(session(1), Duration::from_secs(1)).await;
    assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    create_run(&store, 2).await;
    assert_eq!(look.list_runs(TENANT, &RunFilter::default(), None, 10).await.unwrap().len(), 2);
    drop(store);
    // Nobody owns it any more, and it can still be looked at.
    let look = SqliteStore::open_read_only(&folder.database()).unwrap();
    assert_eq!(look.list_runs(TENANT, &RunFilter::default(), None, 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn the_log_refuses_to_be_changed() {
    let folder = Folder::new();
    let store = SqliteStore::open(&folder.database()).unwrap();
    create_run(&store, 1).await;
    let raw = folder.raw();
    for sql in [
        "update workflow_run_events set data = '{}'",
        "delete from workflow_run_events",
        "update workflow_run_events set seq = seq + 1",
        "update workflow_runs set status = 'asleep'",
        "update workflow_runs set status = 'paused'",
    ] {
        let refused = raw.execute(sql, []).expect_err(sql);
        let code = refused.sqlite_error_code();
        assert_eq!(code, Some(rusqlite::ErrorCode::ConstraintViolation), "{sql}: {refused}");
    }
    raw.execute("update workflow_runs set status = 'completed'", []).unwrap();
    raw.execute("update workflow_runs set status = 'queued'", []).expect_err("an end is an end");
    assert_eq!(store.load_run(TENANT, run_id(1)).await.unwrap().unwrap().events.len(), 1);
}

#[tokio::test]
async fn a_row_that_says_what_it_must_not_is_damage() {
    let folder = Folder::new();
    let store = SqliteStore::open(&folder.database()).unwrap();
    for n in 1..=3 {
        create_run(&store, n).await;
    }
    let raw = folder.raw();
    raw.execute_batch(
        "pragma ignore_check_constraints = on;
         update workflow_runs set status = 'asleep' where substr(hex(id), -1) = '1';
         drop trigger workflow_run_events_never_change;
         update workflow_run_events set data = '[' where substr(hex(run_id), -1) = '2';
         update workflow_run_events set code = 999 where substr(hex(run_id), -1) = '3';",
    )
    .unwrap();
    assert!(matches!(store.get_run(TENANT, run_id(1)).await, Err(StoreError::Damaged(_))));
    for n in [2, 3] {
        let damaged = store.load_run(TENANT, run_id(n)).await;
        assert!(matches!(damaged, Err(StoreError::Damaged(_))), "{damaged:?}");
        let damaged = store.claim_run(run_id(n), session(1), STALE_AFTER).await;
        assert!(matches!(damaged, Err(StoreError::Damaged(_))), "{damaged:?}");
        // What nobody can read nobody holds.
        assert_eq!(store.get_run(TENANT, run_id(n)).await.unwrap().unwrap().lease_owner, None);
    }
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_read_is_passed_over() {
    let folder = Folder::new();
    let store = SqliteStore::open(&folder.database()).unwrap();
    create_run(&store, 1).await;
    for (seq, format, state) in [(1, 1, "[]"), (1, 1, "{"), (1, 4711, "{}")] {
        let sql = "insert or replace into run_snapshots select id, ?1, ?2, ?3 from workflow_runs";
        folder.raw().execute(sql, (seq, format, state)).unwrap();
        let record = store.load_run(TENANT, run_id(1)).await.unwrap().unwrap();
        assert!(record.snapshot.is_none());
        assert_eq!(record.events.len(), 1);
    }
}

#[tokio::test]
async fn a_doctor_sees_what_somebody_did_by_hand() {
    let folder = Folder::new();
    let store = SqliteStore::open(&folder.database()).unwrap();
    for n in 1..=7 {
        create_run(&store, n).await;
    }
    let is = |n: u32| format!("hex(id) = hex(x'{}')", run_id(n).to_string().replace('-', ""));
    let raw = folder.raw();
    raw.execute_batch("drop trigger workflow_run_events_never_leave; pragma foreign_keys = off;").unwrap();
    for sql in [
        format!(
            "delete from workflow_run_events where run_id = (select id from workflow_runs where {})",
            is(1)
        ),
        format!("update workflow_runs set next_seq = 7 where {}", is(2)),
        format!("update workflow_runs set status = 'completed' where {}", is(3)),
        format!("update workflow_runs set version_id = 4711 where {}", is(4)),
        format!("delete from workflow_runs where {}", is(5)),
        format!("insert into run_snapshots select id, 99, 1, '{{}}' from workflow_runs where {}", is(6)),
        format!(
            "insert into approvals (run_id, seq, tenant, workflow, node, attempt, requested_at)
             select id, 1, 1, 'notes', 'gate', 1, 0 from workflow_runs where {}",
            is(3)
        ),
        format!(
            "insert into approvals (run_id, seq, tenant, workflow, node, attempt, requested_at)
             select id, 1, 1, 'notes', 'gate', 1, 0 from workflow_runs where {}",
            is(6)
        ),
        format!(
            "insert into workflow_run_events (run_id, seq, at, code, data)
             select id, e.value, 0, case e.value when 2 then 7 else 20 end, '{{}}'
               from workflow_runs, (select 2 as value union all select 3) e where {}",
            is(7)
        ),
        format!("update workflow_runs set next_seq = 4, status = 'completed' where {}", is(7)),
    ] {
        raw.execute(&sql, []).unwrap();
    }
    let damage = store.find_damage(100).await.unwrap();
    let mut found: Vec<_> = damage.iter().map(|it| (it.kind.as_str(), it.subject.clone())).collect();
    found.retain(|(kind, _)| *kind != "orphan_blob");
    let mut expected = [
        ("log_gap", 1),
        ("log_gap", 2),
        ("status_mismatch", 3),
        ("dangling_version", 4),
        ("orphan_events", 5),
        ("orphan_labels", 5),
        ("snapshot_ahead", 6),
        ("approval_left_open", 3),
        ("approval_unrequested", 6),
        ("event_after_end", 7),
    ]
    .map(|(kind, n)| (kind, run_id(n).to_string()))
    .to_vec();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_message_that_nobody_delivers_is_stuck() {
    let folder = Folder::new();
    let store = SqliteStore::open(&folder.database()).unwrap();
    create_run(&store, 1).await;
    let sql = "insert into outbox (tenant, run_id, seq, topic, body, created_at, due_at)
               select 1, id, 1, 'it', '{}', ?1, ?1 from workflow_runs";
    folder.raw().execute(sql, [store.now().await.unwrap().0 - 3_700_000_000]).unwrap();
    folder.raw().execute(sql, [store.now().await.unwrap().0]).unwrap();
    let damage = store.find_damage(100).await.unwrap();
    assert_eq!(damage.iter().filter(|it| it.kind == "stuck_outbox").count(), 1, "{damage:?}");
}
