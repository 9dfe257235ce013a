//! Nodes that stand inside others: what undoes a node, what does it in another way, and what it does for each item.

use serde_json::Value;

use super::Checker;
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
        let map = self.object(value, &pointer, "a node")?;
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
        // Taken before it is read: it may bring a node of its own.
        let place = self.inside.len();
        let index = NodeIndex(u16::try_from(self.main_count + place).unwrap_or(u16::MAX));
        // No id has a dot: none that somebody wrote can be the same.
        let mut draft = Draft::new(index, format!("{}.{suffix}", owner.node.id), pointer);
        draft.node.part = part;
        draft.scope = scope;
        self.inside.push(None);
        self.read_node(map, &mut draft, None);
        let kind = draft.node.kind.as_str();
        if !draft.node.role.is_work() || kind == "switch" {
            let detail = format!("a node of `type: {kind}` does nothing that could stand here");
            self.problem("invalid_field", &member(&draft.pointer, "type"), detail);
        }
        self.inside[place] = Some(draft.node);
        Some(index)
    }

    /// Undoing what nobody can undo would only look like it.
    pub(super) fn check_compensation(&mut self, drafts: &[Draft]) {
        let mut inside = self.inside.iter().flatten();
        let can = drafts.iter().any(|draft| draft.node.compensation.is_some())
            || inside.any(|node| node.compensation.is_some());
        if !can && let Some(pointer) = self.asked_to_compensate.take() {
            self.problem("invalid_field", &pointer, "no node of this workflow says how to `compensate` it");
        }
    }

    /// `compensate:` of a node.
    pub(super) fn compensate(&mut self, value: &Value, draft: &Draft) -> Option<NodeIndex> {
        let pointer = member(&draft.pointer, "compensate");
        if !draft.is_partial && (!draft.node.role.is_work() || draft.node.kind == "switch") {
            let detail = match draft.node.body {
                Some(_) => "what is done for each item is undone for each: say it inside `do`".into(),
                None => format!("a node of `type: {}` does nothing that could be undone", draft.node.kind),
            };
            self.key_problem("invalid_field", &pointer, detail);
            return None;
        }
        self.inside(draft, value, pointer, Inside::Compensation)
    }
}
