//! A run's log, as clients read it.

use jiff::Timestamp;
use serde_json::Value;

/// One entry.
#[derive(Clone, Debug)]
pub struct Event {
    pub seq: u64,
    pub at: Timestamp,
    /// `step.started`
    pub kind: String,
    /// Of an item with its index: `grade.do[3]`.
    pub node: Option<String>,
    pub attempt: Option<u64>,
    pub epoch: Option<u64>,
    /// The whole of `event` in the envelope.
    pub body: Value,
}

impl Event {
    /// Reads the envelope that pages and streams carry.
    ///
    /// # Panics
    /// When it is not one.
    pub fn from_envelope(envelope: &Value) -> Self {
        assert_eq!(envelope["type"], "run.event", "not an event: {envelope}");
        let body = envelope["event"].clone();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Self {
            seq: envelope["seq"].as_u64().expect("an event has a seq"),
            at: text(&envelope["at"]).and_then(|at| at.parse().ok()).expect("an event has a time"),
            kind: text(&body["type"]).expect("an event has a type"),
            node: text(&body["node"]).map(|node| match body["item"].as_u64() {
                Some(item) => format!("{node}[{item}]"),
                None => node,
            }),
            attempt: body["attempt"].as_u64(),
            epoch: body["epoch"].as_u64(),
            body,
        }
    }

    /// The time as the API writes it.
    pub fn at_text(&self) -> String {
        format!("{:.6}", self.at)
    }

    pub fn is(&self, kind: &str) -> bool {
        self.kind == kind
    }

    pub fn is_about(&self, node: &str) -> bool {
        self.node.as_deref() == Some(node)
    }

    pub fn is_terminal(&self) -> bool {
        matches!(self.kind.as_str(), "run.completed" | "run.failed" | "run.canceled")
    }

    /// What happened to a step: `started` of `step.started`, and of `compensation.started` as well.
    pub fn verb(&self) -> &str {
        let verb = self.kind.strip_prefix("step.").or_else(|| self.kind.strip_prefix("compensation."));
        verb.filter(|_| self.node.is_some()).unwrap_or_default()
    }

    /// Whether an attempt begins, of a step or of what undoes one.
    pub fn is_start(&self) -> bool {
        self.verb() == "started"
    }

    /// Whether this is the outcome of a step attempt.
    pub fn is_outcome(&self) -> bool {
        matches!(self.verb(), "succeeded" | "failed" | "timed_out" | "canceled" | "skipped" | "lost")
    }

    pub fn is_by_a_person(&self) -> bool {
        self.body["actor"]["kind"] == "user"
    }
}

/// `step.started pay/1`
impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.kind)?;
        match (&self.node, self.attempt) {
            (Some(node), Some(attempt)) => write!(f, " {node}/{attempt}"),
            (Some(node), None) => write!(f, " {node}"),
            _ => Ok(()),
        }
    }
}

/// All of a run's events, in order.
#[derive(Clone, Debug)]
pub struct Log(pub Vec<Event>);

impl Log {
    /// The log without who held the run when: what would be the same had nobody died.
    pub fn story(&self) -> Vec<String> {
        self.0.iter().filter(|event| !event.is("run.engine_taken")).map(ToString::to_string).collect()
    }

    /// The log with all that it says, without who held the run when, and with nothing in it that differs from one time
    /// to another: ids and times.
    pub fn retold(&self) -> Vec<String> {
        let told = self.0.iter().filter(|event| !event.is("run.engine_taken"));
        told.map(|event| format!("{event} {}", without_ids_and_times(event.body.clone()))).collect()
    }

    pub fn count(&self, kind: &str) -> usize {
        self.0.iter().filter(|event| event.is(kind)).count()
    }

    /// Every event of this kind about this node.
    pub fn of(&self, kind: &str, node: &str) -> Vec<&Event> {
        self.0.iter().filter(|event| event.is(kind) && event.is_about(node)).collect()
    }

    pub fn has(&self, kind: &str, node: &str) -> bool {
        !self.of(kind, node).is_empty()
    }

    /// The first event of this kind.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn first(&self, kind: &str) -> &Event {
        self.0.iter().find(|event| event.is(kind)).unwrap_or_else(|| panic!("no {kind} in\n{self}"))
    }

    /// The first event of this kind about this node.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn step(&self, kind: &str, node: &str) -> &Event {
        let found = self.0.iter().find(|event| event.is(kind) && event.is_about(node));
        found.unwrap_or_else(|| panic!("no {kind} of {node} in\n{self}"))
    }
}

/// What stands under these names counts engines, is made of ids, or was said by the clock of another server.
const OF_THIS_TIME: &[&str] = &["epoch", "digest", "date"];

fn without_ids_and_times(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let members = members.into_iter().filter(|(name, _)| !OF_THIS_TIME.contains(&name.as_str()));
            members.map(|(name, value)| (name, without_ids_and_times(value))).collect()
        }
        Value::Array(items) => items.into_iter().map(without_ids_and_times).collect(),
        Value::String(text) if text.parse::<Timestamp>().is_ok() => "a time".into(),
        Value::String(text) => hide_ids(&text).into(),
        other => other,
    }
}

/// An idempotency key has a run's id in it, and more.
fn hide_ids(text: &str) -> String {
    let is_of_an_id = |part: &str| part.len() >= 8 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let parts = text
        .split('/')
        .map(|part| if part.split('-').next().is_some_and(is_of_an_id) { "an id" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

impl std::fmt::Display for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for event in &self.0 {
            writeln!(f, "{:>5} {} {event} {}", event.seq, event.at, event.body)?;
        }
        Ok(())
    }
}
