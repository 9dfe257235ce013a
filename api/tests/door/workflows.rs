//! Publishing, reading, changing and hiding definitions.

use axum::http::Method;
use serde_json::{Value, json};

use crate::house::{Answer, House, gate, quick, request, steps, with_header, with_json};

const WORKFLOWS: &str = "/v1/workflows";

async fn put(house: &House, name: &str, spec: &Value, header: Option<(&'static str, &str)>) -> Answer {
    let request = with_json(Method::PUT, &format!("{WORKFLOWS}/{name}"), &json!({"spec": spec}));
    house.send(with_some(request, header)).await
}

async fn delete(house: &House, name: &str, header: Option<(&'static str, &str)>) -> Answer {
    house.send(with_some(request(Method::DELETE, &format!("{WORKFLOWS}/{name}")), header)).await
}

fn with_some(
    request: axum::http::Request<axum::body::Body>,
    header: Option<(&'static str, &str)>,
) -> axum::http::Request<axum::body::Body> {
    match header {
        Some((name, value)) => with_header(request, name, value),
        None => request,
    }
}

#[tokio::test]
async fn a_workflow_is_published_read_changed_and_hidden() {
    let house = House::new();
    let made = house.post(WORKFLOWS, json!({"spec": quick("doc"), "tags": ["b", "a", "b"]})).await;
    assert_eq!(
        (made.status.as_u16(), made.header("location"), made.header("etag")),
        (201, "/v1/workflows/doc", "\"1\"")
    );
    assert_eq!((&made.body["version"], &made.body["created"]), (&json!(1), &json!(true)));
    assert_eq!(made.body["tags"], json!(["a", "b"]));

    let read = house.get("/v1/workflows/doc").await;
    assert_eq!((read.header("etag"), &read.body["spec"]), ("\"1\"", &quick("doc")));

    let changed = put(&house, "doc", &gate("doc"), Some(("if-match", "\"1\""))).await;
    assert_eq!(
        (changed.status.as_u16(), changed.header("etag"), &changed.body["version"]),
        (200, "\"2\"", &json!(2))
    );
    let versions = house.get("/v1/workflows/doc/versions").await.ok();
    assert_eq!((&versions["items"][0]["version"], &versions["items"][1]["version"]), (&json!(2), &json!(1)));
    assert_eq!(house.get("/v1/workflows/doc/versions/1").await.ok()["spec"], quick("doc"));

    assert_eq!(delete(&house, "doc", Some(("if-match", "\"2\""))).await.status, 204);
    house.get("/v1/workflows/doc").await.refused(404, "not_found");
    delete(&house, "doc", Some(("if-match", "*"))).await.refused(404, "not_found");
}

#[tokio::test]
async fn a_change_must_say_what_it_changes() {
    let house = House::new();
    house.publish(&quick("doc")).await;
    put(&house, "doc", &gate("doc"), None).await.refused(428, "precondition_required");
    delete(&house, "doc", None).await.refused(428, "precondition_required");
    for stale in ["\"7\"", "\"other\"", "\"\""] {
        put(&house, "doc", &gate("doc"), Some(("if-match", stale))).await.refused(412, "precondition_failed");
        delete(&house, "doc", Some(("if-match", stale))).await.refused(412, "precondition_failed");
    }
    for nonsense in ["1", "W/\"1\"", "\"1\", \"2\"extra"] {
        put(&house, "doc", &gate("doc"), Some(("if-match", nonsense))).await.refused(400, "invalid_header");
    }
    put(&house, "absent", &gate("absent"), Some(("if-match", "*"))).await.refused(404, "not_found");
    assert_eq!(put(&house, "doc", &gate("doc"), Some(("if-match", "*"))).await.status, 200);
}

#[tokio::test]
async fn the_address_and_the_definition_name_the_same_workflow() {
    let house = House::new();
    house.publish(&quick("doc")).await;
    let problem =
        put(&house, "doc", &quick("other"), Some(("if-match", "*"))).await.refused(422, "invalid_body");
    assert_eq!(problem["errors"][0]["pointer"], "/spec/name");
}

#[tokio::test]
async fn the_same_definition_again_changes_nothing() {
    let house = House::new();
    house.publish(&quick("same")).await;
    let yaml = "version: 1\nname: same\ntype: steps\nsteps:\n  - { id: a, type: noop }\n";
    let again = house.post_text(WORKFLOWS, "application/yaml", yaml).await;
    assert_eq!((again.status.as_u16(), again.header("etag")), (200, "\"1\""));
    assert_eq!((&again.body["new_version"], &again.body["created"]), (&json!(false), &json!(false)));
    let only_new = with_header(
        with_json(Method::POST, WORKFLOWS, &json!({"spec": quick("same")})),
        "if-none-match",
        "*",
    );
    house.send(only_new).await.refused(412, "precondition_failed");
}

#[tokio::test]
async fn every_problem_of_a_definition_is_told_with_its_place() {
    let house = House::new();
    let yaml =
        "version: 1\nname: many\ntype: dag\nnodes:\n  a: { type: nop }\n  b: { type: noop, needs: [c] }\n";
    for path in [WORKFLOWS, "/v1/workflows/validate"] {
        let problem = house.post_text(path, "application/yaml", yaml).await.refused(422, "invalid_workflow");
        let places: Vec<_> =
            problem["errors"].as_array().unwrap().iter().map(|it| (&it["line"], &it["pointer"])).collect();
        assert_eq!(places, [(&json!(5), &json!("/nodes/a/type")), (&json!(6), &json!("/nodes/b/needs/0"))]);
    }
    let problem = house.post_text(WORKFLOWS, "application/yaml", yaml).await.refused(422, "invalid_workflow");
    insta::assert_json_snapshot!("an_invalid_workflow", crate::runs::still(problem));
    let spec = json!({"version": 1, "name": "many", "type": "dag", "nodes": {"a": {"type": "nop"}}});
    let problem = house.post(WORKFLOWS, json!({"spec": spec})).await.refused(422, "invalid_workflow");
    assert_eq!(problem["errors"][0]["pointer"], "/spec/nodes/a/type");
    house.get("/v1/workflows/many").await.refused(404, "not_found");
}

#[tokio::test]
async fn a_definition_is_checked_without_being_published() {
    let house = House::new();
    let valid = house.post("/v1/workflows/validate", json!({"spec": quick("checked")})).await.ok();
    assert_eq!(
        (&valid["valid"], &valid["name"], &valid["groups"]),
        (&json!(true), &json!("checked"), &json!([["a"]]))
    );
    house.get("/v1/workflows/checked").await.refused(404, "not_found");
    house.post_text("/v1/workflows/validate", "application/yaml", "").await.refused(422, "invalid_workflow");
    house.post_text("/v1/workflows/validate", "text/plain", "x").await.refused(415, "unsupported_media_type");
}

#[tokio::test]
async fn tags_have_bounds() {
    let house = House::new();
    for (tags, pointer) in [
        (json!(["Ä"]), "/tags/0"),
        (json!(["ok", ""]), "/tags/1"),
        (json!(["x".repeat(64)]), "/tags/0"),
        (json!((0..33).map(|n| format!("t{n}")).collect::<Vec<_>>()), "/tags"),
        (json!("red"), "/tags"),
    ] {
        let problem = house
            .post(WORKFLOWS, json!({"spec": quick("t"), "tags": tags}))
            .await
            .refused(422, "invalid_body");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{tags}");
    }
}

fn multipart(files: &[(&str, &str)]) -> (&'static str, String) {
    let parts: String = files
        .iter()
        .map(|(name, content)| {
            format!("--edge\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n{content}\r\n")
        })
        .collect();
    ("multipart/form-data; boundary=edge", format!("{parts}--edge--\r\n"))
}

async fn upload(house: &House, files: &[(&str, &str)]) -> Answer {
    let (kind, body) = multipart(files);
    house.post_text("/v1/workflows/upload", kind, body).await
}

#[tokio::test]
async fn files_are_published_each_for_itself() {
    let house = House::new();
    let yaml = "version: 1\nname: one\ntype: steps\nsteps: [{ id: a, type: noop }]\n";
    let json_text = quick("two").to_string();
    let bad = "version: 1\nname: bad\ntype: steps\nsteps: [{ id: a, type: nope }]\n";

    let all = upload(&house, &[("a.yaml", yaml), ("b.json", &json_text)]).await;
    assert_eq!((all.status.as_u16(), &all.body["failed"]), (200, &json!(0)));
    assert_eq!(all.body["files"][1]["workflow"]["name"], "two");

    let some = upload(&house, &[("a.yaml", yaml), ("c.yml", bad)]).await;
    assert_eq!((some.status.as_u16(), &some.body["failed"]), (207, &json!(1)));
    assert_eq!(
        (&some.body["files"][1]["file"], &some.body["files"][1]["result"]),
        (&json!("c.yml"), &json!("failed"))
    );
    assert_eq!(some.body["files"][1]["errors"][0]["line"], 4);

    let none = upload(&house, &[("c.yml", bad)]).await.refused(422, "invalid_workflow");
    assert_eq!(none["errors"][0]["parameter"], "c.yml");
    let other = house.post_text("/v1/workflows/upload", "multipart/form-data; boundary=edge",
        b"--edge\r\nContent-Disposition: form-data; name=\"f\"; filename=\"logo.png\"\r\n\r\n\x89PNG\xff\r\n--edge--\r\n".to_vec()).await;
    assert_eq!(other.refused(422, "invalid_workflow")["errors"][0]["parameter"], "logo.png");
    upload(&house, &[]).await.refused(422, "invalid_body");
    house
        .post_text("/v1/workflows/upload", "multipart/form-data", "x")
        .await
        .refused(400, "malformed_request");
    house
        .post_text("/v1/workflows/upload", "multipart/form-data; boundary=edge", "x")
        .await
        .refused(400, "malformed_request");
    house
        .post_text("/v1/workflows/upload", "application/json", "{}")
        .await
        .refused(415, "unsupported_media_type");
}

#[tokio::test]
async fn a_definition_is_drawn() {
    let house = House::new();
    house
        .publish(&steps("drawn", json!([{"id": "a", "type": "noop"}, {"id": "ask", "type": "approval"}])))
        .await;
    let graph = house.get("/v1/workflows/drawn/graph").await.ok();
    assert_eq!(
        (&graph["edges"][0], &graph["groups"]),
        (&json!({"from": "a", "to": "ask"}), &json!([["a"], ["ask"]]))
    );
    for (format, kind) in
        [("mermaid", "text/vnd.mermaid; charset=utf-8"), ("dot", "text/vnd.graphviz; charset=utf-8")]
    {
        let drawn = house.get(&format!("/v1/workflows/drawn/versions/1/graph?format={format}")).await;
        assert_eq!((drawn.status.as_u16(), drawn.header("content-type")), (200, kind));
        assert!(drawn.text.contains("ask"), "{}", drawn.text);
    }
    house.get("/v1/workflows/drawn/graph?format=png").await.refused(422, "invalid_parameter");
    house.get("/v1/workflows/drawn/versions/2/graph").await.refused(404, "not_found");
    house.get("/v1/workflows/drawn/versions/0").await.refused(404, "not_found");
    house.get("/v1/workflows/ghost/versions").await.refused(404, "not_found");
}
