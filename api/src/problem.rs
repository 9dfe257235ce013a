//! Every way in which a request is refused, and the only place that chooses status codes.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::ToSchema;
use windlass_model::command::RejectionCode;
use windlass_model::state::FoldError;
use windlass_model::workflow::schema::Violation;
use windlass_model::{Rejection, RunId, RunStatus, workflow};
use windlass_store::{COUNT_TRUSTED, PlanError, QuotaError, StoreError, WriteError};

/// What `type` begins with: a stable name, not a page that anyone must be able to load.
const TYPE_BASE: &str = "https://windlass.dev/problems/";
/// What a client should wait when the database is away; it may be back any moment.
const RETRY_AFTER_SECONDS: &str = "1";

/// Declares [`Code`] and its table: variant, status, code, title, meaning.
macro_rules! codes {
    ($($variant:ident $status:literal $code:literal $title:literal $meaning:literal,)*) => {
        /// The stable codes of problems.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code { $($variant,)* }

        impl Code {
            pub const ALL: &[Code] = &[$(Code::$variant,)*];

            pub fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            pub fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }

            /// One sentence for the documentation.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)* }
            }
        }
    };
}

codes! {
    MalformedRequest 400 "malformed_request" "The request cannot be read"
        "The address or the definition is not valid UTF-8, or the multipart body is broken.",
    MalformedJson 400 "malformed_json" "The body is not acceptable JSON"
        "Syntax, a key given twice, a NUL character, a byte order mark, or nesting deeper than 64; `line` and `column` say where.",
    InvalidHeader 400 "invalid_header" "A header has a value that cannot be used"
        "`X-Windlass-User`, `X-Windlass-Roles`, `Idempotency-Key`, `If-Match` or `If-None-Match` breaks its bounds.",
    InvalidCursor 400 "invalid_cursor" "The cursor is not one that was given out"
        "A `cursor` was changed or belongs to another list, or an event id is not a number.",
    EventIdAhead 400 "event_id_ahead" "The event id lies in the future"
        "`Last-Event-ID` or `after` is larger than the run's last event: it belongs to another run.",
    OriginNotAllowed 403 "origin_not_allowed" "Pages of this origin may not do this"
        "A web page of another origin tried to change something or to open a WebSocket.",
    NotAnApprover 403 "not_an_approver" "This person may not decide here"
        "The gate names its approvers, or excludes the requester.",
    NotFound 404 "not_found" "There is no such thing"
        "The route, workflow, version, tool, agent, run, step or artifact does not exist.",
    MethodNotAllowed 405 "method_not_allowed" "The route exists, the method does not"
        "`Allow` lists the methods of this route.",
    RequestTimeout 408 "request_timeout" "The request took too long to arrive"
        "The body was not complete within 30 seconds.",
    RunTerminal 409 "run_terminal" "The run has ended"
        "Nothing can change a run that has completed, failed or been canceled.",
    WrongState 409 "wrong_state" "The command does not fit the run's status"
        "For example `resume` on a run that is not paused.",
    StaleApproval 409 "stale_approval" "The gate is not as the request describes it"
        "Another attempt, another digest, or the gate is not open.",
    AlreadyDecided 409 "already_decided" "The gate was decided before"
        "Or this person has approved it already.",
    WrongStepState 409 "wrong_step_state" "The command does not fit the step's status"
        "For example `skip` on a step that has succeeded.",
    UnknownSignal 409 "unknown_signal" "Nothing in this run listens to that signal"
        "No step waits, or ever will wait, for a signal of this name.",
    SignalBufferFull 409 "signal_buffer_full" "Too many signals wait to be taken"
        "Signals were received that no step has taken yet.",
    GroupOccupied 409 "group_occupied" "The concurrency group is full"
        "The workflow says `on_conflict: reject`, and `conflicting_run_id` is under way or waits in the group.",
    PreconditionFailed 412 "precondition_failed" "What is there is not what the request expects"
        "`If-Match` names another revision, or `If-None-Match: *` found one; read it again.",
    BodyTooLarge 413 "body_too_large" "The body is too large"
        "2 MiB, or 8 MiB for uploads, unless configured otherwise.",
    UnsupportedMediaType 415 "unsupported_media_type" "The body has a media type that is not understood here"
        "`application/json` everywhere; `application/yaml` for definitions; `multipart/form-data` for uploads; no `Content-Encoding`.",
    HostNotAllowed 421 "host_not_allowed" "This server is not known under that name"
        "`Host` names neither an address, nor `localhost`, nor one of `WINDLASS_HOSTS`.",
    InvalidBody 422 "invalid_body" "The body does not have the right shape"
        "A field is unknown, missing, of another type, or out of bounds; `pointer` says which.",
    InvalidParameter 422 "invalid_parameter" "A parameter has a value that cannot be used"
        "A parameter is unknown, given twice, or out of bounds; `parameter` says which.",
    InvalidWorkflow 422 "invalid_workflow" "The definition is not valid"
        "Every problem of the definition is listed, with its pointer and, for text, its line and column.",
    InvalidInputs 422 "invalid_inputs" "The inputs do not fit the workflow"
        "They break the JSON Schema that the workflow declares for its inputs.",
    NoGroup 422 "no_group" "The concurrency group of the run cannot be told"
        "The expression of `concurrency.group` fails for these inputs and labels, or gives no name.",
    InvalidPayload 422 "invalid_payload" "The payload does not fit its schema"
        "An approval's form, or a signal's payload, breaks the schema of its step.",
    UnknownWorkflow 422 "unknown_workflow" "The workflow to run does not exist"
        "Neither the name nor the version may be missing.",
    IdempotencyKeyReused 422 "idempotency_key_reused" "The idempotency key belongs to another request"
        "The same key came with another body.",
    UpgradeRequired 426 "upgrade_required" "This route speaks WebSocket only"
        "Send the headers of a WebSocket handshake, or read the same events without `/ws`.",
    PreconditionRequired 428 "precondition_required" "The request must say which revision it changes"
        "Send `If-Match` with the `ETag` that you have read.",
    RateLimited 429 "rate_limited" "Runs of this workflow start too often"
        "The workflow says `on_limit: reject`; `Retry-After` says when the next may start.",
    Quota 429 "quota" "As many runs are open as may be"
        "The server's `open_runs_max`: try again after `Retry-After`, or when a run has ended. Nothing was written.",
    StreamLimit 429 "stream_limit" "Too many event streams are open"
        "Close some, or watch many runs on one connection with `GET /v1/events`.",
    Internal 500 "internal" "Something went wrong inside Windlass"
        "A fault of ours. The log holds the cause under the same request id.",
    Damaged 500 "damaged" "Stored data cannot be read"
        "The row was damaged, or written by a newer version; `windlass doctor` tells more.",
    StoreUnavailable 503 "store_unavailable" "The database does not answer"
        "Try again after `Retry-After`; with the same `Idempotency-Key` that is safe.",
    Contended 503 "contended" "Too many others change this run at the same time"
        "Nothing was changed. Try again after `Retry-After`.",
    NotReady 503 "not_ready" "This process is not ready"
        "`errors` names what fails.",
}

/// A refused request.
#[derive(Clone, Debug)]
pub(crate) struct Problem(Box<Parts>);

#[derive(Clone, Debug)]
struct Parts {
    code: Code,
    detail: Cow<'static, str>,
    faults: Vec<Fault>,
    run_status: Option<RunStatus>,
    conflicting_run_id: Option<RunId>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// One thing that is wrong with a request, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Fault {
    /// JSON pointer into the body or the definition.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub pointer: Option<String>,
    /// Name of the parameter or header.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub parameter: Option<String>,
    /// One sentence for people.
    pub detail: String,
    /// Counted from one, in the text that was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub line: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub column: Option<u32>,
    /// What kind of problem a definition has: `cycle`, `unknown_node`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub code: Option<Cow<'static, str>>,
}

/// The body of every refusal, as RFC 9457 describes it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemDocument<'a> {
    /// `https://windlass.dev/problems/<code>`: a stable name.
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What happened here, in one sentence.
    detail: &'a str,
    /// Stable; what programs should look at.
    code: &'static str,
    #[serde(skip_serializing_if = "<[Fault]>::is_empty")]
    errors: &'a [Fault],
    /// The status of the run when a command was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = crate::view::run_status)]
    run_status: Option<RunStatus>,
    /// The run that stands in the way of a new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Uuid, nullable = false)]
    conflicting_run_id: Option<RunId>,
    /// Also in `X-Request-Id`, and in the log.
    request_id: &'a str,
}

pub(crate) type Result<T, E = Problem> = std::result::Result<T, E>;

impl Problem {
    pub(crate) fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        let mut headers = Vec::new();
        if code.status() == 503 || code == Code::StreamLimit {
            headers.push((header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS)));
        }
        Self(Box::new(Parts {
            code,
            detail: detail.into(),
            faults: Vec::new(),
            run_status: None,
            conflicting_run_id: None,
            headers,
        }))
    }

    /// The same sentence for what does not exist and for what is somebody else's.
    pub(crate) fn not_found(what: &str) -> Self {
        Self::new(Code::NotFound, format!("There is no such {what}."))
    }

    /// A body that is JSON but not what this route takes.
    pub(crate) fn body(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(Code::InvalidBody, "The body does not have the right shape.").at(pointer, detail)
    }

    pub(crate) fn parameter(name: &str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        let fault = Fault { parameter: Some(name.to_owned()), detail: detail.clone(), ..Fault::default() };
        Self::new(Code::InvalidParameter, format!("Parameter `{name}`: {detail}")).with(fault)
    }

    pub(crate) fn header(name: &'static str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        let fault = Fault { parameter: Some(name.to_owned()), detail: detail.clone(), ..Fault::default() };
        Self::new(Code::InvalidHeader, format!("Header `{name}`: {detail}")).with(fault)
    }

    pub(crate) fn invalid_workflow(problems: Vec<workflow::Problem>, base: &str) -> Self {
        let faults =
            problems.into_iter().map(|problem| Fault::of_definition(problem, base)).collect::<Vec<_>>();
        let detail = match faults.len() {
            1 => "The definition has one problem.".to_owned(),
            n => format!("The definition has {n} problems."),
        };
        let mut problem = Self::new(Code::InvalidWorkflow, detail);
        problem.0.faults = faults;
        problem
    }

    pub(crate) fn invalid_inputs(violations: Vec<Violation>) -> Self {
        let mut problem = Self::new(Code::InvalidInputs, "The inputs do not fit the workflow.");
        for violation in violations {
            problem = problem.at(format!("/inputs{}", violation.pointer), violation.detail);
        }
        problem
    }

    /// A group has no place for a new run that will not wait.
    pub(crate) fn group_occupied(by: RunId) -> Self {
        let detail = format!("Run {by} stands in the way: the concurrency group is full.");
        let mut problem = Self::new(Code::GroupOccupied, detail);
        problem.0.conflicting_run_id = Some(by);
        problem
    }

    /// One run too many of a workflow that lets none wait.
    pub(crate) fn rate_limited(workflow: &str, retry_after: Duration) -> Self {
        let detail = format!("Runs of `{workflow}` start too often; the next may in {retry_after:?}.");
        Self::new(Code::RateLimited, detail).retry_after(retry_after)
    }

    /// In whole seconds, and not too early.
    fn retry_after(self, wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        self.with_header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// Logs the cause, which is nobody's business outside.
    pub(crate) fn internal(cause: &dyn std::fmt::Display) -> Self {
        tracing::error!(%cause, "A request failed");
        Self::new(Code::Internal, "Something went wrong inside Windlass; its log holds the cause.")
    }

    fn damaged(cause: &dyn std::fmt::Display) -> Self {
        tracing::error!(%cause, "Stored data cannot be read");
        Self::new(Code::Damaged, "Stored data cannot be read; the log and `windlass doctor` tell more.")
    }

    pub(crate) fn store_is_silent() -> Self {
        Self::new(
            Code::StoreUnavailable,
            "The database does not answer. Whether a change was made is not known: \
             repeat the request, with the same Idempotency-Key if it had one.",
        )
    }

    #[must_use]
    pub(crate) fn at(self, pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        self.with(Fault { pointer: Some(pointer.into()), detail: detail.into(), ..Fault::default() })
    }

    #[must_use]
    pub(crate) fn with(mut self, fault: Fault) -> Self {
        self.0.faults.push(fault);
        self
    }

    #[must_use]
    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    pub(crate) fn code(&self) -> Code {
        self.0.code
    }

    pub(crate) fn detail(&self) -> &str {
        &self.0.detail
    }

    pub(crate) fn run_status(&self) -> Option<RunStatus> {
        self.0.run_status
    }

    pub(crate) fn faults(&self) -> &[Fault] {
        &self.0.faults
    }

    /// The answer as it leaves the house.
    pub(crate) fn render(&self, request_id: &str) -> Response<Body> {
        let Parts { code, detail, faults, run_status, conflicting_run_id, headers } = &*self.0;
        let document = ProblemDocument {
            kind: format!("{TYPE_BASE}{}", code.as_str()),
            title: code.title(),
            status: code.status(),
            detail,
            code: code.as_str(),
            errors: faults,
            run_status: *run_status,
            conflicting_run_id: *conflicting_run_id,
            request_id,
        };
        let body = serde_json::to_vec(&document).expect("problems are plain data");
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = StatusCode::from_u16(code.status()).expect("the table holds real statuses");
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        for (name, value) in headers {
            response.headers_mut().insert(name, value.clone());
        }
        response
    }
}

/// Handlers give problems up as they are; the outermost layer, which knows the request id, renders them.
impl IntoResponse for Problem {
    fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() =
            StatusCode::from_u16(self.0.code.status()).expect("the table holds real statuses");
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

impl Fault {
    fn of_definition(problem: workflow::Problem, base: &str) -> Self {
        Self {
            pointer: Some(format!("{base}{}", problem.pointer)),
            parameter: None,
            detail: problem.detail,
            line: problem.line,
            column: problem.column,
            code: Some(problem.code.into()),
        }
    }
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        let code = match rejection.code {
            RejectionCode::RunTerminal => Code::RunTerminal,
            RejectionCode::WrongState => Code::WrongState,
            RejectionCode::StaleApproval => Code::StaleApproval,
            RejectionCode::AlreadyDecided => Code::AlreadyDecided,
            RejectionCode::NotAnApprover => Code::NotAnApprover,
            RejectionCode::InvalidPayload => Code::InvalidPayload,
            RejectionCode::WrongStepState => Code::WrongStepState,
            RejectionCode::UnknownSignal => Code::UnknownSignal,
            RejectionCode::SignalBufferFull => Code::SignalBufferFull,
        };
        let mut problem = Self::new(code, rejection.message);
        problem.0.run_status = Some(rejection.status);
        rejection.violations.into_iter().fold(problem, |problem, it| problem.at(it.pointer, it.detail))
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(cause) => {
                tracing::warn!(%cause, "The database does not answer");
                Self::store_is_silent()
            }
            StoreError::Damaged(what) => Self::damaged(&what),
            StoreError::Refused(cause) => Self::internal(&cause),
        }
    }
}

impl From<QuotaError> for Problem {
    fn from(error: QuotaError) -> Self {
        match error {
            QuotaError::Store(error) => error.into(),
            QuotaError::Full { .. } => {
                metrics::counter!("windlass_quota_refusals_total").increment(1);
                Self::new(Code::Quota, format!("{error}.")).retry_after(COUNT_TRUSTED)
            }
        }
    }
}

impl From<WriteError> for Problem {
    /// For writes without a condition: who has one answers `Moved` and `KeyTaken` before.
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Store(error) => error.into(),
            other => Self::internal(&other),
        }
    }
}

impl From<PlanError> for Problem {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::Store(error) => error.into(),
            other => Self::damaged(&other),
        }
    }
}

impl From<FoldError> for Problem {
    fn from(error: FoldError) -> Self {
        Self::damaged(&error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_every_rejection_has_one_of_the_same_name() {
        let mut codes: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Code::ALL.len());
        for code in [
            RejectionCode::RunTerminal,
            RejectionCode::WrongState,
            RejectionCode::StaleApproval,
            RejectionCode::AlreadyDecided,
            RejectionCode::NotAnApprover,
            RejectionCode::InvalidPayload,
            RejectionCode::WrongStepState,
            RejectionCode::UnknownSignal,
            RejectionCode::SignalBufferFull,
        ] {
            let status = RunStatus::Paused;
            let rejection = Rejection { code, message: String::new(), status, violations: Vec::new() };
            assert_eq!(Problem::from(rejection).code().as_str(), code.as_str());
        }
    }
}
