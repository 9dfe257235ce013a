//! W1: many short runs, created as fast as the house takes them.

use anyhow::Result;

use crate::Plan;
use crate::house::House;
use crate::measure::{Span, create_runs, milliseconds, newest_runs, step_times_ms, wait_until_idle};
use crate::meter::{self, Meter};
use crate::report::{Report, percentile};

const RUNS: usize = 2_000;
const STEPS: usize = 5;
/// Runs before the measurement: caches, prepared statements and pools are then as in any house that is up.
const WARM_UP_RUNS: usize = 50;

pub(crate) async fn measure(plan: &Plan) -> Result<Report> {
    let (runs, steps) = (plan.runs.unwrap_or(RUNS), plan.steps.unwrap_or(STEPS));
    let house = House::open(plan)?;
    house.publish_noops("w1", steps).await?;
    create_runs(&house, "w1", WARM_UP_RUNS, plan.connections).await?;
    wait_until_idle(&house).await?;

    let meter = Meter::begin(&house)?;
    create_runs(&house, "w1", runs, plan.connections).await?;
    wait_until_idle(&house).await?;
    let used = meter.read(&house)?;

    let spans = newest_runs(&house, runs).await?;
    let mut step_ms = step_times_ms(&house, &spans).await?;
    let mut run_ms: Vec<f64> = spans.iter().map(Span::ms).collect();

    let total = (runs * steps) as f64;
    let mut report = Report::new("w1", plan.mode);
    report.set("runs", runs as f64).set("steps", total).set("steps_per_s", total / seconds_between(&spans));
    used.write_to(&mut report, total);
    report
        .set_if("e2e_p50_ms", percentile(&mut run_ms, 50.0))
        .set_if("e2e_p99_ms", percentile(&mut run_ms, 99.0))
        .set_if("step_p50_ms", percentile(&mut step_ms, 50.0))
        .set_if("step_p99_ms", percentile(&mut step_ms, 99.0));
    meter::write_peaks(&house, &mut report)?;
    house.stop()?;
    Ok(report)
}

/// From the first run's creation to the last one's end, by the database's clock.
pub(crate) fn seconds_between(spans: &[Span]) -> f64 {
    let first = spans.iter().map(|span| span.created_at).min();
    let last = spans.iter().map(|span| span.ended_at).max();
    first.zip(last).map_or(0.0, |(first, last)| milliseconds(first, last) / 1_000.0)
}
