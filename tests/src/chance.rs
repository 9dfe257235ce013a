//! Chance that can be repeated: a small generator with a printed seed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// SplitMix64. Good enough to pick moments, and the same for the same seed everywhere.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// The seed in `WINDLASS_SEED`, or one from the clock. Printed either way, so that a failure can be repeated.
    pub fn from_environment() -> Self {
        let seed = match std::env::var("WINDLASS_SEED") {
            Ok(text) => text.parse().expect("WINDLASS_SEED is a whole number"),
            Err(_) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
                now.as_secs() ^ u64::from(now.subsec_nanos()) << 20
            }
        };
        eprintln!("chance: WINDLASS_SEED={seed}");
        Self(seed)
    }

    pub fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// A generator of its own for something that happens at the same time.
    #[must_use]
    pub fn branch(&mut self) -> Self {
        Self(self.draw())
    }

    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Zero up to, not including, `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound.max(1)
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn between(&mut self, shortest: Duration, longest: Duration) -> Duration {
        let spread = u64::try_from((longest.saturating_sub(shortest)).as_micros()).unwrap_or(u64::MAX);
        shortest + Duration::from_micros(self.below(spread + 1))
    }
}
