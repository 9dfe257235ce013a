//! Facts about machines, one by one.

use serde_json::{Value, json};
use windlass_model::machine::Occurrence;
use windlass_model::{Payload, StepError};

use crate::drive::{World, compiled, emitted, plan};

/// An action that says `what`.
fn say(what: &str) -> Value {
    json!({ "emit": { "type": what } })
}

fn names(emitted: &[Value]) -> Vec<&str> {
    emitted.iter().map(|it| it[0].as_str().unwrap()).collect()
}

#[test]
fn states_are_left_from_the_inside_and_entered_from_the_outside_with_the_transition_between() {
    let plan = plan(&json!({
        "initial": "a",
        "states": {
            "a": { "initial": "x", "exit": say("exit a"), "states": { "x": { "exit": say("exit x"),
                "on": { "GO": { "target": "#b.y", "actions": say("go") } } } } },
            "b": { "initial": "y", "entry": say("enter b"), "states": { "y": { "entry": say("enter y") } } }
        }
    }));
    let (mut world, _) = World::start(&plan).unwrap();
    let reaction = world.send("GO", Value::Null).unwrap();
    assert_eq!(names(&emitted(&reaction)), ["exit x", "exit a", "go", "enter b", "enter y"]);
    assert_eq!(world.configuration(), ["", "b", "b.y"]);
}

#[test]
fn the_innermost_state_that_can_take_an_event_takes_it() {
    let plan = plan(&json!({
        "context": { "is_open": false },
        "initial": "a",
        "on": { "E": { "actions": say("machine") } },
        "states": { "a": { "on": { "E": { "guard": "context.is_open", "actions": say("a") } },
                           "entry": { "assign": { "is_open": true } }, "exit": [] } }
    }));
    let (mut world, _) = World::start(&plan).unwrap();
    assert_eq!(names(&emitted(&world.send("E", Value::Null).unwrap())), ["a"]);
    world.state.context = std::sync::Arc::new(json!({ "is_open": false }));
    assert_eq!(names(&emitted(&world.send("E", Value::Null).unwrap())), ["machine"]);
}

#[test]
fn of_two_regions_that_want_to_leave_the_same_state_the_first_in_the_document_wins() {
    let region = |name: &str| json!({ "initial": "in", "states": { "in": { "on": { "GO": { "target": format!("#{name}") } } } } });
    let plan = plan(&json!({
        "initial": "both",
        "states": { "both": { "type": "parallel", "states": { "one": region("first"), "two": region("second") } },
                    "first": {}, "second": { "on": { "BACK": "first" } } },
        "on": { "JUMP": "second" }
    }));
    let (mut world, _) = World::start(&plan).unwrap();
    world.send("GO", Value::Null).unwrap();
    assert_eq!(world.leaves(), ["first"]);
}

#[test]
fn always_is_taken_by_regions_in_document_order_whatever_the_order_of_entry() {
    let region = |name: &str| {
        json!({ "initial": "a", "states": {
            "a": { "on": { (name): "b" } },
            "b": { "always": { "guard": "context.both", "target": "c", "actions": say(name) } },
            "c": {}
        } })
    };
    let plan = plan(&json!({
        "context": { "both": false },
        "initial": "p",
        "on": { "NOW": { "actions": { "assign": { "both": true } } } },
        "states": { "p": { "type": "parallel", "states": { "one": region("ONE"), "two": region("TWO") } } }
    }));
    let (mut world, _) = World::start(&plan).unwrap();
    world.send("TWO", Value::Null).unwrap();
    world.send("ONE", Value::Null).unwrap();
    let reaction = world.send("NOW", Value::Null).unwrap();
    assert_eq!(names(&emitted(&reaction)), ["ONE", "TWO"]);
    assert_eq!(world.leaves(), ["p.one.c", "p.two.c"]);
}

#[test]
fn what_is_raised_is_taken_before_what_comes_from_outside_and_after_always() {
    let plan = plan(&json!({
        "initial": "a",
        "states": {
            "a": { "on": { "GO": { "target": "b", "actions": { "raise": "INNER" } } } },
            "b": { "always": { "target": "c", "actions": say("always") },
                   "on": { "INNER": { "actions": say("too early") } } },
            "c": { "on": { "INNER": { "target": "d", "actions": say("inner") } } },
            "d": {}
        }
    }));
    let (mut world, _) = World::start(&plan).unwrap();
    let reaction = world.send("GO", Value::Null).unwrap();
    assert_eq!((names(&emitted(&reaction)), world.leaves()), (vec!["always", "inner"], vec!["d"]));
}

#[test]
fn a_target_within_the_source_leaves_the_source_only_when_it_says_reenter() {
    let plan = plan(&json!({
        "initial": "a",
        "states": { "a": {
            "initial": "x", "entry": say("enter a"), "exit": say("exit a"),
            "on": { "IN": ".y", "AGAIN": { "target": ".y", "reenter": true }, "SELF": "a" },
            "states": { "x": {}, "y": {} }
        } }
    }));
    let (mut world, _) = World::start(&plan).unwrap();
    assert_eq!(names(&emitted(&world.send("IN", Value::Null).unwrap())), [""; 0]);
    assert_eq!(world.leaves(), ["a.y"]);
    assert_eq!(names(&emitted(&world.send("AGAIN", Value::Null).unwrap())), ["exit a", "enter a"]);
    assert_eq!(names(&emitted(&world.send("SELF", Value::Null).unwrap())), [""; 0]);
    assert_eq!(world.leaves(), ["a.x"], "its inside begins anew");
}

#[test]
fn shallow_history_remembers_the_child_and_deep_history_all_of_it() {
    for (depth, found) in [("shallow", "a.two.x"), ("deep", "a.two.y")] {
        let plan = plan(&json!({
            "initial": "a",
            "on": { "OUT": "b" },
            "states": {
                "a": { "initial": "one", "states": {
                    "one": { "on": { "NEXT": "#a.two.y" } },
                    "two": { "initial": "x", "states": { "x": {}, "y": {} } },
                    "back": { "type": "history", "history": depth }
                } },
                "b": { "on": { "BACK": "#a.back" } }
            }
        }));
        let (mut world, _) = World::start(&plan).unwrap();
        for event in ["NEXT", "OUT", "BACK"] {
            world.send(event, Value::Null).unwrap();
        }
        assert_eq!(world.leaves(), [found], "{depth}");
    }
}

#[test]
fn history_that_leads_to_where_one_is_enters_nothing_twice() {
    let plan = plan(&json!({
        "initial": "a",
        "states": {
            "a": { "entry": say("enter a"), "exit": say("exit a"), "on": { "BACK": "past" } },
            "past": { "type": "history" }
        }
    }));
    let (mut world, _) = World::start(&plan).unwrap();
    let reaction = world.send("BACK", Value::Null).unwrap();
    assert_eq!((names(&emitted(&reaction)), world.leaves()), (vec![], vec!["a"]));
}

#[test]
fn a_parallel_state_is_done_when_its_last_region_is_and_its_parent_hears_of_it() {
    let region = |event: &str| json!({ "initial": "open", "states": { "open": { "on": { (event): "over" } }, "over": { "type": "final" } } });
    let plan = plan(&json!({
        "initial": "review",
        "states": {
            "review": { "type": "parallel", "on_done": "end",
                        "states": { "legal": region("LEGAL"), "finance": region("FINANCE") } },
            "end": { "type": "final", "output": { "charge": 7 } }
        }
    }));
    let (mut world, _) = World::start(&plan).unwrap();
    world.send("FINANCE", Value::Null).unwrap();
    assert!(!world.state.is_done);
    world.send("LEGAL", Value::Null).unwrap();
    assert_eq!(
        (world.state.is_done, world.state.output.clone()),
        (true, Payload::from(json!({ "charge": 7 })))
    );
    let after = world.send("LEGAL", Value::Null).unwrap();
    assert!(after.transitions.is_empty(), "an ended machine takes nothing");
}

#[test]
fn a_timer_is_set_on_entry_canceled_on_exit_and_not_at_all_for_a_state_that_was_only_passed() {
    let plan = plan(&json!({
        "initial": "a",
        "states": {
            "a": { "after": { "5s": "c" }, "on": { "GO": "b" } },
            "b": { "after": { "6s": "c" }, "always": "c" },
            "c": { "after": { "7s": { "actions": say("seven") } } }
        }
    }));
    let (mut world, _) = World::start(&plan).unwrap();
    let reaction = world.send("GO", Value::Null).unwrap();
    let delay = |timer: &_| plan.machine.as_ref().unwrap().timer(*timer).delay.as_secs();
    assert_eq!(reaction.canceled_timers.iter().map(delay).collect::<Vec<_>>(), [5]);
    assert_eq!(reaction.set_timers.iter().map(delay).collect::<Vec<_>>(), [7]);
    assert_eq!(names(&emitted(&world.fire_next().unwrap())), ["seven"]);
}

#[test]
fn an_invocation_runs_while_its_state_is_active_and_its_error_finds_the_first_rule_that_matches() {
    let plan = plan(&json!({
        "context": { "tries": 0, "charge": null },
        "initial": "charging",
        "states": {
            "charging": {
                "entry": { "assign": { "tries": "${{ context.tries + 1 }}" } },
                "invoke": { "type": "noop",
                    "on_done": { "target": "paid", "actions": { "assign": { "charge": "${{ output.id }}" } } },
                    "on_error": [
                        { "match": ["timeout", "http.5xx"], "guard": "${{ context.tries < 3 }}", "target": "backoff" },
                        { "target": "canceled" } ] }
            },
            "backoff": { "after": { "20s": "charging" } },
            "paid": { "type": "final", "output": { "charge": "${{ context.charge }}" } },
            "canceled": { "type": "final" }
        }
    }));
    let node = plan.by_id["charging"];
    let (mut world, reaction) = World::start(&plan).unwrap();
    assert_eq!(reaction.started, [node]);
    let failed = |kind| Occurrence::InvocationFailed { node, error: StepError::new(kind, "it broke") };
    let reaction = world.happens(&failed("http.503")).unwrap();
    assert_eq!((world.leaves(), reaction.stopped), (vec!["backoff"], vec![node]));
    assert!(world.happens(&failed("http.503")).unwrap().transitions.is_empty(), "its state is not active");
    world.fire_next().unwrap();
    assert!(world.invoked.contains(&node));
    world.happens(&Occurrence::InvocationDone { node, output: json!({ "id": "ch_1" }) }).unwrap();
    assert_eq!(world.state.output, Payload::from(json!({ "charge": "ch_1" })));
}

#[test]
fn a_machine_that_does_not_come_to_rest_is_stopped_by_a_named_limit() {
    let plan = plan(&json!({
        "context": { "n": 0 },
        "initial": "a",
        "states": {
            "a": { "always": { "guard": "${{ context.n >= 0 }}", "target": "b" } },
            "b": { "always": { "guard": "${{ context.n >= 0 }}", "target": "a" } }
        }
    }));
    let Err(error) = World::start(&plan) else { panic!("it came to rest") };
    assert_eq!(error.kind, "limit.microsteps");
}

#[test]
fn a_machine_remembers_no_more_than_an_event_holds() {
    let plan = plan(&json!({
        "context": { "text": "0123456789abcdef" },
        "initial": "a",
        "states": { "a": { "on": {
            "MORE": { "actions": { "assign": { "text": "${{ context.text ~ context.text }}" } } } } } }
    }));
    let (mut world, _) = World::start(&plan).unwrap();
    let error = (0..20).find_map(|_| world.send("MORE", Value::Null).err()).expect("there is a limit");
    assert_eq!(error.kind, "limit.context");
    assert!(world.state.context["text"].as_str().unwrap().len() <= 65_536, "what failed has not happened");
}

#[test]
fn always_that_changes_nothing_is_taken_once() {
    let plan = plan(&json!({
        "initial": "a",
        "states": { "a": { "always": { "actions": say("here") } } }
    }));
    let (mut world, reaction) = World::start(&plan).unwrap();
    assert_eq!(names(&emitted(&reaction)), ["here"]);
    assert_eq!(
        names(&emitted(&world.send("X", Value::Null).unwrap())),
        ["here"],
        "and looked at with each event"
    );
}

#[test]
fn a_machine_beyond_all_bounds_is_refused_at_once_and_the_widest_allowed_one_works() {
    let wide = |count: usize| {
        let states = (0..count)
            .map(|at| (format!("s{at}"), json!({ "always": { "guard": "context.no", "target": "#end" } })));
        json!({
            "context": { "no": false },
            "initial": "p",
            "on": { "GO": "end" },
            "states": { "p": { "type": "parallel", "states": states.collect::<serde_json::Map<_, _>>() }, "end": {} }
        })
    };
    let problems = compiled(&wide(30_000)).unwrap_err();
    assert_eq!(problems.iter().map(|it| it.code).collect::<Vec<_>>(), ["too_many_states"]);
    let plan = plan(&wide(997));
    let (mut world, _) = World::start(&plan).unwrap();
    world.send("GO", Value::Null).unwrap();
    assert_eq!(world.leaves(), ["end"]);
}
