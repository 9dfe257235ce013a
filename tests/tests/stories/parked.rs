//! Runs that wait for people by the thousand.

use futures::StreamExt;
use futures::stream::iter;
use scenarios::{House, Mode, eventually, in_every_mode};
use serde_json::json;

in_every_mode!(ten_thousand_parked_runs_use_no_memory);

const PARKED: usize = 10_000;
/// Enough to fill caches, pools and statement plans before memory is measured.
const WARM_UP: usize = 1_000;
/// Requests on their way at once.
const LANES: usize = 32;
/// The database's own page cache is still filling up then, to its bound of a few MiB, and the allocator grows
/// in steps of two. A run that stayed in memory would take several KiB, ten thousand of them many times this.
const GROWTH_BYTES_MAX: u64 = 14 << 20;

async fn ten_thousand_parked_runs_use_no_memory(mode: Mode) {
    let house = House::open(mode).await;
    house.push("{ version: 1, name: parked, type: steps, steps: [ { id: ok, type: approval } ] }").await;
    park(&house, WARM_UP).await;
    let before = house.memory();

    park(&house, PARKED - WARM_UP).await;

    let growth = house.growth_since(&before);
    assert!(growth < GROWTH_BYTES_MAX, "{before:?} bytes before, {growth} more in one process");
    let one = house.all_runs().await.into_iter().next().expect("there are runs");
    house.approve(&one, "ok").await.ok();
    house.wait_for(&one, "completed").await;
    house.close().await;
}

async fn park(house: &House, count: usize) {
    let starts = iter(0..count).map(|_| house.start("parked", json!({}))).buffer_unordered(LANES);
    let last: Vec<String> = starts.collect().await;
    assert_eq!(last.len(), count);
    eventually("every run to be parked", || async {
        let moving = house.get("/v1/workflow-runs?status=queued&status=running&limit=1").await.ok();
        moving["items"].as_array().is_some_and(Vec::is_empty).then_some(())
    })
    .await;
}
