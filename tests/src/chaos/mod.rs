//! A bad day by a seed: processes and servers die, stand still, are cut off and hear nothing, while runs go on.
//!
//! It ends when the day does, or when every harm of so many decks was done; then everything heals, and the same rules
//! hold as in every story.

mod deck;
mod recovery;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};
use servers::Proxy;
use servers::proxy::{Fate, Manner, Request};

use self::deck::{Deck, Harm};
pub use self::recovery::Recovery;
use self::recovery::{Death, Deaths};
use crate::house::Plan;
use crate::{Chance, House, Load, Mode, Process, eventually};

/// Runs that are on their way at any moment.
const LANES: u64 = 12;
/// So long nothing more happens.
const LULL: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(900));
/// So long it takes a supervisor to see a death.
const SUPERVISOR: (Duration, Duration) = (Duration::ZERO, Duration::from_millis(300));
/// Shorter and longer than a session.
const STANDS_STILL: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(3_200));
/// One of so many commits of a process behind a proxy is cut off, and two of three of those after it happened.
const COMMITS_PER_CUT: u64 = 60;
const CUTS_PER_CUT_BEFORE: u64 = 3;

/// As many as there are connections that one of them may meet.
const READS_IN_A_ROW: u32 = 20;

pub struct Options {
    pub mode: Mode,
    pub seed: u64,
    pub harms: Harms,
    pub until: Until,
    /// Where everything is kept that outlives the processes, should a promise be broken.
    pub bundle: Option<std::path::PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harms {
    All,
    /// Workers die, and nothing else is in the way of whoever goes on.
    Deaths,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Whole decks: how often each harm is done is known beforehand.
    Decks(usize),
    Over(Duration),
}

/// What was done, and how long runs stood still when their worker had died.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub kills: usize,
    pub freezes: usize,
    pub black_holes: usize,
    pub cuts: usize,
    pub redis_kills: usize,
    pub postgres_kills: usize,
    pub runs: usize,
    pub recovery: Option<Recovery>,
}

impl Tally {
    /// One line for machines.
    pub fn line(&self, options: &Options, violations: usize) -> Value {
        json!({
            "mode": format!("{:?}", options.mode).to_lowercase(),
            "seed": options.seed,
            "kills": self.kills,
            "freezes": self.freezes,
            "black_holes": self.black_holes,
            "cuts": self.cuts,
            "redis_kills": self.redis_kills,
            "postgres_kills": self.postgres_kills,
            "runs": self.runs,
            "violations": violations,
            "recovery_median_ms": self.recovery.map(|it| it.median.as_millis()),
            "recovery_worst_ms": self.recovery.map(|it| it.worst.as_millis()),
        })
    }
}

/// A tally that can be read even when the day ends in a panic.
#[derive(Clone, Default)]
pub struct Shared(Arc<Mutex<Tally>>);

impl Shared {
    pub fn now(&self) -> Tally {
        self.tally().clone()
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lives through the day.
///
/// # Panics
/// When a promise was broken.
pub async fn live_through(options: &Options, shared: &Shared) {
    let mut chance = Chance::of(options.seed);
    let mut day = Day::begin(options, shared.clone(), &mut chance).await;
    let load = Load::begin(&day.house, LANES, &mut chance).await;
    let (mut deck, began) = (Deck::of(options.mode, options.harms), Instant::now());
    loop {
        let is_over = match options.until {
            Until::Decks(count) => deck.dealt() == count && deck.is_empty(),
            Until::Over(span) => began.elapsed() > span,
        };
        if is_over {
            break;
        }
        tokio::time::sleep(chance.between(LULL.0, LULL.1)).await;
        let harm = deck.draw(&mut chance);
        day.house.note(&format!("{} {harm:?}", Timestamp::now()));
        day.strike(harm, &mut chance).await;
    }
    day.heal().await;
    // The way to the database stays open until the last question is answered.
    let Day { house, deaths, proxied, .. } = day;
    let logs = load.end(house).await;
    let mut tally = shared.tally();
    tally.runs = logs.len();
    tally.recovery = deaths
        .recovery(&logs, |session| proxied.as_ref().is_some_and(|it| it.worker.log().contains(session)));
}

struct Day {
    house: House,
    shared: Shared,
    deaths: Deaths,
    proxied: Option<Proxied>,
}

/// An API and a worker of a fleet, whose way to the database is as bad as a network can be.
struct Proxied {
    proxy: Proxy,
    worker: Process,
}

impl Day {
    async fn begin(options: &Options, shared: Shared, chance: &mut Chance) -> Self {
        let plan = match options.mode {
            Mode::Embedded => Plan::of(Mode::Embedded),
            Mode::Fleet => Plan::of(Mode::Fleet).apis(1).workers(2).own_postgres(),
        };
        let mut house = plan.open().await;
        house.keeps_a_bundle_in(options.bundle.clone());
        house.note(&format!("seed {}, {:?}, {:?}", options.seed, options.mode, options.until));
        let proxied = match (options.mode, options.harms) {
            (Mode::Embedded, _) | (_, Harms::Deaths) => None,
            (Mode::Fleet, Harms::All) => {
                let proxy = Proxy::to(house.database_url());
                let to_database = [("WINDLASS_DATABASE_URL", proxy.url())];
                house.add_api(&to_database).await;
                let worker = house.add_worker(&to_database).await;
                proxy.judges(cuts_by_chance(chance.branch()));
                Some(Proxied { proxy, worker })
            }
        };
        Self { house, shared, deaths: Deaths::default(), proxied }
    }

    async fn strike(&mut self, harm: Harm, chance: &mut Chance) {
        let pause = chance.between(SUPERVISOR.0, SUPERVISOR.1);
        match harm {
            Harm::KillWorker => {
                let worker = any_of(self.house.workers(), chance);
                let session = session_of(&worker);
                let at = Timestamp::now();
                worker.kill().await;
                self.deaths.died.push(Death { session, at });
                self.comes_back(&worker, pause).await;
            }
            Harm::KillApi => {
                let api = any_of(self.house.apis(), chance);
                api.kill().await;
                self.comes_back(&api, pause).await;
            }
            Harm::Drain => {
                let process = any_of(self.house.processes().to_vec(), chance);
                assert_eq!(process.stop().await, Some(0), "{} did not stop in peace", process.name());
                process.rise().await;
            }
            Harm::Freeze => {
                let process = any_of(self.house.processes().to_vec(), chance);
                let span = chance.between(STANDS_STILL.0, STANDS_STILL.1);
                let from = Timestamp::now();
                process.freeze();
                tokio::time::sleep(span).await;
                process.thaw();
                self.deaths.nobody_could_recover(from);
                self.shared.tally().freezes += 1;
            }
            Harm::BlackHole => {
                let Some(Proxied { proxy, .. }) = &self.proxied else { return };
                let (to_server, to_client) = (chance.one_in(2), chance.one_in(2));
                let from = Timestamp::now();
                // Requests that vanish, answers that vanish, or both.
                proxy.is(Manner::Swallows { to_server, to_client: to_client || !to_server });
                tokio::time::sleep(chance.between(STANDS_STILL.0, STANDS_STILL.1)).await;
                proxy.is(Manner::Open);
                if chance.one_in(2) {
                    proxy.reset();
                }
                self.deaths.nobody_could_recover(from);
                self.shared.tally().black_holes += 1;
            }
            Harm::KillRedis => {
                self.house.redis().kill();
                tokio::time::sleep(pause).await;
                self.house.redis().start_again();
                self.shared.tally().redis_kills += 1;
            }
            Harm::FlushRedis => self.house.redis().flush(),
            Harm::KillPostgres => {
                let from = Timestamp::now();
                self.house.postgres().kill();
                tokio::time::sleep(pause).await;
                self.house.postgres().start_again();
                self.deaths.nobody_could_recover(from);
                self.shared.tally().postgres_kills += 1;
            }
        }
    }

    async fn comes_back(&self, process: &Process, after: Duration) {
        self.shared.tally().kills += 1;
        tokio::time::sleep(after).await;
        process.rise().await;
    }

    /// From here on nothing stands in anybody's way.
    async fn heal(&self) {
        if let Some(Proxied { proxy, .. }) = &self.proxied {
            proxy.judges_no_more();
            let cuts = proxy.cuts();
            self.shared.tally().cuts = cuts.before + cuts.after;
            // What was swallowed half is nobody's answer any more.
            proxy.reset();
        }
        self.house.until_ready().await;
        for api in self.house.apis() {
            until_it_answers(&api).await;
        }
        self.house.note(&format!("{} healed", Timestamp::now()));
    }
}

/// A process is ready before the last of its connections has found out that it was cut.
async fn until_it_answers(api: &Process) {
    eventually(&format!("{} to answer every read", api.name()), || async {
        for _ in 0..READS_IN_A_ROW {
            if !api.get("/v1/workflow-runs?limit=1").await.is_ok() {
                return None;
            }
        }
        Some(())
    })
    .await;
}

fn cuts_by_chance(mut chance: Chance) -> impl FnMut(&Request) -> Fate + Send {
    move |request| match request.commits() && chance.one_in(COMMITS_PER_CUT) {
        false => Fate::Pass,
        true if chance.one_in(CUTS_PER_CUT_BEFORE) => Fate::CutBefore,
        true => Fate::CutAfter,
    }
}

fn any_of(mut processes: Vec<Process>, chance: &mut Chance) -> Process {
    let at = usize::try_from(chance.below(processes.len() as u64)).expect("few");
    processes.swap_remove(at)
}

/// Of its present life.
fn session_of(worker: &Process) -> String {
    let log = worker.log();
    let (_, rest) = log.rsplit_once("session=").expect("a worker says which session it has");
    rest.chars().take(36).collect()
}
