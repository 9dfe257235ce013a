//! What the description promises, and that the answers keep it.

use std::path::Path;
use std::sync::LazyLock;

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use windlass_api::ProblemCode;

use crate::house::{Answer, House};

static API: LazyLock<Value> =
    LazyLock::new(|| serde_json::to_value(windlass_api::openapi()).expect("the description is plain data"));

/// Holds an answer against the description: status, media type, shape, headers that are always there.
#[track_caller]
pub(crate) fn check(method: &Method, path: &str, answer: &Answer) {
    assert!(!answer.header("x-request-id").is_empty(), "{method} {path}");
    assert_eq!(answer.header("x-content-type-options"), "nosniff", "{method} {path}");
    let is_refusal = answer.status.as_u16() >= 400;
    if is_refusal {
        check_problem(answer);
    }
    let Some(operation) = operation(method, path) else {
        assert!(is_refusal || path.starts_with("/docs"), "{method} {path} is not described");
        return;
    };
    let status = answer.status.as_u16().to_string();
    let described = &operation["responses"][&status];
    assert!(described.is_object(), "{method} {path}: {status} is not described; {}", answer.text);
    let content = answer.header("content-type").split(';').next().unwrap_or_default().to_owned();
    let described = match described["content"].as_object() {
        None => {
            assert_eq!(answer.text, "", "{method} {path}: {status} has no content");
            return;
        }
        Some(kinds) => kinds.get(&content).or_else(|| kinds.get("*/*")),
    };
    let described =
        described.unwrap_or_else(|| panic!("{method} {path}: {status} {content} is not described"));
    if content.ends_with("json") && described.get("schema").is_some() {
        check_shape(&described["schema"], &answer.body, &format!("{method} {path} {status}"));
    }
}

#[track_caller]
fn check_problem(answer: &Answer) {
    assert_eq!(answer.header("content-type"), "application/problem+json", "{}", answer.text);
    let body = &answer.body;
    let code = ProblemCode::ALL.iter().find(|code| code.as_str() == body["code"]).expect("a known code");
    assert_eq!((code.status(), &body["status"]), (answer.status.as_u16(), &json!(code.status())));
    assert_eq!(body["type"], format!("https://windlass.dev/problems/{}", code.as_str()));
    assert_eq!(body["request_id"], answer.header("x-request-id"));
}

#[track_caller]
fn check_shape(schema: &Value, value: &Value, what: &str) {
    let mut schema = schema.clone();
    schema["components"] = API["components"].clone();
    let validator = jsonschema::validator_for(&schema).expect("the description holds valid schemas");
    let errors: Vec<_> =
        validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{what}: {errors:#?}\n{value:#}");
}

fn operation(method: &Method, path: &str) -> Option<&'static Value> {
    let fits = |template: &str| {
        let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
        template.len() == path.len()
            && template
                .iter()
                .zip(&path)
                .all(|(template, segment)| template.starts_with('{') || template == segment)
    };
    let paths = API["paths"].as_object().expect("the description has paths");
    // `/v1/workflows/validate` before `/v1/workflows/{name}`.
    let exact = paths.get(path);
    let item = exact.or_else(|| paths.iter().find(|(template, _)| fits(template)).map(|(_, item)| item))?;
    item.get(method.as_str().to_ascii_lowercase())
}

fn document(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name)
}

/// Write them anew with `UPDATE_DOCS=1 cargo test -p windlass-api`.
fn is_up_to_date(name: &str, text: &str) {
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(document(name), text).expect("the document can be written");
    }
    let written = std::fs::read_to_string(document(name)).unwrap_or_default();
    assert!(written == text, "docs/{name} is not what the code says; set UPDATE_DOCS=1 and test again");
}

#[test]
fn the_committed_description_is_the_served_one() {
    let mut text = serde_json::to_string_pretty(&*API).expect("the description is plain data");
    text.push('\n');
    is_up_to_date("openapi.json", &text);
}

#[test]
fn the_guide_lists_every_problem() {
    const BEGIN: &str = "<!-- problems: printed by a test -->\n";
    const END: &str = "<!-- end of problems -->";
    let guide = std::fs::read_to_string(document("api.md")).expect("docs/api.md is there");
    let (before, rest) = guide.split_once(BEGIN).expect("the guide has a place for the table");
    let (_, after) = rest.split_once(END).expect("the table has an end");
    let rows: String = ProblemCode::ALL
        .iter()
        .map(|code| {
            format!("| {} | `{}` | {}. {} |\n", code.status(), code.as_str(), code.title(), code.meaning())
        })
        .collect();
    let table = format!("\n| status | code | meaning |\n| --- | --- | --- |\n{rows}\n");
    is_up_to_date("api.md", &format!("{before}{BEGIN}{table}{END}{after}"));
}

#[test]
fn every_operation_is_described_whole() {
    let mut ids = std::collections::BTreeSet::new();
    for (path, item) in API["paths"].as_object().expect("the description has paths") {
        for (method, operation) in item.as_object().expect("a path has operations") {
            let what = format!("{method} {path}");
            assert!(ids.insert(operation["operationId"].as_str().expect("an id").to_owned()), "{what}");
            assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{what}");
            for (status, response) in operation["responses"].as_object().expect("responses") {
                let is_problem = response["content"].get("application/problem+json").is_some();
                assert_eq!(is_problem, status.as_str() >= "400", "{what} {status}");
            }
            // Whatever takes a body, be it none, refuses some.
            let has_body = method == "post" || method == "put";
            assert_eq!(operation.get("requestBody").is_some(), has_body, "{what}");
            for segment in path.split('/').filter_map(|it| it.strip_prefix('{')?.strip_suffix('}')) {
                let parameters = operation["parameters"].as_array().expect("parameters");
                let described = parameters.iter().any(|it| it["name"] == segment && it["in"] == "path");
                assert!(described, "{what}: {segment}");
            }
        }
    }
}

#[test]
fn the_description_is_openapi_3_1() {
    assert_eq!(API["openapi"], "3.1.0");
    let names = API["components"]["schemas"].as_object().expect("schemas");
    // Every reference leads somewhere.
    let text = API.to_string();
    for reference in text.split("#/components/schemas/").skip(1) {
        let name = reference.split('"').next().expect("a reference ends");
        assert!(names.contains_key(name), "{name}");
    }
}

#[tokio::test]
async fn the_page_to_read_it_loads_nothing_from_elsewhere() {
    let house = House::new();
    let page = house.get("/docs").await;
    assert_eq!((page.status, page.header("content-type")), (StatusCode::OK, "text/html; charset=utf-8"));
    assert!(page.header("content-security-policy").starts_with("default-src 'none'"));
    let mut all = page.text.clone();
    for part in ["/docs/docs.js", "/docs/docs.css"] {
        assert!(page.text.contains(part));
        all.push_str(&house.get(part).await.text);
    }
    assert!(!all.contains("http://") && !all.contains("https://"), "everything comes from here");
    let served = house.get("/openapi.json").await;
    assert_eq!(served.body, *API);
}
