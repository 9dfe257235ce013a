//! Measures what a tick costs: one by one, and with many runs in flight.
//!
//! `cargo run --release -p windlass-store-sqlite --example sqlite_tick_rate [FOLDER]` — a folder on the disk in question.

#![expect(clippy::print_stdout, reason = "it is a program whose output is the point")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;
use windlass_model::event::{Event, EventBody, RunCompleted, RunCreated, StepStarted, StepSucceeded};
use windlass_model::{
    Digest, EventSeq, NodeIndex, Payload, Priority, RunId, RunStatus, SessionId, TenantId, Timestamp,
    VersionId,
};
use windlass_store::{
    Definition, Fence, Guard, Labels, NewRun, Pin, Projection, RunRow, RunWrite, Runs, Sessions, Workflows,
};
use windlass_store_sqlite::SqliteStore;

const TENANT: TenantId = TenantId::DEFAULT;
const STEPS: u16 = 5;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let folder = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let path = folder.join(format!("tick-rate-{}.db", std::process::id()));
    let store = SqliteStore::open(&path).expect("the folder can be written to");
    store.renew_session(session(), Duration::from_secs(3_600)).await.expect("a session");
    let definition = Definition { name: "bench".into(), hash: Digest::of(b"{}"), spec: "{}".into() };
    let version = store.put_inline(TENANT, definition).await.expect("a definition");

    one_by_one(&store, version, 2_000).await;
    for in_flight in [2, 8, 32, 128, 512] {
        together(&store, version, in_flight, 4_000).await;
    }
    // Once more, now that the tables are large.
    one_by_one(&store, version, 2_000).await;
    drop(store);
    report_size(&path);
}

async fn one_by_one(store: &SqliteStore, version: VersionId, ticks: u16) {
    let mut run = Held::new(store, version).await;
    let mut spans = Vec::with_capacity(usize::from(ticks));
    let begin = Instant::now();
    for attempt in 1..=ticks {
        let before = Instant::now();
        run.tick(store, attempt).await;
        spans.push(before.elapsed());
    }
    let total = begin.elapsed();
    spans.sort();
    let at = |percent: usize| spans[spans.len() * percent / 100].as_micros();
    println!(
        "one by one: {:>6.0} ticks/s, p50 {} µs, p99 {} µs",
        f64::from(ticks) / total.as_secs_f64(),
        at(50),
        at(99)
    );
}

async fn together(store: &Arc<SqliteStore>, version: VersionId, in_flight: u32, runs: u32) {
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..in_flight {
        let store = store.clone();
        tasks.spawn(async move {
            let mut held = Vec::new();
            for _ in 0..runs / in_flight {
                held.push(Held::new(&store, version).await);
            }
            held
        });
    }
    let held: Vec<_> = tasks.join_all().await;
    let made = begin.elapsed();

    let (cpu, begin) = (cpu_seconds(), Instant::now());
    let mut tasks = JoinSet::new();
    let runs = held.iter().map(Vec::len).sum::<usize>() as f64;
    for mine in held {
        let store = store.clone();
        tasks.spawn(async move {
            for mut run in mine {
                for attempt in 1..=STEPS {
                    run.tick(&store, attempt).await;
                }
                run.end(&store).await;
            }
        });
    }
    tasks.join_all().await;
    let ticks = runs * (f64::from(STEPS) + 1.0);
    println!(
        "{in_flight:>4} in flight: {:>6.0} ticks/s, {:.3} CPU s per 1,000; create and claim {:>6.0} runs/s",
        ticks / begin.elapsed().as_secs_f64(),
        (cpu_seconds() - cpu) / ticks * 1_000.0,
        runs / made.as_secs_f64(),
    );
}

/// A run that this process holds.
struct Held {
    row: RunRow,
}

impl Held {
    async fn new(store: &SqliteStore, version_id: VersionId) -> Self {
        let id = RunId(uuid::Uuid::now_v7());
        let body = RunCreated::default();
        let created = NewRun {
            id,
            tenant: TENANT,
            version_id,
            pin: Pin::Inline,
            parent: None,
            priority: Priority::Normal,
            labels: Labels::new(),
            event: event(1, None, None, body),
            projection: projection(RunStatus::Queued, None),
            blobs: Vec::new(),
            group: None,
            firing: None,
            remember: None,
        };
        store.create_run(created).await.expect("a create");
        let claimed = store.claim_run(id, session(), Duration::from_secs(3_600)).await.expect("a claim");
        Self { row: claimed.expect("it is queued").row }
    }

    /// A step has succeeded, the next one begins.
    async fn tick(&mut self, store: &SqliteStore, attempt: u16) {
        let output = Payload::from(json!({"text": "x".repeat(150), "n": attempt}));
        let seq = self.row.next_seq.0;
        let events = vec![
            event(seq, Some(attempt), Some(&self.row), StepSucceeded { output, artifacts: Vec::new() }),
            event(seq + 1, Some(attempt), Some(&self.row), StepStarted::default()),
        ];
        self.write(store, events, RunStatus::Running).await;
    }

    async fn end(&mut self, store: &SqliteStore) {
        let body = RunCompleted { output: Payload::null() };
        let events = vec![event(self.row.next_seq.0, None, Some(&self.row), body)];
        self.write(store, events, RunStatus::Completed).await;
    }

    async fn write(&mut self, store: &SqliteStore, events: Vec<Event>, status: RunStatus) {
        let count = events.len() as u32;
        let write = RunWrite {
            run_id: self.row.id,
            tenant: TENANT,
            guard: Guard::Engine(Fence { session: session(), epoch: self.row.epoch }),
            version: self.row.version,
            events,
            projection: projection(status, self.row.started_at),
            release: status.is_terminal(),
            snapshot: None,
            blobs: Vec::new(),
            approvals: Vec::new(),
            outbox: Vec::new(),
            children: Vec::new(),
            finished: Vec::new(),
            leaves_group: false,
            remember: None,
        };
        store.write_run(write).await.expect("a tick");
        self.row.version.0 += 1;
        self.row.next_seq.0 += count;
    }
}

fn event(seq: u32, attempt: Option<u16>, row: Option<&RunRow>, body: impl Into<EventBody>) -> Event {
    Event {
        seq: EventSeq(seq),
        at: Timestamp(1_800_000_000_000_000),
        node: attempt.map(|_| NodeIndex(1)),
        item: None,
        attempt,
        epoch: row.map(|row| row.epoch),
        actor: None,
        body: body.into(),
    }
}

fn projection(status: RunStatus, started_at: Option<Timestamp>) -> Projection {
    let ended_at = status.is_terminal().then_some(Timestamp(1_800_000_000_000_000));
    Projection { status, paused_reason: None, wake_at: None, started_at, ended_at, error: None }
}

fn session() -> SessionId {
    SessionId(uuid::Uuid::from_u128(1))
}

/// User and system time of this process.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |index: usize| fields.get(index).and_then(|it| it.parse::<f64>().ok()).unwrap_or_default();
    // Fields 14 and 15 of proc(5), in hundredths of a second.
    (ticks(11) + ticks(12)) / 100.0
}

fn report_size(path: &Path) {
    let size = std::fs::metadata(path).map(|it| it.len()).unwrap_or_default();
    println!("{:.1} MiB in {}", size as f64 / 1_048_576.0, path.display());
    for suffix in ["", "-wal", "-shm", ".lock"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        // Some of them are gone already.
        let _ = std::fs::remove_file(name);
    }
}
