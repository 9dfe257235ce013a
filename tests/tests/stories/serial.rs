//! Serial workflows: one step after another.

use std::fmt::Write as _;

use scenarios::{House, Mode, Sink, in_every_mode};
use serde_json::json;

in_every_mode!(
    a_serial_run_reaches_its_end,
    steps_run_one_after_another_and_see_what_came_before,
    a_step_whose_condition_is_false_is_skipped_and_the_rest_goes_on,
    a_run_of_a_thousand_steps_reaches_its_end,
    a_run_keeps_the_definition_it_was_started_with,
    every_step_shows_its_attempts_and_times,
);

const GREET: &str = r#"
version: 1
name: greet
type: steps
steps:
  - { id: hello, type: transform, output: { text: "Hello, ${{ inputs.who }}" } }
  - { id: rest, type: noop }
  - { id: again, type: transform, output: "${{ nodes.hello.output.text }}!" }
outputs: { said: "${{ nodes.again.output }}" }
"#;

async fn a_serial_run_reaches_its_end(mode: Mode) {
    let house = House::open(mode).await;
    house.push(GREET).await;

    let id = house.start("greet", json!({"who": "Ada"})).await;

    let run = house.wait_for(&id, "completed").await;
    assert_eq!(run["output"], json!({"said": "Hello, Ada!"}));
    assert_eq!(run["current_step_index"], 3);
    assert_eq!(run["workflow"], "greet");
    assert_eq!(
        house.events(&id).await.story(),
        [
            "run.created",
            "step.started hello/1",
            "step.succeeded hello/1",
            "step.started rest/1",
            "step.succeeded rest/1",
            "step.started again/1",
            "step.succeeded again/1",
            "run.completed",
        ]
    );
    house.close().await;
}

async fn steps_run_one_after_another_and_see_what_came_before(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    sink.answers("/one", json!({"n": 1})).answers("/two", json!({"n": 2}));
    let yaml = r#"
        version: 1
        name: chain
        type: steps
        steps:
          - { id: one, type: http, with: { method: POST, url: "${{ inputs.sink }}/one", json: { seen: 0 } } }
          - { id: two, type: http, with: { method: POST, url: "${{ inputs.sink }}/two", json: { seen: "${{ nodes.one.output.body.n }}" } } }
          - { id: end, type: http, with: { method: POST, url: "${{ inputs.sink }}/end", json: { seen: "${{ nodes.two.output.body.n }}" } } }
    "#;

    let run = house.run(yaml, json!({"sink": sink.url()})).await;

    house.wait_for(&run, "completed").await;
    let seen: Vec<_> = sink.effects().iter().map(|it| (it.path.clone(), it.body["seen"].clone())).collect();
    assert_eq!(seen, [("/one".into(), json!(0)), ("/two".into(), json!(1)), ("/end".into(), json!(2))]);
    house.close_with(&[&sink]).await;
}

async fn a_step_whose_condition_is_false_is_skipped_and_the_rest_goes_on(mode: Mode) {
    let house = House::open(mode).await;
    let yaml = r#"
        version: 1
        name: maybe
        type: steps
        steps:
          - { id: first, type: noop }
          - { id: maybe, type: noop, if: "${{ inputs.really }}" }
          - { id: last, type: transform, output: "${{ nodes.maybe.status }}" }
        outputs: "${{ nodes.last.output }}"
    "#;
    house.push(yaml).await;

    let no = house.start("maybe", json!({"really": false})).await;
    let yes = house.start("maybe", json!({"really": true})).await;

    assert_eq!(house.wait_for(&no, "completed").await["output"], "skipped");
    assert_eq!(house.wait_for(&yes, "completed").await["output"], "succeeded");
    assert_eq!(house.events(&no).await.step("step.skipped", "maybe").body["reason"], "condition");
    house.close().await;
}

async fn a_run_of_a_thousand_steps_reaches_its_end(mode: Mode) {
    let house = House::open(mode).await;
    let mut yaml = "version: 1\nname: long\ntype: steps\nsteps:\n".to_owned();
    for n in 0..1000 {
        writeln!(yaml, "  - {{ id: s{n}, type: noop }}").expect("a string takes text");
    }

    let id = house.run(&yaml, json!({})).await;

    let run = house.wait_for(&id, "completed").await;
    assert_eq!(run["current_step_index"], 1000);
    assert_eq!(run["steps"].as_array().map(Vec::len), Some(1000));
    let log = house.events(&id).await;
    assert_eq!((log.count("step.started"), log.count("step.succeeded")), (1000, 1000));
    house.close().await;
}

async fn a_run_keeps_the_definition_it_was_started_with(mode: Mode) {
    let house = House::open(mode).await;
    let definition = |word: &str| {
        format!(
            "{{ version: 1, name: pinned, type: steps, steps: [ {{ id: ask, type: approval }}, \
             {{ id: say, type: transform, output: {word} }} ], outputs: '${{{{ nodes.say.output }}}}' }}"
        )
    };
    house.push(&definition("old")).await;
    let old = house.start("pinned", json!({})).await;
    house.wait_for_gate(&old, "ask").await;

    house.push(&definition("new")).await;
    let new = house.start("pinned", json!({})).await;
    let pinned = house.start("pinned@1", json!({})).await;

    for run in [&old, &new, &pinned] {
        house.approve(run, "ask").await.ok();
    }
    assert_eq!(house.wait_for(&old, "completed").await["output"], "old");
    assert_eq!(house.wait_for(&new, "completed").await["output"], "new");
    assert_eq!(house.wait_for(&pinned, "completed").await["output"], "old");
    house.close().await;
}

async fn every_step_shows_its_attempts_and_times(mode: Mode) {
    let house = House::open(mode).await;
    let id = house.run(GREET, json!({"who": "Bo"})).await;
    let run = house.wait_for(&id, "completed").await;
    let log = house.events(&id).await;
    for node in ["hello", "rest", "again"] {
        let step = house.get_step(&id, node).await;
        assert_eq!((&step["status"], &step["attempt"]), (&json!("succeeded"), &json!(1)), "{step}");
        assert_eq!(step["attempts"].as_array().map(Vec::len), Some(1), "{step}");
        assert_eq!(step["started_at"], log.step("step.started", node).at_text(), "{step}");
        assert_eq!(step["ended_at"], log.step("step.succeeded", node).at_text(), "{step}");
    }
    assert_eq!(run["created_at"], log.first("run.created").at_text());
    assert_eq!(run["ended_at"], log.first("run.completed").at_text());
    house.close().await;
}
