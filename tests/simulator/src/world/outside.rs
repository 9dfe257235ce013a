//! The world outside: what steps do to it, and what it is told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use scenarios::sink::Effect;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;
use windlass_engine::{Done, Failure, Runner, StepContext};
use windlass_model::StepError;
use windlass_model::callee::CalleeKind;
use windlass_model::workflow::KindSpec;
use windlass_store::OutboxRow;
use windlass_worker::Sink;

use super::World;
use super::process::Process;

/// What has arrived outside.
#[derive(Default)]
pub(crate) struct Outside(Mutex<Arrived>);

#[derive(Default)]
struct Arrived {
    effects: Vec<Effect>,
    /// How often each step has failed for sure.
    failures: BTreeMap<(String, String), u32>,
    /// When each step was first tried whose agent is away.
    asked_since: BTreeMap<(String, String), Instant>,
    /// Deliveries of emitted events by their id.
    told: BTreeMap<String, u32>,
}

impl Outside {
    pub(crate) fn effects_of(&self, run: &str) -> Vec<Effect> {
        let prefix = format!("{run}/");
        let arrived = self.0.lock().expect("one thread");
        arrived.effects.iter().filter(|effect| effect.key.starts_with(&prefix)).cloned().collect()
    }

    pub(crate) fn told(&self) -> BTreeMap<String, u32> {
        self.0.lock().expect("one thread").told.clone()
    }

    fn has_seen(&self, key: &str) -> bool {
        self.0.lock().expect("one thread").effects.iter().any(|effect| effect.key == key)
    }

    fn take(&self, effect: Effect) {
        self.0.lock().expect("one thread").effects.push(effect);
    }

    /// Whether whoever this step asks is still away, who comes back so long after the first time.
    fn is_away(&self, step: &StepContext, span: Duration) -> bool {
        let mut arrived = self.0.lock().expect("one thread");
        let key = (step.run_id.to_string(), step.node.clone());
        arrived.asked_since.entry(key).or_insert_with(Instant::now).elapsed() < span
    }

    /// Whether this step is to fail once more.
    fn fails(&self, step: &StepContext, times: u32) -> bool {
        let mut arrived = self.0.lock().expect("one thread");
        let failures = arrived.failures.entry((step.run_id.to_string(), step.node.clone())).or_default();
        if *failures >= times {
            return false;
        }
        *failures += 1;
        true
    }
}

/// A node that does something outside.
pub(crate) struct Deed {
    pub(super) world: Arc<World>,
    pub(super) process: Arc<Process>,
}

/// The keys of a deed.
#[derive(Deserialize)]
struct Manner {
    #[serde(default)]
    takes_ms: u64,
    /// It fails for sure this often before it works; a step that is tried again by a person goes on counting.
    #[serde(default)]
    fails: u32,
    #[serde(default = "busy")]
    error: String,
    /// For so long, from the first try on, nobody is there who could do it.
    #[serde(default)]
    away_ms: u64,
    /// What it returns.
    #[serde(default)]
    output: Value,
    /// Takes no notice of a cancel.
    #[serde(default)]
    deaf: bool,
}

fn busy() -> String {
    "http.503".to_owned()
}

#[async_trait]
impl Runner for Deed {
    fn spec(&self) -> KindSpec {
        spec()
    }

    async fn run(&self, mut step: StepContext) -> Result<Done, Failure> {
        let manner: Manner = serde_json::from_value(step.params["with"].take())
            .map_err(|error| StepError::new("schema.input", error.to_string()))?;
        let cancel = step.cancel.clone();
        let doing = self.act(step, &manner);
        if manner.deaf {
            return doing.await;
        }
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(StepError::new("canceled", "the run was canceled meanwhile").into()),
            done = doing => done,
        }
    }
}

/// What definitions may say about deeds.
pub(crate) fn spec() -> KindSpec {
    KindSpec {
        name: "deed",
        summary: "Does something in the simulated world outside",
        params: || json!({"type": "object", "properties": {"with": {"type": "object"}}}),
        retry_safe: |_| true,
    }
}

impl Deed {
    async fn act(&self, step: StepContext, manner: &Manner) -> Result<Done, Failure> {
        let whole = Duration::from_millis(manner.takes_ms);
        let before = self.world.draw(|chance| chance.between(Duration::ZERO, whole));
        tokio::time::sleep(before).await;
        self.process.passes().await;
        self.world.keep_time();
        if self.world.outside.is_away(&step, Duration::from_millis(manner.away_ms)) {
            return Err(StepError::new("agent.offline", "nobody is there").into());
        }
        let fails = self.world.outside.fails(&step, manner.fails);
        self.world.note(format_args!(
            "{} does {} (attempt {}){}",
            self.process.name,
            step.idempotency_key,
            step.attempt,
            if fails { " and fails" } else { "" }
        ));
        if self.world.outside.has_seen(&step.idempotency_key) {
            self.world.reach.hit("effect_repeated_with_its_key");
        }
        self.world.outside.take(Effect {
            method: "POST".to_owned(),
            path: step.node.clone(),
            key: step.idempotency_key.clone(),
            headers: reqwest::header::HeaderMap::new(),
            body: Value::Null,
            at: self.world.now_for_people(),
        });
        tokio::time::sleep(whole.saturating_sub(before)).await;
        self.process.passes().await;
        if fails {
            return Err(StepError::new(manner.error.clone(), "not now").into());
        }
        Ok(Done::new(manner.output.clone()))
    }
}

/// Calls a host by itself.
pub(crate) struct Request(pub(crate) Deed);

#[async_trait]
impl Runner for Request {
    fn spec(&self) -> KindSpec {
        request_spec()
    }

    fn host(&self, params: &Value) -> Option<String> {
        params["with"]["host"].as_str().map(str::to_owned)
    }

    async fn run(&self, step: StepContext) -> Result<Done, Failure> {
        self.0.run(step).await
    }
}

/// The kind of node whose host may have a circuit.
pub(crate) fn request_spec() -> KindSpec {
    KindSpec { name: "http", summary: "Calls a host of the simulated world", ..spec() }
}

/// Calls tools, or agents. Of what those may do, only the deed is known here.
pub(crate) struct Caller {
    pub(crate) of: CalleeKind,
    pub(crate) deed: Deed,
}

#[async_trait]
impl Runner for Caller {
    fn spec(&self) -> KindSpec {
        caller_spec(self.of)
    }

    fn deeds(&self) -> Vec<KindSpec> {
        vec![spec()]
    }

    async fn run(&self, mut step: StepContext) -> Result<Done, Failure> {
        step.params = step.params["do"].take();
        self.deed.run(step).await
    }
}

/// What definitions may say about calls of tools and agents.
pub(crate) fn caller_spec(of: CalleeKind) -> KindSpec {
    KindSpec {
        name: of.as_str(),
        summary: "Calls somebody of the simulated world",
        params: || json!({"type": "object", "properties": {"tool": {"type": "string"}, "agent": {"type": "string"}}}),
        retry_safe: |_| false,
    }
}

/// Where the relays of all workers deliver to.
pub(crate) struct Ear {
    pub(super) world: Arc<World>,
    pub(super) process: Arc<Process>,
}

#[async_trait]
impl Sink for Ear {
    async fn deliver(&self, message: &OutboxRow) -> Result<(), String> {
        self.process.passes().await;
        let noise = self.world.noise();
        if self.world.row(message.run_id).is_none_or(|row| row.tenant != message.tenant) {
            self.world
                .complain(format!("I20: what {} emitted is told as {:?}", message.run_id, message.tenant));
        }
        let id = format!("{}/{}", message.run_id, message.message.seq);
        let refuses = self.world.draw(|chance| chance.below(1_000) < u64::from(noise.deaf));
        self.world.note(format_args!(
            "{} tells {id}{}",
            self.process.name,
            if refuses { " in vain" } else { "" }
        ));
        if refuses {
            self.world.reach.hit("delivery_failed");
            return Err("the receiver is busy".to_owned());
        }
        let times = {
            let mut arrived = self.world.outside.0.lock().expect("one thread");
            let times = arrived.told.entry(id).or_default();
            *times += 1;
            *times
        };
        if times > 1 {
            self.world.reach.hit("told_twice");
        }
        self.process.passes().await;
        Ok(())
    }
}
