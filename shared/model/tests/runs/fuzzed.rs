//! Logs that went a little wrong: a fold says so, and never breaks down.

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;
use windlass_model::{
    Actor, ChildEnd, Epoch, Event, EventBody, EventSeq, NodeIndex, Payload, Plan, RunId, RunState, Timestamp,
};

use crate::common::{Run, plan};
use crate::fuzz::Fuzz;

const WORDS: &[&str] = &[
    "null",
    "{}",
    "[]",
    "true",
    "\"node\":0",
    "\"node\":9",
    "\"item\":0",
    "\"item\":3",
    "\"attempt\":2",
    "\"code\":2",
    "\"code\":7",
    "\"code\":21",
    "\"code\":22",
    "\"code\":26",
    "\"code\":27",
    "\"code\":30",
    "\"code\":34",
    "\"code\":40",
    "\"code\":50",
    "\"code\":55",
    "\"code\":56",
    "\"do\":\"fallback\"",
    "\"do\":\"retry\"",
    "\"do\":\"escalate\"",
    "\"invoked\":[9]",
    "\"configuration\":[40]",
    "\"timers\":[]",
    "\"count\":4",
    "\"run_id\":\"00000000-0000-0000-0000-0000000003e9\"",
];

/// Everything that can happen, in few steps.
const ALL: &str = "{ version: 1, name: all, type: dag, compensation: {}, nodes: { \
     a: { type: noop, compensate: { type: noop } }, \
     each: { type: map, needs: [a], each: [1, 2, 3], do: { type: work, on_error: [{ match: ['*'], action: fallback, do: { type: noop } }] } }, \
     ask: { type: approval, needs: [a] }, nap: { type: wait, needs: [a], for: 5s }, hear: { type: signal, needs: [ask], name: it }, \
     call: { type: workflow, workflow: other, needs: [nap] }, b: { type: work, needs: [each, call], on_error: pause } } }";
const MACHINE: &str = "{ version: 1, name: m, type: machine, initial: idle, context: { n: 0 }, events: { flip: {} }, states: { \
     idle: { on: { flip: { target: busy, actions: { assign: { n: '${{ context.n + 1 }}' } } } } }, \
     busy: { invoke: { type: work }, after: { 5s: idle }, on: { flip: { target: done } } }, done: { type: final } } }";

fn in_words(event: &Event) -> String {
    let data: Value = serde_json::from_str(&event.body.data()).expect("an object");
    json!({
        "at": event.at.0, "code": event.body.code(), "node": event.node.map(|it| it.0), "item": event.item,
        "attempt": event.attempt, "epoch": event.epoch.map(|it| it.0), "data": data,
    })
    .to_string()
}

/// A line that cannot be read is left out: seqs are given anew, so that what follows is reached.
fn read(line: &str, seq: u32) -> Option<Event> {
    let value: Value = serde_json::from_str(line).ok()?;
    let number = |name: &str| value.get(name).and_then(Value::as_u64);
    let code = i16::try_from(number("code")?).ok()?;
    Some(Event {
        seq: EventSeq(seq),
        at: Timestamp(value.get("at").and_then(Value::as_i64).unwrap_or_default()),
        node: number("node").and_then(|it| u16::try_from(it).ok()).map(NodeIndex),
        item: number("item").and_then(|it| u32::try_from(it).ok()),
        attempt: number("attempt").and_then(|it| u16::try_from(it).ok()),
        epoch: number("epoch").and_then(|it| u32::try_from(it).ok()).map(Epoch),
        actor: Some(Actor::user("ada")),
        body: EventBody::from_stored(code, &value.get("data")?.to_string()).ok()?,
    })
}

fn text_of(run: &Run<'_>) -> Vec<u8> {
    run.log.iter().map(in_words).collect::<Vec<_>>().join("\n").into_bytes()
}

fn life_of_all(plan: &Plan) -> Vec<u8> {
    let mut run = Run::new(plan);
    run.take();
    run.succeed("a");
    run.pass(Duration::from_secs(6));
    for item in ["each.do[0]", "each.do[1]", "each.do[2]"] {
        if run.in_flight().iter().any(|it| it == item) {
            run.succeed(item);
        }
    }
    if run.in_flight().iter().any(|it| it == "call") {
        run.succeed("call");
        let child = run.child_of("call");
        run.child_ends(child, ChildEnd::Completed(Payload::from(json!(1))));
    }
    text_of(&run)
}

fn life_of_machine(plan: &Plan) -> Vec<u8> {
    let mut run = Run::new(plan);
    run.take();
    let flip = || windlass_model::Command::Signal { name: "flip".into(), payload: Payload::null() };
    run.command(flip()).expect("it can be flipped");
    run.pass(Duration::from_secs(1));
    run.pass(Duration::from_secs(6));
    run.command(flip()).expect("again");
    run.pass(Duration::from_secs(1));
    text_of(&run)
}

#[test]
fn a_log_that_went_wrong_is_refused_or_folded() {
    let plans = [plan(ALL), plan(MACHINE)];
    let seeds = [life_of_all(&plans[0]), life_of_machine(&plans[1])];
    Fuzz::new("logs", seeds, WORDS).play(|input| {
        let text = String::from_utf8_lossy(input);
        for plan in &plans {
            let events = text.lines().scan(1, |seq, line| {
                let event = read(line, *seq);
                *seq += u32::from(event.is_some());
                Some(event)
            });
            let log: Vec<Event> = events.flatten().collect();
            let Ok(state) = RunState::fold(plan, RunId(Uuid::from_u128(7)), None, &log) else { continue };
            // Everything that lists, the sweep and a doctor ask of it.
            let _ = (state.status(true), state.wake_at(), state.pause_reason(), state.size());
            let _ = windlass_model::present::machine::machine_view(plan, &state);
            let kept = serde_json::to_string(&state).expect("a fold is plain data");
            assert_eq!(serde_json::from_str::<RunState>(&kept).expect("and is read back"), state);
        }
    });
}
