//! Processes that stall while others go on.

use scenarios::{House, Mode};
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
