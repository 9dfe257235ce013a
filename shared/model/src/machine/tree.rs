//! Which states a transition leaves and enters.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::plan::{MachinePlan, StateKind, Transition, TransitionIndex};
use crate::StateIndex;

/// What was active when a history state's parent was last left.
pub(super) type History = BTreeMap<StateIndex, Vec<StateIndex>>;

impl MachinePlan {
    /// The targets, history states replaced by what they stand for.
    fn effective_targets(&self, transition: &Transition, history: &History) -> Vec<StateIndex> {
        match transition.target {
            None => Vec::new(),
            Some(target) if self.state(target).is_history() => {
                history.get(&target).cloned().unwrap_or_else(|| vec![self.history_default(target)])
            }
            Some(target) => vec![target],
        }
    }

    fn history_default(&self, history: StateIndex) -> StateIndex {
        let parent = self.state(history).parent.unwrap_or(StateIndex::ROOT);
        match (self.state(history).kind, self.state(parent).kind) {
            (StateKind::History { default: Some(default), .. }, _) => default,
            (_, StateKind::Compound { initial }) => initial,
            _ => parent,
        }
    }

    /// The state whose inside a transition changes; none when even the machine itself is left.
    pub(super) fn domain(&self, transition: &Transition, history: &History) -> Option<StateIndex> {
        let source = transition.source;
        let targets = self.effective_targets(transition, history);
        let is_inside = |target: &StateIndex| *target == source || self.is_descendant(*target, source);
        if !transition.reenter && targets.iter().all(is_inside) {
            return Some(source);
        }
        let first = targets.first().copied().unwrap_or(source);
        let mut common = self.ancestors(first).filter(|ancestor| {
            targets.iter().chain([&source]).all(|state| self.is_descendant(*state, *ancestor))
        });
        // Only a transition of the machine itself has no ancestor in common with its target.
        common.next().or((!transition.reenter).then_some(StateIndex::ROOT))
    }

    /// Active states within this range are left; none when the transition leaves nothing.
    pub(super) fn exit_range(
        &self,
        transition: &Transition,
        history: &History,
    ) -> Option<RangeInclusive<StateIndex>> {
        transition.target?;
        let (first, last) = match self.domain(transition, history) {
            None => (0, self.state(StateIndex::ROOT).last),
            Some(domain) => (domain.0 + 1, self.state(domain).last),
        };
        (first <= last.0).then_some(StateIndex(first)..=last)
    }

    /// The states that transitions with these domains enter, in document order.
    ///
    /// The domains are those from before anything was left. Leaving a state may change what history stands
    /// for, but not what was left.
    pub(super) fn entry_set(
        &self,
        taken: &[TransitionIndex],
        domains: &[Option<StateIndex>],
        history: &History,
    ) -> BTreeSet<StateIndex> {
        let mut entry = EntrySet { plan: self, history, states: BTreeSet::new() };
        for (index, domain) in taken.iter().zip(domains) {
            entry.add(self.transition(*index), *domain);
        }
        entry.states
    }

    /// The states that are active at first.
    pub(super) fn initial_set(&self) -> BTreeSet<StateIndex> {
        let mut entry = EntrySet { plan: self, history: &History::new(), states: BTreeSet::new() };
        entry.add_with_descendants(StateIndex::ROOT);
        entry.states
    }
}

struct EntrySet<'a> {
    plan: &'a MachinePlan,
    history: &'a History,
    states: BTreeSet<StateIndex>,
}

impl EntrySet<'_> {
    fn add(&mut self, transition: &Transition, domain: Option<StateIndex>) {
        let Some(target) = transition.target else { return };
        // A state that is its own target is left and entered only when it says so.
        let stays = transition.source == target && domain == Some(target);
        if !self.plan.state(target).is_history() && !stays {
            self.states.insert(target);
        }
        self.add_descendants(target);
        for state in self.plan.effective_targets(transition, self.history) {
            self.add_ancestors(state, domain);
            if let Some(domain) = domain {
                self.fill_regions(domain);
            }
        }
    }

    fn add_with_descendants(&mut self, state: StateIndex) {
        self.states.insert(state);
        self.add_descendants(state);
    }

    /// What is entered by itself when a state is.
    fn add_descendants(&mut self, state: StateIndex) {
        match self.plan.state(state).kind {
            StateKind::Compound { initial } => self.add_with_descendants(initial),
            StateKind::Parallel => self.fill_regions(state),
            StateKind::History { .. } => self.add_remembered(state),
            StateKind::Atomic | StateKind::Final => {}
        }
    }

    fn add_remembered(&mut self, history: StateIndex) {
        let remembered = match self.history.get(&history) {
            Some(states) => states.clone(),
            None => vec![self.plan.history_default(history)],
        };
        for state in &remembered {
            self.add_with_descendants(*state);
        }
        for state in remembered {
            self.add_ancestors(state, self.plan.state(history).parent);
        }
    }

    /// The parents of a state below `domain`, each of them with all its regions.
    fn add_ancestors(&mut self, state: StateIndex, domain: Option<StateIndex>) {
        for ancestor in self.plan.ancestors(state) {
            if domain.is_some_and(|domain| !self.plan.is_descendant(ancestor, domain)) {
                return;
            }
            self.states.insert(ancestor);
            self.fill_regions(ancestor);
        }
    }

    /// Regions of a parallel state that nothing was chosen for begin at their beginning.
    fn fill_regions(&mut self, state: StateIndex) {
        if self.plan.state(state).kind != StateKind::Parallel {
            return;
        }
        for region in self.plan.regions(state) {
            if self.states.range(region..=self.plan.state(region).last).next().is_none() {
                self.add_with_descendants(region);
            }
        }
    }
}
