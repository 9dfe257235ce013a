//! Processes that die or stall while others go on.

use std::collections::BTreeSet;
use std::time::Duration;

use scenarios::client::id_of;
use scenarios::house::Plan;
use scenarios::{Client, House, Mode};
use serde_json::json;

use crate::{NOOP, slow, taken_lost_done};

#[tokio::test]
async fn a_worker_that_was_frozen_past_its_lease_writes_nothing_and_takes_new_work() {
    let house = House::open(Mode::Fleet).await;
    let run = house.run(&slow(1), json!({})).await;
    house.wait_for_step(&run, "slow", "running").await;
    let frozen = house.holder_of(&run).await;
    frozen.freeze();
    // Its step ends while it is frozen, and again at the other worker.
    house.wait_for(&run, "completed").await;
    let before = house.events(&run).await.to_string();
    frozen.thaw();
    for other in house.workers().iter().filter(|worker| worker.name() != frozen.name()) {
        other.kill().await;
    }
    let later = house.run(NOOP, json!({})).await;
    house.wait_for(&later, "completed").await;
    frozen.until_ready().await;
    assert_eq!(house.events(&run).await.to_string(), before);
    assert_eq!(taken_lost_done(&house, &run).await, [2, 1, 1]);
    house.close().await;
}

/// Runs that a client insists on, whatever happens meanwhile.
const INSISTED: usize = 150;
/// Between two harms, so that each finds runs on their way.
const PAUSE: Duration = Duration::from_millis(700);

#[tokio::test]
async fn every_run_that_was_asked_for_ends_once_although_every_process_dies_in_turn() {
    let mut house = Plan::of(Mode::Fleet).own_postgres().open().await;
    let yaml = "{ version: 1, name: it, type: steps, steps: [ { id: a, type: transform, output: 1 }, \
                { id: b, type: noop }, { id: c, type: transform, output: '${{ nodes.a.output + 1 }}' } ] }";
    house.push(yaml).await;
    let asking = tokio::spawn(insist(house.client()));
    let (apis, workers) = (house.apis(), house.workers());

    tokio::time::sleep(PAUSE).await;
    workers[0].kill().await;
    house.add_worker(&[]).await;
    tokio::time::sleep(PAUSE).await;
    house.redis().kill();
    tokio::time::sleep(PAUSE).await;
    house.redis().start_again();
    apis[0].kill().await;
    tokio::time::sleep(PAUSE).await;
    house.postgres().kill();
    tokio::time::sleep(PAUSE).await;
    house.postgres().start_again();
    apis[0].rise().await;
    house.redis().flush();
    workers[1].kill().await;
    house.add_worker(&[]).await;

    let runs = asking.await.expect("the client got what it asked for");
    for run in &runs {
        house.wait_for(run, "completed").await;
    }
    assert_eq!(runs.iter().collect::<BTreeSet<_>>().len(), INSISTED, "each key made one run");
    assert_eq!(house.all_runs().await.len(), INSISTED, "no key made two");
    house.close().await;
}

/// Asks for runs, one after the other, each with a key of its own, until somebody says yes.
async fn insist(client: Client) -> Vec<String> {
    let mut runs = Vec::new();
    for n in 0..INSISTED {
        let key = format!("run-{n}");
        let run = client.insist("/v1/workflow-runs", &key, &json!({"workflow": "it"})).await;
        runs.push(id_of(&run.ok()));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    runs
}
