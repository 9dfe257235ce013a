//! What does the deed of a node. A runner gets values, returns a value, and cannot reach the store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use windlass_bus::Bus;
use windlass_model::callee::CalleeKind;
use windlass_model::workflow::{Catalog, KindSpec};
use windlass_model::{Attempt, RunId, StepError};

use crate::Secrets;

/// Does the deed of one kind of node.
#[async_trait]
pub trait Runner: Send + Sync + 'static {
    /// Its name, its keys, and whether its deeds may be repeated.
    fn spec(&self) -> KindSpec;

    /// The types that may stand in the `do` of the tools or agents that this kind calls; none for any other kind.
    fn deeds(&self) -> Vec<KindSpec> {
        Vec::new()
    }

    /// The host that a deed with these keys calls, with its port unless that is the usual one. None when it calls none, or
    /// when nobody can tell.
    fn host(&self, _params: &Value) -> Option<String> {
        None
    }

    /// Does it once. No transaction is open meanwhile.
    ///
    /// The engine drops this future when the step's timeout has passed, and trips `step.cancel` when the
    /// run is canceled: return soon then, whatever you return.
    async fn run(&self, step: StepContext) -> Result<Done, Failure>;
}

/// What a runner is given.
#[derive(Clone)]
pub struct StepContext {
    pub run_id: RunId,
    /// The node's id in the definition; inside a fan-out with the item's index, as in `grade.do[3]`.
    pub node: String,
    pub attempt: Attempt,
    /// The attempt that the key is of: an earlier one, when the outcome of that one is unknown.
    pub key_attempt: Attempt,
    /// Send it along with an effect: it repeats when an earlier attempt's outcome is unknown.
    pub idempotency_key: String,
    /// How long the engine waits before it drops the future; none when the definition says nothing.
    pub timeout: Option<Duration>,
    /// The kind's own keys, with every expression evaluated. May hold secrets: don't log it.
    pub params: Value,
    pub cancel: CancellationToken,
    pub progress: Progress,
}

/// Where long work says how far it is. Progress is shown live and not kept.
#[derive(Clone)]
pub struct Progress {
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) run_id: RunId,
    pub(crate) node: String,
    pub(crate) secrets: Secrets,
}

impl Progress {
    pub fn new(bus: Arc<dyn Bus>, run_id: RunId, node: String) -> Self {
        Self { bus, run_id, node, secrets: Secrets::default() }
    }

    /// Hides these in whatever is reported.
    #[must_use]
    pub fn masking(mut self, secrets: Secrets) -> Self {
        self.secrets = secrets;
        self
    }

    /// `progress`: any small JSON, such as `{"line": "…"}` or `{"done": 3, "of": 10}`.
    pub fn report(&self, mut progress: Value) {
        self.secrets.mask_value(&mut progress);
        let news = serde_json::json!({"type": "run.progress", "run_id": self.run_id, "node": self.node, "progress": progress});
        self.bus.publish_progress(self.run_id, news);
    }
}

/// A deed that was done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Done {
    pub output: Value,
    pub files: Vec<File>,
    pub emit: Option<Emit>,
}

impl Done {
    pub fn new(output: Value) -> Self {
        Self { output, files: Vec::new(), emit: None }
    }
}

/// A deed that failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    pub error: StepError,
    pub files: Vec<File>,
}

impl From<StepError> for Failure {
    fn from(error: StepError) -> Self {
        Self { error, files: Vec::new() }
    }
}

/// Something to keep as an artifact of the step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// A plain file name; the step's own log is `log`.
    pub name: String,
    pub media_type: String,
    pub content: Vec<u8>,
}

/// A message for the outside, delivered at least once.
#[derive(Clone, Debug, PartialEq)]
pub struct Emit {
    pub kind: String,
    pub data: Value,
}

/// Runners by the kind of node they do.
#[derive(Clone, Default)]
pub struct Runners(BTreeMap<&'static str, Arc<dyn Runner>>);

impl Runners {
    pub fn new(runners: impl IntoIterator<Item = Arc<dyn Runner>>) -> Self {
        Self(runners.into_iter().map(|runner| (runner.spec().name, runner)).collect())
    }

    pub fn get(&self, kind: &str) -> Option<&Arc<dyn Runner>> {
        self.0.get(kind)
    }

    pub fn specs(&self) -> impl Iterator<Item = KindSpec> {
        self.0.values().map(|runner| runner.spec())
    }

    /// What definitions may use.
    pub fn catalog(&self) -> Catalog {
        let catalog = Catalog::new(self.specs());
        self.0.iter().fold(catalog, |catalog, (kind, runner)| match CalleeKind::of_node(kind) {
            Some(callee) => catalog.with_deeds(callee, runner.deeds()),
            None => catalog,
        })
    }
}
