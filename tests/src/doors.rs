//! Where a house is spoken to: the addresses of its APIs, each in its turn.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};

/// As a balancer would know them: a door that is known to be closed is not knocked at.
#[derive(Default)]
pub(crate) struct Doors {
    known: RwLock<Known>,
    turn: AtomicUsize,
}

#[derive(Default)]
struct Known {
    /// Addresses by the name of their process.
    open: BTreeMap<String, String>,
    /// Where nobody answers, once all are closed.
    last: String,
}

impl Doors {
    /// A process listens there, since its start or again.
    pub(crate) fn open(&self, process: &str, address: &str) {
        self.change(|open| open.insert(process.to_owned(), address.to_owned()));
    }

    pub(crate) fn close(&self, process: &str) {
        self.change(|open| open.remove(process));
    }

    /// Returns the address that was there before.
    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, String>) -> Option<String>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = change(&mut known.open) {
            known.last = before;
        }
    }

    pub(crate) fn next(&self) -> String {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let open = known.open.values().nth(turn % known.open.len().max(1));
        open.unwrap_or(&known.last).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_open_door_has_its_turn_and_a_closed_house_keeps_its_last() {
        let doors = Doors::default();
        doors.open("a", "A");
        doors.open("b", "B");
        assert_eq!([doors.next(), doors.next(), doors.next()], ["A", "B", "A"]);
        doors.close("a");
        assert_eq!([doors.next(), doors.next()], ["B", "B"]);
        doors.close("b");
        assert_eq!(doors.next(), "B");
    }
}
