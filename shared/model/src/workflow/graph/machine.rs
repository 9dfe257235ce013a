//! A state machine as a picture.

use super::{bodies, dot_bodies, dot_text, mermaid_bodies, mermaid_text, put, text_of};
use crate::machine::{MachinePlan, StateKind, TransitionIndex};
use crate::time::show_duration;
use crate::workflow::expression::Expression;
use crate::{Plan, StateIndex};

pub(super) fn mermaid(machine: &MachinePlan) -> String {
    let mut out = String::from("stateDiagram-v2\n");
    mermaid_inside(machine, StateIndex::ROOT, 1, &mut out);
    for (label, index) in labeled(machine) {
        let transition = machine.transition(index);
        let name = |state: StateIndex| match machine.state(state).parent {
            // What holds in every state is drawn at the beginning.
            None => "[*]".to_owned(),
            Some(_) => format!("s{state}"),
        };
        let target = transition.target.unwrap_or(transition.source);
        let (from, to) = (name(transition.source), name(target));
        put(&mut out, format_args!("    {from} --> {to}: {}\n", mermaid_text(&label)));
    }
    out
}

fn mermaid_inside(machine: &MachinePlan, parent: StateIndex, depth: usize, out: &mut String) {
    let indent = "    ".repeat(depth);
    if let StateKind::Compound { initial } = machine.state(parent).kind {
        put(out, format_args!("{indent}[*] --> s{initial}\n"));
    }
    let mut is_first = true;
    for child in &machine.state(parent).children {
        let state = machine.state(*child);
        // Ids by position: a state may be called `end`, which Mermaid keeps for itself.
        let name = mermaid_text(&name_of(machine, *child));
        let is_region = machine.state(parent).kind == StateKind::Parallel && !state.is_history();
        if is_region && !std::mem::take(&mut is_first) {
            put(out, format_args!("{indent}--\n"));
        }
        match state.kind {
            StateKind::Compound { .. } | StateKind::Parallel => {
                put(out, format_args!("{indent}state \"{name}\" as s{child} {{\n"));
                mermaid_inside(machine, *child, depth + 1, out);
                put(out, format_args!("{indent}}}\n"));
            }
            StateKind::Atomic | StateKind::History { .. } => {
                put(out, format_args!("{indent}state \"{name}\" as s{child}\n"));
            }
            StateKind::Final => {
                put(out, format_args!("{indent}state \"{name}\" as s{child}\n{indent}s{child} --> [*]\n"));
            }
        }
    }
}

pub(super) fn dot(plan: &Plan, machine: &MachinePlan) -> String {
    let mut out = format!("digraph \"{}\" {{\n", dot_text(&plan.name));
    out.push_str("    rankdir=TB;\n    compound=true;\n");
    out.push_str("    node [shape=box, style=rounded, fontname=\"sans-serif\"];\n");
    dot_flow(plan, machine, "", 1, &mut out);
    out.push_str("}\n");
    out
}

/// A machine as a part of a picture, its ids behind a `prefix`.
pub(super) fn dot_flow(plan: &Plan, machine: &MachinePlan, prefix: &str, depth: usize, out: &mut String) {
    let part = Part { plan, machine, prefix };
    part.dot_inside(StateIndex::ROOT, depth, out);
    let indent = "    ".repeat(depth);
    for (label, index) in labeled(machine) {
        let transition = machine.transition(index);
        let target = transition.target.unwrap_or(transition.source);
        let label = dot_text(&label);
        put(
            out,
            format_args!(
                "{indent}{prefix}s{} -> {prefix}s{target} [label=\"{label}\"];\n",
                transition.source
            ),
        );
    }
}

/// A machine as a part of a flowchart.
pub(super) fn mermaid_flow(plan: &Plan, machine: &MachinePlan, prefix: &str, depth: usize, out: &mut String) {
    let indent = "    ".repeat(depth);
    put(out, format_args!("{indent}{prefix}s0((\" \"))\n"));
    Part { plan, machine, prefix }.flow_inside(StateIndex::ROOT, depth, out);
    for (label, index) in labeled(machine) {
        let transition = machine.transition(index);
        let target = transition.target.unwrap_or(transition.source);
        let label = mermaid_text(&label);
        put(out, format_args!("{indent}{prefix}s{} -->|\"{label}\"| {prefix}s{target}\n", transition.source));
    }
}

/// A machine inside a picture.
struct Part<'p> {
    plan: &'p Plan,
    machine: &'p MachinePlan,
    /// Of all its ids.
    prefix: &'p str,
}

impl Part<'_> {
    fn dot_inside(&self, parent: StateIndex, depth: usize, out: &mut String) {
        let Self { machine, prefix, .. } = *self;
        let indent = "    ".repeat(depth);
        // Edges of a state with an inside begin and end at its point.
        put(out, format_args!("{indent}{prefix}s{parent} [shape=point];\n"));
        if let StateKind::Compound { initial } = machine.state(parent).kind {
            put(out, format_args!("{indent}{prefix}s{parent} -> {prefix}s{initial};\n"));
        }
        for child in &machine.state(parent).children {
            let name = dot_text(&name_of(machine, *child));
            let id = format!("{prefix}s{child}");
            match machine.state(*child).kind {
                StateKind::Compound { .. } | StateKind::Parallel => {
                    put(
                        out,
                        format_args!("{indent}subgraph cluster_{id} {{\n{indent}    label=\"{name}\";\n"),
                    );
                    self.dot_inside(*child, depth + 1, out);
                    put(out, format_args!("{indent}}}\n"));
                }
                StateKind::Final => {
                    put(out, format_args!("{indent}{id} [label=\"{name}\", peripheries=2];\n"));
                }
                StateKind::Atomic | StateKind::History { .. } => {
                    put(out, format_args!("{indent}{id} [label=\"{name}\"];\n"));
                }
            }
            for node in &machine.state(*child).invocations {
                dot_bodies(self.plan.node(*node), &id, depth, out);
            }
        }
    }

    fn flow_inside(&self, parent: StateIndex, depth: usize, out: &mut String) {
        let Self { machine, prefix, .. } = *self;
        let indent = "    ".repeat(depth);
        for child in &machine.state(parent).children {
            let name = mermaid_text(&name_of(machine, *child));
            let id = format!("{prefix}s{child}");
            let state = machine.state(*child);
            let bodies: Vec<_> =
                state.invocations.iter().flat_map(|node| bodies(self.plan.node(*node))).collect();
            match state.kind {
                StateKind::Final => put(out, format_args!("{indent}{id}(((\"{name}\")))\n")),
                StateKind::Atomic | StateKind::History { .. } if bodies.is_empty() => {
                    put(out, format_args!("{indent}{id}(\"{name}\")\n"));
                }
                _ => {
                    put(out, format_args!("{indent}subgraph {id}[\"{name}\"]\n"));
                    mermaid_bodies(&bodies, &id, depth + 1, out);
                    self.flow_inside(*child, depth + 1, out);
                    put(out, format_args!("{indent}end\n"));
                }
            }
        }
        if let (StateKind::Compound { initial }, StateIndex::ROOT) = (machine.state(parent).kind, parent) {
            put(out, format_args!("{indent}{prefix}s0 --> {prefix}s{initial}\n"));
        }
    }
}

fn name_of(machine: &MachinePlan, index: StateIndex) -> String {
    let state = machine.state(index);
    match state.kind {
        StateKind::History { is_deep: false, .. } => format!("{} (H)", state.key),
        StateKind::History { is_deep: true, .. } => format!("{} (H*)", state.key),
        _ => state.key.clone(),
    }
}

/// Every transition with what it waits for, state by state.
fn labeled(machine: &MachinePlan) -> Vec<(String, TransitionIndex)> {
    let mut found: Vec<(String, TransitionIndex)> = Vec::new();
    let mut add = |label: &str, list: &[TransitionIndex]| {
        for index in list {
            let transition = machine.transition(*index);
            let errors = match transition.patterns.as_slice() {
                [] => String::new(),
                patterns => format!(" {}", patterns.join(", ")),
            };
            let guard = transition.guard.as_ref().map(guard_text).unwrap_or_default();
            found.push((format!("{label}{errors}{guard}"), *index));
        }
    };
    for state in &machine.states {
        for (name, list) in &state.on {
            add(name, list);
        }
        add("always", &state.always);
        add("done", &state.on_done);
        for timer in &state.timers {
            let timer = machine.timer(*timer);
            add(&format!("after {}", show_duration(timer.delay)), &timer.transitions);
        }
        for node in &state.invocations {
            let invocation = machine.invocation(*node);
            add("invoked", &invocation.on_done);
            add("error", &invocation.on_error);
        }
    }
    found
}

fn guard_text(guard: &Expression) -> String {
    format!(" [{}]", text_of(&guard.text().into()))
}
