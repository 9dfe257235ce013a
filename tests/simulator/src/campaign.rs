//! Many schedules, on all cores: what was found, and what was reached.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::reach::Reach;
use crate::{Schedule, Simulator, minimise};

/// Seeds that fail are told until there are so many: they mostly tell the same.
const FAILURES_MAX: usize = 5;

/// Which schedules to play.
#[derive(Clone, Copy, Debug)]
pub struct Campaign {
    /// The first seed; the others follow.
    pub seed: u64,
    pub schedules: u64,
    /// Threads that play.
    pub jobs: usize,
}

/// A schedule that broke a rule.
#[derive(Clone, Debug)]
pub struct Failure {
    pub seed: u64,
    pub schedule: Schedule,
    pub violations: Vec<String>,
}

/// What came of a campaign.
#[derive(Debug, Default)]
pub struct Summary {
    pub schedules: u64,
    pub ticks: u64,
    pub reach: Reach,
    /// By seed.
    pub failures: Vec<Failure>,
}

impl Campaign {
    /// Plays until all is played, or enough was found.
    pub fn run(&self) -> Summary {
        let next = AtomicU64::new(0);
        let enough = AtomicBool::new(false);
        let summary = Mutex::new(Summary::default());
        std::thread::scope(|scope| {
            for _ in 0..self.jobs {
                scope.spawn(|| self.work(&next, &enough, &summary));
            }
        });
        let mut summary = summary.into_inner().expect("no thread panicked while holding it");
        summary.failures.sort_by_key(|failure| failure.seed);
        summary
    }

    fn work(&self, next: &AtomicU64, enough: &AtomicBool, summary: &Mutex<Summary>) {
        let simulator = Simulator::default();
        while !enough.load(Ordering::Relaxed) {
            let nth = next.fetch_add(1, Ordering::Relaxed);
            if nth >= self.schedules {
                return;
            }
            let seed = self.seed + nth;
            let schedule = simulator.schedule(seed);
            let outcome = simulator.play(&schedule);
            let mut summary = summary.lock().expect("no thread panicked while holding it");
            summary.schedules += 1;
            summary.ticks += outcome.ticks;
            summary.reach.add(&outcome.reach);
            if !outcome.violations.is_empty() {
                summary.failures.push(Failure { seed, schedule, violations: outcome.violations });
                enough.store(summary.failures.len() >= FAILURES_MAX, Ordering::Relaxed);
            }
        }
    }
}

impl Failure {
    /// What to tell a person: the rules that were broken, and the shortest schedule that still breaks them.
    pub fn report(&self, simulator: &Simulator) -> String {
        let smallest = minimise::smallest(simulator, &self.schedule, &self.violations);
        let outcome = simulator.tell(&smallest);
        let mut text = format!("seed {} breaks what must hold:\n", self.seed);
        for violation in &self.violations {
            text.push_str(&format!("  - {violation}\n"));
        }
        text.push_str(&format!(
            "what happened in the shortest schedule that does ({} items):\n",
            smallest.items.len()
        ));
        for line in outcome.lines {
            text.push_str(&format!("  {line}\n"));
        }
        let json = serde_json::to_string(&smallest).expect("schedules are plain data");
        text.push_str(&format!("to keep it, add this line to tests/simulator/kept.jsonl:\n{json}\n"));
        text
    }
}
