//! Definitions and expressions that went a little wrong.

use std::path::Path;

use serde_json::json;
use windlass_model::workflow::{Document, Format, compile};

use crate::fuzz::Fuzz;
use crate::support::catalog;
use crate::world::World;

const WORDS: &[&str] = &[
    "${{ ",
    " }}",
    "inputs.a",
    "nodes.a.output",
    "item.value",
    "loop.index",
    "|",
    "type: map",
    "type: machine",
    "do:",
    "needs: [a]",
    "{",
    "}",
    "[",
    "]",
    ": ",
    "- ",
    "\n  ",
    "null",
    "true",
    "'",
    "\"",
    "#",
    "&a",
    "*a",
    "<<: ",
    "!!int ",
    "---",
    "9223372036854775808",
    "on_error: fail",
    "on:",
    "states:",
    "target: a",
    "compensate: {}",
    "retry: {}",
    "\u{0}",
    "\u{202e}",
    "🙂",
    "9999d",
    "PT1S",
];

/// The examples that people read, whatever comes to be there.
fn examples(folder: &Path, found: &mut Vec<Vec<u8>>) {
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).expect("examples").flatten().map(|it| it.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            examples(&path, found);
        } else if path.extension().is_some_and(|it| it == "yaml") {
            found.push(std::fs::read(path).expect("an example"));
        }
    }
}

#[test]
fn a_definition_that_went_wrong_is_refused_or_means_the_same_when_it_is_printed() {
    let mut seeds = Vec::new();
    examples(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples"), &mut seeds);
    let catalog = catalog();
    Fuzz::new("definitions", seeds, WORDS).play(|input| {
        let text = String::from_utf8_lossy(input);
        for format in [Format::Yaml, Format::Json] {
            let Ok(document) = Document::parse(&text, format) else { continue };
            let Ok(plan) = compile(&document, &catalog) else { continue };
            let printed =
                Document::parse(&document.spec.to_string(), Format::Json).expect("what was printed is read");
            assert_eq!(compile(&printed, &catalog).expect("and valid").hash, plan.hash);
        }
    });
}

#[test]
fn an_expression_that_went_wrong_has_a_value_or_an_error() {
    let inputs =
        json!({"who": "Ada", "limit": 200, "list": [3, 1, 2], "deep": {"x": [{"y": "z"}]}, "none": null});
    let world = World::new(inputs, json!({"rows": [{"name": "pear", "n": 3}, {"name": "fig", "n": 1.5}]}));
    let seeds = [
        "1 + 2 * 3 - (4 // 5) ** 2 % 7",
        "inputs.list | sort | map('string') | join(', ')",
        "nodes.load.output.rows | selectattr('n', 'gt', 1) | map(attribute='name') | list",
        "inputs.deep.x[0].y if inputs.none is none and not false else 'other' ~ 1",
        "[x * 2 for x in inputs.list] + inputs.list[1:] == [1, 2]",
        "{'a': 1, \"b\": [inputs.who[::-1], 1e3, 0x1f]}.a in [1, 2] or inputs.limit is divisibleby 7",
    ];
    Fuzz::new("expressions", seeds.map(|it| it.as_bytes().to_vec()), WORDS).play(|input| {
        let text = String::from_utf8_lossy(input);
        // Whatever it is, it is said in bounded time and words.
        assert!(world.shown(&text).len() < 10_000_000);
        let _ = world.render(json!({ "a": text, "b": [format!("${{{{ {text} }}}}")] }));
    });
}
