//! Tools and agents that many workflows share: registered, changed, taken along.

use reqwest::Method;
use scenarios::{Answer, House, Mode, in_every_mode};
use serde_json::{Value, json};

in_every_mode!(
    a_tool_is_registered_read_changed_and_deleted,
    a_registration_is_repeated_by_its_key,
    a_workflow_takes_along_what_it_calls,
    a_run_keeps_its_tool_whatever_happens_to_that,
    an_agent_is_registered_like_a_tool,
    files_of_tools_are_pushed_by_the_program,
    a_definition_that_calls_nobody_knows_whom_is_refused,
);

fn tool(name: &str, output: &str) -> Value {
    json!({ "name": name, "risk": "low", "do": { "type": "transform", "output": output } })
}

async fn send(house: &House, method: Method, path: &str, spec: Option<&Value>, etag: Option<&str>) -> Answer {
    let mut request = house.request(method, path);
    if let Some(spec) = spec {
        request = request.json(&json!({ "spec": spec }));
    }
    if let Some(etag) = etag {
        request = request.header("If-Match", etag);
    }
    house.send(request).await.expect("the house answers")
}

async fn register(house: &House, spec: &Value) -> Value {
    house.post("/v1/tools", &json!({ "spec": spec })).await.ok()
}

async fn a_tool_is_registered_read_changed_and_deleted(mode: Mode) {
    let house = House::open(mode).await;
    let path = "/v1/tools/stock.count";
    let made = house.post("/v1/tools", &json!({ "spec": tool("stock.count", "one") })).await;
    assert_eq!((made.status, made.header("location"), made.header("etag")), (201, path, "\"1\""), "{made}");
    let same = house.post("/v1/tools", &json!({ "spec": tool("stock.count", "one") })).await;
    assert_eq!((same.status, &same.body["changed"]), (200, &json!(false)), "{same}");
    let read = house.get(path).await;
    assert_eq!(read.body["spec"], tool("stock.count", "one"));
    assert_eq!(read.header("etag"), "\"1\"");

    let two = tool("stock.count", "two");
    send(&house, Method::PUT, path, Some(&two), None).await.refused(428, "precondition_required");
    send(&house, Method::PUT, path, Some(&two), Some("\"7\"")).await.refused(412, "precondition_failed");
    let other = tool("stock.other", "two");
    send(&house, Method::PUT, path, Some(&other), Some("\"1\"")).await.refused(422, "invalid_body");
    let changed = send(&house, Method::PUT, path, Some(&two), Some("\"1\"")).await;
    assert_eq!((changed.status, changed.header("etag")), (200, "\"2\""), "{changed}");

    register(&house, &tool("a", "1")).await;
    let page = house.get("/v1/tools?limit=1").await.ok();
    assert_eq!((&page["items"][0]["name"], &page["items"][0]["risk"]), (&json!("a"), &json!("low")));
    let cursor = page["next_cursor"].as_str().expect("there is another page");
    let page = house.get(&format!("/v1/tools?limit=1&cursor={cursor}")).await.ok();
    assert_eq!((&page["items"][0]["name"], &page["next_cursor"]), (&json!("stock.count"), &json!(null)));

    send(&house, Method::DELETE, path, None, None).await.refused(428, "precondition_required");
    assert_eq!(send(&house, Method::DELETE, path, None, Some("\"2\"")).await.status, 204);
    house.get(path).await.refused(404, "not_found");
    let again = house.post("/v1/tools", &json!({ "spec": two })).await;
    assert_eq!((again.status, again.header("etag")), (201, "\"4\""), "no tag ever means two things: {again}");
    house.close().await;
}

async fn a_registration_is_repeated_by_its_key(mode: Mode) {
    let house = House::open(mode).await;
    let body = json!({ "spec": tool("stock.count", "one") });
    let first = house.insist("/v1/tools", "key-1", &body).await;
    let again = house.insist("/v1/tools", "key-1", &body).await;
    assert_eq!((again.status, &again.body), (201, &first.body), "{again}");
    let other = json!({ "spec": tool("stock.count", "two") });
    house.insist("/v1/tools", "key-1", &other).await.refused(422, "idempotency_key_reused");
    house.close().await;
}

const CALLING: &str = "{ version: 1, name: calling, type: steps, steps: [ { id: ask, type: approval }, \
    { id: call, type: tool, tool: say } ], outputs: { said: '${{ nodes.call.output }}' } }";

async fn said(house: &House, run: &str) -> Value {
    house.wait_for_gate(run, "ask").await;
    house.approve(run, "ask").await.ok();
    house.wait_for(run, "completed").await["output"]["said"].clone()
}

async fn a_workflow_takes_along_what_it_calls(mode: Mode) {
    let house = House::open(mode).await;
    register(&house, &tool("say", "one")).await;
    house.push(CALLING).await;
    let stored = house.get("/v1/workflows/calling").await.ok();
    assert_eq!(stored["spec"]["tools"]["say"]["do"]["output"], "one");
    let before = house.start("calling", json!({})).await;
    register(&house, &tool("say", "two")).await;
    let after = house.start("calling", json!({})).await;
    let inline = house.run(CALLING, json!({})).await;
    assert_eq!(said(&house, &before).await, "one");
    assert_eq!(said(&house, &after).await, "one", "what was published means the same for ever");
    assert_eq!(said(&house, &inline).await, "two");

    house.push(CALLING).await;
    assert_eq!(house.get("/v1/workflows/calling").await.ok()["version"], 2);
    let run = house.start("calling", json!({})).await;
    assert_eq!(said(&house, &run).await, "two");
    house.close().await;
}

async fn a_run_keeps_its_tool_whatever_happens_to_that(mode: Mode) {
    let mut house = House::open(mode).await;
    register(&house, &tool("say", "one")).await;
    let run = house.run(CALLING, json!({})).await;
    house.wait_for_gate(&run, "ask").await;
    register(&house, &tool("say", "two")).await;
    assert_eq!(send(&house, Method::DELETE, "/v1/tools/say", None, Some("*")).await.status, 204);
    house.kill_and_rise().await;
    assert_eq!(said(&house, &run).await, "one");
    house.close().await;
}

async fn an_agent_is_registered_like_a_tool(mode: Mode) {
    let house = House::open(mode).await;
    let yaml = "{ name: writer, do: { type: mock, answers: [ { error: { type: agent.overloaded, message: later } }, \
                { tokens: [Hel, lo] } ] } }";
    let request = house.request(Method::POST, "/v1/agents").header("Content-Type", "application/yaml");
    let made = house.send(request.body(yaml)).await.expect("the house answers");
    assert_eq!((made.status, made.header("location")), (201, "/v1/agents/writer"), "{made}");
    house.get("/v1/tools/writer").await.refused(404, "not_found");
    let run = house
        .run(
            "{ version: 1, name: asking, type: steps, steps: [ { id: ask, type: agent, agent: writer, \
             retry: { max_attempts: 2, backoff: { type: fixed, initial: 10ms } } } ], \
             outputs: '${{ nodes.ask.output }}' }",
            json!({}),
        )
        .await;
    assert_eq!(house.wait_for(&run, "completed").await["output"], json!({ "text": "Hello" }));
    assert_eq!(house.get_step(&run, "ask").await["attempt"], 2);
    house.close().await;
}

async fn files_of_tools_are_pushed_by_the_program(mode: Mode) {
    let house = House::open(mode).await;
    let file = house.folder().join("tools.yaml");
    let text = "tools:\n  say: { risk: high, do: { type: transform, output: hello } }\n  b.c: { do: { type: transform, output: 1 } }\n";
    std::fs::write(&file, text).expect("the folder can be written to");
    let (file, server) = (file.to_string_lossy().into_owned(), house.address());
    let ask = |words: &[&str]| {
        let all: Vec<&str> = words.iter().copied().chain(["--server", &server]).collect();
        house.ask(&all)
    };
    let pushed = ask(&["tool", "push", &file]).succeeded();
    assert!(pushed.contains("created say") && pushed.contains("created b.c"), "{pushed}");
    assert!(ask(&["tool", "push", &file]).succeeded().contains("unchanged say"));
    let list = ask(&["tool", "list"]).succeeded();
    assert!(list.contains("say") && list.contains("high"), "{list}");
    assert!(ask(&["tool", "get", "say"]).succeeded().contains("output: hello"));
    assert!(ask(&["tool", "delete", "say"]).succeeded().contains("deleted say"));
    assert_eq!(ask(&["tool", "get", "say"]).code, Some(3));
    std::fs::write(&file, "tools:\n  say:\n    do: { type: transfrom }\n")
        .expect("the folder can be written to");
    let refused = ask(&["tool", "push", &file]);
    assert!(refused.code == Some(1) && refused.text.contains("tools.yaml:3:"), "{}", refused.text);
    house.close().await;
}

async fn a_definition_that_calls_nobody_knows_whom_is_refused(mode: Mode) {
    let house = House::open(mode).await;
    register(&house, &tool("stock.count", "1")).await;
    let yaml = "version: 1\nname: lost\ntype: steps\nsteps:\n  - { id: a, type: tool, tool: stock.cuont }\n";
    let request = house.request(Method::POST, "/v1/workflows").header("Content-Type", "application/yaml");
    let answer = house.send(request.body(yaml)).await.expect("the house answers");
    let problem = answer.refused(422, "invalid_workflow");
    let error = &problem["errors"][0];
    assert_eq!(
        (&error["code"], &error["line"], &error["column"]),
        (&json!("unknown_tool"), &json!(5), &json!(32))
    );
    house.close().await;
}
