//! Pause, resume, retry, skip: what people do to runs.

use futures::future::join_all;
use scenarios::{House, Mode, Sink, in_every_mode};
use serde_json::json;

in_every_mode!(
    a_paused_run_lets_its_step_end_and_starts_nothing_new,
    of_two_resumes_exactly_one_is_accepted,
    of_many_different_commands_at_once_every_accepted_one_is_in_the_log,
    a_run_that_has_ended_refuses_every_command,
    commands_that_do_not_fit_are_refused_and_change_nothing,
    a_pending_step_may_be_skipped_ahead,
    commands_on_what_does_not_exist_are_not_found,
    a_run_explains_what_it_waits_for,
);

const CALLS: &str = r#"
version: 1
name: calls
type: steps
steps:
  - { id: first, type: http, with: { method: POST, url: "${{ inputs.sink }}/first" } }
  - { id: second, type: http, with: { method: POST, url: "${{ inputs.sink }}/second" } }
"#;

async fn a_paused_run_lets_its_step_end_and_starts_nothing_new(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    sink.is_slow("/first", std::time::Duration::from_millis(1_500));
    let run = house.run(CALLS, json!({"sink": sink.url()})).await;
    sink.wait_for("/first", 1).await;

    house.pause(&run).await.ok();

    house.wait_for_pause(&run, "requested").await;
    house.wait_for_step(&run, "first", "succeeded").await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(sink.at("/second").len(), 0);
    house.resume(&run).await.ok();
    house.wait_for(&run, "completed").await;
    assert_eq!((sink.at("/first").len(), sink.at("/second").len()), (1, 1));
    house.close_with(&[&sink]).await;
}

async fn of_two_resumes_exactly_one_is_accepted(mode: Mode) {
    let house = House::open(mode).await;
    let yaml = "{ version: 1, name: gate, type: steps, steps: [ { id: ok, type: approval } ] }";
    let run = house.run(yaml, json!({})).await;
    house.wait_for_gate(&run, "ok").await;
    for round in 0..25 {
        house.pause(&run).await.ok();
        let answers = join_all((0..2).map(|_| house.resume(&run))).await;
        let accepted = answers.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!(accepted, 1, "round {round}: {answers:?}");
        for refused in answers.into_iter().filter(|answer| !answer.is_ok()) {
            refused.refused(409, "wrong_state");
        }
    }
    let log = house.events(&run).await;
    assert_eq!((log.count("run.paused"), log.count("run.resumed")), (25, 25));
    house.approve(&run, "ok").await.ok();
    house.wait_for(&run, "completed").await;
    house.close().await;
}

async fn of_many_different_commands_at_once_every_accepted_one_is_in_the_log(mode: Mode) {
    let house = House::open(mode).await;
    let yaml = "{ version: 1, name: busy, type: steps, steps: [ \
                { id: hear, type: signal, name: n }, { id: again, type: signal, name: n }, { id: ok, type: approval } ] }";
    let run = house.run(yaml, json!({})).await;
    house.wait_for_step(&run, "hear", "waiting").await;
    let answers = join_all((0..40).map(|n| {
        let (house, run) = (house.client(), run.clone());
        async move {
            match n % 4 {
                0 => ("run.paused", house.pause(&run).await),
                1 => ("run.resumed", house.resume(&run).await),
                _ => ("signal.received", house.signal(&run, "n", &json!(n)).await),
            }
        }
    }))
    .await;
    let log = house.events(&run).await;
    for kind in ["run.paused", "run.resumed", "signal.received"] {
        let accepted = answers.iter().filter(|(it, answer)| *it == kind && answer.is_ok()).count();
        assert_eq!(log.count(kind), accepted, "{kind}\n{log}");
    }
    assert!(answers.iter().all(|(_, answer)| answer.status < 500), "{answers:?}");
    house.cancel(&run).await.ok();
    house.wait_for(&run, "canceled").await;
    house.close().await;
}

async fn a_run_that_has_ended_refuses_every_command(mode: Mode) {
    let house = House::open(mode).await;
    let yaml = "{ version: 1, name: over, type: steps, steps: [ { id: a, type: noop }, { id: ok, type: approval } ] }";
    let completed = house.run(yaml, json!({})).await;
    house.approve(&completed, "ok").await.ok();
    house.wait_for(&completed, "completed").await;
    let canceled = house.run(yaml, json!({})).await;
    house.cancel(&canceled).await.ok();
    house.wait_for(&canceled, "canceled").await;
    for (run, status) in [(&completed, "completed"), (&canceled, "canceled")] {
        let before = house.events(run).await.0.len();
        let answers = [
            house.pause(run).await,
            house.resume(run).await,
            house.cancel(run).await,
            house.retry(run, "a").await,
            house.skip(run, "a").await,
            house.command(run, "approve", &json!({"node": "a", "attempt": 1})).await,
            house.command(run, "reject", &json!({"node": "a", "attempt": 1})).await,
            house.signal(run, "s", &json!(1)).await,
        ];
        for answer in answers {
            let problem = answer.refused(409, "run_terminal");
            assert_eq!(problem["run_status"], status);
        }
        assert_eq!(house.events(run).await.0.len(), before);
    }
    house.close().await;
}

async fn commands_that_do_not_fit_are_refused_and_change_nothing(mode: Mode) {
    let house = House::open(mode).await;
    let yaml = "{ version: 1, name: still, type: steps, steps: [ { id: a, type: noop }, { id: ok, type: approval } ] }";
    let run = house.run(yaml, json!({})).await;
    house.wait_for_gate(&run, "ok").await;
    house.wait_for(&run, "waiting").await;
    let before = house.events(&run).await.0.len();

    house.resume(&run).await.refused(409, "wrong_state");
    house.retry(&run, "a").await.refused(409, "wrong_step_state");
    house.skip(&run, "a").await.refused(409, "wrong_step_state");
    house.command(&run, "retry", &json!({})).await.refused(409, "wrong_state");
    assert_eq!(house.events(&run).await.0.len(), before);

    house.pause(&run).await.ok();
    house.pause(&run).await.refused(409, "wrong_state");
    house.cancel(&run).await.ok();
    house.wait_for(&run, "canceled").await;
    house.close().await;
}

async fn a_pending_step_may_be_skipped_ahead(mode: Mode) {
    let house = House::open(mode).await;
    let yaml = "{ version: 1, name: ahead, type: steps, steps: [ \
                { id: ok, type: approval }, { id: deed, type: http, with: { url: 'http://127.0.0.1:1/' } } ] }";
    let run = house.run(yaml, json!({})).await;
    house.wait_for_gate(&run, "ok").await;

    house.skip(&run, "deed").await.ok();
    house.approve(&run, "ok").await.ok();

    house.wait_for(&run, "completed").await;
    assert!(!house.events(&run).await.has("step.started", "deed"));
    house.close().await;
}

async fn commands_on_what_does_not_exist_are_not_found(mode: Mode) {
    let house = House::open(mode).await;
    let nobody = "01890000-0000-7000-8000-000000000000";
    for verb in ["pause", "resume", "cancel", "retry"] {
        house.command(nobody, verb, &json!({})).await.refused(404, "not_found");
    }
    house.signal(nobody, "s", &json!(1)).await.refused(404, "not_found");
    house.get(&format!("/v1/workflow-runs/{nobody}")).await.refused(404, "not_found");
    house.get(&format!("/v1/workflow-runs/{nobody}/events")).await.refused(404, "not_found");
    house.close().await;
}

async fn a_run_explains_what_it_waits_for(mode: Mode) {
    let house = House::open(mode).await;
    let yaml = "{ version: 1, name: why, type: steps, steps: [ { id: ok, type: approval, timeout: 2h } ] }";
    let run = house.run(yaml, json!({})).await;
    house.wait_for_gate(&run, "ok").await;
    let text = house.get(&format!("/v1/workflow-runs/{run}/explain")).await.ok().to_string();
    assert!(text.contains("ok") && text.contains("approv"), "{text}");
    house.cancel(&run).await.ok();
    house.close().await;
}
