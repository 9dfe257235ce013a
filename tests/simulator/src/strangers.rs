//! People of the other tenant who got hold of the id of a run: they learn nothing, and change nothing.

use axum::body::Body;
use axum::http::{Method, Request};
use serde_json::{Value, json};
use windlass_model::RunId;

use crate::people::People;
use crate::world::api::Answer;

/// What somebody tries in one visit, of all that can be tried.
const TRIES_PER_VISIT: u64 = 5;
/// What is to be read of a run, below its address.
const READS: &[&str] =
    &["", "/events", "/steps", "/timeline", "/machine", "/artifacts", "/explain", "/steps/a/output"];
/// What can be asked of one.
const COMMANDS: &[&str] = &[
    "pause",
    "resume",
    "cancel",
    "retry",
    "skip",
    "approve",
    "reject",
    "signals/paid",
    "state",
    "rerun",
    "move",
];
/// What shows many things at once, and must leave out what is not one's own.
const LISTS: &[&str] = &[
    "/v1/workflow-runs?limit=200",
    "/v1/schedules",
    "/v1/circuit-breakers",
    "/v1/rate-limits",
    "/v1/workflows",
];
/// A run that is nowhere.
const NOWHERE: RunId = RunId(uuid::Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001));

impl People {
    /// Tries a run of the other tenant: the answer is the same as if it were nowhere.
    pub(crate) async fn pry(self, run: u32, by: u32) {
        let Some(theirs) = self.of(self.whose.other()).find(run) else { return };
        let world = &self.fleet.world;
        // Under a name that the other tenant may have as well, and then its keys are the same, too.
        let user =
            world.draw(|chance| format!("{}-{by}", if chance.one_in(2) { "user" } else { "stranger" }));
        for _ in 0..TRIES_PER_VISIT {
            let what = world.draw(|chance| chance.below((READS.len() + COMMANDS.len() + 2) as u64) as usize);
            let answers = (self.attempt(what, theirs, &user).await, self.attempt(what, NOWHERE, &user).await);
            let (Some(answer), Some(nowhere)) = answers else { continue };
            if answer.status == 503 || nowhere.status == 503 {
                continue;
            }
            let text = |answer: &Answer| answer.body.to_string();
            let is_same = text(&answer).replace(&theirs.to_string(), &NOWHERE.to_string()) == text(&nowhere);
            if answer.status != 404 || !is_same {
                world.complain(format!(
                    "I20: a stranger to {theirs} was answered {answer:?}, of a run that is nowhere {nowhere:?}"
                ));
            }
            world.reach.hit("stranger_was_refused");
        }
        let list = LISTS[world.draw(|chance| chance.below(LISTS.len() as u64)) as usize];
        let filtered = format!("/v1/workflow-runs?parent={theirs}");
        for list in [list, "/v1/approvals", &filtered] {
            // What is not one's own is left out, and stands in nobody's way.
            let answer = self.ask_once(Method::GET, list, &user, None).await;
            if let Some(answer) = answer.filter(|answer| !matches!(answer.status, 200 | 503)) {
                world.complain(format!("I20: {list} was answered {answer:?}"));
            }
        }
    }

    async fn attempt(&self, what: usize, run: RunId, user: &str) -> Option<Answer> {
        let of_run = |path: &str| format!("/v1/workflow-runs/{run}{path}");
        if let Some(path) = READS.get(what) {
            return self.ask_once(Method::GET, &of_run(path), user, None).await;
        }
        let Some(command) = COMMANDS.get(what - READS.len()) else {
            let stream = format!("/v1/events?run={run}");
            return self.ask_once(Method::GET, &stream, user, None).await;
        };
        let body = match *command {
            "skip" => json!({"node": "a"}),
            "approve" | "reject" => json!({"node": "agree", "attempt": 1}),
            "state" => json!({"steps": {"a": {"output": 1}}}),
            "move" => json!({"version": 1}),
            _ => json!({}),
        };
        self.ask_once(Method::POST, &of_run(&format!("/{command}")), user, Some(&body)).await
    }

    /// Asks, and does not insist.
    async fn ask_once(&self, method: Method, path: &str, user: &str, body: Option<&Value>) -> Option<Answer> {
        let is_stream = path.starts_with("/v1/events");
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("x-request-id", user)
            .header("x-windlass-user", user)
            .header("x-windlass-roles", "chief")
            .extension(self.whose.tenant());
        if is_stream {
            request = request.header("accept", "text/event-stream");
        }
        if body.is_some() {
            request = request.header("content-type", "application/json").header("idempotency-key", user);
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let answer = self.fleet.api().ask(request.body(body).expect("it is well formed")).await?;
        self.sees_its_own(&answer.body);
        Some(answer)
    }

    /// I20: nothing that anybody is told has the id of a run of the other tenant in it.
    pub(crate) fn sees_its_own(&self, told: &Value) {
        let strangers = self.fleet.runs_of(self.whose.other());
        if strangers.is_empty() {
            return;
        }
        let text = told.to_string();
        // Whoever asks for a run by its id may hear that id again, and no more.
        let is_refusal = told["code"].is_string();
        for row in strangers.iter().filter(|row| !is_refusal && text.contains(&row.id.to_string())) {
            self.fleet.world.complain(format!("I20: {:?} were told of {}: {text}", self.whose, row.id));
        }
    }
}
