//! The table: the real program started as processes of their own, and words to tell stories about them.
//!
//! A story opens a [`House`], speaks HTTP through its [`Client`], watches effects arrive at a [`Sink`],
//! and closes the house. Closing reads every run's log back and holds it against the rules in [`check`],
//! so that each story proves more than it says.

#![expect(clippy::print_stderr, reason = "tests talk to the person who reads their output")]

pub mod answer;
pub mod chance;
pub mod chaos;
pub mod check;
pub mod client;
pub mod definition;
mod doors;
pub mod house;
pub mod load;
pub mod log;
pub mod raw;
pub mod recorder;
pub mod sink;
pub mod stream;

use std::future::Future;
use std::time::{Duration, Instant};

pub use answer::Answer;
pub use chance::Chance;
pub use client::Client;
pub use house::{House, Mode, Process};
pub use load::Load;
pub use log::{Event, Log};
pub use recorder::Recorder;
pub use sink::Sink;

/// How long anything in a story may take before the story is over: two busy cores and a debug build.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How often a story looks again; less and less often while nothing happens.
const GLANCE_EVERY: Duration = Duration::from_millis(20);
const GLANCE_EVERY_MAX: Duration = Duration::from_millis(200);

/// Tells each story in every mode that the house can run in.
///
/// A story is `async fn name(mode: Mode)`; one that is not listed is dead code, which the linter refuses. One that
/// cannot mean anything in a fleet is listed last, after `embedded only:`, with its reason.
#[macro_export]
macro_rules! in_every_mode {
    ($($story:ident),+ $(,)? $(; embedded only: $($only:ident),+ $(,)?)?) => {
        mod embedded {
            $crate::in_mode!(Embedded: $($story),+ $(, $($only),+)?);
        }
        mod fleet {
            $crate::in_mode!(Fleet: $($story),+);
        }
    };
}

/// Tells stories of the module above in one mode.
#[macro_export]
macro_rules! in_mode {
    ($mode:ident: $($story:ident),+) => {
        $(
            #[test]
            fn $story() {
                $crate::tell(super::$story($crate::Mode::$mode));
            }
        )+
    };
}

/// Runs a story to its end on a runtime of its own.
pub fn tell(story: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime needs only threads and memory");
    runtime.block_on(story);
}

/// Looks again and again until there is something to see.
///
/// # Panics
/// When [`PATIENCE`] ends; `what` says what was hoped for.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let began = Instant::now();
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(began.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain for {what}");
        glance_away(began).await;
    }
}

/// Pauses before the next look at something that was first looked at a while ago.
async fn glance_away(began: Instant) {
    tokio::time::sleep((began.elapsed() / 8).clamp(GLANCE_EVERY, GLANCE_EVERY_MAX)).await;
}
