//! Definitions as pictures.

use serde_json::json;
use windlass_model::workflow::graph::{dot, mermaid};

use crate::support::{good, plan_of};

#[test]
fn each_kind_of_node_has_its_shape_and_each_branch_its_label() {
    let plan = good(include_str!("good/large.yaml"));
    insta::with_settings!({ omit_expression => true }, {
        insta::assert_snapshot!("mermaid", mermaid(&plan));
        insta::assert_snapshot!("dot", dot(&plan));
    });
}

#[test]
fn a_machine_is_drawn_with_its_states_inside_each_other() {
    let plan = good(include_str!("good/order.yaml"));
    insta::with_settings!({ omit_expression => true }, {
        insta::assert_snapshot!("machine_mermaid", mermaid(&plan));
        insta::assert_snapshot!("machine_dot", dot(&plan));
    });
}

#[test]
fn labels_cannot_break_out_of_the_picture() {
    let when = "${{ inputs.a == \"\\\"]; click n0 'javascript:x'\n<script>#`|&\u{202e}\" }}";
    let plan = plan_of(json!({
        "version": 1, "name": "a", "type": "dag",
        "nodes": {
            "end": { "type": "switch", "cases": [{ "when": when, "then": ["graph"] }] },
            "graph": { "type": "noop", "needs": ["end"] }
        }
    }))
    .unwrap();
    let (mermaid, dot) = (mermaid(&plan), dot(&plan));
    let edge = mermaid.lines().find(|line| line.contains("-->")).unwrap();
    assert_eq!(edge.matches('"').count(), 2, "{edge}");
    assert!(!edge.contains('<') && !edge.contains('\u{202e}'), "{edge}");
    let edge = dot.lines().find(|line| line.contains("->")).unwrap();
    assert_eq!(edge.replace("\\\\", "").replace("\\\"", "").matches('"').count(), 2, "{edge}");
    assert_eq!((mermaid.lines().count(), dot.lines().count()), (4, 7));
}

#[test]
fn spans_are_drawn_as_they_are() {
    let plan = plan_of(json!({
        "version": 1, "name": "a", "type": "machine", "initial": "a",
        "states": { "a": { "after": { "500ms": "b", "1500ms": "b", "36h": "b" } }, "b": { "type": "final" } }
    }))
    .unwrap();
    let mermaid = mermaid(&plan);
    for span in ["after 500ms", "after 1500ms", "after 36h"] {
        assert!(mermaid.contains(span), "{mermaid}");
    }
}
