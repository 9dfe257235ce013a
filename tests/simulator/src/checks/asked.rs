//! Whether what people were told is true: each answer, each stream.

use scenarios::{Event, Log};
use windlass_model::{Actor, present};
use windlass_store::RunRow;

use crate::fleet::Fleet;
use crate::people::{Asking, People, Starting};
use crate::schedule::Asked;
use crate::whose::Whose;
use crate::world::api::Answer;

/// I5: what was accepted is in the log, once; what was refused is not; an accepted cancel cancels.
pub(super) fn told_what_is_true(fleet: &Fleet, people: &People, row: &RunRow, log: &Log) {
    let asks: Vec<Asking> =
        people.remember(|memory| memory.asks.iter().filter(|asking| asking.run == row.id).cloned().collect());
    for asking in asks {
        if let Err(complaint) = check(&asking, log) {
            fleet.world.complain(format!("I5: {} ({}): {complaint}", row.id, row.workflow));
        }
    }
}

fn check(asking: &Asking, log: &Log) -> Result<(), String> {
    let user = &asking.user;
    let by_them: Vec<&Event> =
        log.0.iter().filter(|event| event.body["actor"]["id"] == user.as_str()).collect();
    let together = by_them.windows(2).all(|pair| pair[0].seq + 1 == pair[1].seq);
    if !together {
        return Err(format!("what {user} asked once was done more than once: {}", list(&by_them)));
    }
    let Some(answer) = &asking.answer else { return Ok(()) };
    match answer.status {
        200 if asking.ask == Asked::ApproveStale => {
            return Err(format!("{user} approved another attempt than the one at the gate"));
        }
        200 => {
            let seq = answer.body["seq"].as_u64();
            if by_them.last().map(|event| event.seq) != seq {
                return Err(format!("{user} was promised event {seq:?}, and caused {}", list(&by_them)));
            }
        }
        // Another run tells of it, and this one only when that takes its place.
        201 if asking.ask == Asked::Rerun && by_them.is_empty() => return Ok(()),
        201 if asking.ask == Asked::Move && log.0.last().is_some_and(|end| end.is("run.canceled")) => {
            return Ok(());
        }
        400..500 if by_them.is_empty() => return Ok(()),
        400..500 => return Err(format!("{user} was refused, and caused {}", list(&by_them))),
        status => return Err(format!("{user} was answered {status}: {}", answer.body)),
    }
    let canceled = log.0.last().is_some_and(|event| event.is("run.canceled"));
    if asking.ask == Asked::Cancel && !canceled {
        return Err(format!(
            "{user} canceled the run, and it ended by {:?}",
            log.0.last().map(|it| &it.kind)
        ));
    }
    Ok(())
}

fn list(events: &[&Event]) -> String {
    events.iter().map(|event| format!("{event} at {}", event.seq)).collect::<Vec<_>>().join(", ")
}

/// I7: one key, one run, one answer.
pub(super) fn starts_made_one_run_each(fleet: &Fleet, people: &People) {
    let starts = people.remember(|memory| memory.starts.clone());
    for start in starts {
        let runs = fleet.runs_of(start.whose);
        let label = start.run.to_string();
        let made: Vec<String> = runs
            .iter()
            .filter(|row| row.labels.get("start") == Some(&label) && fleet.is_of_its_own(row))
            .map(|row| row.id.to_string())
            .collect();
        if made.len() > 1 {
            fleet.world.complain(format!("I7: start {} made {made:?}", start.run));
        }
        let is_refused = |answer: &Answer| answer.is_over_quota() && !answer.after_silence;
        let are_all_refused = start.answers.iter().all(|answer| answer.as_ref().is_some_and(is_refused));
        if are_all_refused && !made.is_empty() {
            fleet.world.complain(format!("I27: start {} was refused, and made {made:?}", start.run));
        }
        for answer in start.answers.iter().flatten() {
            let id = answer.body["id"].as_str().unwrap_or_default();
            if answer.is_over_quota() {
                continue;
            }
            if answer.code() == "rate_limited" {
                fleet.world.reach.hit("start_was_refused");
                continue;
            }
            if answer.status != 201 || made.iter().all(|run| run != id) {
                fleet
                    .world
                    .complain(format!("I7: start {} made {made:?}, the answer was {answer:?}", start.run));
            }
        }
    }
    for row in fleet.runs().iter().filter(|row| row.labels.contains_key("other")) {
        let whose = Whose::of(row.tenant);
        let unanswered = |start: &Starting| start.whose == whose && start.answers.iter().all(Option::is_none);
        let first_was_done = people.remember(|memory| memory.starts.iter().any(unanswered));
        if !first_was_done {
            fleet.world.complain(format!("I7: {} was made under a used key", row.id));
        }
    }
}

/// I5: who wanted a run to be gone on from has one other run of it, or none.
pub(super) fn runs_went_on_once(fleet: &Fleet, people: &People) {
    let asks = people.remember(|memory| memory.asks.clone());
    let author = |row: &RunRow| fleet.events(row.id).first().and_then(|created| created.actor.clone());
    let rows = fleet.runs().into_iter().filter(|row| row.parent.is_none());
    let authors: Vec<_> = rows.map(|row| (row.tenant, row.id.to_string(), author(&row))).collect();
    for asking in asks.iter().filter(|asking| matches!(asking.ask, Asked::Rerun | Asked::Move)) {
        let by_them = |actor: &Option<Actor>| actor.as_ref().is_some_and(|actor| actor.id() == asking.user);
        let theirs =
            authors.iter().filter(|(tenant, _, actor)| *tenant == asking.whose.tenant() && by_them(actor));
        let made: Vec<&str> = theirs.map(|(_, run, _)| run.as_str()).collect();
        let is_right = match &asking.answer {
            None => made.len() <= 1,
            Some(answer) if answer.status == 201 => made.len() == 1 && answer.body["run"]["id"] == *made[0],
            Some(_) => made.is_empty(),
        };
        if !is_right {
            fleet.world.complain(format!("I5: {asking:?} made {made:?}"));
        }
    }
}

/// I8: each event once, in order, as it is in the log, to the last one.
pub(super) fn watchers_saw_it_all(fleet: &Fleet, people: &People, row: &RunRow, log: &Log) {
    let watches = people.remember(|memory| {
        memory.watches.iter().filter(|watching| watching.run == row.id).cloned().collect::<Vec<_>>()
    });
    if watches.is_empty() {
        return;
    }
    let plan = &fleet.entry(row.version_id).plan;
    let events = fleet.events(row.id);
    let truth: Vec<String> =
        events.iter().map(|event| present::envelope(plan, row.id, event).to_string()).collect();
    for watching in watches {
        let seqs: Vec<u64> = watching.seen.iter().map(|(seq, _)| *seq).collect();
        let complaint = if seqs != (1..=seqs.len() as u64).collect::<Vec<_>>() {
            format!("a watcher saw {seqs:?}")
        } else if let Some(((seq, seen), truth)) =
            watching.seen.iter().zip(&truth).find(|((_, seen), truth)| seen != *truth)
        {
            format!("a watcher saw event {seq} as {seen}, the log has {truth}")
        } else if log.0.last().is_some_and(Event::is_terminal)
            && (seqs.len() != truth.len() || !watching.has_ended)
        {
            format!("a watcher saw {} of {} events, and waits for more", seqs.len(), truth.len())
        } else {
            continue;
        };
        fleet.world.complain(format!("I8: {} ({}): {complaint}", row.id, row.workflow));
    }
}
