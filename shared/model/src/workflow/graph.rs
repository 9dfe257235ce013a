//! The definition as a picture: Mermaid and DOT.

mod machine;

use std::fmt::Write;
use std::sync::Arc;

use crate::body::{Body, Called};
use crate::plan::{Accept, Need, Node, Part, Role};
use crate::{NodeIndex, Plan};

/// What a node looks like: its part in the run, not its kind.
#[derive(Clone, Copy, PartialEq)]
enum Shape {
    Work,
    Choice,
    /// Somebody has to decide.
    Gate,
    /// Time or a signal has to come.
    Wait,
    /// A run of another workflow does it.
    Called,
}

pub fn mermaid(plan: &Plan) -> String {
    // Only a flowchart can show a graph inside a state.
    let has_bodies = plan.nodes.iter().any(|node| !bodies(node).is_empty());
    match &plan.machine {
        Some(machine) if !has_bodies => machine::mermaid(machine),
        _ => {
            let mut out = String::from("flowchart TD\n");
            mermaid_plan(plan, "n", 1, &mut out);
            out
        }
    }
}

fn mermaid_plan(plan: &Plan, prefix: &str, depth: usize, out: &mut String) {
    match &plan.machine {
        Some(machine) => machine::mermaid_flow(plan, machine, prefix, depth, out),
        None => mermaid_nodes(plan, prefix, depth, out),
    }
}

/// Ids by position: a node may be called `end`, which Mermaid keeps for itself.
fn mermaid_nodes(plan: &Plan, prefix: &str, depth: usize, out: &mut String) {
    let indent = "    ".repeat(depth);
    for node in drawn(plan) {
        let label = format!("{}<br/><small>{}</small>", mermaid_text(&node.id), mermaid_text(&note(node)));
        let id = format!("{prefix}{}", node.index);
        let bodies = bodies(node);
        if !bodies.is_empty() {
            put(out, format_args!("{indent}subgraph {id}[\"{label}\"]\n"));
            mermaid_bodies(&bodies, &id, depth + 1, out);
            put(out, format_args!("{indent}end\n"));
            continue;
        }
        let (open, close) = match shape(node) {
            Shape::Work => ("[", "]"),
            Shape::Choice => ("{", "}"),
            Shape::Gate => ("{{", "}}"),
            Shape::Wait => ("([", "])"),
            Shape::Called => ("[[", "]]"),
        };
        put(out, format_args!("{indent}{id}{open}\"{label}\"{close}\n"));
    }
    for node in drawn(plan) {
        for need in &node.needs {
            let arrow = match edge_label(plan, need, node) {
                Some(label) => format!("-->|\"{}\"|", mermaid_text(&label)),
                None => "-->".into(),
            };
            put(out, format_args!("{indent}{prefix}{} {arrow} {prefix}{}\n", need.node, node.index));
        }
        if let Some((of, label)) = called_by(node) {
            put(out, format_args!("{indent}{prefix}{of} -.->|\"{label}\"| {prefix}{}\n", node.index));
        }
    }
}

fn mermaid_bodies(bodies: &[(Option<&str>, &Arc<Body>)], id: &str, depth: usize, out: &mut String) {
    let indent = "    ".repeat(depth);
    for (at, (name, body)) in bodies.iter().enumerate() {
        let prefix = format!("{id}_{at}_");
        let depth = depth + usize::from(name.is_some());
        if let Some(name) = name {
            put(out, format_args!("{indent}subgraph {id}_{at}[\"{}\"]\n", mermaid_text(name)));
        }
        mermaid_plan(&body.plan, &prefix, depth, out);
        if name.is_some() {
            put(out, format_args!("{indent}end\n"));
        }
    }
}

pub fn dot(plan: &Plan) -> String {
    if let Some(machine) = &plan.machine {
        return machine::dot(plan, machine);
    }
    let mut out = format!("digraph \"{}\" {{\n", dot_text(&plan.name));
    out.push_str("    rankdir=TB;\n    node [shape=box, style=rounded, fontname=\"sans-serif\"];\n");
    dot_nodes(plan, "n", 1, &mut out);
    out.push_str("}\n");
    out
}

fn dot_nodes(plan: &Plan, prefix: &str, depth: usize, out: &mut String) {
    let indent = "    ".repeat(depth);
    for node in drawn(plan) {
        let label = format!("{}\\n{}", dot_text(&node.id), dot_text(&note(node)));
        let id = format!("{prefix}{}", node.index);
        let shape = match shape(node) {
            Shape::Work => "",
            Shape::Choice => ", shape=diamond, style=solid",
            Shape::Gate => ", shape=hexagon, style=solid",
            Shape::Wait => ", shape=oval, style=solid",
            Shape::Called => ", peripheries=2",
        };
        put(out, format_args!("{indent}{id} [label=\"{label}\"{shape}];\n"));
        // Lines lead to nodes and not to clusters: the node stands beside what it runs.
        dot_bodies(node, &id, depth, out);
    }
    for node in drawn(plan) {
        for need in &node.needs {
            let label = edge_label(plan, need, node)
                .map(|label| format!(" [label=\"{}\"]", dot_text(&label)))
                .unwrap_or_default();
            put(out, format_args!("{indent}{prefix}{} -> {prefix}{}{label};\n", need.node, node.index));
        }
        if let Some((of, label)) = called_by(node) {
            put(
                out,
                format_args!(
                    "{indent}{prefix}{of} -> {prefix}{} [label=\"{label}\", style=dashed];\n",
                    node.index
                ),
            );
        }
    }
}

fn dot_bodies(node: &Node, id: &str, depth: usize, out: &mut String) {
    let indent = "    ".repeat(depth);
    for (at, (name, body)) in bodies(node).iter().enumerate() {
        let title = dot_text(name.unwrap_or(&node.id));
        put(out, format_args!("{indent}subgraph cluster_{id}_{at} {{\n{indent}    label=\"{title}\";\n"));
        let prefix = format!("{id}_{at}_");
        match &body.plan.machine {
            Some(machine) => machine::dot_flow(&body.plan, machine, &prefix, depth + 1, out),
            None => dot_nodes(&body.plan, &prefix, depth + 1, out),
        }
        put(out, format_args!("{indent}}}\n"));
    }
}

fn bodies(node: &Node) -> Vec<(Option<&str>, &Arc<Body>)> {
    match &node.role {
        Role::Workflow(called) => called.bodies(),
        _ => Vec::new(),
    }
}

fn put(out: &mut String, line: std::fmt::Arguments<'_>) {
    out.write_fmt(line).expect("writing to a string cannot fail");
}

fn shape(node: &Node) -> Shape {
    match &node.role {
        Role::Approval(_) => Shape::Gate,
        Role::Wait(_) | Role::Signal { .. } => Shape::Wait,
        Role::Run if node.kind == "switch" => Shape::Choice,
        Role::Workflow(_) => Shape::Called,
        Role::Run | Role::Map(_) | Role::Loop(_) | Role::Parallel(_) | Role::Join(_) => Shape::Work,
    }
}

/// A slice does what its map does: that is drawn once.
fn drawn(plan: &Plan) -> impl Iterator<Item = &Node> {
    plan.nodes.iter().filter(|node| !node.is_slice())
}

/// Who a node that stands inside another one belongs to, and what it is there for.
fn called_by(node: &Node) -> Option<(NodeIndex, &'static str)> {
    match node.part {
        Part::Main => None,
        Part::Compensation { of } => Some((of, "undone by")),
        Part::Fallback { of } => Some((of, "or else")),
        Part::Item { of } => Some((of, "does")),
    }
}

fn note(node: &Node) -> String {
    let gate = if node.gate.is_some() { ", after approval" } else { "" };
    let condition = if node.condition.is_some() { ", if" } else { "" };
    match &node.role {
        Role::Workflow(Called::Published { name, version: Some(version) }) => {
            format!("workflow {name}@{version}{gate}{condition}")
        }
        Role::Workflow(Called::Published { name, version: None }) => {
            format!("workflow {name}{gate}{condition}")
        }
        _ => format!("{}{gate}{condition}", node.kind),
    }
}

/// Which case of a switch leads here, or which ends of the needed node count.
fn edge_label(plan: &Plan, need: &Need, node: &Node) -> Option<String> {
    let source = plan.node(need.node);
    if let Some(label) = branch_label(source, &node.id) {
        return Some(label);
    }
    match need.accept {
        Accept::Listed { succeeded, skipped, failed } if plan.kind == crate::plan::WorkflowKind::Dag => {
            let names: Vec<&str> = [(succeeded, "succeeded"), (skipped, "skipped"), (failed, "failed")]
                .into_iter()
                .filter_map(|(is_accepted, name)| is_accepted.then_some(name))
                .collect();
            Some(names.join(" or "))
        }
        _ => None,
    }
}

fn branch_label(source: &Node, target: &str) -> Option<String> {
    if source.kind != "switch" {
        return None;
    }
    let names = |list: Option<&serde_json::Value>| {
        list.and_then(serde_json::Value::as_array).is_some_and(|ids| ids.iter().any(|id| id == target))
    };
    let params = source.params.source();
    let case = params.get("cases").and_then(serde_json::Value::as_array).and_then(|cases| {
        let case = cases.iter().find(|case| names(case.get("then")))?;
        Some(case.get("when").map(text_of).unwrap_or_default())
    });
    case.or_else(|| names(params.get("default")).then(|| "otherwise".to_owned()))
}

fn text_of(value: &serde_json::Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let bare = text.trim().strip_prefix("${{").and_then(|text| text.strip_suffix("}}"));
    super::excerpt(bare.map_or(text.as_str(), str::trim)).into_owned()
}

/// Mermaid reads labels as HTML with entities of its own.
fn mermaid_text(text: &str) -> String {
    escape(text, |c| match c {
        '"' => Some("#quot;"),
        '<' => Some("#lt;"),
        '>' => Some("#gt;"),
        '&' => Some("#amp;"),
        '#' => Some("#35;"),
        '|' => Some("#124;"),
        '`' => Some("#96;"),
        _ => None,
    })
}

fn dot_text(text: &str) -> String {
    escape(text, |c| match c {
        '"' => Some("\\\""),
        '\\' => Some("\\\\"),
        _ => None,
    })
}

fn escape(text: &str, entity: impl Fn(char) -> Option<&'static str>) -> String {
    let mut out = String::with_capacity(text.len());
    for c in super::excerpt(text).chars() {
        match entity(c) {
            Some(entity) => out.push_str(entity),
            None => out.push(c),
        }
    }
    out
}
