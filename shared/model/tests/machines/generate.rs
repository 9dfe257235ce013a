//! Random machines, the same for the same seed, over what Windlass and XState share.

use serde_json::{Map, Value, json};
use windlass_model::Plan;

use crate::drive;

/// SplitMix64: small, and the same everywhere.
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(crate) fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<'v, T>(&mut self, values: &'v [T]) -> &'v T {
        &values[self.below(values.len())]
    }
}

pub(crate) const EVENTS: &[&str] = &["E0", "E1", "E2", "E3"];
pub(crate) const RAISED: &[&str] = &["R0", "R1"];
pub(crate) const ERRORS: &[&str] = &["timeout", "broken"];
/// Different sums for different timers, as far as possible: who goes first at the same instant is not said.
const DELAYS_S: &[u64] = &[1009, 2003, 4001, 8009, 16001, 32003, 64007, 128021, 256019, 512009];

/// A machine, unless it is one of those that never come to rest and are refused.
pub(crate) fn compiled(seed: u64) -> Option<(Value, Plan)> {
    let definition = machine(seed);
    match drive::compiled(&definition) {
        Ok(plan) => Some((definition, plan)),
        Err(problems) => {
            let is_endless = problems.iter().all(|it| it.code == "endless");
            assert!(is_endless, "seed {seed}: {definition}\n{problems:#?}");
            None
        }
    }
}

/// The body of a definition.
fn machine(seed: u64) -> Value {
    let mut generator = Generator { chance: Chance::new(seed), paths: Vec::new(), labels: 0, delays: 0 };
    let mut root = generator.tree(&[], 0, Kind::Compound);
    let kinds = kinds(&root);
    generator.fill(&mut root, &[], &kinds);
    // From anywhere to anywhere, so that nothing is out of reach.
    for (at, path) in generator.paths.clone().iter().enumerate() {
        let reenter = generator.chance.percent(20);
        let actions = generator.actions(Reads::Event);
        root["on"][format!("G{at}")] =
            json!({ "target": format!("#{path}"), "reenter": reenter, "actions": actions });
    }
    for name in RAISED {
        if root["on"].get(name).is_none() {
            root["on"][*name] = json!({ "actions": [generator.label("root")] });
        }
    }
    root["context"] = json!({ "a": 0, "b": generator.chance.below(4), "c": 1 });
    root
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Atomic,
    Compound,
    Parallel,
    Final,
    History,
}

/// What the expressions of one place may read beside the context.
#[derive(Clone, Copy, PartialEq)]
enum Reads {
    Nothing,
    Event,
    Output,
}

struct Generator {
    chance: Chance,
    /// Of all states but the machine itself, in document order.
    paths: Vec<String>,
    labels: usize,
    delays: usize,
}

const STATES_MAX: usize = 16;

impl Generator {
    fn tree(&mut self, path: &[String], depth: usize, kind: Kind) -> Value {
        let mut state = Map::new();
        match kind {
            Kind::Parallel => state.insert("type".into(), "parallel".into()),
            Kind::Final => state.insert("type".into(), "final".into()),
            Kind::History => state.insert("type".into(), "history".into()),
            Kind::Atomic | Kind::Compound => None,
        };
        if !matches!(kind, Kind::Compound | Kind::Parallel) {
            return Value::Object(state);
        }
        let mut children = Map::new();
        let count = 2 + self.chance.below(2) + usize::from(depth == 0);
        let mut kinds: Vec<Kind> = (0..count).map(|_| self.inner_kind(depth)).collect();
        if kind == Kind::Compound && self.chance.percent(if depth == 0 { 30 } else { 60 }) {
            kinds.push(Kind::Final);
        }
        if self.chance.percent(35) {
            kinds.insert(self.chance.below(kinds.len() + 1), Kind::History);
        }
        let mut active = Vec::new();
        for inner in kinds {
            let key = format!("s{}", self.paths.len());
            let mut path = path.to_vec();
            path.push(key.clone());
            self.paths.push(path.join("."));
            if inner != Kind::History {
                active.push(key.clone());
            }
            let tree = self.tree(&path, depth + 1, inner);
            children.insert(key, tree);
        }
        if kind == Kind::Compound {
            let from = if self.chance.percent(70) { 0 } else { self.chance.below(active.len()) };
            state.insert("initial".into(), active[from].clone().into());
        }
        state.insert("states".into(), Value::Object(children));
        Value::Object(state)
    }

    fn inner_kind(&mut self, depth: usize) -> Kind {
        if depth >= 3 || self.paths.len() >= STATES_MAX {
            return Kind::Atomic;
        }
        match self.chance.below(10) {
            0..=4 => Kind::Atomic,
            5..=7 => Kind::Compound,
            _ => Kind::Parallel,
        }
    }

    /// Gives each state what it does.
    fn fill(&mut self, state: &mut Value, path: &[String], kinds: &[(String, Kind)]) {
        let own = path.join(".");
        let kind = kind_of(state);
        if kind == Kind::History {
            if self.chance.percent(60) {
                state["history"] = (*self.chance.pick(&["shallow", "deep"])).into();
            }
            let parent = path[..path.len() - 1].join(".");
            let siblings: Vec<&str> = kinds
                .iter()
                .filter(|(other, kind)| {
                    *kind != Kind::History
                        && other.rsplit_once('.').map_or("", |(parent, _)| parent) == parent
                })
                .map(|(other, _)| other.rsplit('.').next().unwrap_or_default())
                .collect();
            // Only compound states: in a parallel one nothing but all of it makes sense.
            let is_in_parallel = kinds.iter().any(|(it, kind)| *it == parent && *kind == Kind::Parallel);
            if !is_in_parallel && self.chance.percent(50) {
                state["target"] = (*self.chance.pick(&siblings)).into();
            }
            return;
        }
        state["entry"] = self.marked(&format!("enter:{own}"));
        state["exit"] = self.marked(&format!("exit:{own}"));
        if kind == Kind::Final {
            state["output"] = json!({ "r": "${{ context.a }}" });
            return;
        }
        self.fill_transitions(state, path, kinds, kind);
        let keys: Vec<String> =
            state["states"].as_object().map(|map| map.keys().cloned().collect()).unwrap_or_default();
        for key in keys {
            let mut path = path.to_vec();
            path.push(key.clone());
            self.fill(&mut state["states"][key], &path, kinds);
        }
    }

    fn fill_transitions(&mut self, state: &mut Value, path: &[String], kinds: &[(String, Kind)], kind: Kind) {
        let mut on = Map::new();
        for name in EVENTS.iter().chain(RAISED) {
            let is_raised = RAISED.contains(name);
            if self.chance.percent(if path.is_empty() || is_raised { 15 } else { 40 }) {
                // What was raised raises nothing again, or hardly any machine would come to rest.
                let reads = if is_raised { Reads::Nothing } else { Reads::Event };
                on.insert((*name).into(), self.transitions(path, kinds, reads, false));
            }
        }
        state["on"] = Value::Object(on);
        if self.chance.percent(12) {
            state["always"] = self.transitions(path, kinds, Reads::Nothing, true);
            // Most machines come to rest, because each time counts and the count has an end.
            if self.chance.percent(90) {
                for one in state["always"].as_array_mut().into_iter().flatten() {
                    let other = one["guard"].as_str().map_or("true", |text| &text[3..text.len() - 2]);
                    one["guard"] =
                        format!("${{{{ context.a < {} and ({other}) }}}}", 3 + self.chance.below(4)).into();
                    one["actions"] =
                        json!([{ "assign": { "a": "${{ context.a + 1 }}" } }, self.label("always")]);
                }
            }
        }
        if path.is_empty() {
            return;
        }
        if matches!(kind, Kind::Compound | Kind::Parallel) && self.chance.percent(70) {
            let reads = if kind == Kind::Compound { Reads::Output } else { Reads::Nothing };
            state["on_done"] = self.transitions(path, kinds, reads, false);
        }
        for _ in 0..2 {
            if self.delays < DELAYS_S.len() && self.chance.percent(20) {
                let delay = format!("{}s", DELAYS_S[self.delays]);
                self.delays += 1;
                if state.get("after").is_none() {
                    state["after"] = json!({});
                }
                state["after"][delay] = self.transitions(path, kinds, Reads::Nothing, false);
            }
        }
        if self.chance.percent(12) {
            self.labels += 1;
            let caught = self.transitions(path, kinds, Reads::Nothing, true);
            let mut on_error: Vec<Value> = caught.as_array().cloned().unwrap_or_default();
            for one in &mut on_error {
                one["match"] = json!([*self.chance.pick(ERRORS)]);
            }
            on_error.push(json!({ "actions": [self.label("caught")] }));
            let on_done = self.transitions(path, kinds, Reads::Output, false);
            let id = format!("i{}", self.labels);
            state["invoke"] = json!({ "type": "noop", "id": id, "on_done": on_done, "on_error": on_error });
        }
    }

    fn transitions(
        &mut self,
        path: &[String],
        kinds: &[(String, Kind)],
        reads: Reads,
        is_guarded: bool,
    ) -> Value {
        let count = 1 + usize::from(self.chance.percent(30));
        let list = (0..count).map(|at| {
            let mut transition = Map::new();
            if self.chance.percent(80) {
                transition.insert("target".into(), self.target(path, kinds).into());
                transition.insert("reenter".into(), self.chance.percent(25).into());
            }
            // Only the last one may do without.
            let guarded_percent = if is_guarded { 98 } else { 30 };
            if at + 1 < count || self.chance.percent(guarded_percent) {
                transition.insert("guard".into(), self.guard(reads).into());
            }
            transition.insert("actions".into(), self.actions(reads));
            Value::Object(transition)
        });
        Value::Array(list.collect())
    }

    /// Any state, said in one of the ways in which it can be said from here. But no history of what the
    /// source itself lies in: see the decision record about where XState is not followed.
    fn target(&mut self, path: &[String], kinds: &[(String, Kind)]) -> String {
        let own = path.join(".");
        loop {
            let (target, kind) = self.chance.pick(kinds).clone();
            let (above, key) = target.rsplit_once('.').unwrap_or(("", &target));
            let is_around = above.is_empty() || own == above || own.starts_with(&format!("{above}."));
            if kind == Kind::History && is_around {
                continue;
            }
            let beside = if path.is_empty() { String::new() } else { path[..path.len() - 1].join(".") };
            return match self.chance.below(2) {
                0 if above == own && !path.is_empty() => format!(".{key}"),
                0 if above == beside => key.to_owned(),
                _ => format!("#{target}"),
            };
        }
    }

    fn guard(&mut self, reads: Reads) -> String {
        let mut atoms = vec![
            format!("context.a > {}", self.chance.below(5)),
            format!("context.b == {}", self.chance.below(4)),
            format!("context.c != {}", self.chance.below(3)),
            "(context.a + context.b) % 3 == 1".to_owned(),
            "context.a <= context.c".to_owned(),
        ];
        match reads {
            Reads::Nothing => {}
            Reads::Event => atoms.push(format!("event.n >= {}", self.chance.below(4))),
            Reads::Output => atoms.push(format!("output.r <= {}", self.chance.below(4))),
        }
        let one = self.chance.pick(&atoms).clone();
        let other = self.chance.pick(&atoms).clone();
        let text = match self.chance.below(6) {
            0 => format!("{one} and {other}"),
            1 => format!("{one} or {other}"),
            2 => format!("not ({one})"),
            _ => one,
        };
        format!("${{{{ {text} }}}}")
    }

    fn actions(&mut self, reads: Reads) -> Value {
        let mut list = vec![self.label("take")];
        if self.chance.percent(45) {
            let mut values = vec![
                "${{ (context.a + 1) % 7 }}",
                "${{ context.b }}",
                "${{ (context.b + context.c) % 5 }}",
                "${{ 0 }}",
            ];
            match reads {
                Reads::Nothing => {}
                Reads::Event => values.push("${{ event.n }}"),
                Reads::Output => values.push("${{ output.r }}"),
            }
            let key = *self.chance.pick(&["a", "a", "b", "c"]);
            let mut assigned = Map::new();
            assigned.insert(key.into(), (*self.chance.pick(&values)).into());
            if self.chance.percent(30) {
                // Sees the context as it was before the other one.
                assigned.insert("c".into(), "${{ context.a }}".into());
            }
            list.insert(self.chance.below(2), json!({ "assign": assigned }));
        }
        if reads == Reads::Event && self.chance.percent(10) {
            let name = *self.chance.pick(RAISED);
            list.push(json!({ "raise": { "type": name, "data": { "n": "${{ context.a }}" } } }));
        }
        Value::Array(list)
    }

    fn label(&mut self, what: &str) -> Value {
        self.labels += 1;
        let data = json!({ "a": "${{ context.a }}", "b": "${{ context.b }}", "c": "${{ context.c }}" });
        json!({ "emit": { "type": format!("{what}:{}", self.labels), "data": data } })
    }

    fn marked(&mut self, name: &str) -> Value {
        let mut list = vec![json!({ "emit": { "type": name, "data": { "a": "${{ context.a }}" } } })];
        if self.chance.percent(15) {
            list.push(json!({ "assign": { "b": "${{ (context.b + 1) % 4 }}" } }));
        }
        if self.chance.percent(2) {
            let name = *self.chance.pick(RAISED);
            list.push(json!({ "raise": { "type": name, "data": { "n": "${{ context.b }}" } } }));
        }
        Value::Array(list)
    }
}

/// Every state below the machine with its kind, in document order.
fn kinds(root: &Value) -> Vec<(String, Kind)> {
    fn walk(state: &Value, path: &str, found: &mut Vec<(String, Kind)>) {
        for (key, inner) in state["states"].as_object().into_iter().flatten() {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            found.push((path.clone(), kind_of(inner)));
            walk(inner, &path, found);
        }
    }
    let mut found = Vec::new();
    walk(root, "", &mut found);
    found
}

fn kind_of(state: &Value) -> Kind {
    match state["type"].as_str() {
        Some("parallel") => Kind::Parallel,
        Some("final") => Kind::Final,
        Some("history") => Kind::History,
        _ if state.get("states").is_some() => Kind::Compound,
        _ => Kind::Atomic,
    }
}
