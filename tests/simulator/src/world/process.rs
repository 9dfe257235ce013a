//! A process of the fleet as the outside sees it: whether it lives, and whether anything reaches it.
//!
//! A process that was killed or frozen is not unscheduled: every way out of it, to the database, the wire and the
//! world, is barred, for ever or until it thaws. From outside nobody can tell the difference, and so a process can
//! die or freeze at each of its awaits.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) struct Process {
    pub(crate) name: String,
    killed: CancellationToken,
    frozen_until: Mutex<Option<Instant>>,
    /// Cut off from the database until then.
    cut_off_until: Mutex<Option<Instant>>,
}

impl Process {
    pub(crate) fn new(name: String) -> Arc<Self> {
        Arc::new(Self {
            name,
            killed: CancellationToken::new(),
            frozen_until: Mutex::default(),
            cut_off_until: Mutex::default(),
        })
    }

    pub(crate) fn is_api(&self) -> bool {
        self.name.starts_with("api")
    }

    pub(crate) fn kill(&self) {
        self.killed.cancel();
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.killed.is_cancelled()
    }

    /// Returns when the process dies.
    pub(crate) async fn death(&self) {
        self.killed.cancelled().await;
    }

    pub(crate) fn freeze(&self, span: Duration) {
        *self.frozen_until.lock().expect("one thread") = Some(Instant::now() + span);
    }

    pub(crate) fn cut_off(&self, span: Duration) {
        *self.cut_off_until.lock().expect("one thread") = Some(Instant::now() + span);
    }

    /// Ends what was done to it, death aside.
    pub(crate) fn heal(&self) {
        *self.frozen_until.lock().expect("one thread") = None;
        *self.cut_off_until.lock().expect("one thread") = None;
    }

    pub(crate) fn is_cut_off(&self) -> bool {
        self.cut_off_until.lock().expect("one thread").is_some_and(|until| Instant::now() < until)
    }

    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen_until.lock().expect("one thread").is_some_and(|until| Instant::now() < until)
    }

    /// Lets through whoever lives: at once, after the thaw, or never.
    pub(crate) async fn passes(&self) {
        loop {
            if self.is_dead() {
                std::future::pending::<()>().await;
            }
            let until = *self.frozen_until.lock().expect("one thread");
            match until {
                Some(until) if Instant::now() < until => tokio::time::sleep_until(until).await,
                _ => return,
            }
        }
    }
}
