//! Why a log cannot be folded.

use crate::EventSeq;

/// The log does not make sense: it is damaged, or belongs to another definition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    #[error("the log does not begin with run.created")]
    NotCreated,
    #[error("event {found} follows event {last}: the log has a gap")]
    Gap { last: EventSeq, found: EventSeq },
    #[error("the log belongs to a definition with another number of nodes")]
    OtherPlan,
    #[error("event {seq} ({name}) needs a step and names none that exists")]
    NoStep { seq: EventSeq, name: &'static str },
    #[error("event {seq} ({name}) comes after the run has ended")]
    AfterEnd { seq: EventSeq, name: &'static str },
}
