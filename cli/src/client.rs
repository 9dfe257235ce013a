//! A thin client of the HTTP API: one method per thing to ask, problems turned into sentences.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use reqwest::header::{ACCEPT, CONTENT_TYPE, ETAG, IF_MATCH};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use serde_json::{Value, json};
use windlass_boot::Settings;
use windlass_model::callee::CalleeKind;

use crate::failure::{Exit, Failure};
use crate::output::clean;
use crate::watch::{self, News};

/// A server that accepts no connection within this time is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// No answer takes longer, save streams: the longest wait that the API grants is 60 s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(75);
/// A create whose answer was lost is sent again with the same key.
const CREATE_TRIES_MAX: u32 = 3;
/// Runs, workflows or events asked for in one page.
const PAGE_MAX: usize = 200;

/// Which server, and as whom.
#[derive(Args, Clone, Debug, Default)]
pub struct ServerArgs {
    /// The server to talk to [env: WINDLASS_SERVER] [default: http://127.0.0.1:7070]
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// Who you say you are [env: WINDLASS_USER]
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// A role you say you have; may be given several times [env: WINDLASS_ROLES]
    #[arg(long = "role", value_name = "ROLE")]
    pub roles: Vec<String>,
}

impl ServerArgs {
    /// # Errors
    /// When a setting cannot be read.
    pub fn client(&self) -> Result<Client> {
        let settings = Settings::load(self.flags()).map_err(settings_failure)?;
        Client::new(&settings.server, self.identity(&settings))
    }

    fn flags(&self) -> Vec<(&'static str, String)> {
        let server = self.server.iter().map(|url| ("server", url.clone()));
        let user = self.user.iter().map(|name| ("user", name.clone()));
        server.chain(user).collect()
    }

    pub fn identity(&self, settings: &Settings) -> Identity {
        let roles = if self.roles.is_empty() { settings.roles.clone() } else { self.roles.clone() };
        Identity { user: self.user.clone().or_else(|| settings.user.clone()), roles }
    }
}

pub fn settings_failure(error: windlass_boot::SettingsError) -> anyhow::Error {
    Failure::usage(error.to_string()).into()
}

/// Who the requests claim to come from. Nobody proves it until authentication arrives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub user: Option<String>,
    pub roles: Vec<String>,
}

/// Speaks to one server as one person.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    identity: Identity,
}

/// A page of any list.
#[derive(Debug, Deserialize)]
struct Page {
    items: Vec<Value>,
    #[serde(default)]
    next_cursor: Option<String>,
}

impl Client {
    /// # Errors
    /// When the address cannot be read.
    pub fn new(server: &str, identity: Identity) -> Result<Self> {
        for word in identity.user.iter().chain(&identity.roles) {
            if word.is_empty() || !word.bytes().all(|byte| byte.is_ascii_graphic()) {
                let problem = format!("`{}` is no name that can be claimed", clean(word));
                return Err(Failure::usage(problem)
                    .hint("letters, digits and signs of ASCII, without spaces")
                    .into());
            }
        }
        let base: Url =
            server.parse().map_err(|_| Failure::usage(format!("`{server}` is no address of a server")))?;
        let mut builder = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT);
        // A proxy of the environment cannot reach this machine's own loopback.
        if matches!(base.host_str(), Some("localhost" | "127.0.0.1" | "[::1]")) {
            builder = builder.no_proxy();
        }
        let http = builder.build().context("the HTTP client cannot start")?;
        Ok(Self { http, base, identity })
    }

    /// The same server, as somebody else.
    pub fn with_identity(&self, identity: Identity) -> Self {
        Self { identity, ..self.clone() }
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    pub fn server(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    // ---- workflows -----------------------------------------------------------------------------

    /// Publishes a definition under the name it gives itself, whether or not there is one. Its own text keeps
    /// the positions of problems; tags need the definition as JSON.
    /// `text`: the definition as it was written, so that the answer can name its lines.
    pub async fn push_workflow(&self, text: Option<&str>, spec: &Value, tags: &[String]) -> Result<Value> {
        let request = self.request(Method::POST, &["v1", "workflows"]);
        let request = match (text, tags) {
            (Some(text), []) => request.header(CONTENT_TYPE, "application/yaml").body(text.to_owned()),
            (None, []) => request.json(&json!({ "spec": spec })),
            (_, tags) => request.json(&json!({ "spec": spec, "tags": tags })),
        };
        Ok(self.send(request).await?.json().await?)
    }

    pub async fn list_workflows(&self, query: &[(String, String)], limit: usize) -> Result<Vec<Value>> {
        self.list(&["v1", "workflows"], query, limit).await
    }

    pub async fn get_workflow(&self, name: &str, version: Option<&str>) -> Result<Value> {
        match version {
            None => self.get(&["v1", "workflows", name]).await,
            Some(version) => self.get(&["v1", "workflows", name, "versions", version]).await,
        }
    }

    pub async fn list_versions(&self, name: &str, limit: usize) -> Result<Vec<Value>> {
        self.list(&["v1", "workflows", name, "versions"], &[], limit).await
    }

    pub async fn delete_workflow(&self, name: &str) -> Result<()> {
        self.delete(&["v1", "workflows", name]).await
    }

    /// Deletes what is there, as it is there.
    async fn delete(&self, path: &[&str]) -> Result<()> {
        let found = self.send(self.request(Method::GET, path)).await?;
        let etag = found.headers().get(ETAG).cloned().context("the server sent no ETag")?;
        self.send(self.request(Method::DELETE, path).header(IF_MATCH, etag)).await?;
        Ok(())
    }

    // ---- tools and agents ----------------------------------------------------------------------

    pub async fn push_callee(&self, kind: CalleeKind, spec: &Value) -> Result<Value> {
        let request = self.request(Method::POST, &["v1", kind.plural()]).json(&json!({ "spec": spec }));
        Ok(self.send(request).await?.json().await?)
    }

    pub async fn list_callees(&self, kind: CalleeKind, limit: usize) -> Result<Vec<Value>> {
        self.list(&["v1", kind.plural()], &[], limit).await
    }

    pub async fn get_callee(&self, kind: CalleeKind, name: &str) -> Result<Value> {
        self.get(&["v1", kind.plural(), name]).await
    }

    pub async fn delete_callee(&self, kind: CalleeKind, name: &str) -> Result<()> {
        self.delete(&["v1", kind.plural(), name]).await
    }

    // ---- schedules -----------------------------------------------------------------------------

    pub async fn set_schedule(&self, schedule: &Value) -> Result<Value> {
        let request = self.request(Method::POST, &["v1", "schedules"]).json(schedule);
        Ok(self.send(request).await?.json().await?)
    }

    pub async fn list_schedules(&self, limit: usize) -> Result<Vec<Value>> {
        self.list(&["v1", "schedules"], &[], limit).await
    }

    pub async fn get_schedule(&self, name: &str) -> Result<Value> {
        self.get(&["v1", "schedules", name]).await
    }

    pub async fn delete_schedule(&self, name: &str) -> Result<()> {
        self.delete(&["v1", "schedules", name]).await
    }

    /// `pause`, `resume` or `trigger`.
    pub async fn tell_schedule(&self, name: &str, verb: &str) -> Result<Value> {
        let request = self.request(Method::POST, &["v1", "schedules", name, verb]).json(&json!({}));
        Ok(self.send(request).await?.json().await?)
    }

    // ---- runs ----------------------------------------------------------------------------------

    /// Creates a run. When the answer is lost, the same request is sent again: there is one run either way.
    pub async fn create_run(&self, body: &Value, key: Option<&str>) -> Result<Value> {
        let key = key.map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned);
        let mut tries = 1;
        loop {
            let request = self.request(Method::POST, &["v1", "workflow-runs"]);
            match request.header("Idempotency-Key", &key).json(body).send().await {
                Ok(answer) => {
                    return Ok(self.checked(answer).await?.json().await?);
                }
                Err(error) if error.is_connect() || tries == CREATE_TRIES_MAX => {
                    return Err(self.unreachable(&error));
                }
                Err(_) => tries += 1,
            }
        }
    }

    /// The run as it stands; `wait` lets the server answer later, when the run has ended.
    pub async fn get_run(&self, id: &str, wait: Option<Duration>) -> Result<Value> {
        let request = self.request(Method::GET, &["v1", "workflow-runs", id]);
        let request = match wait {
            Some(wait) => request.query(&[("wait", format!("{}s", wait.as_secs().max(1)))]),
            None => request,
        };
        Ok(self.send(request).await?.json().await?)
    }

    /// The run with its values, even those that are too large for the log.
    pub async fn get_whole_run(&self, id: &str) -> Result<Value> {
        let request = self.request(Method::GET, &["v1", "workflow-runs", id]).query(&[("payloads", "full")]);
        Ok(self.send(request).await?.json().await?)
    }

    pub async fn list_runs(&self, query: &[(String, String)], limit: usize) -> Result<Vec<Value>> {
        self.list(&["v1", "workflow-runs"], query, limit).await
    }

    /// `pause`, `resume`, `cancel`, `approve`, `reject`, `retry` or `skip`.
    pub async fn command(&self, id: &str, command: &str, body: &Value) -> Result<Value> {
        let request = self.request(Method::POST, &["v1", "workflow-runs", id, command]).json(body);
        Ok(self.send(request).await?.json().await?)
    }

    /// Tells one page of runs the same.
    pub async fn bulk(&self, body: &Value) -> Result<Value> {
        let request = self.request(Method::POST, &["v1", "workflow-runs", "bulk"]).json(body);
        Ok(self.send(request).await?.json().await?)
    }

    pub async fn signal(&self, id: &str, name: &str, payload: &Value) -> Result<Value> {
        let request = self.request(Method::POST, &["v1", "workflow-runs", id, "signals", name]).json(payload);
        Ok(self.send(request).await?.json().await?)
    }

    /// One page of a run's log, in order, after `after`.
    pub async fn list_events(&self, id: &str, after: u32) -> Result<Vec<Value>> {
        let request = self
            .request(Method::GET, &["v1", "workflow-runs", id, "events"])
            .query(&[("after", after.to_string()), ("limit", PAGE_MAX.to_string())]);
        let page: Page = self.send(request).await?.json().await?;
        Ok(page.items)
    }

    /// What a run waits for, who holds it, and what would move it.
    pub async fn explain_run(&self, id: &str) -> Result<Value> {
        self.get(&["v1", "workflow-runs", id, "explain"]).await
    }

    /// Where the state machine of a run stands; none of a run that is no machine.
    pub async fn get_machine(&self, id: &str) -> Result<Option<Value>> {
        match self.get(&["v1", "workflow-runs", id, "machine"]).await {
            Ok(machine) => Ok(Some(machine)),
            Err(error) if error.downcast_ref::<Refusal>().is_some_and(|it| it.exit() == Exit::NotFound) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The run's history and then its news, until it ends. Goes on by itself when the connection breaks.
    pub fn watch_run(&self, id: &str, after: u32) -> tokio::sync::mpsc::Receiver<Result<News>> {
        watch::start(self.clone(), id.to_owned(), after)
    }

    /// One connection to the stream of a run's events.
    pub(crate) async fn open_stream(&self, id: &str, after: u32) -> Result<Response, StreamError> {
        let request = self
            .bare_request(Method::GET, &["v1", "workflow-runs", id, "events"])
            .header(ACCEPT, "text/event-stream")
            .header("Last-Event-ID", after.to_string());
        let answer = request.send().await.map_err(|error| StreamError::Lost(self.unreachable(&error)))?;
        if answer.status().is_server_error() || answer.status() == StatusCode::TOO_MANY_REQUESTS {
            return Err(StreamError::Lost(self.problem(answer).await));
        }
        self.checked(answer).await.map_err(StreamError::Refused)
    }

    pub async fn get_artifact(&self, id: &str, node: &str, name: &str) -> Result<Vec<u8>> {
        let request = self.request(Method::GET, &["v1", "workflow-runs", id, "artifacts", node, name]);
        Ok(self.send(request).await?.bytes().await?.to_vec())
    }

    /// Where a person or a browser finds an artifact.
    pub fn artifact_url(&self, id: &str, node: &str, name: &str) -> String {
        self.url(&["v1", "workflow-runs", id, "artifacts", node, name]).into()
    }

    // ---- the rest ------------------------------------------------------------------------------

    pub async fn list_approvals(&self, query: &[(String, String)], limit: usize) -> Result<Vec<Value>> {
        self.list(&["v1", "approvals"], query, limit).await
    }

    /// The readiness report, and whether the server is ready.
    pub async fn readiness(&self) -> Result<(bool, Value)> {
        let request = self.request(Method::GET, &["readyz"]);
        let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        let ready = answer.status().is_success();
        Ok((ready, answer.json().await.unwrap_or_else(|_| json!({}))))
    }

    // ---- how all of them are asked -------------------------------------------------------------

    async fn get(&self, path: &[&str]) -> Result<Value> {
        Ok(self.send(self.request(Method::GET, path)).await?.json().await?)
    }

    /// Follows cursors until `limit` items are there.
    async fn list(&self, path: &[&str], query: &[(String, String)], limit: usize) -> Result<Vec<Value>> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        while items.len() < limit {
            let page_limit = (limit - items.len()).min(PAGE_MAX);
            let mut request =
                self.request(Method::GET, path).query(query).query(&[("limit", page_limit.to_string())]);
            if let Some(cursor) = &cursor {
                request = request.query(&[("cursor", cursor)]);
            }
            let page: Page = self.send(request).await?.json().await?;
            items.extend(page.items);
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        items.truncate(limit);
        Ok(items)
    }

    fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        self.bare_request(method, path).timeout(ANSWER_TIMEOUT)
    }

    fn bare_request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut request = self.http.request(method, self.url(path));
        if let Some(user) = &self.identity.user {
            request = request.header("X-Windlass-User", user);
        }
        if !self.identity.roles.is_empty() {
            request = request.header("X-Windlass-Roles", self.identity.roles.join(","));
        }
        request
    }

    /// Every part is escaped: an id typed by a person must not reach another path.
    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .expect("settings accept http and https only, which have paths")
            .pop_if_empty()
            .extend(path);
        url
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response> {
        let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        self.checked(answer).await
    }

    async fn checked(&self, answer: Response) -> Result<Response> {
        if answer.status().is_success() { Ok(answer) } else { Err(self.problem(answer).await) }
    }

    async fn problem(&self, answer: Response) -> anyhow::Error {
        let status = answer.status();
        let bytes = answer.bytes().await.unwrap_or_default();
        match serde_json::from_slice::<Problem>(&bytes) {
            Ok(problem) => Refusal { status, problem }.into(),
            Err(_) => Failure::new(
                exit_of(status, ""),
                format!("{} answered {status} without saying why; is it a Windlass server?", self.server()),
            )
            .into(),
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> anyhow::Error {
        let server = self.server();
        if error.is_builder() {
            return Failure::usage(format!("the request cannot be sent: {error}")).into();
        }
        if error.is_timeout() && !error.is_connect() {
            return Failure::new(Exit::TimedOut, format!("{server} did not answer in time")).into();
        }
        let cause = std::iter::successors(std::error::Error::source(error), |cause| cause.source()).last();
        let why = cause.map_or_else(|| error.to_string(), ToString::to_string);
        Failure::new(Exit::Failed, format!("no server answers at {server}: {why}"))
            .hint("start one with `windlass dev`, or name another with --server or WINDLASS_SERVER")
            .into()
    }
}

/// Why a stream could not be opened: for good, or only for now.
#[derive(Debug)]
pub(crate) enum StreamError {
    Lost(anyhow::Error),
    Refused(anyhow::Error),
}

/// An answer of the API that says no (RFC 9457).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Problem {
    pub title: String,
    pub detail: String,
    pub code: String,
    pub errors: Vec<ProblemEntry>,
    pub request_id: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ProblemEntry {
    pub pointer: String,
    pub detail: String,
    pub code: Option<String>,
    pub line: Option<u32>,
    pub column: Option<u32>,
}

/// How the API says that a run has no such step.
const NO_NODE: &str = "has no node";

/// The server understood and refused.
#[derive(Debug)]
pub struct Refusal {
    pub status: StatusCode,
    pub problem: Problem,
}

impl Refusal {
    pub fn exit(&self) -> Exit {
        // The API calls it a body that does not fit; for a person it is a step that is not there.
        let is_unknown_step = |entry: &ProblemEntry| {
            ["/node", "/from"].contains(&&*entry.pointer) && entry.detail.contains(NO_NODE)
        };
        if self.problem.code == "invalid_body" && self.problem.errors.iter().any(is_unknown_step) {
            return Exit::NotFound;
        }
        exit_of(self.status, &self.problem.code)
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Problem { title, detail, code, errors, request_id } = &self.problem;
        let sentence = if detail.is_empty() { title } else { detail };
        let sentence = sentence.trim_end_matches('.');
        write!(f, "{}", clean(sentence))?;
        if !code.is_empty() {
            write!(f, " ({})", clean(code))?;
        }
        for entry in errors.iter().filter(|entry| !is_said_by(detail, entry)) {
            let place = if entry.pointer.is_empty() { "/" } else { entry.pointer.as_str() };
            write!(f, "\n  {}: {}", clean(place), clean(&entry.detail))?;
        }
        if let (true, Some(id)) = (self.status.is_server_error(), request_id) {
            write!(f, "\n  the server's log has more under request {}", clean(id))?;
        }
        Ok(())
    }
}

/// Of a parameter or a header the sentence itself says what is wrong.
fn is_said_by(sentence: &str, entry: &ProblemEntry) -> bool {
    entry.pointer.is_empty() && sentence.contains(&entry.detail)
}

impl std::error::Error for Refusal {}

fn exit_of(status: StatusCode, code: &str) -> Exit {
    match status.as_u16() {
        _ if code == "invalid_workflow" => Exit::Failed,
        _ if code == "unknown_workflow" => Exit::NotFound,
        _ if code == "idempotency_key_reused" => Exit::Conflict,
        400 | 413 | 415 | 422 => Exit::Usage,
        401 | 403 => Exit::Forbidden,
        404 => Exit::NotFound,
        409 | 412 | 428 => Exit::Conflict,
        408 | 504 => Exit::TimedOut,
        _ => Exit::Failed,
    }
}
