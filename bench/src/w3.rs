//! W3: one run with many parallel children and a join, seen by a client that waits for its end.

use anyhow::Result;
use serde_json::json;

use crate::Plan;
use crate::house::House;
use crate::measure::{newest_runs, run_and_wait_ms};
use crate::meter::{self, Meter};
use crate::report::{Report, percentile};

const RUNS: usize = 20;
const CHILDREN: usize = 200;
const WARM_UP_RUNS: usize = 5;

pub(crate) async fn measure(plan: &Plan) -> Result<Report> {
    let (runs, children) = (plan.runs.unwrap_or(RUNS), plan.steps.unwrap_or(CHILDREN));
    let house = House::open(plan)?;
    house.publish(fan_out(children)).await?;
    let mut connection = house.connect().await?;
    for _ in 0..WARM_UP_RUNS {
        run_and_wait_ms(&mut connection, "w3").await?;
    }

    let meter = Meter::begin(&house)?;
    let mut all_ms = Vec::with_capacity(runs);
    for _ in 0..runs {
        all_ms.push(run_and_wait_ms(&mut connection, "w3").await?);
    }
    let used = meter.read(&house)?;
    let mut inside_ms: Vec<f64> = newest_runs(&house, runs).await?.iter().map(|span| span.ms()).collect();

    let steps = (runs * (children + 1)) as f64;
    let mut report = Report::new("w3", plan.mode);
    report
        .set("runs", runs as f64)
        .set("children", children as f64)
        .set_if("wall_ms", percentile(&mut all_ms, 50.0))
        .set_if("wall_p99_ms", percentile(&mut all_ms, 99.0))
        .set_if("created_to_ended_p50_ms", percentile(&mut inside_ms, 50.0));
    used.write_to(&mut report, steps);
    meter::write_peaks(&house, &mut report)?;
    house.stop()?;
    Ok(report)
}

/// Children that need nothing, and one node that needs them all.
fn fan_out(children: usize) -> serde_json::Value {
    let ids: Vec<String> = (0..children).map(|n| format!("c{n}")).collect();
    let mut nodes: serde_json::Map<_, _> =
        ids.iter().map(|id| (id.clone(), json!({ "type": "noop" }))).collect();
    nodes.insert("join".into(), json!({ "type": "noop", "needs": ids }));
    json!({ "version": 1, "name": "w3", "type": "dag", "nodes": nodes })
}
