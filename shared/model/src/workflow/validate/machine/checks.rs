//! Checks a machine as a whole: states that nothing leads to, circles of `always`, names that nothing sets.

use std::collections::BTreeSet;

use super::super::Checker;
use super::transitions::is_certain;
use super::{Machine, StateKind};
use crate::StateIndex;
use crate::machine::{Action, Transition, TransitionIndex};
use crate::workflow::{closest, excerpt};

impl Checker<'_> {
    pub(super) fn check_machine(&mut self, machine: &Machine<'_>) {
        self.check_context_names(machine);
        self.check_raised(machine);
        // A target that is missing hides where it would have led.
        if !machine.is_partial {
            self.check_reachable(machine);
            self.check_always(machine);
        }
    }

    fn check_context_names(&mut self, machine: &Machine<'_>) {
        for (name, pointer) in self.context_reads() {
            if machine.remembered.contains(&name) {
                continue;
            }
            let shown = excerpt(&name);
            let detail = match closest(&name, machine.remembered.iter().map(String::as_str)) {
                Some(near) => format!("nothing sets `context.{shown}`; did you mean `{near}`?"),
                None => format!("nothing sets `context.{shown}`"),
            };
            self.problem("unknown_context", &pointer, detail);
        }
    }

    fn check_raised(&mut self, machine: &Machine<'_>) {
        for (name, pointer) in &machine.raised {
            if machine.handled.contains_key(name) {
                continue;
            }
            let shown = excerpt(name);
            let detail = match closest(name, machine.handled.keys().map(String::as_str)) {
                Some(near) => format!("no state has `on: {shown}`; did you mean `{near}`?"),
                None => format!("no state has `on: {shown}`"),
            };
            self.problem("unknown_event", pointer, detail);
        }
    }

    fn check_reachable(&mut self, machine: &Machine<'_>) {
        let mut reached = BTreeSet::new();
        let mut open = vec![StateIndex::ROOT];
        while let Some(next) = open.pop() {
            if reached.insert(next) {
                open.extend(machine.leads_to(next));
            }
        }
        for (at, draft) in machine.states.iter().enumerate() {
            let is_reached = |index: StateIndex| reached.contains(&index);
            let parent_is_reached = draft.state.parent.is_none_or(is_reached);
            // What lies within a state that nothing leads to goes without saying.
            if !is_reached(StateIndex(u16::try_from(at).unwrap_or(u16::MAX))) && parent_is_reached {
                let detail = format!("nothing leads to the state `{}`", draft.state.path);
                self.key_problem("unreachable", &draft.pointer, detail);
            }
        }
    }

    /// Circles that the machine cannot leave: each `always` on the way is taken whatever is so.
    fn check_always(&mut self, machine: &Machine<'_>) {
        let mut seen = BTreeSet::new();
        for at in 0..machine.states.len() {
            let mut path: Vec<TransitionIndex> = Vec::new();
            let mut next = machine.certain_always(StateIndex(u16::try_from(at).unwrap_or(u16::MAX)));
            while let Some(index) = next {
                if let Some(start) = path.iter().position(|it| *it == index) {
                    self.report_circle(machine, &path[start..]);
                    break;
                }
                if !seen.insert(index) {
                    break;
                }
                path.push(index);
                next = machine.always_after(index);
            }
        }
    }

    fn report_circle(&mut self, machine: &Machine<'_>, circle: &[TransitionIndex]) {
        let names: Vec<&str> = circle
            .iter()
            .map(|index| machine.state(machine.transitions[index.at()].source).path.as_str())
            .collect();
        let first = circle.iter().min().copied().unwrap_or(circle[0]);
        let detail = match names.as_slice() {
            [one] => format!("`{one}` never comes to rest: this `always` is taken again and again"),
            many => format!("the machine never comes to rest: {} → {}", many.join(" → "), many[0]),
        };
        self.problem("endless", &machine.pointers[first.at()], detail);
    }
}

impl Machine<'_> {
    /// States that can become active, directly, because this one is; guards may always be true.
    fn leads_to(&self, index: StateIndex) -> Vec<StateIndex> {
        let state = self.state(index);
        let mut found: Vec<StateIndex> = state.parent.into_iter().collect();
        match state.kind {
            StateKind::Compound { initial } => found.push(initial),
            StateKind::Parallel => {
                let is_active = |child: &StateIndex| !self.state(*child).is_history();
                found.extend(state.children.iter().copied().filter(is_active));
            }
            StateKind::History { default, .. } => found.extend(default),
            StateKind::Atomic | StateKind::Final => {}
        }
        let timers = state.timers.iter().flat_map(|timer| &self.timers[timer.at()].transitions);
        let invoked = state.invocations.iter().map(|node| &self.invocations[node.at()]);
        let invoked = invoked.flat_map(|it| it.on_done.iter().chain(&it.on_error));
        let own = state.on.values().flatten().chain(&state.always).chain(&state.on_done);
        found.extend(own.chain(timers).chain(invoked).filter_map(|it| self.transitions[it.at()].target));
        found
    }

    /// The `always` of a state that is taken whenever it is asked, and then changes something.
    fn certain_always(&self, index: StateIndex) -> Option<TransitionIndex> {
        let first = *self.state(index).always.first()?;
        let transition = &self.transitions[first.at()];
        (is_certain(transition) && changes_something(transition)).then_some(first)
    }

    /// The `always` that is certainly taken once this one was, as far as one can see without guards.
    fn always_after(&self, index: TransitionIndex) -> Option<TransitionIndex> {
        let transition = &self.transitions[index.at()];
        let mut leaf = transition.target.unwrap_or(transition.source);
        loop {
            match self.state(leaf).kind {
                StateKind::Compound { initial } => leaf = initial,
                StateKind::Atomic => break,
                // Regions, ends and memories: what comes then is not certain.
                StateKind::Parallel | StateKind::Final | StateKind::History { .. } => return None,
            }
        }
        let with_parents = std::iter::successors(Some(leaf), |index| self.state(*index).parent);
        // A guarded one further within may be taken instead, and lead out.
        let nearest = with_parents.into_iter().find(|index| !self.state(*index).always.is_empty())?;
        self.certain_always(nearest)
    }
}

fn changes_something(transition: &Transition) -> bool {
    transition.target.is_some()
        || transition.actions.iter().any(|action| matches!(action, Action::Assign(_) | Action::Raise { .. }))
}
