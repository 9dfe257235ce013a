//! What all workloads do: create runs, wait until they have ended, read back how long everything took.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;
use serde_json::Value;

use crate::connection::{Connection, create_request};
use crate::house::House;

/// How often the driver asks whether everything has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// A workload that takes longer has stopped moving.
const PATIENCE: Duration = Duration::from_secs(600);
/// Runs whose logs are read back for the times of their steps.
const SAMPLED_RUNS_MAX: usize = 400;
/// The server's own bound for a page.
const PAGE_MAX: usize = 200;

/// Creates so many runs over so many connections, as fast as they are taken.
pub(crate) async fn create_runs(
    house: &House,
    workflow: &str,
    runs: usize,
    connections: usize,
) -> Result<()> {
    let request: Rc<[u8]> = create_request(workflow, false).into();
    let left = Rc::new(Cell::new(runs));
    let tasks = tokio::task::LocalSet::new();
    let mut lanes = Vec::new();
    for _ in 0..connections.min(runs) {
        let (request, left) = (Rc::clone(&request), Rc::clone(&left));
        let mut connection = house.connect().await?;
        lanes.push(tasks.spawn_local(async move {
            while left.get() > 0 {
                left.set(left.get() - 1);
                let (status, body) = connection.exchange(&request).await?;
                ensure!(status == 201, "a create answered {status}: {}", String::from_utf8_lossy(&body));
            }
            Ok(())
        }));
    }
    tasks
        .run_until(async {
            for lane in lanes {
                lane.await??;
            }
            Ok(())
        })
        .await
}

/// How long one run takes whoever created it and waits for its end.
pub(crate) async fn run_and_wait_ms(connection: &mut Connection, workflow: &str) -> Result<f64> {
    let request = create_request(workflow, true);
    let began = Instant::now();
    let (status, body) = connection.exchange(&request).await?;
    let ms = began.elapsed().as_secs_f64() * 1_000.0;
    let run: Value = serde_json::from_slice(&body)?;
    ensure!(status == 201 && run["status"] == "completed", "a run answered {status}: {run}");
    Ok(ms)
}

/// Waits until no run is on its way any more.
pub(crate) async fn wait_until_idle(house: &House) -> Result<()> {
    let mut connection = house.connect().await?;
    let began = Instant::now();
    loop {
        let page = connection.get("/v1/workflow-runs?status=queued&status=running&limit=1").await?;
        if page["items"].as_array().is_some_and(Vec::is_empty) {
            return Ok(());
        }
        if began.elapsed() > PATIENCE {
            bail!("runs are still on their way after {PATIENCE:?}");
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// When a run was created and when it ended.
pub(crate) struct Span {
    pub(crate) id: String,
    pub(crate) created_at: Timestamp,
    pub(crate) ended_at: Timestamp,
}

impl Span {
    pub(crate) fn ms(&self) -> f64 {
        milliseconds(self.created_at, self.ended_at)
    }
}

/// The newest runs, all of which must have completed.
pub(crate) async fn newest_runs(house: &House, count: usize) -> Result<Vec<Span>> {
    let span = |run: Value| {
        ensure!(run["status"] == "completed", "a run did not complete: {run}");
        Ok(Span {
            id: run["id"].as_str().context("a run has an id")?.to_owned(),
            created_at: time(&run["created_at"])?,
            ended_at: time(&run["ended_at"])?,
        })
    };
    newest_runs_as_they_are(house, count).await?.into_iter().map(span).collect()
}

pub(crate) async fn newest_runs_as_they_are(house: &House, count: usize) -> Result<Vec<Value>> {
    let mut connection = house.connect().await?;
    let mut runs = Vec::with_capacity(count);
    let mut cursor = String::new();
    while runs.len() < count {
        let limit = PAGE_MAX.min(count - runs.len());
        let page = connection.get(&format!("/v1/workflow-runs?limit={limit}{cursor}")).await?;
        runs.extend(page["items"].as_array().context("a page has items")?.iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    ensure!(runs.len() == count, "{count} runs were created, {} are there", runs.len());
    Ok(runs)
}

/// The time of every step of some of these runs, from its start to the start of the next one or the run's end:
/// what it took to do it, to write it down, and to go on.
pub(crate) async fn step_times_ms(house: &House, runs: &[Span]) -> Result<Vec<f64>> {
    let mut connection = house.connect().await?;
    let every = runs.len().div_ceil(SAMPLED_RUNS_MAX).max(1);
    let mut times = Vec::new();
    for run in runs.iter().step_by(every) {
        times.extend(step_times_of(&mut connection, &run.id).await?);
    }
    Ok(times)
}

pub(crate) async fn step_times_of(connection: &mut Connection, run: &str) -> Result<Vec<f64>> {
    let events = events_of(connection, run).await?;
    let is_mark = |event: &&Value| {
        event["event"]["type"] == "step.started" || event["event"]["type"] == "run.completed"
    };
    let marks = events.iter().filter(is_mark).map(|event| time(&event["at"])).collect::<Result<Vec<_>>>()?;
    Ok(marks.windows(2).map(|pair| milliseconds(pair[0], pair[1])).collect())
}

/// The whole log of a run.
pub(crate) async fn events_of(connection: &mut Connection, run: &str) -> Result<Vec<Value>> {
    let mut events: Vec<Value> = Vec::new();
    loop {
        let after = events.last().map_or(Some(0), |event| event["seq"].as_u64());
        let after = after.context("an event has a seq")?;
        let path = format!("/v1/workflow-runs/{run}/events?after={after}&limit={PAGE_MAX}");
        let page = connection.get(&path).await?;
        let items = page["items"].as_array().context("a page has items")?;
        events.extend(items.iter().cloned());
        if items.len() < PAGE_MAX {
            return Ok(events);
        }
    }
}

pub(crate) fn time(value: &Value) -> Result<Timestamp> {
    Ok(value.as_str().context("a time is missing")?.parse()?)
}

pub(crate) fn milliseconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64() * 1_000.0
}
