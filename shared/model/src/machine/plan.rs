//! A compiled state machine: indices instead of names, expressions ready to run.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::workflow::expression::{Expression, Template};
use crate::workflow::schema::Schema;
use crate::{NodeIndex, StateIndex};

/// A machine as its definition says it. Immutable, and part of a [`crate::Plan`].
#[derive(Debug)]
pub struct MachinePlan {
    /// In document order, a parent before its children; the first is the machine itself.
    pub states: Vec<State>,
    /// In document order; what states list are positions in here.
    pub transitions: Vec<Transition>,
    /// In document order.
    pub timers: Vec<Timer>,
    /// One for each node of the plan, in its order.
    pub invocations: Vec<Invocation>,
    /// What may be sent to the machine, each with the schema of its payload.
    pub events: BTreeMap<String, Option<Schema>>,
    /// What the machine remembers at its start.
    pub context: Template,
}

#[derive(Debug)]
pub struct State {
    pub key: String,
    /// Keys from the machine down, joined by dots: `review.legal.open`. Empty for the machine itself.
    pub path: String,
    pub parent: Option<StateIndex>,
    /// The last of its descendants, or itself: they stand right behind it, in one row.
    pub last: StateIndex,
    pub kind: StateKind,
    /// In document order, history states among them.
    pub children: Vec<StateIndex>,
    pub on: BTreeMap<String, Vec<TransitionIndex>>,
    pub always: Vec<TransitionIndex>,
    /// Of compound and parallel states: what follows when they are done.
    pub on_done: Vec<TransitionIndex>,
    pub timers: Vec<TimerIndex>,
    pub invocations: Vec<NodeIndex>,
    pub entry: Vec<Action>,
    pub exit: Vec<Action>,
    /// Of final states: what they leave behind.
    pub output: Option<Template>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateKind {
    Atomic,
    /// Exactly one child is active.
    Compound {
        initial: StateIndex,
    },
    /// All children are active.
    Parallel,
    /// Its parent is done.
    Final,
    /// Never active: stands for what was active in its parent when that was left.
    History {
        /// The whole of it, instead of the parent's child only.
        is_deep: bool,
        /// Where to when the parent was not left yet; its initial state when nothing is said.
        default: Option<StateIndex>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TransitionIndex(pub u16);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TimerIndex(pub u16);

#[derive(Debug)]
pub struct Transition {
    pub source: StateIndex,
    /// None: the machine stays where it is, and only the actions are done.
    pub target: Option<StateIndex>,
    /// The source is left and entered again even when the target lies within it.
    pub reenter: bool,
    pub guard: Option<Expression>,
    /// Of `on_error`: which errors, as in [`crate::StepError::matches`]. Empty elsewhere.
    pub patterns: Vec<String>,
    pub actions: Vec<Action>,
}

/// `after`: runs while its state is active.
#[derive(Debug)]
pub struct Timer {
    pub state: StateIndex,
    pub delay: Duration,
    pub transitions: Vec<TransitionIndex>,
}

/// `invoke`: a node of the plan that runs while its state is active.
#[derive(Debug)]
pub struct Invocation {
    pub state: StateIndex,
    pub on_done: Vec<TransitionIndex>,
    pub on_error: Vec<TransitionIndex>,
}

#[derive(Debug)]
pub enum Action {
    /// An object whose members replace those of the context. All of them see the context as it was.
    Assign(Template),
    /// An event for the world outside.
    Emit { kind: String, data: Template },
    /// An event for the machine itself, before any that comes from outside.
    Raise { event: String, payload: Template },
}

impl TransitionIndex {
    pub fn at(self) -> usize {
        usize::from(self.0)
    }
}

impl TimerIndex {
    pub fn at(self) -> usize {
        usize::from(self.0)
    }
}

impl State {
    /// Active without having active children.
    pub fn is_leaf(&self) -> bool {
        matches!(self.kind, StateKind::Atomic | StateKind::Final)
    }

    pub fn is_history(&self) -> bool {
        matches!(self.kind, StateKind::History { .. })
    }
}

impl MachinePlan {
    pub fn state(&self, index: StateIndex) -> &State {
        &self.states[index.at()]
    }

    pub fn transition(&self, index: TransitionIndex) -> &Transition {
        &self.transitions[index.at()]
    }

    pub fn timer(&self, index: TimerIndex) -> &Timer {
        &self.timers[index.at()]
    }

    pub fn invocation(&self, node: NodeIndex) -> &Invocation {
        &self.invocations[node.at()]
    }

    /// Children that can be active.
    pub fn regions(&self, index: StateIndex) -> impl Iterator<Item = StateIndex> {
        self.state(index).children.iter().copied().filter(|child| !self.state(*child).is_history())
    }

    /// The parents of a state, from the nearest to the machine itself.
    pub fn ancestors(&self, index: StateIndex) -> impl Iterator<Item = StateIndex> {
        std::iter::successors(self.state(index).parent, |parent| self.state(*parent).parent)
    }

    /// Whether one state lies within another, and is not that other.
    pub fn is_descendant(&self, state: StateIndex, ancestor: StateIndex) -> bool {
        state > ancestor && state <= self.state(ancestor).last
    }

    pub fn find(&self, path: &str) -> Option<StateIndex> {
        let at = self.states.iter().position(|state| state.path == path)?;
        u16::try_from(at).ok().map(StateIndex)
    }
}
