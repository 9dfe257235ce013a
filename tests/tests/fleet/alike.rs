//! Both databases tell the same story: whole logs of the same runs, one process on SQLite against a fleet on PostgreSQL.

use scenarios::{House, Mode};
use serde_json::{Value, json};

/// Each goes on serially, so that there is one order in which things can happen.
pub(crate) const DEFINITIONS: &[&str] = &[
    "{ version: 1, name: values, type: dag, nodes: { \
       a: { type: transform, output: [3, 1, 2] }, \
       never: { type: noop, needs: [a], if: 'false' }, \
       after: { type: noop, needs: [never] }, \
       way: { type: switch, needs: [{ node: after, accept: [skipped] }, a], cases: [{ when: '${{ nodes.a.output | length > 2 }}', then: [sum] }] }, \
       sum: { type: join, needs: [way, a], strategy: reduce, over: '${{ nodes.a.output }}', initial: 0, reduce: '${{ acc + item.value }}' } }, \
       outputs: '${{ nodes.sum.output }}' }",
    "{ version: 1, name: items, type: steps, steps: [ \
       { id: each, type: map, each: '${{ range(7) | list }}', as: n, max_parallel: 1, tolerate: { failed_count: 2 }, \
         do: { type: transform, output: '${{ 12 / (n - 3) }}' } }, \
       { id: sliced, type: map, each: '${{ range(5) | list }}', max_parallel: 1, slice: 2, do: { type: noop } }, \
       { id: rounds, type: loop, max_iterations: 5, until: '${{ loop.index == 3 }}', do: { type: noop } } ], \
       outputs: '${{ nodes.each.output }}' }",
    "{ version: 1, name: undone, type: steps, on_error: fail, compensation: {}, steps: [ \
       { id: one, type: transform, output: 1, compensate: { type: transform, output: back } }, \
       { id: two, type: transform, output: 2, compensate: { type: noop } }, \
       { id: fails, type: script, command: ['false'], retry: { max_attempts: 3, errors: ['*'], backoff: { type: fixed, initial: 10ms } } } ] }",
    "{ version: 1, name: asked, type: steps, steps: [ \
       { id: nap, type: wait, for: 20ms }, \
       { id: ok, type: approval, show: { n: 1 } }, \
       { id: inner, type: parallel, branches: { only: [ { id: x, type: noop }, { id: y, type: transform, output: 9 } ] } } ], \
       outputs: '${{ nodes.inner.output }}' }",
    "{ version: 1, name: moves, type: machine, context: { n: 0 }, initial: one, states: { \
       one: { entry: [{ assign: { n: '${{ context.n + 1 }}' } }], after: { 20ms: two } }, \
       two: { always: [{ guard: '${{ context.n < 3 }}', target: one }, { target: three }] }, \
       three: { invoke: { type: transform, output: '${{ context.n }}', on_done: end } }, \
       end: { type: final, output: '${{ context.n }}' } } }",
];

/// How a run ended, and all that happened on the way.
async fn lived(house: &House, yaml: &str) -> (Value, Value, Vec<String>) {
    let run = house.run(yaml, json!({})).await;
    if yaml.contains("type: approval") {
        house.wait_for_gate(&run, "ok").await;
        house.approve(&run, "ok").await.ok();
    }
    let ended = house.wait_for_end(&run).await;
    let mut story = house.events(&run).await.retold();
    for child in house.children(&run).await {
        story.extend(house.events(child["id"].as_str().expect("a run has an id")).await.retold());
    }
    (ended["status"].clone(), ended["output"].clone(), story)
}

#[tokio::test]
async fn a_run_has_the_same_log_on_either_database() {
    let (one_process, fleet) = (House::open(Mode::Embedded).await, House::open(Mode::Fleet).await);
    for yaml in DEFINITIONS {
        let (here, there) = (lived(&one_process, yaml).await, lived(&fleet, yaml).await);
        assert!(here.2.len() > 5, "{here:?}");
        assert_eq!(here, there, "{yaml}");
    }
    one_process.close().await;
    fleet.close().await;
}
