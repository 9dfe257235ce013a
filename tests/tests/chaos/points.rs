//! Death at every named point between two deeds, three times each: what is left is enough to go on.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use scenarios::client::{id_of, is_terminal, step_of};
use scenarios::house::Plan;
use scenarios::{Chance, Client, House, Mode, PATIENCE, Process, Sink, eventually, tell};
use serde_json::json;

/// Deaths at each point.
const DEATHS: u64 = 3;
/// A point is fatal the first time that it is come by, or up to so many times later.
const LATER_MAX: u64 = 4;
const LANES: u64 = 8;
/// Dead workers' runs lie still for as long; a story of many deaths would mostly wait.
const SESSION: &[(&str, &str)] = &[("WINDLASS_SESSION_TTL", "600ms"), ("WINDLASS_SESSION_RENEW", "150ms")];

/// What engine, attempts, calls, doorbell, sweep, session and relay come by, in whatever mode.
const OF_WORKERS: &[&str] = &[
    "attempt.after_deed",
    "attempt.before_deed",
    "call.definition_read",
    "call.ready",
    "circuit.admitted",
    "circuit.before_news",
    "circuit.before_question",
    "circuit.told",
    "doorbell.answered",
    "doorbell.let_go",
    "engine.attempts_begun",
    "engine.before_attempts",
    "engine.before_child",
    "engine.before_claim",
    "engine.before_commit",
    "engine.before_parent_is_told",
    "engine.before_recall",
    "engine.before_release",
    "engine.before_reload",
    "engine.child_end_read",
    "engine.child_written",
    "engine.claim_told",
    "engine.claimed",
    "engine.committed",
    "engine.decided",
    "engine.outcome_taken",
    "engine.parent_is_told",
    "engine.parked",
    "engine.recalled",
    "engine.released",
    "engine.reloaded",
    "engine.told",
    "relay.sent",
    "relay.settled",
    "relay.taken",
    "session.before_renewal",
    "session.renewed",
    "sweep.before",
    "sweep.found",
    "sweep.rung",
    "turn.of_run_taken",
    "turn.taken",
];
const OF_THE_DOOR: &[&str] = &[
    "door.before_answer",
    "door.before_command",
    "door.before_create",
    "door.command_told",
    "door.command_written",
    "door.created",
];
const OF_SQLITE: &[&str] = &["sqlite.before_commit", "sqlite.committed"];
const OF_POSTGRES: &[&str] =
    &["postgres.before_group", "postgres.before_whole", "postgres.group_done", "postgres.whole_done"];

/// Of the others these matter most where several workers share a database.
const IN_A_FLEET_TOO: &[&str] = &["engine.claimed", "engine.committed", "engine.child_written", "relay.sent"];

const CHILD: &str = "{ version: 1, name: child, type: steps, steps: [ { id: a, type: transform, output: 1 } ], \
     outputs: '${{ nodes.a.output }}' }";
const LISTENS: &str =
    "{ version: 1, name: listens, type: steps, steps: [ { id: never, type: signal, name: never } ] }";
/// Everything that a run can do, and that may be repeated.
const TOUR: &str = r#"
version: 1
name: tour
type: dag
rate_limit: { runs: 30, per: 1s, burst: 1 }
tools:
  shaky:
    idempotent: true
    circuit_breaker: { failures: 1000, window: 1h }
    rate_limit: { calls: 30, per: 1s, burst: 1 }
    do: { type: http, with: { method: PUT, url: "${{ parameters.sink }}/shaky" } }
nodes:
  act: { type: http, with: { method: PUT, url: "${{ inputs.sink }}/act" } }
  tool: { type: tool, tool: shaky, with: { sink: "${{ inputs.sink }}" } }
  call: { type: workflow, workflow: child }
  spread: { type: map, each: [1, 2, 3], slice: 2, do: { type: http, with: { method: PUT, url: "${{ inputs.sink }}/spread" } } }
  tell: { needs: [act], type: emit, event: { type: toured, data: 1 } }
  nap: { needs: [tell], type: wait, for: 400ms }
  ask: { needs: [call, tool], type: approval }
"#;
const LEAVES: &str =
    "{ version: 1, name: leaves, type: steps, steps: [ { id: call, type: workflow, workflow: listens } ] }";

/// Callers at work until they are told to stop.
struct Tours {
    callers: Vec<tokio::task::JoinHandle<usize>>,
    stop: Arc<AtomicBool>,
}

impl Tours {
    async fn begin(house: &House, sink: &Sink) -> Self {
        for definition in [CHILD, LISTENS, TOUR, LEAVES] {
            house.push(definition).await;
        }
        sink.is_slow("/act", Duration::from_millis(30));
        let stop = Arc::new(AtomicBool::new(false));
        let callers = (0..LANES).map(|lane| {
            let (client, sink, stop) = (house.client(), sink.url().to_owned(), stop.clone());
            tokio::spawn(async move {
                let mut number = 0;
                while !stop.load(Ordering::Relaxed) {
                    number += 1;
                    see_one_through(&client, &sink, &format!("{lane}-{number}"), number).await;
                }
                number
            })
        });
        Self { callers: callers.collect(), stop }
    }

    async fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let mut runs = 0;
        for caller in self.callers {
            runs += caller.await.expect("no caller was disappointed");
        }
        runs
    }
}

/// Of three runs one is seen to its end, one is canceled early, and one is left by its parent.
async fn see_one_through(client: &Client, sink: &str, key: &str, number: usize) {
    let (workflow, cancels) = [("tour", false), ("tour", true), ("leaves", true)][number % 3];
    let body = json!({"workflow": workflow, "inputs": {"sink": sink}});
    let run = id_of(&client.insist("/v1/workflow-runs", key, &body).await.ok());
    let say = async |verb: &str, nth: &str, body: serde_json::Value| {
        let path = format!("/v1/workflow-runs/{run}/{verb}");
        let answer = client.insist(&path, &format!("{key}-{verb}-{nth}"), &body).await;
        assert!(answer.is_ok() || answer.status == 409, "{answer}");
    };
    let began = Instant::now();
    loop {
        let now = client.get_run_patiently(&run).await;
        if is_terminal(&now["status"]) {
            let expected: &[&str] = if cancels { &["canceled", "completed"] } else { &["completed"] };
            assert!(expected.contains(&now["status"].as_str().unwrap_or_default()), "{now:#}");
            return;
        }
        let waits_for_child = step_of(&now, "call")["waiting_on"]["on"] == "child";
        for step in now["steps"].as_array().into_iter().flatten() {
            if step["waiting_on"]["on"] == "child" {
                resume_child(client, step["child_run_id"].as_str().unwrap_or_default()).await;
            }
        }
        if cancels && (workflow == "tour" || waits_for_child) {
            say("cancel", "", json!({})).await;
        } else if now["status"] == "paused" {
            say("resume", &now["last_activity_at"].to_string(), json!({})).await;
        } else if let Some(attempt) = step_of(&now, "ask")["waiting_on"]["gate"]["attempt"].as_u64() {
            say("approve", &attempt.to_string(), json!({"node": "ask", "attempt": attempt})).await;
        }
        assert!(began.elapsed() < PATIENCE * 3, "the run does not end: {now:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// One that was there each time its engine died has been set aside.
async fn resume_child(client: &Client, child: &str) {
    let now = client.get_run_patiently(child).await;
    if now["status"] == "paused" {
        let key = format!("{child}-{}", now["last_activity_at"]);
        let answer = client.insist(&format!("/v1/workflow-runs/{child}/resume"), &key, &json!({})).await;
        assert!(answer.is_ok() || answer.status == 409, "{answer}");
    }
}

/// At least once, under the name that its event gives it.
async fn every_message_has_arrived(house: &House, receiver: &Sink) {
    let mut sent = BTreeSet::new();
    for run in house.all_runs().await {
        let log = house.events(&run).await;
        let emitted = log.0.iter().filter(|event| event.is("event.emitted"));
        sent.extend(emitted.map(|event| format!("{run}/{}", event.seq)));
    }
    eventually("every message to arrive", || async {
        let arrived: BTreeSet<_> = receiver.at("/events").into_iter().map(|it| it.key).collect();
        sent.is_subset(&arrived).then_some(())
    })
    .await;
}

/// Lets this process die at each point, again and again.
async fn dies_at_each(process: &Process, points: impl Iterator<Item = &'static &'static str>, sink: &Sink) {
    let mut chance = Chance::from_environment();
    for point in points {
        let began = Instant::now();
        for _ in 0..DEATHS {
            process.kill().await;
            if *point == "circuit.told" || *point == "circuit.before_news" {
                sink.fails("/shaky", 1, 503);
            }
            process.rise_to_die_at(point, 1 + chance.below(LATER_MAX)).await;
            process.until_dead().await;
            process.rise().await;
        }
        eprintln!("{point}: {DEATHS} deaths in {:?}", began.elapsed());
    }
}

async fn one_process_dies_everywhere() {
    let (sink, receiver) = (Sink::open().await, Sink::open().await);
    let emit = format!("{}/events", receiver.url());
    let settings = [SESSION, &[("WINDLASS_EMIT_URL", emit.as_str())]].concat();
    let house = House::open_with(Mode::Embedded, &settings).await;
    let tours = Tours::begin(&house, &sink).await;
    let points = OF_WORKERS.iter().chain(OF_THE_DOOR).chain(OF_SQLITE);
    dies_at_each(&house.processes()[0], points, &sink).await;
    eprintln!("{} runs", tours.end().await);
    every_message_has_arrived(&house, &receiver).await;
    house.close_with(&[&sink]).await;
}

async fn a_fleet_dies_between_its_commits() {
    let (sink, receiver) = (Sink::open().await, Sink::open().await);
    let emit = format!("{}/events", receiver.url());
    let settings = [SESSION, &[("WINDLASS_EMIT_URL", emit.as_str())]].concat();
    let house = Plan::of(Mode::Fleet).with(&settings).open().await;
    let tours = Tours::begin(&house, &sink).await;
    dies_at_each(&house.apis()[0], OF_THE_DOOR.iter().chain(OF_POSTGRES), &sink).await;
    dies_at_each(&house.workers()[0], OF_POSTGRES.iter().chain(IN_A_FLEET_TOO), &sink).await;
    eprintln!("{} runs", tours.end().await);
    every_message_has_arrived(&house, &receiver).await;
    house.close_with(&[&sink]).await;
}

#[test]
fn whoever_dies_at_any_point_of_one_process_is_made_up_for() {
    tell(one_process_dies_everywhere());
}

#[test]
fn whoever_dies_between_the_commits_of_a_fleet_is_made_up_for() {
    tell(a_fleet_dies_between_its_commits());
}

/// Names of points in the sources below a folder.
fn points_in(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("it can be read").path();
        if path.is_dir() {
            points_in(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source");
            // Up to the end of the statement: which of two points it is may depend.
            for (_, rest) in text.match_indices("point(").map(|(at, word)| text.split_at(at + word.len())) {
                let statement = rest.split(';').next().unwrap_or_default();
                let names = statement.split('"').skip(1).step_by(2).filter(|name| name.contains('.'));
                found.extend(names.map(str::to_owned));
            }
        }
    }
}

#[test]
fn every_point_in_the_sources_is_died_at() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut found = BTreeSet::new();
    for folder in
        ["shared/engine/src", "shared/store-sqlite/src", "shared/store-postgres/src", "worker/src", "api/src"]
    {
        points_in(&root.join(folder), &mut found);
    }
    let listed = [OF_WORKERS, OF_THE_DOOR, OF_SQLITE, OF_POSTGRES].concat();
    assert_eq!(found, listed.iter().map(|name| (*name).to_owned()).collect());
}
