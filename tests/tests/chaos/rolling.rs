//! Every process is replaced, one after the other, while clients go on as if nothing were.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use scenarios::client::id_of;
use scenarios::house::Plan;
use scenarios::stream::Opened;
use scenarios::{Answer, Client, Log, Mode, Process, Sink, eventually, tell};
use serde_json::json;

/// Clients that start runs and watch them.
const CLIENTS: usize = 8;
/// Each process is replaced so often.
const ROUNDS: usize = 2;
/// Between two replacements so many runs end.
const RUNS_BETWEEN: usize = CLIENTS;
const CALL_TAKES: Duration = Duration::from_millis(30);

/// None of these may be repeated unasked: a step that was lost would pause its run.
const DEEDS: &str = "{ version: 1, name: deeds, type: steps, steps: [ \
     { id: one, type: http, with: { method: POST, url: '${{ inputs.sink }}/one' } }, \
     { id: two, type: transform, output: 2 }, \
     { id: three, type: http, with: { method: POST, url: '${{ inputs.sink }}/three' } } ] }";

/// Somebody who would notice.
struct Watcher {
    client: Client,
    sink: String,
    name: String,
    /// Runs that ended, whoever watched them.
    ended: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Watcher {
    /// Returns the runs that it saw from their beginning to their end.
    async fn watch(self) -> Vec<String> {
        let mut runs = Vec::new();
        while !self.stop.load(Ordering::Relaxed) {
            let run = self.create(runs.len()).await;
            self.see_to_the_end(&run).await;
            runs.push(run);
            self.ended.fetch_add(1, Ordering::Relaxed);
        }
        runs
    }

    /// A replica that has gone does not answer, and is asked no more; one that is there answers well.
    async fn create(&self, number: usize) -> String {
        let body = json!({"workflow": "deeds", "inputs": {"sink": self.sink}});
        loop {
            let request = self.client.request(reqwest::Method::POST, "/v1/workflow-runs").json(&body);
            let request = request.header("Idempotency-Key", format!("{}-{number}", self.name));
            match self.client.send(request).await {
                Ok(answer) => return id_of(&good(answer).body),
                Err(_gone) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    async fn see_to_the_end(&self, run: &str) {
        let mut events = Vec::new();
        loop {
            let last = events.len().to_string();
            match self.client.try_watch(run, Some(&last)).await {
                Ok(Opened::Stream(mut stream)) => events.extend(stream.rest().await),
                Ok(Opened::Refused(answer)) => drop(good(answer)),
                Err(_gone) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
            assert!(events.iter().zip(1..).all(|(event, seq)| event.seq == seq), "{}", Log(events));
            if events.last().is_some_and(|event| event.is_terminal()) {
                return;
            }
        }
    }
}

fn good(answer: Answer) -> Answer {
    assert!(answer.is_ok(), "{answer}");
    answer
}

async fn every_process_is_replaced_twice() {
    let house = Plan::of(Mode::Fleet).apis(2).workers(2).open().await;
    let sink = Sink::open().await;
    sink.is_slow("/one", CALL_TAKES).is_slow("/three", CALL_TAKES);
    house.push(DEEDS).await;
    let (ended, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let watchers: Vec<_> = (0..CLIENTS)
        .map(|n| {
            let watcher = Watcher {
                client: house.client(),
                sink: sink.url().to_owned(),
                name: format!("client-{n}"),
                ended: Arc::clone(&ended),
                stop: Arc::clone(&stop),
            };
            tokio::spawn(watcher.watch())
        })
        .collect();
    for _ in 0..ROUNDS {
        for process in house.processes() {
            let before = ended.load(Ordering::Relaxed);
            replace(process).await;
            eventually("more runs to end", || async {
                (ended.load(Ordering::Relaxed) >= before + RUNS_BETWEEN).then_some(())
            })
            .await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    let mut runs = Vec::new();
    for watcher in watchers {
        runs.extend(watcher.await.expect("no client was disappointed"));
    }

    for run in &runs {
        let log = house.events(run).await;
        assert_eq!((log.count("run.completed"), log.count("step.lost")), (1, 0), "{log}");
    }
    assert_eq!((sink.at("/one").len(), sink.at("/three").len()), (runs.len(), runs.len()));
    eprintln!("{} runs, none the worse", runs.len());
    house.close_with(&[&sink]).await;
}

async fn replace(process: &Process) {
    assert_eq!(process.stop().await, Some(0), "{}", process.log());
    process.rise().await;
    process.until_ready().await;
}

#[test]
fn a_rolling_restart_fails_no_run_loses_no_step_and_no_client_notices() {
    tell(every_process_is_replaced_twice());
}
