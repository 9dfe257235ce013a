//! W2: one run at a time, seen by a client that waits for its end.

use anyhow::Result;

use crate::Plan;
use crate::house::House;
use crate::measure::{newest_runs, run_and_wait_ms, step_times_ms};
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
        run_and_wait_ms(&mut connection, "w2").await?;
    }

    let meter = Meter::begin(&house)?;
    let mut all_ms = Vec::with_capacity(runs);
    for _ in 0..runs {
        all_ms.push(run_and_wait_ms(&mut connection, "w2").await?);
    }
    let used = meter.read(&house)?;

    let spans = newest_runs(&house, runs).await?;
    let mut step_ms = step_times_ms(&house, &spans).await?;

    let total = (runs * steps) as f64;
    let mut report = Report::new("w2", plan.mode);
    report
        .set("runs", runs as f64)
        .set("steps", total)
        .set("steps_per_s", total / all_ms.iter().sum::<f64>() * 1_000.0);
    used.write_to(&mut report, total);
    report
        .set_if("e2e_p50_ms", percentile(&mut all_ms, 50.0))
        .set_if("e2e_p99_ms", percentile(&mut all_ms, 99.0))
        .set_if("step_p50_ms", percentile(&mut step_ms, 50.0))
        .set_if("step_p99_ms", percentile(&mut step_ms, 99.0));
    meter::write_peaks(&house, &mut report)?;
    house.stop()?;
    Ok(report)
}
