//! kill -9 at random moments while twenty runs move, act on the world, ask people and are canceled.

use std::time::Duration;

use futures::future::join_all;
use scenarios::load::{Load, count_kinds};
use scenarios::{Chance, House, Mode, Process, in_every_mode};

in_every_mode!(fifty_kills_lose_nothing_and_repeat_nothing_unasked);

/// As often as the product's promise says, unless `WINDLASS_KILLS` says otherwise.
const KILLS: usize = 50;
/// Runs that are on their way at any moment.
const LANES: u64 = 20;
/// The house lives at least, and at most, this long.
const LIVES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(450));
/// One of so many deaths is followed by one in the middle of the next start.
const DEATHS_PER_STILLBIRTH: u64 = 6;
/// One of so many deaths is everybody's, where there are several to die.
const DEATHS_PER_BLACKOUT: u64 = 3;
/// Short, beside the lives: in a fleet a dead worker's runs lie still until its session has ended, and a storm over runs
/// that lie still hits nothing.
const SESSION: &[(&str, &str)] = &[("WINDLASS_SESSION_TTL", "600ms"), ("WINDLASS_SESSION_RENEW", "150ms")];

async fn fifty_kills_lose_nothing_and_repeat_nothing_unasked(mode: Mode) {
    let mut house = House::open_with(mode, SESSION).await;
    let mut chance = Chance::from_environment();
    let load = Load::begin(&house, LANES, &mut chance).await;
    kill_again_and_again(&mut house, &mut chance).await;
    let reached = count_kinds(&load.end(house).await);
    // A storm that never hit anything proves nothing.
    for wanted in
        ["step.lost", "run.paused engine_interrupted", "run.canceled", "approval.granted", "run.resumed"]
    {
        assert!(reached.contains_key(wanted), "no {wanted} in {reached:#?}");
    }
}

async fn kill_again_and_again(house: &mut House, chance: &mut Chance) {
    let kills =
        std::env::var("WINDLASS_KILLS").map_or(KILLS, |text| text.parse().expect("a number of kills"));
    for _ in 0..kills {
        tokio::time::sleep(chance.between(LIVES.0, LIVES.1)).await;
        let victims = pick_victims(house, chance);
        join_all(victims.iter().map(Process::kill)).await;
        if chance.one_in(DEATHS_PER_STILLBIRTH) {
            let after = chance.between(Duration::ZERO, Duration::from_millis(120));
            join_all(victims.iter().map(|it| it.rise_and_die(after))).await;
        }
        house.rise().await;
    }
}

/// Everybody at once, or any one of them.
fn pick_victims(house: &House, chance: &mut Chance) -> Vec<Process> {
    let all = house.processes();
    if chance.one_in(DEATHS_PER_BLACKOUT) {
        return all.to_vec();
    }
    let one = usize::try_from(chance.below(all.len() as u64)).expect("few");
    vec![all[one].clone()]
}
