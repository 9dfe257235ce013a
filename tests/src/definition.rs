//! What a definition promises about order, read from its text by other means than the product's.

use std::collections::BTreeMap;

use serde_json::Value;

/// Which ends of a needed node let its dependent run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    pub node: String,
    /// `succeeded`, `skipped`, `failed`; none means the default of a DAG.
    pub accept: Option<Vec<String>>,
}

/// The needs of every node.
pub type Needs = BTreeMap<String, Vec<Need>>;

/// Reads YAML, or JSON, which is YAML.
///
/// # Panics
/// When it is neither.
pub fn parse(text: &str) -> Value {
    // `n` and `on` are words.
    let options = serde_saphyr::options! { strict_booleans: true };
    serde_saphyr::from_str_with_options(text, options).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Who must have ended before whom.
pub fn needs(spec: &Value) -> Needs {
    if spec["type"] == "steps" { serial_needs(spec) } else { graph_needs(spec) }
}

fn serial_needs(spec: &Value) -> Needs {
    let mut needs = Needs::new();
    let mut previous: Option<String> = None;
    for (id, _) in nodes(&spec["steps"]) {
        let accept = Some(vec!["succeeded".to_owned(), "skipped".to_owned()]);
        needs.insert(id.clone(), previous.map(|node| Need { node, accept }).into_iter().collect());
        previous = Some(id);
    }
    needs
}

fn graph_needs(spec: &Value) -> Needs {
    let mut needs: Needs = nodes(&spec["nodes"])
        .into_iter()
        .map(|(id, node)| {
            let list = node["needs"].as_array().cloned().unwrap_or_default();
            (id, list.iter().map(need).collect())
        })
        .collect();
    for edge in spec["edges"].as_array().into_iter().flatten() {
        if let (Some(from), Some(to)) = (edge["from"].as_str(), edge["to"].as_str()) {
            needs.entry(to.into()).or_default().push(Need { node: from.into(), accept: None });
        }
    }
    needs
}

fn need(value: &Value) -> Need {
    match value.as_str() {
        Some(node) => Need { node: node.to_owned(), accept: None },
        None => Need {
            node: value["node"].as_str().unwrap_or_default().to_owned(),
            accept: value["accept"]
                .as_array()
                .map(|list| list.iter().filter_map(Value::as_str).map(str::to_owned).collect()),
        },
    }
}

/// Nodes as a list of `{id}` or as a map by id.
fn nodes(value: &Value) -> Vec<(String, Value)> {
    match value {
        Value::Array(list) => list
            .iter()
            .map(|node| (node["id"].as_str().unwrap_or_default().to_owned(), node.clone()))
            .collect(),
        Value::Object(map) => map.iter().map(|(id, node)| (id.clone(), node.clone())).collect(),
        _ => Vec::new(),
    }
}
