//! Gets a child ready for a step that calls a workflow: which version, with which inputs.
//!
//! Nothing is written here. The child goes with the commit of the event that says it was started, so there is never one
//! without the other.

use std::sync::Arc;

use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;
use windlass_model::body::{Body, Called};
use windlass_model::event::{ChildStarted, Parent, RunCreated};
use windlass_model::open_work::Work;
use windlass_model::plan::Role;
use windlass_model::workflow::expression::Context;
use windlass_model::{
    Actor, Outcome, Plan, Priority, RunState, StepError, TenantId, Timestamp, decide, planted,
};
use windlass_store::{Labels, NewRun, point};

use crate::attempt::Ended;
use crate::engine::EngineParts;
use crate::order::{self, Found, OrderError};
use crate::patience::patiently;

/// What a child has from the run that starts it.
#[derive(Clone)]
pub(crate) struct Heritage {
    pub(crate) tenant: TenantId,
    pub(crate) priority: Priority,
    pub(crate) labels: Labels,
}

/// What the child runs.
enum Definition {
    /// A version of a workflow, or its latest.
    Published {
        workflow: String,
        version: Option<u32>,
    },
    Body(Arc<Body>),
}

/// A call that is ready to go: rendered against the state as it stood.
pub(crate) struct Call {
    work: Work,
    definition: Definition,
    inputs: Value,
    parent: Parent,
    /// It starts nothing itself, so depth is no matter.
    is_slice: bool,
    requester: Actor,
    deadline_at: Option<Timestamp>,
    /// Groups in which the caller, or a run above it, has a place.
    groups_above: Vec<String>,
    heritage: Heritage,
    cancel: CancellationToken,
}

impl Call {
    /// None when the node starts no run.
    pub(crate) fn prepare(
        plan: &Plan,
        state: &RunState,
        work: Work,
        heritage: &Heritage,
        cancel: &CancellationToken,
    ) -> Option<Result<Self, Box<Ended>>> {
        let node = plan.node(work.node);
        let Role::Workflow(called) = &node.role else { return None };
        let context = Context::new(plan, state).with_step(work.key());
        let prepared = match (called, called.body(work.item)) {
            (_, Some(body)) => body.inputs(&context).map(|inputs| (Definition::Body(body.clone()), inputs)),
            (Called::Published { name, version }, None) => node.params.render(&context).map(|params| {
                let inputs = params.get("with").cloned().unwrap_or_else(|| Value::Object(Map::new()));
                (Definition::Published { workflow: name.clone(), version: *version }, inputs)
            }),
            // Items are counted by the branches that there are.
            (_, None) => Err(StepError::new("internal", "there is no such branch")),
        };
        let (definition, inputs) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return Some(Err(Box::new(failed(work, error)))),
        };
        Some(Ok(Self {
            work,
            definition,
            inputs,
            parent: Parent {
                run_id: state.run_id,
                node: node.id.clone(),
                item: work.item,
                attempt: work.attempt,
                depth: state.depth() + 1,
            },
            is_slice: node.is_slice(),
            requester: state.requester.clone(),
            deadline_at: state.deadline_at,
            groups_above: (state.groups_above.iter().cloned())
                .chain(state.group.as_ref().map(|group| group.name.clone()))
                .collect(),
            heritage: heritage.clone(),
            cancel: cancel.clone(),
        }))
    }

    /// Finds the version and checks the inputs. Asks until the database answers, or the call is given up.
    pub(crate) async fn run(self, parts: &EngineParts) -> Ended {
        let work = self.work;
        let cancel = self.cancel.clone();
        tokio::select! {
            ended = self.get_ready(parts) => ended.unwrap_or_else(|error| failed(work, error)),
            () = cancel.cancelled() => Ended { outcome: Outcome::Canceled, ..failed(work, StepError::new("canceled", "")) },
        }
    }

    async fn get_ready(self, parts: &EngineParts) -> Result<Ended, StepError> {
        let depth_max = parts.options.child_depth_max;
        if self.parent.depth > depth_max && !self.is_slice {
            let sentence =
                format!("runs may call each other {depth_max} levels deep, and this would be one more");
            return Err(StepError::new("limit.depth", sentence));
        }
        let Found { id, name, version, plan } = self.find(parts).await?;
        point("call.definition_read");
        let inputs = order::check_inputs(&plan, self.inputs)?;
        let run_id = (parts.options.new_run_id)();
        let Heritage { tenant, priority, labels } = self.heritage;
        let now = parts.clock.now();
        let mut created = RunCreated {
            inputs,
            deadline_at: self.deadline_at.filter(|_| !planted("deadline_not_passed_on")),
            groups_above: self.groups_above,
            parent: Some(self.parent),
            ..RunCreated::default()
        };
        created.group = decide::group_of(&plan, run_id, &created, &labels, now)?;
        let (event, state) = decide::create(&plan, run_id, created, self.requester, now);
        let mut child = NewRun::new(tenant, id, &state, event);
        child.priority = priority;
        child.labels = labels;
        point("call.ready");
        let started = ChildStarted { run_id, workflow: name, version, until: None };
        let outcome = Outcome::Called(started);
        Ok(Ended { work: self.work, outcome, blobs: Vec::new(), child: Some(Box::new(child)) })
    }

    async fn find(&self, parts: &EngineParts) -> Result<Found, StepError> {
        match &self.definition {
            Definition::Published { workflow, version } => self.published(parts, workflow, *version).await,
            Definition::Body(body) => self.kept(parts, body).await,
        }
    }

    /// A body's definition has its place among those that came inline, under its hash.
    async fn kept(&self, parts: &EngineParts, body: &Body) -> Result<Found, StepError> {
        let kept = patiently(|| parts.plans.put_inline(self.heritage.tenant, &body.spec, &body.plan)).await;
        let id = kept.map_err(|error| StepError::new("internal", error.to_string()))?;
        let name = body.plan.name.clone();
        Ok(Found { id, name, version: None, plan: body.plan.clone() })
    }

    async fn published(
        &self,
        parts: &EngineParts,
        workflow: &str,
        version: Option<u32>,
    ) -> Result<Found, StepError> {
        let tenant = self.heritage.tenant;
        let found = patiently(|| order::find(&*parts.store, &parts.plans, tenant, workflow, version)).await;
        found.map_err(|error| match error {
            OrderError::Store(error) => StepError::new("internal", error.to_string()),
            OrderError::Refused(error) => error,
        })
    }
}

fn failed(work: Work, error: StepError) -> Ended {
    let outcome = Outcome::Failed { error, artifacts: Vec::new() };
    Ended { work, outcome, blobs: Vec::new(), child: None }
}
