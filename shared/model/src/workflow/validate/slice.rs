//! Makes the run that takes some of a map's items: the map once more, as a definition of its own.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::Checker;
use super::body::BodyKind;
use super::node::Draft;
use crate::body::{Body, Called};
use crate::decide::{ITEMS_INLINE_MAX, ITEMS_MAX, SLICE_ITEMS, SLICES_PARALLEL_MAX};
use crate::plan::{ErrorAction, Node, Part, Role, SliceSpec};
use crate::workflow::Document;
use crate::workflow::expression::Source;
use crate::workflow::schema::member;

impl Checker<'_> {
    /// `slice: 100`, or what holds without it. `first_inside` is the first node that stands in the map.
    pub(super) fn slices(
        &mut self,
        params: &Value,
        draft: &Draft,
        parallel_max: u32,
        first_inside: usize,
    ) -> Option<SliceSpec> {
        if self.is_slice {
            return None;
        }
        let pointer = member(&draft.pointer, "slice");
        let asked = params.get("slice");
        let size = asked.and_then(|size| self.number(size, &pointer, 1, ITEMS_MAX as u64));
        let is_understood = self.inside[first_inside..].iter().all(Option::is_some);
        let why_not = stays(&self.inside[first_inside..]);
        let body = match why_not {
            None if is_understood && !draft.is_partial => self.slice_body(params, draft, parallel_max),
            _ => None,
        };
        let reads_run = "whose `do`, or what that calls, reads `run`: it would not be the same there";
        if let (Some(_), Some(detail)) = (asked, why_not.or(body.is_none().then_some(reads_run))) {
            let detail = format!("no runs of their own take the items of a map {detail}");
            self.key_problem("invalid_field", &pointer, detail);
        }
        let size = size.and_then(|size| u32::try_from(size).ok());
        body.map(|body| SliceSpec {
            node: self.slice_node(draft, body),
            above: size.unwrap_or(ITEMS_INLINE_MAX),
            size: size.unwrap_or(SLICE_ITEMS),
            parallel_max: side_by_side(parallel_max),
        })
    }

    /// The definition of a slice. None for one that would not mean the same.
    fn slice_body(&mut self, params: &Value, draft: &Draft, parallel_max: u32) -> Option<Arc<Body>> {
        let mut map = Map::from_iter([
            ("type".to_owned(), json!("map")),
            // Which items, its inputs say.
            ("each".to_owned(), json!([])),
            ("max_parallel".to_owned(), json!(parallel_max / side_by_side(parallel_max))),
        ]);
        for key in ["as", "tolerate", "do"] {
            map.extend(params.get(key).map(|value| (key.to_owned(), value.clone())));
        }
        let id = &draft.node.id;
        let value = json!({ "nodes": { id: map }, "outputs": format!("${{{{ nodes['{id}'].output }}}}") });
        let name = self.body_name(draft, None);
        let document =
            Document::from_value(self.body_document(&value, &draft.pointer, name, BodyKind::Slice)?);
        let mut inner = Checker::new(self.catalog);
        inner.may_be_body = true;
        let plan = inner.document(&document.spec)?;
        let reads_run = inner.reads.iter().any(|read| read.reference().source == Source::Run);
        if reads_run || !inner.problems.is_empty() {
            // The definition itself has the same problems, and tells them.
            return None;
        }
        // What is read there is noted where it stands.
        let noted = self.reads.len();
        let captures = self.captures(&inner.reads, &draft.pointer, false, draft.scope, &BTreeSet::new());
        self.reads.truncate(noted);
        Some(Arc::new(Body { plan: Arc::new(plan), spec: document.spec.to_string(), captures }))
    }

    /// The node that starts slices.
    fn slice_node(&mut self, owner: &Draft, body: Arc<Body>) -> crate::NodeIndex {
        let (place, index) = self.place_inside();
        let mut draft = Draft::new(index, format!("{}.slice", owner.node.id), owner.pointer.clone());
        draft.node.kind = "slice".into();
        draft.node.retry_safe = true;
        draft.node.part = Part::Item { of: owner.node.index };
        draft.node.output_is_read = true;
        draft.node.role = Role::Workflow(Called::Slice(body));
        self.inside[place] = Some(draft.node);
        index
    }

    /// The map of a slice: what was said about errors of it, the map that it is a part of obeys.
    pub(super) fn is_slice_itself(&self, draft: &Draft) -> bool {
        self.is_slice && draft.node.part == Part::Main
    }
}

/// How many slices share what a map may do side by side, so that as little as possible of that is left over.
fn side_by_side(parallel_max: u32) -> u32 {
    let most = SLICES_PARALLEL_MAX.min(parallel_max).max(1);
    let least = (SLICES_PARALLEL_MAX / 2).min(most);
    (least..=most).max_by_key(|slices| slices * (parallel_max / slices)).unwrap_or(most)
}

/// Why items stay in the run of their map, however many there are; none when they need not.
fn stays(inside: &[Option<Node>]) -> Option<&'static str> {
    let ends_run = |node: &Node| {
        let mut actions = node.on_error.iter().map(|rule| &rule.action);
        actions.any(|action| matches!(action, ErrorAction::Fail | ErrorAction::Compensate))
    };
    inside.iter().flatten().find_map(|node| match &node.role {
        _ if node.compensation.is_some() => Some("that are undone: a run that has ended stays as it is"),
        _ if ends_run(node) => Some("whose failure ends the whole run"),
        Role::Workflow(_) => Some("that are runs of their own already"),
        _ => None,
    })
}
