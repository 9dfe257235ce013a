//! Runs that go on from others: what they have from there, and what they leave; and what people set by hand.

use std::collections::{BTreeMap, BTreeSet};

use scenarios::Log;
use windlass_model::event::{Origin, OriginReason};
use windlass_model::plan::Part;
use windlass_model::{Event, EventBody, NodeIndex, Payload, Plan, StepStatus};
use windlass_store::RunRow;

use crate::fleet::Fleet;
use crate::people::{Asking, People};
use crate::schedule::Asked;

/// I34: a run that goes on has what has ended well in the one before, and nothing that is to be done again.
pub(super) fn has_what_was_before(fleet: &Fleet, people: &People, row: &RunRow, log: &Log) {
    let Some(created) = fleet.events(row.id).into_iter().next() else { return };
    let EventBody::RunCreated(body) = created.body else { return };
    let Some(origin) = body.origin else { return };
    let complain = |what: String| fleet.world.complain(format!("I34: {} ({}) {what}", row.id, row.workflow));
    let Some(old) = fleet.entry_of(origin.run_id) else {
        return complain(format!("goes on from {}, which is nowhere", origin.run_id));
    };
    let author = created.actor.as_ref().map(|actor| actor.id().to_owned()).unwrap_or_default();
    let asked = people.remember(|memory| {
        let mut asks = memory.asks.iter().filter(|it| it.user == author && it.whose.tenant() == row.tenant);
        asks.next_back().cloned()
    });
    let plan = &fleet.entry(row.version_id).plan;
    let (before, after): (Vec<Event>, Vec<Event>) =
        fleet.events(origin.run_id).into_iter().partition(|event| event.seq <= origin.seq);
    let ended = ended_well(&old.plan, &before);
    for complaint in wrongly_reused(plan, &old.plan, &origin, &ended, asked.as_ref()) {
        complain(complaint);
    }
    for event in log.0.iter().filter(|event| event.is("step.started")) {
        let node = event.node.as_deref().unwrap_or_default();
        let had = origin.steps.get(node).is_some_and(|step| step.status == StepStatus::Succeeded);
        if had {
            complain(format!("does {node} again, which it has from {}", origin.run_id));
        }
    }
    if origin.because == OriginReason::Move {
        // What was looked at has its end in it already.
        let end = before.last().map(|event| &event.body);
        let is_told = matches!(end, Some(EventBody::RunCanceled(body)) if body.moved_to == Some(row.id));
        if !is_told || !after.is_empty() {
            complain(format!("took the place of {}, which went on by {end:?}", origin.run_id));
        }
        let answers_for: BTreeSet<&str> = origin.acted.iter().map(String::as_str).collect();
        let acted = deeds(&old.plan, &before);
        if let Some(forgotten) = acted.iter().find(|node| !answers_for.contains(node.as_str())) {
            complain(format!("will not undo {forgotten}, which {} did", origin.run_id));
        }
    }
    fleet.world.reach.hit(if origin.steps.is_empty() { "nothing_was_reused" } else { "step_was_reused" });
}

/// How steps had ended when somebody looked: what they gave, if they have succeeded.
type Ended = BTreeMap<String, Option<Payload>>;

fn ended_well(plan: &Plan, log: &[Event]) -> Ended {
    let mut ended = Ended::new();
    for event in log {
        if let EventBody::RunCreated(body) = &event.body {
            let steps = body.origin.iter().flat_map(|origin| &origin.steps);
            ended.extend(steps.map(|(id, step)| {
                (id.clone(), (step.status == StepStatus::Succeeded).then(|| step.output.clone()))
            }));
        }
        let part = event.node.map(|node| plan.node(node).part);
        if let (Some(Part::Compensation { of }), EventBody::StepStarted(_)) = (part, &event.body) {
            // Whatever comes of that, what was done is not there any more, or may not be.
            ended.remove(&plan.node(plan.written_at(of)).id);
        }
        let Some(node) = event.node.filter(|_| event.item.is_none()) else { continue };
        let id = plan.node(node).id.clone();
        match &event.body {
            EventBody::StepSucceeded(body) => {
                ended.insert(id, Some(body.output.clone()));
            }
            EventBody::StepEdited(body) => {
                ended.insert(id, Some(body.output.clone()));
            }
            EventBody::StepStarted(_) => {
                ended.remove(&id);
            }
            _ => {
                ended.entry(id).or_insert(None);
            }
        }
    }
    ended
}

/// What somebody asked to be done again, and what needs it.
fn asked_for_again(plan: &Plan, asked: Option<&Asking>) -> Option<BTreeSet<NodeIndex>> {
    let asked = asked.filter(|asked| asked.ask == Asked::Rerun)?;
    let from = plan.find(asked.body["from"].as_str()?)?.index;
    let mut again = BTreeSet::from([from]);
    let mut open = vec![from];
    while let Some(node) = open.pop() {
        let more = plan.node(node).dependents.iter().filter(|next| again.insert(**next));
        open.extend(more.copied().collect::<Vec<_>>());
    }
    Some(again)
}

fn wrongly_reused(
    plan: &Plan,
    old: &Plan,
    origin: &Origin,
    ended: &Ended,
    asked: Option<&Asking>,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let again = asked_for_again(plan, asked);
    if origin.because == OriginReason::Rerun && again.is_none() {
        if !origin.steps.is_empty() {
            wrong.push(format!("shall do everything, and has {:?}", origin.steps.keys()));
        }
        return wrong;
    }
    let again = again.unwrap_or_default();
    for node in &plan.nodes[..plan.main_count()] {
        let id = &node.id;
        let is_again = again.contains(&node.index);
        let needs_are_there =
            node.needs.iter().all(|need| origin.steps.contains_key(&plan.node(need.node).id));
        let was = ended.get(id);
        match origin.steps.get(id) {
            Some(_) if is_again => wrong.push(format!("has {id}, which was to be done again")),
            Some(_) if !needs_are_there => {
                wrong.push(format!("has {id}, although something that it needs is done again"));
            }
            Some(step) => match (step.status, was) {
                (StepStatus::Succeeded, Some(Some(output))) if *output != step.output => {
                    wrong.push(format!("has {:?} from {id}, which gave {output:?}", step.output));
                }
                (_, None) => wrong.push(format!("has {id}, which had not ended")),
                _ => {}
            },
            None => {
                let is_same = old.find(id).is_some_and(|old| old.part == Part::Main && old.kind == node.kind);
                if is_same && needs_are_there && !is_again && matches!(was, Some(Some(_))) {
                    wrong.push(format!("does {id} again, which had succeeded"));
                }
            }
        }
    }
    wrong
}

/// Steps that have done what can be undone.
fn deeds(plan: &Plan, log: &[Event]) -> BTreeSet<String> {
    let mut deeds = BTreeSet::new();
    for event in log {
        if let EventBody::RunCreated(body) = &event.body {
            deeds.extend(body.origin.iter().flat_map(|origin| origin.acted.iter().cloned()));
        }
        let Some(node) = event.node.filter(|_| event.item.is_none()).map(|node| plan.node(node)) else {
            continue;
        };
        let has_undoing = node.part == Part::Main && node.compensation.is_some();
        if has_undoing && matches!(event.body, EventBody::StepSucceeded(_)) {
            deeds.insert(node.id.clone());
        }
    }
    deeds
}

/// I34: what a person has set is what the step came to.
pub(super) fn edits_hold(fleet: &Fleet, row: &RunRow) {
    let Some(state) = fleet.fold(row.id) else { return };
    let plan = &fleet.entry(row.version_id).plan;
    let mut last: BTreeMap<NodeIndex, EventBody> = BTreeMap::new();
    for event in fleet.events(row.id) {
        if let Some(node) = event.node.filter(|_| event.item.is_none()) {
            last.insert(node, event.body);
        }
    }
    for (node, body) in last {
        let EventBody::StepEdited(edited) = body else { continue };
        fleet.world.reach.hit("edit_was_the_last_word");
        let output = &state.step(node).output;
        if output.value() != edited.output.value() {
            fleet.world.complain(format!(
                "I34: {} of {} ({}) was set to {:?}, and came to {output:?}",
                plan.node(node).id,
                row.id,
                row.workflow,
                edited.output
            ));
        }
    }
}
