//! A run in a test: a plan, a state, a clock, and the log so far.

use std::time::Duration;

use serde_json::json;
use uuid::Uuid;
use windlass_model::body::Called;
use windlass_model::event::{ChildStarted, RunCreated};
use windlass_model::plan::Role;
use windlass_model::workflow::{Catalog, Document, Format, KindSpec, compile};
use windlass_model::{
    Actor, ChildEnd, Command, Event, Input, NodeIndex, Outcome, Payload, Plan, Rejection, RunId, RunState,
    StepError, StepKey, Timestamp, decide, open_work,
};

/// Kinds whose deeds the test itself does. `work` is not safe to repeat, `noop` is.
pub(crate) fn catalog() -> Catalog {
    let kind = |name, retry_safe| KindSpec {
        name,
        summary: "a kind for tests",
        params: || json!({"type": "object", "additionalProperties": true}),
        retry_safe,
    };
    Catalog::new([kind("noop", |_| true), kind("work", |_| false), kind("switch", |_| true)])
}

pub(crate) fn plan(yaml: &str) -> Plan {
    let document = Document::parse(yaml, Format::Yaml).unwrap_or_else(|problems| panic!("{problems:#?}"));
    compile(&document, &catalog()).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

pub(crate) struct Run<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) state: RunState,
    pub(crate) log: Vec<Event>,
    pub(crate) now: Timestamp,
    epoch: u32,
    /// Runs that were started so far.
    children: u128,
}

impl<'a> Run<'a> {
    pub(crate) fn new(plan: &'a Plan) -> Self {
        Self::created(plan, RunCreated::default())
    }

    pub(crate) fn created(plan: &'a Plan, body: RunCreated) -> Self {
        let now = Timestamp(1_000_000);
        let run_id = RunId(Uuid::from_u128(7));
        let (event, state) = windlass_model::decide::create(plan, run_id, body, Actor::user("rita"), now);
        Self { plan, state, log: vec![event], now, epoch: 0, children: 0 }
    }

    pub(crate) fn node(&self, id: &str) -> NodeIndex {
        self.plan.by_id[id]
    }

    /// What the store does at a claim.
    pub(crate) fn take(&mut self) {
        self.epoch += 1;
        let event = Event {
            seq: self.state.last_seq.next(),
            at: self.now,
            node: None,
            item: None,
            attempt: None,
            epoch: Some(windlass_model::Epoch(self.epoch)),
            actor: None,
            body: windlass_model::event::EngineTaken { session: windlass_model::SessionId(Uuid::nil()) }
                .into(),
        };
        self.state.apply(self.plan, &event).unwrap();
        self.log.push(event);
        self.tick(Input::Taken);
        self.tick(Input::Advance);
    }

    pub(crate) fn tick(&mut self, input: Input) {
        let events = decide(self.plan, &mut self.state, input, self.now).expect("engines are not rejected");
        self.log.extend(events);
    }

    pub(crate) fn command(&mut self, command: Command) -> Result<(), Rejection> {
        self.command_by(command, Actor::user("ada"))
    }

    pub(crate) fn command_by(&mut self, command: Command, actor: Actor) -> Result<(), Rejection> {
        let before = self.state.clone();
        match decide(self.plan, &mut self.state, Input::Command { command, actor }, self.now) {
            Ok(events) => {
                assert!(!events.is_empty(), "an accepted command leaves a trace");
                self.log.extend(events);
                Ok(())
            }
            Err(rejection) => {
                assert_eq!(before, self.state, "a refused command changes nothing");
                Err(rejection)
            }
        }
    }

    /// `load`, or `grade.do[3]`.
    pub(crate) fn key(&self, label: &str) -> StepKey {
        let (id, item) = label.split_once('[').unwrap_or((label, ""));
        let item = (!item.is_empty()).then(|| item.trim_end_matches(']').parse().unwrap());
        StepKey { node: self.node(id), item }
    }

    pub(crate) fn outcome(&mut self, label: &str, outcome: Outcome) {
        let StepKey { node, item } = self.key(label);
        let attempt = self.state.step(self.key(label)).attempt;
        self.tick(Input::Outcome { node, item, attempt, outcome });
        self.tick(Input::Advance);
    }

    pub(crate) fn succeed(&mut self, id: &str) {
        let output = Payload::from(json!({ "by": id }));
        let outcome = match &self.plan.node(self.key(id)).role {
            // To succeed in starting it is all that an engine does.
            Role::Workflow(Called::Published { name, version }) => {
                Outcome::Called(self.new_child(name.clone(), *version))
            }
            Role::Workflow(called) => {
                let name = called.body(self.key(id).item).expect("it has one").plan.name.clone();
                Outcome::Called(self.new_child(name, None))
            }
            _ => Outcome::Succeeded { output, artifacts: Vec::new(), emit: None },
        };
        self.outcome(id, outcome);
    }

    fn new_child(&mut self, workflow: String, version: Option<u32>) -> ChildStarted {
        self.children += 1;
        ChildStarted { run_id: RunId(Uuid::from_u128(1_000 + self.children)), workflow, version, until: None }
    }

    /// The run that the current attempt of a step has started.
    pub(crate) fn child_of(&self, id: &str) -> RunId {
        self.state.step(self.key(id)).child.expect("the step has started a run")
    }

    pub(crate) fn child_ends(&mut self, run_id: RunId, end: ChildEnd) {
        self.tick(Input::ChildEnded { run_id, end });
        self.tick(Input::Advance);
    }

    pub(crate) fn fail(&mut self, id: &str, kind: &str) {
        let error = StepError::new(kind, "it broke");
        self.outcome(id, Outcome::Failed { error, artifacts: Vec::new() });
    }

    pub(crate) fn pass(&mut self, span: Duration) {
        self.now = self.now.plus(span);
        self.tick(Input::Advance);
    }

    pub(crate) fn in_flight(&self) -> Vec<String> {
        open_work(&self.state).map(|work| self.plan.label(work.key()).into_owned()).collect()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.log
            .iter()
            .map(|event| match event.node {
                Some(node) => {
                    let key = StepKey { node, item: event.item };
                    format!("{} {}", event.body.name(), self.plan.label(key))
                }
                None => event.body.name().to_owned(),
            })
            .collect()
    }

    /// The state is the fold of the log, however it is stored and read back.
    pub(crate) fn check_fold(&self) {
        let stored: Vec<Event> = self
            .log
            .iter()
            .map(|event| Event {
                body: windlass_model::EventBody::from_stored(event.body.code(), &event.body.data()).unwrap(),
                ..event.clone()
            })
            .collect();
        let folded = RunState::fold(self.plan, self.state.run_id, None, &stored).unwrap();
        assert_eq!(folded, self.state);
        let snapshot: RunState = serde_json::from_str(&serde_json::to_string(&self.state).unwrap()).unwrap();
        assert_eq!(snapshot, self.state);
    }
}
