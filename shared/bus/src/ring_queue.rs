//! Rings that wait inside one process.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Mutex;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use windlass_model::{Priority, Ring, RunId, TenantId};

/// Rings that wait for a worker; further ones are dropped and left to the sweep.
const RINGS_MAX: usize = 100_000;

#[derive(Default)]
pub(crate) struct RingQueue {
    lanes: Mutex<Lanes>,
    rung: Notify,
}

#[derive(Default)]
struct Lanes {
    by_priority: [Lane; Priority::ALL.len()],
    /// A run that is rung twice before anyone answers waits once.
    waiting: HashSet<RunId>,
    turn: u64,
}

/// Rings of one priority.
#[derive(Default)]
struct Lane {
    by_tenant: BTreeMap<TenantId, VecDeque<Ring>>,
    /// Tenants that have rung, in the order in which they come next.
    next: VecDeque<TenantId>,
}

impl RingQueue {
    pub(crate) fn push(&self, ring: Ring) {
        let mut lanes = self.lanes.lock().expect("no panic while holding it");
        if lanes.waiting.len() < RINGS_MAX && lanes.waiting.insert(ring.run_id) {
            lanes.by_priority[ring.priority.rank() as usize].push(ring);
            drop(lanes);
            self.rung.notify_one();
        }
    }

    /// Completes when something was pushed since it was made.
    pub(crate) fn rung(&self) -> Notified<'_> {
        self.rung.notified()
    }

    /// Up to `limit` that wait right now.
    pub(crate) fn take_now(&self, limit: usize) -> Vec<Ring> {
        let mut lanes = self.lanes.lock().expect("no panic while holding it");
        std::iter::from_fn(|| lanes.pop()).take(limit).collect()
    }
}

impl Lanes {
    fn pop(&mut self) -> Option<Ring> {
        let order = Priority::order_of_turn(self.turn);
        let ring = order.into_iter().find_map(|it| self.by_priority[it.rank() as usize].pop())?;
        self.turn = self.turn.wrapping_add(1);
        self.waiting.remove(&ring.run_id);
        Some(ring)
    }
}

impl Lane {
    fn push(&mut self, ring: Ring) {
        let theirs = self.by_tenant.entry(ring.tenant).or_default();
        if theirs.is_empty() {
            self.next.push_back(ring.tenant);
        }
        theirs.push_back(ring);
    }

    fn pop(&mut self) -> Option<Ring> {
        let tenant = self.next.pop_front()?;
        let theirs = self.by_tenant.get_mut(&tenant)?;
        let ring = theirs.pop_front();
        if theirs.is_empty() {
            self.by_tenant.remove(&tenant);
        } else {
            self.next.push_back(tenant);
        }
        ring
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn ring(n: u128, tenant: i32, priority: Priority) -> Ring {
        Ring { run_id: RunId(Uuid::from_u128(n)), tenant: TenantId(tenant), priority }
    }

    #[test]
    fn tenants_take_turns() {
        let queue = RingQueue::default();
        for n in 0..1_000 {
            queue.push(ring(n, 1, Priority::Normal));
        }
        queue.push(ring(1_001, 2, Priority::Normal));
        queue.push(ring(1_002, 2, Priority::Normal));
        queue.push(ring(1_003, 3, Priority::Normal));
        let tenants: Vec<i32> = queue.take_now(6).iter().map(|ring| ring.tenant.0).collect();
        assert_eq!(tenants, [1, 2, 3, 1, 2, 1]);
    }

    #[test]
    fn what_is_not_urgent_comes_later_and_comes() {
        let queue = RingQueue::default();
        for n in 0..100 {
            queue.push(ring(n, 1, Priority::High));
            queue.push(ring(100 + n, 1, Priority::Low));
        }
        let taken = queue.take_now(80);
        let low = taken.iter().filter(|ring| ring.priority == Priority::Low).count();
        assert_eq!((taken[0].priority, low), (Priority::High, 10));
    }
}
