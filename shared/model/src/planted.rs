//! Bugs that were put in on purpose, to see whether the simulator finds them.
//!
//! A place that could be wrong asks [`planted`] whether it shall be. In a product the answer is a constant no, and nothing
//! of it is left. With the feature `planted` one bug at a time can be switched on, for the thread that asks.

/// Whether the bug of this name is switched on.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub const fn planted(_bug: &str) -> bool {
    false
}

#[cfg(feature = "planted")]
pub use switch::{planted, switch_on};

#[cfg(feature = "planted")]
mod switch {
    use std::cell::Cell;

    thread_local! {
        static BUG: Cell<Option<&'static str>> = const { Cell::new(None) };
    }

    pub fn planted(bug: &str) -> bool {
        BUG.get() == Some(bug)
    }

    /// Makes this thread wrong in one way, or right again.
    pub fn switch_on(bug: Option<&'static str>) {
        BUG.set(bug);
    }
}
