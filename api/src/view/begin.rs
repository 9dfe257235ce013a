//! What a run says about its beginning: its place in a concurrency group, the schedule that started it, and the run that it
//! goes on from.

use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::{RefOr, Schema};
use windlass_model::concurrency::{OnConflict, Place};
use windlass_model::event::{Origin, OriginReason};
use windlass_model::{EventSeq, RunId, RunState};

use super::words;

/// Where a run stands in its concurrency group.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Concurrency)]
pub(crate) struct ConcurrencyView<'a> {
    pub group: &'a str,
    /// How many runs of the group may be under way.
    pub max: u32,
    #[schema(schema_with = on_conflict)]
    pub on_conflict: OnConflict,
    /// Without one nothing of the run begins. A run that has ended has none any more.
    pub has_place: bool,
}

fn on_conflict() -> RefOr<Schema> {
    words(OnConflict::ALL.iter().map(|it| it.as_str()), false)
}

impl<'a> ConcurrencyView<'a> {
    pub(crate) fn of(state: &'a RunState) -> Option<Self> {
        let group = state.group.as_ref()?;
        Some(Self {
            group: &group.name,
            max: group.max,
            on_conflict: group.on_conflict,
            has_place: state.place == Place::Held && !state.is_terminal(),
        })
    }
}

/// Which schedule started a run, and for which of its times.
#[derive(ToSchema)]
#[schema(as = Scheduled)]
#[expect(dead_code, reason = "describes what the model serializes")]
pub(crate) struct ScheduledView {
    name: String,
    #[schema(format = DateTime)]
    at: String,
}

/// Where a run comes from that does again, or goes on with, what another one did.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Origin)]
pub(crate) struct OriginView {
    #[schema(value_type = String, format = Uuid)]
    run_id: RunId,
    /// Seq of the last event of that run that was looked at.
    #[schema(value_type = u32)]
    seq: EventSeq,
    #[schema(schema_with = origin_reason)]
    because: OriginReason,
}

impl OriginView {
    pub(super) fn of(origin: &Origin) -> Self {
        Self { run_id: origin.run_id, seq: origin.seq, because: origin.because }
    }
}

fn origin_reason() -> RefOr<Schema> {
    words(["rerun", "move"], false)
}
