//! W1: many short runs, created as fast as the house takes them.

use anyhow::Result;

use crate::Plan;
use crate::measure::{Span, create_runs, milliseconds, newest_runs, step_times_ms, wait_until_idle};
use crate::report::{Report, percentile};
use crate::server::Server;

const RUNS: usize = 2_000;
const STEPS: usize = 5;
/// Runs before the measurement: caches, prepared statements and pools are then as in any house that is up.
const WARM_UP_RUNS: usize = 50;

pub(crate) async fn measure(plan: &Plan) -> Result<Report> {
    let (runs, steps) = (plan.runs.unwrap_or(RUNS), plan.steps.unwrap_or(STEPS));
    let server = Server::start(&plan.folder)?;
    server.publish("w1", steps).await?;
    create_runs(&server, "w1", WARM_UP_RUNS, plan.connections).await?;
    wait_until_idle(&server).await?;

    let (cpu, flushes) = (server.cpu_seconds()?, server.device_flushes());
    create_runs(&server, "w1", runs, plan.connections).await?;
    wait_until_idle(&server).await?;
    let cpu = server.cpu_seconds()? - cpu;
    let flushes = server.device_flushes().zip(flushes).map(|(after, before)| after - before);

    let spans = newest_runs(&server, runs).await?;
    let mut step_ms = step_times_ms(&server, &spans).await?;
    let mut run_ms: Vec<f64> = spans.iter().map(Span::ms).collect();
    let peak = server.peak_mib()?;
    server.stop()?;

    let total = (runs * steps) as f64;
    let mut report = Report::new("w1");
    report
        .set("runs", runs as f64)
        .set("steps", total)
        .set("steps_per_s", total / seconds_between(&spans))
        .set("cpu_s_per_1k_steps", cpu / total * 1_000.0)
        .set_if("e2e_p50_ms", percentile(&mut run_ms, 50.0))
        .set_if("e2e_p99_ms", percentile(&mut run_ms, 99.0))
        .set_if("step_p50_ms", percentile(&mut step_ms, 50.0))
        .set_if("step_p99_ms", percentile(&mut step_ms, 99.0))
        .set_if("flushes_per_step", flushes.map(|flushes| flushes / total))
        .set("peak_mib", peak);
    Ok(report)
}

/// From the first run's creation to the last one's end, by the database's clock.
pub(crate) fn seconds_between(spans: &[Span]) -> f64 {
    let first = spans.iter().map(|span| span.created_at).min();
    let last = spans.iter().map(|span| span.ended_at).max();
    first.zip(last).map_or(0.0, |(first, last)| milliseconds(first, last) / 1_000.0)
}
