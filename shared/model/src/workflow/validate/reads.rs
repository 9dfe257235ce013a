//! Checks what expressions read: it must exist, and it must have been decided before.

use std::collections::BTreeMap;

use super::Checker;
use super::fan::REDUCED_FIELDS;
use super::fields::Scope;
use super::node::Draft;
use crate::workflow::expression::{EventPart, Reference, Source};
use crate::workflow::schema::Schema;
use crate::workflow::{closest, list_of};

/// One reference of one expression.
pub(super) struct Read {
    pointer: String,
    scope: Scope,
    reference: Reference,
    /// The node that it reads, once it is known to exist.
    target: Option<usize>,
}

impl Read {
    pub(super) fn new(pointer: String, scope: Scope, reference: Reference) -> Self {
        Self { pointer, scope, reference, target: None }
    }

    pub(super) fn is_outside(&self) -> bool {
        self.reference.source == Source::Outside
    }

    pub(super) fn pointer(&self) -> &str {
        &self.pointer
    }

    pub(super) fn reference(&self) -> &Reference {
        &self.reference
    }

    /// The node whose output is read.
    pub(super) fn output(&self) -> Option<usize> {
        self.target.filter(|_| matches!(self.reference.source, Source::Output { .. }))
    }
}

impl Checker<'_> {
    /// Without an `order`, who comes before whom is not checked.
    pub(super) fn check_reads(&mut self, drafts: &[Draft], order: Option<&[usize]>, inputs: Option<&Schema>) {
        let ids: BTreeMap<String, usize> =
            drafts.iter().enumerate().rev().map(|(at, draft)| (draft.node.id.clone(), at)).collect();
        let upstream = order.map(|order| Upstream::of(drafts, order));
        let mut reads = std::mem::take(&mut self.reads);
        for read in &mut reads {
            match &read.reference.source {
                Source::Parameters | Source::Secrets | Source::Run if read.scope.is_callee => {}
                _ if read.scope.is_callee => {
                    let detail = "tools and agents see their `parameters`, `secrets` and `run`: hand over the rest by `with`";
                    self.problem("bad_expression", &read.pointer, detail);
                }
                Source::Inputs if read.scope.is_group => self.check_input(read, inputs),
                Source::Run if read.scope.is_group => {}
                _ if read.scope.is_group => {
                    let detail =
                        "a group is told before the run begins: from `inputs`, `run` and `run.labels`";
                    self.problem("bad_expression", &read.pointer, detail);
                }
                Source::Run if read.reference.first_key() == Some("labels") => {
                    let detail = "`run.labels` are only there for the `group` of `concurrency`";
                    self.problem("bad_expression", &read.pointer, detail);
                }
                Source::Parameters => {
                    let detail = "`parameters` are only there inside a tool or an agent";
                    self.problem("bad_expression", &read.pointer, detail);
                }
                Source::Inputs => self.check_input(read, inputs),
                Source::Secrets if !read.scope.has_secrets => {
                    let detail = "secrets are only there for what a runner receives: this value is stored";
                    self.problem("secret_not_allowed", &read.pointer, detail);
                }
                Source::Node if read.scope.node.is_none() => {
                    let detail = "`node` is only there inside a node";
                    self.problem("bad_expression", &read.pointer, detail);
                }
                // Where the body stands, it is checked.
                Source::Run | Source::Node | Source::Secrets | Source::Outside => {}
                Source::Item => self.check_item(read, "item"),
                Source::Loop => self.check_item(read, "loop"),
                Source::Accumulator => {
                    if read.scope.fan.is_none_or(|(_, fields)| fields != REDUCED_FIELDS) {
                        let detail = "`acc` is only there in the `reduce` of a join";
                        self.problem("bad_expression", &read.pointer, detail);
                    }
                }
                Source::Context => self.check_machine_name(read, "context"),
                Source::Event { part } => {
                    self.check_machine_name(read, part.map_or("event", EventPart::name));
                }
                Source::Output { .. } | Source::Status { .. } | Source::Error { .. }
                    if read.scope.machine.is_some() =>
                {
                    let detail = "a machine has no `nodes`: what it needs later it keeps by `assign`";
                    self.problem("bad_expression", &read.pointer, detail);
                }
                Source::Output { node } | Source::Status { node } | Source::Error { node } => {
                    match ids.get(node.as_str()).copied() {
                        None => self.unknown_node(node, &read.pointer, &ids),
                        Some(target) => {
                            self.check_order(read, target, drafts, upstream.as_ref());
                            read.target = Some(target);
                        }
                    }
                }
            }
        }
        self.reads = reads;
    }

    fn check_machine_name(&mut self, read: &Read, name: &str) {
        let detail = match read.scope.machine {
            Some(names) if names.contains(&name) => return,
            None => format!("`{name}` is only there in a machine"),
            Some([]) => format!("`{name}` is not there yet when a machine starts"),
            Some(names) => format!("`{name}` is not there here, only {}", list_of(names, "and")),
        };
        self.problem("bad_expression", &read.pointer, detail);
    }

    fn check_item(&mut self, read: &Read, root: &str) {
        let Some((_, fields)) = read.scope.fan.filter(|(name, _)| *name == root) else {
            let owner = if root == "loop" { "loop" } else { "map, or in the `reduce` of a join" };
            let detail = format!("`{root}` is only there inside a {owner}");
            return self.problem("bad_expression", &read.pointer, detail);
        };
        let mut fields = fields.to_vec();
        fields.extend(read.scope.has_own_result.then_some("output"));
        fields.extend(read.scope.has_own_error.then_some("error"));
        if !read.reference.first_key().is_some_and(|key| fields.contains(&key)) {
            let detail = format!("of `{root}` one reads {} here", list_of(&fields, "or"));
            self.problem("bad_expression", &read.pointer, detail);
        }
    }

    /// Every name that a machine's expressions read of its context, and where.
    pub(super) fn context_reads(&self) -> Vec<(String, String)> {
        let of_context = self.reads.iter().filter(|read| read.reference.source == Source::Context);
        of_context
            .filter_map(|read| Some((read.reference.first_key()?.to_owned(), read.pointer.clone())))
            .collect()
    }

    fn check_input(&mut self, read: &Read, inputs: Option<&Schema>) {
        let (Some(schema), Some(name)) = (inputs, read.reference.first_key()) else { return };
        let Some(properties) = schema.properties().filter(|_| schema.is_closed()) else { return };
        if properties.contains_key(name) {
            return;
        }
        let name = crate::workflow::excerpt(name);
        let detail = match closest(&name, properties.keys().map(String::as_str)) {
            Some(near) => format!("there is no input `{name}`; did you mean `{near}`?"),
            None => format!("there is no input `{name}`"),
        };
        self.problem("unknown_input", &read.pointer, detail);
    }

    fn check_order(&mut self, read: &Read, target: usize, drafts: &[Draft], upstream: Option<&Upstream>) {
        let Some(reader) = read.scope.node else { return };
        let (reader_id, target_id) = (&drafts[reader].node.id, &drafts[target].node.id);
        if reader == target {
            let is_own_error = matches!(read.reference.source, Source::Error { .. });
            let may_read = is_own_error && read.scope.has_own_error || read.scope.has_own_result;
            // There are many of it where items are: each reads its own at another root.
            if !may_read || read.scope.fan.is_some() {
                let detail = format!("`{reader_id}` cannot read itself here");
                self.problem("not_upstream", &read.pointer, detail);
            }
        } else if upstream.is_some_and(|upstream| !upstream.contains(reader, target)) {
            let detail = format!(
                "`{target_id}` does not come before `{reader_id}`, so it may have no result yet: \
                 `{reader_id}` must need it"
            );
            self.problem("not_upstream", &read.pointer, detail);
        }
    }
}

/// For each node, the nodes that it needs, directly or not: one bit each.
struct Upstream {
    words: usize,
    bits: Vec<u64>,
}

impl Upstream {
    fn of(drafts: &[Draft], order: &[usize]) -> Self {
        let words = drafts.len().div_ceil(64);
        let mut bits = vec![0u64; words * drafts.len()];
        for at in order {
            for need in &drafts[*at].node.needs {
                let needed = need.node.at();
                for word in 0..words {
                    bits[at * words + word] |= bits[needed * words + word];
                }
                bits[at * words + needed / 64] |= 1 << (needed % 64);
            }
        }
        Self { words, bits }
    }

    fn contains(&self, node: usize, upstream: usize) -> bool {
        self.bits[node * self.words + upstream / 64] & (1 << (upstream % 64)) != 0
    }
}
