//! Which transitions an occurrence, or nothing but the state of things, enables.

use std::collections::BTreeMap;

use super::plan::{MachinePlan, TransitionIndex};
use super::{MachineState, Occurrence};
use crate::workflow::expression::Context;
use crate::{StateIndex, StepError};

/// Asks the guards of one moment.
pub(super) struct Selection<'a> {
    pub plan: &'a MachinePlan,
    pub state: &'a MachineState,
    pub context: Context<'a>,
}

impl Selection<'_> {
    /// Innermost states are asked first. A region of a parallel state that takes the occurrence takes it
    /// for the states around the regions, too.
    pub(super) fn on(&self, occurrence: &Occurrence) -> Result<Vec<TransitionIndex>, StepError> {
        let found = match occurrence.owner(self.plan) {
            Some(owner) if !self.state.configuration.contains(&owner) => Vec::new(),
            Some(owner) => self.first_enabled(occurrence, owner)?.into_iter().collect(),
            None => self.within(occurrence, StateIndex::ROOT)?,
        };
        Ok(self.without_conflicts(found))
    }

    fn within(&self, occurrence: &Occurrence, state: StateIndex) -> Result<Vec<TransitionIndex>, StepError> {
        let last = self.plan.state(state).last;
        let mut found = Vec::new();
        let mut from = state.0 + 1;
        // From one active child to the next; what lies between belongs to the first.
        while from <= last.0
            && let Some(child) = self.state.configuration.range(StateIndex(from)..=last).next()
        {
            found.extend(self.within(occurrence, *child)?);
            from = self.plan.state(*child).last.0 + 1;
        }
        if found.is_empty() {
            found.extend(self.first_enabled(occurrence, state)?);
        }
        Ok(found)
    }

    fn first_enabled(
        &self,
        occurrence: &Occurrence,
        state: StateIndex,
    ) -> Result<Option<TransitionIndex>, StepError> {
        let candidates = occurrence.candidates(self.plan, state);
        self.first_open(candidates.iter().copied().filter(|index| {
            let patterns = &self.plan.transition(*index).patterns;
            match occurrence {
                Occurrence::InvocationFailed { error, .. } if !patterns.is_empty() => {
                    patterns.iter().any(|pattern| error.matches(pattern))
                }
                _ => true,
            }
        }))
    }

    fn first_open(
        &self,
        candidates: impl Iterator<Item = TransitionIndex>,
    ) -> Result<Option<TransitionIndex>, StepError> {
        for index in candidates {
            let guard = self.plan.transition(index).guard.as_ref();
            if guard.map_or(Ok(true), |guard| guard.is_true(&self.context))? {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    /// `always`: each innermost state, in document order, takes its own or that of its nearest parent.
    pub(super) fn eventless(&self) -> Result<Vec<TransitionIndex>, StepError> {
        let mut known = BTreeMap::new();
        let mut found = Vec::new();
        for leaf in &self.state.configuration {
            if self.plan.state(*leaf).is_leaf()
                && let Some(index) = self.nearest(*leaf, &mut known)?
                && !found.contains(&index)
            {
                found.push(index);
            }
        }
        Ok(self.without_conflicts(found))
    }

    fn nearest(
        &self,
        state: StateIndex,
        known: &mut BTreeMap<StateIndex, Option<TransitionIndex>>,
    ) -> Result<Option<TransitionIndex>, StepError> {
        if let Some(found) = known.get(&state) {
            return Ok(*found);
        }
        let own = self.first_open(self.plan.state(state).always.iter().copied())?;
        let found = match (own, self.plan.state(state).parent) {
            (None, Some(parent)) => self.nearest(parent, known)?,
            (own, _) => own,
        };
        known.insert(state, found);
        Ok(found)
    }

    /// Of two transitions that would leave the same state, the one from further within is taken, else the
    /// one that was found first.
    fn without_conflicts(&self, found: Vec<TransitionIndex>) -> Vec<TransitionIndex> {
        let mut kept: Vec<TransitionIndex> = Vec::new();
        for index in found {
            let rivals: Vec<TransitionIndex> =
                kept.iter().copied().filter(|other| self.is_conflict(index, *other)).collect();
            let source = |index| self.plan.transition(index).source;
            if rivals.iter().all(|rival| self.plan.is_descendant(source(index), source(*rival))) {
                kept.retain(|other| !rivals.contains(other));
                kept.push(index);
            }
        }
        kept
    }

    fn is_conflict(&self, one: TransitionIndex, other: TransitionIndex) -> bool {
        let range = |index| self.plan.exit_range(self.plan.transition(index), &self.state.history);
        let (Some(one), Some(other)) = (range(one), range(other)) else { return false };
        let (first, last) = (*one.start().max(other.start()), *one.end().min(other.end()));
        first <= last && self.state.configuration.range(first..=last).next().is_some()
    }
}
