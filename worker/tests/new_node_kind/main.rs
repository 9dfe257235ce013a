//! The documents about node kinds and definitions, held to what they say.

mod await_file;

use std::sync::Arc;

use await_file::AwaitFile;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use windlass_bus::InProcessBus;
use windlass_engine::{Progress, Runner, Runners, StepContext};
use windlass_model::RunId;
use windlass_model::workflow::{self, Document, Format};
// `await_file.rs` finds it where it would find it beside the other kinds.
use windlass_worker::nodes::params;
use windlass_worker::nodes::{self, NodeOptions};

const RECIPE: &str = include_str!("../../../docs/new-node-kind.md");
const REFERENCE: &str = include_str!("../../../docs/node-kinds.md");
const EXAMPLE: &str = include_str!("await_file.rs");

/// What the issue that asked for it allows.
const EXAMPLE_LINES_MAX: usize = 100;

fn step(params: Value) -> StepContext {
    let run_id = RunId(uuid::Uuid::from_u128(1));
    StepContext {
        run_id,
        node: "it".into(),
        attempt: 1,
        key_attempt: 1,
        idempotency_key: "key".into(),
        timeout: None,
        params,
        cancel: CancellationToken::new(),
        progress: Progress::new(InProcessBus::new(), run_id, "it".into()),
    }
}

/// Fenced blocks of one language.
fn blocks<'t>(text: &'t str, language: &str) -> Vec<&'t str> {
    let fence = format!("```{language}\n");
    text.split(fence.as_str())
        .skip(1)
        .filter_map(|rest| rest.split_once("\n```"))
        .map(|(code, _)| code)
        .collect()
}

#[test]
fn the_recipe_shows_the_file_that_is_compiled_here() {
    assert!(
        blocks(RECIPE, "rust").contains(&EXAMPLE.trim_end()),
        "docs/new-node-kind.md shows another await_file.rs"
    );
    assert!(EXAMPLE.lines().count() < EXAMPLE_LINES_MAX);
}

#[tokio::test]
async fn the_example_waits_for_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report");
    let waiting = tokio::spawn(AwaitFile.run(step(json!({ "path": path, "bytes_min": 5 }))));
    std::fs::write(&path, "long enough").unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().output, json!({ "bytes": 11 }));

    let error = AwaitFile.run(step(json!({ "path": folder.path() }))).await.unwrap_err().error;
    assert_eq!(error.kind, "await_file.folder");

    let canceled = step(json!({ "path": "/nowhere/at/all" }));
    canceled.cancel.cancel();
    assert_eq!(AwaitFile.run(canceled).await.unwrap_err().error.kind, "canceled");
}

#[test]
fn every_kind_is_described_and_every_described_example_is_a_definition() {
    let catalog = nodes::all(&NodeOptions::default()).catalog().trusting_callees();
    for kind in catalog.iter() {
        assert!(
            REFERENCE.contains(&format!("\n## {}\n", kind.name)),
            "docs/node-kinds.md has no `{}`",
            kind.name
        );
        let schema = (kind.params)();
        assert_eq!(schema["additionalProperties"], false, "`{}` takes unknown keys", kind.name);
        workflow::schema::Schema::compile(schema).unwrap_or_else(|error| panic!("{}: {error}", kind.name));
    }
    let examples = blocks(REFERENCE, "yaml");
    assert!(examples.len() >= catalog.iter().count());
    for example in examples {
        let definition = format!("version: 1\nname: example\ntype: dag\nnodes:\n{}", indented(example));
        let document =
            Document::parse(&definition, Format::Yaml).unwrap_or_else(|error| panic!("{example}: {error:?}"));
        let problems = workflow::compile(&document, &catalog).err().unwrap_or_default();
        assert!(problems.is_empty(), "{example}\n{problems:#?}");
    }
}

#[test]
fn every_definition_on_a_page_is_one() {
    let catalog = nodes::all(&NodeOptions::default()).catalog().trusting_callees();
    let pages = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");
    let mut found = 0;
    for page in std::fs::read_dir(pages).unwrap().map(|entry| entry.unwrap().path()) {
        if page.extension().is_none_or(|it| it != "md") {
            continue;
        }
        let text = std::fs::read_to_string(&page).unwrap();
        for definition in blocks(&text, "yaml").into_iter().filter(|it| it.starts_with("version: ")) {
            let place = page.display();
            let document = Document::parse(definition, Format::Yaml)
                .unwrap_or_else(|error| panic!("{place}: {definition}: {error:?}"));
            let problems = workflow::compile(&document, &catalog).err().unwrap_or_default();
            assert!(problems.is_empty(), "{place}: {definition}\n{problems:#?}");
            found += 1;
        }
    }
    assert!(found >= 11, "only {found} were found");
}

#[test]
fn a_kind_of_ones_own_is_part_of_the_catalog() {
    let catalog = Runners::new([Arc::new(AwaitFile) as Arc<dyn Runner>]).catalog();
    assert!(catalog.get("await_file").is_some());
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}
