//! Measures what creates, claims and ticks cost: one by one, and with many runs in flight.
//!
//! `cargo run --release -p windlass-store-postgres --example tick_rate [URL]` — of a database that may be filled;
//! without one, of a server that is started for this and thrown away.

#![expect(clippy::print_stdout, reason = "it is a program whose output is the point")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use servers::Postgres;
use tokio::task::JoinSet;
use windlass_model::event::{Event, EventBody, RunCompleted, RunCreated, StepStarted, StepSucceeded};
use windlass_model::{
    Digest, EventSeq, NodeIndex, Payload, Priority, RunId, RunStatus, SessionId, TenantId, Timestamp,
    VersionId,
};
use windlass_store::{
    ApprovalChange, Definition, Fence, Guard, Labels, NewRun, Pin, Projection, RunRow, RunWrite, Runs,
    Sessions, Workflows,
};
use windlass_store_postgres::PostgresStore;

const TENANT: TenantId = TenantId::DEFAULT;
const STEPS: u16 = 5;
const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let (server, url) = match std::env::args().nth(1) {
        Some(url) => (None, url),
        None => {
            let server = Postgres::start();
            let url = server.url();
            (Some(server), url)
        }
    };
    let meter = Meter { server };
    let store = PostgresStore::open(&url).await.expect("the database can be opened");
    store.renew_session(session(), HOUR).await.expect("a session");
    let definition = Definition { name: "bench".into(), hash: Digest::of(b"{}"), spec: "{}".into() };
    let version = store.put_inline(TENANT, definition).await.expect("a definition");

    one_by_one(&store, &meter, version, 2_000).await;
    for in_flight in [2, 8, 32, 128, 256, 512] {
        together(&store, &meter, version, in_flight, 5_000).await;
    }
    // Once more, now that the tables are large.
    one_by_one(&store, &meter, version, 2_000).await;
}

async fn one_by_one(store: &PostgresStore, meter: &Meter, version: VersionId, ticks: u16) {
    let id = create(store, version).await;
    let mut run = claim(store, id).await;
    let mut spans = Vec::with_capacity(usize::from(ticks));
    let (cpu, begin) = (meter.cpu_seconds(), Instant::now());
    for attempt in 1..=ticks {
        let before = Instant::now();
        run.tick(store, attempt).await;
        spans.push(before.elapsed());
    }
    let (total, cpu) = (begin.elapsed(), meter.cpu_seconds() - cpu);
    spans.sort();
    let at = |percent: usize| spans[spans.len() * percent / 100].as_micros();
    println!(
        "one by one: {:>6.0} ticks/s, p50 {} µs, p99 {} µs, {:.3} CPU s per 1,000",
        f64::from(ticks) / total.as_secs_f64(),
        at(50),
        at(99),
        cpu / f64::from(ticks) * 1_000.0,
    );
}

async fn together(
    store: &Arc<PostgresStore>,
    meter: &Meter,
    version: VersionId,
    in_flight: usize,
    runs: usize,
) {
    let each = runs / in_flight;
    let creates = phase(meter, in_flight, || {
        let store = store.clone();
        async move {
            let mut ids = Vec::with_capacity(each);
            for _ in 0..each {
                ids.push(create(&store, version).await);
            }
            ids
        }
    });
    let (ids, creating) = creates.await;
    let mut ids = ids.into_iter();
    let claims = phase(meter, in_flight, || {
        let (store, ids) = (store.clone(), ids.next().unwrap_or_default());
        async move {
            let mut held = Vec::with_capacity(ids.len());
            for id in ids {
                held.push(claim(&store, id).await);
            }
            held
        }
    });
    let (held, claiming) = claims.await;
    let mut held = held.into_iter();
    let ticks = phase(meter, in_flight, || {
        let (store, mine) = (store.clone(), held.next().unwrap_or_default());
        async move {
            for mut run in mine {
                for attempt in 1..=STEPS {
                    run.tick(&store, attempt).await;
                }
                run.end(&store).await;
            }
        }
    });
    let (_, ticking) = ticks.await;
    let runs = (each * in_flight) as f64;
    println!(
        "{in_flight:>4} in flight: {}; creates {}; claims {}",
        ticking.rate("ticks", runs * (f64::from(STEPS) + 1.0)),
        creating.rate("runs", runs),
        claiming.rate("runs", runs),
    );
}

struct Spent {
    span: Duration,
    cpu_seconds: f64,
}

impl Spent {
    fn rate(&self, what: &str, count: f64) -> String {
        let (rate, cpu) = (count / self.span.as_secs_f64(), self.cpu_seconds / count * 1_000.0);
        format!("{rate:>6.0} {what}/s ({cpu:.3} CPU s per 1,000)")
    }
}

async fn phase<T, F>(meter: &Meter, in_flight: usize, mut work: impl FnMut() -> F) -> (Vec<T>, Spent)
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    let (cpu, begin) = (meter.cpu_seconds(), Instant::now());
    let mut tasks = JoinSet::new();
    for _ in 0..in_flight {
        tasks.spawn(work());
    }
    let done = tasks.join_all().await;
    (done, Spent { span: begin.elapsed(), cpu_seconds: meter.cpu_seconds() - cpu })
}

async fn create(store: &PostgresStore, version_id: VersionId) -> RunId {
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
    id
}

async fn claim(store: &PostgresStore, id: RunId) -> Held {
    let claimed = store.claim_run(id, session(), HOUR).await.expect("a claim");
    Held { row: claimed.expect("it is queued").row }
}

/// A run that this process holds.
struct Held {
    row: RunRow,
}

impl Held {
    /// A step has succeeded, the next one begins.
    async fn tick(&mut self, store: &PostgresStore, attempt: u16) {
        let output = Payload::from(json!({"text": "x".repeat(150), "n": attempt}));
        let seq = self.row.next_seq.0;
        let events = vec![
            event(seq, Some(attempt), Some(&self.row), StepSucceeded { output, artifacts: Vec::new() }),
            event(seq + 1, Some(attempt), Some(&self.row), StepStarted::default()),
        ];
        self.write(store, events, RunStatus::Running).await;
    }

    async fn end(&mut self, store: &PostgresStore) {
        let body = RunCompleted { output: Payload::null() };
        let events = vec![event(self.row.next_seq.0, None, Some(&self.row), body)];
        self.write(store, events, RunStatus::Completed).await;
    }

    async fn write(&mut self, store: &PostgresStore, events: Vec<Event>, status: RunStatus) {
        let count = events.len() as u32;
        let ended = status.is_terminal().then_some(ApprovalChange::ClosedAll);
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
            approvals: ended.into_iter().collect(),
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

/// Counts the processor time of this process, and of the server when it is ours.
struct Meter {
    server: Option<Postgres>,
}

impl Meter {
    fn cpu_seconds(&self) -> f64 {
        let servers = self.server.iter().flat_map(Postgres::process_ids);
        std::iter::once(std::process::id()).chain(servers).map(cpu_seconds).sum()
    }
}

/// User and system time of a process.
fn cpu_seconds(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |index: usize| fields.get(index).and_then(|it| it.parse::<f64>().ok()).unwrap_or_default();
    // Fields 14 and 15 of proc(5), in hundredths of a second.
    (ticks(11) + ticks(12)) / 100.0
}
