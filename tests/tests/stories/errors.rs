//! What follows when a step fails for good.

use scenarios::{House, Mode, Sink, in_every_mode};
use serde_json::json;

in_every_mode!(
    a_red_pause_is_mended_by_a_retry,
    a_red_pause_is_mended_by_a_resume,
    a_red_pause_is_passed_by_a_skip,
    a_red_pause_may_end_in_a_cancel,
    two_failed_steps_are_decided_one_by_one,
    continue_goes_on_and_never_pauses,
    continue_goes_on_in_a_graph_too,
    fail_ends_the_run_once_nothing_is_in_flight,
    the_first_rule_that_matches_decides,
    a_broken_expression_is_an_error_like_any_other,
    an_error_keeps_what_the_other_side_said,
);

fn failing(on_error: &str) -> String {
    format!(
        "{{ version: 1, name: failing, type: steps, on_error: {on_error}, steps: [ \
         {{ id: call, type: http, with: {{ url: '${{{{ inputs.sink }}}}/call' }} }}, \
         {{ id: after, type: transform, output: '${{{{ nodes.call.status }}}}' }} ], \
         outputs: '${{{{ nodes.after.output }}}}' }}"
    )
}

/// A house with a run that stands at a red pause.
async fn paused(mode: Mode, sink: &Sink) -> (House, String) {
    let house = House::open(mode).await;
    sink.fails("/call", 1, 500);
    let id = house.run(&failing("pause"), json!({"sink": sink.url()})).await;
    let run = house.wait_for_pause(&id, "step_failed").await;
    assert_eq!(run["steps"][0]["status"], "paused");
    assert_eq!(run["steps"][0]["error"]["type"], "http.500");
    assert_eq!(run["current_step_index"], 0);
    (house, id)
}

async fn a_red_pause_is_mended_by_a_retry(mode: Mode) {
    let sink = Sink::open().await;
    let (house, id) = paused(mode, &sink).await;

    house.retry(&id, "call").await.ok();

    assert_eq!(house.wait_for(&id, "completed").await["output"], "succeeded");
    let log = house.events(&id).await;
    assert_eq!((log.count("step.paused"), log.count("run.paused")), (1, 1));
    house.close_with(&[&sink]).await;
}

async fn a_red_pause_is_mended_by_a_resume(mode: Mode) {
    let sink = Sink::open().await;
    let (house, id) = paused(mode, &sink).await;

    house.resume(&id).await.ok();

    assert_eq!(house.wait_for(&id, "completed").await["output"], "succeeded");
    house.close_with(&[&sink]).await;
}

async fn a_red_pause_is_passed_by_a_skip(mode: Mode) {
    let sink = Sink::open().await;
    let (house, id) = paused(mode, &sink).await;

    house.skip(&id, "call").await.ok();

    assert_eq!(house.wait_for(&id, "completed").await["output"], "skipped");
    let log = house.events(&id).await;
    let skip = log.step("step.skipped", "call");
    assert_eq!((&skip.body["reason"], skip.is_by_a_person()), (&json!("command"), true));
    assert_eq!(sink.at("/call").len(), 1);
    house.close_with(&[&sink]).await;
}

async fn a_red_pause_may_end_in_a_cancel(mode: Mode) {
    let sink = Sink::open().await;
    let (house, id) = paused(mode, &sink).await;

    house.cancel(&id).await.ok();

    house.wait_for(&id, "canceled").await;
    assert!(!house.events(&id).await.has("step.started", "after"));
    house.close_with(&[&sink]).await;
}

async fn two_failed_steps_are_decided_one_by_one(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    sink.fails("/a", 1, 500).fails("/b", 1, 500);
    sink.is_slow("/b", std::time::Duration::from_millis(200));
    let yaml = r#"
        version: 1
        name: both
        type: dag
        nodes:
          a: { type: http, with: { url: "${{ inputs.sink }}/a" } }
          b: { type: http, with: { url: "${{ inputs.sink }}/b" } }
          c: { type: noop, needs: [a, b] }
    "#;
    let id = house.run(yaml, json!({"sink": sink.url()})).await;
    house.wait_for_step(&id, "b", "paused").await;
    house.wait_for_step(&id, "a", "paused").await;

    house.retry(&id, "a").await.ok();
    assert_eq!(house.get_run(&id).await["status"], "paused", "b has not been decided");
    house.skip(&id, "b").await.ok();

    house.wait_for(&id, "completed").await;
    house.close_with(&[&sink]).await;
}

async fn continue_goes_on_and_never_pauses(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    sink.fails("/call", 1, 500);

    let id = house.run(&failing("continue"), json!({"sink": sink.url()})).await;

    assert_eq!(house.wait_for(&id, "completed").await["output"], "failed");
    let log = house.events(&id).await;
    assert_eq!((log.count("step.paused"), log.count("run.paused")), (0, 0), "{log}");
    assert_eq!(log.step("step.failed", "call").body["then"]["do"], "continue");
    house.close_with(&[&sink]).await;
}

async fn continue_goes_on_in_a_graph_too(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    sink.fails("/call", 1, 500);
    let yaml = r#"
        version: 1
        name: onward
        type: dag
        nodes:
          call:
            type: http
            with: { url: "${{ inputs.sink }}/call" }
            on_error: [{ match: ["*"], action: continue, output: { told: false } }]
          after: { type: transform, needs: [call], output: "${{ nodes.call.output.told }}" }
        outputs: "${{ nodes.after.output }}"
    "#;

    let id = house.run(yaml, json!({"sink": sink.url()})).await;

    assert_eq!(house.wait_for(&id, "completed").await["output"], false);
    assert_eq!(house.events(&id).await.count("step.paused"), 0);
    house.close_with(&[&sink]).await;
}

async fn fail_ends_the_run_once_nothing_is_in_flight(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    sink.fails("/bad", 1, 500);
    let yaml = r#"
        version: 1
        name: fast
        type: dag
        on_error: fail
        nodes:
          bad: { type: http, with: { url: "${{ inputs.sink }}/bad" } }
          ask: { type: approval }
          never: { type: noop, needs: [bad] }
    "#;

    let id = house.run(yaml, json!({"sink": sink.url()})).await;

    let run = house.wait_for(&id, "failed").await;
    assert_eq!(run["error"]["type"], "http.500", "{run:#}");
    assert_eq!(house.get_step(&id, "ask").await["status"], "canceled");
    let log = house.events(&id).await;
    assert_eq!((log.count("step.paused"), log.has("step.started", "never")), (0, false));
    house.resume(&id).await.refused(409, "run_terminal");
    house.close_with(&[&sink]).await;
}

async fn the_first_rule_that_matches_decides(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    let yaml = r#"
        version: 1
        name: rules
        type: steps
        steps:
          - id: call
            type: http
            with: { url: "${{ inputs.sink }}/call" }
            on_error:
              - { match: [http.404], action: continue, output: none }
              - { match: [http.4xx], action: fail }
              - { match: ["*"], action: pause }
    "#;
    house.push(yaml).await;
    for (status, end) in [(404, "completed"), (403, "failed"), (500, "paused")] {
        sink.fails("/call", 1, status);
        let id = house.start("rules", json!({"sink": sink.url()})).await;
        house.wait_for(&id, end).await;
    }
    house.close_with(&[&sink]).await;
}

async fn a_broken_expression_is_an_error_like_any_other(mode: Mode) {
    let house = House::open(mode).await;
    let yaml = r#"
        version: 1
        name: broken
        type: steps
        steps:
          - { id: fine, type: transform, output: { a: 1 } }
          - { id: broken, type: transform, output: "${{ nodes.fine.output.missing.deeper }}", retry: { max_attempts: 5 } }
    "#;

    let id = house.run(yaml, json!({})).await;

    house.wait_for_pause(&id, "step_failed").await;
    let step = house.get_step(&id, "broken").await;
    assert_eq!(step["error"]["type"], "expression");
    assert_eq!(step["attempt"], 1, "another attempt cannot mend an expression");
    house.cancel(&id).await.ok();
    house.wait_for(&id, "canceled").await;
    house.close().await;
}

async fn an_error_keeps_what_the_other_side_said(mode: Mode) {
    let sink = Sink::open().await;
    let (house, id) = paused(mode, &sink).await;
    let error = house.get_step(&id, "call").await["error"].clone();
    assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{error}");
    assert!(error["details"].to_string().contains("sorry"), "{error}");
    house.close_with(&[&sink]).await;
}
