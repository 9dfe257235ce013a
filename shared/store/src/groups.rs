//! Who is in a concurrency group, and who is let in.

use windlass_model::concurrency::{self, Group, Member};
use windlass_model::event::PlaceTaken;
use windlass_model::{Event, EventSeq, Priority, Ring, RunId, SessionId, Timestamp};

/// Members of a group that are looked at together; the rest of a longer queue waits its turn anyway.
pub const MEMBERS_MAX: u32 = 1_000;

/// A run that asks for a place.
#[derive(Clone, Debug)]
pub struct Newcomer {
    pub run_id: RunId,
    pub priority: Priority,
    pub group: Group,
}

/// What a look at a group came to.
#[derive(Clone, Debug, Default)]
pub struct Admissions {
    pub admitted: Vec<Admitted>,
    /// Runs that have a place now, with those that were just admitted.
    pub holders: Vec<RunId>,
    /// Runs that must be canceled, so that a newer one may begin when they have ended.
    pub in_the_way: Vec<RunId>,
}

/// A run that has got its place.
#[derive(Clone, Debug)]
pub struct Admitted {
    pub ring: Ring,
    /// Who holds the run at this moment.
    pub lease_owner: Option<SessionId>,
    /// `run.place_taken`, as it stands in the log.
    pub event: Event,
}

impl Admissions {
    /// Of members in turn, of which those that `admitted` names have just got their place.
    pub fn new(mut members: Vec<Member>, admitted: Vec<Admitted>) -> Self {
        for member in &mut members {
            member.has_place |= admitted.iter().any(|it| it.ring.run_id == member.run_id);
        }
        let holders = members.iter().filter(|member| member.has_place).map(|member| member.run_id).collect();
        Self { admitted, holders, in_the_way: concurrency::in_the_way(&members) }
    }
}

/// The first of those who are in a group that has no place for another run; none when there is one.
pub fn occupant(members: &[Member], max: u32) -> Option<RunId> {
    members.first().filter(|_| members.len() >= max as usize).map(|member| member.run_id)
}

/// What the log of a run says that has got its place.
pub fn place_taken(seq: u32, at: Timestamp) -> Event {
    Event {
        seq: EventSeq(seq),
        at,
        node: None,
        item: None,
        attempt: None,
        epoch: None,
        actor: None,
        body: PlaceTaken {}.into(),
    }
}
