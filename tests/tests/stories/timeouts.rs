//! Time that runs out: of a step, of a gate, of a signal, of a run.

use jiff::{SignedDuration, Timestamp};
use scenarios::{House, Mode, Recorder, Sink, in_every_mode};
use serde_json::json;

in_every_mode!(
    a_step_that_takes_too_long_is_timed_out_and_tried_again,
    a_step_that_always_takes_too_long_pauses_the_run,
    a_script_that_takes_too_long_is_killed_with_its_children,
    a_gate_rejects_when_its_time_is_over,
    a_gate_approves_when_its_time_is_over_and_the_definition_says_so,
    a_gate_escalates_when_its_time_is_over_and_stays_open,
    a_gate_before_a_step_expires_too,
    a_signal_that_does_not_come_is_a_timeout,
    a_run_that_takes_too_long_fails,
    a_deadline_ends_a_run_even_when_it_is_paused,
    a_deadline_passes_while_nobody_is_there,
);

async fn a_step_that_takes_too_long_is_timed_out_and_tried_again(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    sink.hangs("/call");
    let yaml = r#"
        version: 1
        name: slow
        type: steps
        steps:
          - id: call
            type: http
            with: { method: POST, url: "${{ inputs.sink }}/call" }
            timeout: 500ms
            retry: { max_attempts: 3, errors: [timeout], backoff: { type: fixed, initial: 300ms } }
    "#;
    let run = house.run(yaml, json!({"sink": sink.url()})).await;
    sink.wait_for("/call", 1).await;
    sink.heals("/call");

    house.wait_for(&run, "completed").await;
    let log = house.events(&run).await;
    let (start, end) = (log.step("step.started", "call"), log.step("step.timed_out", "call"));
    let took = end.at.duration_since(start.at);
    assert!(took >= SignedDuration::from_millis(500) && took < SignedDuration::from_secs(5), "{took}");
    assert_eq!(end.body["error"]["type"], "timeout");
    house.close_with(&[&sink]).await;
}

async fn a_step_that_always_takes_too_long_pauses_the_run(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    sink.hangs("/call");
    let yaml = "{ version: 1, name: stuck, type: steps, defaults: { timeout: 300ms }, steps: [ \
                { id: call, type: http, with: { url: '${{ inputs.sink }}/call' } } ] }";
    let run = house.run(yaml, json!({"sink": sink.url()})).await;
    house.wait_for_pause(&run, "step_failed").await;
    assert_eq!(house.get_step(&run, "call").await["attempts"][0]["outcome"], "timed_out");
    house.close_with(&[&sink]).await;
}

async fn a_script_that_takes_too_long_is_killed_with_its_children(mode: Mode) {
    let house = House::open(mode).await;
    let recorder = Recorder::open();
    let mark = recorder.path();
    let yaml = format!(
        "{{ version: 1, name: sleepy, type: steps, on_error: fail, steps: [ {{ id: nap, type: script, timeout: 500ms, \
         command: [/bin/sh, -c, '(sleep 2; echo still here too late x >> {}) & sleep 30'] }} ] }}",
        mark.display()
    );
    let run = house.run(&yaml, json!({})).await;
    house.wait_for(&run, "failed").await;
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
    assert!(!mark.exists(), "a grandchild outlived its step");
    house.close().await;
}

fn gate(on_timeout: &str) -> String {
    format!(
        "{{ version: 1, name: gate, type: steps, steps: [ \
             {{ id: ok, type: approval, timeout: 500ms, on_timeout: {on_timeout} }}, {{ id: end, type: noop }} ] }}"
    )
}

async fn a_gate_rejects_when_its_time_is_over(mode: Mode) {
    let house = House::open(mode).await;
    let run = house.run(&gate("reject"), json!({})).await;
    house.wait_for_pause(&run, "step_failed").await;
    let step = house.get_step(&run, "ok").await;
    assert_eq!(
        (&step["error"]["type"], &step["attempts"][0]["outcome"]),
        (&json!("timeout"), &json!("timed_out"))
    );
    let late = json!({"node": "ok", "attempt": 1});
    let answer = house.command(&run, "approve", &late).await;
    assert_eq!(answer.status, 409, "{answer}");
    house.close().await;
}

async fn a_gate_approves_when_its_time_is_over_and_the_definition_says_so(mode: Mode) {
    let house = House::open(mode).await;
    let run = house.run(&gate("approve"), json!({})).await;
    house.wait_for(&run, "completed").await;
    assert_eq!(house.events(&run).await.first("approval.expired").body["action"], "approve");
    assert_eq!(house.get_step(&run, "ok").await["output"]["decision"], "expired");
    house.close().await;
}

async fn a_gate_escalates_when_its_time_is_over_and_stays_open(mode: Mode) {
    let house = House::open(mode).await;
    let run = house.run(&gate("escalate"), json!({})).await;
    house.wait_for_pause(&run, "escalated").await;

    house.approve(&run, "ok").await.ok();

    house.wait_for(&run, "completed").await;
    assert_eq!(house.events(&run).await.count("run.resumed"), 1, "it was paused for this decision only");
    house.close().await;
}

async fn a_gate_before_a_step_expires_too(mode: Mode) {
    let house = House::open(mode).await;
    let recorder = Recorder::open();
    let yaml = format!(
        "{{ version: 1, name: before, type: steps, on_error: fail, steps: [ \
         {{ id: deed, {}, approval: {{ timeout: 400ms }} }} ] }}",
        recorder.keys()
    );
    let run = house.run(&yaml, json!({})).await;
    house.wait_for(&run, "failed").await;
    assert_eq!(recorder.lines(), []);
    house.close().await;
}

async fn a_signal_that_does_not_come_is_a_timeout(mode: Mode) {
    let house = House::open(mode).await;
    let yaml = "{ version: 1, name: alone, type: steps, steps: [ \
                { id: hear, type: signal, name: hello, timeout: 400ms, on_error: continue } ], \
                outputs: '${{ nodes.hear.error.type }}' }";
    let run = house.run(yaml, json!({})).await;
    assert_eq!(house.wait_for(&run, "completed").await["output"], "timeout");
    house.close().await;
}

async fn a_run_that_takes_too_long_fails(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    sink.hangs("/call");
    let yaml = "{ version: 1, name: limited, type: dag, timeout: 700ms, nodes: { \
                call: { type: http, with: { url: '${{ inputs.sink }}/call' } }, ask: { type: approval } } }";
    let run = house.run(yaml, json!({"sink": sink.url()})).await;
    let run = house.wait_for(&run, "failed").await;
    assert_eq!(run["error"]["type"], "timeout", "{run:#}");
    house.close_with(&[&sink]).await;
}

async fn start_with_deadline(house: &House, span: SignedDuration) -> String {
    let spec =
        json!({"version": 1, "name": "due", "type": "steps", "steps": [{"id": "ok", "type": "approval"}]});
    let deadline = (Timestamp::now() + span).to_string();
    let run = house.post("/v1/workflow-runs", &json!({"spec": spec, "deadline": deadline})).await.ok();
    scenarios::client::id_of(&run)
}

async fn a_deadline_ends_a_run_even_when_it_is_paused(mode: Mode) {
    let house = House::open(mode).await;
    let run = start_with_deadline(&house, SignedDuration::from_secs(3)).await;
    house.wait_for_gate(&run, "ok").await;
    house.pause(&run).await.ok();
    let run = house.wait_for(&run, "failed").await;
    assert_eq!(run["error"]["type"], "timeout");
    house.close().await;
}

async fn a_deadline_passes_while_nobody_is_there(mode: Mode) {
    let mut house = House::open(mode).await;
    let run = start_with_deadline(&house, SignedDuration::from_secs(3)).await;
    house.wait_for_gate(&run, "ok").await;
    house.kill().await;
    tokio::time::sleep(std::time::Duration::from_millis(3_200)).await;
    house.rise().await;
    house.wait_for(&run, "failed").await;
    house.close().await;
}
