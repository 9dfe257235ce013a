//! A machine in a test: its plan, what it is now, its timers, a clock.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use uuid::Uuid;
use windlass_model::event::RunCreated;
use windlass_model::machine::{
    MachinePlan, MachineState, Occurrence, Performed, Reaction, TimerIndex, react, start,
};
use windlass_model::workflow::expression::Context;
use windlass_model::workflow::{Catalog, Document, KindSpec, Problem, compile};
use windlass_model::{Actor, NodeIndex, Plan, RunId, RunState, StepError, Timestamp};

pub(crate) fn catalog() -> Catalog {
    Catalog::new([KindSpec {
        name: "noop",
        summary: "a kind for tests",
        params: || json!({"type": "object", "additionalProperties": true}),
        retry_safe: |_| true,
    }])
}

/// Compiles what stands below the head that all definitions share.
pub(crate) fn compiled(body: &Value) -> Result<Plan, Vec<Problem>> {
    let mut definition = json!({ "version": 1, "name": "machine", "type": "machine" });
    for (key, value) in body.as_object().expect("a definition is a mapping") {
        definition[key] = value.clone();
    }
    compile(&Document::from_value(definition), &catalog())
}

pub(crate) fn plan(body: &Value) -> Plan {
    compiled(body).unwrap_or_else(|problems| panic!("{body:#}\n{problems:#?}"))
}

pub(crate) struct World<'a> {
    pub(crate) plan: &'a Plan,
    run: RunState,
    pub(crate) state: MachineState,
    /// When it is due, the how many-th it is, and which.
    pub(crate) timers: BTreeSet<(u64, usize, TimerIndex)>,
    timers_set: usize,
    pub(crate) invoked: BTreeSet<NodeIndex>,
    pub(crate) now_s: u64,
}

impl<'a> World<'a> {
    pub(crate) fn start(plan: &'a Plan) -> Result<(Self, Reaction), StepError> {
        let id = RunId(Uuid::from_u128(7));
        let (_, run) = windlass_model::decide::create(
            plan,
            id,
            RunCreated::default(),
            Actor::user("rita"),
            Timestamp(0),
        );
        let reaction = start(plan.machine.as_ref().expect("a machine"), Context::new(plan, &run))?;
        let mut world = Self {
            plan,
            run,
            state: MachineState::default(),
            timers: BTreeSet::new(),
            timers_set: 0,
            invoked: BTreeSet::new(),
            now_s: 0,
        };
        world.take(&reaction);
        Ok((world, reaction))
    }

    pub(crate) fn machine(&self) -> &'a MachinePlan {
        self.plan.machine.as_ref().expect("a machine")
    }

    pub(crate) fn happens(&mut self, occurrence: &Occurrence) -> Result<Reaction, StepError> {
        let surroundings = Context::new(self.plan, &self.run);
        let reaction = react(self.machine(), &self.state, occurrence, surroundings)?;
        self.take(&reaction);
        Ok(reaction)
    }

    pub(crate) fn send(&mut self, name: &str, payload: Value) -> Result<Reaction, StepError> {
        self.happens(&Occurrence::Event { name: name.into(), payload })
    }

    /// Moves the clock to when the next timer is due, and lets it fire.
    pub(crate) fn fire_next(&mut self) -> Result<Reaction, StepError> {
        let (due, _, timer) = self.timers.pop_first().expect("a timer is set");
        self.now_s = due;
        self.happens(&Occurrence::Timer(timer))
    }

    fn take(&mut self, reaction: &Reaction) {
        self.state = reaction.state.clone();
        self.timers.retain(|(_, _, timer)| !reaction.canceled_timers.contains(timer));
        for timer in &reaction.set_timers {
            let due = self.now_s + self.machine().timer(*timer).delay.as_secs();
            self.timers_set += 1;
            self.timers.insert((due, self.timers_set, *timer));
        }
        self.invoked.retain(|node| !reaction.stopped.contains(node));
        self.invoked.extend(&reaction.started);
    }

    /// Paths of the active states, in document order; the machine's own is empty.
    pub(crate) fn configuration(&self) -> Vec<&'a str> {
        let machine = self.machine();
        self.state.configuration.iter().map(|index| machine.state(*index).path.as_str()).collect()
    }

    /// Without the parents.
    pub(crate) fn leaves(&self) -> Vec<&'a str> {
        let machine = self.machine();
        let leaves = self.state.configuration.iter().filter(|index| machine.state(**index).is_leaf());
        leaves.map(|index| machine.state(*index).path.as_str()).collect()
    }
}

/// What was emitted, in order.
pub(crate) fn emitted(reaction: &Reaction) -> Vec<Value> {
    let of = |performed: &Performed| match performed {
        Performed::Emitted { kind, data } => Some(json!([kind, data])),
        Performed::Assigned(_) | Performed::Raised { .. } => None,
    };
    reaction.actions.iter().filter_map(of).collect()
}
