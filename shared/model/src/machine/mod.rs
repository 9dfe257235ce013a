//! State machines: what follows when something happens to one.
//!
//! Values in, values out: a plan, what the machine is and remembers, and one occurrence give what it is
//! afterwards, and what is to be done. The rules are those of SCXML's algorithm, with transitions as XState
//! v5 has them; the tests drive both side by side.

mod plan;
mod react;
mod select;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

pub use plan::{
    Action, Invocation, MachinePlan, State, StateKind, Timer, TimerIndex, Transition, TransitionIndex,
};
pub(crate) use react::check_context;
pub use react::{react, start, takes};

use crate::{NodeIndex, Payload, StateIndex, StepError};

/// States of one machine: what is done for each microstep grows with them.
pub const STATES_MAX: usize = 1_000;
/// Ways between them.
pub const TRANSITIONS_MAX: usize = 10_000;
/// Steps from one occurrence to rest. More than this is a circle that never ends.
pub const MICROSTEPS_MAX: usize = 1_000;
/// Actions from one occurrence to rest.
pub const ACTIONS_MAX: usize = 10_000;
/// What a machine may remember: as much as an event keeps inline, so that reading a machine fetches nothing.
pub const CONTEXT_BYTES_MAX: usize = crate::payload::PAYLOAD_INLINE_BYTES_MAX;
/// What the actions of one reaction may make in all.
pub const MADE_BYTES_MAX: usize = crate::payload::PAYLOAD_BYTES_MAX;

/// What a machine is, and what it remembers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MachineState {
    /// The active states, each with its parents.
    pub configuration: BTreeSet<StateIndex>,
    pub context: Arc<Value>,
    /// What was active below the parent of each history state when that was last left.
    pub history: BTreeMap<StateIndex, Vec<StateIndex>>,
    pub is_done: bool,
    /// What the final state left behind that ended the machine.
    pub output: Payload,
}

/// Something that a machine may react to.
#[derive(Clone, Debug, PartialEq)]
pub enum Occurrence {
    /// It was sent, or raised by the machine itself.
    Event {
        name: String,
        payload: Value,
    },
    /// A compound or parallel state has come to its end.
    Done {
        state: StateIndex,
        output: Value,
    },
    Timer(TimerIndex),
    InvocationDone {
        node: NodeIndex,
        output: Value,
    },
    InvocationFailed {
        node: NodeIndex,
        error: StepError,
    },
}

/// What came of one occurrence, once the machine is at rest again.
#[derive(Clone, Debug, PartialEq)]
pub struct Reaction {
    pub state: MachineState,
    /// In the order in which they were taken.
    pub transitions: Vec<TransitionIndex>,
    /// In the order in which they were done.
    pub actions: Vec<Performed>,
    /// Timers of states that are active now and were not before, or were left in between.
    pub set_timers: Vec<TimerIndex>,
    /// Timers of states that were active before and were left.
    pub canceled_timers: Vec<TimerIndex>,
    /// Likewise for what states invoke. It begins once the machine is at rest.
    pub started: Vec<NodeIndex>,
    pub stopped: Vec<NodeIndex>,
}

/// An action that was done, with the values it made.
#[derive(Clone, Debug, PartialEq)]
pub enum Performed {
    Assigned(Map<String, Value>),
    Emitted { kind: String, data: Value },
    Raised { event: String, payload: Value },
}

impl Occurrence {
    /// The only state whose transitions can take it; none when every active state is asked.
    fn owner(&self, plan: &MachinePlan) -> Option<StateIndex> {
        match self {
            Self::Event { .. } => None,
            Self::Done { state, .. } => Some(*state),
            Self::Timer(timer) => Some(plan.timer(*timer).state),
            Self::InvocationDone { node, .. } | Self::InvocationFailed { node, .. } => {
                Some(plan.invocation(*node).state)
            }
        }
    }

    /// The transitions of a state that it may cause, in the order in which their guards are asked.
    fn candidates<'p>(&self, plan: &'p MachinePlan, state: StateIndex) -> &'p [TransitionIndex] {
        match self {
            Self::Event { name, .. } => plan.state(state).on.get(name).map_or(&[], Vec::as_slice),
            Self::Done { .. } => &plan.state(state).on_done,
            Self::Timer(timer) => &plan.timer(*timer).transitions,
            Self::InvocationDone { node, .. } => &plan.invocation(*node).on_done,
            Self::InvocationFailed { node, .. } => &plan.invocation(*node).on_error,
        }
    }

    /// A name for people, and for `event.type`.
    pub fn name(&self, plan: &MachinePlan) -> String {
        let of_state = |what: &str, state: StateIndex| match plan.state(state).path.as_str() {
            "" => what.to_owned(),
            path => format!("{what}.{path}"),
        };
        match self {
            Self::Event { name, .. } => name.clone(),
            Self::Done { state, .. } => of_state("done.state", *state),
            Self::Timer(timer) => of_state("after", plan.timer(*timer).state),
            Self::InvocationDone { node, .. } => of_state("done.invoke", plan.invocation(*node).state),
            Self::InvocationFailed { node, .. } => of_state("error.invoke", plan.invocation(*node).state),
        }
    }

    /// What expressions see as `event`: its name as `type`, and beside it what it brings.
    fn to_json(&self, plan: &MachinePlan) -> Value {
        let mut event = match self {
            Self::Event { payload: Value::Object(members), .. } => members.clone(),
            Self::Done { output, .. } | Self::InvocationDone { output, .. } => {
                Map::from_iter([("output".to_owned(), output.clone())])
            }
            Self::InvocationFailed { error, .. } => {
                let error = json!({ "type": error.kind, "message": error.message, "details": error.details });
                Map::from_iter([("error".to_owned(), error)])
            }
            Self::Event { .. } | Self::Timer(_) => Map::new(),
        };
        event.insert("type".into(), self.name(plan).into());
        Value::Object(event)
    }
}
