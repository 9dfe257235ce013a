//! W2: one run at a time, seen by a client that waits for its end.

use std::time::Instant;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::Plan;
use crate::connection::create_request;
use crate::measure::{newest_runs, step_times_ms};
use crate::report::{Report, percentile};
use crate::server::Server;

const RUNS: usize = 50;
const STEPS: usize = 10;
const WARM_UP_RUNS: usize = 10;

pub(crate) async fn measure(plan: &Plan) -> Result<Report> {
    let (runs, steps) = (plan.runs.unwrap_or(RUNS), plan.steps.unwrap_or(STEPS));
    let server = Server::start(&plan.folder)?;
    server.publish("w2", steps).await?;
    let mut connection = server.connect().await?;
    let request = create_request("w2", true);
    let mut run_ms = Vec::with_capacity(runs);
    let (mut cpu, mut flushes) = (0.0, None);
    for n in 0..WARM_UP_RUNS + runs {
        if n == WARM_UP_RUNS {
            (cpu, flushes) = (server.cpu_seconds()?, server.device_flushes());
            run_ms.clear();
        }
        let began = Instant::now();
        let (status, body) = connection.exchange(&request).await?;
        run_ms.push(began.elapsed().as_secs_f64() * 1_000.0);
        let run: Value = serde_json::from_slice(&body)?;
        ensure!(status == 201 && run["status"] == "completed", "a run answered {status}: {run}");
    }
    let cpu = server.cpu_seconds()? - cpu;
    let flushes = server.device_flushes().zip(flushes).map(|(after, before)| after - before);

    let spans = newest_runs(&server, runs).await?;
    let mut step_ms = step_times_ms(&server, &spans).await?;
    let peak = server.peak_mib()?;
    server.stop()?;

    let total = (runs * steps) as f64;
    let mut report = Report::new("w2");
    report
        .set("runs", runs as f64)
        .set("steps", total)
        .set("steps_per_s", total / run_ms.iter().sum::<f64>() * 1_000.0)
        .set("cpu_s_per_1k_steps", cpu / total * 1_000.0)
        .set_if("e2e_p50_ms", percentile(&mut run_ms, 50.0))
        .set_if("e2e_p99_ms", percentile(&mut run_ms, 99.0))
        .set_if("step_p50_ms", percentile(&mut step_ms, 50.0))
        .set_if("step_p99_ms", percentile(&mut step_ms, 99.0))
        .set_if("flushes_per_step", flushes.map(|flushes| flushes / total))
        .set("peak_mib", peak);
    Ok(report)
}
