//! How runs come to be: once, whatever the network does.

use std::time::{Duration, Instant};

use futures::future::join_all;
use reqwest::Method;
use scenarios::client::id_of;
use scenarios::{House, Mode, in_every_mode, raw};
use serde_json::{Value, json};

in_every_mode!(
    the_same_key_makes_one_run,
    the_same_key_with_another_body_is_a_mistake,
    twenty_requests_at_once_with_one_key_make_one_run,
    a_lost_answer_is_given_again,
    a_key_is_remembered_across_a_kill,
    a_key_belongs_to_whoever_used_it,
    inputs_must_fit_and_defaults_are_filled_in,
    a_client_may_wait_for_the_end,
    a_client_may_wait_until_a_person_is_needed,
    a_client_that_waits_too_short_gets_the_run_as_it_is,
    lists_find_runs_by_what_they_carry,
    pages_show_every_run_once_while_new_ones_come,
);

const QUICK: &str = "{ version: 1, name: quick, type: steps, steps: [ { id: a, type: noop } ] }";
const RUNS: &str = "/v1/workflow-runs";

fn quick(inputs: Value) -> Value {
    json!({"workflow": "quick", "inputs": inputs})
}

async fn house_with_quick(mode: Mode) -> House {
    let house = House::open(mode).await;
    house.push(QUICK).await;
    house
}

async fn the_same_key_makes_one_run(mode: Mode) {
    let house = house_with_quick(mode).await;
    let first = house.insist(RUNS, "order-1", &quick(json!({"n": 1}))).await;
    let again = house.insist(RUNS, "order-1", &quick(json!({"n": 1}))).await;
    assert_eq!((first.status, again.status), (201, 201));
    assert_eq!(again.body["id"], first.body["id"]);
    assert_eq!(again.header("location"), format!("{RUNS}/{}", id_of(&first.body)));
    assert_eq!((first.header("idempotency-replayed"), again.header("idempotency-replayed")), ("", "true"));
    assert_eq!(house.all_runs().await.len(), 1);
    house.close().await;
}

async fn the_same_key_with_another_body_is_a_mistake(mode: Mode) {
    let house = house_with_quick(mode).await;
    house.insist(RUNS, "order-1", &quick(json!({"n": 1}))).await.ok();
    house.insist(RUNS, "order-1", &quick(json!({"n": 2}))).await.refused(422, "idempotency_key_reused");
    assert_eq!(house.all_runs().await.len(), 1);
    house.close().await;
}

async fn twenty_requests_at_once_with_one_key_make_one_run(mode: Mode) {
    let house = house_with_quick(mode).await;
    let answers = join_all((0..20).map(|_| {
        let house = house.client();
        async move { house.insist(RUNS, "rush", &quick(json!({}))).await.ok() }
    }))
    .await;
    let first = id_of(&answers[0]);
    assert!(answers.iter().all(|run| id_of(run) == first), "{answers:?}");
    assert_eq!(house.all_runs().await, [first]);
    house.close().await;
}

async fn a_lost_answer_is_given_again(mode: Mode) {
    let house = house_with_quick(mode).await;
    for n in 0..40 {
        let (key, body) = (format!("lost-{n}"), quick(json!({"n": n})));
        let request = raw::post(RUNS, &[("Idempotency-Key", &key)], &body.to_string());
        // Some hang up before the request is whole, some just after.
        let sent = if n % 4 == 0 { &request[..request.len() - 3] } else { &request[..] };
        house.send_and_hang_up(sent).await;
        tokio::time::sleep(Duration::from_millis(n % 5)).await;

        let answer = house.insist(RUNS, &key, &body).await;

        assert_eq!(answer.status, 201, "{answer}");
        house.wait_for(&id_of(&answer.body), "completed").await;
    }
    assert_eq!(house.all_runs().await.len(), 40, "no key made two runs");
    house.close().await;
}

async fn a_key_is_remembered_across_a_kill(mode: Mode) {
    let mut house = house_with_quick(mode).await;
    let first = house.insist(RUNS, "order-1", &quick(json!({}))).await.ok();
    house.kill_and_rise().await;
    let again = house.insist(RUNS, "order-1", &quick(json!({}))).await.ok();
    assert_eq!(again["id"], first["id"]);
    house.wait_for(&id_of(&first), "completed").await;
    house.close().await;
}

async fn a_key_belongs_to_whoever_used_it(mode: Mode) {
    let house = house_with_quick(mode).await;
    let ada = house.as_user("ada", &[]).insist(RUNS, "1", &quick(json!({}))).await.ok();
    let bo = house.as_user("bo", &[]).insist(RUNS, "1", &quick(json!({}))).await.ok();
    assert_ne!(ada["id"], bo["id"]);
    for run in [&ada, &bo] {
        house.wait_for(&id_of(run), "completed").await;
    }
    house.close().await;
}

async fn inputs_must_fit_and_defaults_are_filled_in(mode: Mode) {
    let house = House::open(mode).await;
    let yaml = r#"
        version: 1
        name: sums
        type: steps
        inputs:
          type: object
          required: [n]
          additionalProperties: false
          properties: { n: { type: integer, maximum: 10 }, by: { type: integer, default: 2 } }
        steps: [{ id: a, type: transform, output: "${{ inputs.n * inputs.by }}" }]
        outputs: "${{ nodes.a.output }}"
    "#;
    house.push(yaml).await;
    for inputs in [json!({}), json!({"n": 11}), json!({"n": "1"}), json!({"n": 1, "x": 1}), json!([1])] {
        let body = json!({"workflow": "sums", "inputs": inputs});
        let answer = house.post(RUNS, &body).await;
        assert_eq!(answer.status, 422, "{inputs}: {answer}");
    }
    let problem = house.post(RUNS, &json!({"workflow": "sums", "inputs": {"n": 11}})).await;
    let problem = problem.refused(422, "invalid_inputs");
    assert_eq!(problem["errors"][0]["pointer"], "/inputs/n", "{problem}");

    let run = house.start("sums", json!({"n": 4})).await;
    let run = house.wait_for(&run, "completed").await;
    assert_eq!((&run["output"], &run["inputs"]), (&json!(8), &json!({"n": 4, "by": 2})));
    house.close().await;
}

async fn a_client_may_wait_for_the_end(mode: Mode) {
    let house = house_with_quick(mode).await;
    let request = house.request(Method::POST, RUNS).header("Prefer", "wait=20").json(&quick(json!({})));
    let answer = house.send(request).await.expect("the house answers");
    assert_eq!((answer.status, &answer.body["status"]), (201, &json!("completed")), "{answer}");

    let yaml = "{ version: 1, name: nap, type: steps, steps: [ { id: a, type: wait, for: 800ms } ] }";
    let run = house.run(yaml, json!({})).await;
    let answer = house.get(&format!("{RUNS}/{run}?wait=20s")).await.ok();
    assert_eq!(answer["status"], "completed");
    house.close().await;
}

async fn a_client_may_wait_until_a_person_is_needed(mode: Mode) {
    let house = House::open(mode).await;
    let spec =
        json!({"version": 1, "name": "asks", "type": "steps", "steps": [{"id": "ok", "type": "approval"}]});
    let request = house.request(Method::POST, RUNS).header("Prefer", "wait=25").json(&json!({"spec": spec}));
    let began = Instant::now();
    let answer = house.send(request).await.expect("the house answers");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert_eq!((answer.status, &answer.body["steps"][0]["waiting_on"]["gate"]["attempt"]), (201, &json!(1)));
    // From there on, a client waits for what comes next.
    let run = id_of(&answer.body);
    let waiting = format!("{RUNS}/{run}?wait=25s");
    let (ended, approved) = tokio::join!(house.get(&waiting), house.approve(&run, "ok"));
    approved.ok();
    assert_eq!(ended.ok()["status"], "completed");
    house.close().await;
}

async fn a_client_that_waits_too_short_gets_the_run_as_it_is(mode: Mode) {
    let house = House::open(mode).await;
    let yaml = "{ version: 1, name: nap, type: steps, steps: [ { id: a, type: wait, for: 1h } ] }";
    let run = house.run(yaml, json!({})).await;
    let began = Instant::now();
    let answer = house.get(&format!("{RUNS}/{run}?wait=1s")).await.ok();
    assert!(["queued", "running", "waiting"].iter().any(|status| answer["status"] == *status), "{answer}");
    assert!(began.elapsed() < Duration::from_secs(10));
    house.close().await;
}

async fn lists_find_runs_by_what_they_carry(mode: Mode) {
    let house = house_with_quick(mode).await;
    let start = |labels: Value| {
        let house = house.client();
        async move { id_of(&house.post(RUNS, &json!({"workflow": "quick", "labels": labels})).await.ok()) }
    };
    let a = start(json!({"team": "red", "env": "prod"})).await;
    let b = start(json!({"team": "red", "env": "100%_sure"})).await;
    let c = start(json!({"team": "blue"})).await;
    for run in [&a, &b, &c] {
        house.wait_for(run, "completed").await;
    }
    let list = |query: &'static str| {
        let house = house.client();
        async move {
            let page = house.get(&format!("{RUNS}?{query}")).await.ok();
            page["items"].as_array().expect("a page has items").iter().map(id_of).collect::<Vec<_>>()
        }
    };
    assert_eq!(list("label=team:red").await, [b.clone(), a.clone()]);
    assert_eq!(list("label=team:red&label=env:prod").await, vec![a.clone()]);
    assert_eq!(list("label=env:100%25_sure").await, vec![b.clone()]);
    assert_eq!(list("label=env:%25").await, Vec::<String>::new());
    assert_eq!(list("status=completed&workflow=quick").await, [c, b, a]);
    assert_eq!(list("status=failed&status=canceled").await, Vec::<String>::new());
    assert_eq!(list("workflow=quic").await, Vec::<String>::new());
    house.close().await;
}

async fn pages_show_every_run_once_while_new_ones_come(mode: Mode) {
    let house = house_with_quick(mode).await;
    let mut expected = Vec::new();
    for n in 0..25 {
        expected.push(house.start("quick", json!({"n": n})).await);
    }
    expected.reverse();
    let mut seen = Vec::new();
    let mut path = format!("{RUNS}?limit=7");
    loop {
        let page = house.get(&path).await.ok();
        let items = page["items"].as_array().expect("a page has items");
        assert!(items.len() <= 7);
        assert!(
            items.iter().all(|item| item.get("steps").is_none() && item.get("output").is_none()),
            "{page}"
        );
        seen.extend(items.iter().map(id_of));
        // A newcomer must not push anything from one page to the next.
        house.start("quick", json!({})).await;
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("{RUNS}?limit=7&cursor={cursor}");
    }
    assert_eq!(seen, expected);
    house.wait_for(&house.all_runs().await[0], "completed").await;
    house.close().await;
}
