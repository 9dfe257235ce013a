//! A run about to be written.

use windlass_model::concurrency::{Group, Member};
use windlass_model::payload::Blob;
use windlass_model::{Event, Priority, RunId, RunState, TenantId, VersionId};

use crate::values::blobs_of;
use crate::{Firing, Labels, Projection, Remember};

/// What must be true of a new run's definition at the moment when the run is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pin {
    /// It is there.
    #[default]
    Inline,
    /// It is a version of a workflow that is not hidden.
    Version,
    /// It is the latest version of such a workflow: whoever asks for a workflow by its name need not look before.
    Latest,
}

/// A run about to be written.
#[derive(Clone, Debug)]
pub struct NewRun {
    pub id: RunId,
    pub tenant: TenantId,
    pub version_id: VersionId,
    pub pin: Pin,
    /// The run whose step starts this one; of the same tenant.
    pub parent: Option<RunId>,
    pub priority: Priority,
    pub labels: Labels,
    /// `run.created`, with seq 1.
    pub event: Event,
    pub projection: Projection,
    pub blobs: Vec<Blob>,
    /// It waits for a place in this group, from now on.
    pub group: Option<Group>,
    /// The time of a schedule that comes with it.
    pub firing: Option<Firing>,
    pub remember: Option<Remember>,
}

impl NewRun {
    /// A run that begins with `event`, which made `state`.
    pub fn new(tenant: TenantId, version_id: VersionId, state: &RunState, event: Event) -> Self {
        Self {
            id: state.run_id,
            tenant,
            version_id,
            pin: Pin::default(),
            parent: state.parent.as_ref().map(|parent| parent.run_id),
            priority: Priority::default(),
            labels: Labels::new(),
            projection: Projection::of(state, false),
            blobs: blobs_of(std::slice::from_ref(&event)),
            event,
            // One that starts later asks when it does.
            group: state.group.clone().filter(|_| !state.is_delayed),
            firing: None,
            remember: None,
        }
    }

    /// What it is in its group.
    pub fn member(&self) -> Option<Member> {
        let group = self.group.clone()?;
        Some(Member { run_id: self.id, priority: self.priority, group, has_place: false })
    }
}
