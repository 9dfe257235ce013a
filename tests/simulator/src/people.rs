//! Those who ask something of Windlass: they insist, hang up, come too late, and remember what they were told.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use futures::{FutureExt, StreamExt};
use serde_json::{Value, json};
use windlass_model::schedule::Overlap;
use windlass_model::{EventBody, RunId, RunState, TenantId, VersionId};
use windlass_store::{ApprovalFilter, ApprovalRow, COUNT_TRUSTED, RunFilter, RunRow, Runs, Workflows};

use crate::fleet::Fleet;
use crate::schedule::Asked;
use crate::whose::Whose;
use crate::world::api::Answer;

/// How often somebody asks the same again when no answer comes.
const TRIES_MAX: u32 = 6;
const PAUSE_PER_TRY: Duration = Duration::from_millis(250);
/// So often the connection of one watcher breaks.
const BREAKS_MAX: u32 = 10;

/// What one person asked, and what came of it.
#[derive(Clone, Debug)]
pub(crate) struct Asking {
    pub(crate) whose: Whose,
    /// The name that stands in the log.
    pub(crate) user: String,
    pub(crate) run: RunId,
    pub(crate) ask: Asked,
    /// In which words.
    pub(crate) body: Value,
    /// None: whether it was done was never told.
    pub(crate) answer: Option<Answer>,
}

/// What one client was told about starting one run.
#[derive(Clone, Debug)]
pub(crate) struct Starting {
    pub(crate) whose: Whose,
    pub(crate) run: u32,
    pub(crate) answers: Vec<Option<Answer>>,
}

/// What one watcher has seen.
#[derive(Clone, Debug)]
pub(crate) struct Watching {
    pub(crate) run: RunId,
    /// Seq and envelope of each frame, over all connections.
    pub(crate) seen: Vec<(u64, String)>,
    pub(crate) has_ended: bool,
}

#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) starts: Vec<Starting>,
    pub(crate) asks: Vec<Asking>,
    pub(crate) watches: Vec<Watching>,
}

#[derive(Clone)]
pub(crate) struct People {
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) memory: Arc<Mutex<Memory>>,
    /// Of which tenant whoever asks is.
    pub(crate) whose: Whose,
}

impl People {
    /// Those of a tenant.
    pub(crate) fn of(&self, whose: Whose) -> Self {
        Self { whose, ..self.clone() }
    }

    pub(crate) fn remember<T>(&self, deed: impl FnOnce(&mut Memory) -> T) -> T {
        deed(&mut self.memory.lock().expect("one thread"))
    }

    /// Asks until there is an answer that says something.
    async fn insist(&self, request: impl Fn() -> Request<Body>) -> Option<Answer> {
        let (mut was_silent, mut was_refused) = (false, false);
        for tried in 1..=TRIES_MAX {
            let number = self.fleet.world.is_asked(self.whose.tenant());
            let answer = self.fleet.api().ask(request()).await;
            self.fleet.world.is_answered(number, answer.as_ref());
            match answer {
                Some(answer) if answer.status == 503 => was_silent = true,
                // There may be room again when the answer says so.
                Some(answer) if answer.is_over_quota() && tried < TRIES_MAX => {
                    self.fleet.world.reach.hit("start_was_over_quota");
                    was_refused = true;
                    tokio::time::sleep(COUNT_TRUSTED).await;
                }
                Some(answer) => {
                    if was_refused && answer.status == 201 {
                        self.fleet.world.reach.hit("place_came_free");
                    }
                    let answer = Answer { after_silence: was_silent, ..answer };
                    self.fleet.world.note(format_args!("answer {} {}", answer.status, answer.code()));
                    self.sees_its_own(&answer.body);
                    return Some(answer);
                }
                None => {
                    was_silent = true;
                    self.fleet.world.reach.hit("answer_never_came");
                }
            }
            tokio::time::sleep(PAUSE_PER_TRY * tried).await;
        }
        None
    }

    fn post(&self, path: &str, user: &str, key: &str, body: &Value) -> Request<Body> {
        let request = Request::post(path)
            .header("content-type", "application/json")
            .header("idempotency-key", key)
            .header("x-request-id", key)
            .header("x-windlass-user", user)
            .header("x-windlass-roles", "chief")
            .extension(self.whose.tenant());
        request.body(Body::from(body.to_string())).expect("it is well formed")
    }

    // ---- starting ------------------------------------------------------------------------------

    pub(crate) async fn start(self, run: u32, workflow: String, twice: bool, after_ms: Option<u64>) {
        let mut body = json!({"workflow": workflow, "labels": {"start": run.to_string()}});
        if let Some(span) = after_ms {
            body["start_at"] = json!(format!("{span}ms"));
        }
        let people = &self;
        let request =
            |body: Value| move || people.post("/v1/workflow-runs", "starter", &format!("start-{run}"), &body);
        let first = self.insist(request(body.clone()));
        let answers = if twice {
            let again = self.insist(request(body.clone()));
            let (first, again) = futures::join!(first, again);
            let other = request(json!({"workflow": workflow, "labels": {"other": "yes"}}));
            // Who was sent away has not used the key.
            let is_started = |answer: &Option<Answer>| answer.as_ref().is_some_and(|it| it.status == 201);
            let is_used = is_started(&first) || is_started(&again);
            if is_used && let Some(other) = self.insist(other).await {
                self.fleet.world.reach.hit("other_body_refused");
                if other.code() != "idempotency_key_reused" {
                    self.fleet.world.complain(format!("I7: another body under a used key got {other:?}"));
                }
            }
            vec![first, again]
        } else {
            vec![first.await]
        };
        if answers.iter().flatten().any(|answer| answer.replayed) {
            self.fleet.world.reach.hit("reply_replayed");
        }
        let whose = self.whose;
        self.remember(|memory| memory.starts.push(Starting { whose, run, answers }));
    }

    // ---- schedules -----------------------------------------------------------------------------

    pub(crate) async fn plan(self, schedule: u32, workflow: String, overlap: Overlap, catch_up: Duration) {
        let body = json!({
            "name": format!("clock-{schedule}"),
            "workflow": workflow,
            "cron": "0 0 1 1 *",
            "overlap": overlap,
            "catch_up": format!("{}ms", catch_up.as_millis()),
        });
        self.insist(|| self.post("/v1/schedules", "planner", &format!("plan-{schedule}"), &body)).await;
    }

    /// Publishes a workflow with a step more, or as it was.
    pub(crate) async fn publish(self, workflow: String, anew: bool, at_ms: u64) {
        let Some(entry) = self.fleet.library.definition_of(&workflow, anew) else { return };
        let (key, body) = (format!("publish-{workflow}-{anew}-{at_ms}"), entry.to_publish());
        let answer = self.insist(|| self.post("/v1/workflows", "publisher", &key, &body)).await;
        match answer.map(|answer| answer.status) {
            Some(200 | 201) => self.fleet.world.reach.hit("definition_was_published_anew"),
            None => {}
            Some(status) => {
                self.fleet.world.complain(format!("I26: publishing {workflow} was answered {status}"))
            }
        }
    }

    pub(crate) async fn trigger(self, schedule: u32, at_ms: u64) {
        let path = format!("/v1/schedules/clock-{schedule}/trigger");
        self.insist(|| self.post(&path, "planner", &format!("trigger-{schedule}-{at_ms}"), &json!({}))).await;
    }

    // ---- finding -------------------------------------------------------------------------------

    /// The run that was started under this number, once it is there.
    pub(crate) fn find(&self, run: u32) -> Option<RunId> {
        let label = run.to_string();
        let is_it = |row: &RunRow| row.labels.get("start") == Some(&label) && self.fleet.is_of_its_own(row);
        self.fleet.runs_of(self.whose).into_iter().find(is_it).map(|row| row.id)
    }

    /// A run, or one that it has started.
    fn one_of_the_family(&self, run: RunId) -> RunId {
        let children = self.fleet.children(run);
        let place = self.fleet.world.draw(|chance| chance.below(2 * children.len() as u64 + 1) as usize);
        children.get(place).map_or(run, |child| child.id)
    }

    // ---- asking --------------------------------------------------------------------------------

    pub(crate) async fn ask(self, run: u32, by: u32, ask: Asked, thinks: Duration) {
        let Some(run) = self.find(run).map(|run| self.one_of_the_family(run)) else { return };
        let user = format!("user-{by}");
        if matches!(ask, Asked::Edit | Asked::Rerun | Asked::Move)
            && self.fleet.world.draw(|chance| chance.one_in(2))
        {
            // None of that can be done to a run that moves.
            self.say(run, format!("pauser-{by}"), Asked::Pause, "pause", &json!({}), None).await;
        }
        let looked_at = self.fleet.open_gates(run).into_iter().next();
        let Some((path, body)) = self.words(run, ask, looked_at.as_ref()) else { return };
        tokio::time::sleep(thinks).await;
        self.say(run, user, ask, &path, &body, looked_at.as_ref()).await;
    }

    pub(crate) async fn say(
        &self,
        run: RunId,
        user: String,
        ask: Asked,
        path: &str,
        body: &Value,
        gate: Option<&ApprovalRow>,
    ) {
        let path = format!("/v1/workflow-runs/{run}/{path}");
        self.fleet.world.note(format_args!("{user} asks {path} {body}"));
        let answer = self.insist(|| self.post(&path, &user, &user, body)).await;
        if let Some(answer) = &answer {
            self.notice(ask, answer, gate);
        }
        let (whose, body) = (self.whose, body.clone());
        self.remember(|memory| memory.asks.push(Asking { whose, user, run, ask, body, answer }));
    }

    fn words(&self, run: RunId, ask: Asked, gate: Option<&ApprovalRow>) -> Option<(String, Value)> {
        let state = self.fleet.fold(run)?;
        let plan = &self.fleet.entry_of(run)?.plan;
        let open = |wanted: &dyn Fn(&windlass_model::state::Step) -> bool| {
            plan.nodes.iter().find(|node| wanted(state.step(node.index))).map(|node| node.id.clone())
        };
        let verdict = |attempt_ahead: u16| {
            let gate = gate?;
            Some(json!({"node": gate.node, "attempt": gate.attempt + attempt_ahead, "comment": "seen"}))
        };
        let nothing = || json!({});
        Some(match ask {
            Asked::Pause => ("pause".to_owned(), nothing()),
            Asked::Resume => ("resume".to_owned(), nothing()),
            Asked::Cancel => ("cancel".to_owned(), json!({"reason": "no longer wanted"})),
            Asked::Retry => ("retry".to_owned(), nothing()),
            Asked::Approve => ("approve".to_owned(), verdict(0)?),
            // Not the next one: by the time they speak it may be there.
            Asked::ApproveStale => ("approve".to_owned(), verdict(1_000)?),
            Asked::Reject => ("reject".to_owned(), verdict(0)?),
            Asked::Skip => {
                let node = open(&|step| !step.status.is_settled())?;
                ("skip".to_owned(), json!({"node": node}))
            }
            Asked::Edit => {
                let place = self.fleet.world.draw(|chance| chance.below(plan.nodes.len() as u64) as usize);
                let steps = json!({&plan.nodes[place].id: {"output": {"edited": true}}});
                ("state".to_owned(), json!({"steps": steps}))
            }
            Asked::Rerun => {
                let mut body = json!({"labels": {"again": "yes"}});
                let place =
                    self.fleet.world.draw(|chance| chance.below(2 * plan.main_count() as u64) as usize);
                if let Some(node) = plan.nodes[..plan.main_count()].get(place) {
                    body["from"] = json!(node.id);
                }
                ("rerun".to_owned(), body)
            }
            Asked::Move => {
                let newest = self.fleet.world.draw(|chance| chance.one_in(2));
                ("move".to_owned(), json!({"version": if newest { json!("latest") } else { json!(1) }}))
            }
            Asked::Signal => {
                let name = self.fleet.world.draw(|chance| self.fleet.signals(&state, plan, chance))?;
                (format!("signals/{name}"), nothing())
            }
        })
    }

    fn notice(&self, ask: Asked, answer: &Answer, gate: Option<&ApprovalRow>) {
        let world = &self.fleet.world;
        let is_verdict = matches!(ask, Asked::Approve | Asked::ApproveStale | Asked::Reject);
        let close =
            |gate: &&ApprovalRow| gate.expires_at.is_some_and(|at| world.now().until(at).as_millis() < 700);
        match (answer.status, answer.code()) {
            (200, _) if is_verdict && gate.filter(close).is_some() => world.reach.hit("approval_beat_expiry"),
            (409, code) if is_verdict => {
                if gate.is_some_and(|gate| gate.expires_at.is_some_and(|at| at <= world.now())) {
                    world.reach.hit("expiry_beat_approval");
                }
                match code {
                    "already_decided" => world.reach.hit("second_approval_refused"),
                    "stale_approval" => world.reach.hit("stale_approval_refused"),
                    _ => {}
                }
            }
            (200, _) if ask == Asked::Edit => world.reach.hit("state_edited"),
            (201, _) if ask == Asked::Rerun => world.reach.hit("run_begun_again"),
            (201, _) if ask == Asked::Move => world.reach.hit("run_moved"),
            (409, "run_terminal") if ask == Asked::Cancel => world.reach.hit("completion_beat_cancel"),
            _ => {}
        }
        if answer.replayed {
            world.reach.hit("reply_replayed");
        }
    }

    // ---- watching ------------------------------------------------------------------------------

    /// Watches to the end of the run. The connection breaks after `frames` frames, again and again.
    pub(crate) async fn watch(self, run: u32, frames: u32) {
        let Some(run) = self.find(run) else { return };
        let place = self.remember(|memory| {
            memory.watches.push(Watching { run, seen: Vec::new(), has_ended: false });
            memory.watches.len() - 1
        });
        for nth in 0.. {
            let frames = if nth < BREAKS_MAX { frames } else { u32::MAX };
            let last = self.remember(|memory| memory.watches[place].seen.last().map(|(seq, _)| *seq));
            if self.connect(run, place, last, frames).await {
                self.remember(|memory| memory.watches[place].has_ended = true);
                return;
            }
            self.fleet.world.reach.hit("stream_came_back");
            tokio::time::sleep(PAUSE_PER_TRY).await;
        }
    }

    /// One connection; true when there is nothing more to come.
    async fn connect(&self, run: RunId, place: usize, last: Option<u64>, frames: u32) -> bool {
        let path = format!("/v1/workflow-runs/{run}/events");
        let mut request =
            Request::get(path).header("accept", "text/event-stream").header("x-request-id", "watch");
        request = request.extension(self.whose.tenant());
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let api = self.fleet.api();
        let request = request.body(Body::empty()).expect("it is well formed");
        let Some(response) = api.open(request).await else { return false };
        match response.status().as_u16() {
            200 => {}
            204 => return true,
            _ => return false,
        }
        let mut chunks = response.into_body().into_data_stream();
        let mut buffer = String::new();
        let mut left = frames;
        loop {
            let chunk = tokio::select! {
                biased;
                () = api.process.death() => return false,
                chunk = chunks.next() => chunk,
            };
            // The stream ends after the last event; that it has, the next connection will say.
            let Some(Ok(chunk)) = chunk else { return false };
            buffer.push_str(&String::from_utf8_lossy(&chunk));
            while let Some((frame, rest)) = buffer.split_once("\n\n") {
                if let Some(seen) = read_frame(frame) {
                    self.fleet.world.note(format_args!("watcher of {run} sees {}", seen.0));
                    self.remember(|memory| memory.watches[place].seen.push(seen));
                    left = left.saturating_sub(1);
                }
                buffer = rest.to_owned();
            }
            if left == 0 {
                return false;
            }
        }
    }
}

/// Seq and envelope of a frame that carries history.
fn read_frame(frame: &str) -> Option<(u64, String)> {
    let id = frame.lines().find_map(|line| line.strip_prefix("id: "))?.parse().ok()?;
    let data = frame.lines().find_map(|line| line.strip_prefix("data: "))?;
    Some((id, data.to_owned()))
}

// ---- what people see without asking ----------------------------------------------------------------

impl Fleet {
    /// Oldest first, those of each tenant.
    pub(crate) fn runs(&self) -> Vec<RunRow> {
        self.tenants.iter().flat_map(|whose| self.runs_of(*whose)).collect()
    }

    pub(crate) fn runs_of(&self, whose: Whose) -> Vec<RunRow> {
        self.list(whose.tenant(), &RunFilter::default())
    }

    /// Neither a step started it, nor does it go on from another run.
    pub(crate) fn is_of_its_own(&self, row: &RunRow) -> bool {
        let created = self.events(row.id).into_iter().next().map(|event| event.body);
        let goes_on = matches!(created, Some(EventBody::RunCreated(body)) if body.origin.is_some());
        row.parent.is_none() && !goes_on
    }

    /// Those that steps of a run have started.
    pub(crate) fn children(&self, parent: RunId) -> Vec<RunRow> {
        let filter = RunFilter { parent: Some(parent), ..RunFilter::default() };
        self.tenants.iter().flat_map(|whose| self.list(whose.tenant(), &filter)).collect()
    }

    /// Oldest first.
    fn list(&self, tenant: TenantId, filter: &RunFilter) -> Vec<RunRow> {
        let rows = self.world.database.list_runs(tenant, filter, None, u32::MAX).now_or_never();
        let mut rows = rows.expect("at once").expect("never away");
        rows.reverse();
        rows
    }

    pub(crate) fn open_gates(&self, run: RunId) -> Vec<ApprovalRow> {
        let filter = ApprovalFilter { decided: Some(false), run_id: Some(run) };
        let open = |whose: &Whose| {
            let gates =
                self.world.database.list_approvals(whose.tenant(), &filter, None, u32::MAX).now_or_never();
            gates.expect("at once").expect("never away")
        };
        self.tenants.iter().flat_map(open).collect()
    }

    pub(crate) fn entry_of(&self, run: RunId) -> Option<&crate::workflows::Entry> {
        self.world.row(run).map(|row| self.entry(row.version_id))
    }

    /// What runs of this version do.
    pub(crate) fn entry(&self, version: VersionId) -> &crate::workflows::Entry {
        match self.library.of(version, self.tenants) {
            Some((entry, _)) => entry,
            None => {
                let row = self.world.database.get_definition(version).now_or_never();
                let row = row.expect("at once").expect("never away").expect("runs are of what there is");
                self.library.with_hash(&row.hash).expect("nothing else is published")
            }
        }
    }

    /// The version that a run of the same workflow would have now.
    pub(crate) fn newest_of(&self, row: &RunRow) -> Option<VersionId> {
        row.workflow_version?;
        let newest = self.world.database.get_version(row.tenant, &row.workflow, None).now_or_never();
        newest.expect("at once").expect("never away").map(|version| version.id)
    }

    /// Whether a version is of this tenant.
    pub(crate) fn is_of(&self, version: VersionId, tenant: TenantId) -> bool {
        if let Some((_, owner)) = self.library.of(version, self.tenants) {
            return owner.tenant() == tenant;
        }
        let name = &self.entry(version).name;
        let all = self.world.database.list_versions(tenant, name, None, u32::MAX).now_or_never();
        let all = all.expect("at once").expect("never away").unwrap_or_default();
        all.iter().any(|row| row.id == version)
    }

    /// The run as its whole log tells it.
    pub(crate) fn fold(&self, run: RunId) -> Option<RunState> {
        let plan = &self.entry_of(run)?.plan;
        RunState::fold(plan, run, None, &self.events(run)).ok()
    }

    pub(crate) fn events(&self, run: RunId) -> Vec<windlass_model::Event> {
        let after = windlass_model::EventSeq(0);
        let read = |whose: &Whose| {
            let events = self.world.database.read_events(whose.tenant(), run, after, u32::MAX).now_or_never();
            events.expect("at once").expect("never away")
        };
        self.tenants.iter().find_map(read).unwrap_or_default()
    }

    /// A signal that this run may take.
    fn signals(
        &self,
        state: &RunState,
        plan: &windlass_model::Plan,
        chance: &mut scenarios::Chance,
    ) -> Option<String> {
        let names: Vec<&String> = match &plan.machine {
            Some(machine) => machine.events.keys().collect(),
            None => state.listening.keys().collect(),
        };
        let place = chance.below(names.len() as u64) as usize;
        names.get(place).map(|name| (*name).clone())
    }
}
