//! Nodes that stand inside others: what undoes a node, what does it in another way, and what it does for each item.

use serde_json::{Map, Value};

use super::Checker;
use super::body::is_body;
use super::fields::Scope;
use super::node::Draft;
use crate::NodeIndex;
use crate::plan::Part;
use crate::workflow::schema::member;

/// What a node inside another is there for.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Inside {
    Compensation,
    Fallback,
    /// Run for each item, which expressions read at this root.
    Item {
        root: &'static str,
        fields: &'static [&'static str],
    },
}

/// What such a node may say, beside the keys of its kind.
const COMPENSATION_KEYS: &[&str] =
    &["type", "name", "description", "timeout", "retry", "approval", "retry_safe"];
const FALLBACK_KEYS: &[&str] = &[
    "type",
    "name",
    "description",
    "timeout",
    "retry",
    "approval",
    "retry_safe",
    "on_error",
    "compensate",
    "output_schema",
];

const ITEM_KEYS: &[&str] = &[
    "type",
    "name",
    "description",
    "if",
    "timeout",
    "retry",
    "retry_safe",
    "on_error",
    "compensate",
    "output_schema",
];

impl Checker<'_> {
    /// Reads a node that stands inside `owner`. It is a node of the plan like any other, behind all of those
    /// that something needs.
    pub(super) fn inside(
        &mut self,
        owner: &Draft,
        value: &Value,
        pointer: String,
        inside: Inside,
    ) -> Option<NodeIndex> {
        let is_body = matches!(inside, Inside::Item { .. }) && is_body(value);
        let nothing = Map::new();
        let map = match value {
            Value::Array(_) if is_body => &nothing,
            value => self.object(value, &pointer, "a node")?,
        };
        let of = owner.node.index;
        let (suffix, keys, part) = match inside {
            Inside::Compensation => ("compensate", COMPENSATION_KEYS, Part::Compensation { of }),
            Inside::Fallback => ("fallback", FALLBACK_KEYS, Part::Fallback { of }),
            Inside::Item { .. } => ("do", ITEM_KEYS, Part::Item { of }),
        };
        let scope = match inside {
            Inside::Compensation => Scope { has_own_result: true, ..owner.scope },
            Inside::Fallback => Scope { has_own_error: true, ..owner.scope },
            Inside::Item { root, fields } => Scope { fan: Some((root, fields)), ..owner.scope },
        };
        for key in map.keys().filter(|key| super::COMMON_KEYS.contains(&key.as_str())) {
            let detail = match key.as_str() {
                "approval" if scope.fan.is_some() => {
                    "people are not asked for each item: put the `approval` before the node that has them"
                        .into()
                }
                key if !keys.contains(&key) => {
                    format!("`{key}` has no place in a node that stands inside another")
                }
                _ => continue,
            };
            self.key_problem("invalid_field", &member(&pointer, key), detail);
        }
        let (place, index) = self.place_inside();
        // No id has a dot: none that somebody wrote can be the same.
        let mut draft = Draft::new(index, format!("{}.{suffix}", owner.node.id), pointer);
        draft.node.part = part;
        draft.scope = scope;
        match is_body {
            true => self.read_body(value, &mut draft, super::COMMON_KEYS),
            false => self.read_node(map, &mut draft, None),
        }
        let kind = draft.node.kind.as_str();
        if !draft.node.role.is_work() || kind == "switch" {
            let detail = match inside {
                Inside::Item { .. } => format!(
                    "a node of `type: {kind}` does not stand here by itself; a body may hold it: `do: {{ steps: [ … ] }}`"
                ),
                _ => format!("a node of `type: {kind}` does nothing that could stand here"),
            };
            self.problem("invalid_field", &member(&draft.pointer, "type"), detail);
        }
        self.inside[place] = Some(draft.node);
        Some(index)
    }

    /// Where a node inside goes. Taken before it is read: it may bring a node of its own.
    pub(super) fn place_inside(&mut self) -> (usize, NodeIndex) {
        let place = self.inside.len();
        self.inside.push(None);
        (place, NodeIndex(u16::try_from(self.main_count + place).unwrap_or(u16::MAX)))
    }

    /// Undoing what nobody can undo would only look like it.
    pub(super) fn check_compensation(&mut self, drafts: &[Draft]) {
        let mut inside = self.inside.iter().flatten();
        // What a body asks for is judged where the whole definition is known.
        if self.own.is_some() {
            return;
        }
        let can = self.bodies_compensate
            || drafts.iter().any(|draft| draft.node.compensation.is_some())
            || inside.any(|node| node.compensation.is_some());
        if !can && self.shared.contains_key("compensation") {
            let detail = "no node of this workflow says how to `compensate` it, so there is nothing to undo";
            self.key_problem("invalid_field", "/compensation", detail);
        }
        if !can && let Some(pointer) = self.asked_to_compensate.take() {
            self.problem("invalid_field", &pointer, "no node of this workflow says how to `compensate` it");
        }
    }

    /// `compensate:` of a node.
    pub(super) fn compensate(&mut self, value: &Value, draft: &Draft) -> Option<NodeIndex> {
        let pointer = member(&draft.pointer, "compensate");
        if !draft.is_partial && (!draft.node.role.is_work() || draft.node.kind == "switch") {
            let detail = match draft.node.body {
                Some(_) if draft.node.kind == "parallel" => {
                    "what branches do is undone by the nodes in them: say it there".into()
                }
                Some(_) => "what is done for each item is undone for each: say it inside `do`".into(),
                None => format!("a node of `type: {}` does nothing that could be undone", draft.node.kind),
            };
            self.key_problem("invalid_field", &pointer, detail);
            return None;
        }
        self.inside(draft, value, pointer, Inside::Compensation)
    }
}
