//! The workflows that schedules run: small ones, each about a few rules, with times in milliseconds.

use std::sync::Arc;

use futures::FutureExt;
use serde_json::Value;
use windlass_engine::Runner;
use windlass_model::body::{Body, Called};
use windlass_model::callee::CalleeKind;
use windlass_model::plan::Role;
use windlass_model::workflow::{Catalog, Document, Format, compile};
use windlass_model::{Digest, Plan, VersionId};
use windlass_store::memory::MemoryStore;
use windlass_store::{Definition, NewWorkflow, Plans, Precondition, Store, Workflows};
use windlass_worker::nodes::{self, NodeOptions};

use crate::whose::Whose;
use crate::world::outside;

const SOURCES: &[&str] = &[
    include_str!("../workflows/serial.yaml"),
    include_str!("../workflows/fan.yaml"),
    include_str!("../workflows/careful.yaml"),
    include_str!("../workflows/gates.yaml"),
    include_str!("../workflows/patience.yaml"),
    include_str!("../workflows/trip.yaml"),
    include_str!("../workflows/order.yaml"),
    include_str!("../workflows/routes.yaml"),
    include_str!("../workflows/news.yaml"),
    include_str!("../workflows/desk.yaml"),
    include_str!("../workflows/deadline.yaml"),
    include_str!("../workflows/crowd.yaml"),
    include_str!("../workflows/items.yaml"),
    include_str!("../workflows/poison.yaml"),
    include_str!("../workflows/turns.yaml"),
    include_str!("../workflows/newest.yaml"),
    include_str!("../workflows/family.yaml"),
    include_str!("../workflows/hurry.yaml"),
    include_str!("../workflows/branches.yaml"),
    include_str!("../workflows/lists.yaml"),
    include_str!("../workflows/tools.yaml"),
    include_str!("../workflows/paced.yaml"),
    include_str!("../workflows/queue.yaml"),
    include_str!("../workflows/turnstile.yaml"),
    include_str!("../workflows/sliced.yaml"),
    include_str!("../workflows/absent.yaml"),
    include_str!("../workflows/hosts.yaml"),
];
/// What they call. Nobody starts these for themselves.
const CALLED: &[&str] = &[
    include_str!("../workflows/leaf.yaml"),
    include_str!("../workflows/brittle.yaml"),
    include_str!("../workflows/listener.yaml"),
];
/// What is not published anew: a machine, and what takes long enough as it is.
const KEPT: &[&str] = &["desk", "long", "poison"];
/// So many steps that the state of the run is stored on the way.
const LONG_STEPS: usize = 140;
/// Kinds of node that need no simulation.
const PLAIN_KINDS: &[&str] = &["noop", "transform", "switch", "emit"];

/// All workflows, compiled once.
pub(crate) struct Library {
    pub(crate) workflows: Vec<Entry>,
    called: Vec<Entry>,
    /// What some of them are published as anew, one step more before all others; and what stands inside those.
    anew: Vec<Entry>,
    /// What stands inside the nodes of all of them.
    bodies: Vec<Entry>,
    pub(crate) plain_runners: Vec<Arc<dyn Runner>>,
    catalog: Arc<Catalog>,
}

pub(crate) struct Entry {
    pub(crate) name: String,
    /// As its author wrote it.
    pub(crate) source: Value,
    pub(crate) plan: Arc<Plan>,
    spec: String,
}

impl Library {
    pub(crate) fn open() -> Self {
        let all = nodes::all(&NodeOptions::default());
        let plain_runners: Vec<Arc<dyn Runner>> =
            PLAIN_KINDS.iter().filter_map(|kind| all.get(kind).cloned()).collect();
        let kinds = plain_runners
            .iter()
            .map(|runner| runner.spec())
            .chain([outside::spec(), outside::request_spec()]);
        let catalog = Catalog::new(kinds.chain(CalleeKind::ALL.map(outside::caller_spec)));
        let with_deeds = |catalog: Catalog, of| catalog.with_deeds(of, vec![outside::spec()]);
        let catalog = Arc::new(CalleeKind::ALL.into_iter().fold(catalog, with_deeds));
        let sources = SOURCES.iter().map(|text| (*text).to_owned()).chain([long()]);
        let workflows: Vec<Entry> = sources.map(|text| Entry::read(&text, &catalog)).collect();
        let called: Vec<Entry> = CALLED.iter().map(|text| Entry::read(text, &catalog)).collect();
        let mut bodies = Vec::new();
        for entry in workflows.iter().chain(&called) {
            add_bodies(&entry.plan, &mut bodies);
        }
        let changeable = workflows.iter().chain(&called).filter(|entry| !KEPT.contains(&entry.name.as_str()));
        let mut anew: Vec<Entry> =
            changeable.map(|entry| Entry::read(&with_a_step_more(&entry.source), &catalog)).collect();
        let mut inside = Vec::new();
        anew.iter().for_each(|entry| add_bodies(&entry.plan, &mut inside));
        anew.extend(inside);
        Self { workflows, called, anew, bodies, plain_runners, catalog }
    }

    /// In the order of their versions, which are counted from 1; those of the second tenant follow.
    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.workflows.iter().chain(&self.called).chain(&self.bodies)
    }

    /// Puts every definition of each tenant into a new database.
    pub(crate) fn publish(&self, database: &MemoryStore, tenants: &[Whose]) {
        for tenant in tenants.iter().map(|whose| whose.tenant()) {
            for entry in self.workflows.iter().chain(&self.called) {
                let published = database.put_workflow(NewWorkflow {
                    tenant,
                    definition: entry.definition(),
                    tags: Vec::new(),
                    precondition: Precondition::None,
                    remember: None,
                });
                let published = published.now_or_never().expect("a database in memory answers at once");
                assert!(published.is_ok(), "{} cannot be published: {published:?}", entry.name);
            }
            for entry in &self.bodies {
                let kept = database.put_inline(tenant, entry.definition()).now_or_never();
                assert!(kept.is_some_and(|kept| kept.is_ok()), "{} cannot be kept", entry.name);
            }
        }
    }

    /// The plans of one process, with those that every tenant has from the beginning.
    pub(crate) fn plans(&self, store: Arc<dyn Store>, tenants: &[Whose]) -> Arc<Plans> {
        let plans = Plans::new(store, self.catalog.clone());
        let published = tenants.iter().flat_map(|_| self.entries());
        for (id, entry) in (1..).zip(published) {
            plans.keep(VersionId(id), entry.plan.clone());
        }
        Arc::new(plans)
    }

    /// What a workflow is, or is to be from now on.
    pub(crate) fn definition_of(&self, name: &str, anew: bool) -> Option<&Entry> {
        let mut entries =
            if anew { self.anew.iter().chain(&[]) } else { self.workflows.iter().chain(&self.called) };
        entries.find(|entry| entry.name == name)
    }

    /// One of those that so many tenants have from the beginning, and whose it is.
    pub(crate) fn of(&self, version: VersionId, tenants: &[Whose]) -> Option<(&Entry, Whose)> {
        let place = usize::try_from(version.0 - 1).expect("versions are counted from 1");
        let count = self.entries().count();
        let owner = tenants.get(place / count)?;
        Some((self.entries().nth(place % count)?, *owner))
    }

    pub(crate) fn with_hash(&self, hash: &Digest) -> Option<&Entry> {
        self.entries().chain(&self.anew).find(|entry| entry.plan.hash == *hash)
    }
}

impl Entry {
    fn read(text: &str, catalog: &Catalog) -> Self {
        let document = Document::parse(text, Format::Yaml).unwrap_or_else(|problem| panic!("{problem:?}"));
        let plan = compile(&document, catalog).unwrap_or_else(|problems| panic!("{problems:#?}\n{text}"));
        let source = scenarios::definition::parse(text);
        Self { name: plan.name.clone(), source, plan: Arc::new(plan), spec: document.spec.to_string() }
    }

    /// As somebody sends it who publishes it.
    pub(crate) fn to_publish(&self) -> Value {
        let spec: Value = serde_json::from_str(&self.spec).expect("it was printed");
        serde_json::json!({ "spec": spec })
    }

    fn definition(&self) -> Definition {
        let Self { name, plan, spec, .. } = self;
        Definition { name: name.clone(), hash: plan.hash.clone(), spec: spec.clone() }
    }
}

/// Adds what stands inside the nodes of a plan, each definition once.
fn add_bodies(plan: &Plan, bodies: &mut Vec<Entry>) {
    for node in &plan.nodes {
        let Role::Workflow(called) = &node.role else { continue };
        let inside: Vec<&Arc<Body>> = match called {
            Called::Slice(body) => vec![body],
            called => called.bodies().into_iter().map(|(_, body)| body).collect(),
        };
        for body in inside {
            if bodies.iter().all(|known| known.plan.hash != body.plan.hash) {
                let source = scenarios::definition::parse(&body.spec);
                let (name, spec) = (body.plan.name.clone(), body.spec.clone());
                bodies.push(Entry { name, source, plan: body.plan.clone(), spec });
            }
            add_bodies(&body.plan, bodies);
        }
    }
}

/// The same workflow with one step more, which comes first.
fn with_a_step_more(source: &Value) -> String {
    let mut source = source.clone();
    let mut step = serde_json::json!({ "type": "deed", "with": { "takes_ms": 40 } });
    if let Some(steps) = source.get_mut("steps").and_then(Value::as_array_mut) {
        step["id"] = "anew".into();
        steps.insert(0, step);
    } else {
        source["nodes"]["anew"] = step;
    }
    source.to_string()
}

/// A chain of steps that do nothing.
fn long() -> String {
    let steps: String = (0..LONG_STEPS).map(|n| format!("  - {{ id: s{n}, type: noop }}\n")).collect();
    format!("version: 1\nname: long\ntype: steps\nsteps:\n{steps}")
}
