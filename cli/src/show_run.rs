//! A run, its steps and its events as text for people.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;
use windlass_model::{RunStatus, Timestamp};

use crate::live::seconds;
use crate::output::{Column, Style, clean, table, text, time, yaml};

/// One run: what it is, where it stands, and each step; and the states of its machine, if it is one.
pub fn summary(run: &Value, machine: Option<&Value>) -> String {
    let style = Style::stdout();
    let mut lines = String::new();
    let mut line = |title: &str, value: String| {
        if !value.is_empty() {
            // Writing into a String cannot fail.
            let _ = writeln!(lines, "{} {value}", style.dim(&format!("{title:<10}")));
        }
    };
    line("run", text(run, "/id"));
    line("workflow", workflow_name(run));
    let reason = reason(run);
    let reason = if reason.is_empty() { reason } else { format!(" ({})", clean(&reason)) };
    line("status", format!("{}{reason}", style.status(&text(run, "/status"))));
    line("outcome", partial_end(run));
    if let Some(machine) = machine {
        line("state", clean(&states(machine)).into_owned());
        line(
            "events",
            clean(&sendable(machine).map(|event| text(event, "/name")).collect::<Vec<_>>().join(", "))
                .into_owned(),
        );
    }
    line("created", time(run, "/created_at"));
    line("started", time(run, "/started_at"));
    line("ended", time(run, "/ended_at"));
    line("labels", labels(run));
    line("origin", [text(run, "/origin/because"), text(run, "/origin/run_id")].join(" ").trim().to_owned());
    line("moved to", text(run, "/moved_to"));
    line("error", clean(&error(run, "/error")).into_owned());
    if let Some(output) = run.get("output").filter(|output| !output.is_null()) {
        line("output", indented(output));
    }
    if let Some(steps) = run.get("steps").and_then(Value::as_array).filter(|steps| !steps.is_empty()) {
        let _ = write!(lines, "\n{}", table(steps, STEP_COLUMNS));
    }
    lines
}

const STEP_COLUMNS: &[Column] = &[
    Column { title: "STEP", cell: step_label },
    Column { title: "KIND", cell: |step| text(step, "/kind") },
    Column { title: "STATUS", cell: |step| text(step, "/status") },
    Column { title: "ATTEMPT", cell: |step| text(step, "/attempt") },
    Column { title: "TOOK", cell: took },
    Column { title: "DETAILS", cell: step_details },
];

/// `NODE`; of one of its items `NODE[INDEX]`, and of a branch `NODE[BRANCH]`.
pub fn step_label(step: &Value) -> String {
    let branch = text(step, "/branch");
    let item = if branch.is_empty() { text(step, "/item") } else { branch };
    let node = text(step, "/node");
    if item.is_empty() { node } else { format!("{node}[{item}]") }
}

/// The states that a machine is in, by their paths.
pub fn states(machine: &Value) -> String {
    let states = machine.get("states").and_then(Value::as_array).into_iter().flatten();
    states.filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

/// The events that may be sent to a machine, as signals.
pub fn sendable(machine: &Value) -> impl Iterator<Item = &Value> {
    machine.get("events").and_then(Value::as_array).into_iter().flatten()
}

pub fn workflow_name(run: &Value) -> String {
    let (name, version) = (text(run, "/workflow"), text(run, "/version"));
    if version.is_empty() { name } else { format!("{name}@{version}") }
}

/// Why a run is paused, or by which error it ended.
pub fn reason(run: &Value) -> String {
    match (text(run, "/paused_reason"), run.get("error")) {
        (reason, _) if !reason.is_empty() => reason,
        (_, Some(error)) => text(error, "/type"),
        // Lists are narrow: they carry the type alone.
        (_, None) => text(run, "/error_type"),
    }
}

/// What the status of a run that has ended does not say: that some of it failed, or was not undone.
pub fn partial_end(run: &Value) -> String {
    let outcome = Some(text(run, "/outcome")).filter(|outcome| outcome == "partial_failure");
    let undoing = Some(text(run, "/compensation/outcome")).filter(|outcome| outcome == "incomplete");
    let undoing = undoing.map(|_| "incomplete compensation".to_owned());
    outcome.into_iter().chain(undoing).collect::<Vec<_>>().join(", ")
}

pub fn has_ended(run: &Value) -> bool {
    RunStatus::parse(&text(run, "/status")).is_some_and(RunStatus::is_terminal)
}

fn labels(run: &Value) -> String {
    let labels = run.get("labels").and_then(Value::as_object).into_iter().flatten();
    let pairs: Vec<String> =
        labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    clean(&pairs.join(" ")).into_owned()
}

fn error(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        Some(Value::Object(_)) => {
            format!(
                "{}: {}",
                text(value, &format!("{pointer}/type")),
                text(value, &format!("{pointer}/message"))
            )
        }
        _ => text(value, pointer),
    }
}

/// Scalars on the same line; anything else below, a little to the right.
fn indented(value: &Value) -> String {
    let written = yaml(value).unwrap_or_else(|_| value.to_string());
    let lines: Vec<String> = written.trim_end().lines().map(|line| clean(line).into_owned()).collect();
    match lines.as_slice() {
        [line] => line.clone(),
        lines => lines.iter().map(|line| format!("\n  {line}")).collect(),
    }
}

fn took(step: &Value) -> String {
    let at = |pointer| text(step, pointer).parse::<Timestamp>().ok();
    let span: Option<Duration> = at("/started_at").zip(at("/ended_at")).map(|(from, to)| from.until(to));
    span.map(seconds).unwrap_or_default()
}

fn step_details(step: &Value) -> String {
    let error = error(step, "/error");
    if !error.is_empty() {
        return error;
    }
    if step.get("reused").is_some() {
        return "reused".to_owned();
    }
    let on = text(step, "/waiting_on/on");
    if on.is_empty() {
        return failed_items(step).unwrap_or_else(|| text(step, "/skip_reason"));
    }
    let name = text(step, "/waiting_on/name");
    let name = if name.is_empty() { text(step, "/waiting_on/run_id") } else { format!("`{name}`") };
    let name = if name.is_empty() { name } else { format!(" {name}") };
    let until = time(step, "/waiting_on/until");
    let until = if until.is_empty() { until } else { format!(" until {until}") };
    format!("waits for {on}{name}{until}")
}

/// None of a step without items, and of one whose items have all gone well.
fn failed_items(step: &Value) -> Option<String> {
    let count = step.pointer("/items/count")?.as_u64()?;
    let failed = step.pointer("/items/failed")?.as_u64().filter(|failed| *failed > 0)?;
    Some(format!("{failed} of {count} items failed"))
}

// ---- events ------------------------------------------------------------------------------------

/// `2026-11-20 14:52:03.123`
pub fn precise_time(value: &Value, pointer: &str) -> String {
    let text = text(value, pointer);
    text.get(..23).map_or_else(|| text.clone(), |it| it.replace('T', " "))
}

/// The step or the item that an event is about.
pub fn event_step(envelope: &Value) -> String {
    envelope.get("event").map(step_label).unwrap_or_default()
}

/// What an event says beside its columns.
pub fn event_details(envelope: &Value) -> String {
    const SHOWN_ELSEWHERE: &[&str] =
        &["type", "node", "attempt", "actor", "epoch", "idempotency_key", "item"];
    let event = envelope.get("event").and_then(Value::as_object).into_iter().flatten();
    let parts: Vec<String> = event
        .filter(|(key, _)| !SHOWN_ELSEWHERE.contains(&key.as_str()))
        .map(|(key, value)| match value {
            Value::String(text) => format!("{key}={text}"),
            other => format!("{key}={other}"),
        })
        .collect();
    parts.join(" ")
}

/// An event as one line, for those who follow.
pub fn event_line(envelope: &Value) -> String {
    let node = event_step(envelope);
    let attempt = text(envelope, "/event/attempt");
    let whose = match (node.is_empty(), attempt.is_empty()) {
        (true, _) => String::new(),
        (false, true) => format!("  {node}"),
        (false, false) => format!("  {node}#{attempt}"),
    };
    let line = format!(
        "{:>5}  {}  {}{whose}  {}",
        text(envelope, "/seq"),
        precise_time(envelope, "/at"),
        text(envelope, "/event/type"),
        event_details(envelope)
    );
    clean(line.trim_end()).into_owned()
}

/// What a run waits for, as the server explains it.
pub fn explanation(found: &Value) -> String {
    let style = Style::stdout();
    let mut lines = format!("{}\n", clean(&text(found, "/summary")));
    for step in found.get("steps").and_then(Value::as_array).into_iter().flatten() {
        let status = style.status(&text(step, "/status"));
        let (node, sentence) = (text(step, "/node"), text(step, "/sentence"));
        // Writing into a String cannot fail.
        let _ = writeln!(lines, "  {}  {status}  {}", clean(&node), clean(&sentence));
    }
    let held_by = text(found, "/held_by");
    if !held_by.is_empty() {
        let _ = writeln!(lines, "held by worker session {}", clean(&held_by));
    }
    let commands = found.get("would_move").and_then(Value::as_array).into_iter().flatten();
    let commands: Vec<&str> = commands.filter_map(Value::as_str).collect();
    let commands = if commands.is_empty() { "nothing".to_owned() } else { commands.join(", ") };
    let _ = writeln!(lines, "you may now: {}", clean(&commands));
    lines
}
