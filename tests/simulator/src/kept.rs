//! Schedules that broke a rule once. They are played for ever.

use serde::{Deserialize, Serialize};

use crate::{Schedule, Simulator};

/// One line each.
const LINES: &str = include_str!("../kept.jsonl");

/// A schedule and what it once showed.
#[derive(Debug, Serialize, Deserialize)]
pub struct Kept {
    /// The fault that it found, in one sentence.
    pub found: String,
    pub schedule: Schedule,
}

/// # Panics
/// When a line cannot be read.
pub fn all() -> Vec<Kept> {
    let lines = LINES.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// What is broken again, one sentence each.
pub fn relapses(simulator: &Simulator) -> Vec<String> {
    let mut relapses = Vec::new();
    for kept in all() {
        let outcome = simulator.play(&kept.schedule);
        if let Some(first) = outcome.violations.first() {
            relapses.push(format!("again: {}: {first}", kept.found));
        }
    }
    relapses
}
