//! Which way on a failure takes, rule by rule.

use scenarios::{House, Mode, Sink, in_every_mode};
use serde_json::{Value, json};

in_every_mode!(
    a_rule_retries_and_then_the_next_one_decides,
    an_agent_that_is_away_is_waited_for,
    patience_with_an_agent_ends_and_then_the_next_rule_decides,
    a_fallback_node_takes_over,
    a_fallback_value_takes_the_place_of_an_output,
    skip_drops_what_needs_the_step,
    handlers_decide_for_many_nodes,
    compensate_undoes_although_the_definition_would_not,
    escalate_asks_people_who_let_it_be_tried_again,
    escalate_asks_people_who_let_it_fail,
    an_output_that_breaks_its_schema_is_routed_like_any_error,
);

/// A call that fails by these rules, and a step that needs it.
fn call(rules: &str) -> String {
    format!(
        "{{ version: 1, name: routed, type: dag, compensation: {{ when: [] }}, nodes: {{ \
         first: {{ type: http, with: {{ url: '${{{{ inputs.sink }}}}/first' }}, \
                   compensate: {{ type: http, with: {{ url: '${{{{ inputs.sink }}}}/undo' }} }} }}, \
         call: {{ type: http, needs: [first], with: {{ url: '${{{{ inputs.sink }}}}/call' }}, on_error: {rules} }}, \
         after: {{ type: noop, needs: [call] }} }}, \
         outputs: '${{{{ nodes.call.output }}}}' }}"
    )
}

/// A house with a run whose call fails so often.
async fn failing(mode: Mode, sink: &Sink, times: u32, rules: &str) -> (House, String) {
    let house = House::open(mode).await;
    sink.fails("/call", times, 503);
    let run = house.run(&call(rules), json!({"sink": sink.url()})).await;
    (house, run)
}

/// What the log says about who decided.
async fn routes(house: &House, run: &str) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let log = house.events(run).await;
    let routed = log.0.iter().filter(|event| event.is("error.routed"));
    routed.map(|event| (text(&event.body["rule"]), text(&event.body["action"]))).collect()
}

fn route(rule: &str, action: &str) -> (String, String) {
    (rule.into(), action.into())
}

async fn a_rule_retries_and_then_the_next_one_decides(mode: Mode) {
    let sink = Sink::open().await;
    let rules = "[{ match: [http.5xx], action: retry, max_attempts: 3, backoff: { type: fixed, initial: 50ms } }, \
                  { match: ['*'], action: continue, output: gave up }]";
    let (house, run) = failing(mode, &sink, 3, rules).await;

    assert_eq!(house.wait_for(&run, "completed").await["output"], "gave up");
    assert_eq!(sink.at("/call").len(), 3);
    let again = route("/nodes/call/on_error/0", "retry");
    let expected = [again.clone(), again, route("/nodes/call/on_error/1", "continue")];
    assert_eq!(routes(&house, &run).await, expected);

    sink.fails("/call", 2, 503);
    let run = house.run(&call(rules), json!({"sink": sink.url()})).await;
    assert_eq!(house.wait_for(&run, "completed").await["output"]["status"], 200);
    house.close_with(&[&sink]).await;
}

async fn an_agent_that_is_away_is_waited_for(mode: Mode) {
    let house = House::open(mode).await;
    let agents = include_str!("../../../examples/agents.yaml");
    let run = house.run(agents, json!({"topic": "harvest"})).await;
    assert_eq!(house.wait_for(&run, "completed").await["output"]["score"], 9);
    let waited = ("/steps/1/on_error/0".to_owned(), "wait_for_agent".to_owned());
    assert_eq!(routes(&house, &run).await, [waited]);
    house.close().await;
}

async fn patience_with_an_agent_ends_and_then_the_next_rule_decides(mode: Mode) {
    let sink = Sink::open().await;
    let rules = "[{match: [http.5xx], action: wait_for_agent, timeout: 1s}, \
                  {match: ['*'], action: continue, output: alone}]";
    let (house, run) = failing(mode, &sink, 99, rules).await;
    assert_eq!(house.wait_for(&run, "completed").await["output"], "alone");
    let routes = routes(&house, &run).await;
    let actions: Vec<&str> = routes.iter().map(|(_, action)| action.as_str()).collect();
    assert_eq!(actions, ["wait_for_agent", "continue"]);
    assert_eq!(sink.at("/call").len(), 2, "the last look comes when patience ends");
    house.close_with(&[&sink]).await;
}

async fn a_fallback_node_takes_over(mode: Mode) {
    let sink = Sink::open().await;
    sink.fails("/spare", 1, 503).answers("/spare", json!({"from": "spare"}));
    let rules = "[{ match: [http.5xx], action: fallback, do: { type: http, with: { url: '${{ inputs.sink }}/spare' }, \
                  retry: { max_attempts: 2, backoff: { type: fixed, initial: 50ms } } } }]";
    let (house, run) = failing(mode, &sink, 1, rules).await;

    let ended = house.wait_for(&run, "completed").await;
    assert_eq!(ended["output"]["body"]["from"], "spare");
    assert_eq!(ended["outcome"], "succeeded", "the step has succeeded in another way");
    assert_eq!(house.get_step(&run, "call.fallback").await["replaces"], "call");
    assert_eq!(sink.at("/spare").len(), 2);
    assert_eq!(routes(&house, &run).await, [route("/nodes/call/on_error/0", "fallback")]);
    house.close_with(&[&sink]).await;
}

async fn a_fallback_value_takes_the_place_of_an_output(mode: Mode) {
    let sink = Sink::open().await;
    let rules = "[{ match: ['*'], action: fallback, output: '${{ nodes.call.error.type }}' }]";
    let (house, run) = failing(mode, &sink, 1, rules).await;
    let ended = house.wait_for(&run, "completed").await;
    assert_eq!((&ended["output"], &ended["outcome"]), (&json!("http.503"), &json!("succeeded")));
    house.close_with(&[&sink]).await;
}

async fn skip_drops_what_needs_the_step(mode: Mode) {
    let sink = Sink::open().await;
    let (house, run) = failing(mode, &sink, 1, "skip").await;
    house.wait_for(&run, "completed").await;
    for step in ["call", "after"] {
        assert_eq!(house.get_step(&run, step).await["status"], "skipped");
    }
    assert_eq!(routes(&house, &run).await, [route("/nodes/call/on_error", "skip")]);
    house.close_with(&[&sink]).await;
}

async fn handlers_decide_for_many_nodes(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    let yaml = r#"
        version: 1
        name: handled
        type: dag
        error_handlers:
          - { node_pattern: "pay-*", error_type: http.404, action: { type: continue, output: nobody } }
          - { node_pattern: "*", error_type: [http.4xx, timeout], action: skip }
        nodes:
          pay-in: { type: http, with: { url: "${{ inputs.sink }}/in" } }
          pay-out: { type: http, with: { url: "${{ inputs.sink }}/out" } }
        outputs: "${{ nodes['pay-in'].output }}"
    "#;
    sink.fails("/in", 1, 404).fails("/out", 1, 403);
    let run = house.run(yaml, json!({"sink": sink.url()})).await;
    assert_eq!(house.wait_for(&run, "completed").await["output"], "nobody");
    let mut found = routes(&house, &run).await;
    found.sort();
    assert_eq!(found, [route("/error_handlers/0", "continue"), route("/error_handlers/1", "skip")]);
    house.close_with(&[&sink]).await;
}

async fn compensate_undoes_although_the_definition_would_not(mode: Mode) {
    let sink = Sink::open().await;
    let rules = "[{ match: [http.5xx], action: compensate }, { match: ['*'], action: fail }]";
    let (house, run) = failing(mode, &sink, 1, rules).await;
    let ended = house.wait_for(&run, "failed").await;
    assert_eq!(ended["compensation"]["outcome"], "succeeded");
    assert_eq!(sink.at("/undo").len(), 1);

    sink.fails("/call", 1, 404);
    let run = house.run(&call(rules), json!({"sink": sink.url()})).await;
    assert_eq!(house.wait_for(&run, "failed").await["compensation"], Value::Null);
    assert_eq!(sink.at("/undo").len(), 1);
    house.close_with(&[&sink]).await;
}

const ESCALATE: &str = "[{ match: ['*'], action: escalate, approvers: { any_of: ['role:ops'] } }]";

async fn escalate_asks_people_who_let_it_be_tried_again(mode: Mode) {
    let sink = Sink::open().await;
    let (house, run) = failing(mode, &sink, 1, ESCALATE).await;
    let paused = house.wait_for_pause(&run, "escalated").await;
    assert!(paused["paused_message"].as_str().is_some_and(|text| text.contains("role:ops")), "{paused:#}");
    let inbox = house.get("/v1/approvals?status=open").await.ok();
    assert_eq!(inbox["items"][0]["approvers"], json!(["role:ops"]), "{inbox:#}");
    assert_eq!(inbox["items"][0]["show"]["error"]["type"], "http.503");
    house.as_user("bo", &[]).approve(&run, "call").await.refused(403, "not_an_approver");

    house.as_user("cy", &["ops"]).approve(&run, "call").await.ok();

    house.wait_for(&run, "completed").await;
    assert_eq!(sink.at("/call").len(), 2);
    assert_eq!(house.events(&run).await.count("run.resumed"), 1, "the decision resumes the run");
    house.close_with(&[&sink]).await;
}

async fn escalate_asks_people_who_let_it_fail(mode: Mode) {
    let sink = Sink::open().await;
    let (house, run) = failing(mode, &sink, 1, ESCALATE).await;
    house.wait_for_pause(&run, "escalated").await;
    house.as_user("cy", &["ops"]).reject(&run, "call").await.ok();
    assert_eq!(house.wait_for(&run, "failed").await["error"]["type"], "rejected");
    house.close_with(&[&sink]).await;
}

async fn an_output_that_breaks_its_schema_is_routed_like_any_error(mode: Mode) {
    let house = House::open(mode).await;
    let yaml = r#"
        version: 1
        name: promised
        type: steps
        steps:
          - id: count
            type: transform
            output: { count: many }
            output_schema: { type: object, properties: { count: { type: integer } } }
            on_error: [{ match: [schema.output], action: continue, output: "${{ nodes.count.error.details }}" }]
        outputs: "${{ nodes.count.output }}"
    "#;
    let run = house.run(yaml, json!({})).await;
    let output = house.wait_for(&run, "completed").await["output"].clone();
    assert_eq!(output[0]["pointer"], "/count", "{output}");
    house.close().await;
}
