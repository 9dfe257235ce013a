//! Nodes in nodes: what a body is made of, and what it reads outside.

use windlass_model::body::{Body, Called};
use windlass_model::plan::Role;
use windlass_model::workflow::{Document, compile, compile_stored, graph};
use windlass_model::{Plan, plan::Node};

use crate::support::{catalog, good};

fn bodies() -> Plan {
    good(include_str!("good/bodies.yaml"))
}

fn called(node: &Node) -> &Called {
    match &node.role {
        Role::Workflow(called) => called,
        other => panic!("{other:?}"),
    }
}

fn body_of<'p>(plan: &'p Plan, id: &str, item: Option<u32>) -> &'p Body {
    called(plan.find(id).unwrap_or_else(|| panic!("{id}"))).body(item).expect("a body")
}

fn captured(body: &Body) -> Vec<(String, String)> {
    body.captures.iter().map(|it| (it.to.join("."), it.from.to_string())).collect()
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(to, from)| ((*to).to_owned(), (*from).to_owned())).collect()
}

#[test]
fn a_body_is_handed_what_it_reads_outside_and_nothing_else() {
    let plan = bodies();
    let order = body_of(&plan, "orders.do", None);
    assert_eq!(
        captured(order),
        // `order` holds its parts; what a body within it reads is handed through.
        pairs(&[
            ("inputs.list", "inputs.list"),
            ("nodes.rate.output.body.rate", "nodes.rate.output.body.rate"),
            ("order", "item.value"),
        ])
    );
    let line = body_of(&order.plan, "lines.do", None);
    assert_eq!(
        captured(line),
        pairs(&[
            ("inputs.list", "inputs.list"),
            ("item.index", "item.index"),
            ("line.price", "item.value.price"),
            ("nodes.rate.output.body.rate", "nodes.rate.output.body.rate"),
            ("order.discount", "order.discount"),
        ])
    );
    let stock = body_of(&plan, "checks.branch", Some(1));
    assert_eq!(captured(stock), pairs(&[("nodes.orders.output", "nodes.orders.output")]));
    let talk = body_of(&plan, "talk", None);
    assert_eq!(
        captured(talk),
        pairs(&[("inputs.list", "inputs.list"), ("nodes.checks.output.stock", "nodes.checks.output.stock")])
    );
    for read in ["rate", "orders", "checks"] {
        assert!(plan.find(read).unwrap().output_is_read, "{read}");
    }
}

#[test]
fn a_stored_body_means_the_same_wherever_it_is_read_and_nobody_else_may_write_one() {
    let plan = bodies();
    let body = body_of(&plan, "orders.do", None);
    let stored = Document::from_value(serde_json::from_str(&body.spec).unwrap());
    let again = compile_stored(&stored, &catalog()).unwrap();
    assert_eq!((&again.hash, &again.name), (&body.plan.hash, &"bodies.orders".to_owned()));
    assert_eq!(body_of(&again, "lines.do", None).spec, body_of(&body.plan, "lines.do", None).spec);
    let problems = compile(&stored, &catalog()).unwrap_err();
    assert!(problems.iter().any(|problem| problem.pointer == "/body"), "{problems:#?}");
}

#[test]
fn what_is_said_for_all_nodes_holds_inside_a_body_and_not_for_the_node_that_has_it() {
    let plan = bodies();
    let owner = plan.find("orders.do").unwrap();
    assert_eq!((owner.retry.max_attempts, owner.on_error.len()), (1, 0));
    let stock = body_of(&plan, "checks.branch", Some(1));
    let inside = stock.plan.find("count.do").unwrap();
    assert_eq!((inside.retry.max_attempts, inside.has_body()), (1, true));
    let step = body_of(&stock.plan, "count.do", None).plan.find("try").map(|node| node.retry.max_attempts);
    assert_eq!(step, Some(2));
}

#[test]
fn a_picture_shows_bodies_inside_their_nodes() {
    let plan = bodies();
    insta::with_settings!({ omit_expression => true }, {
        insta::assert_snapshot!("bodies_mermaid", graph::mermaid(&plan));
        insta::assert_snapshot!("bodies_dot", graph::dot(&plan));
    });
}
