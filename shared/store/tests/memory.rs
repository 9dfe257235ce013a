//! The memory store keeps every promise of the port.

use std::sync::Arc;

use windlass_model::Timestamp;
use windlass_store::Clock;
use windlass_store::conformance::Subject;
use windlass_store::memory::MemoryStore;

async fn subject() -> Subject {
    let clock = Arc::new(Clock::fixed(Timestamp(1_800_000_000_000_000)));
    Subject { store: MemoryStore::with_clock(clock.clone()), clock, keep: Box::new(()) }
}

windlass_store::conformance_tests!(subject());
