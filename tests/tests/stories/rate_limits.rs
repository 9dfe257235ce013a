//! Rate limits: what happens too often waits for its turn, or is refused.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::Method;
use scenarios::client::{id_of, step_of};
use scenarios::{House, Mode, Sink, eventually, in_every_mode};
use serde_json::{Value, json};

in_every_mode!(
    calls_wait_for_their_turn_and_cost_nothing_meanwhile,
    a_turn_that_waits_outlives_every_process,
    a_call_that_will_not_wait_fails,
    runs_start_one_after_the_other,
    a_run_that_is_one_too_many_is_refused_where_the_workflow_says_so,
    a_run_that_its_group_refuses_takes_no_turn,
);

fn calling(name: &str, limit: &str) -> String {
    format!(
        r#"
        version: 1
        name: {name}
        type: steps
        on_error: fail
        tools:
          mail.send:
            idempotent: true
            rate_limit: {limit}
            do: {{ type: http, with: {{ method: POST, url: "${{{{ parameters.sink }}}}/mail" }} }}
        steps:
          - {{ id: send, type: tool, tool: mail.send, with: {{ sink: "${{{{ inputs.sink }}}}" }} }}
        "#
    )
}

fn starting(limit: &str) -> String {
    format!(
        "{{ version: 1, name: import, type: steps, rate_limit: {limit}, steps: [ {{ id: a, type: noop }} ] }}"
    )
}

fn time(value: &Value) -> Timestamp {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no time: {value}"))
}

async fn reset(house: &House, limit: &str) -> u16 {
    let request = house.request(Method::DELETE, &format!("/v1/rate-limits/{limit}"));
    house.send(request).await.expect("the house answers").status
}

async fn limit_of(house: &House) -> Value {
    let page = house.get("/v1/rate-limits").await.ok();
    assert_eq!(page["items"].as_array().map(Vec::len), Some(1), "{page}");
    page["items"][0].clone()
}

/// Nothing of these came before its turn, counted from the moment when the first could be taken.
fn come_in_turn(first: Timestamp, mut times: Vec<Timestamp>, spacing: Duration) {
    times.sort_unstable();
    for (nth, at) in times.iter().enumerate() {
        let turn = first + spacing * u32::try_from(nth).unwrap();
        assert!(*at >= turn, "number {nth} came at {at}, and its turn at {turn}: {times:?}");
    }
}

async fn calls_wait_for_their_turn_and_cost_nothing_meanwhile(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    let first = Timestamp::now();
    let yaml = calling("mailing", "{ calls: 2, per: 2s, burst: 1 }");
    let mut runs = Vec::new();
    for _ in 0..4 {
        runs.push(house.run(&yaml, json!({ "sink": sink.url() })).await);
    }
    let waiting = eventually("a call waits for its turn", || async {
        for run in &runs {
            let shown = house.get_run(run).await;
            if step_of(&shown, "send")["waiting_on"]["on"] == "rate_limit" && shown["status"] == "waiting" {
                return Some(run.clone());
            }
        }
        None
    })
    .await;
    let explained = house.get(&format!("/v1/workflow-runs/{waiting}/explain")).await.ok();
    assert!(
        explained["steps"].to_string().contains("`mail.send` is called as often as it may be"),
        "{explained}"
    );
    let limit = limit_of(&house).await;
    assert_eq!(
        (&limit["kind"], &limit["name"], &limit["turns"], &limit["per_ms"], &limit["burst"]),
        (&json!("tool"), &json!("mail.send"), &json!(2), &json!(2000), &json!(1))
    );
    for run in &runs {
        house.wait_for(run, "completed").await;
        let step = house.get_step(run, "send").await;
        assert_eq!(
            (&step["attempt"], step["attempts"].as_array().map(Vec::len)),
            (&json!(1), Some(1)),
            "{step}"
        );
    }
    let calls = sink.at("/mail");
    assert_eq!(calls.len(), 4);
    come_in_turn(first, calls.iter().map(|call| call.at).collect(), Duration::from_secs(1));
    assert_eq!((reset(&house, "tool/mail.send").await, reset(&house, "tool/mail.send").await), (204, 404));
    house.close_with(&[&sink]).await;
}

async fn a_turn_that_waits_outlives_every_process(mode: Mode) {
    let mut house = House::open(mode).await;
    let sink = Sink::open().await;
    let first = Timestamp::now();
    let yaml = calling("mailing", "{ calls: 1, per: 2s, burst: 1 }");
    let mut runs = Vec::new();
    for _ in 0..3 {
        runs.push(house.run(&yaml, json!({ "sink": sink.url() })).await);
    }
    sink.wait_for("/mail", 1).await;
    house.kill_and_rise().await;
    for run in &runs {
        house.wait_for(run, "completed").await;
    }
    let calls = sink.at("/mail");
    // The one that was under way when its process died may be made once more.
    assert!((3..=4).contains(&calls.len()), "{calls:?}");
    come_in_turn(first, calls.iter().map(|call| call.at).collect(), Duration::from_secs(2));
    house.close_with(&[&sink]).await;
}

async fn a_call_that_will_not_wait_fails(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    let yaml = calling("mailing", "{ calls: 1, per: 1h, on_limit: reject }");
    let run = house.run(&yaml, json!({ "sink": sink.url() })).await;
    house.wait_for(&run, "completed").await;
    let run = house.run(&yaml, json!({ "sink": sink.url() })).await;
    let failed = house.wait_for(&run, "failed").await;
    assert_eq!(failed["error"]["type"], "rate.limited", "{failed}");
    assert!(failed["error"]["details"]["retry_after_ms"].as_u64() > Some(3_000_000), "{failed}");
    assert_eq!(sink.at("/mail").len(), 1);
    house.close_with(&[&sink]).await;
}

async fn runs_start_one_after_the_other(mode: Mode) {
    let house = House::open(mode).await;
    house.push(&starting("{ runs: 1, per: 1s }")).await;
    let first = Timestamp::now();
    let mut runs = Vec::new();
    for _ in 0..4 {
        runs.push(id_of(&house.post("/v1/workflow-runs", &json!({ "workflow": "import" })).await.ok()));
    }
    let mut begun = Vec::new();
    for run in &runs {
        house.wait_for(run, "completed").await;
        begun.push(time(&house.get_step(run, "a").await["started_at"]));
    }
    come_in_turn(first, begun, Duration::from_secs(1));
    let limit = limit_of(&house).await;
    assert_eq!((&limit["kind"], &limit["name"]), (&json!("workflow"), &json!("import")));
    house.close().await;
}

async fn a_run_that_is_one_too_many_is_refused_where_the_workflow_says_so(mode: Mode) {
    let house = House::open(mode).await;
    house.push(&starting("{ runs: 1, per: 1h, on_limit: reject }")).await;
    let start = async || house.post("/v1/workflow-runs", &json!({ "workflow": "import" })).await;
    let run = id_of(&start().await.ok());
    house.wait_for(&run, "completed").await;
    let refused = start().await;
    assert_eq!((refused.status, &refused.body["code"]), (429, &json!("rate_limited")), "{refused}");
    let seconds: Option<u64> = refused.header("retry-after").parse().ok();
    assert!(seconds.is_some_and(|seconds| (3_000..=3_600).contains(&seconds)), "{refused}");
    let again = house.post(&format!("/v1/workflow-runs/{run}/rerun"), &json!({})).await;
    assert_eq!((again.status, &again.body["code"]), (429, &json!("rate_limited")), "{again}");
    assert_eq!(house.all_runs().await, [run]);
    assert_eq!(limit_of(&house).await["waiting"], 0, "who is refused does not wait");
    assert_eq!(reset(&house, "workflow/import").await, 204);
    let run = id_of(&start().await.ok());
    house.wait_for(&run, "completed").await;
    house.close().await;
}

async fn a_run_that_its_group_refuses_takes_no_turn(mode: Mode) {
    let house = House::open(mode).await;
    let yaml = "{ version: 1, name: import, type: steps, rate_limit: { runs: 2, per: 1h, on_limit: reject }, \
        concurrency: { group: 'import-${{ inputs.of }}', on_conflict: reject }, steps: [ { id: ok, type: approval } ] }";
    house.push(yaml).await;
    let start = async |inputs: Value| {
        house.post("/v1/workflow-runs", &json!({ "workflow": "import", "inputs": inputs })).await
    };
    let run = id_of(&start(json!({ "of": "a" })).await.ok());
    house.wait_for_gate(&run, "ok").await;
    let paused = house.pause(&run).await;
    assert_eq!(paused.status, 200, "{paused}");
    let rerun = format!("/v1/workflow-runs/{run}/rerun");
    for _ in 0..2 {
        let refused = start(json!({ "of": "a" })).await;
        assert_eq!((refused.status, &refused.body["code"]), (409, &json!("group_occupied")), "{refused}");
        let refused = house.post(&rerun, &json!({})).await;
        assert_eq!((refused.status, &refused.body["code"]), (409, &json!("group_occupied")), "{refused}");
        let refused = house.post(&rerun, &json!({ "inputs": {} })).await;
        assert_eq!((refused.status, &refused.body["code"]), (422, &json!("no_group")), "{refused}");
    }
    let second = id_of(&start(json!({ "of": "b" })).await.ok());
    let refused = start(json!({ "of": "c" })).await;
    assert_eq!((refused.status, &refused.body["code"]), (429, &json!("rate_limited")), "{refused}");
    for run in [&run, &second] {
        house.cancel(run).await.ok();
        house.wait_for(run, "canceled").await;
    }
    house.close().await;
}
