//! A large map is the work of the whole fleet.

use std::cell::Cell;
use std::collections::BTreeSet;

use scenarios::{House, Mode, eventually};
use serde_json::json;

const ITEMS: u64 = 10_000;
/// Items of one slice, when a definition does not say.
const SLICE: u64 = 250;
/// The list, the outputs, and eight slices at a time take 7 MB; with a step for each item in one run it is 23.
const GROWTH_BYTES_MAX: u64 = 20 * 1024 * 1024;

#[tokio::test]
async fn a_map_of_ten_thousand_items_is_spread_over_the_workers_whose_memory_stays_flat() {
    let house = House::open(Mode::Fleet).await;
    house
        .push(
            "{ version: 1, name: large, type: steps, inputs: { type: object }, steps: [ \
             { id: each, type: map, each: '${{ range(inputs.count) | list }}', max_parallel: 64, do: { type: noop } } ], \
             outputs: '${{ nodes.each.output | length }}' }",
        )
        .await;
    // What a worker takes once, it has taken.
    let small = house.start("large", json!({"count": 1_500})).await;
    house.wait_for(&small, "completed").await;
    let before = house.memory();

    let run = house.start("large", json!({"count": ITEMS})).await;
    let growth_bytes = Cell::new(0);
    let ended = eventually("ten thousand items to be done", || async {
        growth_bytes.set(growth_bytes.get().max(house.growth_since(&before)));
        let run = house.get_run(&run).await;
        (run["status"] == "completed").then_some(run)
    })
    .await;

    assert_eq!(ended["output"], ITEMS);
    let growth_bytes = growth_bytes.get();
    assert!(growth_bytes < GROWTH_BYTES_MAX, "{growth_bytes} bytes more than before");
    let slices = house.children(&run).await;
    assert_eq!(slices.len() as u64, ITEMS / SLICE);
    let mut engines = BTreeSet::new();
    let mut events = BTreeSet::new();
    for slice in &slices {
        let log = house.events(slice["id"].as_str().expect("a run has an id")).await;
        engines.extend(log.0.iter().filter_map(|event| event.body["session"].as_str().map(str::to_owned)));
        events.insert(log.0.iter().filter(|event| event.node.is_some()).count());
    }
    assert!(engines.len() > 1, "one worker did all of it");
    // Each slice is the same work, whether it comes first or last: its plan, a start and an end for each item, its end.
    assert_eq!(events, BTreeSet::from([2 * SLICE as usize + 2]));
    // Of a slice the run itself knows that it begins, is started, has ended, and has succeeded; not of its items.
    let log = house.events(&run).await;
    let about_steps = log.0.iter().filter(|event| event.node.is_some()).count();
    assert_eq!(about_steps as u64, 4 * (ITEMS / SLICE) + 2);
    house.close().await;
}
