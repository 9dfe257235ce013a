//! Plays one schedule: a storm, then everything heals, then people help each run to its end.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;
use windlass_model::{PauseReason, RunStatus};
use windlass_store::RunRow;

use crate::checks;
use crate::fleet::Fleet;
use crate::people::People;
use crate::reach::Reach;
use crate::schedule::{Asked, Schedule, What};
use crate::whose::Whose;
use crate::workflows::Library;
use crate::world::World;

/// After everything has healed, every run comes to rest within this time: the sessions of the dead end, sweeps come
/// round, silent runs are found, attempts in flight and pauses between them are over.
const REST_WITHIN: Duration = Duration::from_secs(40);
/// A watcher that has missed the news of the end looks by itself this often, and some more time to come back.
const WATCHERS_END_WITHIN: Duration = Duration::from_secs(40);
/// A delivery that failed is tried again after pauses that grow.
const TOLD_WITHIN: Duration = Duration::from_secs(300);
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Whoever asked while the storm lasted has been answered, or given up, by then.
const PEOPLE_END_WITHIN: Duration = Duration::from_secs(60);
/// How often people look after the runs that wait for them.
const ROUNDS_MAX: u32 = 12;
/// From this round on they leave a step undone that cannot be done, and from the next one on they cancel.
const SKIP_FROM: u32 = 5;
const CANCEL_FROM: u32 = 9;

/// What came of one schedule.
#[derive(Debug)]
pub struct Outcome {
    /// What must not be, one sentence each, beginning with the number of the rule it breaks.
    pub violations: Vec<String>,
    pub ticks: u64,
    pub reach: Reach,
    /// Of everything that happened: the same schedule has the same digest.
    pub digest: u64,
    /// What happened, line by line; empty unless asked for.
    pub lines: Vec<String>,
}

/// Plays a schedule to its end, on this thread.
pub(crate) fn play(library: &Arc<Library>, schedule: &Schedule, keeps_lines: bool) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime needs nothing but memory");
    runtime.block_on(async {
        let world = World::new(schedule, keeps_lines);
        let fleet = Fleet::start(world.clone(), library.clone(), schedule);
        let people = People { fleet: fleet.clone(), memory: Default::default(), whose: Whose::Ours };
        let mut play = Play { fleet, people, askers: JoinSet::new(), watchers: JoinSet::new() };
        tokio::select! {
            biased;
            // What follows from it says nothing new, and may go round in circles for ever.
            () = world.complaint.notified() => {}
            () = play.whole(schedule) => {}
        }
        let violations = world.take_complaints();
        let reach = Reach::default();
        reach.add(&world.reach);
        Outcome {
            violations,
            ticks: world.ticks(),
            reach,
            digest: world.trace.digest(),
            lines: world.trace.take_lines(),
        }
    })
}

struct Play {
    fleet: Arc<Fleet>,
    people: People,
    askers: JoinSet<()>,
    watchers: JoinSet<()>,
}

impl Play {
    async fn whole(&mut self, schedule: &Schedule) {
        self.storm(schedule).await;
        self.after().await;
    }

    async fn storm(&mut self, schedule: &Schedule) {
        for item in &schedule.items {
            let at = Duration::from_millis(item.at_ms);
            tokio::time::sleep(at.saturating_sub(self.fleet.world.elapsed())).await;
            let people = self.people.of(item.whose);
            match &item.what {
                What::Start { run, workflow, twice, after_ms } => {
                    self.askers.spawn(people.start(*run, workflow.clone(), *twice, *after_ms));
                }
                What::Plan { schedule, workflow, overlap, catch_up_ms } => {
                    let catch_up = Duration::from_millis(*catch_up_ms);
                    self.askers.spawn(people.plan(*schedule, workflow.clone(), *overlap, catch_up));
                }
                What::Publish { workflow, anew } => {
                    self.askers.spawn(people.publish(workflow.clone(), *anew, item.at_ms));
                }
                What::Trigger { schedule } => {
                    self.askers.spawn(people.trigger(*schedule, item.at_ms));
                }
                What::Ask { run, by, ask, thinks_ms } => {
                    let thinks = Duration::from_millis(*thinks_ms);
                    self.askers.spawn(people.ask(*run, *by, *ask, thinks));
                }
                What::Pry { run, by } => {
                    self.askers.spawn(people.pry(*run, *by));
                }
                What::Watch { run, frames } => {
                    self.watchers.spawn(people.watch(*run, *frames));
                }
                fault => self.fleet.suffer(fault),
            }
        }
    }

    async fn after(&mut self) {
        checks::at_any_moment(&self.fleet);
        self.fleet.heal();
        let askers = &mut self.askers;
        let asked = async { while askers.join_next().await.is_some() {} };
        if tokio::time::timeout(PEOPLE_END_WITHIN, asked).await.is_err() {
            self.fleet.world.complain("I5: somebody never got to an end with asking".to_owned());
        }
        self.come_to_rest().await;
        checks::at_any_moment(&self.fleet);
        self.help().await;
        self.tell_all().await;
        self.fleet.kill_workers();
        let watchers = &mut self.watchers;
        let watched = async { while watchers.join_next().await.is_some() {} };
        // Whether it was in time, the transcripts tell.
        let _ = tokio::time::timeout(WATCHERS_END_WITHIN, watched).await;
        checks::at_the_end(&self.fleet, &self.people);
    }

    /// I6: no run stands still that could move.
    async fn come_to_rest(&self) {
        let until = tokio::time::Instant::now() + REST_WITHIN;
        loop {
            let restless: Vec<RunRow> = self
                .fleet
                .runs()
                .into_iter()
                .filter(|row| {
                    !rests(row)
                        || checks::could_enter(&self.fleet, row)
                        || checks::owes_its_family(&self.fleet, row)
                })
                .collect();
            if restless.is_empty() && !checks::has_due_schedule(&self.fleet) {
                return;
            }
            if tokio::time::Instant::now() > until {
                if checks::has_due_schedule(&self.fleet) {
                    self.fleet
                        .world
                        .complain("I6: the time of a schedule has come, and nobody sees to it".to_owned());
                }
                for row in restless {
                    self.fleet.world.complain(format!(
                        "I6: {} of {} does not move: {:?}, wakes at {:?}, held by {:?}",
                        row.id, row.workflow, row.status, row.wake_at, row.lease_owner
                    ));
                }
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Whoever is waited for does what is wanted of him, until every run has ended.
    async fn help(&self) {
        for round in 0..ROUNDS_MAX {
            let open: Vec<RunRow> =
                self.fleet.runs().into_iter().filter(|row| !row.status.is_terminal()).collect();
            if open.is_empty() {
                return;
            }
            for row in &open {
                self.help_on(row, round).await;
            }
            self.come_to_rest().await;
        }
        for row in self.fleet.runs().iter().filter(|row| !row.status.is_terminal()) {
            self.fleet.world.complain(format!(
                "I6: nobody can bring {} of {} to its end: {:?} {:?}",
                row.id, row.workflow, row.status, row.paused_reason
            ));
        }
    }

    async fn help_on(&self, row: &RunRow, round: u32) {
        let Some(state) = self.fleet.fold(row.id) else { return };
        let plan = &self.fleet.entry(row.version_id).plan;
        let user = |what: &str| format!("helper-{what}-{round}");
        for gate in self.fleet.open_gates(row.id) {
            for who in ["a", "b"] {
                let body = json!({"node": gate.node, "attempt": gate.attempt});
                let user = user(&format!("{who}-{}", gate.node));
                self.say(row, user, Asked::Approve, "approve", body).await;
            }
        }
        let stubborn = state.paused_steps.first().map(|node| plan.node(*node).id.clone());
        match (row.status, row.paused_reason, stubborn) {
            (RunStatus::Paused, reason, Some(node))
                if round >= SKIP_FROM || reason == Some(PauseReason::CompensationFailed) && round >= 2 =>
            {
                self.say(row, user("skip"), Asked::Skip, "skip", json!({"node": node})).await;
            }
            (RunStatus::Paused, ..) if round < CANCEL_FROM => {
                self.say(row, user("resume"), Asked::Resume, "resume", json!({})).await;
            }
            (RunStatus::Waiting | RunStatus::Paused, ..) if round >= CANCEL_FROM => {
                self.say(row, user("cancel"), Asked::Cancel, "cancel", json!({})).await;
            }
            (RunStatus::Waiting, ..) => {
                let names: Vec<String> = match plan.machine {
                    Some(_) => vec![if round < 2 { "GO" } else { "STOP" }.to_owned()],
                    None => state.listening.keys().cloned().collect(),
                };
                for name in names {
                    let path = format!("signals/{name}");
                    self.say(row, user(&name), Asked::Signal, &path, json!({})).await;
                }
            }
            _ => {}
        }
    }

    async fn say(&self, row: &RunRow, user: String, ask: Asked, path: &str, body: serde_json::Value) {
        self.people.of(Whose::of(row.tenant)).say(row.id, user, ask, path, &body, None).await;
    }

    /// Waits until the outbox is empty.
    async fn tell_all(&self) {
        let until = tokio::time::Instant::now() + TOLD_WITHIN;
        while checks::has_untold(&self.fleet) && tokio::time::Instant::now() < until {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Whether nothing but a person or a signal moves this run.
fn rests(row: &RunRow) -> bool {
    match row.status {
        status if status.is_terminal() => true,
        RunStatus::Paused => row.lease_owner.is_none(),
        RunStatus::Waiting => row.wake_at.is_none() && row.lease_owner.is_none(),
        _ => false,
    }
}
