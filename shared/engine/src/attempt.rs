//! One attempt of one step: from the plan's words to a runner, and from its answer to an outcome.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use windlass_model::event::{Artifact, EventEmitted};
use windlass_model::open_work::Work;
use windlass_model::payload::{Blob, PAYLOAD_BYTES_MAX};
use windlass_model::workflow::expression::Context;
use windlass_model::{Outcome, Payload, Plan, RunState, StepError, TenantId, planted, rate_limit};
use windlass_store::{Fence, NewRun, point};

use crate::breaker::Breaker;
use crate::engine::EngineParts;
use crate::patience::patiently;
use crate::runner::{Done, Failure, File};
use crate::turn::CallLimit;
use crate::{Progress, Runner, StepContext};

/// After a cancel, a runner that has not returned by then is dropped.
const CANCEL_GRACE: Duration = Duration::from_secs(10);

/// An attempt that is ready to go: rendered, and with its runner.
pub(crate) struct Attempt {
    work: Work,
    runner: Arc<dyn Runner>,
    step: StepContext,
    fence: Fence,
    timeout: Option<Duration>,
    limit: Option<CallLimit>,
    breaker: Option<Breaker>,
}

/// What an attempt came to, and the content that its artifacts refer to.
pub(crate) struct Ended {
    pub(crate) work: Work,
    pub(crate) outcome: Outcome,
    pub(crate) blobs: Vec<Blob>,
    /// The run that the step starts.
    pub(crate) child: Option<Box<NewRun>>,
}

impl Attempt {
    /// Renders the node's keys against the state as it stands.
    pub(crate) fn prepare(
        parts: &EngineParts,
        tenant: TenantId,
        plan: &Plan,
        state: &RunState,
        work: Work,
        cancel: CancellationToken,
        fence: Fence,
    ) -> Result<Self, Box<Ended>> {
        let node = plan.node(work.node);
        let fail = |error: StepError| {
            let outcome = Outcome::Failed { error, artifacts: Vec::new() };
            Box::new(Ended { work, outcome, blobs: Vec::new(), child: None })
        };
        let runner = parts.runners.get(&node.kind).cloned().ok_or_else(|| {
            fail(StepError::new("internal", format!("this worker has no runner for `{}`", node.kind)))
        })?;
        let context = Context::new(plan, state).with_step(work.key()).with_secrets(parts.secrets.as_map());
        let rendered = node.params.render(&context).and_then(|params| match &node.callee {
            Some(callee) => callee.call(params, &context),
            None => Ok(params),
        });
        let params = rendered.map_err(|mut error| {
            error.message = parts.secrets.mask_text(&error.message);
            fail(error)
        })?;
        // What is secret in a URL stays so in the names of circuits.
        let host = || runner.host(&params).map(|host| parts.secrets.mask_text(&host));
        let breaker = Breaker::of(tenant, node, host);
        let step = StepContext {
            run_id: state.run_id,
            node: plan.label(work.key()).into_owned(),
            attempt: work.attempt,
            key_attempt: state.step(work.key()).key_attempt,
            idempotency_key: state.idempotency_key(plan, work.key()),
            timeout: node.timeout,
            params,
            cancel,
            progress: Progress::new(parts.bus.clone(), state.run_id, plan.label(work.key()).into_owned())
                .masking(parts.secrets.clone()),
        };
        let has_turn = rate_limit::holds(state.step(work.key()).turn_at, parts.clock.now());
        let has_turn = has_turn && !planted("turn_is_asked_for_again");
        let limit = CallLimit::of(tenant, node.callee.as_ref(), has_turn);
        Ok(Self { work, runner, step, fence, timeout: node.timeout, limit, breaker })
    }

    /// Lets the runner do it, unless it is not its turn, or a circuit is open.
    pub(crate) async fn run(mut self, parts: &EngineParts) -> Ended {
        if let Some(limit) = self.limit.take()
            && let Some(outcome) = Box::pin(self.until_canceled(limit.hold_back(parts))).await
        {
            return Ended { work: self.work, outcome, blobs: Vec::new(), child: None };
        }
        match self.breaker.take() {
            None => self.call(parts).await,
            Some(breaker) => Box::pin(self.call_behind(breaker, parts)).await,
        }
    }

    async fn until_canceled(&self, held_back: impl Future<Output = Option<Outcome>>) -> Option<Outcome> {
        tokio::select! {
            biased;
            outcome = held_back => outcome,
            () = self.step.cancel.cancelled() => Some(Outcome::Canceled),
        }
    }

    /// None when the run is ours for long enough to begin an effect. Otherwise another engine may do it, and nobody will
    /// hear from this attempt.
    async fn until_ours(&self, parts: &EngineParts) -> Option<Outcome> {
        parts.lease.until_safe().await;
        let touched = patiently(|| parts.store.touch_run(self.step.run_id, self.fence)).await;
        (!matches!(touched, Ok(true))).then_some(Outcome::Canceled)
    }

    async fn call_behind(self, breaker: Breaker, parts: &EngineParts) -> Ended {
        point("circuit.before_question");
        match breaker.admit(&*parts.store).await {
            Ok(tries) => {
                point("circuit.admitted");
                let ended = self.call(parts).await;
                point("circuit.before_news");
                breaker.tell(&*parts.store, tries, &ended.outcome).await;
                point("circuit.told");
                ended
            }
            Err(error) => {
                let outcome = Outcome::Failed { error, artifacts: Vec::new() };
                Ended { work: self.work, outcome, blobs: Vec::new(), child: None }
            }
        }
    }

    /// Lets the runner do it, within the step's time.
    async fn call(self, parts: &EngineParts) -> Ended {
        // Whoever was asked for a turn may have taken long to answer.
        if !parts.lease.is_safe()
            && let Some(outcome) = Box::pin(self.until_canceled(self.until_ours(parts))).await
        {
            return Ended { work: self.work, outcome, blobs: Vec::new(), child: None };
        }
        let Self { work, runner, step, timeout, .. } = self;
        let started_at = Instant::now();
        let kind = runner.spec().name;
        let cancel = step.cancel.clone();
        let given_up = async {
            cancel.cancelled().await;
            tokio::time::sleep(CANCEL_GRACE).await;
        };
        let too_long = async {
            match timeout {
                Some(timeout) => tokio::time::sleep(timeout).await,
                None => std::future::pending().await,
            }
        };
        point("attempt.before_deed");
        let returned = tokio::select! {
            biased;
            returned = runner.run(step) => Some(returned),
            () = given_up => None,
            () = too_long => {
                let error = StepError::new("timeout", format!("the step took longer than {:?}", timeout.unwrap_or_default()));
                metrics::counter!("windlass_step_timeouts_total", "kind" => kind).increment(1);
                return Ended { work, outcome: Outcome::TimedOut { error }, blobs: Vec::new(), child: None };
            }
        };
        point("attempt.after_deed");
        let mut blobs = Vec::new();
        let outcome = match returned {
            None => Outcome::Canceled,
            Some(Err(failure)) if cancel.is_cancelled() && failure.error.kind == "canceled" => {
                Outcome::Canceled
            }
            Some(Err(Failure { error, files })) => failed(parts, error, files, &mut blobs),
            Some(Ok(done)) => succeeded(parts, done, &mut blobs),
        };
        record(kind, &outcome, started_at.elapsed());
        Ended { work, outcome, blobs, child: None }
    }
}

fn succeeded(parts: &EngineParts, done: Done, blobs: &mut Vec<Blob>) -> Outcome {
    let Done { mut output, files, emit } = done;
    let artifacts = keep(parts, files, blobs);
    parts.secrets.mask_value(&mut output);
    let output = Payload::new(output);
    if let Payload::Blob { blob, .. } = &output
        && blob.size_bytes > PAYLOAD_BYTES_MAX as u64
    {
        let sentence = format!("the output has {} bytes; {PAYLOAD_BYTES_MAX} are allowed", blob.size_bytes);
        return Outcome::Failed { error: StepError::new("limit.output", sentence), artifacts };
    }
    let emit = emit.map(|mut emit| {
        parts.secrets.mask_value(&mut emit.data);
        EventEmitted { kind: emit.kind, data: Payload::new(emit.data) }
    });
    Outcome::Succeeded { output, artifacts, emit }
}

fn failed(parts: &EngineParts, mut error: StepError, files: Vec<File>, blobs: &mut Vec<Blob>) -> Outcome {
    error.message = parts.secrets.mask_text(&error.message);
    if let Some(details) = &mut error.details {
        parts.secrets.mask_value(details);
    }
    Outcome::Failed { error, artifacts: keep(parts, files, blobs) }
}

/// Turns files into artifacts; what they hold goes with the commit.
fn keep(parts: &EngineParts, files: Vec<File>, blobs: &mut Vec<Blob>) -> Vec<Artifact> {
    files
        .into_iter()
        .map(|file| {
            let content = match std::str::from_utf8(&file.content) {
                Ok(text) if !parts.secrets.as_map().is_empty() => parts.secrets.mask_text(text).into_bytes(),
                _ => file.content,
            };
            let blob = Blob::new(content);
            let artifact = Artifact { name: file.name, media_type: file.media_type, blob: blob.reference() };
            blobs.push(blob);
            artifact
        })
        .collect()
}

fn record(kind: &'static str, outcome: &Outcome, took: Duration) {
    let word = match outcome {
        Outcome::Succeeded { .. } => "succeeded",
        Outcome::Failed { .. } => "failed",
        Outcome::TimedOut { .. } => "timed_out",
        Outcome::Canceled => "canceled",
        Outcome::Called(_) => "called",
        Outcome::Deferred { .. } => "deferred",
    };
    metrics::histogram!("windlass_step_duration_seconds", "kind" => kind, "outcome" => word)
        .record(took.as_secs_f64());
}

/// What a runner that panicked is taken to have answered.
pub(crate) fn panicked(work: Work) -> Ended {
    let error = StepError::new("internal", "the runner broke down").with_details(json!({ "panic": true }));
    Ended { work, outcome: Outcome::Failed { error, artifacts: Vec::new() }, blobs: Vec::new(), child: None }
}
