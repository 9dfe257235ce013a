//! Open runs, counted beside the database, and whether those who start one are let in and refused rightly.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use windlass_model::{RunId, TenantId};

use super::api::Answer;
use super::process::Process;
use super::{Created, World};
use crate::reach::Reach;

/// What others have started may be unknown for so long: a count is trusted for a second, clients hang up after three, a
/// write may be on its way for as long as a process is frozen.
const MAY_BE_UNKNOWN: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(super) struct OpenRuns {
    open: BTreeMap<TenantId, BTreeMap<RunId, Began>>,
    /// How many there were from when on.
    story: Vec<(Instant, TenantId, usize)>,
    tries: Vec<Try>,
}

struct Began {
    at: Instant,
    /// The process that asked its quota first; none of a run that needs no place.
    let_in_by: Option<String>,
}

/// A request that may be one for a place.
struct Try {
    tenant: TenantId,
    began: Instant,
    /// How much of the story was told by then.
    told: usize,
    /// Nothing of it is going on any more from then on.
    over: Option<Instant>,
}

impl OpenRuns {
    /// I27: of the runs that a process lets in or may know of, no more are open than may be.
    pub(super) fn begin(
        &mut self,
        new: &Created,
        process: &str,
        max: Option<u32>,
        reach: &Reach,
    ) -> Option<String> {
        let now = Instant::now();
        let open = self.open.entry(new.tenant).or_default();
        let was_full = max.is_some_and(|max| open.len() >= max as usize);
        let let_in_by = new.needs_place.then(|| process.to_owned());
        open.insert(new.id, Began { at: now, let_in_by });
        let is_known =
            |began: &Began| began.let_in_by.as_deref() == Some(process) || began.at + MAY_BE_UNKNOWN < now;
        let (count, known) = (open.len(), open.values().filter(|began| is_known(began)).count());
        self.story.push((now, new.tenant, count));
        if was_full && !new.needs_place {
            reach.hit("child_began_beyond_the_quota");
        }
        let max = max.filter(|max| new.needs_place && known > *max as usize)?;
        Some(format!(
            "I27: {process} let {} in as number {count}, knew of {known}, and {max} may be open",
            new.id
        ))
    }

    pub(super) fn end(&mut self, run: RunId) {
        for (tenant, open) in &mut self.open {
            if open.remove(&run).is_some() {
                self.story.push((Instant::now(), *tenant, open.len()));
            }
        }
    }

    pub(super) fn count(&self, tenant: TenantId) -> usize {
        self.open.get(&tenant).map_or(0, BTreeMap::len)
    }

    /// Somebody begins to ask for something that may be a run; the number is for [`Self::is_over`] and [`Self::refused`].
    pub(super) fn begins(&mut self, tenant: TenantId) -> usize {
        self.tries.push(Try { tenant, began: Instant::now(), told: self.story.len(), over: None });
        self.tries.len() - 1
    }

    /// That request came to an end, as far as whoever asked can tell.
    pub(super) fn is_over(&mut self, number: usize, is_answered: bool) {
        let rest = if is_answered { Duration::ZERO } else { MAY_BE_UNKNOWN };
        self.tries[number].over = Some(Instant::now() + rest);
    }

    /// I27: whoever is refused has met a full house: as many were open at some time since he asked, or were being written.
    pub(super) fn refused(&self, number: usize, max: Option<u32>) -> Option<String> {
        let Try { tenant, began, told, .. } = self.tries[number];
        let is_rival = |(other, it): &(usize, &Try)| {
            *other != number && it.tenant == tenant && it.over.is_none_or(|over| over >= began)
        };
        let rivals = self.tries.iter().enumerate().filter(is_rival).count();
        self.had_room(tenant, told, rivals, max)
    }

    /// As for people, when all that is known is that it was a short while ago.
    pub(super) fn passed_over(&self, tenant: TenantId, max: Option<u32>) -> Option<String> {
        let now = Instant::now();
        let told = self.story.iter().take_while(|(at, ..)| *at + MAY_BE_UNKNOWN < now).count();
        self.had_room(tenant, told, 0, max)
    }

    fn had_room(&self, tenant: TenantId, told: usize, rivals: usize, max: Option<u32>) -> Option<String> {
        let is_theirs = |(_, whose, _): &&(Instant, TenantId, usize)| *whose == tenant;
        let at_first = self.story[..told].iter().rfind(is_theirs);
        let later = self.story[told..].iter().filter(is_theirs);
        let most = at_first.into_iter().chain(later).map(|(.., count)| *count).max().unwrap_or(0);
        let is_full = max.is_some_and(|max| most + rivals >= max as usize);
        (!is_full).then(|| {
            format!("I27: somebody was refused while no more than {most} were open, {rivals} asked, and {max:?} may be")
        })
    }
}

impl World {
    pub(super) fn was_let_in(&self, new: &Created, by: &Process) {
        let mut ledger = self.ledger.lock().expect("one thread");
        let complaint = ledger.open_runs.begin(new, &by.name, self.open_runs_max, &self.reach);
        drop(ledger);
        self.complain_of(complaint);
    }

    pub(super) fn has_ended(&self, run_id: RunId, ends: bool) {
        if ends {
            self.ledger.lock().expect("one thread").open_runs.end(run_id);
        }
    }

    /// Of open runs, as they were begun and ended.
    pub(crate) fn count_open(&self, tenant: TenantId) -> usize {
        self.ledger.lock().expect("one thread").open_runs.count(tenant)
    }

    /// Somebody asks for something; the number is for [`Self::is_answered`].
    pub(crate) fn is_asked(&self, tenant: TenantId) -> usize {
        self.ledger.lock().expect("one thread").open_runs.begins(tenant)
    }

    pub(crate) fn is_answered(&self, number: usize, answer: Option<&Answer>) {
        let is_told = answer.is_some_and(|answer| answer.status != 503);
        let is_refused = answer.is_some_and(Answer::is_over_quota);
        let mut ledger = self.ledger.lock().expect("one thread");
        ledger.open_runs.is_over(number, is_told);
        let complaint = is_refused.then(|| ledger.open_runs.refused(number, self.open_runs_max)).flatten();
        drop(ledger);
        self.complain_of(complaint);
    }
}
