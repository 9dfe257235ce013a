//! Named points between two deeds, at which a process may be told to die, so that a test can look at what is left.
//!
//! `DEATH_POINT=engine.committed#3` ends it there, as `kill -9` would, the third time it comes by. Only a debug build listens:
//! in a release build a point is nothing at all.

#[cfg(debug_assertions)]
pub fn point(name: &'static str) {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static FATAL: LazyLock<Option<(String, u64)>> = LazyLock::new(|| {
        let told = std::env::var("DEATH_POINT").ok()?;
        let (name, time) = told.split_once('#').unwrap_or((&told, "1"));
        Some((name.to_owned(), time.parse().unwrap_or(1)))
    });
    static TIMES: AtomicU64 = AtomicU64::new(0);
    if let Some((fatal, time)) = &*FATAL
        && fatal == name
        && TIMES.fetch_add(1, Ordering::Relaxed) + 1 == *time
    {
        std::process::abort();
    }
}

#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn point(_: &'static str) {}
