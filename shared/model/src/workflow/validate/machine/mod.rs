//! Reads state machines: first the tree of states, then what each of them says.

mod checks;
mod states;
mod transitions;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::Checker;
use super::fields::Scope;
use super::node::Draft;
use crate::machine::{
    Invocation, MachinePlan, STATES_MAX, State, StateKind, TRANSITIONS_MAX, Timer, Transition,
    TransitionIndex,
};
use crate::workflow::schema::{Schema, member};
use crate::workflow::{closest, excerpt};
use crate::{NodeIndex, StateIndex};

/// A name that can be sent, as of a signal.
const EVENT_CHARS_MAX: usize = 64;

/// A machine on its way into the plan.
pub(super) struct Machine<'v> {
    states: Vec<StateDraft<'v>>,
    transitions: Vec<Transition>,
    timers: Vec<Timer>,
    invocations: Vec<Invocation>,
    nodes: Vec<Draft>,
    by_path: BTreeMap<String, StateIndex>,
    /// Where the transitions stand in the document.
    pointers: Vec<String>,
    /// Names in `on`, each with the place where it was met first.
    handled: BTreeMap<String, String>,
    raised: BTreeMap<String, String>,
    /// What `context` and `assign` put into the context.
    remembered: BTreeSet<String>,
    /// Something could not be read: what follows from it is not checked.
    is_partial: bool,
}

/// A state, and where it was written.
struct StateDraft<'v> {
    state: State,
    pointer: String,
    map: &'v Map<String, Value>,
}

impl Checker<'_> {
    /// What a machine's states invoke, and the machine; nothing when there is none to speak of.
    pub(super) fn machine(&mut self, top: &Map<String, Value>) -> (Vec<Draft>, Option<MachinePlan>) {
        let mut machine = Machine {
            states: Vec::new(),
            transitions: Vec::new(),
            timers: Vec::new(),
            invocations: Vec::new(),
            nodes: Vec::new(),
            by_path: BTreeMap::new(),
            pointers: Vec::new(),
            handled: BTreeMap::new(),
            raised: BTreeMap::new(),
            remembered: BTreeSet::new(),
            is_partial: false,
        };
        if self.machine_states(top, &mut machine).is_none() {
            return (Vec::new(), None);
        }
        let context = self.machine_context(top, &mut machine);
        for at in 0..machine.states.len() {
            self.machine_state(&mut machine, at);
        }
        let events = self.machine_events(top, &machine);
        self.check_machine(&machine);
        let Machine { states, transitions, timers, invocations, nodes, .. } = machine;
        let states = states.into_iter().map(|draft| draft.state).collect();
        let plan =
            context.map(|context| MachinePlan { states, transitions, timers, invocations, events, context });
        (nodes, plan)
    }

    fn machine_context(
        &mut self,
        top: &Map<String, Value>,
        machine: &mut Machine<'_>,
    ) -> Option<crate::workflow::expression::Template> {
        let written = match top.get("context") {
            None => Value::Object(Map::new()),
            Some(value) => Value::Object(self.object(value, "/context", "`context`")?.clone()),
        };
        machine.remembered.extend(written.as_object().into_iter().flat_map(Map::keys).cloned());
        self.template(written, "/context", Scope::machine(&[]))
    }

    fn machine_events(
        &mut self,
        top: &Map<String, Value>,
        machine: &Machine<'_>,
    ) -> BTreeMap<String, Option<Schema>> {
        let Some(value) = top.get("events") else {
            return machine.handled.keys().map(|name| (name.clone(), None)).collect();
        };
        let mut events = BTreeMap::new();
        let Some(map) = self.object(value, "/events", "`events`") else { return events };
        for (name, schema) in map {
            let pointer = member("/events", name);
            self.check_event_name(name, &pointer);
            let kind = schema.get("type");
            if kind.is_some_and(|kind| kind != "object") {
                let detail = "what an event brings is an object: write `type: object`";
                self.problem("bad_schema", &member(&pointer, "type"), detail);
            }
            if !machine.handled.contains_key(name) {
                let detail = format!("no state has `on: {}`", excerpt(name));
                self.key_problem("unreachable", &pointer, detail);
            }
            events.insert(name.clone(), self.schema(schema, &pointer));
        }
        for (name, pointer) in &machine.handled {
            if !events.contains_key(name) && !machine.raised.contains_key(name) {
                self.unknown_event(name, pointer, events.keys());
            }
        }
        events
    }

    fn unknown_event<'n>(&mut self, name: &str, pointer: &str, known: impl Iterator<Item = &'n String>) {
        let shown = excerpt(name);
        let detail = match closest(name, known.map(String::as_str)) {
            Some(near) => format!("`events` names no `{shown}`; did you mean `{near}`?"),
            None => format!("`events` names no `{shown}`, and nothing raises it"),
        };
        self.key_problem("unknown_event", pointer, detail);
    }

    fn check_event_name(&mut self, name: &str, pointer: &str) {
        let is_name = name.len() <= EVENT_CHARS_MAX
            && name.starts_with(|first: char| first.is_ascii_alphabetic())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
        if !is_name {
            let detail = format!(
                "`{}` is no event: its name starts with a letter and goes on with letters, digits, `_`, `-` \
                 and `.`, {EVENT_CHARS_MAX} characters at most",
                excerpt(name)
            );
            self.key_problem("bad_id", pointer, detail);
        }
    }

    /// The state that `target` means when `source` says it.
    fn target(
        &mut self,
        machine: &mut Machine<'_>,
        source: StateIndex,
        value: &Value,
        pointer: &str,
    ) -> Option<StateIndex> {
        let Some(text) = value.as_str() else {
            self.problem("invalid_field", pointer, "a target is the name of a state");
            machine.is_partial = true;
            return None;
        };
        let found = machine.resolve(source, text);
        if found.is_none() {
            machine.is_partial = true;
            let names = machine.states[1..].iter().map(|draft| draft.state.key.as_str());
            let near = machine.by_path.keys().find(|path| path.rsplit('.').next() == Some(text));
            let detail = match (near, closest(text, names)) {
                (Some(path), _) => {
                    format!("there is no state `{text}` beside this one; from anywhere it is `#{path}`")
                }
                (None, Some(near)) => {
                    format!("there is no state `{}`; did you mean `{near}`?", excerpt(text))
                }
                (None, None) => format!("there is no state `{}`", excerpt(text)),
            };
            self.problem("unknown_state", pointer, detail);
        }
        found
    }
}

impl Machine<'_> {
    fn state(&self, index: StateIndex) -> &State {
        &self.states[index.at()].state
    }

    /// `name` beside the source, `.name` within it, `#name` from the top; further names behind dots.
    fn resolve(&self, source: StateIndex, text: &str) -> Option<StateIndex> {
        let (base, rest) = match (text.strip_prefix('#'), text.strip_prefix('.')) {
            (Some(rest), _) => (StateIndex::ROOT, rest),
            (_, Some(rest)) => (source, rest),
            // The machine has no neighbours; what it names is its own.
            _ => (self.state(source).parent.unwrap_or(StateIndex::ROOT), text),
        };
        let base = self.state(base).path.as_str();
        let path = if base.is_empty() { rest.to_owned() } else { format!("{base}.{rest}") };
        self.by_path.get(&path).copied().filter(|found| *found != StateIndex::ROOT)
    }

    fn add_transition(&mut self, transition: Transition, pointer: String) -> TransitionIndex {
        let index = TransitionIndex(u16::try_from(self.transitions.len()).unwrap_or(u16::MAX));
        self.transitions.push(transition);
        self.pointers.push(pointer);
        index
    }

    fn next_node(&self) -> NodeIndex {
        NodeIndex(u16::try_from(self.nodes.len()).unwrap_or(u16::MAX))
    }
}
