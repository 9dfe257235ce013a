//! One look at one run: its row, fold, gates, content, children and parent against its log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use anyhow::Result;
use windlass_model::payload::Digest;
use windlass_model::{Event, EventSeq, Payload, Plan, RunId, RunState, TenantId, VersionId};
use windlass_store::{ApprovalFilter, Damage, PlanError, Plans, RunRow, Store, StoreError};

use super::compare::compare;
use crate::embedded;

/// Rows read at once.
const PAGE: u32 = 500;

pub(super) struct Looker {
    store: Arc<dyn Store>,
    plans: Plans,
    /// What is wrong with each definition that was read.
    definitions: Mutex<BTreeMap<VersionId, Option<String>>>,
}

/// What one look has shown.
pub(super) struct Look {
    pub findings: Vec<Damage>,
    pub events: u64,
    /// The run as its log says; none when the log does not say anything.
    pub whole: Option<Whole>,
}

/// A run whose log can be folded to its end.
pub(super) struct Whole {
    pub row: RunRow,
    pub plan: Arc<Plan>,
    pub log: Vec<Event>,
    pub state: RunState,
    /// Children whose end wakes this run no more, and should.
    pub untold: Vec<RunId>,
}

impl Whole {
    /// A row that says that its run has ended is not opened again: that needs somebody who knows why it says so.
    pub(super) fn can_be_rebuilt(&self) -> bool {
        !self.row.status.is_terminal() || self.row.status == self.state.status(false)
    }
}

impl Looker {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        let plans = Plans::new(store.clone(), Arc::new(embedded::catalog()));
        Self { store, plans, definitions: Mutex::default() }
    }

    pub(super) async fn look_at(&self, tenant: TenantId, run_id: RunId) -> Result<Look> {
        let found = |kind: &str, detail: String, events: usize| {
            let findings = vec![Damage::new(kind, run_id, detail)];
            Ok(Look { findings, events: events as u64, whole: None })
        };
        let row = match self.store.get_run(tenant, run_id).await {
            Ok(Some(row)) => row,
            Ok(None) => return found("vanished", "the run was listed and cannot be read".into(), 0),
            Err(StoreError::Damaged(detail)) => return found("unreadable_row", detail, 0),
            Err(error) => return Err(error.into()),
        };
        let plan = match self.plans.get(row.version_id).await {
            Ok(plan) => plan,
            Err(PlanError::Store(error)) => return Err(error.into()),
            Err(error) => return found("unreadable_definition", error.to_string(), 0),
        };
        let log = match self.read_log(&row).await {
            Ok(log) => log,
            Err(StoreError::Damaged(detail)) => return found("unreadable_log", detail, 0),
            Err(error) => return Err(error.into()),
        };
        let state = match RunState::fold(&plan, run_id, None, &log) {
            Ok(state) => state,
            Err(error) => return found("broken_log", error.to_string(), log.len()),
        };
        let mut findings = compare(&row, &plan, &state);
        findings.extend(self.check_snapshot(&row, &plan, &state).await?);
        findings.extend(self.check_definition(&row, &plan).await?);
        findings.extend(self.check_gates(&row, &plan, &state).await?);
        findings.extend(self.check_content(&row, &state).await?);
        findings.extend(self.check_parent(&row, &state).await?);
        let (children, untold) = self.check_children(&row, &state).await?;
        findings.extend(children);
        let events = log.len() as u64;
        Ok(Look { findings, events, whole: Some(Whole { row, plan, log, state, untold }) })
    }

    /// The whole log, in pages.
    async fn read_log(&self, row: &RunRow) -> Result<Vec<Event>, StoreError> {
        let mut log = Vec::new();
        loop {
            let after = log.last().map_or(EventSeq::default(), |event: &Event| event.seq);
            let page = self.store.read_events(row.tenant, row.id, after, PAGE).await?.unwrap_or_default();
            let is_last = page.len() < PAGE as usize;
            log.extend(page);
            if is_last {
                return Ok(log);
            }
        }
    }

    /// A stored fold, and what follows it, is the fold of the whole log.
    async fn check_snapshot(&self, row: &RunRow, plan: &Plan, state: &RunState) -> Result<Option<Damage>> {
        let record = match self.store.load_run(row.tenant, row.id).await {
            Ok(record) => record,
            // The log was read without the row's help, and the row differs from it.
            Err(StoreError::Damaged(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let Some((snapshot, events)) = record.and_then(|it| Some((it.snapshot?, it.events))) else {
            return Ok(None);
        };
        let detail = match RunState::fold(plan, row.id, Some(snapshot), &events) {
            Ok(folded) if in_words(&folded) == in_words(state) => return Ok(None),
            Ok(_) => "the snapshot is not the fold of the log".to_owned(),
            Err(error) => error.to_string(),
        };
        Ok(Some(Damage::new("snapshot_differs", row.id, detail)))
    }

    /// A definition is what its digest says: runs that are pinned to it follow no other.
    async fn check_definition(&self, row: &RunRow, plan: &Plan) -> Result<Option<Damage>> {
        let known = self.definitions.lock().expect("no panic while holding it").get(&row.version_id).cloned();
        let problem = match known {
            Some(problem) => problem,
            None => {
                let kept = self.store.get_definition(row.version_id).await?.map(|it| it.hash);
                let problem = kept.filter(|hash| *hash != plan.hash).map(|hash| {
                    format!(
                        "definition {} is kept as {hash}, and its content is {}",
                        row.version_id, plan.hash
                    )
                });
                let mut known = self.definitions.lock().expect("no panic while holding it");
                known.insert(row.version_id, problem.clone());
                problem
            }
        };
        Ok(problem.map(|detail| Damage::new("damaged_definition", row.id, detail)))
    }

    /// The inbox shows a gate exactly while it is open.
    async fn check_gates(&self, row: &RunRow, plan: &Plan, state: &RunState) -> Result<Vec<Damage>> {
        let filter = ApprovalFilter { decided: Some(false), run_id: Some(row.id) };
        let listed = self.store.list_approvals(row.tenant, &filter, None, PAGE).await?;
        let listed: BTreeSet<_> = listed.into_iter().map(|it| (it.node, it.attempt)).collect();
        let gates = plan.nodes.iter().zip(&state.steps).filter_map(|(node, step)| {
            // A step that was skipped while it waited keeps its gate, undecided.
            let gate = step.gate.as_ref().filter(|_| !state.is_terminal() && !step.status.is_settled())?;
            gate.outcome.is_none().then(|| (node.id.clone(), gate.attempt))
        });
        let open: BTreeSet<_> = gates.collect();
        let wrong = |(node, attempt): &(String, u16), detail: &str| {
            let detail = format!("step `{node}`, attempt {attempt}: {detail}");
            Damage::new("approvals_differ", row.id, detail)
        };
        let missing =
            open.difference(&listed).map(|gate| wrong(gate, "open by its log, missing in the inbox"));
        let stale =
            listed.difference(&open).map(|gate| wrong(gate, "open in the inbox, not open by its log"));
        Ok(missing.chain(stale).collect())
    }

    /// What the log refers to is what it was. That it is there at all, the store has looked for.
    async fn check_content(&self, row: &RunRow, state: &RunState) -> Result<Vec<Damage>> {
        let mut findings = Vec::new();
        for digest in referenced(state) {
            let found = self.store.get_blob(row.tenant, &digest).await?;
            if found.is_some_and(|content| Digest::of(&content) != digest) {
                let detail = format!("the content of blob {digest} is not what it was");
                findings.push(Damage::new("damaged_blob", row.id, detail));
            }
        }
        Ok(findings)
    }

    /// A run ends after its children.
    async fn check_parent(&self, row: &RunRow, state: &RunState) -> Result<Option<Damage>> {
        let Some(parent) = state.parent.as_ref().filter(|_| !state.is_terminal()) else { return Ok(None) };
        let parent = self.store.get_run(row.tenant, parent.run_id).await?;
        Ok(parent.filter(|parent| parent.status.is_terminal()).map(|parent| {
            let detail = format!("run {}, whose step started it, has ended", parent.id);
            Damage::new("child_left_open", row.id, detail)
        }))
    }

    /// Every child that is waited for is there, and wakes this run once it has ended. Returns those that do not.
    async fn check_children(&self, row: &RunRow, state: &RunState) -> Result<(Vec<Damage>, Vec<RunId>)> {
        let (mut findings, mut untold) = (Vec::new(), Vec::new());
        if state.is_terminal() || state.children.is_empty() {
            return Ok((findings, untold));
        }
        let ended = self.store.find_ended_children(row.tenant, row.id, PAGE).await?;
        for child in state.children.keys() {
            let Some(found) = self.store.get_run(row.tenant, *child).await? else {
                let detail = format!("a step waits for run {child}, which is not there");
                findings.push(Damage::new("child_missing", row.id, detail));
                continue;
            };
            let wakes = !found.status.is_terminal() || ended.iter().any(|it| it.run_id == *child);
            if !wakes && ended.len() < PAGE as usize {
                let detail = format!("run {child} has ended, its parent waits for it and is not told");
                findings.push(Damage::new("child_end_lost", row.id, detail));
                untold.push(*child);
            }
        }
        Ok((findings, untold))
    }
}

/// A value at hand and a reference to it are the same thing.
fn in_words(state: &RunState) -> serde_json::Value {
    serde_json::to_value(state).unwrap_or_default()
}

fn referenced(state: &RunState) -> BTreeSet<Digest> {
    let of_payload = |payload: &Payload| match payload {
        Payload::Blob { blob, .. } => Some(blob.digest.clone()),
        Payload::Inline(_) => None,
    };
    let of_steps = state.all_steps().flat_map(|(_, step)| {
        let artifacts = step.artifacts.iter().map(|artifact| artifact.blob.digest.clone());
        artifacts.chain(of_payload(&step.output))
    });
    let of_lists = state.fans.values().filter_map(|fan| of_payload(&fan.each));
    of_steps.chain(of_lists).chain(of_payload(&state.inputs)).chain(of_payload(&state.output)).collect()
}
