//! When every run has ended, nothing is left of what they held: descriptors, processes, connections, locks, memory.
//!
//! A house is put under the same load again and again, of everything that holds a resource. After each round it must come
//! back to where it was before the first one.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use futures::future::join_all;
use reqwest::Method;
use scenarios::client::{id_of, is_terminal, step_of};
use scenarios::house::{Child, Holdings, Plan, whoever_works_below};
use scenarios::stream::Opened;
use scenarios::{Client, House, Mode, Sink, eventually, tell};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::timeout;

const ROUNDS: usize = 3;
/// Callers side by side, and what each of them sees through in a round, one after another. With children and slices
/// that makes two hundred runs.
const LANES: usize = 16;
const TURNS: usize = 2;
/// Connections of one process to PostgreSQL, few enough to be reached by the load. A pool keeps what it has opened, so
/// that a house under its first load ends with more than it had at first.
const CONNECTIONS_MAX: u64 = 10;
/// Beside those a worker has its keeper's wire, and the lock on the home of its scripts; whoever asks comes and goes.
const DESCRIPTORS_MORE: u64 = 4;
/// Threads that wait for work that blocks end when they have had none for ten seconds; one of them may have had some.
const THREADS_MORE: u64 = 2;
/// The allocator keeps pages at hand, and what is bounded (plans, statements, counters) may still fill up. A round
/// takes a worker through a hundred runs, and 64 KiB of each of them would be 7 MiB.
const GROWTH_BYTES_MAX: u64 = 6 * 1024 * 1024;

const HELD_IN_POSTGRES: &str = "
    with others as (select * from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid())
    select 'connections', count(*) from others
    union all
    select 'transactions that nobody ends', count(*) from others
     where state like 'idle in transaction%' and state_change < clock_timestamp() - interval '5 s'
    union all
    select 'waits for locks', count(*) from others where wait_event_type = 'Lock'
    union all
    select 'leases', count(*) from workflow_runs where lease_owner is not null
    union all
    select 'living sessions', count(*) from worker_sessions where expires_at > clock_timestamp()
    union all
    select 'messages', count(*) from outbox";

/// Everything at once that a run can hold and give back by itself, or by a word from outside.
const EVERYTHING: &str = "version: 1
name: everything
type: dag
nodes:
  calls: { type: http, with: { method: PUT, url: '${{ inputs.sink }}/calls' } }
  leaves: { type: script, run: 'echo kept > $WINDLASS_ARTIFACTS/kept.txt; sleep 300 & echo 1', retry_safe: true }
  keeps: { type: transform, output: '${{ range(2000) | list }}', artifacts: { list.json: '${{ range(2000) | list }}' } }
  naps: { type: wait, for: 50ms }
  listens: { type: signal, name: go }
  asks: { type: approval }
  starts: { type: workflow, workflow: small }
  deals: { type: map, each: '${{ range(6) | list }}', as: n, slice: 3, do: { type: noop } }
";
/// What does not end by itself.
const ENDLESS: &str = "version: 1
name: endless
type: dag
nodes:
  sleeps: { type: script, run: 'sleep 300 & sleep 300', retry_safe: true }
  hangs: { type: http, with: { method: PUT, url: '${{ inputs.sink }}/hangs' } }
  waits: { type: wait, for: 24h }
  asks: { type: approval }
  starts: { type: workflow, workflow: patient }
";
const LATE: &str = "{ version: 1, name: late, type: steps, on_error: fail, steps: [ \
    { id: hangs, type: http, timeout: 200ms, with: { method: PUT, url: '${{ inputs.sink }}/hangs' } } ] }";
const SMALL: &str = "{ version: 1, name: small, type: steps, steps: [ { id: a, type: noop } ] }";
const PATIENT: &str =
    "{ version: 1, name: patient, type: steps, steps: [ { id: a, type: wait, for: 24h } ] }";

/// Somebody who starts runs, looks at them in every way, and sees them to their ends.
struct Caller {
    client: Client,
    sink: String,
    name: String,
}

impl Caller {
    async fn work(self) {
        for turn in 0..TURNS {
            for (workflow, end) in [("everything", "completed"), ("endless", "canceled"), ("late", "failed")]
            {
                let key = format!("{}-{turn}-{workflow}", self.name);
                let body = json!({"workflow": workflow, "inputs": {"sink": self.sink}});
                let run = id_of(&self.client.insist("/v1/workflow-runs", &key, &body).await.ok());
                self.look_and_turn_away(&run).await;
                assert_eq!(self.see_to_its_end(&run).await["status"], end, "{run} is a run of {workflow}");
            }
        }
    }

    /// A stream is dropped in its middle, and a long poll long before its time.
    async fn look_and_turn_away(&self, run: &str) {
        let stream = self.client.try_watch(run, None).await;
        if let Ok(Opened::Stream(mut stream)) = stream {
            stream.next_frame().await;
        }
        let poll = self.client.request(Method::GET, &format!("/v1/workflow-runs/{run}?wait=30s"));
        let _ = timeout(Duration::from_millis(50), self.client.send(poll)).await;
    }

    async fn see_to_its_end(&self, run: &str) -> Value {
        eventually("a run to end", || async {
            let now = self.client.get_run_patiently(run).await;
            let stands = |node: &str, status: &str| step_of(&now, node)["status"] == status;
            if is_terminal(&now["status"]) {
                return Some(now);
            }
            if now["status"] == "paused" {
                self.say(run, "resume", &now["last_activity_at"], &json!({})).await;
            } else if stands("sleeps", "running") && stands("waits", "waiting") {
                self.say(run, "cancel", &Value::Null, &json!({})).await;
            } else if stands("leaves", "succeeded") {
                if stands("listens", "waiting") {
                    self.say(run, "signals/go", &Value::Null, &json!({})).await;
                }
                if let Some(attempt) = step_of(&now, "asks")["waiting_on"]["gate"]["attempt"].as_u64() {
                    let body = json!({"node": "asks", "attempt": attempt});
                    self.say(run, "approve", &Value::Null, &body).await;
                }
            }
            None
        })
        .await
    }

    async fn say(&self, run: &str, verb: &str, time: &Value, body: &Value) {
        let path = format!("/v1/workflow-runs/{run}/{verb}");
        self.client.insist(&path, &format!("{run}-{verb}-{time}"), body).await;
    }
}

fn set_to_work(house: &House, sink: &Sink, round: usize) -> Vec<JoinHandle<()>> {
    let caller = |lane| Caller {
        // What it has opened is closed when it goes.
        client: house.client().apart(),
        sink: sink.url().to_owned(),
        name: format!("{round}-{lane}"),
    };
    (0..LANES).map(|lane| tokio::spawn(caller(lane).work())).collect()
}

/// Of the fleet's processes and servers each is done harm that it must recover from.
async fn do_harm(house: &mut House) {
    let workers = house.workers();
    let victim = workers.last().expect("there are some");
    let has_begun = || async { victim.keeper().map(drop) };
    eventually("a worker to be at work", has_begun).await;
    victim.kill().await;
    victim.rise().await;
    house.query(
        "select pg_terminate_backend(pid) from pg_stat_activity \
         where datname = current_database() and pid <> pg_backend_pid()",
    );
    house.redis().kill();
    house.redis().start_again();
}

/// What is held by each process, by name.
type Held = BTreeMap<String, Holdings>;

async fn held(house: &House) -> Held {
    let held = house.processes().iter().map(async |it| (it.name().to_owned(), it.holdings().await));
    join_all(held).await.into_iter().collect()
}

/// What is held that nobody needs any more.
async fn left_over(house: &House, mode: Mode, before: &Held, temporary: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for (name, now) in held(house).await {
        let before = &before[&name];
        let more = if mode == Mode::Fleet { CONNECTIONS_MAX } else { 0 } + DESCRIPTORS_MORE;
        if now.descriptors > before.descriptors + more {
            found.push(format!("{name}: {} descriptors, before {}", now.descriptors, before.descriptors));
        }
        if now.threads > before.threads + THREADS_MORE {
            found.push(format!("{name}: {} threads, before {}", now.threads, before.threads));
        }
        let keepers = now.children.iter().filter(|child| child.is_keeper()).count();
        if now.children.len() > keepers || keepers > 1 {
            found.push(format!("{name}: {:?}", now.children));
        }
    }
    let others: Vec<Child> = whoever_works_below(temporary);
    found.extend(others.iter().map(|it| format!("of a script: {it:?}")));
    found.extend(rooms_below(temporary, house.workers().len()));
    if mode == Mode::Fleet {
        found.extend(left_in_servers(house));
    }
    found
}

/// A home for each worker, and no room of a script in it.
fn rooms_below(temporary: &Path, workers: usize) -> Vec<String> {
    let below = |folder: &Path| -> Vec<_> {
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        entries.flatten().map(|entry| entry.path()).collect()
    };
    let homes = below(temporary);
    let mut found: Vec<_> =
        homes.iter().flat_map(|home| below(home)).map(|it| it.display().to_string()).collect();
    if homes.len() > workers {
        found.push(format!("{homes:?}"));
    }
    found
}

fn left_in_servers(house: &House) -> Vec<String> {
    let (processes, workers) = (house.processes().len() as u64, house.workers().len() as u64);
    let redis = house.redis_holdings();
    let mut found = Vec::new();
    // News in and out for each process, rings for each worker, and whoever asks.
    if redis.clients > 2 * processes + workers + 1 || redis.channels != workers || redis.keys != 0 {
        found.push(format!("{redis:?}"));
    }
    for line in house.query(HELD_IN_POSTGRES).lines() {
        let (what, count) = line.split_once('|').expect("a name and a number");
        let expected = match what {
            "connections" => 0..=processes * CONNECTIONS_MAX,
            "living sessions" => workers..=workers,
            _ => 0..=0,
        };
        if !expected.contains(&count.parse().expect("a number")) {
            found.push(format!("{count} {what}"));
        }
    }
    found
}

async fn until_at_rest(house: &House, mode: Mode, before: &Held, temporary: &Path) -> Held {
    let said = RefCell::new(Vec::new());
    eventually("everything to be as it was before", || async {
        let found = left_over(house, mode, before, temporary).await;
        if *said.borrow() != found {
            eprintln!("left over: {found:#?}");
            said.replace(found.clone());
        }
        found.is_empty().then_some(())
    })
    .await;
    held(house).await
}

async fn rounds(mode: Mode) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let temporary = folder.path().to_str().expect("a plain path");
    let connections_max = CONNECTIONS_MAX.to_string();
    let settings = [("TMPDIR", temporary), ("WINDLASS_DATABASE_MAX_CONNECTIONS", &connections_max)];
    let mut house = Plan::of(mode).apis(1).with(&settings).open().await;
    let sink = Sink::open().await;
    sink.hangs("/hangs");
    for definition in [SMALL, PATIENT, EVERYTHING, ENDLESS, LATE] {
        house.push(definition).await;
    }
    house.until_ready().await;
    let before = held(&house).await;
    let mut after = Vec::new();
    for round in 0..ROUNDS {
        let began = Instant::now();
        let callers = set_to_work(&house, &sink, round);
        if round == 0 && mode == Mode::Fleet {
            do_harm(&mut house).await;
        }
        for caller in join_all(callers).await {
            caller.expect("no caller was disappointed");
        }
        let worked = began.elapsed();
        let rested = until_at_rest(&house, mode, &before, folder.path()).await;
        eprintln!("round {round}: {worked:?} of work, at rest after {:?}", began.elapsed());
        after.push(rested);
    }
    for (name, last) in &after[ROUNDS - 1] {
        let growth = last.memory_bytes.saturating_sub(after[ROUNDS - 2][name].memory_bytes);
        eprintln!("{name} has {} KiB, {growth} bytes more than a round before", last.memory_bytes / 1024);
        assert!(growth < GROWTH_BYTES_MAX, "{name} has grown by {growth} bytes in a round");
    }
    house.close().await;
}

#[test]
fn one_process_gives_back_all_that_its_runs_have_held() {
    tell(rounds(Mode::Embedded));
}

#[test]
fn a_fleet_gives_back_all_that_its_runs_have_held_although_it_was_harmed() {
    tell(rounds(Mode::Fleet));
}
