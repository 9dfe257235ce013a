//! W2: one run at a time, seen by a client that waits for its end.

use std::time::Instant;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::Plan;
use crate::connection::{Connection, create_request};
use crate::house::House;
use crate::limit;
use crate::measure::{newest_runs, step_times_ms};
use crate::meter::{self, Meter};
use crate::report::{Report, percentile};

const RUNS: usize = 50;
const STEPS: usize = 10;
const WARM_UP_RUNS: usize = 10;

pub(crate) async fn measure(plan: &Plan) -> Result<Report> {
    let (runs, steps) = (plan.runs.unwrap_or(RUNS), plan.steps.unwrap_or(STEPS));
    let house = House::open(plan)?;
    house.publish_noops("w2", steps).await?;
    let mut connection = house.connect().await?;
    for _ in 0..WARM_UP_RUNS {
        run_ms(&mut connection).await?;
    }

    let meter = Meter::begin(&house)?;
    let mut all_ms = Vec::with_capacity(runs);
    for _ in 0..runs {
        all_ms.push(run_ms(&mut connection).await?);
    }
    let used = meter.read(&house)?;

    let spans = newest_runs(&house, runs).await?;
    let mut step_ms = step_times_ms(&house, &spans).await?;

    let total = (runs * steps) as f64;
    let step_p50_ms = percentile(&mut step_ms, 50.0);
    let mut report = Report::new("w2", plan.mode);
    report
        .set("runs", runs as f64)
        .set("steps", total)
        .set("steps_per_s", total / all_ms.iter().sum::<f64>() * 1_000.0);
    used.write_to(&mut report, total);
    report
        .set_if("e2e_p50_ms", percentile(&mut all_ms, 50.0))
        .set_if("e2e_p99_ms", percentile(&mut all_ms, 99.0))
        .set_if("step_p50_ms", step_p50_ms)
        .set_if("step_p99_ms", percentile(&mut step_ms, 99.0));
    meter::write_peaks(&house, &mut report)?;
    house.stop()?;
    if plan.with_limit {
        let tick_ms = limit::single_tick_ms(plan)?;
        report.set("limit_tick_ms", tick_ms);
        report.set_if("ratio_to_limit", step_p50_ms.map(|step_ms| step_ms / tick_ms));
    }
    Ok(report)
}

/// How long one run takes whoever created it and waits.
async fn run_ms(connection: &mut Connection) -> Result<f64> {
    let request = create_request("w2", true);
    let began = Instant::now();
    let (status, body) = connection.exchange(&request).await?;
    let ms = began.elapsed().as_secs_f64() * 1_000.0;
    let run: Value = serde_json::from_slice(&body)?;
    ensure!(status == 201 && run["status"] == "completed", "a run answered {status}: {run}");
    Ok(ms)
}
