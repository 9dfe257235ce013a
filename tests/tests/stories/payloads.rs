//! Large values: inline, beside the log, and too large.

use scenarios::{House, Mode, in_every_mode};
use serde_json::{Value, json};

in_every_mode!(
    a_value_moves_to_the_blob_store_at_its_limit,
    a_large_value_survives_a_kill_and_is_read_by_later_steps,
    a_large_input_and_a_large_signal_arrive_whole,
    a_value_above_every_limit_is_a_named_error,
    a_forged_reference_is_only_a_value,
    odd_text_arrives_as_it_was_sent,
);

/// JSON text of at most this length stays in its event.
const INLINE_BYTES_MAX: usize = 64 * 1024;

const ECHO: &str = r#"
version: 1
name: echo
type: steps
steps:
  - { id: echo, type: transform, output: "${{ inputs.value }}" }
  - { id: measure, type: transform, output: "${{ nodes.echo.output | length }}" }
outputs: "${{ nodes.measure.output }}"
"#;

/// A string whose JSON text has this length.
fn text_of(json_bytes: usize) -> Value {
    Value::String("x".repeat(json_bytes - 2))
}

async fn a_value_moves_to_the_blob_store_at_its_limit(mode: Mode) {
    let house = House::open(mode).await;
    house.push(ECHO).await;
    for (bytes, is_blob) in [
        (INLINE_BYTES_MAX - 1, false),
        (INLINE_BYTES_MAX, false),
        (INLINE_BYTES_MAX + 1, true),
        (1 << 20, true),
    ] {
        let value = text_of(bytes);
        let run = house.start("echo", json!({"value": value})).await;
        assert_eq!(house.wait_for(&run, "completed").await["output"], bytes - 2);
        let log = house.events(&run).await;
        let output = &log.step("step.succeeded", "echo").body["output"];
        assert_eq!(output["$blob"]["size_bytes"].as_u64(), is_blob.then_some(bytes as u64), "{bytes} bytes");
        let whole = house.get(&format!("/v1/workflow-runs/{run}/steps/echo/output")).await.ok();
        assert!(whole == value, "{bytes} bytes came back as {} bytes", whole.to_string().len());
    }
    house.close().await;
}

async fn a_large_value_survives_a_kill_and_is_read_by_later_steps(mode: Mode) {
    let mut house = House::open(mode).await;
    let yaml = r#"
        version: 1
        name: later
        type: steps
        steps:
          - { id: echo, type: transform, output: { big: "${{ inputs.value }}", n: 7 } }
          - { id: ok, type: approval, show: "${{ nodes.echo.output.n }}" }
          - { id: measure, type: transform, output: ["${{ nodes.echo.output.big | length }}", "${{ inputs.value | length }}"] }
        outputs: "${{ nodes.measure.output }}"
    "#;
    let run = house.run(yaml, json!({"value": text_of(300_002)})).await;
    house.wait_for_gate(&run, "ok").await;
    house.kill_and_rise().await;
    house.approve(&run, "ok").await.ok();
    assert_eq!(house.wait_for(&run, "completed").await["output"], json!([300_000, 300_000]));
    house.close().await;
}

async fn a_large_input_and_a_large_signal_arrive_whole(mode: Mode) {
    let house = House::open(mode).await;
    let yaml = r#"
        version: 1
        name: heavy
        type: steps
        steps:
          - { id: hear, type: signal, name: data }
          - { id: same, type: transform, output: "${{ nodes.hear.output == inputs.value }}" }
        outputs: "${{ nodes.same.output }}"
    "#;
    let value = json!({"list": (0..40_000).collect::<Vec<_>>()});
    let run = house.run(yaml, json!({"value": value})).await;
    house.signal(&run, "data", &value).await.ok();
    assert_eq!(house.wait_for(&run, "completed").await["output"], true);
    house.close().await;
}

async fn a_value_above_every_limit_is_a_named_error(mode: Mode) {
    let house = House::open(mode).await;
    house.push(ECHO).await;
    let body = json!({"workflow": "echo", "inputs": {"value": text_of(5 << 20)}});
    house.post("/v1/workflow-runs", &body).await.refused(413, "body_too_large");

    let yaml = r#"
        version: 1
        name: flood
        type: steps
        on_error: fail
        steps:
          - { id: flood, type: script, command: [/bin/sh, -c, 'printf \"; head -c 20000000 /dev/zero | tr "\\0" x; printf \"'] }
    "#;
    let run = house.run(yaml, json!({})).await;
    let run = house.wait_for(&run, "failed").await;
    assert_eq!(run["error"]["type"], "limit.output", "{run:#}");
    house.close().await;
}

async fn a_forged_reference_is_only_a_value(mode: Mode) {
    let house = House::open(mode).await;
    house.push(ECHO).await;
    let secret = house.start("echo", json!({"value": text_of(100_000)})).await;
    house.wait_for(&secret, "completed").await;
    let stolen = house.events(&secret).await.step("step.succeeded", "echo").body["output"].clone();
    assert!(stolen["$blob"]["digest"].is_string());

    let run = house.start("echo", json!({"value": stolen})).await;

    // Its length is that of an object with one key, not that of what it pretends to be.
    assert_eq!(house.wait_for(&run, "completed").await["output"], 1);
    house.close().await;
}

async fn odd_text_arrives_as_it_was_sent(mode: Mode) {
    let house = House::open(mode).await;
    house.push(ECHO).await;
    let odd = [
        "\u{1b}[31mred\u{1b}[0m",
        "line\nbreak\r\n",
        "\u{202e}right to left",
        "ünïcödé 🦀 \u{10ffff}",
        "'; drop table workflow_runs; --",
        "${{ 7 * 7 }}",
        "{{ 7 * 7 }}",
        "%s%n%x",
        "</script><b>",
        "a\tb\u{7f}",
    ];
    for text in odd {
        let run = house.start("echo", json!({"value": text})).await;
        house.wait_for(&run, "completed").await;
        assert_eq!(house.get_step(&run, "echo").await["output"], text);
    }
    house.close().await;
}
