//! Clients that hang up in the middle of a request.

use std::time::Duration;

use futures::future::join_all;
use scenarios::client::id_of;
use scenarios::{Chance, Client, House, Mode, in_every_mode, raw};
use serde_json::json;

in_every_mode!(
    hanging_up_never_costs_another_client_a_write,
    a_command_of_a_client_that_hung_up_happens_as_a_whole_or_not_at_all,
);

const QUICK: &str = "{ version: 1, name: quick, type: steps, steps: [ { id: a, type: noop } ] }";
const RUNS: &str = "/v1/workflow-runs";

/// Sends creates and hangs up: in the middle, at the end, or after a moment.
async fn hang_up_often(client: Client, mut chance: Chance, times: u64) {
    for n in 0..times {
        let body = json!({"workflow": "quick", "labels": {"by": "rude"}, "inputs": {"n": n}}).to_string();
        let request = raw::post(RUNS, &[], &body);
        let length = match chance.below(3) {
            0 => usize::try_from(chance.below(request.len() as u64)).expect("short"),
            _ => request.len(),
        };
        let mut connection = client.connect().await;
        // The server may refuse a broken request before it has all of it.
        let _ = tokio::io::AsyncWriteExt::write_all(&mut connection, &request[..length]).await;
        tokio::time::sleep(chance.between(Duration::ZERO, Duration::from_millis(4))).await;
    }
}

/// Creates runs in good manners. Returns those that were acknowledged.
async fn create_politely(client: Client, times: u64) -> Vec<String> {
    let mut runs = Vec::new();
    for n in 0..times {
        let body = json!({"workflow": "quick", "labels": {"by": "polite"}, "inputs": {"n": n}});
        runs.push(id_of(&client.post(RUNS, &body).await.ok()));
    }
    runs
}

async fn hanging_up_never_costs_another_client_a_write(mode: Mode) {
    let house = House::open(mode).await;
    let mut chance = Chance::from_environment();
    house.push(QUICK).await;
    let rude =
        (0..6).map(|_| tokio::spawn(hang_up_often(house.client(), chance.branch(), 60))).collect::<Vec<_>>();
    let polite = (0..6).map(|_| tokio::spawn(create_politely(house.client(), 30))).collect::<Vec<_>>();

    for task in join_all(rude).await {
        task.expect("rudeness knows no errors");
    }
    let runs: Vec<String> = join_all(polite)
        .await
        .into_iter()
        .flat_map(|task| task.expect("every create was answered"))
        .collect();

    assert_eq!(runs.len(), 180);
    for run in &runs {
        house.wait_for(run, "completed").await;
    }
    // Whatever came of the rude ones is whole as well.
    for run in house.all_runs().await {
        house.wait_for(&run, "completed").await;
    }
    house.get("/readyz").await.ok();
    house.close().await;
}

async fn a_command_of_a_client_that_hung_up_happens_as_a_whole_or_not_at_all(mode: Mode) {
    let house = House::open(mode).await;
    let mut chance = Chance::from_environment();
    let yaml = "{ version: 1, name: gate, type: steps, steps: [ { id: ok, type: approval } ] }";
    let run = house.run(yaml, json!({})).await;
    house.wait_for(&run, "waiting").await;
    for _ in 0..60 {
        let pause = raw::post(&format!("{RUNS}/{run}/pause"), &[], "{}");
        let resume = raw::post(&format!("{RUNS}/{run}/resume"), &[], "{}");
        house.send_and_hang_up(if chance.one_in(2) { &pause } else { &resume }).await;
        // A second writer at the same moment: whatever it is told is what it finds.
        let answer = house.pause(&run).await;
        assert!(answer.is_ok() || answer.status == 409, "{answer}");
        let log = house.events(&run).await;
        let (paused, resumed) = (log.count("run.paused"), log.count("run.resumed"));
        assert!(paused == resumed || paused == resumed + 1, "{paused} pauses, {resumed} resumes");
    }
    house.cancel(&run).await.ok();
    house.wait_for(&run, "canceled").await;
    house.close().await;
}
