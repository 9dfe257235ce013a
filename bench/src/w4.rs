//! W4: many runs that wait for a person. What do they cost, and how soon does one go on?

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::Plan;
use crate::connection::{Connection, post_request};
use crate::house::House;
use crate::measure::{create_runs, newest_runs_as_they_are, wait_until_idle};
use crate::meter::{self, Meter};
use crate::report::{Report, percentile};

const PARKED_RUNS: usize = 10_000;
/// Parked before memory is looked at: what grows once has grown by then.
const WARM_UP_RUNS: usize = 2_000;
const RESUMED_RUNS: usize = 300;
/// Long enough for memory that is given back late.
const REST: Duration = Duration::from_secs(10);
/// Long enough for what happens every few seconds: the kernel counts in hundredths of a second, of each process twice.
const IDLE: Duration = Duration::from_secs(30);
/// Until the request of a client that waits has surely arrived.
const HEAD_START: Duration = Duration::from_millis(5);

pub(crate) async fn measure(plan: &Plan) -> Result<Report> {
    let parked = plan.runs.unwrap_or(PARKED_RUNS);
    let empty_bytes = {
        let house = open(plan).await?;
        house.stop()?
    };
    let house = open(plan).await?;
    park(&house, WARM_UP_RUNS, plan).await?;
    tokio::time::sleep(REST).await;
    let resident_before = meter::resident_bytes(&house)?;

    park(&house, parked, plan).await?;
    tokio::time::sleep(REST).await;
    let resident = meter::resident_bytes(&house)?;
    let (meter, began) = (Meter::begin(&house)?, Instant::now());
    let bare_wake_us = tokio::task::spawn_blocking(|| meter::bare_wake_us(IDLE)).await??;
    let idle = meter.percent_of_a_core(&house, began.elapsed())?;

    let resumed = RESUMED_RUNS.min(parked);
    let mut resume_ms = Vec::with_capacity(resumed);
    let (mut waiting, mut approving) = (house.connect().await?, house.connect().await?);
    for run in newest_runs_as_they_are(&house, resumed).await? {
        ensure!(run["status"] == "waiting", "a run is not parked: {run}");
        let id = run["id"].as_str().unwrap_or_default();
        resume_ms.push(resume(&mut waiting, &mut approving, id).await?);
    }

    let mut report = Report::new("w4", plan.mode);
    report
        .set("runs", parked as f64)
        .set("memory_bytes_per_run", (resident - resident_before) / parked as f64)
        .set("idle_cpu_percent", idle.windlass)
        .set_if("idle_cpu_percent_postgres", idle.servers.map(|(postgres, _)| postgres))
        .set_if("idle_cpu_percent_redis", idle.servers.map(|(_, redis)| redis))
        .set("bare_wake_us", bare_wake_us)
        .set_if("resume_p50_ms", percentile(&mut resume_ms, 50.0))
        .set_if("resume_p99_ms", percentile(&mut resume_ms, 99.0));
    meter::write_peaks(&house, &mut report)?;
    let bytes = house.stop()? - empty_bytes;
    report.set("disk_bytes_per_run", bytes as f64 / (WARM_UP_RUNS + parked) as f64);
    Ok(report)
}

async fn open(plan: &Plan) -> Result<House> {
    let house = House::open(plan)?;
    let steps = json!([{ "id": "agree", "type": "approval" }]);
    house.publish(json!({ "version": 1, "name": "w4", "type": "steps", "steps": steps })).await?;
    Ok(house)
}

async fn park(house: &House, runs: usize, plan: &Plan) -> Result<()> {
    create_runs(house, "w4", runs, plan.connections).await?;
    wait_until_idle(house).await
}

/// From sending the approval until a client that waits for the run's end has seen it.
async fn resume(waiting: &mut Connection, approving: &mut Connection, run: &str) -> Result<f64> {
    let wait = format!("/v1/workflow-runs/{run}?wait=30s");
    let approve =
        post_request(&format!("/v1/workflow-runs/{run}/approve"), &json!({ "node": "agree", "attempt": 1 }));
    let seen = async {
        let run = waiting.get(&wait).await?;
        anyhow::Ok((run, Instant::now()))
    };
    let approved = async {
        tokio::time::sleep(HEAD_START).await;
        let began = Instant::now();
        let (status, body) = approving.exchange(&approve).await?;
        ensure!(status == 200, "an approval answered {status}: {}", String::from_utf8_lossy(&body));
        Ok(began)
    };
    let ((run, ended), began): ((Value, Instant), Instant) = tokio::try_join!(seen, approved)?;
    ensure!(run["status"] == "completed", "a run did not complete: {run}");
    Ok(ended.duration_since(began).as_secs_f64() * 1_000.0)
}
