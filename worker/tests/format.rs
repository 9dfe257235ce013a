//! The format as people use it: with the kinds that this worker can do.

use std::path::{Path, PathBuf};

use windlass_model::workflow::{Catalog, Document, Format, compile, format_schema};
use windlass_worker::nodes::{self, NodeOptions};

fn catalog() -> Catalog {
    nodes::all(&NodeOptions::default()).catalog()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package lies inside the workspace")
}

/// `docs/workflow.schema.json` is what this test prints with `UPDATE_DOCS=1 cargo test -p windlass-worker`.
#[test]
fn the_committed_schema_of_the_format_is_the_one_of_these_kinds() {
    let path = root().join("docs/workflow.schema.json");
    let text = format!("{}\n", serde_json::to_string_pretty(&format_schema(&catalog())).unwrap());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == text, "docs/workflow.schema.json is out of date: run this test with UPDATE_DOCS=1");
}

#[test]
fn every_example_is_valid_and_editors_say_so_too() {
    let schema = jsonschema::validator_for(&format_schema(&catalog())).unwrap();
    let mut examples = Vec::new();
    gather(&root().join("examples"), &mut examples);
    assert!(examples.len() >= 8, "{examples:?}");
    for path in examples {
        // The command line puts names in the place of files.
        let text =
            std::fs::read_to_string(&path).unwrap().replace("workflow: ./parcel.yaml", "workflow: parcel");
        let document = Document::parse(&text, Format::Yaml).unwrap();
        let problems = compile(&document, &catalog()).err();
        assert_eq!(problems, None, "{}", path.display());
        assert!(schema.is_valid(&document.spec), "{}", path.display());
    }
}

fn gather(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            gather(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            found.push(path);
        }
    }
}
