//! Somebody who speaks HTTP with the house.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::doors::Doors;
use crate::{Answer, Event, GLANCE_EVERY, Log, PATIENCE, definition, glance_away};

/// Events that are asked for at once.
const EVENTS_PER_PAGE: usize = 200;
/// Longer than the server may think about anything but a stream.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// A person or a program that uses the API. Cheap to clone; clones share their connections.
///
/// Where the house has several doors, each request takes the next one: whatever one API said, any other
/// must know.
#[derive(Clone)]
pub struct Client {
    doors: Arc<Doors>,
    pub http: reqwest::Client,
    user: Option<String>,
    roles: String,
    /// Definitions that were started inline or pushed, by the run or the `name@version` they belong to.
    definitions: Arc<Mutex<BTreeMap<String, Value>>>,
}

impl Client {
    pub(crate) fn new() -> Self {
        let (doors, definitions) = (Arc::default(), Arc::default());
        Self { doors, http: connections(), user: None, roles: String::new(), definitions }
    }

    /// The same caller, over connections of its own, which end with it.
    #[must_use]
    pub fn apart(&self) -> Self {
        Self { http: connections(), ..self.clone() }
    }

    /// Somebody who speaks with one process of the same house, once a door is opened for them.
    pub(crate) fn of_one_process(&self) -> Self {
        Self { doors: Arc::default(), ..self.clone() }
    }

    pub(crate) fn doors(&self) -> &Doors {
        &self.doors
    }

    /// The same house, spoken to by somebody.
    #[must_use]
    pub fn as_user(&self, user: &str, roles: &[&str]) -> Self {
        Self { user: Some(user.to_owned()), roles: roles.join(","), ..self.clone() }
    }

    /// `http://127.0.0.1:port` of the door whose turn it is.
    pub fn address(&self) -> String {
        self.doors.next()
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.address())
    }

    // ---- HTTP ----------------------------------------------------------------------------------

    /// A request that says who asks.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let mut request = self.http.request(method, self.url(path));
        if let Some(user) = &self.user {
            request = request.header("X-Windlass-User", user);
        }
        if !self.roles.is_empty() {
            request = request.header("X-Windlass-Roles", &self.roles);
        }
        request
    }

    /// # Errors
    /// When no whole answer came: the house is down, or the connection broke.
    pub async fn send(&self, request: RequestBuilder) -> reqwest::Result<Answer> {
        let request = request.build()?;
        let label = format!("{} {}", request.method(), request.url().path());
        Answer::read(label, self.http.execute(request).await?).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await.expect("the house answers")
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).json(body)).await.expect("the house answers")
    }

    /// Posts under an idempotency key until some answer comes, whatever happens to the house meanwhile.
    pub async fn insist(&self, path: &str, key: &str, body: &Value) -> Answer {
        let began = Instant::now();
        loop {
            let request = self.request(Method::POST, path).header("Idempotency-Key", key).json(body);
            match self.send(request).await {
                Ok(answer) if answer.status < 500 => return answer,
                other => assert!(began.elapsed() < PATIENCE, "nobody answered {path}: {other:?}"),
            }
            tokio::time::sleep(GLANCE_EVERY).await;
        }
    }

    // ---- workflows -----------------------------------------------------------------------------

    /// Publishes a definition. Returns its name.
    pub async fn push(&self, yaml: &str) -> String {
        let request = self.request(Method::POST, "/v1/workflows").header("Content-Type", "application/yaml");
        let workflow = self.send(request.body(yaml.to_owned())).await.expect("the house answers").ok();
        let name = workflow["name"].as_str().expect("a workflow has a name").to_owned();
        let version = &workflow["version"];
        self.remember_definition(format!("{name}@{version}"), definition::parse(yaml));
        name
    }

    fn remember_definition(&self, of: String, spec: Value) {
        self.definitions.lock().expect("no panic while holding it").insert(of, spec);
    }

    /// The definition of a run that this house's clients started, as they wrote it.
    pub fn definition_of(&self, run: &Value) -> Option<Value> {
        let id = run["id"].as_str().unwrap_or_default();
        let version = format!("{}@{}", run["workflow"].as_str().unwrap_or_default(), run["version"]);
        let definitions = self.definitions.lock().expect("no panic while holding it");
        definitions.get(id).or_else(|| definitions.get(&version)).cloned()
    }

    // ---- runs ----------------------------------------------------------------------------------

    /// Starts a published workflow. Returns the run's id.
    pub async fn start(&self, workflow: &str, inputs: Value) -> String {
        let run = self.post("/v1/workflow-runs", &json!({"workflow": workflow, "inputs": inputs})).await.ok();
        id_of(&run)
    }

    /// Starts a run of a definition that is published nowhere.
    pub async fn run(&self, yaml: &str, inputs: Value) -> String {
        let spec = definition::parse(yaml);
        let body = json!({"spec": spec, "inputs": inputs});
        let run = id_of(&self.post("/v1/workflow-runs", &body).await.ok());
        self.remember_definition(run.clone(), spec);
        run
    }

    pub async fn get_run(&self, run: &str) -> Value {
        self.get(&format!("/v1/workflow-runs/{run}")).await.ok()
    }

    /// The same, whatever happens to the house meanwhile.
    pub async fn get_run_patiently(&self, run: &str) -> Value {
        let began = Instant::now();
        loop {
            let request = self.request(Method::GET, &format!("/v1/workflow-runs/{run}"));
            match self.send(request).await {
                Ok(answer) if answer.status < 500 => return answer.ok(),
                other => assert!(began.elapsed() < PATIENCE, "nobody answered about {run}: {other:?}"),
            }
            tokio::time::sleep(GLANCE_EVERY).await;
        }
    }

    /// A step of a run, as the run shows it.
    pub async fn get_step(&self, run: &str, node: &str) -> Value {
        step_of(&self.get_run(run).await, node)
    }

    /// Waits until the run stands there, and returns it.
    ///
    /// # Panics
    /// When the run has ended otherwise, or [`PATIENCE`] has; the message holds its log.
    pub async fn wait_for(&self, run: &str, status: &str) -> Value {
        self.wait_until(run, &format!("status {status}"), |run| run["status"] == status).await
    }

    /// Waits until the run pauses for this reason, and returns it.
    pub async fn wait_for_pause(&self, run: &str, reason: &str) -> Value {
        let paused = |run: &Value| run["status"] == "paused" && run["paused_reason"] == reason;
        self.wait_until(run, &format!("a pause: {reason}"), paused).await
    }

    /// Waits until a step stands there, and returns the step.
    pub async fn wait_for_step(&self, run: &str, node: &str, status: &str) -> Value {
        let what = format!("step {node} {status}");
        let run = self.wait_until(run, &what, |run| step_of(run, node)["status"] == status).await;
        step_of(&run, node)
    }

    /// Waits until a gate is open, and returns what its approver sees.
    pub async fn wait_for_gate(&self, run: &str, node: &str) -> Value {
        let gate = |run: &Value| step_of(run, node)["waiting_on"]["gate"].clone();
        gate(&self.wait_until(run, &format!("a gate at {node}"), |run| gate(run).is_object()).await)
    }

    /// Waits until every step and timer of the run has come to an end.
    pub async fn wait_for_end(&self, run: &str) -> Value {
        self.wait_until(run, "its end", |run| is_terminal(&run["status"])).await
    }

    pub async fn wait_until(&self, run: &str, what: &str, is_there: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let now = self.get_run(run).await;
            if is_there(&now) {
                return now;
            }
            let over = is_terminal(&now["status"]) || began.elapsed() > PATIENCE;
            assert!(!over, "waited in vain for {what} of {now:#}\n{}", self.events(run).await);
            glance_away(began).await;
        }
    }

    /// The whole log.
    pub async fn events(&self, run: &str) -> Log {
        let mut events: Vec<Event> = Vec::new();
        loop {
            let after = events.last().map_or(0, |event| event.seq);
            let path = format!("/v1/workflow-runs/{run}/events?after={after}&limit={EVENTS_PER_PAGE}");
            let page = self.get(&path).await.ok();
            let items = page["items"].as_array().expect("a page has items");
            events.extend(items.iter().map(Event::from_envelope));
            if items.len() < EVENTS_PER_PAGE {
                return Log(events);
            }
        }
    }

    /// Ids of every run in the house, newest first.
    pub async fn all_runs(&self) -> Vec<String> {
        let mut ids = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.get(&format!("/v1/workflow-runs?limit=200{cursor}")).await.ok();
            ids.extend(page["items"].as_array().expect("a page has items").iter().map(id_of));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return ids,
            }
        }
    }

    /// Every run that steps of this one have started, newest first.
    pub async fn children(&self, run: &str) -> Vec<Value> {
        let mut children = Vec::new();
        let mut cursor = String::new();
        loop {
            let path = format!("/v1/workflow-runs?parent={run}&limit=200{cursor}");
            let page = self.get(&path).await.ok();
            children.extend(page["items"].as_array().expect("a page has items").iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return children,
            }
        }
    }

    // ---- commands ------------------------------------------------------------------------------

    /// `pause`, `resume`, `cancel`, …
    pub async fn command(&self, run: &str, verb: &str, body: &Value) -> Answer {
        self.post(&format!("/v1/workflow-runs/{run}/{verb}"), body).await
    }

    pub async fn pause(&self, run: &str) -> Answer {
        self.command(run, "pause", &json!({})).await
    }

    pub async fn resume(&self, run: &str) -> Answer {
        self.command(run, "resume", &json!({})).await
    }

    pub async fn cancel(&self, run: &str) -> Answer {
        self.command(run, "cancel", &json!({})).await
    }

    pub async fn retry(&self, run: &str, node: &str) -> Answer {
        self.command(run, "retry", &json!({"node": node})).await
    }

    pub async fn skip(&self, run: &str, node: &str) -> Answer {
        self.command(run, "skip", &json!({"node": node})).await
    }

    pub async fn signal(&self, run: &str, name: &str, payload: &Value) -> Answer {
        self.post(&format!("/v1/workflow-runs/{run}/signals/{name}"), payload).await
    }

    /// Waits for the gate and approves what it shows.
    pub async fn approve(&self, run: &str, node: &str) -> Answer {
        self.decide(run, node, "approve").await
    }

    /// Waits for the gate and rejects what it shows.
    pub async fn reject(&self, run: &str, node: &str) -> Answer {
        self.decide(run, node, "reject").await
    }

    async fn decide(&self, run: &str, node: &str, verb: &str) -> Answer {
        let gate = self.wait_for_gate(run, node).await;
        let body = json!({"node": node, "attempt": gate["attempt"], "digest": gate["digest"]});
        self.command(run, verb, &body).await
    }
}

fn connections() -> reqwest::Client {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // Already there is as good as installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    let client = reqwest::Client::builder().timeout(ANSWER_WITHIN).no_proxy().build();
    client.expect("a client of these options can be built")
}

pub fn id_of(run: &Value) -> String {
    run["id"].as_str().unwrap_or_else(|| panic!("no id in {run}")).to_owned()
}

/// A step of a run, or null.
pub fn step_of(run: &Value, node: &str) -> Value {
    let steps = run["steps"].as_array().into_iter().flatten();
    steps.into_iter().find(|step| step["node"] == node).cloned().unwrap_or_default()
}

pub fn is_terminal(status: &Value) -> bool {
    ["completed", "failed", "canceled"].iter().any(|it| status == it)
}
