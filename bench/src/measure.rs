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
    let mut connection = house.connect().await?;
    let mut spans = Vec::with_capacity(count);
    let mut cursor = String::new();
    while spans.len() < count {
        let limit = PAGE_MAX.min(count - spans.len());
        let page = connection.get(&format!("/v1/workflow-runs?limit={limit}{cursor}")).await?;
        for run in page["items"].as_array().context("a page has items")? {
            ensure!(run["status"] == "completed", "a run did not complete: {run}");
            spans.push(Span {
                id: run["id"].as_str().context("a run has an id")?.to_owned(),
                created_at: time(&run["created_at"])?,
                ended_at: time(&run["ended_at"])?,
            });
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    ensure!(spans.len() == count, "{count} runs were created, {} are there", spans.len());
    Ok(spans)
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
    let mut marks: Vec<Timestamp> = Vec::new();
    let mut after = 0;
    loop {
        let path = format!("/v1/workflow-runs/{run}/events?after={after}&limit={PAGE_MAX}");
        let page = connection.get(&path).await?;
        let items = page["items"].as_array().context("a page has items")?;
        for item in items {
            let kind = item["event"]["type"].as_str().unwrap_or_default();
            if kind == "step.started" || kind == "run.completed" {
                marks.push(time(&item["at"])?);
            }
            after = item["seq"].as_u64().context("an event has a seq")?;
        }
        if items.len() < PAGE_MAX {
            return Ok(marks.windows(2).map(|pair| milliseconds(pair[0], pair[1])).collect());
        }
    }
}

fn time(value: &Value) -> Result<Timestamp> {
    Ok(value.as_str().context("a time is missing")?.parse()?)
}

pub(crate) fn milliseconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64() * 1_000.0
}
