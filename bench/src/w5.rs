//! W5: a worker is killed in the middle of many runs. How soon is all done, what is lost, what happens twice?

use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::task::LocalSet;

use crate::connection::Connection;
use crate::house::House;
use crate::measure::{create_runs, events_of, milliseconds, newest_runs_as_they_are, time, wait_until_idle};
use crate::report::Report;
use crate::sink::Sink;
use crate::{Mode, Plan};

const RUNS: usize = 500;
const STEPS: usize = 5;
const WARM_UP_RUNS: usize = 20;
/// Fine enough to kill in the middle of runs that last for some hundred milliseconds.
const LOOK_EVERY: Duration = Duration::from_micros(500);
/// Nobody is judged dead in the first seconds of a database server, when everyone is coming back. Deaths are of
/// interest in servers that have been up for a while.
const SERVER_AGE: Duration = Duration::from_secs(4);

pub(crate) async fn measure(plan: &Plan) -> Result<Report> {
    LocalSet::new()
        .run_until(async {
            let killed = kill_and_restart(plan).await?;
            let takeover = if plan.mode == Mode::Fleet { Some(takeover(plan).await?) } else { None };
            let mut report = Report::new("w5", plan.mode);
            report
                .set("runs", killed.runs as f64)
                .set("steps", (killed.runs * STEPS) as f64)
                .set("kill_to_done_s", killed.seconds_to_done)
                .set("lost", killed.lost as f64)
                .set("bodies_twice", killed.twice as f64)
                .set("bodies_twice_after_commit", killed.twice_after_commit as f64)
                .set_if("takeover_s", takeover.as_ref().map(|it| it.first_seconds))
                .set_if("takeover_last_s", takeover.as_ref().map(|it| it.last_seconds))
                .set_if("takeover_runs", takeover.as_ref().map(|it| it.runs as f64));
            Ok(report)
        })
        .await
}

struct Killed {
    runs: usize,
    seconds_to_done: f64,
    /// Runs that did not complete.
    lost: usize,
    /// Steps whose body ran more than once, and those among them whose success had been committed before.
    twice: usize,
    twice_after_commit: usize,
}

/// The only worker dies, or the process that is everything, and is started again at once.
async fn kill_and_restart(plan: &Plan) -> Result<Killed> {
    let runs = plan.runs.unwrap_or(RUNS);
    let (sink, mut house) = open(plan).await?;
    bring_to_the_middle(&house, &sink, runs, plan).await?;
    let victim = house.workers.first_mut().or(house.doors.first_mut()).context("somebody works")?;
    let killed_at = Timestamp::now();
    victim.kill()?;
    victim.start_again()?;
    wait_until_idle(&house).await?;

    let mut connection = house.connect().await?;
    let mut done_at = killed_at;
    let mut lost = 0;
    for run in newest_runs_as_they_are(&house, runs).await? {
        match run["status"] == "completed" {
            true => done_at = done_at.max(time(&run["ended_at"])?),
            false => lost += 1,
        }
    }
    let repeated = sink.repeated();
    let mut twice_after_commit = 0;
    for (path, times) in &repeated {
        twice_after_commit += usize::from(ran_after_commit(&mut connection, path, *times).await?);
    }
    house.stop()?;
    let seconds_to_done = milliseconds(killed_at, done_at) / 1_000.0;
    Ok(Killed { runs, seconds_to_done, lost, twice: repeated.len(), twice_after_commit })
}

struct Takeover {
    first_seconds: f64,
    last_seconds: f64,
    runs: usize,
}

/// One of two workers dies and stays dead: when does the other take its runs?
async fn takeover(plan: &Plan) -> Result<Takeover> {
    let runs = plan.runs.unwrap_or(RUNS);
    let plan = &Plan { workers: 2, ..plan.clone() };
    let (sink, mut house) = open(plan).await?;
    bring_to_the_middle(&house, &sink, runs, plan).await?;
    let killed_at = Timestamp::now();
    house.workers.remove(0).kill()?;
    wait_until_idle(&house).await?;

    let mut connection = house.connect().await?;
    let mut seconds = Vec::new();
    for run in newest_runs_as_they_are(&house, runs).await? {
        for event in events_of(&mut connection, run["id"].as_str().context("a run has an id")?).await? {
            // The first engine of a run takes it from nobody.
            if event["event"]["type"] == "run.engine_taken" && event["event"]["epoch"] != 1 {
                seconds.push(milliseconds(killed_at, time(&event["at"])?) / 1_000.0);
            }
        }
    }
    house.stop()?;
    let first_seconds =
        seconds.iter().copied().min_by(f64::total_cmp).context("the dead worker held nothing")?;
    let last_seconds = seconds.iter().copied().fold(0.0, f64::max);
    Ok(Takeover { first_seconds, last_seconds, runs: seconds.len() })
}

/// Each step tells the sink of itself: its path is the run and the node.
async fn open(plan: &Plan) -> Result<(Sink, House)> {
    let (sink, url) = Sink::open().await?;
    let house = House::open_with(plan, &[("WINDLASS_EGRESS_ALLOW", "127.0.0.1/32".to_owned())])?;
    let step = |n: usize| {
        let url = format!("{url}/${{{{ run.id }}}}/s{n}");
        json!({ "id": format!("s{n}"), "type": "http", "with": { "url": url } })
    };
    let steps: Vec<Value> = (0..STEPS).map(step).collect();
    house.publish(json!({ "version": 1, "name": "w5", "type": "steps", "steps": steps })).await?;
    create_runs(&house, "w5", WARM_UP_RUNS, plan.connections).await?;
    wait_until_idle(&house).await?;
    tokio::time::sleep(SERVER_AGE).await;
    Ok((sink, house))
}

/// Creates the runs and returns when half of their steps are done.
async fn bring_to_the_middle(house: &House, sink: &Sink, runs: usize, plan: &Plan) -> Result<()> {
    let half = sink.count() + runs * STEPS / 2;
    create_runs(house, "w5", runs, plan.connections).await?;
    while sink.count() < half {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// Whether a body ran once more after its success was in the log. Each time that it may run stands there before it does,
/// as the start of an attempt.
async fn ran_after_commit(connection: &mut Connection, path: &str, times: usize) -> Result<bool> {
    let (run, node) = path.trim_start_matches('/').split_once('/').context("a run and a node")?;
    let events = events_of(connection, run).await?;
    let of_node: Vec<_> =
        events.iter().map(|event| &event["event"]).filter(|event| event["node"] == node).collect();
    let starts = of_node.iter().filter(|event| event["type"] == "step.started").count();
    let after_success = of_node.iter().skip_while(|event| event["type"] != "step.succeeded").skip(1);
    Ok(times > starts || after_success.count() > 0)
}
