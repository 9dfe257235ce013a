//! Publishing, reading, changing and hiding definitions.

use reqwest::Method;
use scenarios::{Answer, House, Mode, in_every_mode};
use serde_json::{Value, json};

in_every_mode!(
    a_workflow_is_published_read_changed_and_hidden,
    a_change_must_know_what_it_changes,
    the_same_content_makes_no_new_version,
    every_problem_of_a_definition_is_told_at_once,
    files_are_uploaded_together,
    a_definition_is_drawn,
    workflows_are_found_by_text_and_tag,
    runs_outlive_their_workflow,
    a_run_by_name_is_of_the_version_published_last_at_whichever_api,
);

fn spec(name: &str, output: &str) -> Value {
    json!({"version": 1, "name": name, "type": "steps", "steps": [{"id": "a", "type": "transform", "output": output}]})
}

async fn put(house: &House, name: &str, spec: &Value, if_match: Option<&str>) -> Answer {
    let mut request =
        house.request(Method::PUT, &format!("/v1/workflows/{name}")).json(&json!({"spec": spec}));
    if let Some(etag) = if_match {
        request = request.header("If-Match", etag);
    }
    house.send(request).await.expect("the house answers")
}

async fn delete(house: &House, name: &str, if_match: Option<&str>) -> Answer {
    let mut request = house.request(Method::DELETE, &format!("/v1/workflows/{name}"));
    if let Some(etag) = if_match {
        request = request.header("If-Match", etag);
    }
    house.send(request).await.expect("the house answers")
}

async fn a_workflow_is_published_read_changed_and_hidden(mode: Mode) {
    let house = House::open(mode).await;
    let created = house.post("/v1/workflows", &json!({"spec": spec("doc", "one")})).await;
    assert_eq!((created.status, created.header("location")), (201, "/v1/workflows/doc"), "{created}");
    let read = house.get("/v1/workflows/doc").await;
    assert_eq!(read.body["spec"], spec("doc", "one"));
    assert_eq!(read.header("etag"), created.header("etag"));

    let changed = put(&house, "doc", &spec("doc", "two"), Some(read.header("etag"))).await;
    assert!(changed.is_ok(), "{changed}");
    assert_eq!(changed.body["version"], 2);
    let versions = house.get("/v1/workflows/doc/versions").await.ok();
    let numbers: Vec<_> =
        versions["items"].as_array().into_iter().flatten().map(|it| it["version"].clone()).collect();
    assert_eq!(numbers, [2, 1]);
    assert_eq!(house.get("/v1/workflows/doc/versions/1").await.ok()["spec"], spec("doc", "one"));

    let gone = delete(&house, "doc", Some(changed.header("etag"))).await;
    assert_eq!(gone.status, 204, "{gone}");
    house.get("/v1/workflows/doc").await.refused(404, "not_found");
    house.post("/v1/workflow-runs", &json!({"workflow": "doc"})).await.refused(422, "unknown_workflow");
    house.close().await;
}

async fn a_run_by_name_is_of_the_version_published_last_at_whichever_api(mode: Mode) {
    let house = House::open(mode).await;
    for version in 1..=8 {
        let body = json!({"spec": spec("doc", &format!("text {version}"))});
        house.post("/v1/workflows", &body).await.ok();
        for _ in 0..3 {
            let run = house.post("/v1/workflow-runs", &json!({"workflow": "doc"})).await.ok();
            assert_eq!(run["version"], version);
        }
        let first = house.post("/v1/workflow-runs", &json!({"workflow": "doc@1"})).await.ok();
        assert_eq!(first["version"], 1);
    }
    let etag = house.get("/v1/workflows/doc").await.header("etag").to_owned();
    assert_eq!(delete(&house, "doc", Some(&etag)).await.status, 204);
    for workflow in ["doc", "doc@1"].iter().cycle().take(6) {
        let order = json!({"workflow": workflow});
        house.post("/v1/workflow-runs", &order).await.refused(422, "unknown_workflow");
    }
    house.close().await;
}

async fn a_change_must_know_what_it_changes(mode: Mode) {
    let house = House::open(mode).await;
    let first = house.post("/v1/workflows", &json!({"spec": spec("doc", "one")})).await;
    put(&house, "doc", &spec("doc", "two"), None).await.refused(428, "precondition_required");
    delete(&house, "doc", None).await.refused(428, "precondition_required");

    let second = put(&house, "doc", &spec("doc", "two"), Some(first.header("etag"))).await;
    assert!(second.is_ok(), "{second}");
    put(&house, "doc", &spec("doc", "three"), Some(first.header("etag")))
        .await
        .refused(412, "precondition_failed");
    delete(&house, "doc", Some(first.header("etag"))).await.refused(412, "precondition_failed");
    assert_eq!(house.get("/v1/workflows/doc").await.body["spec"], spec("doc", "two"));

    // Of two who read the same revision, one changes it.
    let etag = second.header("etag");
    let both = futures::future::join(
        put(&house, "doc", &spec("doc", "left"), Some(etag)),
        put(&house, "doc", &spec("doc", "right"), Some(etag)),
    )
    .await;
    let statuses = [both.0.status, both.1.status];
    assert!(statuses.contains(&412) && statuses.iter().any(|it| *it < 300), "{statuses:?}");
    house.close().await;
}

async fn the_same_content_makes_no_new_version(mode: Mode) {
    let house = House::open(mode).await;
    house.push("{ version: 1, name: same, type: steps, steps: [ { id: a, type: noop } ] }").await;
    house.push("version: 1\nname: same\ntype: steps\nsteps:\n  - id: a\n    type: noop\n").await;
    let versions = house.get("/v1/workflows/same/versions").await.ok();
    assert_eq!(versions["items"].as_array().map(Vec::len), Some(1), "{versions}");
    house.close().await;
}

async fn every_problem_of_a_definition_is_told_at_once(mode: Mode) {
    let house = House::open(mode).await;
    let yaml = "version: 1\nname: many\ntype: dag\nnodes:\n  a: { type: nop }\n  b: { type: noop, needs: [c] }\n  d: { type: noop, needs: [e] }\n  e: { type: noop, needs: [d] }\n";
    for path in ["/v1/workflows", "/v1/workflows/validate"] {
        let request = house.request(Method::POST, path).header("Content-Type", "application/yaml").body(yaml);
        let answer = house.send(request).await.expect("the house answers");
        let errors = answer.body["errors"].as_array().cloned().unwrap_or_default();
        assert!(errors.len() >= 3, "{answer}");
        assert!(
            errors.iter().all(|it| it["line"].is_u64() && it["column"].is_u64() && it["pointer"].is_string()),
            "{answer}"
        );
        let lines: Vec<u64> = errors.iter().filter_map(|it| it["line"].as_u64()).collect();
        assert!(lines.is_sorted() && lines.contains(&5) && lines.contains(&6), "{answer}");
    }
    house.close().await;
}

fn multipart(files: &[(&str, &str)]) -> (String, Vec<u8>) {
    let boundary = "windlass-boundary";
    let mut body = String::new();
    for (name, content) in files {
        body.push_str(&format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n"
        ));
        body.push_str(&format!("Content-Type: application/octet-stream\r\n\r\n{content}\r\n"));
    }
    body.push_str(&format!("--{boundary}--\r\n"));
    (format!("multipart/form-data; boundary={boundary}"), body.into_bytes())
}

async fn files_are_uploaded_together(mode: Mode) {
    let house = House::open(mode).await;
    let json_text = spec("from-json", "x").to_string();
    let good = "version: 1\nname: from-yaml\ntype: steps\nsteps: [{ id: a, type: noop }]\n";
    let bad = "version: 1\nname: bad\ntype: steps\nsteps: [{ id: a, type: nope }]\n";
    let files = [("a.yaml", good), ("b.json", json_text.as_str()), ("c.yml", bad)];
    let (content_type, body) = multipart(&files);
    let request =
        house.request(Method::POST, "/v1/workflows/upload").header("Content-Type", content_type).body(body);
    let answer = house.send(request).await.expect("the house answers");
    for name in ["from-yaml", "from-json"] {
        house.get(&format!("/v1/workflows/{name}")).await.ok();
    }
    house.get("/v1/workflows/bad").await.refused(404, "not_found");
    assert!(answer.text.contains("c.yml") && answer.text.contains("nope"), "{answer}");
    house.close().await;
}

async fn a_definition_is_drawn(mode: Mode) {
    let house = House::open(mode).await;
    house.push("{ version: 1, name: drawn, type: dag, nodes: { a: { type: noop }, ask: { type: approval, needs: [a] } } }").await;
    let draw = async |format: &str| house.get(&format!("/v1/workflows/drawn/graph?format={format}")).await;
    let mermaid = draw("mermaid").await;
    assert!(mermaid.is_ok() && mermaid.text.contains("ask"), "{mermaid}");
    let dot = draw("dot").await;
    assert!(dot.is_ok() && dot.text.contains("digraph"), "{dot}");
    let json = draw("json").await;
    assert!(json.is_ok() && json.body.is_object(), "{json}");
    draw("png").await.refused(422, "invalid_parameter");
    house.close().await;
}

async fn workflows_are_found_by_text_and_tag(mode: Mode) {
    let house = House::open(mode).await;
    for (name, tags) in
        [("red-apple", json!(["fruit", "red"])), ("red-car", json!(["red"])), ("pear", json!(["fruit"]))]
    {
        house.post("/v1/workflows", &json!({"spec": spec(name, "x"), "tags": tags})).await.ok();
    }
    for (query, expected) in [
        ("text=red", vec!["red-apple", "red-car"]),
        ("tag=fruit", vec!["pear", "red-apple"]),
        ("text=red&tag=fruit", vec!["red-apple"]),
        ("text=%25", vec![]),
        ("text=r_d", vec![]),
        ("", vec!["pear", "red-apple", "red-car"]),
    ] {
        let page = house.get(&format!("/v1/workflows?{query}")).await.ok();
        let names: Vec<_> =
            page["items"].as_array().into_iter().flatten().map(|it| it["name"].clone()).collect();
        assert_eq!(names, expected, "{query}");
    }
    house.close().await;
}

async fn runs_outlive_their_workflow(mode: Mode) {
    let mut house = House::open(mode).await;
    house.push("{ version: 1, name: brief, type: steps, steps: [ { id: ok, type: approval } ] }").await;
    let run = house.start("brief", json!({})).await;
    house.wait_for_gate(&run, "ok").await;
    let etag = house.get("/v1/workflows/brief").await.header("etag").to_owned();
    assert_eq!(delete(&house, "brief", Some(&etag)).await.status, 204);
    house.kill_and_rise().await;
    house.approve(&run, "ok").await.ok();
    assert_eq!(house.wait_for(&run, "completed").await["workflow"], "brief");
    house.close().await;
}
