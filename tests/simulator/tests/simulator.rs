//! What the simulator promises about itself, and a small campaign for every day. CI plays the large one.

use simulator::{Schedule, Simulator, kept};

/// So many that each kind of fault has its turn, and an unoptimized build is done in a few seconds.
const SCHEDULES: u64 = 20;

#[test]
fn the_same_schedule_is_the_same_run_bit_for_bit() {
    let simulator = Simulator::default();
    for seed in 1..=5 {
        let schedule = simulator.schedule(seed);
        let (first, again) = (simulator.play(&schedule), simulator.play(&schedule));
        assert_eq!((first.digest, first.ticks), (again.digest, again.ticks), "seed {seed}");
    }
}

#[test]
fn another_seed_is_another_run() {
    let simulator = Simulator::default();
    let digests = [1, 2, 3].map(|seed| simulator.play(&simulator.schedule(seed)).digest);
    assert!(digests[0] != digests[1] && digests[1] != digests[2], "{digests:?}");
}

#[test]
fn telling_changes_nothing_but_that_it_is_told() {
    let simulator = Simulator::default();
    let schedule = simulator.schedule(3);
    let (silent, told) = (simulator.play(&schedule), simulator.tell(&schedule));
    assert_eq!(silent.digest, told.digest);
    assert!(silent.lines.is_empty() && told.lines.len() > 100, "{} lines", told.lines.len());
}

#[test]
fn a_schedule_survives_being_kept() {
    let schedule = Simulator::default().schedule(7);
    let text = serde_json::to_string(&schedule).unwrap();
    assert_eq!(serde_json::from_str::<Schedule>(&text).unwrap(), schedule);
}

#[test]
fn what_failed_once_does_not_fail_again() {
    assert_eq!(kept::relapses(&Simulator::default()), Vec::<String>::new());
}

#[test]
fn a_few_schedules_break_no_rule() {
    let simulator = Simulator::default();
    for seed in 1..=SCHEDULES {
        let outcome = simulator.play(&simulator.schedule(seed));
        assert_eq!(outcome.violations, Vec::<String>::new(), "`cargo xtask sim tell {seed}` tells more");
    }
}
