//! What must not be seen.

use scenarios::{House, Mode, Sink, in_every_mode};
use serde_json::json;
use servers::Overhearing;

in_every_mode!(
    a_secret_reaches_its_step_and_nothing_else,
    a_secret_is_masked_wherever_a_step_repeats_it,
    a_script_sees_nothing_of_the_servers_environment,
);

const SECRET: &str = "s3cr3t-tok3n-canary";

async fn a_secret_reaches_its_step_and_nothing_else(mode: Mode) {
    let mut house = House::open_with(mode, &[("WINDLASS_SECRET_TOKEN", SECRET)]).await;
    let redis = (mode == Mode::Fleet).then(|| house.redis().overhear());
    let sink = Sink::open().await;
    let yaml = r#"
        version: 1
        name: auth
        type: steps
        steps:
          - { id: call, type: http, with: { url: "${{ inputs.sink }}/call", headers: { Authorization: "Bearer ${{ secrets.TOKEN }}" } } }
    "#;
    let run = house.run(yaml, json!({"sink": sink.url()})).await;
    house.wait_for(&run, "completed").await;
    let header = sink.at("/call")[0].headers["authorization"].clone();
    assert_eq!(header, format!("Bearer {SECRET}"));
    nobody_tells(&house, &run).await;
    nothing_passes_through_redis(redis);
    house.close_with(&[&sink]).await;
}

async fn a_secret_is_masked_wherever_a_step_repeats_it(mode: Mode) {
    let mut house = House::open_with(mode, &[("WINDLASS_SECRET_TOKEN", SECRET)]).await;
    let redis = (mode == Mode::Fleet).then(|| house.redis().overhear());
    let sink = Sink::open().await;
    sink.answers("/echo", json!({"you_said": SECRET, "list": [format!("Bearer {SECRET}!")]}));
    let yaml = r#"
        version: 1
        name: leaky
        type: steps
        on_error: continue
        steps:
          - { id: http, type: http, with: { url: "${{ inputs.sink }}/echo", headers: { X-Token: "${{ secrets.TOKEN }}" } } }
          - id: output
            type: script
            env: { TOKEN: "${{ secrets.TOKEN }}" }
            command: [/bin/sh, -c, 'echo "{\"mine\": \"$TOKEN\"}"; echo "log $TOKEN" >&2']
          - id: error
            type: script
            env: { TOKEN: "${{ secrets.TOKEN }}" }
            command: [/bin/sh, -c, 'echo "failed with $TOKEN" >&2; exit 3']
          - { id: emit, type: emit, event: { type: told, data: { token: "${{ secrets.TOKEN }}" } } }
    "#;
    let id = house.run(yaml, json!({"sink": sink.url()})).await;
    let mut stream = house.watch(&id).await;
    let run = house.wait_for(&id, "completed").await;
    assert_eq!(scenarios::client::step_of(&run, "output")["output"]["mine"], "***", "{run:#}");
    assert_eq!(scenarios::client::step_of(&run, "http")["output"]["body"]["you_said"], "***");
    while let Some(frame) = stream.next_frame().await {
        assert!(!frame.data.contains(SECRET), "the stream tells: {}", frame.data);
    }
    for artifact in run["steps"].as_array().into_iter().flatten().flat_map(|step| {
        let node = step["node"].as_str().unwrap_or_default().to_owned();
        let artifacts = step["artifacts"].as_array().cloned().unwrap_or_default();
        artifacts
            .into_iter()
            .map(move |it| (node.clone(), it["name"].as_str().unwrap_or_default().to_owned()))
    }) {
        let (node, name) = artifact;
        let content = house.get(&format!("/v1/workflow-runs/{id}/artifacts/{node}/{name}")).await;
        assert!(content.is_ok() && !content.text.contains(SECRET), "{content}");
    }
    nobody_tells(&house, &id).await;
    nothing_passes_through_redis(redis);
    house.close_with(&[&sink]).await;
}

/// Looks through all that was said to Redis, whether it keeps that or passes it on.
fn nothing_passes_through_redis(redis: Option<Overhearing>) {
    let Some(heard) = redis.map(Overhearing::end) else { return };
    let is_heard = |told: &str| heard.windows(told.len()).any(|window| window == told.as_bytes());
    assert!(is_heard("windlass:q:"), "nobody was heard to ring");
    assert!(!is_heard(SECRET), "Redis is told the secret");
}

/// Looks into everything that outlives the step: answers, the log, the database, metrics, the processes' own logs.
async fn nobody_tells(house: &House, run: &str) {
    for path in ["", "/events", "/explain", "/steps"] {
        let answer = house.get(&format!("/v1/workflow-runs/{run}{path}")).await;
        assert!(!answer.text.contains(SECRET), "{answer}");
    }
    let metrics = house.get("/metrics").await;
    assert!(metrics.is_ok() && !metrics.text.contains(SECRET), "{metrics}");
    let in_hexadecimal: String = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect();
    for (name, content) in house.remains() {
        for told in [SECRET, &in_hexadecimal] {
            let found = content.windows(told.len()).any(|window| window == told.as_bytes());
            assert!(!found, "{name} tells the secret");
        }
    }
}

async fn a_script_sees_nothing_of_the_servers_environment(mode: Mode) {
    let house = House::open_with(mode, &[("WINDLASS_SECRET_TOKEN", SECRET), ("CANARY", "sings")]).await;
    let yaml = "{ version: 1, name: env, type: steps, steps: [ { id: env, type: script, timeout: 20s, \
                command: [/bin/sh, -c, 'env | tr \"\\n\" \" \" | sed \"s/.*/\\\"&\\\"/\"'] } ] }";
    let run = house.run(yaml, json!({})).await;
    house.wait_for(&run, "completed").await;
    let seen = house.get_step(&run, "env").await["output"].to_string();
    assert!(seen.contains("WINDLASS_IDEMPOTENCY_KEY"), "{seen}");
    for canary in ["CANARY", "sings", "WINDLASS_SECRET", "WINDLASS_SESSION_TTL"] {
        assert!(!seen.contains(canary), "{seen}");
    }
    house.close().await;
}
