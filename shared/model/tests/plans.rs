//! What a good definition compiles to.

mod support;

use std::time::Duration;

use support::good;
use windlass_model::plan::{Accept, Role, WorkflowKind};

#[test]
fn steps_become_a_chain_that_skips_and_continued_failures_do_not_break() {
    let plan = good(
        "version: 1\nname: a\ntype: steps\nsteps:\n  - {id: one, type: noop}\n  - {id: two, type: noop}\n",
    );
    assert_eq!(plan.kind, WorkflowKind::Steps);
    assert!(plan.nodes[0].needs.is_empty());
    assert_eq!(
        plan.nodes[1].needs[0].accept,
        Accept::Listed { succeeded: true, skipped: true, failed: true }
    );
    assert_eq!(plan.nodes[0].dependents, [plan.nodes[1].index]);
    assert_eq!(plan.groups.len(), 2);
}

#[test]
fn the_largest_example_of_the_format_compiles() {
    let plan = good(include_str!("definitions/large.yaml"));
    let approve = plan.find("approve").unwrap();
    let Role::Approval(gate) = &approve.role else { panic!("{approve:?}") };
    assert_eq!(gate.timeout, Some(Duration::from_secs(48 * 3600)));
    assert_eq!(approve.timeout, None);
    assert!(plan.find("load").unwrap().output_is_read);
    assert!(!plan.find("tell").unwrap().output_is_read);
    insta::assert_snapshot!(windlass_model::workflow::graph::mermaid(&plan));
}
