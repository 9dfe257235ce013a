//! Brings along what a definition calls by name: from then on it means the same thing everywhere, for good.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::Document;
use crate::callee::CalleeKind;

impl Document {
    /// Tools and agents that nodes call and that the definition does not hold itself.
    ///
    /// Nodes are found wherever they stand, so data that looks like one counts as well: what it names is brought along
    /// and does no harm.
    pub fn missing_callees(&self) -> BTreeSet<(CalleeKind, String)> {
        let mut missing = BTreeSet::new();
        let mut open = vec![&self.spec];
        while let Some(value) = open.pop() {
            match value {
                Value::Array(list) => open.extend(list),
                Value::Object(map) => {
                    open.extend(map.values());
                    missing.extend(called_by(map).filter(|(kind, name)| !self.brings(*kind, name)));
                }
                _ => {}
            }
        }
        missing
    }

    fn brings(&self, kind: CalleeKind, name: &str) -> bool {
        self.spec.get(kind.plural()).is_some_and(|callees| callees.get(name).is_some())
    }

    /// Adds a tool or an agent, behind those that are there. One that was registered has its name inside.
    pub fn bring(&mut self, kind: CalleeKind, name: &str, mut callee: Value) {
        if let Some(callee) = callee.as_object_mut() {
            callee.shift_remove("name");
        }
        let Some(top) = self.spec.as_object_mut() else { return };
        let callees = top.entry(kind.plural()).or_insert_with(|| Value::Object(Map::new()));
        if let Some(callees) = callees.as_object_mut() {
            callees.insert(name.to_owned(), callee);
        }
    }
}

fn called_by(node: &Map<String, Value>) -> impl Iterator<Item = (CalleeKind, String)> {
    let kind = node.get("type").and_then(Value::as_str).and_then(CalleeKind::of_node);
    kind.into_iter().filter_map(|kind| Some((kind, node.get(kind.as_str())?.as_str()?.to_owned())))
}
