//! Reads transitions and actions.

use serde_json::{Map, Value};

use super::super::Checker;
use super::super::fields::Scope;
use super::{Machine, TRANSITIONS_MAX};
use crate::StateIndex;
use crate::machine::{Action, Transition, TransitionIndex};
use crate::workflow::excerpt;
use crate::workflow::expression::Template;
use crate::workflow::schema::member;

const TRANSITION_KEYS: &[&str] = &["target", "guard", "actions", "reenter", "description"];
const ON_ERROR_KEYS: &[&str] = &["match", "target", "guard", "actions", "reenter", "description"];
const MESSAGE_KEYS: &[&str] = &["type", "data"];
/// Longer names are no names.
const EMITTED_BYTES_MAX: usize = 128;

/// What expressions of one place may read of the machine.
type Names = &'static [&'static str];

impl Checker<'_> {
    pub(super) fn state_transitions(&mut self, machine: &mut Machine<'_>, index: StateIndex) {
        let draft = &machine.states[index.at()];
        let (map, pointer) = (draft.map, draft.pointer.clone());
        let on = member(&pointer, "on");
        let handled = map.get("on").and_then(|value| self.object(value, &on, "`on`"));
        for (name, value) in handled.into_iter().flatten() {
            let pointer = member(&on, name);
            self.check_event_name(name, &pointer);
            machine.handled.entry(name.clone()).or_insert_with(|| pointer.clone());
            let list = self.transitions(machine, index, value, &pointer, &["context", "event"]);
            machine.states[index.at()].state.on.insert(name.clone(), list);
        }
        if let Some(value) = map.get("always") {
            let pointer = member(&pointer, "always");
            let list = self.transitions(machine, index, value, &pointer, &["context", "event"]);
            machine.states[index.at()].state.always = list;
        }
        // That of a `dag` belongs to the node.
        if let Some(value) = map.get("on_done").filter(|_| !map.contains_key("dag")) {
            let pointer = member(&pointer, "on_done");
            let list = self.transitions(machine, index, value, &pointer, &["context", "event", "output"]);
            machine.states[index.at()].state.on_done = list;
        }
    }

    /// A target, a transition, or several: the first whose guard is true is taken.
    pub(super) fn transitions(
        &mut self,
        machine: &mut Machine<'_>,
        source: StateIndex,
        value: &Value,
        pointer: &str,
        names: Names,
    ) -> Vec<TransitionIndex> {
        let Some(list) = value.as_array() else {
            return self.transition(machine, source, value, pointer.to_owned(), names).into_iter().collect();
        };
        let mut found: Vec<TransitionIndex> = Vec::new();
        for (at, value) in list.iter().enumerate() {
            let pointer = format!("{pointer}/{at}");
            if found.last().is_some_and(|last| is_certain(&machine.transitions[last.at()])) {
                let detail = "the one before has no guard, so this one is never taken";
                self.problem("unreachable", &pointer, detail);
            }
            found.extend(self.transition(machine, source, value, pointer, names));
        }
        found
    }

    fn transition(
        &mut self,
        machine: &mut Machine<'_>,
        source: StateIndex,
        value: &Value,
        pointer: String,
        names: Names,
    ) -> Option<TransitionIndex> {
        if machine.transitions.len() >= TRANSITIONS_MAX {
            let detail = format!("a machine has at most {TRANSITIONS_MAX} transitions");
            self.problem("too_many_transitions", "/states", detail);
            return None;
        }
        let mut transition = Transition {
            source,
            target: None,
            reenter: false,
            guard: None,
            patterns: Vec::new(),
            actions: Vec::new(),
        };
        if value.is_string() {
            transition.target = self.target(machine, source, value, &pointer);
            return Some(machine.add_transition(transition, pointer));
        }
        let Some(map) = value.as_object() else {
            let detail =
                "a transition is the name of a state, or a mapping with `target`, `guard` and `actions`";
            self.problem("invalid_field", &pointer, detail);
            return None;
        };
        let is_on_error = names.contains(&"error");
        let keys = if is_on_error { ON_ERROR_KEYS } else { TRANSITION_KEYS };
        self.check_unknown_keys(map, &pointer, keys, &[]);
        if let Some(value) = map.get("target") {
            transition.target = self.target(machine, source, value, &member(&pointer, "target"));
        }
        if let Some(value) = map.get("guard") {
            transition.guard = self.condition(value, &member(&pointer, "guard"), Scope::machine(names));
            // Whatever it says: it is not the same as no guard.
            machine.is_partial |= transition.guard.is_none();
        }
        if let Some(value) = map.get("reenter") {
            transition.reenter = self.boolean(value, &member(&pointer, "reenter")).unwrap_or(false);
        }
        if let Some(value) = map.get("match").filter(|_| is_on_error) {
            transition.patterns = self.patterns(value, &member(&pointer, "match"));
        }
        if let Some(value) = map.get("actions") {
            transition.actions = self.actions(machine, value, &member(&pointer, "actions"), names);
        }
        Some(machine.add_transition(transition, pointer))
    }

    /// One action, or a list of them.
    pub(super) fn actions(
        &mut self,
        machine: &mut Machine<'_>,
        value: &Value,
        pointer: &str,
        names: Names,
    ) -> Vec<Action> {
        match value {
            Value::Array(list) => {
                let actions = list.iter().enumerate();
                let read = |(at, value)| self.action_of(machine, value, &format!("{pointer}/{at}"), names);
                actions.filter_map(read).collect()
            }
            _ => self.action_of(machine, value, pointer, names).into_iter().collect(),
        }
    }

    fn action_of(
        &mut self,
        machine: &mut Machine<'_>,
        value: &Value,
        pointer: &str,
        names: Names,
    ) -> Option<Action> {
        let only = value.as_object().filter(|map| map.len() == 1).and_then(|map| map.iter().next());
        let Some((key, value)) = only else {
            let detail = "an action is a mapping with one of `assign`, `emit` and `raise`";
            self.problem("invalid_field", pointer, detail);
            return None;
        };
        let (parent, pointer) = (pointer, member(pointer, key));
        match key.as_str() {
            "assign" => self.assign(machine, value, &pointer, names),
            "emit" => {
                let (kind, data) = self.message(value, &pointer, names)?;
                if kind.is_empty() || kind.len() > EMITTED_BYTES_MAX {
                    let detail = format!("a type has 1 to {EMITTED_BYTES_MAX} characters");
                    self.problem("invalid_field", &member(&pointer, "type"), detail);
                }
                Some(Action::Emit { kind, data })
            }
            "raise" => {
                let (event, payload) = self.message(value, &pointer, names)?;
                self.check_event_name(&event, &pointer);
                machine.raised.entry(event.clone()).or_insert(pointer);
                Some(Action::Raise { event, payload })
            }
            _ => {
                self.unknown_key(key, parent, &["assign", "emit", "raise"], &[]);
                None
            }
        }
    }

    fn assign(
        &mut self,
        machine: &mut Machine<'_>,
        value: &Value,
        pointer: &str,
        names: Names,
    ) -> Option<Action> {
        let map = self.object(value, pointer, "`assign`")?;
        machine.remembered.extend(map.keys().cloned());
        let template = self.template(value.clone(), pointer, Scope::machine(names))?;
        Some(Action::Assign(template))
    }

    /// `NAME`, or `{type: NAME, data}`.
    fn message(&mut self, value: &Value, pointer: &str, names: Names) -> Option<(String, Template)> {
        if let Some(name) = value.as_str() {
            return Some((name.to_owned(), Template::literal(Value::Object(Map::new()))));
        }
        let map = self.object(value, pointer, "an event")?;
        self.check_unknown_keys(map, pointer, MESSAGE_KEYS, &[]);
        let Some(kind) = map.get("type").and_then(Value::as_str) else {
            self.problem("missing_field", pointer, "`type` is missing: the name of the event");
            return None;
        };
        if kind.contains("${{") {
            let detail = format!("`{}` is an expression; a type is fixed", excerpt(kind));
            self.problem("invalid_field", &member(pointer, "type"), detail);
        }
        let data = map.get("data").cloned().unwrap_or_else(|| Value::Object(Map::new()));
        let data = self.template(data, &member(pointer, "data"), Scope::machine(names))?;
        Some((kind.to_owned(), data))
    }
}

/// Whenever it is asked, it is taken.
pub(super) fn is_certain(transition: &Transition) -> bool {
    transition.guard.is_none() && transition.patterns.iter().all(|pattern| pattern == "*")
}
