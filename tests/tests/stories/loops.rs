//! Rounds of a loop, and values that are joined.

use scenarios::{House, Mode, Sink, in_every_mode};
use serde_json::json;

in_every_mode!(
    a_loop_ends_when_its_condition_says_so_and_a_join_takes_what_came_of_it,
    a_kill_in_the_middle_of_a_loop_repeats_that_round_only,
    a_loop_beyond_its_bound_takes_the_way_of_any_error,
);

fn rounds(rounds: u32, bound: u32) -> String {
    format!(
        "{{ version: 1, name: rounds, type: dag, inputs: {{ type: object }}, outputs: '${{{{ nodes.all.output }}}}', nodes: {{ \
         ask: {{ type: loop, until: 'loop.index == {rounds}', max_iterations: {bound}, on_error: fail, do: {{ type: http, with: \
         {{ method: PUT, url: '${{{{ inputs.sink }}}}/${{{{ loop.index }}}}', json: '${{{{ loop.last.status if loop.last else 0 }}}}' }} }} }}, \
         all: {{ type: join, strategy: reduce, needs: [ask], over: '${{{{ [nodes.ask.output.iterations, nodes.ask.output.last.status] }}}}', \
         initial: 0, reduce: '${{{{ acc + item.value }}}}' }} }} }}"
    )
}

async fn a_loop_ends_when_its_condition_says_so_and_a_join_takes_what_came_of_it(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    let run = house.run(&rounds(3, 5), json!({"sink": sink.url()})).await;

    let ended = house.wait_for(&run, "completed").await;

    assert_eq!(ended["output"], 203);
    let told: Vec<_> = sink.effects().into_iter().map(|effect| (effect.path, effect.body)).collect();
    assert_eq!(
        told,
        [("/0".into(), json!(0)), ("/1".into(), json!(200)), ("/2".into(), json!(200))],
        "each round knows what the one before gave"
    );
    assert_eq!(sink.at("/2")[0].key, format!("{run}/ask.do[2]/1"));
    house.close_with(&[&sink]).await;
}

async fn a_kill_in_the_middle_of_a_loop_repeats_that_round_only(mode: Mode) {
    let mut house = House::open(mode).await;
    let sink = Sink::open().await;
    sink.hangs("/1");
    let run = house.run(&rounds(3, 5), json!({"sink": sink.url()})).await;
    sink.wait_for("/1", 1).await;
    house.kill().await;
    sink.heals("/1");
    house.rise().await;

    house.wait_for(&run, "completed").await;

    let paths: Vec<String> = sink.effects().into_iter().map(|effect| effect.path).collect();
    assert_eq!(paths, ["/0", "/1", "/1", "/2"]);
    let effects = sink.at("/1");
    assert_eq!(effects[0].key, effects[1].key, "the same deed keeps its key");
    house.close_with(&[&sink]).await;
}

async fn a_loop_beyond_its_bound_takes_the_way_of_any_error(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    let run = house.run(&rounds(3, 2), json!({"sink": sink.url()})).await;

    let ended = house.wait_for(&run, "failed").await;

    assert_eq!(ended["error"]["type"], "limit.iterations");
    assert_eq!(sink.effects().len(), 2);
    house.close_with(&[&sink]).await;
}
