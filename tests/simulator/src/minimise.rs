//! Makes a schedule that fails as short as it can be and still fails in the same way.

use crate::schedule::{Noise, Schedule};
use crate::{Item, Simulator};

/// Plays that looking for less may cost.
const PLAYS_MAX: u32 = 400;

/// The shortest schedule found that breaks the same rule as `violations` tell.
pub(crate) fn smallest(simulator: &Simulator, schedule: &Schedule, violations: &[String]) -> Schedule {
    let Some(rule) = violations.first().map(|first| rule(first)) else { return schedule.clone() };
    let mut search = Search { simulator, rule, plays_left: PLAYS_MAX };
    let mut best = schedule.clone();
    loop {
        let before = best.clone();
        search.silence(&mut best);
        search.drop_items(&mut best);
        search.drop_workers(&mut best);
        if best == before || search.plays_left == 0 {
            return best;
        }
    }
}

/// What stands before the first colon.
fn rule(violation: &str) -> &str {
    let head = violation.split(':').next().unwrap_or(violation);
    // Complaints about logs name the run first.
    head.split(' ').next().unwrap_or(head)
}

struct Search<'a> {
    simulator: &'a Simulator,
    rule: &'a str,
    plays_left: u32,
}

impl Search<'_> {
    fn fails(&mut self, schedule: &Schedule) -> bool {
        if self.plays_left == 0 {
            return false;
        }
        self.plays_left -= 1;
        let outcome = self.simulator.play(schedule);
        outcome.violations.iter().any(|violation| rule(violation) == self.rule)
    }

    /// Takes over `shorter` if it fails, too.
    fn try_out(&mut self, best: &mut Schedule, shorter: Schedule) -> bool {
        let fails = shorter != *best && self.fails(&shorter);
        if fails {
            *best = shorter;
        }
        fails
    }

    fn silence(&mut self, best: &mut Schedule) {
        let silence: [fn(&mut Noise); 8] = [
            |noise| *noise = Noise::default(),
            |noise| noise.lost = 0,
            |noise| noise.late = 0,
            |noise| noise.twice = 0,
            |noise| noise.fails = 0,
            |noise| noise.loses_answers = 0,
            |noise| noise.slow = 0,
            |noise| noise.deaf = 0,
        ];
        for silence in silence {
            let mut shorter = best.clone();
            silence(&mut shorter.noise);
            self.try_out(best, shorter);
        }
    }

    /// Leaves out halves, then quarters, and so on.
    fn drop_items(&mut self, best: &mut Schedule) {
        let mut size = best.items.len().div_ceil(2);
        while size > 0 {
            let mut at = 0;
            while at < best.items.len() {
                let mut shorter = best.clone();
                let kept = |(place, _): &(usize, &Item)| *place < at || *place >= at + size;
                shorter.items =
                    best.items.iter().enumerate().filter(kept).map(|(_, item)| item.clone()).collect();
                if !self.try_out(best, shorter) {
                    at += size;
                }
            }
            size /= 2;
        }
    }

    fn drop_workers(&mut self, best: &mut Schedule) {
        while best.workers > 1 {
            let shorter = Schedule { workers: best.workers - 1, ..best.clone() };
            if !self.try_out(best, shorter) {
                return;
            }
        }
    }
}
