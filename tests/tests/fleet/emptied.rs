//! A Redis that is emptied again and again costs time, and changes nothing in what runs do and come to.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use scenarios::client::id_of;
use scenarios::house::Plan;
use scenarios::{Client, House, Mode, Sink, eventually};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::alike;

/// How often each play is played, one after the other; the plays go on side by side.
const TURNS: usize = 3;
/// Between two misfortunes: long enough for a process to have connected again, and for news to be lost in both states.
const LULL: Duration = Duration::from_millis(120);
/// Fewer of them would prove little. On a fast machine there are five times as many.
const MISFORTUNES_MIN: usize = 5;

const INNER: &str = "{ version: 1, name: inner, type: steps, steps: [ \
    { id: nap, type: wait, for: 20ms }, { id: ok, type: approval } ], outputs: 7 }";
const CALLS: &str = "{ version: 1, name: calls, type: steps, steps: [ \
    { id: before, type: transform, output: 1, compensate: { type: noop } }, \
    { id: call, type: workflow, workflow: inner } ], compensation: {}, outputs: '${{ nodes.call.output }}' }";
const FLAKY: &str = "{ version: 1, name: flaky, type: steps, inputs: { type: object }, on_error: fail, compensation: {}, steps: [ \
    { id: ready, type: transform, output: 1, compensate: { type: transform, output: back } }, \
    { id: flaky, type: http, with: { method: PUT, url: '${{ inputs.sink }}/flaky/${{ inputs.turn }}' }, \
      retry: { max_attempts: 4, errors: ['*'], backoff: { type: fixed, initial: 10ms } } }, \
    { id: refused, type: http, with: { method: PUT, url: '${{ inputs.sink }}/refused' } } ] }";
const LISTENS: &str = "{ version: 1, name: listens, type: steps, steps: [ \
    { id: first, type: signal, name: go }, { id: nap, type: wait, for: 20ms }, { id: second, type: signal, name: go } ], \
    outputs: ['${{ nodes.first.output }}', '${{ nodes.second.output }}'] }";
const TURN: &str = "{ version: 1, name: turn, type: steps, inputs: { type: object }, \
    concurrency: { group: 'turn-${{ inputs.turn }}' }, steps: [ { id: ok, type: approval } ] }";
const SLEEPS: &str = "{ version: 1, name: sleeps, type: steps, compensation: {}, steps: [ \
    { id: before, type: transform, output: 1, compensate: { type: noop } }, \
    { id: sleeps, type: script, command: [sleep, '300'] } ] }";

/// Starts runs, and says to them what they need to end. Returns their ids.
async fn play(name: &str, turn: usize, client: &Client, sink: &Sink) -> Vec<String> {
    let inputs = json!({"sink": sink.url(), "turn": turn});
    let start = async |workflow: &str| client.start(workflow, inputs.clone()).await;
    let runs = match name {
        "calls" => {
            let run = start("calls").await;
            client.approve(&child_of(client, &run).await, "ok").await.ok();
            vec![run]
        }
        "recalls" => {
            let run = start("calls").await;
            client.wait_for_gate(&child_of(client, &run).await, "ok").await;
            client.cancel(&run).await.ok();
            vec![run]
        }
        "flaky" => {
            sink.fails(&format!("/flaky/{turn}"), 2, 503);
            vec![start("flaky").await]
        }
        "listens" => {
            let run = start("listens").await;
            for (node, word) in [("first", 1), ("second", 2)] {
                client.wait_for_step(&run, node, "waiting").await;
                client.signal(&run, "go", &json!(word)).await.ok();
            }
            vec![run]
        }
        "turns" => {
            let first = start("turn").await;
            client.wait_for_gate(&first, "ok").await;
            let second = start("turn").await;
            let waits = |run: &Value| run["concurrency"]["has_place"] == false && run["status"] == "waiting";
            client.wait_until(&second, "its turn", waits).await;
            for run in [&first, &second] {
                client.approve(run, "ok").await.ok();
            }
            vec![first, second]
        }
        "sleeps" => {
            let run = start("sleeps").await;
            client.wait_for_step(&run, "sleeps", "running").await;
            client.cancel(&run).await.ok();
            vec![run]
        }
        workflow => {
            let run = start(workflow).await;
            if workflow == "asked" {
                client.approve(&run, "ok").await.ok();
            }
            vec![run]
        }
    };
    for run in &runs {
        client.wait_for_end(run).await;
    }
    runs
}

async fn child_of(client: &Client, run: &str) -> String {
    eventually("a child", || async { client.children(run).await.first().map(id_of) }).await
}

/// What every run came to, by the name of its play, and all that happened on the way.
type Told = BTreeMap<String, Value>;

async fn live(is_emptied: bool) -> Told {
    let (mut house, sink) = (Plan::of(Mode::Fleet).open().await, Sink::open().await);
    sink.refuses("/refused", 422, json!({"sorry": true}));
    let mut names: Vec<String> =
        ["calls", "recalls", "flaky", "listens", "turns", "sleeps"].map(str::to_owned).into();
    for yaml in alike::DEFINITIONS {
        names.push(house.push(yaml).await);
    }
    for yaml in [INNER, CALLS, FLAKY, LISTENS, TURN, SLEEPS] {
        house.push(yaml).await;
    }
    house.until_ready().await;
    let mut plays = JoinSet::new();
    for name in names {
        let (client, sink) = (house.client(), sink.clone());
        plays.spawn(async move {
            let mut played = Vec::new();
            for turn in 0..TURNS {
                let runs = play(&name, turn, &client, &sink).await;
                played
                    .extend(runs.into_iter().enumerate().map(|(n, run)| (format!("{name}-{turn}-{n}"), run)));
            }
            played
        });
    }
    let mut played = Vec::new();
    if is_emptied {
        let misfortunes = empty_redis_until(&mut house, async {
            while let Some(play) = plays.join_next().await {
                played.extend(play.expect("nobody was disappointed"));
            }
        })
        .await;
        assert!(misfortunes >= MISFORTUNES_MIN, "{misfortunes}");
        // What is told now is told by PostgreSQL alone.
        house.redis().kill();
    } else {
        played = plays.join_all().await.concat();
    }
    let told = tell_all(&house, &sink, &played).await;
    house.close_with(&[&sink]).await;
    told
}

/// Flushes it, or kills it and starts it again, in turn. Returns how often.
async fn empty_redis_until(house: &mut House, end: impl Future<Output = ()>) -> usize {
    let mut misfortunes = 0;
    let again_and_again = async {
        loop {
            house.redis().flush();
            tokio::time::sleep(LULL).await;
            house.redis().kill();
            tokio::time::sleep(LULL).await;
            house.redis().start_again();
            tokio::time::sleep(LULL).await;
            misfortunes += 2;
        }
    };
    tokio::select! {
        () = end => {}
        () = again_and_again => {}
    }
    misfortunes
}

async fn tell_all(house: &House, sink: &Sink, played: &[(String, String)]) -> Told {
    let mut told = Told::new();
    for (name, run) in played {
        let now = house.get_run(run).await;
        let mut logs = vec![house.events(run).await.retold()];
        for child in house.children(run).await {
            logs.push(house.events(&id_of(&child)).await.retold());
        }
        // The order of children is that of their ids.
        logs[1..].sort();
        let text =
            json!({"status": now["status"], "output": now["output"], "error": now["error"], "logs": logs});
        let text = text.to_string().replace(sink.url(), "sink");
        told.insert(name.clone(), serde_json::from_str(&text).expect("it was JSON"));
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_runs_come_to_the_same_while_redis_is_emptied_again_and_again() {
    let (undisturbed, disturbed) = (live(false).await, live(true).await);
    assert_eq!(undisturbed.len(), TURNS * 12);
    for (name, told) in &undisturbed {
        assert_eq!(told, &disturbed[name], "{name}");
    }
    assert_eq!(undisturbed.len(), disturbed.len());
}
