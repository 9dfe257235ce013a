//! What the tests of the runners share.

use std::sync::Arc;

use serde_json::Value;
use tokio_util::sync::CancellationToken;
use windlass_bus::{Bus, InProcessBus, News, Subscription};
use windlass_engine::{Done, Failure, Progress, StepContext};
use windlass_model::{RunId, StepError};

/// A first attempt of a step `it` that nobody watches.
pub(crate) fn step(params: Value) -> StepContext {
    step_on(InProcessBus::new(), params)
}

/// The same, and what it reports meanwhile.
pub(crate) async fn watched_step(params: Value) -> (StepContext, Subscription) {
    let bus = InProcessBus::new();
    let news = bus.subscribe(run_id()).await;
    (step_on(bus, params), news)
}

/// Everything that was reported so far.
pub(crate) fn reported(news: &mut Subscription) -> Vec<Value> {
    std::iter::from_fn(|| news.try_recv().ok())
        .filter_map(|news| match news {
            News::Progress(progress) => Some(progress["progress"].clone()),
            News::Event(_) | News::Missed => None,
        })
        .collect()
}

pub(crate) fn error_of(ended: Result<Done, Failure>) -> StepError {
    ended.expect_err("the step should have failed").error
}

fn step_on(bus: Arc<dyn Bus>, params: Value) -> StepContext {
    StepContext {
        run_id: run_id(),
        node: "it".into(),
        attempt: 1,
        key_attempt: 1,
        idempotency_key: "key-1".into(),
        timeout: None,
        params,
        cancel: CancellationToken::new(),
        progress: Progress::new(bus, run_id(), "it".into()),
    }
}

fn run_id() -> RunId {
    RunId(uuid::Uuid::from_u128(7))
}
