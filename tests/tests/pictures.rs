//! The page that shows the graph of each example, and that nothing of the format is without one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use scenarios::definition;
use scenarios::house::program;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package lies inside the workspace").to_owned()
}

/// All examples by their path, in the order of their names.
fn examples() -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root().join("examples")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder can be read") {
            let path = entry.expect("an entry can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "yaml") {
                let name = path.strip_prefix(root().join("examples")).expect("it lies there");
                found.insert(name.to_string_lossy().into_owned(), path);
            }
        }
    }
    assert!(found.len() > 10, "the folder was found");
    found
}

#[test]
fn the_page_of_examples_shows_the_graph_of_each() {
    let mut page = String::from(
        "# The examples as graphs\n\nAs `windlass graph FILE` draws them. What they do and show stands in \
         [examples](../examples/README.md).\nThis page is printed by a test.\n",
    );
    for (name, path) in examples() {
        let drawn = program().arg("graph").arg(&path).output().expect("the program can be started");
        let picture = String::from_utf8(drawn.stdout).expect("a picture is text");
        assert!(drawn.status.success() && !picture.is_empty(), "{name}");
        let title = name.trim_end_matches(".yaml");
        page += &format!("\n## [{title}](../examples/{name})\n\n```mermaid\n{}\n```\n", picture.trim_end());
    }
    let place = root().join("docs/examples.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&place, &page).expect("the page can be written");
    }
    let committed = std::fs::read_to_string(&place).unwrap_or_default();
    assert!(committed == page, "docs/examples.md is out of date: run this test with UPDATE_DOCS=1");
}

/// Keys of all mappings, and those of each `type`.
#[derive(Default)]
struct Used {
    keys: BTreeSet<String>,
    by_type: BTreeMap<String, BTreeSet<String>>,
}

impl Used {
    fn note(&mut self, value: &Value) {
        match value {
            Value::Array(list) => list.iter().for_each(|inner| self.note(inner)),
            Value::Object(map) => {
                self.keys.extend(map.keys().cloned());
                if let Some(kind) = map.get("type").and_then(Value::as_str) {
                    self.by_type.entry(kind.to_owned()).or_default().extend(map.keys().cloned());
                }
                map.values().for_each(|inner| self.note(inner));
            }
            _ => {}
        }
    }
}

fn keys(schema: &Value) -> Vec<&String> {
    schema["properties"].as_object().map(|keys| keys.keys().collect()).unwrap_or_default()
}

#[test]
fn every_kind_of_node_and_every_keyword_has_an_example() {
    let text =
        std::fs::read_to_string(root().join("docs/workflow.schema.json")).expect("the schema is there");
    let schema: Value = serde_json::from_str(&text).expect("it is JSON");
    let mut used = Used::default();
    for path in examples().values() {
        used.note(&definition::parse(&std::fs::read_to_string(path).expect("an example can be read")));
    }
    let mut missing = Vec::new();
    for kind in schema["$defs"]["kind_keys"]["allOf"].as_array().expect("one for each kind") {
        let name = kind["if"]["properties"]["type"]["const"].as_str().expect("its name");
        let of_kind = used.by_type.get(name);
        missing.extend(of_kind.is_none().then(|| name.to_owned()));
        let has = |key: &str| of_kind.is_some_and(|keys| keys.contains(key));
        missing.extend(
            keys(&kind["then"]).into_iter().filter(|key| !has(key)).map(|key| format!("{name}: {key}")),
        );
    }
    let mut parts = vec![("at the top", &schema)];
    for part in [
        "node",
        "state",
        "retry",
        "backoff",
        "transition",
        "action",
        "gate",
        "body",
        "item_body",
        "tool",
        "agent",
    ] {
        assert!(!keys(&schema["$defs"][part]).is_empty(), "{part}");
        parts.push((part, &schema["$defs"][part]));
    }
    for (part, schema) in parts {
        let unused = keys(schema).into_iter().filter(|key| !used.keys.contains(*key));
        missing.extend(unused.map(|key| format!("{part}: {key}")));
    }
    assert!(missing.is_empty(), "no example in examples/ uses {missing:#?}");
}
