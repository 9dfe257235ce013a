//! Concurrency groups.

use async_trait::async_trait;
use windlass_model::concurrency::{self, Group, Member};
use windlass_model::{EventSeq, Priority, RunId, RunStatus, RunVersion, TenantId, Timestamp, planted};

use super::MemoryStore;
use super::tables::Tables;
use crate::{Admissions, Admitted, Groups, MEMBERS_MAX, Newcomer, StoreError, place_taken};

/// A run that is, or was, in a group.
#[derive(Clone)]
pub(super) struct Place {
    tenant: TenantId,
    member: Member,
    /// The run has ended, and nobody has looked at its group since.
    is_freed: bool,
}

#[async_trait]
impl Groups for MemoryStore {
    async fn admit_runs(
        &self,
        tenant: TenantId,
        group: &str,
        newcomer: Option<Newcomer>,
    ) -> Result<Admissions, StoreError> {
        self.write_always(|tables, now| {
            if let Some(Newcomer { run_id, priority, group }) = newcomer {
                tables.join(tenant, run_id, priority, group);
            }
            Ok(tables.admit(tenant, group, now))
        })
    }

    async fn list_group(&self, tenant: TenantId, group: &str, limit: u32) -> Result<Vec<Member>, StoreError> {
        self.read(|tables, _| Ok(tables.members(tenant, group, limit)))
    }
}

impl Tables {
    /// Groups of which a run has ended since somebody last looked at them.
    pub(super) fn freed_groups(&self, limit: u32) -> Vec<(TenantId, String)> {
        let freed = self.places.values().filter(|place| place.is_freed);
        let mut groups: Vec<_> = freed.map(|place| (place.tenant, place.member.group.name.clone())).collect();
        groups.sort_unstable();
        groups.dedup();
        groups.truncate(limit as usize);
        groups
    }

    /// A run asks for a place in its group.
    pub(super) fn join(&mut self, tenant: TenantId, run_id: RunId, priority: Priority, group: Group) {
        let has_ended = self.runs.get(&run_id).is_none_or(|run| run.row.status.is_terminal());
        if has_ended {
            return;
        }
        let member = Member { run_id, priority, group, has_place: false };
        self.places.entry(run_id).or_insert(Place { tenant, member, is_freed: false });
    }

    /// A run has ended: whoever looks at its group finds that it may have a place for another.
    pub(super) fn leave(&mut self, run_id: RunId) {
        if planted("freed_places_are_forgotten") {
            self.places.remove(&run_id);
        } else if let Some(place) = self.places.get_mut(&run_id) {
            place.is_freed = true;
        }
    }

    /// Places that are held by runs that have ended, or never were, with their groups.
    pub(super) fn kept_places(&self) -> impl Iterator<Item = (RunId, &str)> {
        let held = self.places.iter().filter(|(_, place)| place.member.has_place && !place.is_freed);
        let is_over = |run_id| self.runs.get(run_id).is_none_or(|run| run.row.status.is_terminal());
        held.filter(move |(run_id, _)| is_over(*run_id))
            .map(|(run_id, place)| (*run_id, place.member.group.name.as_str()))
    }

    pub(super) fn members(&self, tenant: TenantId, group: &str, limit: u32) -> Vec<Member> {
        let is_theirs = |place: &&Place| place.tenant == tenant || planted("groups_shared_by_tenants");
        let places = self.places.values().filter(is_theirs).filter(|place| !place.is_freed);
        let mut members: Vec<_> =
            places.map(|place| &place.member).filter(|member| member.group.name == group).cloned().collect();
        members.sort_by_key(Member::turn);
        members.truncate(limit as usize);
        members
    }

    fn admit(&mut self, tenant: TenantId, group: &str, now: Timestamp) -> Admissions {
        self.places
            .retain(|_, place| !place.is_freed || place.tenant != tenant || place.member.group.name != group);
        let members = self.members(tenant, group, MEMBERS_MAX);
        let count = concurrency::admitted(&members) + usize::from(planted("a_place_too_many"));
        let waiting = members.iter().filter(|member| !member.has_place).map(|member| member.run_id);
        let mut admitted = Vec::new();
        for run_id in waiting.take(count) {
            let entered = self.enter(run_id, now);
            match (entered, self.places.get_mut(&run_id)) {
                (Some(entered), Some(place)) => {
                    place.member.has_place = true;
                    admitted.push(entered);
                }
                // It is over, and its place is one for another.
                _ => self.leave(run_id),
            }
        }
        Admissions::new(members, admitted)
    }

    /// None when the run has ended, or is about to.
    fn enter(&mut self, run_id: RunId, now: Timestamp) -> Option<Admitted> {
        let is_over = |status: RunStatus| status.is_terminal() || status == RunStatus::Canceling;
        let run = self.runs.get_mut(&run_id).filter(|run| !is_over(run.row.status))?;
        let row = &mut run.row;
        let event = place_taken(row.next_seq.0, now);
        row.version = RunVersion(row.version.0 + 1);
        row.next_seq = EventSeq(row.next_seq.0 + 1);
        row.last_activity_at = now;
        row.status = match (row.status, row.lease_owner) {
            (RunStatus::Waiting, None) => RunStatus::Queued,
            (RunStatus::Waiting, Some(_)) => RunStatus::Running,
            (other, _) => other,
        };
        run.attention = row.lease_owner.is_some();
        run.log.append(std::slice::from_ref(&event));
        Some(Admitted { ring: row.ring(), lease_owner: row.lease_owner, event })
    }
}
