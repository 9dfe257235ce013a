//! What happened: the only truth about a run.
//!
//! An event is stored as columns (seq, at, code, node, item, attempt, epoch, actor) and a small JSON
//! object, the body's data. Codes and names are a promise to stored logs: never renumber, only add.

mod approval;
mod begin;
mod child;
mod origin;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::StepError;
use crate::machine::TimerIndex;
use crate::payload::{BlobRef, Payload};
use crate::state::PauseReason;
use crate::{Actor, Attempt, Epoch, EventSeq, NodeIndex, RunId, SessionId, StateIndex, StepKey, Timestamp};

pub use approval::{ApprovalExpired, ApprovalGranted, ApprovalRejected, ApprovalRequested, ExpiryAction};
pub use begin::{PlaceAwaited, PlaceTaken, RunCreated, RunDeferred};
pub use child::{ChildCancelRequested, ChildFinished, ChildStarted, Parent, RecallReason};
pub use origin::{MachineEdited, Origin, OriginReason, ReusedStep, StepEdited};

/// One entry of a run's log.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub seq: EventSeq,
    pub at: Timestamp,
    /// The step this is about; none for events of the run as a whole.
    pub node: Option<NodeIndex>,
    /// Index of the item inside a fan-out; none outside one.
    pub item: Option<u32>,
    pub attempt: Option<Attempt>,
    /// The engine that wrote it; none for what came through the door.
    pub epoch: Option<Epoch>,
    /// Who caused it; none for the engine itself.
    pub actor: Option<Actor>,
    pub body: EventBody,
}

/// Declares [`EventBody`] and its table of stored codes and published names in one place.
macro_rules! event_bodies {
    ($($code:literal $name:literal $variant:ident,)*) => {
        /// What an event says, one struct per kind.
        #[derive(Clone, Debug, PartialEq)]
        pub enum EventBody {
            $($variant($variant),)*
        }

        impl EventBody {
            /// Every stored code with its published name.
            pub const KINDS: &[(i16, &str)] = &[$(($code, $name),)*];

            /// The number that rows keep.
            pub fn code(&self) -> i16 {
                match self { $(Self::$variant(_) => $code,)* }
            }

            /// The name that people and clients see, such as `step.started`.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$variant(_) => $name,)* }
            }

            /// The body's data as a JSON object, `{}` when it has none.
            pub fn data(&self) -> String {
                match self {
                    $(Self::$variant(body) => serde_json::to_string(body).expect("event bodies are plain data"),)*
                }
            }

            /// The body's data as a JSON value.
            pub fn data_value(&self) -> Value {
                match self {
                    $(Self::$variant(body) => serde_json::to_value(body).expect("event bodies are plain data"),)*
                }
            }

            /// Reads back what [`Self::code`] and [`Self::data`] gave.
            ///
            /// # Errors
            /// A sentence when the code is unknown or the data does not fit it: the log is damaged, or
            /// was written by a newer Windlass.
            pub fn from_stored(code: i16, data: &str) -> Result<Self, String> {
                match code {
                    $($code => serde_json::from_str(data)
                        .map(Self::$variant)
                        .map_err(|error| format!(concat!("data of ", $name, ": {}"), error)),)*
                    _ => Err(format!("event code {code} is unknown to this version")),
                }
            }
        }

        $(impl From<$variant> for EventBody {
            fn from(body: $variant) -> Self {
                Self::$variant(body)
            }
        })*
    };
}

event_bodies! {
    1 "run.created" RunCreated,
    2 "run.engine_taken" EngineTaken,
    3 "run.paused" RunPaused,
    4 "run.resumed" RunResumed,
    5 "run.cancel_requested" CancelRequested,
    6 "run.canceled" RunCanceled,
    7 "run.completed" RunCompleted,
    8 "run.failed" RunFailed,
    9 "run.quarantined" RunQuarantined,
    10 "compensation.planned" CompensationPlanned,
    20 "step.started" StepStarted,
    21 "step.succeeded" StepSucceeded,
    22 "step.failed" StepFailed,
    23 "step.timed_out" StepTimedOut,
    24 "step.canceled" StepCanceled,
    25 "step.skipped" StepSkipped,
    26 "step.lost" StepLost,
    27 "step.retry_scheduled" RetryScheduled,
    28 "step.waiting" StepWaiting,
    29 "step.paused" StepPaused,
    30 "approval.requested" ApprovalRequested,
    31 "approval.granted" ApprovalGranted,
    32 "approval.rejected" ApprovalRejected,
    33 "approval.expired" ApprovalExpired,
    34 "signal.received" SignalReceived,
    35 "timer.fired" TimerFired,
    36 "event.emitted" EventEmitted,
    37 "error.routed" ErrorRouted,
    38 "step.edited" StepEdited,
    40 "machine.transitioned" MachineTransitioned,
    41 "machine.failed" MachineFailed,
    42 "machine.edited" MachineEdited,
    50 "items.planned" ItemsPlanned,
    51 "run.place_awaited" PlaceAwaited,
    52 "run.place_taken" PlaceTaken,
    53 "items.failed" ItemsFailed,
    55 "child.started" ChildStarted,
    56 "child.finished" ChildFinished,
    57 "child.cancel_requested" ChildCancelRequested,
    58 "step.deferred" StepDeferred,
    59 "run.deferred" RunDeferred,
    60 "run.repaired" RunRepaired,
}

impl EventBody {
    /// Whether this ends the run for good.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::RunCompleted(_) | Self::RunFailed(_) | Self::RunCanceled(_))
    }

    /// The values it carries.
    pub fn payloads(&self) -> impl Iterator<Item = &Payload> {
        let payload = match self {
            Self::RunCreated(body) => Some(&body.inputs),
            Self::RunCompleted(body) => Some(&body.output),
            Self::StepSucceeded(body) => Some(&body.output),
            Self::StepEdited(body) => Some(&body.output),
            Self::StepFailed(StepFailed { then, .. }) | Self::StepTimedOut(StepTimedOut { then, .. }) => {
                match then {
                    Then::Continue { output } | Then::Substitute { output } => Some(output),
                    _ => None,
                }
            }
            Self::ApprovalRequested(body) => Some(&body.show),
            Self::ApprovalGranted(body) => Some(&body.form),
            Self::ApprovalRejected(body) => Some(&body.form),
            Self::SignalReceived(body) => Some(&body.payload),
            Self::EventEmitted(body) => Some(&body.data),
            Self::ItemsPlanned(body) => Some(&body.each),
            Self::MachineTransitioned(body) => Some(&body.output),
            _ => None,
        };
        let origin = match self {
            Self::RunCreated(body) => body.origin.as_deref(),
            _ => None,
        };
        let reused = origin.into_iter().flat_map(|origin| origin.steps.values()).map(|step| &step.output);
        payload.into_iter().chain(reused)
    }

    /// Whether this is the outcome of a step attempt: at most one per (run, node, item, attempt).
    pub fn is_outcome(&self) -> bool {
        matches!(
            self,
            Self::StepSucceeded(_)
                | Self::StepFailed(_)
                | Self::StepTimedOut(_)
                | Self::StepCanceled(_)
                | Self::StepSkipped(_)
                | Self::StepLost(_)
        )
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EngineTaken {
    pub session: SessionId,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunPaused {
    pub reason: PauseReason,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunResumed {}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CancelRequested {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunCanceled {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compensation: Option<CompensationOutcome>,
    /// The run that has taken its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_to: Option<RunId>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunCompleted {
    #[serde(default, skip_serializing_if = "Payload::is_null")]
    pub output: Payload,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunFailed {
    pub error: StepError,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compensation: Option<CompensationOutcome>,
}

/// The run will end once what it did is undone. The steps named here do that, and nothing else begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CompensationPlanned {
    pub after: Ending,
    pub order: CompensationOrder,
    /// Compensating steps, in the order in which they run.
    pub steps: Vec<StepKey>,
    /// Why the run fails, when no step's failure has said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<StepError>,
}

/// How a run ends that does not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    Failed,
    Canceled,
}

/// In which order what was done is undone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CompensationOrder {
    /// What was done last is undone first.
    #[default]
    Reverse,
    /// As the nodes stand in the definition.
    Declared,
    /// All at once.
    Parallel,
}

/// What became of the compensation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CompensationOutcome {
    Succeeded,
    /// A person skipped some of it.
    Incomplete,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunQuarantined {
    /// How many engines died in a row while they held this run.
    pub deaths: u32,
}

/// What is derived from the log was not as the log says, and was written anew. The log itself was whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRepaired {
    /// What was wrong: the kinds that `windlass doctor` prints.
    pub found: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepStarted {
    /// The attempt whose idempotency key this one repeats, when the outcome of that one is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_attempt: Option<Attempt>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepSucceeded {
    #[serde(default, skip_serializing_if = "Payload::is_null")]
    pub output: Payload,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Artifact>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepFailed {
    pub error: StepError,
    pub then: Then,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Artifact>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepTimedOut {
    pub error: StepError,
    pub then: Then,
}

/// What follows a failure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Then {
    /// Another attempt; `step.retry_scheduled` follows and says when.
    Retry,
    /// The run pauses for a person.
    Pause,
    /// The run goes on as if the step had succeeded with this output; the step stays failed.
    Continue {
        #[serde(default, skip_serializing_if = "Payload::is_null")]
        output: Payload,
    },
    /// The step succeeds with this output in place of its own.
    Substitute {
        #[serde(default, skip_serializing_if = "Payload::is_null")]
        output: Payload,
    },
    /// Another node takes over; the step ends as that one does.
    Fallback,
    /// The step is skipped.
    Skip,
    /// The item stays failed, and the step whose item it is counts it.
    Count,
    /// `approval.requested` follows: people decide whether it is tried again.
    Escalate,
    /// The run fails once what is in flight has ended.
    Fail,
    /// As `fail`; and what was done is undone, whatever the definition says about failures in general.
    Compensate,
}

/// Which rule decided about the failure before, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorRouted {
    /// Where it stands in the definition, as a JSON pointer.
    pub rule: String,
    pub action: RuleAction,
}

/// What a rule may do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleAction {
    Retry,
    WaitForAgent,
    Fallback,
    Skip,
    Compensate,
    Pause,
    Escalate,
    Continue,
    Fail,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepCanceled {}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepSkipped {
    pub reason: SkipReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// Its `if` was false.
    Condition,
    /// A node that it needs did not end as it must.
    Need,
    /// A switch took another branch.
    Branch,
    /// A person said so; whoever needs it goes on.
    Command,
    /// It failed, and an error rule drops it.
    Error,
}

/// The engine that ran this attempt died or was stopped; whether the deed was done is unknown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepLost {
    /// True: safe to repeat, so the next attempt follows by itself. False: a person decides.
    pub retry: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetryScheduled {
    pub at: Timestamp,
}

/// What the step calls may not be called so often. The attempt was not made; it is begun again when its turn comes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepDeferred {
    pub until: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepWaiting {
    #[serde(flatten)]
    pub on: WaitingOn,
    /// When the wait ends by itself: a timer's time, or the timeout of a signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "on", rename_all = "snake_case")]
pub enum WaitingOn {
    Timer,
    Signal { name: String },
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepPaused {}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SignalReceived {
    pub name: String,
    #[serde(default, skip_serializing_if = "Payload::is_null")]
    pub payload: Payload,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TimerFired {}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventEmitted {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default, skip_serializing_if = "Payload::is_null")]
    pub data: Payload,
}

/// A machine has reacted to something, and is at rest again. Says all that changed, as values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MachineTransitioned {
    /// The name of what it reacted to.
    pub event: String,
    pub cause: MachineCause,
    /// Whether anything in it took that.
    pub is_taken: bool,
    /// The active states, each with its parents.
    pub configuration: BTreeSet<StateIndex>,
    /// What was done, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<String>,
    /// Members of the context that were set.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub assigned: Map<String, Value>,
    /// What history states now stand for, where that changed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub history: BTreeMap<StateIndex, Vec<StateIndex>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub timers: Vec<(Timestamp, TimerIndex)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub canceled_timers: Vec<TimerIndex>,
    /// Nodes that begin. For those that end `step.canceled` went before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub invoked: Vec<NodeIndex>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_done: bool,
    #[serde(default, skip_serializing_if = "Payload::is_null")]
    pub output: Payload,
}

/// A step has found its items. The first event of an attempt brings it about; a later one adds items to it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ItemsPlanned {
    /// How many there are in all.
    pub count: u32,
    /// The list that they are the elements of; null when it is known already, or when there is none.
    #[serde(default, skip_serializing_if = "Payload::is_null")]
    pub each: Payload,
    /// Items that have failed before and are done again. Where none were known, these are all that this run has to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub again: Vec<u32>,
    /// Runs of their own take so many items each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice: Option<u32>,
}

/// Some items of a slice did not succeed. Its success, which follows, says what the others gave.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ItemsFailed {
    pub failed: Vec<FailedItem>,
    /// Those that were not begun any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FailedItem {
    pub index: u32,
    /// Of the first ones of a slice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<StepError>,
}

/// Where what a machine reacts to came from, and so what is over with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "timer", rename_all = "snake_case")]
pub enum MachineCause {
    Start,
    /// The first of what waited to be taken.
    Inbox,
    Timer(TimerIndex),
}

/// A machine cannot go on; the run fails once nothing is in flight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MachineFailed {
    pub error: StepError,
}

/// A file or a log that a step left behind, kept in the blob store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// A file name without folders; `log` is the step's own log.
    pub name: String,
    pub media_type: String,
    #[serde(flatten)]
    pub blob: BlobRef,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_codes_and_names_are_unique_and_read_back() {
        let mut codes: Vec<_> = EventBody::KINDS.iter().map(|kind| kind.0).collect();
        let mut names: Vec<_> = EventBody::KINDS.iter().map(|kind| kind.1).collect();
        codes.dedup();
        names.sort_unstable();
        names.dedup();
        assert_eq!((codes.len(), names.len()), (EventBody::KINDS.len(), EventBody::KINDS.len()));

        let body = EventBody::from(StepWaiting {
            on: WaitingOn::Signal { name: "paid".into() },
            until: Some(Timestamp(5_000_000)),
        });
        assert_eq!(body.data(), r#"{"on":"signal","name":"paid","until":"1970-01-01T00:00:05.000000Z"}"#);
        assert_eq!(EventBody::from_stored(body.code(), &body.data()), Ok(body));
        assert!(EventBody::from_stored(999, "{}").is_err());
    }
}
