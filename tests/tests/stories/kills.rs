//! kill -9 at random moments while twenty runs move, act on the world, ask people and are canceled.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use scenarios::client::{id_of, is_terminal, step_of};
use scenarios::{Chance, Client, House, Mode, PATIENCE, Process, Recorder, Sink, in_every_mode};
use serde_json::{Value, json};

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
/// One of so many runs is canceled at some moment.
const RUNS_PER_CANCEL: u64 = 3;
/// A call takes this long, so that deaths find some in flight.
const CALL_TAKES: Duration = Duration::from_millis(15);

fn definition(recorder: &Recorder) -> String {
    let call = |method: &str, path: &str| {
        format!("type: http, with: {{ method: {method}, url: '${{{{ inputs.sink }}}}{path}' }}")
    };
    format!(
        "version: 1\nname: load\ntype: dag\nnodes:\n\
         \x20 open: {{ {} }}\n\
         \x20 safe: {{ needs: [open], {} }}\n\
         \x20 left: {{ needs: [open], {} }}\n\
         \x20 note: {{ needs: [safe], {} }}\n\
         \x20 ask: {{ needs: [safe], type: approval, if: '${{{{ inputs.ask }}}}' }}\n\
         \x20 close: {{ needs: [left, note, {{ node: ask, accept: [succeeded, skipped] }}], {} }}\n",
        call("POST", "/open"),
        call("PUT", "/safe"),
        call("POST", "/left"),
        recorder.keys(),
        call("POST", "/close"),
    )
}

/// What the server has acknowledged about one run.
#[derive(Debug)]
struct Promise {
    run: String,
    approved: bool,
    canceled: bool,
    /// People's decisions to go on after an interruption.
    resumes: usize,
}

/// Somebody who starts runs one after another and sees each through to its end.
struct Caller {
    client: Client,
    chance: Chance,
    sink: String,
    name: String,
    stop: Arc<AtomicBool>,
}

impl Caller {
    async fn work(mut self) -> Vec<Promise> {
        let mut promises = Vec::new();
        while !self.stop.load(Ordering::Relaxed) {
            let number = promises.len();
            promises.push(self.see_one_run_through(number).await);
        }
        promises
    }

    async fn see_one_run_through(&mut self, number: usize) -> Promise {
        let key = format!("{}-{number}", self.name);
        let inputs = json!({"sink": self.sink, "ask": self.chance.one_in(2)});
        let body = json!({"workflow": "load", "inputs": inputs});
        let run = id_of(&self.client.insist("/v1/workflow-runs", &key, &body).await.ok());
        let mut promise = Promise { run, approved: false, canceled: false, resumes: 0 };
        let cancels = self.chance.one_in(RUNS_PER_CANCEL);
        let patience = self.chance.between(Duration::ZERO, Duration::from_millis(300));
        let began = Instant::now();
        loop {
            let now = self.client.get_run_patiently(&promise.run).await;
            if is_terminal(&now["status"]) {
                return promise;
            }
            if cancels && !promise.canceled && began.elapsed() > patience {
                promise.canceled = self.say(&key, &promise.run, "cancel", &json!({})).await;
            } else if now["status"] == "paused" {
                let nth = format!("{key}-{}", now["last_activity_at"]);
                promise.resumes += usize::from(self.say(&nth, &promise.run, "resume", &json!({})).await);
            } else if let Some(attempt) = step_of(&now, "ask")["waiting_on"]["gate"]["attempt"].as_u64() {
                let body = json!({"node": "ask", "attempt": attempt});
                promise.approved |= self.say(&key, &promise.run, "approve", &body).await;
            }
            assert!(began.elapsed() < PATIENCE * 3, "the run does not end: {now:#}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// True when the command was accepted, false when it came too late.
    async fn say(&self, key: &str, run: &str, verb: &str, body: &Value) -> bool {
        let path = format!("/v1/workflow-runs/{run}/{verb}");
        let answer = self.client.insist(&path, &format!("{key}-{verb}"), body).await;
        assert!(answer.is_ok() || answer.status == 409, "{answer}");
        answer.is_ok()
    }
}

async fn fifty_kills_lose_nothing_and_repeat_nothing_unasked(mode: Mode) {
    let mut house = House::open_with(mode, SESSION).await;
    let mut chance = Chance::from_environment();
    let (sink, recorder) = (Sink::open().await, Recorder::open());
    for path in ["/open", "/safe", "/left", "/close"] {
        sink.is_slow(path, CALL_TAKES);
    }
    house.push(&definition(&recorder)).await;
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..LANES)
        .map(|lane| {
            let caller = Caller {
                client: house.client(),
                chance: chance.branch(),
                sink: sink.url().to_owned(),
                name: format!("lane-{lane}"),
                stop: Arc::clone(&stop),
            };
            tokio::spawn(caller.work())
        })
        .collect();

    kill_again_and_again(&mut house, &mut chance).await;
    stop.store(true, Ordering::Relaxed);
    let mut promises = Vec::new();
    for caller in callers {
        promises.extend(caller.await.expect("no caller was disappointed"));
    }

    every_promise_was_kept(&house, &promises).await;
    no_script_ran_unannounced(&house, &recorder).await;
    house.close_with(&[&sink]).await;
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

async fn every_promise_was_kept(house: &House, promises: &[Promise]) {
    let mut reached: BTreeMap<String, usize> = BTreeMap::new();
    for promise in promises {
        let run = house.get_run(&promise.run).await;
        let log = house.events(&promise.run).await;
        let expected = if promise.canceled { "canceled" } else { "completed" };
        assert_eq!(run["status"], expected, "{promise:?}\n{log}");
        if promise.approved {
            assert_eq!(log.count("approval.granted"), 1, "{promise:?}\n{log}");
        }
        assert!(log.count("run.resumed") >= promise.resumes, "{promise:?}\n{log}");
        for event in &log.0 {
            let reason = event.body["reason"].as_str().unwrap_or_default();
            *reached.entry(format!("{} {reason}", event.kind)).or_default() += 1;
        }
    }
    let created: BTreeSet<String> = house.all_runs().await.into_iter().collect();
    assert_eq!(created.len(), promises.len(), "a create was lost or done twice");
    // A storm that never hit anything proves nothing.
    for wanted in
        ["step.lost ", "run.paused engine_interrupted", "run.canceled ", "approval.granted ", "run.resumed "]
    {
        assert!(reached.contains_key(wanted), "no {wanted} in {reached:#?}");
    }
}

async fn no_script_ran_unannounced(house: &House, recorder: &Recorder) {
    let mut seen = BTreeSet::new();
    for line in recorder.lines() {
        assert!(seen.insert((line.run.clone(), line.attempt)), "an attempt ran twice: {line:?}");
        let log = house.events(&line.run).await;
        let starts = log.of("step.started", "note");
        let announced = starts.iter().any(|start| {
            start.attempt == Some(line.attempt) && start.body["idempotency_key"] == line.key.as_str()
        });
        assert!(announced, "{line:?} was never announced\n{log}");
    }
}
