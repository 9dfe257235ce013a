//! kill -9 of random processes and servers of a fleet, one after the other, under load.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use scenarios::house::{Plan, Process};
use scenarios::load::{Load, count_kinds};
use scenarios::{Chance, House, Log, Mode, tell};

/// Fewer than are promised, so that nobody waits for long; `WINDLASS_KILLS` says otherwise.
const KILLS: usize = 40;
/// Runs that are on their way at any moment.
const LANES: u64 = 12;
/// So long nothing more dies.
const LULL: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(1_500));
/// So long it takes a supervisor to see a death.
const SUPERVISOR: (Duration, Duration) = (Duration::ZERO, Duration::from_millis(300));
/// Session time, sweep, and a second.
const RECOVERED_WITHIN: SignedDuration = SignedDuration::from_millis(2_000 + 200 + 1_000);

/// A worker's session, and when it was killed.
struct Death {
    session: String,
    at: Timestamp,
}

/// A time without PostgreSQL, in which nobody can recover.
struct Outage {
    from: Timestamp,
    to: Timestamp,
}

#[derive(Default)]
struct Storm {
    deaths: Vec<Death>,
    outages: Vec<Outage>,
    kills: [usize; 4],
}

impl Storm {
    /// Kills somebody, and starts it again as a supervisor would.
    async fn strike(&mut self, house: &mut House, chance: &mut Chance) {
        let pause = chance.between(SUPERVISOR.0, SUPERVISOR.1);
        let what = match chance.below(20) {
            0..10 => 0,
            10..15 => 1,
            15..18 => 2,
            _ => 3,
        };
        self.kills[what] += 1;
        match what {
            0 => {
                let worker = any_of(house.workers(), chance);
                let session = session_of(&worker);
                let at = Timestamp::now();
                worker.kill().await;
                self.deaths.push(Death { session, at });
                tokio::time::sleep(pause).await;
                worker.rise().await;
            }
            1 => {
                let api = any_of(house.apis(), chance);
                api.kill().await;
                tokio::time::sleep(pause).await;
                api.rise().await;
            }
            2 => {
                house.redis().kill();
                tokio::time::sleep(pause).await;
                house.redis().start_again();
            }
            _ => {
                let from = Timestamp::now();
                house.postgres().kill();
                tokio::time::sleep(pause).await;
                house.postgres().start_again();
                self.outages.push(Outage { from, to: Timestamp::now() });
            }
        }
    }

    /// How long runs that were held stood still, for each death of a worker that hit some.
    fn recoveries(&self, logs: &[Log]) -> Vec<SignedDuration> {
        let mut recoveries = Vec::new();
        for log in logs {
            let mut holder = None;
            for (place, event) in log.0.iter().enumerate().filter(|(_, event)| event.is("run.engine_taken")) {
                let before = holder.replace(event.body["session"].clone());
                let was_in_flight = log.0.get(place + 1).is_some_and(|next| next.is("step.lost"));
                let death =
                    self.deaths.iter().find(|death| before.as_ref().is_some_and(|it| *it == *death.session));
                if let (true, Some(death)) = (was_in_flight, death)
                    && !self.outages.iter().any(|it| it.from < event.at && grace(it.to) > death.at)
                {
                    recoveries.push(event.at.duration_since(death.at));
                }
            }
        }
        recoveries.sort_unstable();
        recoveries
    }
}

/// After an outage everyone needs a moment to come back.
fn grace(at: Timestamp) -> Timestamp {
    at + SignedDuration::from_secs(3)
}

fn any_of(mut processes: Vec<Process>, chance: &mut Chance) -> Process {
    let at = chance.below(processes.len() as u64) as usize;
    processes.swap_remove(at)
}

/// Of its present life.
fn session_of(worker: &Process) -> String {
    let log = worker.log();
    let (_, rest) = log.rsplit_once("session=").expect("a worker says which session it has");
    rest.chars().take(36).collect()
}

async fn a_hundred_kills() {
    let mut chance = Chance::from_environment();
    let mut house = Plan::of(Mode::Fleet).apis(2).workers(3).own_postgres().open().await;
    let load = Load::begin(&house, LANES, &mut chance).await;
    let kills =
        std::env::var("WINDLASS_KILLS").map_or(KILLS, |text| text.parse().expect("a number of kills"));
    let (mut storm, began) = (Storm::default(), Instant::now());
    for _ in 0..kills {
        tokio::time::sleep(chance.between(LULL.0, LULL.1)).await;
        storm.strike(&mut house, &mut chance).await;
    }
    let took = began.elapsed();
    house.until_ready().await;
    let logs = load.end(house).await;

    let [workers, apis, redis, postgres] = storm.kills;
    eprintln!("{workers} workers, {apis} APIs, {redis} Redis, {postgres} PostgreSQL killed in {took:?}");
    eprintln!("{:?}", count_kinds(&logs));
    let recoveries = storm.recoveries(&logs);
    let (Some(worst), false) = (recoveries.last(), recoveries.is_empty()) else {
        panic!("no death hit a run that was held")
    };
    let median = recoveries[recoveries.len() / 2];
    eprintln!("{} runs recovered: median {median:#}, worst {worst:#}", recoveries.len());
    assert!(*worst <= RECOVERED_WITHIN, "{recoveries:#?}");
}

#[test]
fn whoever_is_killed_in_whatever_order_nothing_is_lost_and_nothing_repeated_unasked() {
    tell(a_hundred_kills());
}
