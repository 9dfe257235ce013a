//! W6: growth. Does a long run slow down, and does a full house?

use anyhow::Result;

use crate::Plan;
use crate::measure::{create_runs, newest_runs, step_times_ms, step_times_of, wait_until_idle};
use crate::report::{Report, percentile};
use crate::server::Server;
use crate::w1::seconds_between;

/// Finished runs in a full house.
const FINISHED_RUNS: usize = 20_000;
/// Runs by which the throughput is measured, in an empty and in a full house.
const PROBE_RUNS: usize = 2_000;
const STEPS: usize = 5;
const LONG_RUN_STEPS: usize = 1_000;
/// Long runs, one after another; the line holds the median of their ratios.
const LONG_RUNS: usize = 5;
const WARM_UP_RUNS: usize = 50;

pub(crate) async fn measure(plan: &Plan) -> Result<Report> {
    let finished = plan.runs.unwrap_or(FINISHED_RUNS);
    let server = Server::start(&plan.folder)?;
    server.publish("w6", STEPS).await?;
    create_runs(&server, "w6", WARM_UP_RUNS, plan.connections).await?;
    wait_until_idle(&server).await?;

    let empty = probe(&server, plan).await?;
    create_runs(&server, "w6", finished.saturating_sub(PROBE_RUNS), plan.connections).await?;
    wait_until_idle(&server).await?;
    let cpu = server.cpu_seconds()?;
    let flushes = server.device_flushes();
    let full = probe(&server, plan).await?;
    let cpu = server.cpu_seconds()? - cpu;
    let flushes = server.device_flushes().zip(flushes).map(|(after, before)| after - before);
    let spans = newest_runs(&server, PROBE_RUNS).await?;
    let mut step_ms = step_times_ms(&server, &spans).await?;
    let peak = server.peak_mib()?;
    let bytes = server.stop()?;
    let (ratio, mut long_step_ms) = long_runs(plan).await?;

    let total = (PROBE_RUNS * STEPS) as f64;
    let mut report = Report::new("w6");
    report
        .set("runs", finished as f64)
        .set("steps", total)
        .set("steps_per_s", full)
        .set("steps_per_s_empty", empty)
        .set("ratio_full_to_empty", full / empty)
        .set("cpu_s_per_1k_steps", cpu / total * 1_000.0)
        .set_if("step_p50_ms", percentile(&mut step_ms, 50.0))
        .set_if("step_p99_ms", percentile(&mut step_ms, 99.0))
        .set_if("long_run_step_p50_ms", percentile(&mut long_step_ms, 50.0))
        .set_if("ratio_990_to_10", ratio)
        .set_if("flushes_per_step", flushes.map(|flushes| flushes / total))
        .set("peak_mib", peak)
        .set("bytes_per_run", bytes as f64 / (finished + PROBE_RUNS + WARM_UP_RUNS) as f64);
    Ok(report)
}

/// Steps per second of some runs more.
async fn probe(server: &Server, plan: &Plan) -> Result<f64> {
    create_runs(server, "w6", PROBE_RUNS, plan.connections).await?;
    wait_until_idle(server).await?;
    let spans = newest_runs(server, PROBE_RUNS).await?;
    Ok((PROBE_RUNS * STEPS) as f64 / seconds_between(&spans))
}

/// The median time of the last hundred steps against that of a hundred early ones, and the times of all steps.
///
/// In a house of their own: their logs would weigh on what a short run costs on disk.
async fn long_runs(plan: &Plan) -> Result<(Option<f64>, Vec<f64>)> {
    // Medians: one flush that waits for somebody else's would outweigh twenty steps.
    let median = |times: &[f64]| percentile(&mut times.to_vec(), 50.0).unwrap_or(f64::NAN);
    let server = Server::start(&plan.folder)?;
    server.publish("long", LONG_RUN_STEPS).await?;
    let mut connection = server.connect().await?;
    let (mut ratios, mut all) = (Vec::new(), Vec::new());
    for _ in 0..LONG_RUNS {
        create_runs(&server, "long", 1, 1).await?;
        wait_until_idle(&server).await?;
        let run = newest_runs(&server, 1).await?;
        let times = step_times_of(&mut connection, &run[0].id).await?;
        ratios.push(median(&times[900..]) / median(&times[10..110]));
        all.extend(times);
    }
    server.stop()?;
    Ok((percentile(&mut ratios, 50.0), all))
}
