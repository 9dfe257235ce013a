//! Tools and agents: what a definition brings along, and what its nodes call.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use windlass_model::callee::{Callee, CalleeKind};
use windlass_model::workflow::expression::Context;
use windlass_model::workflow::validate::is_callee_name;
use windlass_model::workflow::{Document, Format, compile, compile_callee};

use crate::support::{catalog, good};
use crate::world::World;

const STOCK: &str = r#"
version: 1
name: stock
type: dag
tools:
  stock.count:
    description: How many there are
    parameters:
      type: object
      required: [sku]
      properties: { sku: { type: string }, site: { type: string, default: main } }
      additionalProperties: false
    result: { type: integer }
    risk: low
    do: { type: http, with: { url: "https://stock.example/${{ parameters.site }}/${{ parameters.sku }}" } }
  stock.book:
    idempotent: true
    do: { type: http, with: { method: POST, url: "https://stock.example/bookings" } }
agents:
  writer: { do: { type: mock, answer: "${{ parameters.text }}" } }
nodes:
  count: { type: tool, tool: stock.count, with: { sku: "${{ inputs.sku }}" } }
  book: { type: tool, tool: stock.book, needs: [count], with: { many: 2 } }
  careful: { type: tool, tool: stock.book, retry_safe: false }
  write: { type: agent, agent: writer, with: { text: hello }, compensate: { type: tool, tool: stock.book } }
"#;

fn called<'p>(plan: &'p windlass_model::Plan, node: &str) -> &'p Callee {
    plan.find(node).and_then(|node| node.callee.as_deref()).unwrap_or_else(|| panic!("{node} calls nothing"))
}

#[test]
fn nodes_call_what_the_definition_brings_along() {
    let plan = good(STOCK);
    assert_eq!(called(&plan, "count").name, "stock.count");
    assert_eq!(called(&plan, "write").kind, CalleeKind::Agent);
    let undoing = plan.node(plan.find("write").unwrap().compensation.unwrap());
    assert_eq!(undoing.callee.as_ref().unwrap().name, "stock.book");
}

#[test]
fn a_callee_says_whether_a_lost_call_is_repeated_unless_its_node_does() {
    let plan = good(STOCK);
    let is_safe = |node: &str| plan.find(node).unwrap().retry_safe;
    assert!(is_safe("count"), "a GET");
    assert!(is_safe("book"), "idempotent by its own word");
    assert!(!is_safe("careful"), "the node has the last word");
}

#[test]
fn nodes_that_call_a_host_may_have_a_breaker_wherever_they_stand() {
    const GUARDED: &str =
        "type: http, with: {url: 'https://a.example'}, circuit_breaker: {failures: 2, cool_down: 1m}";
    let plan = good(&format!(
        "{{version: 1, name: a, type: dag, nodes: {{\
         plain: {{type: http, with: {{url: 'https://a.example'}}}},\
         ask: {{{GUARDED}, compensate: {{{GUARDED}}}, on_error: [{{match: ['*'], action: fallback, do: {{{GUARDED}}}}}]}},\
         each: {{type: map, each: '${{{{ [1] }}}}', do: {{{GUARDED}}}}}}}}}"
    ));
    let machine = good(&format!(
        "{{version: 1, name: b, type: machine, initial: a, states: {{\
         a: {{invoke: {{{GUARDED}, on_done: b}}}}, b: {{type: final}}}}}}"
    ));
    let of = |plan: &windlass_model::Plan| -> Vec<Option<u32>> {
        let requests = plan.nodes.iter().filter(|node| node.kind == "http");
        requests.map(|node| node.circuit.as_ref().map(|circuit| circuit.failures)).collect()
    };
    assert_eq!(of(&plan), [None, Some(2), Some(2), Some(2), Some(2)]);
    assert_eq!(of(&machine), [Some(2)]);
}

fn call(node: &str, params: Value) -> Result<Value, windlass_model::StepError> {
    let plan = good(STOCK);
    let world = World::new(json!({}), json!({}));
    called(&plan, node).call(params, &Context::new(&world.plan, &world.state))
}

#[test]
fn a_call_gets_its_defaults_and_its_deed_reads_them() {
    let ready = call("count", json!({ "tool": "stock.count", "with": { "sku": "a" } })).unwrap();
    assert_eq!(ready["with"], json!({ "sku": "a", "site": "main" }));
    assert_eq!(ready["do"], json!({ "type": "http", "with": { "url": "https://stock.example/main/a" } }));
    assert_eq!(ready["result"], json!({ "type": "integer" }));
}

#[test]
fn a_body_that_nobody_wrote_is_the_parameters() {
    let ready = call("book", json!({ "tool": "stock.book", "with": { "many": 2 } })).unwrap();
    assert_eq!(ready["do"]["with"]["json"], json!({ "many": 2 }));
}

#[test]
fn a_call_that_breaks_the_parameters_is_told_where() {
    let error = call("count", json!({ "with": { "sku": 7, "color": "red" } })).unwrap_err();
    assert_eq!(error.kind, "schema.input");
    let details = error.details.as_ref().and_then(Value::as_array).unwrap();
    let pointers: BTreeSet<_> = details.iter().filter_map(|it| it["pointer"].as_str()).collect();
    assert_eq!(pointers, BTreeSet::from(["", "/sku"]));
    assert!(!error.message.contains('7'), "values may be secret: {}", error.message);
}

#[test]
fn what_a_callee_promises_holds_for_its_node() {
    let plan = good(STOCK);
    assert!(plan.find("count").unwrap().violations(&json!(3)).is_empty());
    assert_eq!(plan.find("count").unwrap().violations(&json!("three")).len(), 1);
    assert!(plan.find("book").unwrap().violations(&json!("anything")).is_empty());
}

#[test]
fn what_is_missing_is_found_wherever_it_is_called_and_can_be_brought() {
    let text = "{version: 1, name: a, type: dag, tools: {here: {do: {type: transform, output: 1}}}, nodes: {\
         a: {type: tool, tool: here}, b: {type: tool, tool: there, compensate: {type: tool, tool: back}},\
         c: {type: agent, agent: writer, on_error: [{match: ['*'], action: fallback, do: {type: tool, tool: spare}}]}}}";
    let mut document = Document::parse(text, Format::Yaml).unwrap();
    let missing = document.missing_callees();
    let names: Vec<_> = missing.iter().map(|(kind, name)| (kind.as_str(), name.as_str())).collect();
    assert_eq!(names, [("tool", "back"), ("tool", "spare"), ("tool", "there"), ("agent", "writer")]);
    assert!(compile(&document, &catalog()).is_err());
    assert!(compile(&document, &catalog().trusting_callees()).is_ok(), "somebody else may know them");
    for (kind, name) in missing {
        let deed = if kind == CalleeKind::Tool {
            json!({ "type": "transform", "output": 1 })
        } else {
            json!({ "type": "mock" })
        };
        document.bring(kind, &name, json!({ "do": deed }));
    }
    assert!(document.missing_callees().is_empty());
    let plan = compile(&document, &catalog()).unwrap();
    assert_eq!(called(&plan, "b").name, "there");
}

#[test]
fn one_that_stands_alone_has_its_name_inside() {
    let of = |spec: Value| compile_callee(&Document::from_value(spec), CalleeKind::Tool, &catalog());
    let good =
        of(json!({ "name": "a.b", "risk": "high", "do": { "type": "transform", "output": 1 } })).unwrap();
    assert_eq!((good.name.as_str(), good.retry_safe), ("a.b", true));
    let codes = |spec: Value| -> Vec<_> { of(spec).unwrap_err().iter().map(|it| it.code).collect() };
    assert_eq!(codes(json!({ "do": { "type": "transform", "output": 1 } })), ["missing_field"]);
    assert_eq!(codes(json!({ "name": "a", "do": { "type": "mock" } })), ["unknown_type"]);
    assert_eq!(
        codes(json!({ "name": "A", "do": { "type": "transform", "output": "${{ inputs.x }}" } })),
        ["bad_name", "bad_expression"]
    );
    assert_eq!(codes(json!([])), ["invalid_field"]);
}

#[test]
fn names_have_parts() {
    for name in ["a", "a.b", "a-b.c_d.9"] {
        assert!(is_callee_name(name), "{name}");
    }
    for name in ["", ".", "a.", ".a", "a..b", "A", "9", "a b", "a/b", "ä", &"a".repeat(101)] {
        assert!(!is_callee_name(name), "{name}");
    }
}
