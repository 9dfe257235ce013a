//! Reads the tree of states, and each state's own keys.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::super::fields::Scope;
use super::super::node::{Draft, is_id};
use super::super::{Checker, ID_CHARS_MAX};
use super::{Machine, STATES_MAX, State, StateDraft, StateKind};
use crate::StateIndex;
use crate::machine::{Invocation, Timer, TimerIndex};
use crate::workflow::excerpt;
use crate::workflow::schema::member;

/// What a state may say, and which kinds of state may say it.
const STATE_KEYS: &[(&str, &[Kind])] = &[
    ("type", ALL),
    ("description", ALL),
    ("initial", &[Kind::Compound]),
    ("states", &[Kind::Compound, Kind::Parallel]),
    ("on", ACTIVE),
    ("always", ACTIVE),
    ("after", ACTIVE),
    // Of an atomic state it belongs to its `dag`.
    ("on_done", ACTIVE),
    ("on_error", &[Kind::Atomic]),
    ("dag", &[Kind::Atomic]),
    ("entry", ENTERED),
    ("exit", ENTERED),
    ("invoke", ACTIVE),
    ("output", &[Kind::Final]),
    ("history", &[Kind::History]),
    ("target", &[Kind::History]),
];
const ALL: &[Kind] = &[Kind::Atomic, Kind::Compound, Kind::Parallel, Kind::Final, Kind::History];
const ENTERED: &[Kind] = &[Kind::Atomic, Kind::Compound, Kind::Parallel, Kind::Final];
const ACTIVE: &[Kind] = &[Kind::Atomic, Kind::Compound, Kind::Parallel];
/// Keys of a node that mean nothing where a state decides when it runs.
const NOT_INVOKED_KEYS: &[&str] = &["if", "needs"];

const WITH_ITEMS: &[&str] = &["map", "loop", "parallel"];

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Atomic,
    Compound,
    Parallel,
    Final,
    History,
}

const KINDS: &[(&str, Kind)] = &[
    ("atomic", Kind::Atomic),
    ("compound", Kind::Compound),
    ("parallel", Kind::Parallel),
    ("final", Kind::Final),
    ("history", Kind::History),
];

impl Kind {
    fn name(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

impl Checker<'_> {
    /// The whole tree; nothing when it is not there or too large to look at.
    pub(super) fn machine_states<'v>(
        &mut self,
        top: &'v Map<String, Value>,
        machine: &mut Machine<'v>,
    ) -> Option<()> {
        if !top.contains_key("states") {
            self.problem("missing_field", "", "`states` is missing");
            return None;
        }
        self.grow(machine, None, "", String::new(), top)?;
        let by_path = machine.states.iter().enumerate();
        machine.by_path = by_path
            .map(|(at, draft)| (draft.state.path.clone(), StateIndex(u16::try_from(at).unwrap_or(u16::MAX))))
            .collect();
        Some(())
    }

    /// Recursion is bounded by the depth of documents.
    fn grow<'v>(
        &mut self,
        machine: &mut Machine<'v>,
        parent: Option<StateIndex>,
        key: &str,
        pointer: String,
        map: &'v Map<String, Value>,
    ) -> Option<StateIndex> {
        if machine.states.len() >= STATES_MAX {
            self.problem("too_many_states", "/states", format!("a machine has at most {STATES_MAX} states"));
            return None;
        }
        let index = StateIndex(u16::try_from(machine.states.len()).unwrap_or(u16::MAX));
        let path = match parent.map(|parent| machine.state(parent).path.as_str()) {
            None | Some("") => key.to_owned(),
            Some(above) => format!("{above}.{key}"),
        };
        let state = State {
            key: key.to_owned(),
            path,
            parent,
            last: index,
            kind: StateKind::Atomic,
            children: Vec::new(),
            on: BTreeMap::new(),
            always: Vec::new(),
            on_done: Vec::new(),
            timers: Vec::new(),
            invocations: Vec::new(),
            entry: Vec::new(),
            exit: Vec::new(),
            output: None,
        };
        machine.states.push(StateDraft { state, pointer: pointer.clone(), map });
        let states = member(&pointer, "states");
        let children = map.get("states").and_then(|value| self.object(value, &states, "`states`"));
        for (key, value) in children.into_iter().flatten() {
            let pointer = member(&states, key);
            if !is_id(key) {
                let detail = format!(
                    "`{}` is no state: it starts with a letter and goes on with letters, digits, `_` and `-`, \
                     {ID_CHARS_MAX} characters at most",
                    excerpt(key)
                );
                self.key_problem("bad_id", &pointer, detail);
            }
            match self.object(value, &pointer, "a state") {
                Some(map) => {
                    let child = self.grow(machine, Some(index), key, pointer, map)?;
                    machine.states[index.at()].state.children.push(child);
                }
                None => machine.is_partial = true,
            }
        }
        machine.states[index.at()].state.last =
            StateIndex(u16::try_from(machine.states.len() - 1).unwrap_or(u16::MAX));
        Some(index)
    }

    pub(super) fn machine_state(&mut self, machine: &mut Machine<'_>, at: usize) {
        let index = StateIndex(u16::try_from(at).unwrap_or(u16::MAX));
        let (map, pointer) = (machine.states[at].map, machine.states[at].pointer.clone());
        let kind = self.state_kind(machine, index);
        if at > 0 {
            self.check_state_keys(map, &pointer, kind);
            if let Some(value) = map.get("description") {
                self.check_description(value, &member(&pointer, "description"));
            }
        }
        machine.states[at].state.kind = self.state_structure(machine, index, kind);
        self.state_transitions(machine, index);
        self.state_timers(machine, index);
        self.state_invocations(machine, index);
        let names = &["context", "event"];
        for key in ["entry", "exit"] {
            let pointer = member(&pointer, key);
            let actions = map.get(key).map(|value| self.actions(machine, value, &pointer, names));
            let state = &mut machine.states[at].state;
            let list = if key == "entry" { &mut state.entry } else { &mut state.exit };
            *list = actions.unwrap_or_default();
        }
        if let Some(value) = map.get("output").filter(|_| kind == Kind::Final) {
            let template = self.template(value.clone(), &member(&pointer, "output"), Scope::machine(names));
            machine.states[at].state.output = template;
        }
    }

    fn state_kind(&mut self, machine: &Machine<'_>, index: StateIndex) -> Kind {
        let draft = &machine.states[index.at()];
        let has_states = draft.map.contains_key("states");
        let by_itself = if has_states { Kind::Compound } else { Kind::Atomic };
        match draft.map.get("type") {
            Some(value) if index != StateIndex::ROOT => {
                let kind = self.word(value, &member(&draft.pointer, "type"), KINDS);
                match kind.unwrap_or(by_itself) {
                    Kind::Atomic if has_states => Kind::Compound,
                    kind => kind,
                }
            }
            _ => by_itself,
        }
    }

    fn check_state_keys(&mut self, map: &Map<String, Value>, pointer: &str, kind: Kind) {
        let names: Vec<&str> = STATE_KEYS.iter().map(|(name, _)| *name).collect();
        self.check_unknown_keys(map, pointer, &names, &[]);
        for (name, kinds) in STATE_KEYS {
            if map.contains_key(*name) && !kinds.contains(&kind) {
                let detail = match kind {
                    Kind::Final => format!("a final state is an end; it has no `{name}`"),
                    _ => format!("`{name}` does not go with this state, which is {}", kind.name()),
                };
                self.key_problem("invalid_field", &member(pointer, name), detail);
            }
        }
        let is_alone = kind == Kind::Atomic && !map.contains_key("dag");
        for name in ["on_done", "on_error"].iter().filter(|name| is_alone && map.contains_key(**name)) {
            let detail = format!(
                "`{name}` of a state without states says what follows its `dag`, and there is none; \
                 what follows an `invoke` is said inside that"
            );
            self.key_problem("invalid_field", &member(pointer, name), detail);
        }
    }

    fn state_structure(&mut self, machine: &mut Machine<'_>, index: StateIndex, kind: Kind) -> StateKind {
        let draft = &machine.states[index.at()];
        let (map, pointer) = (draft.map, draft.pointer.clone());
        let is_history = |child: &StateIndex| {
            machine.states[child.at()].map.get("type").is_some_and(|kind| kind == "history")
        };
        let children: Vec<StateIndex> =
            draft.state.children.iter().copied().filter(|child| !is_history(child)).collect();
        if matches!(kind, Kind::Compound | Kind::Parallel) && children.is_empty() {
            self.problem("missing_field", &pointer, "at least one state stands in `states`");
            machine.is_partial = true;
            return StateKind::Atomic;
        }
        match kind {
            Kind::Atomic => StateKind::Atomic,
            Kind::Final => StateKind::Final,
            Kind::Parallel => {
                self.check_regions(machine, &children);
                StateKind::Parallel
            }
            Kind::History => self.history(machine, index),
            Kind::Compound => match self.initial(machine, index, &children, map, &pointer) {
                Some(initial) => StateKind::Compound { initial },
                None => {
                    machine.is_partial = true;
                    StateKind::Compound { initial: children[0] }
                }
            },
        }
    }

    fn check_regions(&mut self, machine: &Machine<'_>, regions: &[StateIndex]) {
        for region in regions {
            let draft = &machine.states[region.at()];
            if draft.map.get("type").is_some_and(|kind| kind == "final") {
                let detail = "a part of a parallel state is no end by itself: put a final state into it";
                self.problem("invalid_field", &member(&draft.pointer, "type"), detail);
            }
        }
    }

    fn initial(
        &mut self,
        machine: &Machine<'_>,
        index: StateIndex,
        children: &[StateIndex],
        map: &Map<String, Value>,
        pointer: &str,
    ) -> Option<StateIndex> {
        let Some(value) = map.get("initial") else {
            let first = &machine.state(children[0]).key;
            let detail = format!("`initial` is missing: the state to begin in, such as `{first}`");
            self.problem("missing_field", pointer, detail);
            return None;
        };
        let text = value.as_str().unwrap_or_default();
        let found = children.iter().copied().find(|child| machine.state(*child).key == text);
        if found.is_none() {
            let names = children.iter().map(|child| machine.state(*child).key.as_str());
            let what = if index == StateIndex::ROOT { "the machine" } else { "this state" };
            let detail = match crate::workflow::closest(text, names) {
                Some(near) => format!("{what} has no state `{}`; did you mean `{near}`?", excerpt(text)),
                None => format!("{what} has no state `{}` to begin in", excerpt(text)),
            };
            self.problem("unknown_state", &member(pointer, "initial"), detail);
        }
        found
    }

    fn history(&mut self, machine: &mut Machine<'_>, index: StateIndex) -> StateKind {
        let draft = &machine.states[index.at()];
        let (map, pointer) = (draft.map, draft.pointer.clone());
        let depth = map.get("history");
        let words = &[("shallow", false), ("deep", true)];
        let is_deep = depth.and_then(|value| self.word(value, &member(&pointer, "history"), words));
        let target = member(&pointer, "target");
        let default = map.get("target").and_then(|value| self.target(machine, index, value, &target));
        let parent = machine.state(index).parent.unwrap_or(StateIndex::ROOT);
        if let Some(default) = default {
            let is_inside = default > parent && default <= machine.state(parent).last;
            let is_history =
                machine.states[default.at()].map.get("type").is_some_and(|kind| kind == "history");
            if !is_inside || is_history {
                let detail = "this must be a state beside the history state, or within one of them";
                self.problem("invalid_field", &target, detail);
            }
        }
        StateKind::History { is_deep: is_deep.unwrap_or(false), default }
    }

    fn state_timers(&mut self, machine: &mut Machine<'_>, index: StateIndex) {
        let draft = &machine.states[index.at()];
        let Some(value) = draft.map.get("after") else { return };
        let pointer = member(&draft.pointer, "after");
        let Some(map) = self.object(value, &pointer, "`after`") else { return };
        for (delay, value) in map {
            let pointer = member(&pointer, delay);
            let delay = self.duration(&Value::String(delay.clone()), &pointer);
            let transitions = self.transitions(machine, index, value, &pointer, &["context", "event"]);
            let Some(delay) = delay else { continue };
            let timer = TimerIndex(u16::try_from(machine.timers.len()).unwrap_or(u16::MAX));
            machine.timers.push(Timer { state: index, delay, transitions });
            machine.states[index.at()].state.timers.push(timer);
        }
    }

    fn state_invocations(&mut self, machine: &mut Machine<'_>, index: StateIndex) {
        let draft = &machine.states[index.at()];
        if draft.map.contains_key("dag") {
            self.state_dag(machine, index);
        }
        let draft = &machine.states[index.at()];
        let pointer = member(&draft.pointer, "invoke");
        match draft.map.get("invoke") {
            None => {}
            Some(Value::Array(list)) => {
                for (at, value) in list.iter().enumerate() {
                    self.invocation(machine, index, value, format!("{pointer}/{at}"), at);
                }
            }
            Some(value) => self.invocation(machine, index, value, pointer, 0),
        }
    }

    fn invocation(
        &mut self,
        machine: &mut Machine<'_>,
        index: StateIndex,
        value: &Value,
        pointer: String,
        at: usize,
    ) {
        let Some(map) = self.object(value, &pointer, "what is invoked") else { return };
        for key in NOT_INVOKED_KEYS.iter().filter(|key| map.contains_key(**key)) {
            let detail = format!("`{key}` is not for a state's node: it runs while the state is active");
            self.key_problem("invalid_field", &member(&pointer, key), detail);
        }
        if map.contains_key("compensate") {
            let detail = "a state may be entered again, and its node take effect as often: undoing the last time is not \
                          enough; go to a state that undoes, or invoke a workflow that does";
            self.key_problem("unsupported", &member(&pointer, "compensate"), detail);
        }
        let node = machine.next_node();
        let at = at + usize::from(machine.states[index.at()].map.contains_key("dag"));
        let id = self.invocation_id(machine, index, map, &pointer, at);
        let scope = Scope { machine: Some(&["context"]), ..Scope::node(node.at()) };
        let own = |key: &str| !matches!(key, "on_done" | "on_error") && !NOT_INVOKED_KEYS.contains(&key);
        let of_node = map.iter().filter(|(key, _)| own(key));
        let of_node: Map<String, Value> = of_node.map(|(key, value)| (key.clone(), value.clone())).collect();
        let mut draft = Draft::new(node, id, pointer.clone());
        draft.scope = scope;
        // Their items would be nodes of the plan, which has a node for each invocation and no others.
        if let Some(kind) = map.get("type").and_then(Value::as_str).filter(|it| WITH_ITEMS.contains(it)) {
            let detail =
                format!("a state does not invoke a node of `type: {kind}` itself; put it into its `dag`");
            self.problem("invalid_field", &member(&pointer, "type"), detail);
        } else {
            self.read_node(&of_node, &mut draft, None);
        }
        self.invoked(machine, index, draft, map, &pointer);
    }

    /// What follows the end of a node that a state invokes.
    fn invoked(
        &mut self,
        machine: &mut Machine<'_>,
        index: StateIndex,
        mut draft: Draft,
        map: &Map<String, Value>,
        pointer: &str,
    ) {
        let mut follow = |key: &str, names| {
            let pointer = member(pointer, key);
            map.get(key).map(|value| self.transitions(machine, index, value, &pointer, names))
        };
        let on_done = follow("on_done", &["context", "event", "output"]).unwrap_or_default();
        let on_error = follow("on_error", &["context", "event", "error"]).unwrap_or_default();
        // What follows may read it.
        draft.node.output_is_read = !on_done.is_empty();
        machine.states[index.at()].state.invocations.push(draft.node.index);
        machine.nodes.push(draft);
        machine.invocations.push(Invocation { state: index, on_done, on_error });
    }

    /// `dag:` of a state: a body that runs while the state is active.
    fn state_dag(&mut self, machine: &mut Machine<'_>, index: StateIndex) {
        let draft = &machine.states[index.at()];
        let (map, state) = (draft.map, draft.pointer.clone());
        let Some(value) = map.get("dag") else { return };
        let pointer = member(&state, "dag");
        let node = machine.next_node();
        let id = self.invocation_id(machine, index, &Map::new(), &pointer, 0);
        let mut draft = Draft::new(node, id, pointer.clone());
        draft.scope = Scope { machine: Some(&["context"]), ..Scope::node(node.at()) };
        self.read_body(value, &mut draft, &[]);
        self.invoked(machine, index, draft, map, &state);
    }

    fn invocation_id(
        &mut self,
        machine: &Machine<'_>,
        index: StateIndex,
        map: &Map<String, Value>,
        pointer: &str,
        at: usize,
    ) -> String {
        let state = match machine.state(index).path.as_str() {
            "" => "machine".to_owned(),
            path => path.replace('.', "-"),
        };
        let by_itself = if at == 0 { state } else { format!("{state}-{}", at + 1) };
        let (id, pointer) = match map.get("id") {
            Some(id) => (id.as_str().unwrap_or_default().to_owned(), member(pointer, "id")),
            None => (by_itself, pointer.to_owned()),
        };
        if !is_id(&id) {
            let detail = format!(
                "an `id` starts with a letter and goes on with letters, digits, `_` and `-`, {ID_CHARS_MAX} \
                 characters at most"
            );
            self.problem("bad_id", &pointer, detail);
        } else if machine.nodes.iter().any(|other| other.node.id == id) {
            let detail = format!("another node is called `{id}` already: give this one an `id` of its own");
            self.problem("duplicate_id", &pointer, detail);
        }
        id
    }
}
