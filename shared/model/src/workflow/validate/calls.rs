//! Checks what nodes call: the name of a workflow, and a workflow that calls itself without an end.

use serde_json::Value;

use super::node::Draft;
use super::{Checker, is_workflow_name};
use crate::body::Called;
use crate::plan::{Role, WorkflowKind};
use crate::workflow::excerpt;
use crate::workflow::schema::member;

impl Checker<'_> {
    /// Which workflow a node calls.
    pub(super) fn called_workflow(&mut self, params: &Value, pointer: &str) -> Role {
        let pointer = member(pointer, "workflow");
        let text = params.get("workflow").and_then(Value::as_str).unwrap_or_default();
        let (name, version) = match text.split_once('@') {
            Some((name, version)) => (name, Some(version)),
            None => (text, None),
        };
        let number = version.map(str::parse::<u32>).transpose();
        match number {
            Ok(version) if is_workflow_name(name) && version != Some(0) => {
                return Role::Workflow(Called::Published { name: name.to_owned(), version });
            }
            _ if text.contains("${{") => {
                let detail = "which workflow is called is fixed; it cannot be an expression";
                self.problem("invalid_field", &pointer, detail);
            }
            _ if text.starts_with("./") || text.starts_with("../") => {
                let detail = format!(
                    "`{}` is a file that is not there or is no workflow; only the command line reads files, and a \
                     server knows workflows by their names",
                    excerpt(text)
                );
                self.problem("invalid_field", &pointer, detail);
            }
            _ if !text.is_empty() => {
                let detail = format!(
                    "`{}` names no workflow: it is called by its name, or by name@version",
                    excerpt(text)
                );
                self.problem("invalid_field", &pointer, detail);
            }
            _ => {}
        }
        Role::Workflow(Called::Published { name: name.to_owned(), version: None })
    }

    /// Refuses a workflow each run of which starts another one. What depends on a condition or on people may end, and
    /// so may what goes through other workflows: their depth is bounded when they run.
    pub(super) fn check_endless_calls(
        &mut self,
        name: &str,
        kind: WorkflowKind,
        drafts: &[Draft],
        order: Option<&[usize]>,
    ) {
        let (Some(order), false) = (order, kind == WorkflowKind::Machine) else { return };
        // Whether a node lets those that need it begin, whatever happens.
        let mut lets_go_on = vec![false; drafts.len()];
        for at in order {
            let Draft { node, edge_conditions, pointer, .. } = &drafts[*at];
            let is_conditional = node.condition.is_some() || !edge_conditions.is_empty();
            let is_reached =
                node.gate_spec().is_none() && node.needs.iter().all(|it| lets_go_on[it.node.at()]);
            // In a list a skipped step lets the next one begin.
            lets_go_on[*at] =
                is_reached && node.kind != "switch" && (!is_conditional || kind == WorkflowKind::Steps);
            if let Role::Workflow(Called::Published { name: called, version: None }) = &node.role
                && called == name
                && is_reached
                && !is_conditional
            {
                let detail = format!("each run of `{name}` would start another one: give the node an `if`");
                self.problem("endless_call", &member(pointer, "workflow"), detail);
            }
        }
    }
}
