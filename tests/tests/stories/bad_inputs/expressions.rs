//! Expressions that reach too far or take too long (A23, A24, A25).

use std::time::{Duration, Instant};

use reqwest::Method;
use scenarios::{House, Mode};
use serde_json::{Value, json};

/// Refused when the definition is published: what can be seen without running it.
const REFUSED_AT_ONCE: &[&str] = &[
    "${{ env.PATH }}",
    "${{ config }}",
    "${{ self }}",
    "${{ nodes.ghost.output }}",
    "${{ nodes.a.output | format(1) }}",
    "${{ 'x' | indent(1000000000) }}",
    "${{ 'x' | center(1000000000) }}",
    "${{ 1 + }}",
    "${{ inputs. }}",
    "${{ 'unclosed }}",
    "${{ 1 ",
    "${{ }}",
    "${{ import('os') }}",
    "${{ run.secrets }}",
    "${{ inputs.constructor.constructor('return process')() }}",
    "${{ inputs.text.nope() }}",
];

/// Refused when they run: an error of their step, soon, and without much memory.
const REFUSED_WHEN_RUN: &[&str] = &[
    "${{ '-' * 10000000000 }}",
    "${{ 'ab' * 100000000 }}",
    "${{ [1] * 1000000000 }}",
    "${{ range(1000000000) | list }}",
    "${{ range(100000000) | sum }}",
    "${{ range(0, 9223372036854775807) | last }}",
    "${{ inputs.text | replace('', inputs.text) | replace('', inputs.text) | replace('', inputs.text) }}",
    "${{ 9223372036854775807 * 9223372036854775807 * 9223372036854775807 }}",
    "${{ 1 / 0 }}",
    "${{ 10 ** 1000000 }}",
    "${{ inputs.missing }}",
    "${{ inputs.text.__class__.__mro__ }}",
    "${{ inputs['__proto__'] }}",
];

/// From the start of its step to the error, on a debug build and busy cores; the product's own bound is 200 ms.
const FAILS_WITHIN: Duration = Duration::from_secs(5);
const GROWTH_BYTES_MAX: u64 = 96 << 20;

fn spec(expression: &str) -> Value {
    json!({"version": 1, "name": "reach", "type": "steps", "on_error": "fail",
           "steps": [{"id": "a", "type": "noop"}, {"id": "b", "type": "transform", "output": expression}]})
}

pub(super) async fn withstand(mode: Mode) {
    let house = House::open_with(mode, &[("WINDLASS_SECRET_TOKEN", "canary-in-the-coal-mine")]).await;
    refused_at_once(&house).await;
    secrets_outside_of_runners(&house).await;
    let before = house.memory();
    for expression in REFUSED_WHEN_RUN {
        let inputs = json!({"text": "x".repeat(20_000)});
        let began = Instant::now();
        let body = json!({"spec": spec(expression), "inputs": inputs});
        let run = scenarios::client::id_of(&house.post("/v1/workflow-runs", &body).await.ok());
        let end = house.wait_for_end(&run).await;
        assert_eq!(end["status"], "failed", "{expression} gave {}", end["steps"][1]["output"]);
        let kind = end["error"]["type"].as_str().unwrap_or_default();
        assert!(matches!(kind, "expression" | "limit.expression"), "{expression}: {}", end["error"]);
        assert!(began.elapsed() < FAILS_WITHIN, "{expression} took {:?}", began.elapsed());
    }
    let growth = house.growth_since(&before);
    assert!(growth < GROWTH_BYTES_MAX, "{} MiB more than before", growth >> 20);
    house.close().await;
}

async fn refused_at_once(house: &House) {
    let long = format!("${{{{ {} }}}}", "1 + ".repeat(2_000) + "1");
    let deep = format!("${{{{ {}1{} }}}}", "(".repeat(1_500), ")".repeat(1_500));
    let soup = format!("${{{{ {} }}}}", "[".repeat(1_000));
    for expression in REFUSED_AT_ONCE.iter().copied().chain([long.as_str(), deep.as_str(), soup.as_str()]) {
        let request = house.request(Method::POST, "/v1/workflows").json(&json!({"spec": spec(expression)}));
        let began = Instant::now();
        house.send(request).await.expect("the house answers").refused(422, "invalid_workflow");
        assert!(began.elapsed() < FAILS_WITHIN, "{expression}");
    }
}

/// A secret may stand where a runner resolves it, and nowhere else.
async fn secrets_outside_of_runners(house: &House) {
    let secret = "${{ secrets.TOKEN }}";
    let gate = json!({"id": "a", "type": "approval", "show": secret});
    let condition = json!({"id": "a", "type": "noop", "if": secret});
    let wait = json!({"id": "a", "type": "wait", "for": secret});
    for node in [gate, condition, wait] {
        let spec = json!({"version": 1, "name": "leak", "type": "steps", "steps": [node]});
        house.post("/v1/workflows", &json!({"spec": spec})).await.refused(422, "invalid_workflow");
    }
    let spec = json!({"version": 1, "name": "leak", "type": "steps", "steps": [{"id": "a", "type": "noop"}], "outputs": secret});
    house.post("/v1/workflows", &json!({"spec": spec})).await.refused(422, "invalid_workflow");
}
