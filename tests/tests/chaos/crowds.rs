//! Very many at once: timers that are due in the same second, and people who watch.

use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::join_all;
use futures::stream::iter;
use jiff::{SignedDuration, Timestamp};
use scenarios::client::id_of;
use scenarios::house::Plan;
use scenarios::stream::EventStream;
use scenarios::{House, Mode, Recorder, eventually, tell};
use serde_json::{Value, json};

/// As many as are promised, unless `WINDLASS_TIMERS` says otherwise.
const TIMERS: usize = 10_000;
/// Tried first, to see how fast this machine takes them.
const TIMERS_TRIED: usize = 500;
const CREATES_AT_ONCE: usize = 16;
/// The last one fires so much after its time at most.
const FIRED_WITHIN: SignedDuration = SignedDuration::from_secs(30);
/// A run that is created meanwhile starts within; on a busy machine, and in a debug build.
const STARTED_WITHIN: SignedDuration = SignedDuration::from_secs(5);
const START_EVERY: Duration = Duration::from_millis(50);

const NAP: &str = "{ version: 1, name: nap, type: steps, steps: [ \
     { id: nap, type: wait, until: '${{ inputs.at }}' } ] }";
const NOOP: &str = "{ version: 1, name: noop, type: steps, steps: [ { id: a, type: noop } ] }";

async fn nap(house: &House, count: usize, until: Timestamp) -> Vec<String> {
    let body = json!({"workflow": "nap", "inputs": {"at": until.to_string()}});
    let creates = (0..count).map(|_| house.post("/v1/workflow-runs", &body));
    let runs = iter(creates).buffer_unordered(CREATES_AT_ONCE).map(|run| id_of(&run.ok())).collect().await;
    eventually("all to sleep", || async { none_is(house, &["queued", "running"]).await.then_some(()) }).await;
    runs
}

/// Whether no nap stands like this.
async fn none_is(house: &House, statuses: &[&str]) -> bool {
    for status in statuses {
        let page = house.get(&format!("/v1/workflow-runs?workflow=nap&status={status}&limit=1")).await.ok();
        if !page["items"].as_array().expect("a page has items").is_empty() {
            return false;
        }
    }
    true
}

/// Every run of the house, as lists show it.
async fn rows(house: &House, workflow: &str) -> Vec<Value> {
    let (mut rows, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/workflow-runs?workflow={workflow}&limit=200{cursor}");
        let page = house.get(&path).await.ok();
        rows.extend(page["items"].as_array().expect("a page has items").iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return rows,
        }
    }
}

fn time(row: &Value, name: &str) -> Timestamp {
    row[name].as_str().and_then(|at| at.parse().ok()).unwrap_or_else(|| panic!("no {name} in {row:#}"))
}

async fn timers_of_one_second() {
    let timers =
        std::env::var("WINDLASS_TIMERS").map_or(TIMERS, |text| text.parse().expect("a number of timers"));
    let house = Plan::of(Mode::Fleet).apis(1).workers(2).open().await;
    house.push(NAP).await;
    house.push(NOOP).await;
    let began = Instant::now();
    let far = Timestamp::now() + SignedDuration::from_hours(1);
    for run in nap(&house, TIMERS_TRIED, far).await {
        house.cancel(&run).await.ok();
    }
    let needed = began.elapsed() * u32::try_from(timers / TIMERS_TRIED + 1).expect("a small number");
    let due = Timestamp::now() + SignedDuration::try_from(needed).expect("minutes");
    let runs = nap(&house, timers, due).await;
    assert!(Timestamp::now() < due, "this machine became slower; nothing was tried");

    let last = due + FIRED_WITHIN;
    while Timestamp::now() < due - SignedDuration::from_secs(1) {
        tokio::time::sleep(START_EVERY).await;
    }
    let noop = json!({"workflow": "noop", "inputs": {}});
    loop {
        house.post("/v1/workflow-runs", &noop).await.ok();
        tokio::time::sleep(START_EVERY).await;
        if none_is(&house, &["waiting", "queued", "running"]).await || Timestamp::now() > last {
            break;
        }
    }

    let rows_of_naps = rows(&house, "nap").await;
    let naps: Vec<_> = rows_of_naps.iter().filter(|row| row["status"] != "canceled").collect();
    assert_eq!((naps.len(), runs.len()), (timers, timers));
    let mut late: Vec<_> = naps.iter().map(|row| time(row, "ended_at").duration_since(due)).collect();
    late.sort_unstable();
    let (first, worst) = (late[0], late[late.len() - 1]);
    eprintln!("{timers} timers fired between {first:#} and {worst:#} after their time");
    assert!(naps.iter().all(|row| row["status"] == "completed"));
    assert!(first >= SignedDuration::ZERO && worst <= FIRED_WITHIN);

    let meanwhile = rows(&house, "noop").await;
    let started = |row: &Value| time(row, "started_at").duration_since(time(row, "created_at"));
    let mut starts: Vec<_> = meanwhile.iter().map(started).collect();
    starts.sort_unstable();
    let p99 = starts[(starts.len() * 99).div_ceil(100) - 1];
    eprintln!("{} runs started meanwhile: p99 {p99:#}, worst {:#}", starts.len(), starts[starts.len() - 1]);
    assert!(p99 <= STARTED_WITHIN);
    house.close().await;
}

#[test]
fn ten_thousand_timers_of_one_second_fire_once_and_on_time_and_new_runs_start_meanwhile() {
    tell(timers_of_one_second());
}

/// Streams that one API holds.
const WATCHERS: usize = 1_000;
const WATCHED_RUNS: usize = 10;
const BYTES_PER_WATCHER_MAX: u64 = 64 * 1024;
/// All hear the next event, and others are answered, within.
const HEARD_WITHIN: Duration = Duration::from_secs(10);
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);

const LISTEN: &str = "{ version: 1, name: listen, type: steps, steps: [ \
     { id: hear, type: signal, name: go } ] }";

/// Reads on until this kind of event comes.
async fn hear(stream: &mut EventStream, kind: &str) {
    while !stream.next_event().await.expect("the stream stands").is(kind) {}
}

async fn watch(house: &House, runs: &[String], count: usize) -> Vec<EventStream> {
    let opening = (0..count).map(|n| async move {
        let mut stream = house.watch(&runs[n % runs.len()]).await;
        hear(&mut stream, "step.waiting").await;
        stream
    });
    iter(opening).buffer_unordered(CREATES_AT_ONCE).collect().await
}

async fn a_thousand_watch() {
    let house = Plan::of(Mode::Fleet).apis(1).workers(1).open().await;
    let api = house.apis().remove(0);
    let mut runs = Vec::new();
    for _ in 0..WATCHED_RUNS {
        let run = house.run(LISTEN, json!({})).await;
        house.wait_for(&run, "waiting").await;
        runs.push(run);
    }
    // What the first ones cost, no later one costs.
    drop(watch(&house, &runs, 50).await);
    let before = api.resident_bytes();
    let mut streams = watch(&house, &runs, WATCHERS).await;
    let each = api.resident_bytes().saturating_sub(before) / WATCHERS as u64;

    let began = Instant::now();
    for run in &runs {
        house.signal(run, "go", &json!(null)).await.ok();
    }
    let hearing = join_all(streams.iter_mut().map(|stream| hear(stream, "run.completed")));
    let asking = async {
        let mut slowest = Duration::ZERO;
        for run in &runs {
            let asked = Instant::now();
            house.get_run(run).await;
            slowest = slowest.max(asked.elapsed());
        }
        slowest
    };
    let (_, slowest) = tokio::join!(hearing, asking);
    let heard = began.elapsed();
    eprintln!("{each} bytes each, all heard within {heard:?}, others were answered within {slowest:?}");
    assert!(each <= BYTES_PER_WATCHER_MAX);
    assert!(heard < HEARD_WITHIN && slowest < ANSWERED_WITHIN);
    house.close().await;
}

#[test]
fn a_thousand_idle_streams_cost_little_and_all_hear_what_happens_next() {
    tell(a_thousand_watch());
}

async fn a_paused_run_changes_hands() {
    let house = Plan::of(Mode::Fleet).apis(1).workers(2).open().await;
    let recorder = Recorder::open();
    let run = house
        .run(
            &format!(
                "{{ version: 1, name: two, type: steps, steps: [ \
                 {{ id: slow, type: script, command: [sleep, '1'], retry_safe: true }}, \
                 {{ id: then, {} }} ] }}",
                recorder.keys()
            ),
            json!({}),
        )
        .await;
    house.wait_for_step(&run, "slow", "running").await;
    house.pause(&run).await.ok();
    house.wait_for(&run, "paused").await;
    let first = house.holder_of(&run).await;
    first.kill().await;
    house.resume(&run).await.ok();
    house.wait_for(&run, "completed").await;
    assert_eq!(recorder.count(&run, "then"), 1);
    assert!(house.holder_of(&run).await.is_up(), "somebody who lives has ended it");
    house.close().await;
}

#[test]
fn a_paused_run_is_resumed_by_another_worker_when_its_own_has_died() {
    tell(a_paused_run_changes_hands());
}
