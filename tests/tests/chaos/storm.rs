//! A whole bad day of a fleet: every harm of one deck, as often as is promised.

use jiff::SignedDuration;
use scenarios::chaos::{Harms, Options, Shared, Until, live_through};
use scenarios::{Chance, Mode, tell};

/// Session time, sweep, and a second.
const RECOVERED_WITHIN: SignedDuration = SignedDuration::from_millis(2_000 + 200 + 1_000);

async fn a_whole_deck() {
    let seed = Chance::from_environment().draw();
    let options =
        Options { mode: Mode::Fleet, seed, harms: Harms::All, until: Until::Decks(1), bundle: None };
    let shared = Shared::default();
    live_through(&options, &shared).await;

    let tally = shared.now();
    eprintln!("{}", tally.line(&options, 0));
    assert_eq!((tally.redis_kills, tally.postgres_kills, tally.kills), (20, 10, 36));
    assert!(tally.cuts > 0 && tally.runs > 100, "{tally:?}");
    // On a day like this few deaths are all that is in a run's way, and perhaps none: those have a story of their own.
    if let Some(recovery) = tally.recovery {
        assert!(recovery.worst <= RECOVERED_WITHIN, "{recovery:?}");
    }
}

async fn nothing_but_deaths_of_workers() {
    let seed = Chance::from_environment().draw();
    let options =
        Options { mode: Mode::Fleet, seed, harms: Harms::Deaths, until: Until::Decks(1), bundle: None };
    let shared = Shared::default();
    live_through(&options, &shared).await;

    let tally = shared.now();
    eprintln!("{}", tally.line(&options, 0));
    let recovery = tally.recovery.expect("a death hits runs that were held");
    assert!(recovery.worst <= RECOVERED_WITHIN, "{recovery:?}");
}

#[test]
fn what_a_dead_worker_held_goes_on_within_its_session_time_and_a_sweep() {
    tell(nothing_but_deaths_of_workers());
}

#[test]
fn whoever_dies_stands_still_or_is_cut_off_in_whatever_order_nothing_is_lost_and_nothing_repeated_unasked() {
    tell(a_whole_deck());
}
