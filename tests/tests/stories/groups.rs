//! Concurrency groups: how many runs of one name are under way.

use std::time::Duration;

use scenarios::client::id_of;
use scenarios::{Answer, House, Mode, definition, eventually, in_every_mode};
use serde_json::{Value, json};

in_every_mode!(
    runs_of_one_group_take_turns_in_the_order_in_which_they_came,
    other_groups_do_not_wait,
    as_many_run_side_by_side_as_the_definition_allows,
    the_most_urgent_goes_first,
    a_waiting_run_says_what_it_waits_for_and_can_be_canceled,
    a_run_that_will_not_wait_is_turned_away,
    of_many_who_will_not_wait_one_is_started,
    a_repeated_request_is_answered_by_the_run_that_it_has_started,
    a_newer_run_cancels_the_older_ones_and_begins_when_they_have_ended,
    runs_go_on_taking_turns_whoever_dies,
    a_child_waits_for_its_turn_as_well,
    a_child_shares_the_place_of_its_parent,
    a_child_that_will_not_wait_fails,
    a_run_that_starts_later_asks_for_its_place_then,
    a_group_that_cannot_be_told_is_refused,
);

/// A gate in a group that the inputs name.
fn gate(keys: &str) -> String {
    format!(
        "{{ version: 1, name: gate, type: steps, concurrency: {{ group: 'gate-${{{{ inputs.of }}}}'{keys} }}, \
         steps: [ {{ id: ok, type: approval }} ] }}"
    )
}

async fn order(house: &House, keys: &str, of: &str, more: Value) -> Answer {
    let mut body = json!({"spec": definition::parse(&gate(keys)), "inputs": {"of": of}});
    body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    house.post("/v1/workflow-runs", &body).await
}

async fn start(house: &House, keys: &str, of: &str) -> String {
    id_of(&order(house, keys, of, json!({})).await.ok())
}

async fn waits_for_place(house: &House, run: &str) {
    house.wait_until(run, "its turn", |run| run["status"] == "waiting").await;
    assert_eq!(house.get_run(run).await["concurrency"]["has_place"], false);
}

async fn has_begun(house: &House, run: &str) -> bool {
    house.events(run).await.count("approval.requested") > 0
}

async fn runs_of_one_group_take_turns_in_the_order_in_which_they_came(mode: Mode) {
    let house = House::open(mode).await;
    let mut runs = Vec::new();
    for _ in 0..4 {
        runs.push(start(&house, "", "a").await);
    }
    for (at, run) in runs.iter().enumerate() {
        house.approve(run, "ok").await.ok();
        for later in &runs[at + 1..] {
            let begun = has_begun(&house, later).await;
            assert!(!begun || house.get_run(run).await["status"] == "completed", "two are under way");
        }
        house.wait_for(run, "completed").await;
    }
    house.close().await;
}

async fn other_groups_do_not_wait(mode: Mode) {
    let house = House::open(mode).await;
    let (a, b) = (start(&house, "", "a").await, start(&house, "", "b").await);
    house.wait_for_gate(&a, "ok").await;
    house.approve(&b, "ok").await.ok();
    house.wait_for(&b, "completed").await;
    house.approve(&a, "ok").await.ok();
    house.wait_for(&a, "completed").await;
    house.close().await;
}

async fn as_many_run_side_by_side_as_the_definition_allows(mode: Mode) {
    let house = House::open(mode).await;
    let mut runs = Vec::new();
    for _ in 0..3 {
        runs.push(start(&house, ", max: 2", "a").await);
    }
    house.wait_for_gate(&runs[0], "ok").await;
    house.wait_for_gate(&runs[1], "ok").await;
    waits_for_place(&house, &runs[2]).await;
    house.approve(&runs[1], "ok").await.ok();
    house.wait_for_gate(&runs[2], "ok").await;
    for run in [&runs[0], &runs[2]] {
        house.approve(run, "ok").await.ok();
        house.wait_for(run, "completed").await;
    }
    house.close().await;
}

async fn the_most_urgent_goes_first(mode: Mode) {
    let house = House::open(mode).await;
    let first = start(&house, "", "a").await;
    house.wait_for_gate(&first, "ok").await;
    let normal = start(&house, "", "a").await;
    let urgent = id_of(&order(&house, "", "a", json!({"priority": "high"})).await.ok());
    waits_for_place(&house, &urgent).await;
    waits_for_place(&house, &normal).await;
    house.approve(&first, "ok").await.ok();
    house.wait_for_gate(&urgent, "ok").await;
    waits_for_place(&house, &normal).await;
    for run in [&urgent, &normal] {
        house.approve(run, "ok").await.ok();
        house.wait_for(run, "completed").await;
    }
    house.close().await;
}

async fn a_waiting_run_says_what_it_waits_for_and_can_be_canceled(mode: Mode) {
    let house = House::open(mode).await;
    let first = start(&house, "", "a").await;
    house.wait_for_gate(&first, "ok").await;
    let second = start(&house, "", "a").await;
    let third = start(&house, "", "a").await;
    waits_for_place(&house, &second).await;
    waits_for_place(&house, &third).await;
    let explained = house.get(&format!("/v1/workflow-runs/{third}/explain")).await.ok();
    assert_eq!(explained["queue"]["group"], "gate-a", "{explained:#}");
    assert_eq!(explained["queue"]["held_by"], json!([first]));
    assert_eq!(explained["queue"]["ahead"], 1);
    assert_eq!(house.events(&third).await.first("run.place_awaited").body["held_by"], json!([first]));

    house.cancel(&second).await.ok();
    house.wait_for(&second, "canceled").await;
    house.approve(&first, "ok").await.ok();
    house.approve(&third, "ok").await.ok();
    let ended = house.wait_for(&third, "completed").await;
    assert_eq!(ended["concurrency"]["has_place"], false);
    house.close().await;
}

const REJECT: &str = ", on_conflict: reject";

async fn a_run_that_will_not_wait_is_turned_away(mode: Mode) {
    let house = House::open(mode).await;
    let first = start(&house, REJECT, "a").await;
    let refused = order(&house, REJECT, "a", json!({})).await;
    assert_eq!((refused.status, &refused.body["code"]), (409, &json!("group_occupied")));
    assert_eq!(refused.body["conflicting_run_id"], first.as_str(), "{:#}", refused.body);
    assert_eq!(house.all_runs().await.len(), 1, "there is no second run");
    house.approve(&first, "ok").await.ok();
    house.wait_for(&first, "completed").await;
    let second = start(&house, REJECT, "a").await;
    house.approve(&second, "ok").await.ok();
    house.wait_for(&second, "completed").await;
    house.close().await;
}

async fn of_many_who_will_not_wait_one_is_started(mode: Mode) {
    let house = House::open(mode).await;
    let spec = definition::parse(&gate(REJECT));
    let body = json!({"spec": spec, "inputs": {"of": "a"}});
    let asked = (0..16).map(|_| house.post("/v1/workflow-runs", &body));
    let statuses: Vec<u16> =
        futures::future::join_all(asked).await.into_iter().map(|answer| answer.status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 15, "{statuses:?}");
    let run = house.all_runs().await.remove(0);
    house.approve(&run, "ok").await.ok();
    house.wait_for(&run, "completed").await;
    house.close().await;
}

async fn a_repeated_request_is_answered_by_the_run_that_it_has_started(mode: Mode) {
    let house = House::open(mode).await;
    let body = json!({"spec": definition::parse(&gate(REJECT)), "inputs": {"of": "a"}});
    let first = house.insist("/v1/workflow-runs", "once", &body).await.ok();
    let again = house.insist("/v1/workflow-runs", "once", &body).await.ok();
    assert_eq!(first["id"], again["id"]);
    house.cancel(&id_of(&first)).await.ok();
    house.close().await;
}

async fn a_newer_run_cancels_the_older_ones_and_begins_when_they_have_ended(mode: Mode) {
    let house = House::open(mode).await;
    let keys = ", on_conflict: cancel_running";
    let first = start(&house, keys, "a").await;
    house.wait_for_gate(&first, "ok").await;
    let second = start(&house, keys, "a").await;
    house.wait_for_gate(&second, "ok").await;
    let third = start(&house, keys, "a").await;
    house.wait_for_gate(&third, "ok").await;
    for (older, newer) in [(&first, &second), (&second, &third)] {
        house.wait_for(older, "canceled").await;
        let (ended, begun) = (house.events(older).await, house.events(newer).await);
        assert!(begun.first("run.place_taken").at >= ended.first("run.canceled").at);
        let reason = &ended.first("run.cancel_requested").body["reason"];
        assert!(reason.as_str().unwrap().contains("newer run"), "{reason}");
    }
    house.approve(&third, "ok").await.ok();
    house.wait_for(&third, "completed").await;
    house.close().await;
}

/// Every place that a run has taken and given back, by the times of the logs.
async fn spans(house: &House, runs: &[String]) -> Vec<(jiff::Timestamp, jiff::Timestamp)> {
    let mut spans = Vec::new();
    for run in runs {
        let log = house.events(run).await;
        spans.push((log.first("run.place_taken").at, log.first("run.completed").at));
    }
    spans.sort_unstable();
    spans
}

async fn runs_go_on_taking_turns_whoever_dies(mode: Mode) {
    let mut house = House::open(mode).await;
    let yaml = "{ version: 1, name: turns, type: steps, concurrency: { group: turns }, \
                steps: [ { id: a, type: noop }, { id: b, type: wait, for: 200ms }, { id: c, type: noop } ] }";
    house.push(yaml).await;
    let mut runs = Vec::new();
    for _ in 0..8 {
        runs.push(house.start("turns", json!({})).await);
    }
    for at in [1, 4] {
        house.wait_for(&runs[at], "completed").await;
        house.kill().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        house.rise().await;
    }
    for run in &runs {
        house.wait_for(run, "completed").await;
    }
    let spans = spans(&house, &runs).await;
    for pair in spans.windows(2) {
        assert!(pair[0].1 <= pair[1].0, "two were under way: {pair:?}");
    }
    house.close().await;
}

fn caller(keys: &str) -> String {
    format!(
        "{{ version: 1, name: caller, type: steps{keys}, steps: [ {{ id: call, type: workflow, workflow: gate, \
         with: {{ of: a }}, on_error: fail }} ] }}"
    )
}

async fn child_of(house: &House, parent: &str) -> String {
    let look = async || house.children(parent).await.first().map(id_of);
    eventually("a child", look).await
}

async fn a_child_waits_for_its_turn_as_well(mode: Mode) {
    let house = House::open(mode).await;
    house.push(&gate("")).await;
    let first = start(&house, "", "a").await;
    house.wait_for_gate(&first, "ok").await;
    let parent = house.run(&caller(""), json!({})).await;
    let child = child_of(&house, &parent).await;
    waits_for_place(&house, &child).await;
    house.approve(&first, "ok").await.ok();
    house.approve(&child, "ok").await.ok();
    house.wait_for(&parent, "completed").await;
    house.close().await;
}

async fn a_child_shares_the_place_of_its_parent(mode: Mode) {
    let house = House::open(mode).await;
    house.push(&gate("")).await;
    let parent = house.run(&caller(", concurrency: { group: gate-a }"), json!({})).await;
    let child = child_of(&house, &parent).await;
    house.approve(&child, "ok").await.ok();
    house.wait_for(&parent, "completed").await;
    assert_eq!(house.get_run(&child).await["concurrency"], json!(null));
    house.close().await;
}

async fn a_child_that_will_not_wait_fails(mode: Mode) {
    let house = House::open(mode).await;
    house.push(&gate(REJECT)).await;
    let first = start(&house, REJECT, "a").await;
    house.wait_for_gate(&first, "ok").await;
    let parent = house.run(&caller(""), json!({})).await;
    let child = child_of(&house, &parent).await;
    let failed = house.wait_for(&child, "failed").await;
    assert_eq!(failed["error"]["type"], "group.occupied", "{failed:#}");
    house.wait_for(&parent, "failed").await;
    house.approve(&first, "ok").await.ok();
    house.wait_for(&first, "completed").await;
    house.close().await;
}

async fn a_run_that_starts_later_asks_for_its_place_then(mode: Mode) {
    let house = House::open(mode).await;
    let later = id_of(&order(&house, "", "a", json!({"start_at": "2s"})).await.ok());
    let now = start(&house, "", "a").await;
    house.wait_for_gate(&now, "ok").await;
    house.wait_until(&later, "its place", |run| run["seq"].as_u64() >= Some(3)).await;
    waits_for_place(&house, &later).await;
    house.approve(&now, "ok").await.ok();
    house.approve(&later, "ok").await.ok();
    house.wait_for(&later, "completed").await;
    house.close().await;
}

async fn a_group_that_cannot_be_told_is_refused(mode: Mode) {
    let house = House::open(mode).await;
    let spec = definition::parse(&gate(""));
    let refused = house.post("/v1/workflow-runs", &json!({"spec": spec, "inputs": {}})).await;
    assert_eq!((refused.status, &refused.body["code"]), (422, &json!("no_group")), "{:#}", refused.body);
    let long = json!({"spec": spec, "inputs": {"of": "x".repeat(300)}});
    assert_eq!(house.post("/v1/workflow-runs", &long).await.body["code"], "no_group");
    let labels = "{ version: 1, name: g, type: steps, concurrency: { group: '${{ run.workflow }}-${{ run.labels.team }}' }, \
                  steps: [ { id: a, type: noop } ] }";
    let body = json!({"spec": definition::parse(labels), "labels": {"team": "docs"}});
    let run = id_of(&house.post("/v1/workflow-runs", &body).await.ok());
    assert_eq!(house.wait_for(&run, "completed").await["concurrency"]["group"], "g-docs");
    house.close().await;
}
