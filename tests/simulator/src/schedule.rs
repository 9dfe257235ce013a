//! What is to happen in one run of the world: who asks what, and what goes wrong, each at its time.

use std::collections::BTreeMap;

use scenarios::Chance;
use serde::{Deserialize, Serialize};
use windlass_model::schedule::Overlap;

use crate::whose::Whose;

/// Complete in itself: it can be kept, shortened and run again, whatever becomes of the generator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// For whatever is left to chance while it runs: latencies, and whom the noise hits.
    pub seed: u64,
    pub workers: usize,
    pub noise: Noise,
    /// How many runs of a tenant may be open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_runs_max: Option<u32>,
    pub items: Vec<Item>,
}

/// What goes wrong all the time until everything heals, in cases of a thousand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Noise {
    /// Messages on the wire that are lost, late, or come twice.
    pub lost: u16,
    pub late: u16,
    pub twice: u16,
    /// Calls that find the database away.
    pub fails: u16,
    /// Writes whose answer is lost; every second one has happened.
    pub loses_answers: u16,
    /// Ways to or from the database that take long.
    pub slow: u16,
    /// Deliveries that the receiver of emitted events refuses.
    pub deaf: u16,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    pub at_ms: u64,
    /// Of which tenant whoever does it is.
    #[serde(default, skip_serializing_if = "Whose::is_ours")]
    pub whose: Whose,
    #[serde(flatten)]
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum What {
    /// Somebody starts a run, and insists until it is answered.
    Start {
        run: u32,
        workflow: String,
        /// Asks the same once more, under the same key, at about the same time.
        twice: bool,
        /// Nothing of it may begin before this span is over.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after_ms: Option<u64>,
    },
    /// Somebody looks at a run, thinks, and asks something of it.
    Ask {
        run: u32,
        by: u32,
        ask: Asked,
        thinks_ms: u64,
    },
    /// Somebody watches a run to its end, and loses the connection after so many frames.
    Watch {
        run: u32,
        frames: u32,
    },
    /// Somebody of one tenant tries what only those of the other may, with a run of theirs.
    Pry {
        run: u32,
        by: u32,
    },
    /// Somebody publishes a workflow anew: with a step more, or as it was.
    Publish {
        workflow: String,
        anew: bool,
    },
    /// Somebody makes a schedule; its time comes two seconds after all has begun.
    Plan {
        schedule: u32,
        workflow: String,
        overlap: Overlap,
        catch_up_ms: u64,
    },
    /// Somebody lets the time of a schedule come now.
    Trigger {
        schedule: u32,
    },
    Crash {
        worker: usize,
        back_after_ms: u64,
    },
    Freeze {
        worker: usize,
        for_ms: u64,
    },
    /// The worker cannot reach the database.
    CutOff {
        worker: usize,
        for_ms: u64,
    },
    Drain {
        worker: usize,
    },
    CrashApi {
        back_after_ms: u64,
    },
    DatabaseAway {
        for_ms: u64,
    },
    WireDown {
        for_ms: u64,
    },
    /// The answer to the next write, whoever makes it, is lost.
    LoseAnswer {
        applied: bool,
    },
    /// The database's clock jumps ahead.
    Jump {
        by_ms: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Asked {
    Pause,
    Resume,
    Cancel,
    Approve,
    /// Names an attempt that is not the one at the gate.
    ApproveStale,
    Reject,
    Retry,
    Skip,
    Signal,
    /// Says what a step of a paused run came to.
    Edit,
    /// As another run, beside it.
    Rerun,
    /// As another run, in place of a paused one.
    Move,
}

/// Within this time people come and things go wrong; then everything heals.
const STORM_MS: u64 = 4_000;
/// One in so many runs is the long one: it costs as much as ten others.
const LONG_ONE_IN: u64 = 60;
/// One in so many schedules kills all workers again and again.
const DEATHS_ONE_IN: u64 = 50;
/// Between two of those deaths: time enough for a session to end, and for another engine to begin anew.
const DEATH_EVERY_MS: u64 = 4_200;
/// In one of so many schedules all runs are of one workflow, of those whose runs get into each other's way.
const ALIKE_ONE_IN: u64 = 4;
/// How many of a thousand calls fail in such a schedule, at the least: what one run does for the next, it does in one call.
const FAILS_OF_ALIKE: u16 = 100;
const CROWDED: &[&str] = &["turns", "newest", "tools", "paced", "queue", "turnstile"];
/// In one of so many schedules there are two tenants, who use the same names.
const NEIGHBOURS_ONE_IN: u64 = 4;
/// In one of so many schedules a workflow is published anew, while its runs are under way.
const ANEW_ONE_IN: u64 = 5;
/// One in so many schedules has a schedule of the product in it.
const SCHEDULE_ONE_IN: u64 = 5;
/// Workflows that are not drawn like the others.
const SPECIAL: &[&str] = &["long", "poison", "absent", "hosts"];
/// In one of so many schedules one run is of a workflow whose agents are away.
const ABSENT_ONE_IN: u64 = 16;
/// In one of so many schedules all runs call one host.
const HOSTS_ONE_IN: u64 = 16;
/// In one of so many schedules only few runs of a tenant may be open.
const QUOTA_ONE_IN: u64 = 12;

impl Schedule {
    /// The schedule of a seed.
    pub fn of(seed: u64, workflows: &[&str]) -> Self {
        let mut chance = Chance::of(seed);
        // For what only a share of the schedules has: all others stay as they would be without.
        let mut apart = Chance::of(!seed);
        if chance.one_in(DEATHS_ONE_IN) {
            return Self::of_deaths(&mut chance);
        }
        let workers = 2 + chance.below(2) as usize;
        let mut noise = noise(&mut chance);
        let mut storm = Storm::default();
        let short: Vec<&str> = workflows.iter().copied().filter(|name| !SPECIAL.contains(name)).collect();
        let crowded = CROWDED[chance.below(CROWDED.len() as u64) as usize];
        let alike = chance.one_in(ALIKE_ONE_IN).then_some(crowded);
        if alike.is_some() {
            noise.fails = noise.fails.max(FAILS_OF_ALIKE);
        }
        let neighbours = chance.one_in(NEIGHBOURS_ONE_IN);
        let draw = |chance: &mut Chance| {
            alike.unwrap_or_else(|| match chance.one_in(LONG_ONE_IN) {
                true => "long",
                false => short[chance.below(short.len() as u64) as usize],
            })
        };
        let runs = 1 + chance.below(5) as u32;
        if neighbours {
            storm.add_neighbours(&mut chance, runs.max(2), &draw);
        } else {
            (0..runs).for_each(|run| {
                let workflow = draw(&mut chance);
                storm.add_run(&mut chance, Whose::Ours, run, workflow);
            });
        }
        if apart.one_in(ABSENT_ONE_IN) {
            storm.make_one(&mut apart, "absent");
        }
        if apart.one_in(HOSTS_ONE_IN) {
            storm.make_all("hosts");
        }
        if chance.one_in(SCHEDULE_ONE_IN) {
            let tenants = if neighbours { 2 } else { 1 };
            for whose in &Whose::ALL[..tenants] {
                storm.add_schedule(&mut chance, *whose, &short);
            }
        }
        if chance.one_in(ANEW_ONE_IN) {
            storm.add_publishing(&mut chance);
        }
        let mut items = storm.items;
        for _ in 0..chance.below(5) {
            let at_ms = chance.below(STORM_MS);
            let what = fault(&mut chance, workers);
            items.push(Item { at_ms, whose: Whose::Ours, what });
        }
        items.sort_by_key(|item| item.at_ms);
        let open_runs_max = apart.one_in(QUOTA_ONE_IN).then(|| 1 + apart.below(3) as u32);
        Self { seed: chance.draw(), workers, noise, open_runs_max, items }
    }

    /// Who is there.
    pub(crate) fn tenants(&self) -> &'static [Whose] {
        let alone = self.items.iter().all(|item| item.whose.is_ours());
        if alone { &Whose::ALL[..1] } else { &Whose::ALL }
    }

    /// All workers die, several times in a row, while they do the same step.
    fn of_deaths(chance: &mut Chance) -> Self {
        let workers = 1 + chance.below(2) as usize;
        let start = What::Start { run: 0, workflow: "poison".to_owned(), twice: false, after_ms: None };
        let mut items = vec![Item { at_ms: chance.below(300), whose: Whose::Ours, what: start }];
        for death in 0..2 + chance.below(4) {
            let at_ms = 1_500 + death * DEATH_EVERY_MS;
            let crash =
                |worker| Item { at_ms, whose: Whose::Ours, what: What::Crash { worker, back_after_ms: 50 } };
            items.extend((0..workers).map(crash));
        }
        Self { seed: chance.draw(), workers, noise: Noise::default(), open_runs_max: None, items }
    }
}

fn noise(chance: &mut Chance) -> Noise {
    let mut some = |of: u64, one_in: u64| if chance.one_in(one_in) { chance.below(of) as u16 } else { 0 };
    Noise {
        lost: some(700, 2),
        late: some(200, 2),
        twice: some(300, 2),
        fails: some(60, 4),
        loses_answers: some(80, 3),
        slow: some(60, 4),
        deaf: some(500, 3),
    }
}

/// What people do, as it is made up.
#[derive(Default)]
struct Storm {
    items: Vec<Item>,
    /// How many have been asking, of each tenant.
    people: BTreeMap<Whose, u32>,
}

impl Storm {
    fn add(&mut self, at_ms: u64, whose: Whose, what: What) {
        self.items.push(Item { at_ms, whose, what });
    }

    fn add_run(&mut self, chance: &mut Chance, whose: Whose, run: u32, workflow: &str) {
        let begins = chance.below(STORM_MS / 2);
        let twice = chance.one_in(6);
        let after_ms = chance.one_in(8).then(|| 100 + chance.below(2_500));
        self.add(begins, whose, What::Start { run, workflow: workflow.to_owned(), twice, after_ms });
        if chance.one_in(3) {
            let frames = 1 + chance.below(12) as u32;
            self.add(begins + chance.below(1_500), whose, What::Watch { run, frames });
        }
        let busy = match workflow {
            "gates" | "patience" | "desk" => 6,
            _ => 3,
        };
        for _ in 0..chance.below(busy) {
            let people = self.people.entry(whose).or_default();
            *people += 1;
            let by = *people;
            let at_ms = begins + chance.below(STORM_MS - begins);
            let (ask, thinks_ms) = (asked(chance, workflow), chance.below(700));
            self.add(at_ms, whose, What::Ask { run, by, ask, thinks_ms });
        }
    }

    /// Runs of two tenants in turn, each pair under the same number and mostly of the same workflow; and people of one
    /// who are curious about the other's.
    fn add_neighbours<'a>(&mut self, chance: &mut Chance, runs: u32, draw: &impl Fn(&mut Chance) -> &'a str) {
        let mut workflow = "";
        for nth in 0..runs {
            let (run, whose) = (nth / 2, Whose::ALL[nth as usize % 2]);
            if whose.is_ours() || chance.one_in(4) {
                workflow = draw(chance);
            }
            self.add_run(chance, whose, run, workflow);
            if chance.one_in(2) {
                let (at_ms, by) = (chance.below(STORM_MS), 1 + chance.below(3) as u32);
                self.add(at_ms, whose.other(), What::Pry { run, by });
            }
        }
    }

    /// Lets one of the runs be of this workflow.
    fn make_one(&mut self, chance: &mut Chance, of: &str) {
        let place = chance.below(self.started().count() as u64) as usize;
        if let Some(workflow) = self.started().nth(place) {
            of.clone_into(workflow);
        }
    }

    fn make_all(&mut self, of: &str) {
        self.started().for_each(|workflow| of.clone_into(workflow));
    }

    /// The workflows of all that is started.
    fn started(&mut self) -> impl Iterator<Item = &mut String> {
        self.items.iter_mut().filter_map(|item| match &mut item.what {
            What::Start { workflow, .. } => Some(workflow),
            _ => None,
        })
    }

    /// Of what one of the runs is, or of what many of them call.
    fn add_publishing(&mut self, chance: &mut Chance) {
        let started: Vec<(Whose, String)> = (self.items.iter())
            .filter_map(|item| match &item.what {
                What::Start { workflow, .. } => Some((item.whose, workflow.clone())),
                _ => None,
            })
            .collect();
        let Some((whose, workflow)) = started.get(chance.below(started.len() as u64) as usize).cloned()
        else {
            return;
        };
        let workflow = if chance.one_in(4) { "leaf".to_owned() } else { workflow };
        for anew in [true, false].into_iter().take(1 + chance.below(2) as usize) {
            let at_ms = 300 + chance.below(STORM_MS - 300);
            self.add(at_ms, whose, What::Publish { workflow: workflow.clone(), anew });
        }
    }

    fn add_schedule(&mut self, chance: &mut Chance, whose: Whose, workflows: &[&str]) {
        let begins = chance.below(STORM_MS / 3);
        let workflow = workflows[chance.below(workflows.len() as u64) as usize].to_owned();
        let overlap = Overlap::ALL[chance.below(Overlap::ALL.len() as u64) as usize];
        let catch_up_ms = if chance.one_in(3) { 100 + chance.below(1_500) } else { 3_600_000 };
        self.add(begins, whose, What::Plan { schedule: 0, workflow, overlap, catch_up_ms });
        for _ in 0..chance.below(4) {
            let at_ms = begins + chance.below(STORM_MS - begins);
            self.add(at_ms, whose, What::Trigger { schedule: 0 });
        }
    }
}

fn asked(chance: &mut Chance, workflow: &str) -> Asked {
    let fitting = match workflow {
        "gates" => [Asked::Approve, Asked::Approve, Asked::Reject, Asked::ApproveStale],
        "patience" | "desk" => [Asked::Signal; 4],
        _ => [Asked::Cancel, Asked::Retry, Asked::Skip, Asked::Approve],
    };
    match chance.below(12) {
        10 => Asked::Edit,
        11 if chance.one_in(2) => Asked::Rerun,
        11 => Asked::Move,
        0 => Asked::Pause,
        1 | 2 => Asked::Resume,
        3 => Asked::Cancel,
        4 => Asked::Retry,
        5 => Asked::Skip,
        _ => fitting[chance.below(4) as usize],
    }
}

fn fault(chance: &mut Chance, workers: usize) -> What {
    let worker = chance.below(workers as u64) as usize;
    match chance.below(20) {
        0..=5 => What::Crash { worker, back_after_ms: chance.below(3_000) },
        6..=8 => What::Freeze { worker, for_ms: 200 + chance.below(5_000) },
        9..=10 => What::CutOff { worker, for_ms: 200 + chance.below(4_000) },
        11..=12 => What::Drain { worker },
        13 => What::CrashApi { back_after_ms: chance.below(2_000) },
        14 => What::DatabaseAway { for_ms: chance.below(3_000) },
        15 => What::WireDown { for_ms: chance.below(4_000) },
        16 => What::Jump { by_ms: chance.below(4_000) },
        _ => What::LoseAnswer { applied: chance.one_in(2) },
    }
}
