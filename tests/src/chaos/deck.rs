//! What can happen, as a deck of cards: shuffled by the seed, so that each harm has its share in any order.

use super::Harms;
use crate::{Chance, Mode};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Harm {
    KillWorker,
    KillApi,
    /// SIGTERM, and up again.
    Drain,
    Freeze,
    BlackHole,
    KillRedis,
    FlushRedis,
    KillPostgres,
}

/// A deck of a fleet: as many deaths of servers as are promised, and more of everybody else.
const FLEET: &[(Harm, usize)] = &[
    (Harm::KillWorker, 24),
    (Harm::KillApi, 12),
    (Harm::Drain, 4),
    (Harm::Freeze, 6),
    (Harm::BlackHole, 4),
    (Harm::KillRedis, 20),
    (Harm::FlushRedis, 4),
    (Harm::KillPostgres, 10),
];
/// Nothing but deaths of workers, each of which somebody else can go on from at once.
const WORKERS: &[(Harm, usize)] = &[(Harm::KillWorker, 16)];
/// One process has itself alone to lose.
const EMBEDDED: &[(Harm, usize)] = &[(Harm::KillWorker, 20), (Harm::Drain, 3), (Harm::Freeze, 3)];

pub(super) struct Deck {
    cards: &'static [(Harm, usize)],
    left: Vec<Harm>,
    dealt: usize,
}

impl Deck {
    pub(super) fn of(mode: Mode, harms: Harms) -> Self {
        let cards = match (harms, mode) {
            (Harms::Deaths, _) => WORKERS,
            (Harms::All, Mode::Fleet) => FLEET,
            (Harms::All, Mode::Embedded) => EMBEDDED,
        };
        Self { cards, left: Vec::new(), dealt: 0 }
    }

    /// How many decks were begun.
    pub(super) fn dealt(&self) -> usize {
        self.dealt
    }

    pub(super) fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    pub(super) fn draw(&mut self, chance: &mut Chance) -> Harm {
        if self.left.is_empty() {
            self.dealt += 1;
            self.left = self.cards.iter().flat_map(|(harm, count)| vec![*harm; *count]).collect();
        }
        let at = usize::try_from(chance.below(self.left.len() as u64)).expect("few");
        self.left.swap_remove(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deck_is_dealt_whole_in_an_order_that_the_seed_says() {
        let deal = |seed| {
            let (mut deck, mut chance) = (Deck::of(Mode::Fleet, Harms::All), Chance::of(seed));
            let cards: Vec<_> = (0..84).map(|_| deck.draw(&mut chance)).collect();
            assert!(deck.is_empty() && deck.dealt() == 1);
            cards
        };
        assert_eq!(deal(1), deal(1));
        assert_ne!(deal(1), deal(2));
        assert_eq!(deal(3).iter().filter(|it| **it == Harm::KillPostgres).count(), 10);
    }
}
