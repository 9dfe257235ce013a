//! Histories with one thing wrong each: the checker must find every one of them.

use jiff::{SignedDuration, Timestamp};
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use super::{Record, violations};
use crate::definition;
use crate::sink::Effect;
use crate::{Event, Log};

const DEFINITION: &str = "
version: 1
name: planted
type: dag
nodes:
  a: { type: http, retry: { max_attempts: 3 } }
  b: { type: noop, needs: [a] }
  ask: { type: approval, needs: [b], approvers: { min: 2 } }
  pause: { type: wait, for: 5s, needs: [ask] }
";

/// One line per event: `type [node/attempt] [{…more}]`; a number before it is an epoch. One second apart.
const HEALTHY: &str = r#"
run.created {"actor": {"kind": "user", "id": "ada"}}
1 run.engine_taken
1 step.started a/1 {"idempotency_key": "r/a/1"}
1 step.failed a/1 {"then": {"do": "retry"}}
1 step.retry_scheduled a {"at": "1970-01-01T00:00:06Z"}
1 step.started a/2 {"idempotency_key": "r/a/2"}
2 run.engine_taken
2 step.lost a/2 {"retry": true}
2 step.started a/3 {"idempotency_key": "r/a/2"}
2 step.succeeded a/3
2 step.started b/1 {"idempotency_key": "r/b/1"}
2 step.succeeded b/1
2 approval.requested ask
approval.granted ask {"actor": {"kind": "user", "id": "bo"}}
approval.granted ask {"actor": {"kind": "user", "id": "cy"}}
3 run.engine_taken
3 step.succeeded ask/1
3 step.waiting pause {"until": "1970-01-01T00:00:19Z"}
3 timer.fired pause
3 step.succeeded pause/1
3 run.completed
"#;

fn event(index: usize, line: &str) -> Event {
    let (line, more) = line.split_once(" {").map_or((line, json!({})), |(head, tail)| {
        (head, serde_json::from_str(&format!("{{{tail}")).expect("the rest of a line is JSON"))
    });
    let mut words = line.split(' ').peekable();
    let epoch: Option<u64> = words.peek().and_then(|word| word.parse().ok());
    if epoch.is_some() {
        words.next();
    }
    let mut body = json!({"type": words.next(), "actor": {"kind": "system", "id": "engine"}, "epoch": epoch});
    if let Some((node, attempt)) = words.next().map(|word| word.split_once('/').unwrap_or((word, ""))) {
        body["node"] = node.into();
        body["attempt"] = attempt.parse::<u64>().map_or(Value::Null, Value::from);
    }
    for (key, value) in more.as_object().expect("it is an object") {
        body[key] = value.clone();
    }
    let seq = index as u64 + 1;
    Event::from_envelope(
        &json!({"type": "run.event", "seq": seq, "at": second(seq).to_string(), "event": body}),
    )
}

fn second(n: u64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(i64::try_from(n).expect("small"))
}

fn record(lines: &str) -> Record {
    record_of(
        DEFINITION,
        lines,
        [("r/a/1", 3), ("r/a/2", 6), ("r/a/2", 9)].map(|(key, at)| effect(key, at)).into(),
    )
}

fn record_of(definition: &str, lines: &str, effects: Vec<Effect>) -> Record {
    let events: Vec<Event> =
        lines.lines().filter(|line| !line.is_empty()).enumerate().map(|(i, line)| event(i, line)).collect();
    let ended_at = events.last().map(|event| event.at.to_string());
    let status = match events.last().map(|event| event.kind.as_str()) {
        Some("run.completed") => "completed",
        Some("run.failed") => "failed",
        Some("run.canceled") => "canceled",
        Some("run.cancel_requested") => "canceling",
        Some("compensation.planned") => "compensating",
        _ => "running",
    };
    Record::new(
        json!({"id": "r", "status": status, "ended_at": ended_at}),
        Log(events),
        Some(definition::parse(definition)),
        effects,
    )
}

fn effect(key: &str, at: u64) -> Effect {
    Effect {
        method: "PUT".into(),
        path: "/a".into(),
        key: key.into(),
        headers: HeaderMap::new(),
        body: Value::Null,
        at: second(at),
    }
}

/// The healthy history with one line changed (or removed, or followed by another).
fn spoilt(line: &str, instead: &str) -> Record {
    assert!(HEALTHY.contains(&format!("\n{line}\n")), "no such line: {line}");
    record(&HEALTHY.replacen(&format!("\n{line}\n"), &format!("\n{instead}\n"), 1))
}

#[track_caller]
fn finds(record: &Record, complaint: &str) {
    let found = violations(record);
    assert!(found.iter().any(|it| it.contains(complaint)), "expected `{complaint}`, found {found:#?}");
}

#[test]
fn a_healthy_history_has_no_violations() {
    assert_eq!(violations(&record(HEALTHY)), Vec::<String>::new());
}

#[test]
fn a_gap_in_the_log_is_found() {
    let Record { run, mut log, definition, effects, .. } = record(HEALTHY);
    log.0.remove(4);
    let record = Record::new(run, log, definition, effects);
    finds(&record, "event 6 stands where 5 must");
}

#[test]
fn a_second_end_and_events_after_the_end_are_found() {
    finds(&spoilt("3 run.completed", "3 run.completed\n3 run.failed"), "the run ended 2 times");
    finds(&spoilt("3 run.completed", "3 run.completed\n3 timer.fired pause"), "comes after the end");
}

#[test]
fn a_step_without_outcome_at_the_end_is_found() {
    finds(&spoilt("2 step.succeeded b/1", ""), "step.started b/1 at 11 has no outcome");
}

#[test]
fn a_row_that_differs_from_the_log_is_found() {
    let mut record = record(HEALTHY);
    record.run["status"] = "running".into();
    finds(&record, "the row says running after run.completed");
    record.run["status"] = "completed".into();
    record.run["ended_at"] = Value::Null;
    finds(&record, "the row ended at null");
}

#[test]
fn a_pause_that_the_row_forgot_is_found() {
    finds(&spoilt("3 run.completed", "3 run.paused"), "the log says paused");
}

#[test]
fn a_write_under_an_old_epoch_is_found() {
    finds(&spoilt("2 step.succeeded a/3", "1 step.succeeded a/3"), "was written in epoch 1, but 2 holds");
    finds(&spoilt("2 run.engine_taken", "1 run.engine_taken"), "epoch 1 at 7 follows 1");
}

#[test]
fn an_event_without_author_is_found() {
    finds(&spoilt("2 step.succeeded b/1", r#"2 step.succeeded b/1 {"actor": null}"#), "was caused by null");
}

#[test]
fn a_second_outcome_of_one_attempt_is_found() {
    finds(
        &spoilt("2 step.succeeded b/1", "2 step.succeeded b/1\n2 step.failed b/1"),
        "step.failed b/1 at 13",
    );
}

#[test]
fn an_attempt_that_begins_before_the_last_one_ended_is_found() {
    finds(&spoilt(r#"2 step.lost a/2 {"retry": true}"#, ""), "begins before attempt 2 has ended");
}

#[test]
fn a_step_before_its_need_is_found() {
    finds(&spoilt("2 step.succeeded a/3", ""), "needs a, of which there was step.lost a/2");
}

#[test]
fn a_start_after_the_cancel_and_a_cancel_that_completes_are_found() {
    let record = spoilt("2 step.succeeded a/3", "2 step.succeeded a/3\nrun.cancel_requested");
    finds(&record, "step.started b/1 at 12 after the cancel at 11");
    finds(&record, "a canceled run ended by run.completed");
}

#[test]
fn a_timer_and_a_retry_before_their_time_are_found() {
    let early_timer = r#"3 step.waiting pause {"until": "1970-01-01T00:00:20Z"}"#;
    finds(
        &spoilt(r#"3 step.waiting pause {"until": "1970-01-01T00:00:19Z"}"#, early_timer),
        "timer.fired pause",
    );
    let early_retry = r#"1 step.retry_scheduled a {"at": "1970-01-01T00:00:07Z"}"#;
    finds(&spoilt(r#"1 step.retry_scheduled a {"at": "1970-01-01T00:00:06Z"}"#, early_retry), "due at");
}

#[test]
fn a_step_before_the_start_of_its_run_is_found() {
    let created = r#"run.created {"actor": {"kind": "user", "id": "ada"}}"#;
    let later = r#"run.created {"actor": {"kind": "user", "id": "ada"}, "start_at": "1970-01-01T00:00:04Z"}"#;
    finds(&spoilt(created, later), "before the run starts");
}

#[test]
fn a_step_without_a_place_in_the_group_is_found() {
    let created = r#"run.created {"actor": {"kind": "user", "id": "ada"}}"#;
    let grouped = r#"run.created {"actor": {"kind": "user", "id": "ada"}, "group": {"name": "g"}}"#;
    finds(&spoilt(created, grouped), "without a place");
    finds(&spoilt(created, &format!("{created}\n1 run.place_taken")), "it has one, or needs none");
}

#[test]
fn an_unasked_repetition_of_a_lost_step_is_found() {
    let record = spoilt(r#"2 step.lost a/2 {"retry": true}"#, r#"2 step.lost a/2 {"retry": false}"#);
    finds(&record, "repeats what must not be repeated");
}

#[test]
fn a_repetition_of_an_unsafe_step_is_found() {
    let Record { run, log, definition, effects, .. } = record(HEALTHY);
    let mut definition = definition.expect("it is there");
    definition["nodes"]["a"]["retry_safe"] = false.into();
    finds(&Record::new(run, log, Some(definition), effects), "the definition calls that unsafe");
}

#[test]
fn a_repetition_after_too_many_deaths_is_found() {
    let lost = r#"2 step.lost a/2 {"retry": true}"#;
    let death = |n: u32| {
        format!(
            "{before} step.started a/{n} {{\"idempotency_key\": \"r/a/2\"}}\n\
             {n} run.engine_taken\n{n} step.lost a/{n} {{\"retry\": true}}",
            before = n - 1
        )
    };
    let deaths: Vec<String> = (3..=5).map(death).collect();
    finds(&spoilt(lost, &format!("{lost}\n{}", deaths.join("\n"))), "after 3 deaths in a row");
}

#[test]
fn a_wrong_idempotency_key_is_found() {
    let third = r#"2 step.started a/3 {"idempotency_key": "r/a/2"}"#;
    finds(&spoilt(third, r#"2 step.started a/3 {"idempotency_key": "r/a/3"}"#), "has the key r/a/3");
    let second = r#"1 step.started a/2 {"idempotency_key": "r/a/2"}"#;
    finds(&spoilt(second, r#"1 step.started a/2 {"idempotency_key": "r/a/1"}"#), "has the key r/a/1");
}

#[test]
fn an_effect_too_many_and_one_too_early_are_found() {
    let mut record = record(HEALTHY);
    record.effects.push(effect("r/a/1", 9));
    finds(&record, "effect 2 of key r/a/1");
    record.effects = vec![effect("r/a/1", 2)];
    finds(&record, "effect 1 of key r/a/1");
    record.effects = vec![effect("r/b/9", 20)];
    finds(&record, "effect 1 of key r/b/9");
}

#[test]
fn a_gate_that_opens_without_enough_people_is_found() {
    let second = r#"approval.granted ask {"actor": {"kind": "user", "id": "cy"}}"#;
    finds(&spoilt(second, ""), "went through its gate without consent");
    finds(
        &spoilt(second, r#"approval.granted ask {"actor": {"kind": "user", "id": "bo"}}"#),
        "bo answers twice",
    );
    finds(&spoilt("2 approval.requested ask", ""), "went through its gate without consent");
}

#[test]
fn an_answer_to_a_decided_gate_is_found() {
    let late =
        "3 step.succeeded ask/1\napproval.granted ask {\"actor\": {\"kind\": \"user\", \"id\": \"di\"}}";
    finds(&spoilt("3 step.succeeded ask/1", late), "came to a closed gate");
}

// ---- errors and undoing ----------------------------------------------------------------------------

const SAGA: &str = "
version: 1
name: saga
type: steps
steps:
  - { id: book, type: http, compensate: { type: http } }
  - { id: hold, type: http, compensate: { type: http } }
  - { id: pay, type: http, compensate: { type: http }, on_error: [{ match: ['*'], action: fail }] }
";

const UNDONE: &str = r#"
run.created {"actor": {"kind": "user", "id": "ada"}}
1 run.engine_taken
1 step.started book/1 {"idempotency_key": "r/book/1"}
1 step.succeeded book/1
1 step.started hold/1 {"idempotency_key": "r/hold/1"}
1 step.succeeded hold/1
1 step.started pay/1 {"idempotency_key": "r/pay/1"}
1 step.failed pay/1 {"then": {"do": "fail"}}
1 error.routed pay/1 {"rule": "/steps/2/on_error/0", "action": "fail"}
1 compensation.planned {"after": "failed", "order": "reverse", "steps": ["hold.compensate", "book.compensate"]}
1 compensation.started hold.compensate/1 {"idempotency_key": "r/hold.compensate/1"}
2 run.engine_taken
2 compensation.lost hold.compensate/1 {"retry": true}
2 compensation.started hold.compensate/2 {"idempotency_key": "r/hold.compensate/1"}
2 compensation.succeeded hold.compensate/2
2 compensation.started book.compensate/1 {"idempotency_key": "r/book.compensate/1"}
2 compensation.succeeded book.compensate/1
2 run.failed {"compensation": "succeeded"}
"#;

fn spoilt_saga(line: &str, instead: &str) -> Record {
    assert!(UNDONE.contains(&format!("\n{line}\n")), "no such line: {line}");
    record_of(SAGA, &UNDONE.replacen(&format!("\n{line}\n"), &format!("\n{instead}\n"), 1), Vec::new())
}

#[test]
fn a_saga_that_was_undone_has_no_violations() {
    assert_eq!(violations(&record_of(SAGA, UNDONE, Vec::new())), Vec::<String>::new());
}

#[test]
fn a_rule_that_decides_about_nothing_or_does_not_exist_is_found() {
    let routed = r#"1 error.routed pay/1 {"rule": "/steps/2/on_error/0", "action": "fail"}"#;
    let other = r#"1 error.routed pay/1 {"rule": "/steps/2/on_error/0", "action": "continue"}"#;
    finds(&spoilt_saga(routed, other), "says continue, but what failed before it does fail");
    let nowhere = r#"1 error.routed pay/1 {"rule": "/steps/2/on_error/7", "action": "fail"}"#;
    finds(&spoilt_saga(routed, nowhere), "which is not there");
    let failed = r#"1 step.failed pay/1 {"then": {"do": "fail"}}"#;
    finds(&spoilt_saga(failed, &format!("{failed}\n1 step.paused pay")), "does nothing");
}

#[test]
fn what_was_done_before_a_move_is_undone_in_the_same_turn() {
    let created = r#"{"actor": {"kind": "user", "id": "ada"}}"#;
    let taken_over = r#"{"actor": {"kind": "user", "id": "ada"}, "origin": {"run_id": "p", "because": "move", "acted": ["book", "hold"],
        "steps": {"book": {"status": "succeeded"}, "hold": {"status": "succeeded"}}}}"#;
    let own_deeds = |line: &&str| !["book/1", "hold/1"].iter().any(|step| line.contains(&format!(" {step}")));
    let log = UNDONE.replace(created, &taken_over.replace('\n', " "));
    let log = log.lines().filter(own_deeds).collect::<Vec<_>>().join("\n");
    assert_eq!(violations(&record_of(SAGA, &log, Vec::new())), Vec::<String>::new());
    let forward =
        log.replace(r#"["hold.compensate", "book.compensate"]"#, r#"["book.compensate", "hold.compensate"]"#);
    finds(&record_of(SAGA, &forward, Vec::new()), "what was done last comes first");
}

#[test]
fn an_undoing_out_of_turn_or_without_a_plan_is_found() {
    let planned = r#"1 compensation.planned {"after": "failed", "order": "reverse", "steps": ["hold.compensate", "book.compensate"]}"#;
    let forward =
        planned.replace(r#""hold.compensate", "book.compensate""#, r#""book.compensate", "hold.compensate""#);
    finds(&spoilt_saga(planned, &forward), "what was done last comes first");
    finds(&spoilt_saga(planned, &forward), "were begun, planned were");
    finds(&spoilt_saga(planned, ""), "although undoing was not planned before");
    let twice = format!("{planned}\n{planned}");
    finds(&spoilt_saga(planned, &twice), "planned twice");
    let again = format!(
        "{planned}\n1 step.started book/2 {{\"idempotency_key\": \"r/book/2\"}}\n1 step.succeeded book/2"
    );
    finds(&spoilt_saga(planned, &again), "step.started book/2 at 11, although undoing was planned");
}

#[test]
fn what_is_left_undone_and_what_is_undone_twice_is_found() {
    let planned = r#"1 compensation.planned {"after": "failed", "order": "reverse", "steps": ["hold.compensate", "book.compensate"]}"#;
    let short = planned.replace(r#", "book.compensate""#, "");
    finds(&spoilt_saga(planned, &short), "book.compensate is not planned");
    let done = "2 compensation.succeeded book.compensate/1";
    finds(&spoilt_saga(done, ""), "book.compensate was undone 0 times");
    finds(&spoilt_saga(done, &format!("{done}\n{done}")), "book.compensate was undone 2 times");
    finds(&spoilt_saga(done, "2 compensation.skipped book.compensate"), "undone 0 times and passed 0 times");
    let end = r#"2 run.failed {"compensation": "succeeded"}"#;
    finds(&spoilt_saga(end, "2 run.failed"), "says null, but the undoing was succeeded");
    finds(&spoilt_saga(end, r#"2 run.failed {"compensation": "incomplete"}"#), "says \"incomplete\"");
}

#[test]
fn an_undoing_of_what_did_nothing_is_found() {
    let planned = r#"1 compensation.planned {"after": "failed", "order": "reverse", "steps": ["hold.compensate", "book.compensate"]}"#;
    let lines = UNDONE.replace("1 step.succeeded hold/1\n", "1 step.skipped hold\n");
    assert!(lines.contains(planned));
    let never = lines.replace("1 step.started hold/1 {\"idempotency_key\": \"r/hold/1\"}\n", "");
    finds(&record_of(SAGA, &never, Vec::new()), "hold.compensate is planned, but hold did nothing");
}

const FAMILY: &str = r#"
run.created {"actor": {"kind": "user", "id": "ada"}}
1 run.engine_taken {"session": "s"}
1 step.started call/1 {"idempotency_key": "r/call/1"}
1 child.started call/1 {"run_id": "c1"}
1 child.finished call/1 {"run_id": "c1", "status": "failed"}
1 step.failed call/1 {"then": {"do": "retry"}}
1 step.retry_scheduled call {"at": "1970-01-01T00:00:07Z"}
1 step.started call/2 {"idempotency_key": "r/call/2"}
1 child.started call/2 {"run_id": "c2"}
1 child.finished call/2 {"run_id": "c2", "status": "completed"}
1 step.succeeded call/2
1 run.completed
"#;
const CALLER: &str = "{version: 1, name: f, type: steps, steps: [{id: call, type: workflow, workflow: c, retry: {max_attempts: 2}}]}";

fn family(lines: &str) -> Record {
    let child = |id: &str, status: &str| json!({"id": id, "parent_run_id": "r", "status": status});
    let children = vec![child("c2", "completed"), child("c1", "failed")];
    Record { children, ..record_of(CALLER, lines, Vec::new()) }
}

fn spoilt_family(line: &str, instead: &str) -> Record {
    assert!(FAMILY.contains(&format!("\n{line}\n")), "no such line: {line}");
    family(&FAMILY.replacen(&format!("\n{line}\n"), &format!("\n{instead}\n"), 1))
}

#[test]
fn children_that_are_lost_or_started_twice_are_found() {
    assert_eq!(violations(&family(FAMILY)), Vec::<String>::new());
    let started = r#"1 child.started call/2 {"run_id": "c2"}"#;
    finds(&spoilt_family(started, ""), "the log starts {\"c1\"}, and there are");
    finds(&spoilt_family(started, &format!("{started}\n{started}")), "starts c2 again");
    let other = r#"1 child.started call/2 {"run_id": "c3"}"#;
    finds(&spoilt_family(started, &format!("{started}\n{other}")), "the second child of its attempt");
    finds(&spoilt_family(started, &format!("{started}\n{other}")), "leaves children behind: [\"c3\"]");
    let mut foreign = family(FAMILY);
    foreign.children[0]["parent_run_id"] = "s".into();
    finds(&foreign, "has another parent");
}

#[test]
fn ends_of_children_that_are_missed_or_told_otherwise_are_found() {
    let finished = r#"1 child.finished call/2 {"run_id": "c2", "status": "completed"}"#;
    finds(&spoilt_family(finished, ""), "leaves children behind: [\"c2\"]");
    finds(&spoilt_family(finished, &format!("{finished}\n{finished}")), "which this step has not open");
    finds(&spoilt_family(finished, &finished.replace("completed", "canceled")), "c2 ended otherwise");
    let mut left = family(FAMILY);
    left.children[0]["status"] = "running".into();
    finds(&left, "run \"c2\" is \"running\" although its parent has ended");
}

const PATIENT: &str = "{version: 1, name: p, type: dag, nodes: {ask: {type: agent, agent: x, on_error: [\
    {match: [agent.*], action: wait_for_agent, timeout: 12s}, {match: ['*'], action: continue}]}}}";
/// Nine seconds after the first failure another look is due after nine eighths of one, and later after all that is left.
const WAITING: &str = r#"
run.created {"actor": {"kind": "user", "id": "ada"}}
1 run.engine_taken
1 step.started ask/1 {"idempotency_key": "r/ask/1"}
1 step.failed ask/1 {"then": {"do": "retry"}, "error": {"type": "agent.offline"}}
1 error.routed ask/1 {"rule": "/nodes/ask/on_error/0", "action": "wait_for_agent"}
1 step.retry_scheduled ask {"at": "1970-01-01T00:00:05Z"}
2 run.engine_taken
3 run.engine_taken
4 run.engine_taken
5 run.engine_taken
6 run.engine_taken
6 step.started ask/2 {"idempotency_key": "r/ask/2"}
6 step.failed ask/2 {"then": {"do": "retry"}, "error": {"type": "agent.offline"}}
6 error.routed ask/2 {"rule": "/nodes/ask/on_error/0", "action": "wait_for_agent"}
6 step.retry_scheduled ask {"at": "1970-01-01T00:00:14.125Z"}
6 step.started ask/3 {"idempotency_key": "r/ask/3"}
6 step.failed ask/3 {"then": {"do": "continue"}, "error": {"type": "agent.offline"}}
6 error.routed ask/3 {"rule": "/nodes/ask/on_error/1", "action": "continue"}
6 run.completed
"#;

#[test]
fn impatience_and_patience_without_end_are_found() {
    assert_eq!(violations(&record_of(PATIENT, WAITING, Vec::new())), Vec::<String>::new());
    let with = |before: &str, after: &str| {
        assert!(WAITING.contains(before), "no such text: {before}");
        record_of(PATIENT, &WAITING.replace(before, after), Vec::new())
    };
    finds(&with("00:14.125Z", "00:14Z"), "is tried again after Some(1s), away 9s, due 1s 125ms");
    let shorter = PATIENT.replace("12s", "9s");
    finds(&record_of(&shorter, WAITING, Vec::new()), "at 13 waits after 9s of 9s");
    let longer = PATIENT.replace("12s", "1h");
    finds(&record_of(&longer, WAITING, Vec::new()), "at 17 gives up after 13s of 1h");
    let other = with(
        "ask/2 {\"then\": {\"do\": \"retry\"}, \"error\": {\"type\": \"agent.offline\"}}",
        "ask/2 {\"then\": {\"do\": \"retry\"}, \"error\": {\"type\": \"http.503\"}}",
    );
    finds(&other, "gives up after 0s of 12s");
}
