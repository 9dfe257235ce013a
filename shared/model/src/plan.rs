//! A compiled, validated definition: indices instead of names, expressions ready to run.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::body::Called;
use crate::callee::Callee;
use crate::circuit::CircuitSpec;
use crate::concurrency::ConcurrencySpec;
use crate::event::{CompensationOrder, ExpiryAction};
use crate::machine::MachinePlan;
use crate::payload::Digest;
use crate::rate_limit::RateLimit;
use crate::retry::RetryPolicy;
use crate::workflow::expression::{Expression, Template};
use crate::workflow::schema::{Schema, Violation};
use crate::{NodeIndex, StepError, StepKey};

/// What the engine runs. Immutable, shared, cached by the hash of the definition it came from.
#[derive(Debug)]
pub struct Plan {
    pub name: String,
    pub kind: WorkflowKind,
    /// BLAKE3 of the canonical definition.
    pub hash: Digest,
    /// In document order, and after them those that stand inside others; [`NodeIndex`] points here.
    pub nodes: Vec<Node>,
    pub by_id: BTreeMap<String, NodeIndex>,
    /// Nodes that can run side by side, layer by layer.
    pub groups: Vec<Vec<NodeIndex>>,
    pub inputs: Option<Schema>,
    pub outputs: Option<Template>,
    /// How long a run may take from its creation.
    pub timeout: Option<Duration>,
    /// How many runs of one kind may be under way.
    pub concurrency: Option<ConcurrencySpec>,
    /// How many runs of it may start within a period.
    pub rate_limit: Option<RateLimit>,
    pub compensation: CompensationSpec,
    /// With `type: machine`: its nodes are what its states invoke.
    pub machine: Option<MachinePlan>,
}

/// When what was done is undone, and in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompensationSpec {
    pub after_failure: bool,
    pub after_cancel: bool,
    pub order: CompensationOrder,
}

impl Default for CompensationSpec {
    fn default() -> Self {
        Self { after_failure: true, after_cancel: true, order: CompensationOrder::default() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkflowKind {
    Steps,
    Dag,
    Machine,
}

#[derive(Debug)]
pub struct Node {
    pub index: NodeIndex,
    pub id: String,
    /// The name of its kind in the catalog: `http`, `script`, `approval`, …
    pub kind: String,
    pub role: Role,
    pub part: Part,
    pub needs: Vec<Need>,
    /// Who needs this node.
    pub dependents: Vec<NodeIndex>,
    pub condition: Option<Expression>,
    /// The keys of the kind itself, rendered just before the runner gets them.
    pub params: Template,
    pub timeout: Option<Duration>,
    pub retry: RetryPolicy,
    pub on_error: Vec<ErrorRule>,
    /// A gate before the node runs.
    pub gate: Option<GateSpec>,
    /// Whether an attempt of unknown outcome may be repeated without asking.
    pub retry_safe: bool,
    /// Whether any expression of the definition reads this node's output.
    pub output_is_read: bool,
    /// What a runner's output must be like.
    pub output_schema: Option<Schema>,
    /// The tool or agent that the node calls.
    pub callee: Option<Arc<Callee>>,
    /// When requests to the host that the node calls are refused.
    pub circuit: Option<Arc<CircuitSpec>>,
    /// The node that undoes what this one did.
    pub compensation: Option<NodeIndex>,
    /// The node that takes over when an error rule of this one says so.
    pub fallback: Option<NodeIndex>,
    /// The node that this one runs for each of its items.
    pub body: Option<NodeIndex>,
}

/// What calls for a node. All are moved by the same rules once they were called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Its needs: every node that stands under `nodes` or `steps`.
    Main,
    /// What `of` did must be undone.
    Compensation { of: NodeIndex },
    /// `of` failed, and a rule lets this one do it in another way.
    Fallback { of: NodeIndex },
    /// `of` has items, and this one is run for each.
    Item { of: NodeIndex },
}

/// Who moves a step to its end.
#[derive(Debug)]
pub enum Role {
    /// A runner of the worker does the deed.
    Run,
    /// Waits for a time; `until` is a template that gives a duration or a timestamp.
    Wait(WaitSpec),
    Signal {
        name: String,
        schema: Option<Schema>,
    },
    /// The node itself is a gate.
    Approval(GateSpec),
    /// A run of its own does it.
    Workflow(Called),
    /// Another node runs for each item of a list: its [`Node::body`].
    Map(MapSpec),
    /// Its [`Node::body`] runs again and again, one round after the other.
    Loop(LoopSpec),
    /// Several bodies run side by side: the items of its [`Node::body`].
    Parallel(ParallelSpec),
    /// Makes one value of many.
    Join(JoinSpec),
}

#[derive(Debug)]
pub struct ParallelSpec {
    /// In the order in which they were written.
    pub branches: Vec<String>,
    pub parallel_max: u32,
    /// The first branch that fails stops the others.
    pub fail_fast: bool,
}

#[derive(Debug)]
pub struct LoopSpec {
    pub goes_on: GoesOn,
    pub rounds_max: u32,
}

/// What decides about another round.
#[derive(Debug)]
pub enum GoesOn {
    /// Asked before each, the first one too.
    While(Expression),
    /// Asked after each.
    Until(Expression),
}

#[derive(Debug)]
pub struct JoinSpec {
    pub strategy: JoinStrategy,
    /// Gives a list; the outputs of the nodes that it needs when there is none.
    pub over: Option<Template>,
}

#[derive(Debug)]
pub enum JoinStrategy {
    /// Objects become one; of members with the same name the last one counts.
    Merge,
    /// All of them, as they are.
    Collect,
    /// From `initial` on, `step` makes the next value of the last one and an element.
    Reduce { initial: Template, step: Template },
    /// The value that so many of them agree on.
    Vote(Quorum),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quorum {
    /// More than half of those that were given.
    Majority,
    Count(u32),
}

#[derive(Debug)]
pub struct MapSpec {
    /// Gives the list.
    pub each: Template,
    /// How many items run side by side.
    pub parallel_max: u32,
    pub tolerate: Tolerance,
    /// How many items are dealt out to runs of their own; none when they are steps of the run itself, however many.
    pub slices: Option<SliceSpec>,
    /// It is such a run, and its items are those that it was given.
    pub is_slice: bool,
}

/// Runs that take some of the items each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceSpec {
    /// The node that starts them.
    pub node: NodeIndex,
    /// Up to so many items stay where they are.
    pub above: u32,
    /// Items of one run.
    pub size: u32,
    /// How many of these runs go on side by side.
    pub parallel_max: u32,
}

/// How many items may fail.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tolerance {
    Count(u32),
    Percent(f64),
}

impl Tolerance {
    pub fn is_exceeded(self, failed: usize, count: u32) -> bool {
        match self {
            Self::Count(max) => failed > max as usize,
            Self::Percent(max) => failed as f64 * 100.0 > max * f64::from(count),
        }
    }
}

#[derive(Debug)]
pub enum WaitSpec {
    For(Template),
    Until(Template),
}

#[derive(Debug)]
pub struct Need {
    pub node: NodeIndex,
    pub accept: Accept,
}

/// Which ends of a needed node let its dependent run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    /// Success, a failure that was continued, or a skip by a person.
    Default,
    /// What the definition lists.
    Listed { succeeded: bool, skipped: bool, failed: bool },
}

/// A gate: who may open it, what they are shown, how long it stays.
#[derive(Debug)]
pub struct GateSpec {
    /// Entries such as `role:editor` or `user:ada`; empty means anyone.
    pub any_of: Vec<String>,
    /// How many different people must approve.
    pub min: u32,
    pub exclude_requester: bool,
    pub auto_approve_if: Option<Expression>,
    pub show: Option<Template>,
    pub form: Option<Schema>,
    pub timeout: Option<Duration>,
    pub on_timeout: ExpiryAction,
}

/// The first rule whose pattern matches the error decides.
#[derive(Debug)]
pub struct ErrorRule {
    /// Where it stands in the definition, as a JSON pointer: its name in the log.
    pub pointer: String,
    /// Patterns as in [`crate::StepError::matches`].
    pub patterns: Vec<String>,
    pub action: ErrorAction,
}

#[derive(Debug)]
pub enum ErrorAction {
    /// Another attempt, while this policy has one left; then the next rule that matches decides.
    Retry(RetryPolicy),
    /// Another attempt now and then, for so long after the first of these failures; then the next rule that matches
    /// decides.
    WaitForAgent(Duration),
    /// Succeed in another way: with this value, or by the node's [`Node::fallback`].
    Fallback(Option<Template>),
    /// As if its condition had been false.
    Skip,
    Pause,
    /// Ask the people of this gate: try again, or fail.
    Escalate(GateSpec),
    /// Go on with this output (null when none is given).
    Continue(Option<Template>),
    Fail,
    /// Fail, and undo what was done, whatever the definition says about failures in general.
    Compensate,
}

impl Role {
    /// Whether something is done, and done anew by another attempt: by a runner, or by a run.
    pub fn is_work(&self) -> bool {
        matches!(self, Self::Run | Self::Workflow(_))
    }
}

impl ErrorRule {
    pub fn matches(&self, error: &StepError) -> bool {
        self.patterns.iter().any(|pattern| error.matches(pattern))
    }
}

impl Node {
    /// Whether what it does is a body, or bodies.
    pub fn has_body(&self) -> bool {
        match &self.role {
            Role::Workflow(Called::Published { .. }) => false,
            Role::Workflow(_) | Role::Parallel(_) => true,
            _ => false,
        }
    }

    /// How its items are dealt out, when there are many.
    pub fn slices(&self) -> Option<SliceSpec> {
        match &self.role {
            Role::Map(spec) => spec.slices,
            _ => None,
        }
    }

    /// Whether it starts runs that take some of a map's items each.
    pub fn is_slice(&self) -> bool {
        matches!(&self.role, Role::Workflow(Called::Slice(_)))
    }

    /// The gate that this node is, or that stands before it.
    pub fn gate_spec(&self) -> Option<&GateSpec> {
        match &self.role {
            Role::Approval(spec) => Some(spec),
            _ => self.gate.as_ref(),
        }
    }

    /// Where an output is not what the node, or what it calls, promises to those who read it.
    pub fn violations(&self, output: &Value) -> Vec<Violation> {
        let promised = self.callee.as_ref().and_then(|callee| callee.result.as_ref());
        self.output_schema.iter().chain(promised).flat_map(|schema| schema.check(output)).collect()
    }

    /// What a gate was opened for: the error rule that asks people, or [`Self::gate_spec`].
    pub fn spec_of(&self, rule: Option<&str>) -> Option<&GateSpec> {
        let Some(rule) = rule else { return self.gate_spec() };
        self.on_error.iter().find_map(|it| match &it.action {
            ErrorAction::Escalate(spec) if it.pointer == rule => Some(spec),
            _ => None,
        })
    }
}

impl Plan {
    pub fn node(&self, index: impl Into<NodeIndex>) -> &Node {
        &self.nodes[index.into().at()]
    }

    /// The name of the branch that a step is.
    pub fn branch(&self, key: StepKey) -> Option<&str> {
        match (&self.node(key).role, key.item) {
            (Role::Workflow(Called::Branches(branches)), Some(item)) => {
                branches.get(item as usize).map(|(name, _)| name.as_str())
            }
            _ => None,
        }
    }

    /// Fills in the defaults of a run's inputs, and says where they are not what the definition takes.
    pub fn complete_inputs(&self, inputs: &mut Value) -> Vec<Violation> {
        let Some(schema) = &self.inputs else { return Vec::new() };
        schema.fill_defaults(inputs);
        schema.check(inputs)
    }

    /// How people call a step: `load`, `grade.do[3]` or `checks.branch[legal]`.
    pub fn label(&self, key: impl Into<StepKey>) -> Cow<'_, str> {
        let key = key.into();
        let id = self.node(key).id.as_str();
        key.item.map_or(id.into(), |item| match self.branch(key) {
            Some(branch) => format!("{id}[{branch}]").into(),
            None => format!("{id}[{item}]").into(),
        })
    }

    /// The node under `nodes` or `steps` that this one stands in, or is.
    pub fn written_at(&self, node: NodeIndex) -> NodeIndex {
        match self.node(node).part {
            Part::Main => node,
            Part::Compensation { of } | Part::Fallback { of } | Part::Item { of } => self.written_at(of),
        }
    }

    /// The step among whose items a node stands, if it does.
    pub fn fan_of(&self, node: NodeIndex) -> Option<NodeIndex> {
        match self.node(node).part {
            Part::Main => None,
            Part::Item { of } => Some(of),
            Part::Compensation { of } | Part::Fallback { of } => self.fan_of(of),
        }
    }

    /// How many nodes stand under `nodes` or `steps`: they come first.
    pub fn main_count(&self) -> usize {
        self.nodes.partition_point(|node| node.part == Part::Main)
    }

    pub fn find(&self, id: &str) -> Option<&Node> {
        self.by_id.get(id).map(|index| self.node(*index))
    }

    /// The nodes that a switch with this output did not take.
    ///
    /// Only nodes that some branch names are affected: other dependents of a switch run either way.
    pub fn is_branch_not_taken(&self, switch: &Node, output: Option<&Value>, dependent: NodeIndex) -> bool {
        if switch.kind != "switch" {
            return false;
        }
        let id = self.node(dependent).id.as_str();
        let names = |list: Option<&Value>| {
            list.and_then(Value::as_array).is_some_and(|ids| ids.iter().any(|it| it == id))
        };
        let params = switch.params.source();
        let in_cases = params
            .get("cases")
            .and_then(Value::as_array)
            .is_some_and(|cases| cases.iter().any(|case| names(case.get("then"))));
        (in_cases || names(params.get("default"))) && !names(output.and_then(|output| output.get("taken")))
    }
}
