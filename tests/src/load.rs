//! What a house does while it suffers: runs that act on the world, ask people, and are canceled.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::client::{id_of, is_terminal, step_of};
use crate::{Chance, Client, House, Log, PATIENCE, Recorder, Sink};

/// One of so many runs is canceled at some moment.
const RUNS_PER_CANCEL: u64 = 3;
/// A call takes this long, so that deaths find some in flight.
const CALL_TAKES: Duration = Duration::from_millis(15);

/// Callers at work, and all that their runs do outside.
pub struct Load {
    sink: Sink,
    recorder: Recorder,
    callers: Vec<JoinHandle<Vec<Promise>>>,
    stop: Arc<AtomicBool>,
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

impl Load {
    /// Has so many runs on their way at any moment, until [`Self::end`].
    pub async fn begin(house: &House, lanes: u64, chance: &mut Chance) -> Self {
        let (sink, recorder) = (Sink::open().await, Recorder::open());
        for path in ["/open", "/safe", "/left", "/close"] {
            sink.is_slow(path, CALL_TAKES);
        }
        house.push(&definition(&recorder)).await;
        let stop = Arc::new(AtomicBool::new(false));
        let callers = (0..lanes).map(|lane| {
            let caller = Caller {
                client: house.client(),
                chance: chance.branch(),
                sink: sink.url().to_owned(),
                name: format!("lane-{lane}"),
                stop: Arc::clone(&stop),
            };
            tokio::spawn(caller.work())
        });
        Self { callers: callers.collect(), sink, recorder, stop }
    }

    /// Sees every run to its end, closes the house, and returns the logs.
    ///
    /// # Panics
    /// When the house broke a promise, did something unasked, or did it twice.
    pub async fn end(self, house: House) -> Vec<Log> {
        self.stop.store(true, Ordering::Relaxed);
        let mut promises = Vec::new();
        for caller in self.callers {
            promises.extend(caller.await.expect("no caller was disappointed"));
        }
        let logs = every_promise_was_kept(&house, &promises).await;
        no_script_ran_unannounced(&house, &self.recorder).await;
        house.close_with(&[&self.sink]).await;
        logs
    }
}

/// How often each kind of event happened; a pause under its kind and reason.
pub fn count_kinds(logs: &[Log]) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for event in logs.iter().flat_map(|log| &log.0) {
        let reason = event.body["reason"].as_str().unwrap_or_default();
        *kinds.entry(format!("{} {reason}", event.kind).trim_end().to_owned()).or_default() += 1;
    }
    kinds
}

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

async fn every_promise_was_kept(house: &House, promises: &[Promise]) -> Vec<Log> {
    let mut logs = Vec::new();
    for promise in promises {
        let run = house.get_run(&promise.run).await;
        let log = house.events(&promise.run).await;
        let expected = if promise.canceled { "canceled" } else { "completed" };
        assert_eq!(run["status"], expected, "{promise:?}\n{log}");
        assert_eq!(log.count("approval.granted"), usize::from(promise.approved), "{promise:?}\n{log}");
        assert_eq!(log.count("run.cancel_requested"), usize::from(promise.canceled), "{promise:?}\n{log}");
        assert!(log.count("run.resumed") >= promise.resumes, "{promise:?}\n{log}");
        logs.push(log);
    }
    let created: BTreeSet<String> = house.all_runs().await.into_iter().collect();
    assert_eq!(created.len(), promises.len(), "a create was lost or done twice");
    logs
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
