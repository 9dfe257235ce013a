//! W6: growth. Does a long run slow down, and does a full house?

use anyhow::Result;

use crate::Plan;
use crate::house::House;
use crate::measure::{create_runs, newest_runs, step_times_ms, step_times_of, wait_until_idle};
use crate::meter::{self, Meter};
use crate::report::{Report, percentile};
use crate::w1::seconds_between;

/// Finished runs in a full house.
const FINISHED_RUNS: usize = 20_000;
/// Runs by which the throughput is measured.
const PROBE_RUNS: usize = 2_000;
const STEPS: usize = 5;
const LONG_RUN_STEPS: usize = 5_000;
/// Steps at its beginning and at its end whose times are compared.
const COMPARED_STEPS: usize = 500;
/// Long runs, one after another; the line holds the median of their ratios.
const LONG_RUNS: usize = 5;
/// A full and an empty house are measured in turns, so often; the line holds the medians.
const TURNS: usize = 5;
const WARM_UP_RUNS: usize = 500;

pub(crate) async fn measure(plan: &Plan) -> Result<Report> {
    let finished = plan.runs.unwrap_or(FINISHED_RUNS);
    let house = open_house(plan).await?;
    create_runs(&house, "w6", finished.saturating_sub(WARM_UP_RUNS), plan.connections).await?;
    wait_until_idle(&house).await?;
    let (mut full, mut empty) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        full.push(probe(&house, plan).await?);
        let fresh = open_house(plan).await?;
        empty.push(probe(&fresh, plan).await?);
        fresh.stop()?;
    }
    let mut ratios: Vec<f64> =
        full.iter().zip(&empty).map(|(full, empty)| full.steps_per_s / empty.steps_per_s).collect();
    let spans = newest_runs(&house, PROBE_RUNS).await?;
    let mut step_ms = step_times_ms(&house, &spans).await?;
    let mut report = Report::new("w6", plan.mode);
    meter::write_peaks(&house, &mut report)?;
    let bytes = house.stop()?;
    let (ratio, mut long_step_ms) = long_runs(plan).await?;

    let median = |probes: &[Probe], number: fn(&Probe) -> f64| {
        percentile(&mut probes.iter().map(number).collect::<Vec<_>>(), 50.0)
    };
    report
        .set("runs", finished as f64)
        .set("steps", (PROBE_RUNS * STEPS) as f64)
        .set_if("steps_per_s", median(&full, |probe| probe.steps_per_s))
        .set_if("steps_per_s_empty", median(&empty, |probe| probe.steps_per_s))
        .set_if("ratio_full_to_empty", percentile(&mut ratios, 50.0))
        .set_if("cpu_s_per_1k_steps", median(&full, |probe| probe.cpu_s_per_1k_steps))
        .set_if("cpu_s_per_1k_steps_empty", median(&empty, |probe| probe.cpu_s_per_1k_steps))
        .set_if("step_p50_ms", percentile(&mut step_ms, 50.0))
        .set_if("step_p99_ms", percentile(&mut step_ms, 99.0))
        .set_if("long_run_step_p50_ms", percentile(&mut long_step_ms, 50.0))
        .set_if("ratio_late_to_early", ratio)
        .set("bytes_per_run", bytes as f64 / (finished + TURNS * PROBE_RUNS) as f64);
    Ok(report)
}

async fn open_house(plan: &Plan) -> Result<House> {
    let house = House::open(plan)?;
    house.publish_noops("w6", STEPS).await?;
    create_runs(&house, "w6", WARM_UP_RUNS, plan.connections).await?;
    wait_until_idle(&house).await?;
    Ok(house)
}

struct Probe {
    steps_per_s: f64,
    cpu_s_per_1k_steps: f64,
}

/// What some more runs take.
async fn probe(house: &House, plan: &Plan) -> Result<Probe> {
    let meter = Meter::begin(house)?;
    create_runs(house, "w6", PROBE_RUNS, plan.connections).await?;
    wait_until_idle(house).await?;
    let cpu = meter.cpu_seconds(house)?;
    let spans = newest_runs(house, PROBE_RUNS).await?;
    let steps = (PROBE_RUNS * STEPS) as f64;
    Ok(Probe { steps_per_s: steps / seconds_between(&spans), cpu_s_per_1k_steps: cpu / steps * 1_000.0 })
}

/// The median time of the last steps against that of early ones, and the times of all steps.
///
/// In a house of their own: their logs would weigh on what a short run costs on disk.
async fn long_runs(plan: &Plan) -> Result<(Option<f64>, Vec<f64>)> {
    // Medians: one flush that waits for somebody else's would outweigh twenty steps.
    let median = |times: &[f64]| percentile(&mut times.to_vec(), 50.0).unwrap_or(f64::NAN);
    let house = House::open(plan)?;
    house.publish_noops("long", LONG_RUN_STEPS).await?;
    let mut connection = house.connect().await?;
    let (mut ratios, mut all) = (Vec::new(), Vec::new());
    for _ in 0..LONG_RUNS {
        create_runs(&house, "long", 1, 1).await?;
        wait_until_idle(&house).await?;
        let run = newest_runs(&house, 1).await?;
        let times = step_times_of(&mut connection, &run[0].id).await?;
        let late = times.len().saturating_sub(COMPARED_STEPS);
        // The very first ones warm caches up.
        ratios.push(median(&times[late..]) / median(&times[10..10 + COMPARED_STEPS]));
        all.extend(times);
    }
    house.stop()?;
    Ok((percentile(&mut ratios, 50.0), all))
}
